//! [`Prelu`] and [`Rrelu`]: leaky ReLUs whose slope is trained, or drawn.

use crate::activation::activation;
use crate::plan::{Draft, Plan, weight_shape};
use crate::step::Spec;
use crate::{Builder, Module, Result};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::{Shape, Tensor};
use serde::{Deserialize, Serialize};

/// `x` where positive, else `weight · x` with a trained slope, one for all or one for each channel (axis 1).
///
/// PyTorch: `nn.PReLU`; Keras: `PReLU`.
///
/// # Shapes
/// - any, or `[n, c, ..]` with `c` slopes; the output's is the input's
///
/// # Parameters
/// - `weight: [c]` or `[1]`, 0.25
///
/// # Reference
/// He, Zhang, Ren & Sun (2015), "Delving Deep into Rectifiers", eq. 1. It advises against weight decay on the slopes.
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{Module, Prelu};
///
/// let layer = Prelu::new(1)?;
/// let y = layer.forward(&Var::from(Tensor::from([-4.0f32, 4.0])))?;
/// assert_eq!(y.value(), &Tensor::from([-1.0f32, 4.0]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Prelu {
    /// The slopes on the negative side.
    pub weight: Param,
}
fields!(Prelu: weight);

impl Prelu {
    /// What PyTorch and the paper begin with.
    pub(crate) const SLOPE: f64 = 0.25;

    /// With so many slopes: 1, or as many as there are channels.
    ///
    /// # Errors
    /// No slopes.
    pub fn new(num_parameters: usize) -> Result<Self> {
        let shape = weight_shape("prelu", &[("num_parameters", num_parameters)])?;
        Ok(Self { weight: Param::new(Tensor::full(shape, Self::SLOPE as f32)) })
    }

    /// Begins with another slope than 0.25.
    pub fn slope(self, slope: f64) -> Self {
        Self { weight: Param::new(Tensor::full(self.weight.shape(), slope as f32)) }
    }
}

impl Module for Prelu {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.prelu(&self.weight.on(x))?)
    }
}

/// [`Prelu`] as a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreluConfig {
    /// One slope for each channel, axis 1 of the batch, instead of one for all.
    pub by_channel: bool,
    /// What the slopes begin with.
    pub slope: f64,
}

impl Spec for PreluConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let &Self { by_channel, slope } = self;
        let slopes = if by_channel { input.first().copied().unwrap_or(0) } else { 1 };
        Plan::new(format!("Prelu {slopes}"), || {
            weight_shape("prelu", &[("num_parameters", slopes)])?;
            let draft = Draft::new(*input, input.elements() as u64);
            Ok(draft.trained(slopes as u64, move |_| Ok(Prelu::new(slopes)?.slope(slope))))
        })
    }
}

impl Builder {
    /// [`Prelu`] with one slope for all.
    pub fn prelu(self) -> Self {
        self.step(PreluConfig { by_channel: false, slope: Prelu::SLOPE })
    }

    /// [`Prelu`] with one slope for each channel.
    pub fn prelu_by_channel(self) -> Self {
        self.step(PreluConfig { by_channel: true, slope: Prelu::SLOPE })
    }
}

activation! {
    /// `x` where positive, else `slope · x`: in training each element draws its slope evenly from `lower` to `upper`,
    /// else the slope is the middle.
    ///
    /// PyTorch: `nn.RReLU`; Keras: –.
    ///
    /// # Reference
    /// Xu, Wang, Chen & Li (2015), "Empirical Evaluation of Rectified Activations in Convolutional Network", eq. 4.
    pub struct Rrelu {
        /// The least slope, 1/8.
        lower = 1.0 / 8.0,
        /// The greatest slope, 1/3.
        upper = 1.0 / 3.0,
    }
    rrelu = |x| Ok(x.rrelu(lower, upper)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::tests::check_formula;
    use crate::{Expect, Sequential, check_module};
    use maplet_autograd::Pass;

    #[test]
    fn prelu() {
        let refuses: (&[usize], &str) = (
            &[2, 3],
            "prelu: the input is [2, 3], the weight [4]; help: use one weight, or one for each channel on axis 1",
        );
        for (slopes, refuses) in [(1, vec![]), (4, vec![refuses])] {
            let parameters: &[(&str, &[usize])] = &[("weight", &[slopes])];
            let refuses = &refuses;
            let expect = Expect { input: &[3, 4, 2], output: &[3, 4, 2], parameters, refuses, ..Expect::default() };
            check_module(&mut Prelu::new(slopes).unwrap(), &expect).unwrap();
        }
        let text = Prelu::new(0).unwrap_err().to_string();
        assert_eq!(text, "prelu: num_parameters is 0; help: use 1 or more");
    }

    #[test]
    fn as_steps() {
        let model = Sequential::input([3, 4]).prelu().prelu_by_channel().rrelu(0.1, 0.2).build(1).unwrap();
        let parameters = |i: usize| model.rows()[i].parameters;
        assert_eq!((parameters(0), parameters(1), parameters(2)), (1, 3, 0));
        assert_eq!(model.rows()[2].label, "Rrelu 0.1, 0.2");
    }

    #[test]
    fn rrelu() {
        check_formula(Rrelu::new(), "rrelu", |x| if x > 0.0 { x } else { x * 11.0 / 48.0 });
        let y = Rrelu::new().forward(&Pass::train(1).input(Tensor::full([100], -24.0f32))).unwrap();
        assert!(y.value().as_slice::<f32>().unwrap().iter().all(|y| (-8.0..=-3.0).contains(y)));
        let text = Rrelu::new().upper(0.1).forward(&Tensor::from([1.0f32]).into()).unwrap_err().to_string();
        assert_eq!(text, "rrelu: slopes from 0.125 to 0.1; help: put the lower first");
    }
}
