//! What the normalization layers share: checks, parameters that may be left out, rows of trailing axes, running
//! statistics.

use crate::plan::{sample_axes, weight_shape};
use crate::{Error, Result, init};
use maplet_autograd::{Param, State, Var};
use maplet_tensor::{Shape, Tensor};
use std::ops::RangeInclusive;

/// The default of files.
pub(crate) fn eps() -> f64 {
    init::NORM_EPS
}

/// An error unless `eps` keeps a root away from zero.
pub(crate) fn check_eps(op: &'static str, eps: f64) -> Result<()> {
    if eps >= 0.0 && eps.is_finite() {
        return Ok(());
    }
    Err(Error::new(op, format!("eps is {eps}"), "use a small positive number"))
}

/// Ones, to be trained.
pub(crate) fn ones(shape: Shape) -> Option<Param> {
    Some(Param::new(init::ones(shape)))
}

/// Zeros, to be trained.
pub(crate) fn zeros(shape: Shape) -> Option<Param> {
    Some(Param::new(init::zeros(shape)))
}

/// The weight as a vector of `size` on `x`; ones if it was left out.
pub(crate) fn weight_on(weight: &Option<Param>, x: &Var, size: usize) -> Result<Var> {
    vector_on(weight, x, size, Tensor::ones)
}

/// The bias as a vector of `size` on `x`; zeros if it was left out.
pub(crate) fn bias_on(bias: &Option<Param>, x: &Var, size: usize) -> Result<Var> {
    vector_on(bias, x, size, Tensor::zeros)
}

fn vector_on(
    param: &Option<Param>,
    x: &Var,
    size: usize,
    otherwise: fn(Shape, maplet_tensor::DType) -> Tensor,
) -> Result<Var> {
    match param {
        None => Ok(x.constant(otherwise(Shape::from(size), x.dtype()))),
        Some(param) if param.shape().rank() == 1 => Ok(param.on(x)),
        Some(param) => Ok(param.on(x).reshape(size)?),
    }
}

/// `[n, c, h, w]`, for 2 spatial axes.
pub(crate) fn layout(d: usize) -> String {
    format!("[n, {}]", sample_axes(d))
}

/// An error unless `x` has one of the ranks that `layout` describes, and so many channels on axis 1.
pub(crate) fn expect_channels(
    op: &'static str,
    x: &Var,
    layout: &str,
    ranks: RangeInclusive<usize>,
    channels: usize,
) -> Result<()> {
    let shape = x.shape();
    if !ranks.contains(&shape.rank()) {
        return Err(Error::new(op, format!("expects {layout}, got {shape}"), "reshape or unsqueeze the input"));
    }
    if shape[1] != channels {
        let what = format!("input {shape} has {} channels, the layer {channels}", shape[1]);
        return Err(Error::new(op, what, format!("build the layer for {} channels", shape[1])));
    }
    Ok(())
}

/// The shape that trailing axes are normalized over, if it is one.
pub(crate) fn trailing_shape(op: &'static str, shape: Shape) -> Result<Shape> {
    if shape.rank() == 0 {
        return Err(Error::new(op, "the shape to normalize has no axes", "name the sizes of the last axes"));
    }
    let sizes: Vec<(&str, usize)> = shape.iter().map(|&size| ("features", size)).collect();
    weight_shape(op, &sizes)
}

/// `x` as rows, each of them what its trailing axes of sizes `shape` hold.
pub(crate) fn rows(op: &'static str, x: &Var, shape: Shape) -> Result<Var> {
    let sizes = x.shape();
    let Some(outer) = sizes.strip_suffix(shape.sizes()) else {
        let help = if shape.rank() == 1 { "the input's last axis" } else { "the input's last axes" };
        let what = format!("input {sizes} does not end in {shape}");
        return Err(Error::new(op, what, format!("{help} must be what the layer was built for")));
    };
    if shape.rank() == 1 { Ok(x.clone()) } else { Ok(x.reshape(Shape::new(&[outer, &[shape.elements()]].concat())?)?) }
}

/// What the parameters for the last `axes` axes of a sample are normalized over.
pub(crate) fn last_axes(op: &'static str, input: &Shape, axes: usize) -> Result<Shape> {
    match input.rank().checked_sub(axes).map(|from| &input[from..]) {
        Some(sizes) if axes > 0 => trailing_shape(op, Shape::new(sizes)?),
        _ => {
            let what = format!("cannot normalize the last {axes} axes of {}", crate::plan::batched(input));
            Err(Error::new(op, what, format!("use 1 to {}", input.rank())))
        }
    }
}

/// A running statistic takes a step of `momentum` towards `value`.
pub(crate) fn follow(state: &State, x: &Var, value: &Tensor, momentum: f64) -> Result<()> {
    let kept = state.on(x).mul_scalar(1.0 - momentum);
    Ok(state.update(x, kept.add(&value.mul_scalar(momentum))?)?)
}

/// An error unless `momentum` is one.
pub(crate) fn check_momentum(op: &'static str, momentum: f64) -> Result<()> {
    if (0.0..=1.0).contains(&momentum) {
        return Ok(());
    }
    Err(Error::new(op, format!("momentum is {momentum}"), "use a number from 0 to 1"))
}

/// The unbiased variance of `count` numbers, from the biased one.
pub(crate) fn unbiased(var: &Tensor, count: usize) -> Tensor {
    var.mul_scalar(count as f64 / (count as f64 - 1.0))
}
