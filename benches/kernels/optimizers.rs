//! One pass of each kind of optimizer over the largest weight of the MNIST network, which memory bounds.

use maplet::tensor::Result;
use maplet::tensor::optim::{AdamRule, LionRule, Now, RmspropRule, SgdRule};

use crate::{Bench, random};

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let (name, shape) = ("692k", [128, 5408]);
    let (mut p, g) = (random(shape), random(shape));
    let (mut m, mut v) = (p.zeros_like(), p.zeros_like());
    let len = p.len();
    let mut now = Now { learning_rate: 1e-3, weight_decay: 0.0, step: 0 };
    let mut next = move || {
        now.step += 1;
        now
    };

    let sgd = SgdRule { momentum: 0.0, dampening: 0.0, nesterov: false };
    bench.moves("sgd", name, 3 * len, || p.update::<0, 2>(&g, [], sgd, next()))?;
    let sgd = SgdRule { momentum: 0.9, ..sgd };
    bench.moves("sgd_momentum", name, 5 * len, || p.update::<1, 4>(&g, [&mut m], sgd, next()))?;
    let adam = AdamRule::<false> { beta1: 0.9, beta2: 0.999, eps: 1e-8, amsgrad: false };
    bench.moves("adam", name, 7 * len, || p.update(&g, [&mut m, &mut v], adam, next()))?;
    let adamw = AdamRule::<true> { beta1: 0.9, beta2: 0.999, eps: 1e-8, amsgrad: false };
    bench.moves("adamw", name, 7 * len, || p.update(&g, [&mut m, &mut v], adamw, next()))?;
    let rmsprop = RmspropRule { alpha: 0.99, eps: 1e-8, momentum: 0.0, centered: false };
    bench.moves("rmsprop", name, 5 * len, || p.update::<1, 6>(&g, [&mut v], rmsprop, next()))?;
    let lion = LionRule { beta1: 0.9, beta2: 0.99 };
    bench.moves("lion", name, 5 * len, || p.update(&g, [&mut m], lion, next()))
}
