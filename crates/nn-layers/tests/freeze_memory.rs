//! A call of a frozen model allocates nothing. Alone in its process: it counts bytes.

use cap::Cap;
use maplet_autograd::Var;
use maplet_nn_layers::{Identity, Module, Parallel, Relu, Residual, Sequential, Session};
use maplet_tensor::{Rng, Tensor, par, set_pool_limit};
use std::alloc::System;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// The bytes taken by 50 calls, given back or not.
fn taken(session: &mut Session, x: &Tensor) -> usize {
    session.run(x).unwrap();
    let before = MEMORY.total_allocated();
    (0..50).for_each(|_| assert_eq!(session.run(x).unwrap().len() % 10, 0));
    MEMORY.total_allocated() - before
}

#[test]
fn calls_take_nothing() {
    // Nothing waits in the pool of tensors, so whatever a tensor takes is taken from the system, and counted.
    set_pool_limit(0);
    let inner = Sequential::input([8, 13, 13]).conv2d(8, 1).batch_norm2d().gelu().build(1).unwrap();
    let model = Sequential::input([1, 28, 28]).conv2d(8, 3).batch_norm2d().relu().max_pool2d(2).dropout(0.5);
    let model = model.add(Residual::new(inner)).add(Parallel::concat(1).branch(Relu).branch(Identity));
    let model = model.avg_pool2d(2).batch_norm2d().tanh().flatten().linear(20).relu().linear(10).build(2).unwrap();
    for batch in [1, 4, 200] {
        let x = Tensor::normal([batch, 1, 28, 28], 0.0f32, 1.0, &mut Rng::new(1));
        let frozen = model.freeze(batch).unwrap();
        assert!(!frozen.steps().iter().any(|step| step.starts_with("layer")), "{frozen:?}");
        assert_eq!(taken(&mut frozen.session_alone(), &x), 0, "alone, batch {batch}");
        assert_eq!(par::enter(|| taken(&mut frozen.session(), &x)), 0, "in the pool, batch {batch}");
        // The counter counts.
        let before = MEMORY.total_allocated();
        model.forward(&Var::from(&x)).unwrap();
        assert!(MEMORY.total_allocated() > before);
    }
}
