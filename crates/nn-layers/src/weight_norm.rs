//! [`WeightNorm`]: a weight as length and direction.

use crate::{Error, Parametrization, Parametrized, Result, Weighted};
use maplet_autograd::{Param, Var, fields};

/// A layer whose weight is `w = g · v / ‖v‖`, so that length and direction are trained apart: one length `g` for each
/// output, or for the whole weight.
///
/// PyTorch: `nn.utils.parametrizations.weight_norm`; Keras: –.
///
/// # Shapes
/// - the layer's
///
/// # Parameters
/// - those of the layer, but for `weight`:
/// - `parametrizations.weight.original0`, `g`: at first the lengths of the layer's weight, of size 1 on all axes but
///   the one that counts the lengths
/// - `parametrizations.weight.original1`, `v`: at first the layer's weight
///
/// # Reference
/// Salimans & Kingma (2016), "Weight Normalization: A Simple Reparameterization to Accelerate Training of Deep Neural
/// Networks", eq. 2.
///
/// # Example
/// ```
/// use maplet_autograd::params;
/// use maplet_nn_layers::{Linear, WeightNorm};
/// use maplet_tensor::Rng;
///
/// let layer = WeightNorm::new(Linear::new(3, 2, &mut Rng::new(42))?)?;
/// let names: Vec<String> = params(&layer).into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["bias", "parametrizations.weight.original0", "parametrizations.weight.original1"]);
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
pub type WeightNorm<L> = Parametrized<L, LengthAndDirection>;

/// What [`WeightNorm`] trains in a weight's place.
#[derive(Debug, Clone)]
pub struct LengthAndDirection {
    /// The lengths.
    pub original0: Param,
    /// The direction, of any length.
    pub original1: Param,
    axis: Option<usize>,
}
fields!(LengthAndDirection: original0, original1; axis);

impl<L: Weighted> WeightNorm<L> {
    /// One length for each index of the weight's first axis: PyTorch's `dim=0`.
    ///
    /// # Errors
    /// A weight that is a scalar.
    pub fn new(layer: L) -> Result<Self> {
        Self::along(layer, Some(0))
    }

    /// One length for each index of an axis, or one for the whole weight: PyTorch's `dim`.
    ///
    /// # Errors
    /// An axis that the weight does not have.
    pub fn along(layer: L, axis: Option<usize>) -> Result<Self> {
        Self::with(layer, |weight| {
            if let Some(axis) = axis.filter(|&axis| axis >= weight.shape().rank()) {
                let what = format!("a weight {} has no axis {axis}", weight.shape());
                return Err(Error::new("weight_norm", what, "name one of its axes, or none"));
            }
            let length = lengths(&Var::from(weight.value()), axis)?.into_value();
            Ok(LengthAndDirection { original0: Param::new(length), original1: weight, axis })
        })
    }
}

impl Parametrization for LengthAndDirection {
    fn weight(&self, x: &Var) -> Result<Var> {
        let (g, v) = (self.original0.on(x), self.original1.on(x));
        Ok(v.mul(&g.div(&lengths(&v, self.axis)?)?)?)
    }
}

/// The Euclidean length over all axes but one.
fn lengths(v: &Var, axis: Option<usize>) -> Result<Var> {
    let others: Vec<isize> = (0..v.rank()).filter(|&other| Some(other) != axis).map(|other| other as isize).collect();
    Ok(v.square().sum(others.as_slice(), axis.is_some())?.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Conv2d, Embedding, Expect, Linear, Module, check_module};
    use maplet_tensor::{Rng, Tensor, Window2d};

    const G: &str = "parametrizations.weight.original0";
    const V: &str = "parametrizations.weight.original1";

    fn linear() -> Linear {
        Linear::new(3, 4, &mut Rng::new(1)).unwrap()
    }

    #[test]
    fn behaves_as_a_module() {
        for (axis, g) in [(Some(0), &[4usize, 1][..]), (Some(1), &[1, 3]), (None, &[])] {
            let parameters: crate::Named<'_> = &[("bias", &[4]), (G, g), (V, &[4, 3])];
            let expect = Expect { input: &[2, 3], output: &[2, 4], parameters, ..Expect::default() };
            check_module(&mut WeightNorm::along(linear(), axis).unwrap(), &expect).unwrap();
        }
        let conv = Conv2d::new(2, 3, Window2d::new(2), &mut Rng::new(2)).unwrap();
        let parameters: crate::Named<'_> = &[("bias", &[3]), (G, &[3, 1, 1, 1]), (V, &[3, 2, 2, 2])];
        let expect = Expect { input: &[2, 2, 3, 3], output: &[2, 3, 2, 2], parameters, ..Expect::default() };
        check_module(&mut WeightNorm::new(conv).unwrap(), &expect).unwrap();
        let table = Embedding::new(5, 3, &mut Rng::new(1)).unwrap();
        let parameters: crate::Named<'_> = &[(G, &[5, 1]), (V, &[5, 3])];
        let expect = Expect { input: &[2, 3], output: &[2, 3, 3], parameters, ids: 5, ..Expect::default() };
        check_module(&mut WeightNorm::new(table).unwrap(), &expect).unwrap();
    }

    /// Row 3, 4 has length 5; with 10 for that, the weight doubles.
    #[test]
    fn length_and_direction_are_apart() {
        let mut inner = Linear::new(2, 1, &mut Rng::new(1)).unwrap().without_bias();
        inner.weight.set_value(Tensor::from([[3.0f32, 4.0]])).unwrap();
        let mut layer = WeightNorm::new(inner).unwrap();
        let x = Var::from(Tensor::from([[1.0f32, 1.0]]));
        assert_eq!(layer.forward(&x).unwrap().item::<f32>().unwrap(), 7.0);
        assert_eq!(layer.parametrization().original0.value(), &Tensor::from([[5.0f32]]));
        layer.parametrization_mut().original0.set_value(Tensor::from([[10.0f32]])).unwrap();
        assert_eq!(layer.forward(&x).unwrap().item::<f32>().unwrap(), 14.0);
        let inner = layer.into_layer().unwrap();
        assert_eq!(inner.weight.value(), &Tensor::from([[6.0f32, 8.0]]));
    }

    #[test]
    fn an_axis_that_is_not_there_is_refused() {
        let text = WeightNorm::along(linear(), Some(2)).err().unwrap().to_string();
        assert_eq!(text, "weight_norm: a weight [4, 3] has no axis 2; help: name one of its axes, or none");
    }
}
