//! Pools, which memory bounds: the input is read, the output written.

use maplet::tensor::{Result, Window2d};

use crate::{Bench, random};

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    for (name, shape, pool) in [
        ("mnist_2_b32", [32, 32, 26, 26], Window2d::pool(2)),
        ("alexnet_3_2_b8", [8, 64, 55, 55], Window2d::new(3).stride(2)),
        ("resnet18_3_2_b4", [4, 64, 112, 112], Window2d::new(3).stride(2).padding(1)),
    ] {
        let x = random(shape);
        let (y, places) = x.max_pool(pool)?;
        let (all, out) = (x.len(), y.len());
        bench.moves("max_pool", name, all + 3 * out, || x.max_pool(pool))?; // a place takes as much as two elements
        bench.moves("max_pool_grad", name, all + 3 * out, || y.max_pool_grad(&places, x.shape()))?;
        bench.moves("avg_pool", name, all + out, || x.avg_pool(pool))?;
        bench.moves("avg_pool_grad", name, all + out, || y.avg_pool_grad(x.shape(), pool))?;
    }
    let x = random([32, 64, 8, 8]);
    bench.moves("mean", "resnet20_b32", x.len(), || x.mean([2, 3], false))
}
