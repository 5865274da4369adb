//! Weights whose size follows from how many inputs an output sums: Kaiming's and Xavier's.

use super::{normal, uniform};
use crate::{Error, Result};
use maplet_tensor::{Rng, Shape, Tensor};

/// Which way the variance is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fan {
    /// Forwards: by the number of inputs that each output sums.
    In,
    /// Backwards: by the number of outputs that each input reaches.
    Out,
}

/// What the function after the layer does to the standard deviation, and the weights must make up for.
///
/// PyTorch: `nn.init.calculate_gain`; Keras: –.
///
/// # Reference
/// He, Zhang, Ren & Sun (2015), "Delving Deep into Rectifiers", eqs. 10 and 15 for the ReLUs; the others are PyTorch's
/// `calculate_gain`.
#[doc(alias = "calculate_gain")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gain {
    /// 1, also for convolutions.
    Linear,
    /// 1
    Sigmoid,
    /// √2
    Relu,
    /// `√(2 / (1 + slope²))`; the function's default slope is 0.01.
    LeakyRelu(f64),
    /// 5/3
    Tanh,
    /// 3/4, found by experiment.
    Selu,
    /// The factor itself.
    Value(f64),
}

impl Gain {
    /// The factor.
    pub fn value(self) -> f64 {
        match self {
            Self::Linear | Self::Sigmoid => 1.0,
            Self::Relu => 2f64.sqrt(),
            Self::LeakyRelu(slope) => (2.0 / (1.0 + slope * slope)).sqrt(),
            Self::Tanh => 5.0 / 3.0,
            Self::Selu => 0.75,
            Self::Value(factor) => factor,
        }
    }
}

/// Uniform in `±gain · √(3 / fan)`.
///
/// PyTorch: `nn.init.kaiming_uniform_`; Keras: `HeUniform`.
///
/// ```
/// use maplet_nn_layers::init::{Fan, Gain, kaiming_uniform};
/// use maplet_tensor::Rng;
///
/// let weight = kaiming_uniform([128, 50], 1, Fan::In, Gain::Relu, &mut Rng::new(42))?;
/// let bound = (6.0f32 / 50.0).sqrt();
/// assert!(weight.as_slice::<f32>()?.iter().all(|w| w.abs() <= bound));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
///
/// # Errors
/// A shape without two axes, or groups that do not divide the first.
///
/// # Reference
/// He, Zhang, Ren & Sun (2015), "Delving Deep into Rectifiers", eq. 10.
#[doc(alias = "he_uniform")]
pub fn kaiming_uniform(shape: impl Into<Shape>, groups: usize, fan: Fan, gain: Gain, rng: &mut Rng) -> Result<Tensor> {
    let shape = shape.into();
    let bound = gain.value() * (3.0 / kaiming_fan("kaiming_uniform", &shape, groups, fan)?).sqrt();
    Ok(uniform(shape, -bound, bound, rng))
}

/// Normal with mean 0 and standard deviation `gain / √fan`.
///
/// PyTorch: `nn.init.kaiming_normal_`; Keras: `HeNormal`.
///
/// # Errors
/// A shape without two axes, or groups that do not divide the first.
///
/// # Reference
/// He, Zhang, Ren & Sun (2015), "Delving Deep into Rectifiers", eq. 10.
#[doc(alias = "he_normal")]
pub fn kaiming_normal(shape: impl Into<Shape>, groups: usize, fan: Fan, gain: Gain, rng: &mut Rng) -> Result<Tensor> {
    let shape = shape.into();
    let std = gain.value() / kaiming_fan("kaiming_normal", &shape, groups, fan)?.sqrt();
    Ok(normal(shape, 0.0, std, rng))
}

/// Uniform in `±gain · √(6 / (fan_in + fan_out))`.
///
/// PyTorch: `nn.init.xavier_uniform_`; Keras: `GlorotUniform`.
///
/// # Errors
/// A shape without two axes, or groups that do not divide the first.
///
/// # Reference
/// Glorot & Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks", eq. 16.
#[doc(alias = "glorot_uniform")]
pub fn xavier_uniform(shape: impl Into<Shape>, groups: usize, gain: Gain, rng: &mut Rng) -> Result<Tensor> {
    let shape = shape.into();
    let (fan_in, fan_out) = fans("xavier_uniform", &shape, groups)?;
    let bound = gain.value() * (6.0 / (fan_in + fan_out)).sqrt();
    Ok(uniform(shape, -bound, bound, rng))
}

/// Normal with mean 0 and standard deviation `gain · √(2 / (fan_in + fan_out))`.
///
/// PyTorch: `nn.init.xavier_normal_`; Keras: `GlorotNormal`.
///
/// # Errors
/// A shape without two axes, or groups that do not divide the first.
///
/// # Reference
/// Glorot & Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks", eq. 12.
#[doc(alias = "glorot_normal")]
pub fn xavier_normal(shape: impl Into<Shape>, groups: usize, gain: Gain, rng: &mut Rng) -> Result<Tensor> {
    let shape = shape.into();
    let (fan_in, fan_out) = fans("xavier_normal", &shape, groups)?;
    Ok(normal(shape, 0.0, gain.value() * (2.0 / (fan_in + fan_out)).sqrt(), rng))
}

fn kaiming_fan(op: &'static str, shape: &Shape, groups: usize, fan: Fan) -> Result<f64> {
    let (fan_in, fan_out) = fans(op, shape, groups)?;
    Ok(if fan == Fan::In { fan_in } else { fan_out })
}

/// How many inputs each output sums, and how many outputs each input reaches; at least 1.
///
/// For grouped convolutions PyTorch's fan-out forgets the groups; this one does not.
fn fans(op: &'static str, shape: &Shape, groups: usize) -> Result<(f64, f64)> {
    let &[out, per_group, ref kernel @ ..] = shape.sizes() else {
        let what = format!("a weight of {shape} has no fan-in and fan-out");
        return Err(Error::new(op, what, "it needs two axes or more: [out, in / groups, ..kernel]"));
    };
    if groups == 0 || out % groups != 0 {
        return Err(Error::new(op, format!("{shape} does not divide into {groups} groups"), "groups divide axis 0"));
    }
    let positions: usize = kernel.iter().product();
    Ok(((per_group * positions).max(1) as f64, (out / groups * positions).max(1) as f64))
}

#[cfg(test)]
mod tests {
    use super::super::testing::moments;
    use super::*;

    /// The papers' standard deviations, for a weight with fan-in 8 · 9 = 72 and fan-out 64 / 2 · 9 = 288.
    #[test]
    fn standard_deviations_are_the_papers() {
        let (shape, mut rng) = ([64, 8, 3, 3], Rng::new(1));
        let (inward, outward, both) = ((2.0f64 / 72.0).sqrt(), (2.0f64 / 288.0).sqrt(), (2.0f64 / 360.0).sqrt());
        let made = [
            (kaiming_uniform(shape, 2, Fan::In, Gain::Relu, &mut rng), inward, true),
            (kaiming_uniform(shape, 2, Fan::Out, Gain::Relu, &mut rng), outward, true),
            (kaiming_normal(shape, 2, Fan::In, Gain::Relu, &mut rng), inward, false),
            (kaiming_normal(shape, 2, Fan::Out, Gain::Relu, &mut rng), outward, false),
            (xavier_uniform(shape, 2, Gain::Linear, &mut rng), both, true),
            (xavier_normal(shape, 2, Gain::Linear, &mut rng), both, false),
            (xavier_normal(shape, 2, Gain::Tanh, &mut rng), both * 5.0 / 3.0, false),
        ];
        for (i, (weight, std, bounded)) in made.into_iter().enumerate() {
            let (mean, found, most) = moments(&weight.unwrap());
            let n: f64 = 64.0 * 72.0;
            assert!(mean.abs() < 5.0 * std / n.sqrt(), "{i}: mean {mean}");
            assert!((found / std - 1.0).abs() < 5.0 / (2.0 * n).sqrt(), "{i}: {found} against {std}"); // 5 standard errors
            assert_eq!(most <= std * 3f64.sqrt() * (1.0 + 1e-6), bounded, "{i}: largest {most}");
        }
    }

    #[test]
    fn gains_are_pytorchs() {
        assert_eq!(Gain::LeakyRelu(5f64.sqrt()).value(), (1.0f64 / 3.0).sqrt());
        assert_eq!(Gain::LeakyRelu(0.0).value(), Gain::Relu.value());
        assert_eq!((Gain::Linear.value(), Gain::Sigmoid.value(), Gain::Value(0.25).value()), (1.0, 1.0, 0.25));
        assert_eq!((Gain::Tanh.value(), Gain::Selu.value()), (5.0 / 3.0, 0.75));
    }

    #[test]
    fn refuses_what_has_no_fans() {
        let text = |shape: &[usize], groups| {
            let shape = Shape::new(shape).unwrap();
            xavier_normal(shape, groups, Gain::Linear, &mut Rng::new(3)).unwrap_err().to_string()
        };
        let expected = "xavier_normal: a weight of [3] has no fan-in and fan-out; \
                        help: it needs two axes or more: [out, in / groups, ..kernel]";
        assert_eq!(text(&[3], 1), expected);
        assert_eq!(text(&[3, 4], 2), "xavier_normal: [3, 4] does not divide into 2 groups; help: groups divide axis 0");
    }
}
