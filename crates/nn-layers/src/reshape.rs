//! [`Flatten`] and [`Reshape`]: the same numbers under another shape, for free.

use crate::plan::{Draft, Plan};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// Each sample as one vector.
///
/// PyTorch: `nn.Flatten`; Keras: `Flatten`.
///
/// # Shapes
/// - input `[n, ..]`, output `[n, product of the rest]`
#[derive(Debug, Clone)]
pub struct Flatten;
fields!(Flatten:);

/// Each sample under another shape.
///
/// PyTorch: `nn.Unflatten`; Keras: `Reshape`.
///
/// # Shapes
/// - input `[n, ..]`, output `[n, ..shape]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    shape: Shape,
}
fields!(Reshape: ; shape);

impl Module for Flatten {
    fn forward(&self, x: &Var) -> Result<Var> {
        let (n, sample) = batch("flatten", x)?;
        Ok(x.reshape([n, sample.iter().product()])?)
    }
}

impl Spec for Flatten {
    fn plan(&self, input: &Shape) -> Plan {
        let output = Shape::from([input.elements()]);
        Plan::new("Flatten".into(), || Ok(Draft::new(output, 0).view().fixed(Self)))
    }
}

impl Reshape {
    /// The new sizes, without the batch axis.
    ///
    /// # Errors
    /// More than 7 axes.
    pub fn new(shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        with_batch(1, &shape)?;
        Ok(Self { shape })
    }
}

impl Module for Reshape {
    fn forward(&self, x: &Var) -> Result<Var> {
        let (n, _) = batch("reshape", x)?;
        Ok(x.reshape(with_batch(n, &self.shape)?)?)
    }
}

impl Spec for Reshape {
    fn plan(&self, input: &Shape) -> Plan {
        let shape = self.shape;
        Plan::new(format!("Reshape {shape}"), || {
            let layer = Self::new(shape)?;
            if shape.elements() != input.elements() {
                let what = format!("{input} has {} elements, {shape} needs {}", input.elements(), shape.elements());
                let help = format!("the sizes must multiply to {}", input.elements());
                return Err(Error::new("reshape", what, help));
            }
            Ok(Draft::new(shape, 0).view().fixed(layer))
        })
    }
}

impl Builder {
    /// [`Flatten`]: each sample as one vector.
    pub fn flatten(self) -> Self {
        self.step(Flatten)
    }

    /// [`Reshape`]: each sample under another shape.
    pub fn reshape(self, shape: impl Into<Vec<usize>>) -> Self {
        match Shape::new(&shape.into()) {
            Ok(shape) => self.step(Reshape { shape }),
            Err(error) => self.fail(error.into()),
        }
    }
}

/// The number of samples, and the sizes of one.
fn batch(op: &'static str, x: &Var) -> Result<(usize, Shape)> {
    match x.shape().split_first() {
        Some((&n, sample)) => Ok((n, Shape::new(sample)?)),
        None => Err(Error::new(op, "expects [n, ..], got a scalar", "give it a batch axis with unsqueeze(0)")),
    }
}

/// The shape of `n` samples.
pub(crate) fn with_batch(n: usize, sample: &Shape) -> Result<Shape> {
    Ok(Shape::new(&[&[n], sample.sizes()].concat())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};
    use maplet_tensor::Tensor;

    #[test]
    fn behave_as_modules() {
        let scalar = "flatten: expects [n, ..], got a scalar; help: give it a batch axis with unsqueeze(0)";
        let expect = Expect { input: &[3, 2, 4], output: &[3, 8], refuses: &[(&[], scalar)], ..Expect::default() };
        check_module(&mut Flatten, &expect).unwrap();
        check_module(&mut Flatten, &Expect { input: &[3], output: &[3, 1], ..expect }).unwrap();
        let count = "reshape: [3, 7] has 21 elements, [3, 4, 2] needs 24; help: the sizes must multiply to 21";
        let expect = Expect { output: &[3, 4, 2], refuses: &[(&[3, 7], count)], ..expect };
        check_module(&mut Reshape::new([4, 2]).unwrap(), &expect).unwrap();
    }

    #[test]
    fn keep_the_order_of_elements() {
        let x = Tensor::from([[[1.0f32, 2.0], [3.0, 4.0]]]);
        let flat = Flatten.forward(&x.into()).unwrap();
        assert_eq!(flat.value(), &Tensor::from([[1.0f32, 2.0, 3.0, 4.0]]));
        let back = Reshape::new([2, 2]).unwrap().forward(&flat).unwrap();
        assert_eq!(back.value(), &Tensor::from([[[1.0f32, 2.0], [3.0, 4.0]]]));
    }

    #[test]
    fn eight_axes_leave_none_for_the_batch() {
        let text = Reshape::new([1; 8]).err().unwrap().to_string();
        assert_eq!(text, "shape: [1, 1, 1, 1, 1, 1, 1, 1, 1] has 9 axes; help: a tensor has at most 8");
    }
}
