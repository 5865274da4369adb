//! Activations that are straight or parabolic piece by piece. At a border the gradient is PyTorch's.

use crate::{Error, Result, Var};
use maplet_tensor::{Shape, Tensor};

/// # Panics
/// All panic for an element type that is not floating-point.
impl Var {
    /// `min(max(x, 0), 6)`
    ///
    /// # Reference
    /// Krizhevsky (2010), "Convolutional Deep Belief Networks on CIFAR-10".
    pub fn relu6(&self) -> Var {
        self.hardtanh(0.0, 6.0)
    }

    /// `x` between `low` and `high`, else the nearer of the two; its gradient on the borders is 0.
    pub fn hardtanh(&self, low: f64, high: f64) -> Var {
        let grad = move |x: &Tensor, dy: &Tensor| x.hardtanh_grad(dy, low, high);
        self.in_pieces("hardtanh", self.value().hardtanh(low, high), grad)
    }

    /// `(x + 3) / 6` between −3 and 3, 0 below and 1 above.
    pub fn hardsigmoid(&self) -> Var {
        self.in_pieces("hardsigmoid", self.value().hardsigmoid(), Tensor::hardsigmoid_grad)
    }

    /// `x · hardsigmoid(x)`.
    ///
    /// # Reference
    /// Howard et al. (2019), "Searching for MobileNetV3", section 5.2.
    pub fn hardswish(&self) -> Var {
        self.smooth("hardswish", self.value().hardswish(), Tensor::hardswish_grad, |x| x.mul(&x.hardsigmoid()))
    }

    /// `x` where it is above `threshold`, else `value`.
    pub fn threshold(&self, threshold: f64, value: f64) -> Var {
        let grad = move |x: &Tensor, dy: &Tensor| x.threshold_grad(dy, threshold);
        self.in_pieces("threshold", self.value().threshold(threshold, value), grad)
    }

    /// `x` where `|x| > lambda`, else 0.
    pub fn hardshrink(&self, lambda: f64) -> Var {
        self.in_pieces("hardshrink", self.value().hardshrink(lambda), move |x, dy| x.shrink_grad(dy, lambda))
    }

    /// `x` moved towards 0 by `lambda`, but not beyond.
    pub fn softshrink(&self, lambda: f64) -> Var {
        self.in_pieces("softshrink", self.value().softshrink(lambda), move |x, dy| x.shrink_grad(dy, lambda))
    }
}

/// Leaky ReLUs whose slope is trained or drawn.
impl Var {
    /// `x` where positive, else `weight · x`, with one weight for all or one a channel.
    ///
    /// # Shapes
    /// `self: [n, c, ..]`, `weight: [1]`, `[]` or `[c]` → `[n, c, ..]`
    ///
    /// # Errors
    /// Another shape of the weight, or types that differ.
    ///
    /// # Reference
    /// He, Zhang, Ren & Sun (2015), "Delving Deep into Rectifiers", eq. 1.
    pub fn prelu(&self, weight: &Var) -> Result<Var> {
        let (x, mut column) = (self.shape(), vec![1; self.rank()]);
        match (weight.len(), x.get(1)) {
            (1, _) => {}
            (c, Some(&channels)) if weight.rank() == 1 && c == channels => column[1] = c,
            _ => {
                let what = format!("the input is {x}, the weight {}", weight.shape());
                return Err(Error::new("prelu", what, "use one weight, or one for each channel on axis 1"));
            }
        }
        self.above(0.0)?.where_cond(self, &self.mul(&weight.reshape(Shape::new(&column)?)?)?)
    }

    /// `x` where positive, else `slope · x`: in training each element draws its slope evenly from `lower` to `upper`,
    /// else the slope is the middle.
    ///
    /// # Errors
    /// `lower > upper`, or an element type that is not floating-point.
    ///
    /// # Reference
    /// Xu, Wang, Chen & Li (2015), "Empirical Evaluation of Rectified Activations in Convolutional Network", eq. 4.
    pub fn rrelu(&self, lower: f64, upper: f64) -> Result<Var> {
        if lower.is_nan() || upper.is_nan() || lower > upper {
            return Err(Error::new("rrelu", format!("slopes from {lower} to {upper}"), "put the lower first"));
        }
        let Some(mut rng) = self.rng() else { return Ok(self.leaky_relu((lower + upper) / 2.0)) };
        let slopes = Tensor::uniform(self.shape(), lower, upper, &mut rng).to_dtype(self.dtype());
        self.above(0.0)?.where_cond(self, &self.mul(&self.constant(slopes))?)
    }
}
