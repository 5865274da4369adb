//! Gradients: from y = x² to a fitted line.
//!
//! Shows a first and a second derivative, a check against finite differences, and gradient descent by hand.
//! Expect: dy/dx = 6 and d²y/dx² = 2 at x = 3, then a line near y = 2x + 1. It takes no time.
//!
//! `cargo run --example 02_gradient`

use maplet::prelude::*;
use maplet_examples::Result;

fn main() -> Result<()> {
    // A pass records what happens to its values. Backward walks the record and returns the gradients as a value.
    let x = Pass::record().leaf(Tensor::scalar(3.0f64));
    let y = x.square();
    let grads = y.backward_with_graph()?; // "with graph": the gradient is recorded too
    let dy = grads.var_of(&x).expect("y depends on x");
    let second = dy.backward()?;
    let ddy = second.of(&x).expect("dy depends on x");
    println!(
        "y = x² at x = 3: y = {}, dy/dx = {}, d²y/dx² = {}",
        y.item::<f64>()?,
        dy.item::<f64>()?,
        ddy.item::<f64>()?
    );
    assert_eq!((dy.item::<f64>()?, ddy.item::<f64>()?), (6.0, 2.0));

    // Is a derivative right? Finite differences tell, for the first and the second order.
    gradcheck(|v| v[0].tanh().mul(&v[1]), &[Tensor::from([0.3f64, -1.2]), Tensor::from([2.0f64, 0.5])])?;

    // Points on the line y = 2x + 1, with some noise.
    let mut rng = Rng::new(42);
    let x = Tensor::uniform([100, 1], -1.0f32, 1.0, &mut rng);
    let noise = Tensor::normal([100, 1], 0.0f32, 0.05, &mut rng);
    let targets = (&x * 2.0).add_scalar(1.0).add(&noise)?;

    // A parameter joins the record of the data that it meets.
    let mut weight = Param::new(Tensor::zeros([1, 1], DType::F32));
    let mut bias = Param::new(Tensor::zeros([1], DType::F32));
    for step in 0..100 {
        let x = Pass::train(step).input(&x);
        let prediction = x.matmul(&weight.on(&x))?.add(&bias.on(&x))?;
        let loss = mse(&prediction, &targets)?;
        let grads = loss.backward()?;
        for param in [&mut weight, &mut bias] {
            let gradient = grads.of(param).expect("the loss depends on both").clone();
            let next = param.value().sub(&(&gradient * 0.3))?;
            param.set_value(next)?;
        }
        if step % 20 == 19 {
            println!("step {:3}: loss {:.5}", step + 1, loss.item::<f32>()?);
        }
    }
    let (slope, start) = (weight.value().item::<f32>()?, bias.value().item::<f32>()?);
    println!("y = {slope:.3} x + {start:.3}");
    assert!((slope - 2.0).abs() < 0.05 && (start - 1.0).abs() < 0.05);
    Ok(())
}
