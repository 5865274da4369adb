//! Pooling over windows of an image.

use crate::{Result, Var, record};
use maplet_tensor::{Shape, Tensor, Window2d};

impl Var {
    /// The maximum of each window.
    ///
    /// # Shapes
    /// `[n, c, h, w] → [n, c, h', w']`
    ///
    /// # Errors
    /// Another rank, or a window larger than the padded input.
    pub fn max_pool2d(&self, window: Window2d) -> Result<Var> {
        let (y, argmax) = self.value().max_pool2d(window)?;
        let x = self.shape();
        record("max_pool2d", y).pull(self, move |dy| dy.max_pool2d_grad(&argmax, x)).done()
    }

    /// The mean of each window; padding counts as zeros.
    ///
    /// # Shapes
    /// `[n, c, h, w] → [n, c, h', w']`
    ///
    /// # Errors
    /// Another rank, or a window larger than the padded input.
    pub fn avg_pool2d(&self, window: Window2d) -> Result<Var> {
        let x = self.shape();
        record("avg_pool2d", self.value().avg_pool2d(window)?)
            .pull(self, move |dy| dy.avg_pool2d_grad(x, window))
            .done()
    }
}

/// Adjoints as ops, so that gradients can be differentiated again. For fixed winners all of this is linear.
impl Var {
    fn max_pool2d_grad(&self, argmax: &Tensor, x: Shape) -> Result<Var> {
        let winners = argmax.clone();
        record("max_pool2d_grad", self.value().max_pool2d_grad(argmax, x)?)
            .pull(self, move |d| d.max_pool2d_gather(&winners))
            .done()
    }

    fn max_pool2d_gather(&self, argmax: &Tensor) -> Result<Var> {
        let (winners, x) = (argmax.clone(), self.shape());
        record("max_pool2d_gather", self.value().max_pool2d_gather(argmax)?)
            .pull(self, move |d| d.max_pool2d_grad(&winners, x))
            .done()
    }

    fn avg_pool2d_grad(&self, x: Shape, window: Window2d) -> Result<Var> {
        record("avg_pool2d_grad", self.value().avg_pool2d_grad(x, window)?)
            .pull(self, move |d| d.avg_pool2d(window))
            .done()
    }
}
