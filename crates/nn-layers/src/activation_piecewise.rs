//! Activations that are straight or parabolic piece by piece, as layers.

use crate::activation::{activation, expect_that};
use maplet_tensor::frozen::Pointwise;

activation! {
    /// `min(max(x, 0), 6)`
    ///
    /// PyTorch: `nn.ReLU6`; Keras: `activations.relu6`.
    ///
    /// # Reference
    /// Krizhevsky (2010), "Convolutional Deep Belief Networks on CIFAR-10".
    pub struct Relu6;
    relu6 = |x| Ok(x.relu6()), pointwise Pointwise::Hardtanh(0.0, 6.0)
}

activation! {
    /// `x` between two numbers, else the nearer of them.
    ///
    /// PyTorch: `nn.Hardtanh`; Keras: `activations.hard_tanh`.
    ///
    /// # Example
    /// ```
    /// use maplet_autograd::{Tensor, Var};
    /// use maplet_nn_layers::{Hardtanh, Module};
    ///
    /// let y = Hardtanh::new().max(2.0).forward(&Var::from(Tensor::from([-3.0f32, 1.5, 3.0])))?;
    /// assert_eq!(y.value(), &Tensor::from([-1.0f32, 1.5, 2.0]));
    /// # Ok::<(), maplet_nn_layers::Error>(())
    /// ```
    pub struct Hardtanh {
        /// The least value, −1.
        min = -1.0,
        /// The greatest value, 1.
        max = 1.0,
    }
    hardtanh = |x| {
        expect_that(min < max, "hardtanh", format!("from {min} to {max}"), "put the lower first")?;
        Ok(x.hardtanh(min, max))
    }, pointwise |layer| (layer.min < layer.max).then_some(Pointwise::Hardtanh(layer.min as f32, layer.max as f32))
}

activation! {
    /// `(x + 3) / 6` between −3 and 3, 0 below and 1 above.
    ///
    /// PyTorch: `nn.Hardsigmoid`; Keras: `activations.hard_sigmoid`.
    pub struct Hardsigmoid;
    hardsigmoid = |x| Ok(x.hardsigmoid())
}

activation! {
    /// `x · hardsigmoid(x)`
    ///
    /// PyTorch: `nn.Hardswish`; Keras: `activations.hard_silu`.
    ///
    /// # Reference
    /// Howard et al. (2019), "Searching for MobileNetV3", §5.2.
    pub struct Hardswish;
    hardswish = |x| Ok(x.hardswish())
}

activation! {
    /// `x` where it is above a threshold, else a value. PyTorch has no defaults; here they make it
    /// [`Relu`](crate::Relu).
    ///
    /// PyTorch: `nn.Threshold`; Keras: `activations.threshold`.
    pub struct Threshold {
        /// What `x` must exceed, 0.
        threshold = 0.0,
        /// What stands for the others, 0.
        value = 0.0,
    }
    threshold = |x| Ok(x.threshold(threshold, value))
}

activation! {
    /// `x` where `|x| > lambda`, else 0.
    ///
    /// PyTorch: `nn.Hardshrink`; Keras: `activations.hard_shrink`.
    pub struct Hardshrink {
        /// Half the width of the gap, 0.5.
        lambda = 0.5,
    }
    hardshrink = |x| Ok(x.hardshrink(lambda))
}

activation! {
    /// `x` moved towards 0 by `lambda`, but not beyond.
    ///
    /// PyTorch: `nn.Softshrink`; Keras: `activations.soft_shrink`.
    pub struct Softshrink {
        /// How far, 0.5; not negative.
        lambda = 0.5,
    }
    softshrink = |x| {
        expect_that(lambda >= 0.0, "softshrink", format!("lambda is {lambda}"), "use 0 or more")?;
        Ok(x.softshrink(lambda))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Module;
    use crate::activation::tests::check_formula;
    use maplet_tensor::Tensor;

    #[test]
    fn equal_their_formulas() {
        check_formula(Relu6, "relu6", |x| x.max(0.0));
        check_formula(Hardtanh::new(), "hardtanh", |x| x.clamp(-1.0, 1.0));
        check_formula(Hardtanh::new().min(-3.0).max(0.25), "hardtanh", |x| x.min(0.25));
        check_formula(Hardsigmoid, "hardsigmoid", |x| (x + 3.0) / 6.0);
        check_formula(Hardswish, "hardswish", |x| x * (x + 3.0) / 6.0);
        check_formula(Threshold::new().threshold(1.0).value(-7.0), "threshold", |x| if x > 1.0 { x } else { -7.0 });
        check_formula(Hardshrink::new().lambda(1.0), "hardshrink", |x| if x.abs() > 1.0 { x } else { 0.0 });
        check_formula(Softshrink::new().lambda(1.0), "softshrink", |x| x.signum() * (x.abs() - 1.0).max(0.0));
    }

    #[test]
    fn flat_pieces() {
        let x = Tensor::from([-7.0f64, 7.0]).into();
        let y = |layer: &dyn Module| layer.forward(&x).unwrap().into_value();
        assert_eq!(y(&Relu6), Tensor::from([0.0f64, 6.0]));
        assert_eq!(y(&Hardsigmoid), Tensor::from([0.0f64, 1.0]));
        assert_eq!(y(&Hardswish), Tensor::from([0.0f64, 7.0]));
    }

    #[test]
    fn wrong_numbers_are_refused() {
        let x = Tensor::from([1.0f32]).into();
        let text = |layer: &dyn Module| layer.forward(&x).unwrap_err().to_string();
        assert_eq!(text(&Hardtanh::new().min(2.0)), "hardtanh: from 2 to 1; help: put the lower first");
        assert_eq!(text(&Softshrink::new().lambda(-1.0)), "softshrink: lambda is -1; help: use 0 or more");
    }
}
