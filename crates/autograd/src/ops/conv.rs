//! Convolution. It is linear in the input and in the weight, so its two adjoints are ops with rules of the same kind,
//! and the three refer to each other.

use crate::record::record_biased;
use crate::{Result, Var, record};
use maplet_tensor::{Activation, Shape, Tensor, Window2d};

impl Var {
    /// 2-D convolution (cross-correlation, as everywhere in deep learning).
    ///
    /// # Shapes
    /// `self: [n, c_in, h, w]`, `weight: [c_out, c_in / groups, kh, kw]` → `[n, c_out, h', w']`
    ///
    /// # Errors
    /// Sizes that do not fit, or a window larger than the padded input.
    pub fn conv2d(&self, weight: &Var, window: Window2d) -> Result<Var> {
        let (x, w, x_shape, w_shape) = (self.clone(), weight.clone(), self.shape(), weight.shape());
        record("conv2d", self.value().conv2d(weight.value(), window)?)
            .pull(self, move |dy| dy.conv2d_grad_input(&w, x_shape, window))
            .pull(weight, move |dy| dy.conv2d_grad_weight(&x, w_shape, window))
            .done()
    }

    /// `activation(conv2d(self, weight) + bias)` in one op.
    ///
    /// # Shapes
    /// As [`conv2d`](Self::conv2d), and `bias: [c_out]`.
    ///
    /// # Errors
    /// Sizes that do not fit, or a window larger than the padded input.
    pub fn conv2d_bias(
        &self,
        weight: &Var,
        bias: Option<&Var>,
        window: Window2d,
        activation: Activation,
    ) -> Result<Var> {
        let (x, w) = (self.value().clone(), weight.value().clone());
        let y = x.conv2d_bias(&w, bias.map(Var::value), window, activation)?;
        let output = y.clone();
        let kernel = move |dy: Tensor, want: [bool; 3]| {
            let dz = output.activation_grad(&dy, activation)?;
            let dx = want[0].then(|| dz.conv2d_grad_input(&w, x.shape(), window)).transpose()?;
            let dw = want[1].then(|| dz.conv2d_grad_weight(&x, w.shape(), window)).transpose()?;
            let db = want[2].then(|| dz.sum([0, 2, 3], false)).transpose()?;
            Ok([dx, dw, db])
        };
        let twin = move |x: &Var, weight: &Var, bias: Option<&Var>| {
            x.conv2d(weight, window)?.plus_channels(bias)?.activated(activation)
        };
        record_biased("conv2d_bias", y, [self, weight], bias, kernel, twin)
    }

    /// The gradient `dx` of [`conv2d`](Self::conv2d) for `dy = self`: the transposed convolution.
    ///
    /// # Errors
    /// Sizes that do not fit.
    pub fn conv2d_grad_input(&self, weight: &Var, x_shape: impl Into<Shape>, window: Window2d) -> Result<Var> {
        let (dy, w, w_shape) = (self.clone(), weight.clone(), weight.shape());
        let dx = self.value().conv2d_grad_input(weight.value(), x_shape.into(), window)?;
        record("conv2d_grad_input", dx)
            .pull(self, move |d| d.conv2d(&w, window))
            .pull(weight, move |d| dy.conv2d_grad_weight(&d, w_shape, window))
            .done()
    }

    /// The gradient `dw` of [`conv2d`](Self::conv2d) for `dy = self` and its input `x`.
    ///
    /// # Errors
    /// Sizes that do not fit.
    pub fn conv2d_grad_weight(&self, x: &Var, w_shape: impl Into<Shape>, window: Window2d) -> Result<Var> {
        let (dy, input, x_shape) = (self.clone(), x.clone(), x.shape());
        let dw = self.value().conv2d_grad_weight(x.value(), w_shape.into(), window)?;
        record("conv2d_grad_weight", dw)
            .pull(self, move |d| input.conv2d(&d, window))
            .pull(x, move |d| dy.conv2d_grad_input(&d, x_shape, window))
            .done()
    }

    /// `max_pool2d(relu(conv2d(self, weight) + bias))` in one op, which never writes the large tensor in the middle.
    ///
    /// # Shapes
    /// As [`conv2d`](Self::conv2d), `bias: [c_out]`, then as [`max_pool2d`](Self::max_pool2d).
    ///
    /// # Errors
    /// Sizes that do not fit, or a window larger than its padded input.
    pub fn conv2d_relu_max_pool2d(
        &self,
        weight: &Var,
        bias: Option<&Var>,
        conv: Window2d,
        pool: Window2d,
    ) -> Result<Var> {
        let (x, w) = (self.value().clone(), weight.value().clone());
        let (y, winners) = x.conv2d_relu_max_pool2d(&w, bias.map(Var::value), conv, pool)?;
        let kernel =
            move |dy: Tensor, want: [bool; 3]| Ok(dy.conv2d_relu_max_pool2d_grad(&winners, &x, &w, conv, pool, want)?);
        let twin = move |x: &Var, weight: &Var, bias: Option<&Var>| {
            x.conv2d(weight, conv)?.plus_channels(bias)?.relu().max_pool2d(pool)
        };
        record_biased("conv2d_relu_max_pool2d", y, [self, weight], bias, kernel, twin)
    }

    /// `self + bias` with one bias for each channel.
    fn plus_channels(&self, bias: Option<&Var>) -> Result<Var> {
        match bias {
            Some(bias) => self.add(&bias.reshape([bias.len(), 1, 1])?),
            None => Ok(self.clone()),
        }
    }
}
