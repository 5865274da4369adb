//! Pooling over windows of one, two or three spatial axes: `self: [n, c, sizes..]`.

use crate::{Result, Var, record};
use maplet_tensor::{OutputSize, Pool, Resize, Shape, Sizes, Tensor};

/// # Errors
/// All return the error of the kernel with the same name: another rank, a pool or a size that cannot be, a window
/// larger than the padded input.
impl Var {
    /// The maximum of each window; padding counts as −∞.
    pub fn max_pool<const D: usize>(&self, pool: impl Into<Pool<D>>) -> Result<Var> {
        Ok(self.max_pool_with_indices(pool)?.0)
    }

    /// The maximum of each window, and where it was: its place in the plane, as `i64`.
    pub fn max_pool_with_indices<const D: usize>(&self, pool: impl Into<Pool<D>>) -> Result<(Var, Var)> {
        let (y, indices) = self.value().max_pool(pool)?;
        self.largest("max_pool", y, indices)
    }

    /// The maxima of windows that share the input out evenly, so that the output has these sizes.
    pub fn adaptive_max_pool<const D: usize>(&self, sizes: impl Into<OutputSize<D>>) -> Result<Var> {
        Ok(self.adaptive_max_pool_with_indices(sizes)?.0)
    }

    /// As [`adaptive_max_pool`](Self::adaptive_max_pool), with the maxima's places in the plane, as `i64`.
    pub fn adaptive_max_pool_with_indices<const D: usize>(
        &self,
        sizes: impl Into<OutputSize<D>>,
    ) -> Result<(Var, Var)> {
        let (y, indices) = self.value().adaptive_max_pool(sizes)?;
        self.largest("adaptive_max_pool", y, indices)
    }

    /// The maxima of windows of `kernel` that begin irregularly, so that the output has the sizes `to`, or its factors
    /// of the input's: at random in training, as evenly as whole places allow outside.
    ///
    /// # Reference
    /// Graham (2014), "Fractional Max-Pooling", §2.
    pub fn fractional_max_pool<const D: usize>(
        &self,
        kernel: impl Into<Sizes<D>>,
        to: impl Into<Resize<D>>,
    ) -> Result<Var> {
        Ok(self.fractional_max_pool_with_indices(kernel, to, None)?.0)
    }

    /// As [`fractional_max_pool`](Self::fractional_max_pool), with the maxima's places in the plane, as `i64`;
    /// `samples: [n, c, D]`, from 0 to 1, say where the windows begin.
    pub fn fractional_max_pool_with_indices<const D: usize>(
        &self,
        kernel: impl Into<Sizes<D>>,
        to: impl Into<Resize<D>>,
        samples: Option<&Tensor>,
    ) -> Result<(Var, Var)> {
        let planes = |axis: usize| self.shape().get(axis).copied().unwrap_or(1);
        let drawn = || match self.rng() {
            Some(mut rng) => Tensor::uniform([planes(0), planes(1), D], 0.0f64, 1.0, &mut rng),
            None => Tensor::full([planes(0), planes(1), D], 0.5f64),
        };
        let samples = samples.cloned().unwrap_or_else(drawn);
        let (y, indices) = self.value().fractional_max_pool(kernel, to, &samples)?;
        self.largest("fractional_max_pool", y, indices)
    }

    /// Puts each element at its index in planes of these sizes, with zeros elsewhere: undoes a max-pool, but for what
    /// that has lost. Where indices meet, the last one stays.
    pub fn max_unpool<const D: usize>(&self, indices: &Var, sizes: impl Into<Sizes<D>>) -> Result<Var> {
        let places = indices.value().clone();
        record("max_unpool", self.value().max_unpool(&places, sizes)?)
            .pull(self, move |dy| dy.max_pool_gather(&places))
            .cut(indices)
            .done()
    }

    /// The mean of each window; padding counts as zeros, and is counted unless the pool says otherwise.
    pub fn avg_pool<const D: usize>(&self, pool: impl Into<Pool<D>>) -> Result<Var> {
        let (x, pool) = (self.shape(), pool.into());
        record("avg_pool", self.value().avg_pool(pool)?).pull(self, move |dy| dy.avg_pool_grad(x, pool)).done()
    }

    /// The means of windows that share the input out evenly, so that the output has these sizes.
    pub fn adaptive_avg_pool<const D: usize>(&self, sizes: impl Into<OutputSize<D>>) -> Result<Var> {
        self.resample_all(&sizes.into().taps(self.shape())?)
    }

    /// The norm of each window: `(Σ xᵖ)^(1/p)`, with no absolute value taken, as in PyTorch: for an odd `p` a negative
    /// sum gives NaN.
    ///
    /// Where the sum is 0, the gradient is 0. A window that `ceil_mode` cuts short counts as if it were whole.
    pub fn lp_pool<const D: usize>(&self, p: f64, pool: impl Into<Pool<D>>) -> Result<Var> {
        let pool = pool.into();
        let elements = pool.window.kernel.iter().product::<usize>() as f64;
        let mean = self.pow_scalar(p).avg_pool(pool)?;
        Ok(mean.sign().mul(&mean.abs().relu())?.mul_scalar(elements).pow_scalar(1.0 / p))
    }

    fn largest(&self, op: &'static str, y: Tensor, indices: Tensor) -> Result<(Var, Var)> {
        let (x, places) = (self.shape(), indices.clone());
        let y = record(op, y).pull(self, move |dy| dy.max_pool_grad(&places, x)).done()?;
        Ok((y, self.constant(indices)))
    }
}

/// Adjoints as ops, so that gradients can be differentiated again. For fixed places all of this is linear.
impl Var {
    fn max_pool_grad(&self, places: &Tensor, x: Shape) -> Result<Var> {
        let winners = places.clone();
        record("max_pool_grad", self.value().max_pool_grad(places, x)?)
            .pull(self, move |d| d.max_pool_gather(&winners))
            .done()
    }

    fn max_pool_gather(&self, places: &Tensor) -> Result<Var> {
        let (winners, x) = (places.clone(), self.shape());
        record("max_pool_gather", self.value().max_pool_gather(places)?)
            .pull(self, move |d| d.max_pool_grad(&winners, x))
            .done()
    }

    fn avg_pool_grad<const D: usize>(&self, x: Shape, pool: Pool<D>) -> Result<Var> {
        record("avg_pool_grad", self.value().avg_pool_grad(x, pool)?).pull(self, move |d| d.avg_pool(pool)).done()
    }
}
