//! What a graph keeps. Alone in its process: it counts bytes.

use cap::Cap;
use maplet_autograd::{DType, Error, Param, Pass, Tensor, Var, checkpoint};
use maplet_tensor::pool_idle_bytes;
use std::alloc::System;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// The bytes in use: those of tensors that wait to be used again are not.
fn in_use() -> usize {
    MEMORY.allocated() - pool_idle_bytes()
}

const PARTS: usize = 8;
const OPS: usize = 10;
/// The bytes of every value below.
const VALUE: usize = 1 << 16;

/// `OPS` ops, each of which saves its input or its output.
fn part(scale: &Param, x: &Var) -> Result<Var, Error> {
    (0..OPS).try_fold(x.clone(), |y, _| y.sin().mul(&scale.on(x)))
}

/// The bytes that a graph of all parts keeps, and the gradient.
fn kept(run: impl Fn(&Param, &Var) -> Result<Var, Error>) -> (usize, Tensor) {
    let scale = Param::new(Tensor::from([0.9f32]));
    let x = Pass::train(0).leaf(Tensor::ones([VALUE / 4], DType::F32));
    let before = in_use();
    let y = (0..PARTS).try_fold(x.clone(), |y, _| run(&scale, &y)).unwrap();
    let kept = in_use() - before;
    (kept, y.sum(.., false).unwrap().backward().unwrap().of(&scale).unwrap().clone())
}

#[test]
fn a_checkpointed_part_keeps_its_input_alone() {
    let (plain, want) = kept(part);
    let (parted, found) = kept(|scale, x| checkpoint(scale, [x], |scale, [x]| part(scale, &x)));
    assert_eq!(found, want);
    // The sine saves its input, the product its left operand, which is the sine: both in each round.
    assert!(plain >= PARTS * OPS * 2 * VALUE, "{plain} bytes");
    // The output of each part, rounded up to a page, and some nodes.
    assert!(parted <= PARTS * VALUE + PARTS * 4096, "{parted} bytes");
}
