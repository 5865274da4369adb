//! [`TimeDistributed`]: one layer on every step.

use crate::{Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::Shape;

/// Runs a layer on every step of every sequence, as if each step were a sample.
///
/// # Shapes
/// - input `[n, t, ..]`, or `[t, n, ..]`: the layer sees `[n · t, ..]`; output likewise
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{Linear, Module, TimeDistributed};
/// use maplet_tensor::{DType, Rng};
///
/// let layer = TimeDistributed::new(Linear::new(8, 3, &mut Rng::new(42))?);
/// let y = layer.forward(&Var::from(Tensor::zeros([2, 10, 8], DType::F32)))?;
/// assert_eq!(y.shape(), [2, 10, 3].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
///
/// PyTorch: –; Keras: `TimeDistributed`.
#[derive(Debug, Clone)]
pub struct TimeDistributed<M> {
    /// What is run on each step.
    pub layer: M,
}
fields!([M: Module] TimeDistributed<M>: layer);

impl<M: Module> TimeDistributed<M> {
    /// `layer` on every step.
    pub fn new(layer: M) -> Self {
        Self { layer }
    }
}

impl<M: Module> Module for TimeDistributed<M> {
    fn forward(&self, x: &Var) -> Result<Var> {
        let shape = x.shape();
        let &[first, second, ref step @ ..] = shape.sizes() else {
            let what = format!("expects [n, t, ..], got {shape}");
            return Err(Error::new("time_distributed", what, "give it sequences"));
        };
        let steps = first * second;
        let y = self.layer.forward(&x.reshape(Shape::new(&[&[steps], step].concat())?)?)?;
        match y.shape().split_first() {
            Some((&count, step)) if count == steps => Ok(y.reshape(Shape::new(&[&[first, second], step].concat())?)?),
            _ => {
                let what = format!("{steps} steps went into the layer, {} came out", y.shape());
                Err(Error::new("time_distributed", what, "keep the batch as axis 0"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Linear, check_module, func};
    use maplet_tensor::{DType, Rng, Tensor};

    #[test]
    fn behaves_as_a_module() {
        let mut layer = TimeDistributed::new(Linear::new(3, 2, &mut Rng::new(1)).unwrap());
        let expect = Expect {
            input: &[2, 4, 3],
            output: &[2, 4, 2],
            parameters: &[("layer.weight", &[2, 3]), ("layer.bias", &[2])],
            refuses: &[(&[4], "time_distributed: expects [n, t, ..], got [4]; help: give it sequences")],
            ..Expect::default()
        };
        check_module(&mut layer, &expect).unwrap();
    }

    #[test]
    fn the_layer_sees_steps_as_samples() {
        let layer = TimeDistributed::new(func(|x: &Var| Ok(x.flatten(1)?.sum(1, false)?)));
        let x = Tensor::arange(0.0f32, 24.0, 1.0).unwrap().reshape([2, 3, 2, 2]).unwrap();
        let y = layer.forward(&x.into()).unwrap();
        // The sums of four consecutive numbers from 0, 4, 8, …
        assert_eq!(y.value(), &Tensor::from([[6.0f32, 22.0, 38.0], [54.0, 70.0, 86.0]]));
        let layer = TimeDistributed::new(func(|x: &Var| Ok(x.sum(0, false)?)));
        let text = layer.forward(&Tensor::zeros([2, 3, 4], DType::F32).into()).err().unwrap().to_string();
        let help = "help: keep the batch as axis 0";
        assert_eq!(text, format!("time_distributed: 6 steps went into the layer, [4] came out; {help}"));
    }
}
