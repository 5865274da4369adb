//! Jacobians, Hessians and their products; checkpointed parts; hooks; clipping.

use crate::{Case, Entry, Result};
use maplet_autograd as autograd;
use maplet_autograd::{Grads, Param, Pass, Var, checkpoint, checkpoint_outputs};
use maplet_nn_layers::{Checkpoint, Linear};
use maplet_tensor::{DType, Tensor, Trans};

pub(crate) fn entries() -> Vec<Entry> {
    let mut entries = vec![
        Entry::values("jacobian", |case, dtype| {
            named([autograd::jacobian(|x| function(case, x), &arg(case, "x", dtype)?)?])
        }),
        Entry::values("hessian", |case, dtype| named([autograd::hessian(|x| loss(case, x), &arg(case, "x", dtype)?)?])),
        Entry::values("vector_jacobian_product", |case, dtype| {
            let (x, u) = (arg(case, "x", dtype)?, arg(case, "u", dtype)?);
            named(autograd::vector_jacobian_product(|x| function(case, x), &x, &u)?.into())
        }),
        Entry::values("jacobian_vector_product", |case, dtype| {
            let (x, v) = (arg(case, "x", dtype)?, arg(case, "v", dtype)?);
            named(autograd::jacobian_vector_product(|x| function(case, x), &x, &v)?.into())
        }),
        Entry::values("hessian_vector_product", |case, dtype| {
            let (x, v) = (arg(case, "x", dtype)?, arg(case, "v", dtype)?);
            named(autograd::hessian_vector_product(|x| loss(case, x), &x, &v)?.into())
        }),
        Entry::layer("Checkpoint", |case| {
            let linear = Linear::new(case.get("in_features")?, case.get("out_features")?, &mut case.rng())?;
            Ok(Checkpoint::new(if case.get("bias")? { linear } else { linear.without_bias() }))
        }),
    ];
    entries.push(Entry::function("checkpoint", |case, x| {
        let part = |_: &(), [a, b]: [Var; 2]| a.mul(&b)?.sin().add(&a);
        let chain = |a: Var, _| checkpoint(&(), [&a, &x[1]], part);
        Ok(vec![(0..case.get("times")?).try_fold(x[0].clone(), chain)?])
    }));
    entries.push(Entry::function("checkpoint_outputs", |case, x| {
        let part = |_: &(), [a, b]: [Var; 2]| Ok::<_, autograd::Error>([a.mul(&b)?, b.tanh().sub(&a)?]);
        let chain = |[a, b]: [Var; 2], _| checkpoint_outputs(&(), [&a, &b], part);
        Ok((0..case.get("times")?).try_fold([x[0].clone(), x[1].clone()], chain)?.into())
    }));
    entries.push(Entry::function("register_hook", |case, x| {
        let factor: f64 = case.get("factor")?;
        Ok(vec![x[0].square().register_hook(move |dy| Ok(dy.mul_scalar(factor))).sin()])
    }));
    entries.push(Entry::values("retain_grad", |case, dtype| {
        let middle = Pass::record().leaf(arg(case, "x", dtype)?).square();
        middle.retain_grad();
        let grads = middle.sin().backward_from(arg(case, "dy", dtype)?)?;
        named([grads.of(&middle).ok_or("the gradient was not kept")?.clone()])
    }));
    entries.push(
        Entry::values("clip_norm", |case, dtype| {
            let mut norm = 0.0;
            let mut found = clipped(case, dtype, |grads, max| norm = grads.clip_norm(max))?;
            found.push(("out.norm".into(), Tensor::scalar(norm)));
            Ok(found)
        })
        .note("scales by max / norm; PyTorch by max / (norm + 1e-6), which the reference takes back"),
    );
    entries.push(Entry::values("clip_value", |case, dtype| clipped(case, dtype, Grads::clip_value)));
    entries
}

/// The case's gradients after clipping.
fn clipped(case: &Case, dtype: DType, clip: impl FnOnce(&mut Grads, f64)) -> Result<Vec<(String, Tensor)>> {
    let given = (0..).map_while(|i| case.arg(&i.to_string(), dtype));
    let params: Vec<Param> = given.map(Param::new).collect();
    let mut grads = Grads::default();
    params.iter().for_each(|param| grads.set(param, param.value().clone()));
    clip(&mut grads, case.get("max")?);
    let after = params.iter().enumerate().map(|(i, param)| Some((format!("out.{i}"), grads.of(param)?.clone())));
    after.map(|grad| grad.ok_or_else(|| "a gradient is gone".into())).collect()
}

fn function(case: &Case, x: &Var) -> autograd::Result<Var> {
    let name: String = case.get("function").map_err(outside)?;
    let w = x.constant(arg(case, "w", x.dtype()).map_err(outside)?);
    let scores = || {
        let rows = x.reshape([x.len() / 3, 3])?.matmul_with(&w, Trans { a: false, b: true })?;
        rows.reshape(x.shape().with_size(x.rank() - 1, 2))
    };
    match &*name {
        "softmax" => scores()?.softmax(-1),
        "gelu" => Ok(scores()?.gelu()),
        "product" => x.slice(-1, 1, 3)?.mul(&x.slice(-1, 0, 2)?.exp()),
        _ => scores(),
    }
}

fn loss(case: &Case, x: &Var) -> autograd::Result<Var> {
    function(case, x)?.square().sum(.., false)
}

/// An error of the reference file, where autograd's is asked for.
fn outside(error: crate::Error) -> autograd::Error {
    autograd::Error::new("parity", error.to_string(), "")
}

fn arg(case: &Case, name: &str, dtype: DType) -> Result<Tensor> {
    case.arg(name, dtype).ok_or_else(|| format!("the case has no arg.{name}").into())
}

fn named<const N: usize>(found: [Tensor; N]) -> Result<Vec<(String, Tensor)>> {
    Ok(found.into_iter().enumerate().map(|(i, tensor)| (format!("out.{i}"), tensor)).collect())
}
