//! An op of your own: its value, its gradient, and the check that both belong together.
//!
//! Shows the same activation three ways: composed of ops, with a rule, and with a hand-written kernel and its twin;
//! then a function that has no derivative, and the gradient that is used in its place.
//! Expect: mish'(0) = 0.6 by all three, and a rounding that learns 3 weights exactly. It takes no time.
//!
//! `cargo run --example 05_custom_op`

use maplet::autograd::{Result, jacobian, record, record_fused};
use maplet::prelude::*;
use maplet_examples::Result as Done;

/// Mish, `x · tanh(log(1 + eˣ))`, as a composition: nothing to derive, and differentiable to any order.
fn composed(x: &Var) -> Result<Var> {
    x.mul(&x.exp().add_scalar(1.0).log().tanh())
}

/// The same with a rule. `dy` is the gradient that arrives; what is returned goes on to `x`. The rule is written in
/// `Var` operations, so that it has a derivative itself.
fn with_rule(x: &Var) -> Result<Var> {
    let y = composed(&Var::from(x.value()))?.into_value();
    let saved = x.clone();
    let slope = |x: &Var| {
        let t = x.exp().add_scalar(1.0).log().tanh();
        let growth = t.square().neg().add_scalar(1.0).mul(&x.sigmoid())?; // of t
        x.mul(&growth)?.add(&t)
    };
    record("mish", y).pull(x, move |dy| dy.mul(&slope(&saved)?)).done()
}

/// The same with a kernel that goes over the elements once. In a walk that is recorded itself, the engine
/// differentiates the twin instead.
fn with_kernel(x: &Var) -> Result<Var> {
    let map = |x: &Tensor, f: &dyn Fn(f64) -> f64| {
        Tensor::from_vec(x.as_slice::<f64>()?.iter().map(|&x| f(x)).collect(), x.shape())
    };
    let squashed = |x: f64| x.exp().ln_1p().tanh();
    let y = map(x.value(), &|x| x * squashed(x))?;
    let saved = x.value().clone();
    let kernel = move |dy: Tensor, _: [bool; 1]| {
        let slope = map(&saved, &|x| {
            let t = squashed(x);
            t + x * (1.0 - t * t) / (1.0 + (-x).exp())
        })?;
        Ok([Some(dy.mul(&slope)?)])
    };
    record_fused("mish", y, [x], kernel, |[x]| composed(&x))
}

/// The nearest whole number. Its derivative is 0 nearly everywhere, so nothing would learn: the gradient goes straight
/// through instead.
fn round(x: &Var) -> Result<Var> {
    let rounded = x.value().as_slice::<f64>()?.iter().map(|x| x.round()).collect();
    record("round", Tensor::from_vec(rounded, x.shape())?).pull(x, Ok).done()
}

fn main() -> Done<()> {
    // Finite differences know the derivatives, of first and second order.
    let points = Tensor::from([-2.0f64, -0.5, 0.0, 1.5]);
    for (name, mish) in
        [("composed", composed as fn(&Var) -> Result<Var>), ("rule", with_rule), ("kernel", with_kernel)]
    {
        gradcheck(|v| mish(&v[0]), std::slice::from_ref(&points))?;
        let slopes = jacobian(mish, &points)?; // a diagonal matrix
        let at_zero = slopes.as_slice::<f64>()?[2 * 4 + 2];
        println!("{name:8}: mish'(0) = {at_zero:.3}");
        assert!((at_zero - 0.6).abs() < 1e-12); // tanh(log 2) = (4 − 1) / (4 + 1)
    }

    // Weights that are rounded in use: the loss sees whole numbers, the gradient reaches the numbers behind them.
    let targets = Tensor::from([3.0f64, -1.0, 2.0]);
    let mut weight = Param::new(targets.zeros_like());
    for step in 0..50 {
        let x = Pass::train(step).input(&targets);
        let loss = round(&weight.on(&x))?.sub(&x)?.square().mean(.., false)?;
        let grads = loss.backward()?;
        let next = weight.value().sub(&(grads.of(&weight).expect("the loss depends on it") * 0.1))?;
        weight.set_value(next)?;
    }
    let learned = round(&Var::from(weight.value()))?.into_value();
    println!("learned: {:?}", learned.to_vec::<f64>()?);
    assert_eq!(learned, targets);
    Ok(())
}
