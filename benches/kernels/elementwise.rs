//! Elementwise operations, sums and permutations, which memory bounds: in a cache, and beyond it.

use maplet::tensor::{Result, Tensor};

use crate::{Bench, random};

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    for (name, len) in [("16k", 1 << 14), ("1m", 1 << 20), ("16m", 1 << 24)] {
        let (x, y) = (random([len]), random([len]));
        bench.moves("add", name, 3 * len, || x.add(&y))?;
        bench.moves("relu", name, 2 * len, || Ok(x.relu()))?;
        bench.moves("relu_grad", name, 3 * len, || x.relu_grad(&y))?;
        bench.moves("sum", name, len, || x.sum(.., false))?;
    }
    let (name, len) = ("1m", 1 << 20);
    let (x, dy) = (random([len]), random([len]));
    type Unary = fn(&Tensor) -> Tensor;
    for (op, kernel) in [
        ("exp", Tensor::exp as Unary),
        ("log", Tensor::log),
        ("tanh", Tensor::tanh),
        ("sigmoid", Tensor::sigmoid),
        ("silu", Tensor::silu),
        ("gelu", Tensor::gelu),
    ] {
        bench.moves(op, name, 2 * len, || Ok(kernel(&x)))?;
    }
    bench.moves("gelu_grad", name, 3 * len, || x.gelu_grad(&dy))?;
    let (rows, bias) = (random([2048, 512]), random([512]));
    bench.moves("add_bias", "2048_512", 2 * rows.len(), || rows.add(&bias))?;
    bench.moves("sum_rows", "2048_512", rows.len(), || rows.sum([0], false))?;
    bench.moves("transpose", "2048_512", 2 * rows.len(), || rows.transpose(0, 1))?;
    let heads = random([16, 128, 4, 32]);
    bench.moves("permute", "16_128_4_32", 2 * heads.len(), || heads.permute(&[0, 2, 1, 3]))
}
