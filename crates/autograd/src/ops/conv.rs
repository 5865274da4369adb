//! Convolution. It is linear in the input and in the weight, so its two adjoints are ops with rules of the same kind,
//! and the three refer to each other.

use crate::joint::record_biased;
use crate::{Result, Var, record};
use maplet_tensor::{Activation, Axes, Shape, Sizes, Tensor, Window, Window2d};
use std::array::from_fn;

impl Var {
    /// Convolution (cross-correlation, as everywhere in deep learning) over one, two or three spatial axes.
    ///
    /// # Shapes
    /// `self: [n, c_in, ..size]`, `weight: [c_out, c_in / groups, ..kernel]` → `[n, c_out, ..]`
    ///
    /// # Errors
    /// Sizes that do not fit, or a window larger than the padded input.
    #[doc(alias("conv1d", "conv2d", "conv3d"))]
    pub fn conv<const D: usize>(&self, weight: &Var, window: Window<D>) -> Result<Var> {
        let (x, w, x_shape, w_shape) = (self.clone(), weight.clone(), self.shape(), weight.shape());
        record(Window::<D>::name(["conv1d", "conv2d", "conv3d"]), self.value().conv(weight.value(), window)?)
            .pull(self, move |dy| dy.conv_grad_input(&w, x_shape, window))
            .pull(weight, move |dy| dy.conv_grad_weight(&x, w_shape, window))
            .done()
    }

    /// `activation(conv(self, weight) + bias)` in one op.
    ///
    /// # Shapes
    /// As [`conv`](Self::conv), and `bias: [c_out]`.
    ///
    /// # Errors
    /// Sizes that do not fit, or a window larger than the padded input.
    pub fn conv_bias<const D: usize>(
        &self,
        weight: &Var,
        bias: Option<&Var>,
        window: Window<D>,
        activation: Activation,
    ) -> Result<Var> {
        let (x, w) = (self.value().clone(), weight.value().clone());
        let y = x.conv_bias(&w, bias.map(Var::value), window, activation)?;
        let output = y.clone();
        let kernel = move |dy: Tensor, want: [bool; 3]| {
            let dz = output.activation_grad(&dy, activation)?;
            let dx = want[0].then(|| dz.conv_grad_input(&w, x.shape(), window)).transpose()?;
            let dw = want[1].then(|| dz.conv_grad_weight(&x, w.shape(), window)).transpose()?;
            let db = want[2].then(|| dz.sum(all_but_channels::<D>(), false)).transpose()?;
            Ok([dx, dw, db])
        };
        let twin = move |x: &Var, weight: &Var, bias: Option<&Var>| {
            x.conv(weight, window)?.plus_channels(bias)?.activated(activation)
        };
        let op = Window::<D>::name(["conv1d_bias", "conv2d_bias", "conv3d_bias"]);
        record_biased(op, y, [self, weight], bias, kernel, twin)
    }

    /// The gradient `dx` of [`conv`](Self::conv) for `dy = self`: the transposed convolution.
    ///
    /// # Errors
    /// Sizes that do not fit.
    pub fn conv_grad_input<const D: usize>(
        &self,
        weight: &Var,
        x_shape: impl Into<Shape>,
        window: Window<D>,
    ) -> Result<Var> {
        let (dy, w, w_shape) = (self.clone(), weight.clone(), weight.shape());
        let dx = self.value().conv_grad_input(weight.value(), x_shape.into(), window)?;
        record(Window::<D>::name(["conv1d_grad_input", "conv2d_grad_input", "conv3d_grad_input"]), dx)
            .pull(self, move |d| d.conv(&w, window))
            .pull(weight, move |d| dy.conv_grad_weight(&d, w_shape, window))
            .done()
    }

    /// The gradient `dw` of [`conv`](Self::conv) for `dy = self` and its input `x`.
    ///
    /// # Errors
    /// Sizes that do not fit.
    pub fn conv_grad_weight<const D: usize>(
        &self,
        x: &Var,
        w_shape: impl Into<Shape>,
        window: Window<D>,
    ) -> Result<Var> {
        let (dy, input, x_shape) = (self.clone(), x.clone(), x.shape());
        let dw = self.value().conv_grad_weight(x.value(), w_shape.into(), window)?;
        record(Window::<D>::name(["conv1d_grad_weight", "conv2d_grad_weight", "conv3d_grad_weight"]), dw)
            .pull(self, move |d| input.conv(&d, window))
            .pull(x, move |d| dy.conv_grad_input(&d, x_shape, window))
            .done()
    }

    /// Transposed convolution plus a bias for each channel: the way back of a convolution, as a mapping of its own.
    ///
    /// # Shapes
    /// `self: [n, c_in, ..size]`, `weight: [c_in, c_out / groups, ..kernel]`, `bias: [c_out]` → `[n, c_out, ..]` with
    /// the sizes of [`Window::transposed_output`]
    ///
    /// # Errors
    /// Sizes that do not fit, or an output padding that is neither below the stride nor below the dilation.
    #[doc(alias("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "deconvolution"))]
    pub fn conv_transpose<const D: usize>(
        &self,
        weight: &Var,
        bias: Option<&Var>,
        window: Window<D>,
        output_padding: impl Into<Sizes<D>>,
    ) -> Result<Var> {
        let y = self.value().conv_transpose(weight.value(), bias.map(Var::value), window, output_padding)?;
        let (x, w, x_shape, w_shape) = (self.clone(), weight.clone(), self.shape(), weight.shape());
        // An output padding of a stride or more makes room for further inputs, which were zeros: the convolution back
        // has them too.
        let mut all = x_shape;
        for (side, size) in
            window.output("conv_transpose", from_fn(|side| y.shape()[2 + side]))?.into_iter().enumerate()
        {
            all = all.with_size(2 + side, size);
        }
        let mut op = record(Window::<D>::name(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]), y)
            .pull(self, move |dy| dy.conv(&w, window)?.resized(x_shape))
            .pull(weight, move |dy| x.resized(all)?.conv_grad_weight(&dy, w_shape, window));
        if let Some(bias) = bias {
            op = op.pull(bias, |dy| dy.sum(all_but_channels::<D>(), false));
        }
        op.done()
    }

    /// The patches under a window, each as a column.
    ///
    /// # Shapes
    /// `[n, c, ..size] → [n, c · kernel places, positions]`
    ///
    /// # Errors
    /// Another rank, groups, or a window larger than the padded input.
    #[doc(alias = "im2col")]
    pub fn unfold<const D: usize>(&self, window: Window<D>) -> Result<Var> {
        let y = self.value().unfold(window)?;
        let size: [usize; D] = from_fn(|side| self.shape()[2 + side]);
        record("unfold", y).pull(self, move |dy| dy.fold(size, window)).done()
    }

    /// Adds columns up in an image of the given size: the adjoint of [`unfold`](Self::unfold).
    ///
    /// # Shapes
    /// `[n, c · kernel places, positions] → [n, c, ..size]`
    ///
    /// # Errors
    /// Rows that are no multiple of the kernel, another number of positions than `size` has under the window.
    #[doc(alias = "col2im")]
    pub fn fold<const D: usize>(&self, size: impl Into<Sizes<D>>, window: Window<D>) -> Result<Var> {
        record("fold", self.value().fold(size, window)?).pull(self, move |dy| dy.unfold(window)).done()
    }

    /// `max_pool2d(relu(conv(self, weight) + bias))` in one op, which never writes the large tensor in the middle.
    ///
    /// # Shapes
    /// As [`conv`](Self::conv), `bias: [c_out]`, then as [`max_pool`](Self::max_pool).
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
            x.conv(weight, conv)?.plus_channels(bias)?.relu().max_pool(pool)
        };
        record_biased("conv2d_relu_max_pool2d", y, [self, weight], bias, kernel, twin)
    }

    /// `self + bias` with one bias for each channel, axis 1.
    fn plus_channels(&self, bias: Option<&Var>) -> Result<Var> {
        match bias {
            Some(bias) => {
                let mut shape = vec![1; self.rank() - 1];
                shape[0] = bias.len();
                self.add(&bias.reshape(Shape::new(&shape)?)?)
            }
            None => Ok(self.clone()),
        }
    }

    /// Cut, or continued with zeros, at the end of each axis.
    fn resized(&self, shape: Shape) -> Result<Var> {
        let mut x = self.clone();
        for (axis, &size) in shape.iter().enumerate() {
            let now = x.shape()[axis];
            if size < now {
                x = x.slice(axis as isize, 0, size)?;
            } else if size > now {
                let mut around = vec![(0, 0); shape.rank()];
                around[axis].1 = size - now;
                x = x.pad(&around, 0.0)?;
            }
        }
        Ok(x)
    }
}

/// The batch and the `D` spatial axes.
fn all_but_channels<const D: usize>() -> Axes {
    Axes::from(&[0, 2, 3, 4][..=D])
}
