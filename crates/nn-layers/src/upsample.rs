//! [`Upsample`]: sequences, images and volumes of another size.

use crate::plan::{Draft, Plan, expect_spatial};
use crate::step::{Spec, Step};
use crate::{Builder, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{Interpolation, Resize, Shape};
use serde::{Deserialize, Serialize};

/// Interpolates to given sizes, `[32, 32]`, or by factors, `2.0` or `[2.0, 1.5]`; smaller ones as well.
///
/// # Shapes
/// - input `[n, c, sizes..]` with `D` sizes, output `[n, c, sizes′..]`, where `size′ = ⌊size · factor⌋`
///
/// # Numerics
/// Values and places are PyTorch's, whose `mode` names one of [`Interpolation`]'s. Factors are used to find the points
/// between the places, as there unless `recompute_scale_factor` is set. Any mode works over any number of axes.
///
/// # Example
/// ```
/// use maplet_autograd::Tensor;
/// use maplet_nn_layers::{Module, Upsample2d};
/// use maplet_tensor::Interpolation;
///
/// let x = Tensor::from([[[[1.0f32, 2.0], [3.0, 4.0]]]]);
/// let wider = Upsample2d::new([2, 4], Interpolation::Nearest)?.forward(&x.clone().into())?;
/// assert_eq!(wider.value(), &Tensor::from([[[[1.0f32, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0]]]]));
/// let finer = Upsample2d::new(1.5, Interpolation::Linear)?.align_corners(true).forward(&x.into())?;
/// assert_eq!(finer.value(), &Tensor::from([[[[1.0f32, 1.5, 2.0], [2.0, 2.5, 3.0], [3.0, 3.5, 4.0]]]]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound(serialize = "Resize<D>: Serialize", deserialize = "Resize<D>: Deserialize<'de>"))]
pub struct Upsample<const D: usize> {
    to: Resize<D>,
    mode: Interpolation,
    #[serde(default)]
    align_corners: bool,
}
fields!([const D: usize] Upsample<D>: ; to, mode, align_corners);

/// A sequence interpolated to another size: [`Upsample`].
///
/// PyTorch: `nn.Upsample`; Keras: `UpSampling1D`.
pub type Upsample1d = Upsample<1>;
/// An image interpolated to another size: [`Upsample`]. PyTorch's older `nn.UpsamplingNearest2d` is the mode `Nearest`,
/// `nn.UpsamplingBilinear2d` the mode `Linear` with `align_corners`.
///
/// PyTorch: `nn.Upsample`; Keras: `UpSampling2D`.
#[doc(alias("UpsamplingNearest2d", "UpsamplingBilinear2d", "Resizing"))]
pub type Upsample2d = Upsample<2>;
/// A volume interpolated to another size: [`Upsample`].
///
/// PyTorch: `nn.Upsample`; Keras: `UpSampling3D`.
pub type Upsample3d = Upsample<3>;

impl<const D: usize> Upsample<D> {
    /// A layer that interpolates to these sizes, or by these factors.
    ///
    /// # Errors
    /// A size of 0, or a factor that is not a positive number.
    pub fn new(to: impl Into<Resize<D>>, mode: Interpolation) -> Result<Self> {
        let to = to.into();
        to.check("upsample")?;
        Ok(Self { to, mode, align_corners: false })
    }

    /// Sets whether the first and the last places of both grids fall together, rather than their borders.
    pub fn align_corners(mut self, on: bool) -> Self {
        self.align_corners = on;
        self
    }
}

impl<const D: usize> Module for Upsample<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.interpolate(self.to, self.mode, self.align_corners)?)
    }
}

impl<const D: usize> Spec for Upsample<D> {
    fn plan(&self, input: &Shape) -> Plan {
        let join = |sizes: [String; D]| sizes.join("×");
        let to = match self.to {
            Resize::Size(sizes) => format!("to {}", join(sizes.map(|size| size.to_string()))),
            Resize::Scale(factors) => format!("by {}", join(factors.map(|factor| factor.to_string()))),
        };
        let corners = if self.align_corners { ", align corners" } else { "" };
        Plan::new(format!("Upsample{D}d {to}, {}{corners}", self.mode), || {
            self.mode.check("upsample", self.align_corners)?;
            let (channels, from) = expect_spatial("upsample", input)?;
            let output = Shape::new(&[&[channels], &self.to.output("upsample", from)?[..]].concat())?;
            let flops = (output.elements() as u64).saturating_mul(flops(self.mode) * D as u64);
            Ok(Draft::new(output, flops).fixed(self.clone()))
        })
    }
}

/// A multiplication and an addition for each place that is looked at, along one axis.
fn flops(mode: Interpolation) -> u64 {
    match mode {
        Interpolation::Linear => 4,
        Interpolation::Cubic => 8,
        _ => 0,
    }
}

impl Builder {
    /// [`Upsample`]: `.upsample([2.0, 2.0], Interpolation::Nearest)`
    pub fn upsample<const D: usize>(self, to: impl Into<Resize<D>>, mode: Interpolation) -> Self
    where
        Upsample<D>: Into<Step>,
    {
        self.step(Upsample { to: to.into(), mode, align_corners: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, SequentialConfig, check_module};
    use maplet_tensor::{DType, Tensor};

    #[test]
    fn behave_as_modules() {
        let refuses: &[(&[usize], &str)] =
            &[(&[2, 3, 5], "interpolate2d: input [2, 3, 5] has 3 axes; help: it must be [n, channels, height, width]")];
        let expect = Expect { input: &[2, 2, 3, 4], output: &[2, 2, 6, 8], refuses, ..Expect::default() };
        for mode in [Interpolation::Nearest, Interpolation::NearestExact, Interpolation::Area] {
            check_module(&mut Upsample2d::new(2.0, mode).unwrap(), &expect).unwrap();
        }
        let expect = Expect { output: &[2, 2, 5, 3], ..expect };
        for (mode, corners) in [Interpolation::Linear, Interpolation::Cubic].into_iter().zip([true, false]) {
            check_module(&mut Upsample2d::new([5, 3], mode).unwrap().align_corners(corners), &expect).unwrap();
        }
        let expect = Expect { input: &[2, 1, 4], output: &[2, 1, 6], refuses: &[], ..expect };
        check_module(&mut Upsample1d::new(1.5, Interpolation::Linear).unwrap(), &expect).unwrap();
        let expect = Expect { input: &[2, 1, 2, 1, 2], output: &[2, 1, 3, 2, 4], ..expect };
        check_module(&mut Upsample3d::new([3, 2, 4], Interpolation::Linear).unwrap(), &expect).unwrap();
    }

    #[test]
    fn are_steps() {
        let model = Sequential::input([2, 9, 8]).upsample([2.0, 0.5], Interpolation::Linear);
        let model = model.upsample([4, 4], Interpolation::NearestExact).build(1).unwrap();
        let rows: Vec<_> = model.rows().iter().map(|row| format!("{} {}", row.label, row.output)).collect();
        assert_eq!(rows, ["Upsample2d by 2×0.5, linear [2, 18, 4]", "Upsample2d to 4×4, nearest-exact [2, 4, 4]"]);
        let json = serde_json::to_string(&model.config()).unwrap();
        assert_eq!(serde_json::from_str::<SequentialConfig>(&json).unwrap(), model.config());
    }

    #[test]
    fn misfits_are_explained() {
        let text = Upsample2d::new([4, 0], Interpolation::Nearest).err().unwrap().to_string();
        assert_eq!(text, "upsample: the output's width is 0; help: use a larger size or factor");
        let text = Upsample1d::new(-2.0, Interpolation::Nearest).err().unwrap().to_string();
        assert_eq!(text, "upsample: the scale factor is [-2.0]; help: use positive numbers");
        let layer = Upsample1d::new(2.0, Interpolation::Nearest).unwrap().align_corners(true);
        let text = layer.forward(&Tensor::zeros([1, 1, 2], DType::F32).into()).err().unwrap().to_string();
        let expected = "interpolate: align_corners means nothing for nearest interpolation; \
                        help: use it with linear or cubic, or leave it out";
        assert_eq!(text, expected);
    }
}
