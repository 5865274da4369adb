//! Tensors: what everything else is made of.
//!
//! Shows how to make tensors, how shapes broadcast, products, reductions, and how errors read.
//! Expect: eight short lines, ending with the error of a misfit. It takes no time.
//!
//! `cargo run --example 01_tensor`

use maplet::prelude::*;
use maplet_examples::Result;

fn main() -> Result<()> {
    // From nested arrays, from a vector, from a seed. A tensor has a shape and an element type, both known at run time.
    let x = Tensor::from([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let counts = Tensor::from_vec(vec![7i64, 8, 9], [3])?;
    let noise = Tensor::normal([2, 3], 0.0f32, 0.1, &mut Rng::new(42));
    println!("x is {} {}, counts {} {}", x.dtype(), x.shape(), counts.dtype(), counts.shape());
    println!("{x}");

    // Arithmetic works element by element; sizes of 1 (and missing axes) stretch to fit: this is broadcasting.
    let row_means = x.mean(1, true)?; // [2, 1]
    println!("each row less its mean:\n{}", x.sub(&row_means)?);
    println!("twice x, and some noise:\n{}", &x * 2.0 + &noise);

    // The matrix product, and reductions over any axes.
    let gram = x.matmul(&x.transpose(0, 1)?)?;
    assert_eq!(gram, Tensor::from([[14.0f32, 32.0], [32.0, 77.0]]));
    println!("x · xᵀ:\n{gram}");
    println!("largest of each column: {}, its row: {}", x.max(0, false)?, x.argmax(0, false)?);

    // Reshaping is free: both tensors see the same memory, until one of them is written.
    let flat = x.reshape([6])?;
    println!("flat: {flat}");

    // What does not fit is an error that names the operation, the shapes and the way out.
    let error = x.matmul(&x).unwrap_err();
    println!("an error: {error}");
    Ok(())
}
