//! Initializers. Random ones cannot be equal to PyTorch's: measured bounds and moments must lie as near to PyTorch's
//! numbers as chance allows, and then count as equal.

use crate::{Case, Entry, Result};
use maplet_nn_layers::init::{self, Fan, Gain};
use maplet_tensor::{DType, Shape, Tensor};

type Found = Vec<(String, Tensor)>;

pub(crate) fn entries() -> Vec<Entry> {
    const RANDOM: &str =
        "random: bounds or moments agree with PyTorch's formula as far as chance allows, 5 standard errors";
    let random = |name, draw: fn(&Case, Shape) -> Result<Tensor>| {
        f32_only(name, move |case| moments(case, &draw(case, shape(case)?)?)).note(RANDOM)
    };
    vec![
        f32_only("zeros", |case| one(init::zeros(shape(case)?))),
        f32_only("ones", |case| one(init::ones(shape(case)?))),
        f32_only("constant", |case| one(init::constant(shape(case)?, case.get("value")?))),
        f32_only("eye", |case| one(init::eye(shape(case)?)?)),
        f32_only("dirac", |case| one(init::dirac(shape(case)?, case.get("groups")?)?)),
        f32_only("Gain", |case| one(Tensor::scalar(gain(case)?.value()))),
        random("uniform", |case, shape| Ok(init::uniform(shape, case.get("low")?, case.get("high")?, &mut case.rng()))),
        random("normal", |case, shape| Ok(init::normal(shape, case.get("mean")?, case.get("std")?, &mut case.rng()))),
        random("xavier_uniform", |case, shape| {
            Ok(init::xavier_uniform(shape, 1, Gain::Value(case.get("gain")?), &mut case.rng())?)
        }),
        random("xavier_normal", |case, shape| {
            Ok(init::xavier_normal(shape, 1, Gain::Value(case.get("gain")?), &mut case.rng())?)
        }),
        random("kaiming_uniform", |case, shape| {
            Ok(init::kaiming_uniform(shape, 1, fan(case)?, gain(case)?, &mut case.rng())?)
        }),
        random("kaiming_normal", |case, shape| {
            Ok(init::kaiming_normal(shape, 1, fan(case)?, gain(case)?, &mut case.rng())?)
        }),
        random("trunc_normal", |case, shape| {
            let (mean, std, low, high) = (case.get("mean")?, case.get("std")?, case.get("low")?, case.get("high")?);
            Ok(init::trunc_normal(shape, mean, std, low, high, &mut case.rng())?)
        }),
        f32_only("orthogonal", |case| {
            let x = init::orthogonal(shape(case)?, case.get("gain")?, &mut case.rng())?.flatten(1)?;
            let across = x.transpose(0, 1)?;
            let wide = x.shape()[0] <= x.shape()[1];
            one(if wide { x.matmul(&across)? } else { across.matmul(&x)? })
        })
        .note("random: the products of rows or columns are compared"),
        f32_only("sparse", |case| {
            let x = init::sparse(shape(case)?, case.get("sparsity")?, 0.01, &mut case.rng())?;
            let zeros = x.equal(&x.zeros_like())?.to_dtype(DType::I64).sum(0, false)?;
            Ok(vec![("out.zeros".into(), zeros)])
        })
        .note("random: the numbers of zeros in the columns are compared"),
    ]
}

fn f32_only(name: &'static str, run: impl Fn(&Case) -> Result<Found> + 'static) -> Entry {
    Entry::values(name, move |case, _| run(case)).only(&[DType::F32])
}

fn one(value: Tensor) -> Result<Found> {
    Ok(vec![("out.0".into(), value)])
}

fn shape(case: &Case) -> Result<Shape> {
    Ok(Shape::new(&case.get::<Vec<usize>>("shape")?)?)
}

fn fan(case: &Case) -> Result<Fan> {
    Ok(if case.get::<String>("mode")? == "fan_in" { Fan::In } else { Fan::Out })
}

fn gain(case: &Case) -> Result<Gain> {
    Ok(match case.get::<String>("nonlinearity")?.as_str() {
        "linear" => Gain::Linear,
        "sigmoid" => Gain::Sigmoid,
        "tanh" => Gain::Tanh,
        "relu" => Gain::Relu,
        "selu" => Gain::Selu,
        "leaky_relu" => Gain::LeakyRelu(case.get("param")?),
        other => return Err(format!("no gain for {other}").into()),
    })
}

/// `out.low` and `out.high`, or `out.mean` and `out.std`: PyTorch's number where chance explains the difference.
fn moments(case: &Case, x: &Tensor) -> Result<Found> {
    let x: Vec<f64> = x.to_dtype(DType::F64).to_vec()?;
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let std = (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    let (low, high) = x.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
    // The largest of n uniform numbers is below the bound by more than 20/n of the width once in e²⁰ times.
    let numbers = [
        ("out.low", low, 20.0 / n * (high - low)),
        ("out.high", high, 20.0 / n * (high - low)),
        ("out.mean", mean, 5.0 * std / n.sqrt()),
        ("out.std", std, 5.0 * std / (2.0 * n).sqrt()),
    ];
    let mut found = Vec::new();
    for (name, measured, error) in numbers {
        let Some(expected) = case.tensor(name, DType::F64) else { continue };
        let is_chance = (measured - expected.item::<f64>()?).abs() <= error;
        found.push((name.to_string(), if is_chance { expected } else { Tensor::scalar(measured) }));
    }
    Ok(found)
}
