//! Normalisation, each one op with a kernel of its own; the twins say what they compute.

use crate::{Error, Result, Var, record_fused};
use maplet_tensor::{Activation, Shape, Tensor};

impl Var {
    /// `(x − mean) / √(var + eps) · weight + bias` over the last axis, with the biased variance.
    ///
    /// # Shapes
    /// `self: [.., d]`, `weight: [d]`, `bias: [d]` → `[.., d]`
    ///
    /// # Errors
    /// Shapes that do not fit, or types that differ.
    ///
    /// # Reference
    /// Ba, Kiros & Hinton (2016), "Layer Normalization", eq. 4.
    pub fn layer_norm(&self, weight: &Var, bias: &Var, eps: f64) -> Result<Var> {
        let (y, stats) = self.value().layer_norm(weight.value(), bias.value(), eps)?;
        let (x, w) = (self.value().clone(), weight.value().clone());
        let kernel = move |dy: Tensor, want: [bool; 3]| Ok(dy.layer_norm_grad(&x, &w, &stats, want)?);
        let twin = move |[x, weight, bias]: [Var; 3]| {
            let centered = x.sub(&x.mean(-1, true)?)?;
            let deviation = x.var(-1, true, 0)?.add_scalar(eps).sqrt();
            centered.div(&deviation)?.mul(&weight)?.add(&bias)
        };
        record_fused("layer_norm", y, [self, weight, bias], kernel, twin)
    }

    /// `x / √(mean(x²) + eps) · weight` over the last axis.
    ///
    /// # Shapes
    /// `self: [.., d]`, `weight: [d]` → `[.., d]`
    ///
    /// # Errors
    /// Shapes that do not fit, or types that differ.
    ///
    /// # Reference
    /// Zhang & Sennrich (2019), "Root Mean Square Layer Normalization", eq. 4.
    pub fn rms_norm(&self, weight: &Var, eps: f64) -> Result<Var> {
        let (y, scales) = self.value().rms_norm(weight.value(), eps)?;
        let (x, w) = (self.value().clone(), weight.value().clone());
        let kernel = move |dy: Tensor, want: [bool; 2]| Ok(dy.rms_norm_grad(&x, &w, &scales, want)?);
        let twin = move |[x, weight]: [Var; 2]| {
            let size = x.square().mean(-1, true)?.add_scalar(eps).sqrt();
            x.div(&size)?.mul(&weight)
        };
        record_fused("rms_norm", y, [self, weight], kernel, twin)
    }

    /// `(x − mean) / √(var + eps) · weight + bias`, with the statistics of each group of `c / groups` neighboring
    /// channels in each sample.
    ///
    /// # Shapes
    /// `self: [n, c, ..]`, `weight: [c]`, `bias: [c]` → `[n, c, ..]`
    ///
    /// # Errors
    /// Shapes that do not fit, groups that do not divide the channels, or types that differ.
    ///
    /// # Reference
    /// Wu & He (2018), "Group Normalization", eqs. 1–7.
    pub fn group_norm(&self, groups: usize, weight: &Var, bias: &Var, eps: f64) -> Result<Var> {
        let (y, stats) = self.value().group_norm(groups, weight.value(), bias.value(), eps)?;
        let (x, w) = (self.value().clone(), weight.value().clone());
        let kernel = move |dy: Tensor, want: [bool; 3]| Ok(dy.group_norm_grad(&x, groups, &w, &stats, want)?);
        let twin = move |[x, weight, bias]: [Var; 3]| {
            let (shape, column) = (x.shape(), channel_column(x.shape()));
            let x = x.reshape([shape[0], groups, shape[1..].iter().product::<usize>() / groups])?;
            let centered = x.sub(&x.mean(-1, true)?)?;
            let deviation = x.var(-1, true, 0)?.add_scalar(eps).sqrt();
            let normal = centered.div(&deviation)?.reshape(shape)?;
            normal.mul(&weight.reshape(column)?)?.add(&bias.reshape(column)?)
        };
        record_fused("group_norm", y, [self, weight, bias], kernel, twin)
    }

    /// `activation((x − mean) / √(var + eps) · weight + bias)` for each channel, with the statistics of this very
    /// batch.
    ///
    /// Also returns the mean and the *biased* variance of each channel, for running statistics.
    ///
    /// # Shapes
    /// `self: [n, c, ..]`, `weight: [c]`, `bias: [c]` → `[n, c, ..]`, `[c]`, `[c]`
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ, or a channel with fewer than two elements.
    ///
    /// # Reference
    /// Ioffe & Szegedy (2015), "Batch Normalization", algorithm 1.
    pub fn batch_norm(
        &self,
        weight: &Var,
        bias: &Var,
        eps: f64,
        activation: Activation,
    ) -> Result<(Var, Tensor, Tensor)> {
        let (mean, var) = self.value().channel_moments()?;
        if self.len() < 2 * mean.len() {
            let what = format!("{} has {} elements in a channel", self.shape(), self.len() / mean.len().max(1));
            return Err(Error::new("batch_norm", what, "train with batches of at least 2"));
        }
        let y = self.value().batch_norm(&mean, &var, weight.value(), bias.value(), eps, activation)?;
        let twin = move |[x, weight, bias]: [Var; 3]| {
            let others: Vec<isize> = (0..x.rank() as isize).filter(|&axis| axis != 1).collect();
            let centered = x.sub(&x.mean(others.as_slice(), true)?)?;
            let deviation = x.var(others.as_slice(), true, 0)?.add_scalar(eps).sqrt();
            let column = channel_column(x.shape());
            centered.div(&deviation)?.mul(&weight.reshape(column)?)?.add(&bias.reshape(column)?)?.activated(activation)
        };
        let kernel = batch_norm_kernel([self, weight, bias], [&mean, &var], eps, activation, false);
        let y = record_fused("batch_norm", y, [self, weight, bias], kernel, twin)?;
        Ok((y, mean, var))
    }

    /// As [`batch_norm`](Self::batch_norm), with statistics that are given: the running ones, in evaluation mode.
    ///
    /// # Errors
    /// Shapes that do not fit, or types that differ.
    pub fn batch_norm_with(
        &self,
        mean: &Tensor,
        var: &Tensor,
        weight: &Var,
        bias: &Var,
        eps: f64,
        activation: Activation,
    ) -> Result<Var> {
        let y = self.value().batch_norm(mean, var, weight.value(), bias.value(), eps, activation)?;
        let kernel = batch_norm_kernel([self, weight, bias], [mean, var], eps, activation, true);
        let (mean, var) = (mean.clone(), var.clone());
        let twin = move |[x, weight, bias]: [Var; 3]| {
            let column = channel_column(x.shape());
            let deviation = var.add_scalar(eps).sqrt().reshape(column)?;
            let centered = x.sub(&x.constant(mean.reshape(column)?))?.div(&x.constant(deviation))?;
            centered.mul(&weight.reshape(column)?)?.add(&bias.reshape(column)?)?.activated(activation)
        };
        record_fused("batch_norm", y, [self, weight, bias], kernel, twin)
    }
}

fn batch_norm_kernel(
    inputs: [&Var; 3],
    [mean, var]: [&Tensor; 2],
    eps: f64,
    activation: Activation,
    fixed: bool,
) -> impl Fn(Tensor, [bool; 3]) -> Result<[Option<Tensor>; 3]> + Send + Sync + 'static {
    let [x, w, b] = inputs.map(|input| input.value().clone());
    let (mean, var) = (mean.clone(), var.clone());
    move |dy, want| Ok(dy.batch_norm_grad(&x, &mean, &var, &w, &b, eps, activation, fixed, want)?)
}

/// The shape in which `[c]` broadcasts over `[n, c, ..]`.
fn channel_column(x: Shape) -> Shape {
    let mut sizes = vec![1; x.rank()];
    sizes[1] = x[1];
    Shape::new(&sizes).expect("no larger than x")
}
