//! [`FractionalMaxPool`]: images made smaller by less than a half.

use crate::plan::{Draft, Plan, expect_spatial, sizes_label};
use crate::step::{Spec, Step};
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{Resize, Shape, Sizes};
use serde::{Deserialize, Serialize};

/// The maxima of windows that begin irregularly, so that the output has any wanted size.
///
/// In training the places are drawn anew for each channel, which regularizes; outside they are as even as can be
/// (PyTorch draws there as well).
///
/// # Shapes
/// - input `[n, c, sizes..]` with `D` sizes, output `[n, c, sizes′..]`, which are given, or `⌊size · ratio⌋`
///
/// # Reference
/// Graham (2014), "Fractional Max-Pooling", §2.
///
/// # Example
/// ```
/// use maplet_autograd::Tensor;
/// use maplet_nn_layers::{FractionalMaxPool2d, Module};
/// use maplet_tensor::DType;
///
/// let layer = FractionalMaxPool2d::new(2, 0.7)?;
/// assert_eq!(layer.forward(&Tensor::zeros([1, 3, 10, 20], DType::F32).into())?.shape(), [1, 3, 7, 14].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound(
    serialize = "[usize; D]: Serialize, Resize<D>: Serialize",
    deserialize = "[usize; D]: Deserialize<'de>, Resize<D>: Deserialize<'de>"
))]
pub struct FractionalMaxPool<const D: usize> {
    kernel: [usize; D],
    to: Resize<D>,
}
fields!([const D: usize] FractionalMaxPool<D>: ; kernel, to);

/// Maxima of an image in irregular windows: [`FractionalMaxPool`].
///
/// PyTorch: `nn.FractionalMaxPool2d`; Keras: –.
pub type FractionalMaxPool2d = FractionalMaxPool<2>;
/// Maxima of a volume in irregular windows: [`FractionalMaxPool`].
///
/// PyTorch: `nn.FractionalMaxPool3d`; Keras: –.
pub type FractionalMaxPool3d = FractionalMaxPool<3>;

const OP: [&str; 3] = ["fractional_max_pool1d", "fractional_max_pool2d", "fractional_max_pool3d"];

impl<const D: usize> FractionalMaxPool<D> {
    /// A pool of windows of `kernel`; `to` are the output's sizes, `[7, 7]`, or their ratios to the input's, `0.7`.
    ///
    /// # Errors
    /// A kernel or size of 0, or a ratio that is not between 0 and 1.
    pub fn new(kernel: impl Into<Sizes<D>>, to: impl Into<Resize<D>>) -> Result<Self> {
        let layer = Self { kernel: kernel.into().0, to: to.into() };
        layer.check()?;
        Ok(layer)
    }

    fn check(&self) -> Result<()> {
        let op = OP[D - 1];
        self.to.check(op)?;
        if self.kernel.contains(&0) {
            return Err(Error::new(op, format!("kernel is {:?}", self.kernel), "use 1 or more"));
        }
        match self.to {
            Resize::Scale(ratios) if ratios.iter().any(|&ratio| ratio >= 1.0) => {
                Err(Error::new(op, format!("output ratio is {ratios:?}"), "use numbers between 0 and 1"))
            }
            _ => Ok(()),
        }
    }

    /// The output, and the places of the maxima for [`MaxUnpool`](crate::MaxUnpool): PyTorch's `return_indices`.
    ///
    /// # Errors
    /// As [`forward`](Module::forward).
    pub fn forward_with_indices(&self, x: &Var) -> Result<(Var, Var)> {
        Ok(x.fractional_max_pool_with_indices(self.kernel, self.to, None)?)
    }
}

impl<const D: usize> Module for FractionalMaxPool<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.fractional_max_pool(self.kernel, self.to)?)
    }
}

impl<const D: usize> Spec for FractionalMaxPool<D> {
    fn plan(&self, input: &Shape) -> Plan {
        let to = match self.to {
            Resize::Size(sizes) => format!("to {}", sizes_label(&sizes)),
            Resize::Scale(ratios) => format!("by {}", ratios.map(|ratio| ratio.to_string()).join("×")),
        };
        Plan::new(format!("FractionalMaxPool{D}d {}, {to}", sizes_label(&self.kernel)), || {
            let op = OP[D - 1];
            self.check()?;
            let (channels, from) = expect_spatial(op, input)?;
            let sizes = self.to.output(op, from)?;
            if let Some(side) = (0..D).find(|&side| sizes[side].saturating_add(self.kernel[side] - 1) > from[side]) {
                let what = format!("{} windows of {} do not fit in {}", sizes[side], self.kernel[side], from[side]);
                return Err(Error::new(op, what, "kernel + output - 1 may be at most the input's size"));
            }
            let output = Shape::new(&[&[channels], &sizes[..]].concat())?;
            let flops = (output.elements() as u64).saturating_mul(self.kernel.iter().product::<usize>() as u64);
            Ok(Draft::new(output, flops).fixed(self.clone()))
        })
    }
}

impl Builder {
    /// [`FractionalMaxPool`]: `.fractional_max_pool([2, 2], [0.7, 0.7])`
    pub fn fractional_max_pool<const D: usize>(self, kernel: [usize; D], to: impl Into<Resize<D>>) -> Self
    where
        FractionalMaxPool<D>: Into<Step>,
    {
        self.step(FractionalMaxPool { kernel, to: to.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, SequentialConfig, check_module};
    use maplet_autograd::Pass;
    use maplet_tensor::{Rng, Tensor};

    #[test]
    fn behave_as_modules() {
        let expect = Expect { input: &[2, 2, 6, 5], output: &[2, 2, 4, 3], ..Expect::default() };
        check_module(&mut FractionalMaxPool2d::new(2, [4, 3]).unwrap(), &expect).unwrap();
        let expect = Expect { input: &[2, 1, 4, 3, 5], output: &[2, 1, 2, 2, 3], ..expect };
        check_module(&mut FractionalMaxPool3d::new([2, 1, 2], [0.6, 0.7, 0.7]).unwrap(), &expect).unwrap();
    }

    #[test]
    fn training_draws_other_windows_for_each_channel() {
        let x = Tensor::uniform([1, 1, 20, 20], -1.0f32, 1.0, &mut Rng::new(1));
        let x = x.broadcast_to([1, 8, 20, 20]).unwrap();
        let layer = FractionalMaxPool2d::new(2, 0.7).unwrap();
        let channels = |x: &Var| layer.forward(x).unwrap().value().split(1, 1).unwrap();
        let drawn = channels(&Pass::train(1).input(&x));
        assert!(drawn[1..].iter().any(|channel| channel != &drawn[0]));
        let even = channels(&x.into());
        assert!(even[1..].iter().all(|channel| channel == &even[0]));
    }

    #[test]
    fn are_steps() {
        let model = Sequential::input([2, 9, 8]).fractional_max_pool([2, 3], [0.7, 0.5]).build(1).unwrap();
        let row = &model.rows()[0];
        let found = (row.label.as_str(), row.output);
        assert_eq!(found, ("FractionalMaxPool2d 2×3, by 0.7×0.5", Shape::from([2, 6, 4])));
        let json = serde_json::to_string(&model.config()).unwrap();
        assert_eq!(serde_json::from_str::<SequentialConfig>(&json).unwrap(), model.config());
        let huge = Sequential::input([2, 4, 4]).fractional_max_pool([usize::MAX, 1], [usize::MAX, 3]).build(1);
        assert!(huge.err().unwrap().to_string().ends_with("kernel + output - 1 may be at most the input's size"));
        let text = Sequential::input([2, 4, 4]).fractional_max_pool([2, 2], [4, 3]).build(1).err().unwrap().to_string();
        let expected = "layer 0 (FractionalMaxPool2d 2×2, to 4×3): fractional_max_pool2d: 4 windows of 2 do not fit in 4; \
                        help: kernel + output - 1 may be at most the input's size";
        assert_eq!(text, expected);
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let text = FractionalMaxPool2d::new([2, 0], [3, 3]).err().unwrap().to_string();
        assert_eq!(text, "fractional_max_pool2d: kernel is [2, 0]; help: use 1 or more");
        let text = FractionalMaxPool3d::new(2, 1.0).err().unwrap().to_string();
        let expected = "fractional_max_pool3d: output ratio is [1.0, 1.0, 1.0]; help: use numbers between 0 and 1";
        assert_eq!(text, expected);
    }
}
