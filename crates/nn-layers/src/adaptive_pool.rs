//! Pools that are told their output's size: [`AdaptiveAvgPool`], [`AdaptiveMaxPool`], and those that leave one number a
//! channel, [`GlobalAvgPool`] and [`GlobalMaxPool`].

use crate::freeze::{Graph, Value};
use crate::module::Layer;
use crate::plan::{Draft, Plan, batched, expect_spatial};
use crate::step::{Spec, Step};
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{OutputSize, Shape};
use serde::{Deserialize, Serialize};

/// The means of windows that share the input out evenly, as many as the output is to have places.
///
/// Window `i` of `output` sees the places from `⌊i · input / output⌋` up to `⌈(i + 1) · input / output⌉`.
///
/// # Shapes
/// - input `[n, c, sizes..]` with `D` sizes, output `[n, c, sizes′..]` with those that were given
///
/// # Example
/// ```
/// use maplet_autograd::Tensor;
/// use maplet_nn_layers::{AdaptiveAvgPool2d, Module};
///
/// let x = Tensor::from([[[[1.0f32, 2.0, 6.0], [3.0, 4.0, 8.0]]]]);
/// let y = AdaptiveAvgPool2d::new([1, 2])?.forward(&x.clone().into())?;
/// assert_eq!(y.value(), &Tensor::from([[[[2.5f32, 5.0]]]]));
/// let y = AdaptiveAvgPool2d::new([None, Some(1)])?.forward(&x.into())?;
/// assert_eq!(y.value(), &Tensor::from([[[[3.0f32], [5.0]]]]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
#[serde(bound(serialize = "OutputSize<D>: Serialize", deserialize = "OutputSize<D>: Deserialize<'de>"))]
pub struct AdaptiveAvgPool<const D: usize> {
    output_size: OutputSize<D>,
}
fields!([const D: usize] AdaptiveAvgPool<D>: ; output_size);

/// As many means of a sequence as are wanted: [`AdaptiveAvgPool`].
///
/// PyTorch: `nn.AdaptiveAvgPool1d`; Keras: `AdaptiveAveragePooling1D`.
pub type AdaptiveAvgPool1d = AdaptiveAvgPool<1>;
/// As many means of an image as are wanted: [`AdaptiveAvgPool`].
///
/// PyTorch: `nn.AdaptiveAvgPool2d`; Keras: `AdaptiveAveragePooling2D`.
pub type AdaptiveAvgPool2d = AdaptiveAvgPool<2>;
/// As many means of a volume as are wanted: [`AdaptiveAvgPool`].
///
/// PyTorch: `nn.AdaptiveAvgPool3d`; Keras: `AdaptiveAveragePooling3D`.
pub type AdaptiveAvgPool3d = AdaptiveAvgPool<3>;

/// The maxima of windows that share the input out evenly, as [`AdaptiveAvgPool`]'s do.
///
/// # Shapes
/// - input `[n, c, sizes..]` with `D` sizes, output `[n, c, sizes′..]` with those that were given
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
#[serde(bound(serialize = "OutputSize<D>: Serialize", deserialize = "OutputSize<D>: Deserialize<'de>"))]
pub struct AdaptiveMaxPool<const D: usize> {
    output_size: OutputSize<D>,
}
fields!([const D: usize] AdaptiveMaxPool<D>: ; output_size);

/// As many maxima of a sequence as are wanted: [`AdaptiveMaxPool`].
///
/// PyTorch: `nn.AdaptiveMaxPool1d`; Keras: `AdaptiveMaxPooling1D`.
pub type AdaptiveMaxPool1d = AdaptiveMaxPool<1>;
/// As many maxima of an image as are wanted: [`AdaptiveMaxPool`].
///
/// PyTorch: `nn.AdaptiveMaxPool2d`; Keras: `AdaptiveMaxPooling2D`.
pub type AdaptiveMaxPool2d = AdaptiveMaxPool<2>;
/// As many maxima of a volume as are wanted: [`AdaptiveMaxPool`].
///
/// PyTorch: `nn.AdaptiveMaxPool3d`; Keras: `AdaptiveMaxPooling3D`.
pub type AdaptiveMaxPool3d = AdaptiveMaxPool<3>;

const AVG: [&str; 3] = ["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"];
const MAX: [&str; 3] = ["adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"];

impl<const D: usize> AdaptiveAvgPool<D> {
    /// A pool whose output has these sizes; `None` keeps the input's.
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(output_size: impl Into<OutputSize<D>>) -> Result<Self> {
        let output_size = output_size.into();
        output_size.output(AVG[D - 1], [1; D])?;
        Ok(Self { output_size })
    }
}

impl<const D: usize> Module for AdaptiveAvgPool<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.adaptive_avg_pool(self.output_size)?)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        graph.adaptive_avg_pool(x, self.output_size)
    }
}

impl<const D: usize> Spec for AdaptiveAvgPool<D> {
    fn plan(&self, input: &Shape) -> Plan {
        plan("AdaptiveAvgPool", AVG[D - 1], input, self.output_size, self.clone())
    }
}

impl<const D: usize> AdaptiveMaxPool<D> {
    /// A pool whose output has these sizes; `None` keeps the input's.
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(output_size: impl Into<OutputSize<D>>) -> Result<Self> {
        let output_size = output_size.into();
        output_size.output(MAX[D - 1], [1; D])?;
        Ok(Self { output_size })
    }

    /// The output, and the places of the maxima for [`MaxUnpool`](crate::MaxUnpool): PyTorch's `return_indices`.
    ///
    /// # Errors
    /// As [`forward`](Module::forward).
    pub fn forward_with_indices(&self, x: &Var) -> Result<(Var, Var)> {
        Ok(x.adaptive_max_pool_with_indices(self.output_size)?)
    }
}

impl<const D: usize> Module for AdaptiveMaxPool<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.adaptive_max_pool(self.output_size)?)
    }
}

impl<const D: usize> Spec for AdaptiveMaxPool<D> {
    fn plan(&self, input: &Shape) -> Plan {
        plan("AdaptiveMaxPool", MAX[D - 1], input, self.output_size, self.clone())
    }
}

fn plan<const D: usize>(
    name: &str,
    op: &'static str,
    input: &Shape,
    sizes: OutputSize<D>,
    layer: impl Layer + 'static,
) -> Plan {
    let label = sizes.0.map(|size| size.map_or("–".to_string(), |size| size.to_string())).join("×");
    Plan::new(format!("{name}{D}d {label}"), || {
        let (channels, from) = expect_spatial(op, input)?;
        let output = Shape::new(&[&[channels], &sizes.output(op, from)?[..]].concat())?;
        Ok(Draft::new(output, input.elements().max(output.elements()) as u64).fixed(layer))
    })
}

/// The mean of each channel, over any number of spatial axes.
///
/// # Shapes
/// - input `[n, c, sizes..]`, output `[n, c]`, or `[n, c, 1..]` with [`keepdims`](Self::keepdims)
///
/// PyTorch: –; Keras: `GlobalAveragePooling1D`, `GlobalAveragePooling2D`, `GlobalAveragePooling3D`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalAvgPool {
    #[serde(default)]
    keepdims: bool,
}
fields!(GlobalAvgPool: ; keepdims);

/// The maximum of each channel, over any number of spatial axes; equal maxima share the gradient.
///
/// # Shapes
/// - input `[n, c, sizes..]`, output `[n, c]`, or `[n, c, 1..]` with [`keepdims`](Self::keepdims)
///
/// PyTorch: –; Keras: `GlobalMaxPooling1D`, `GlobalMaxPooling2D`, `GlobalMaxPooling3D`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalMaxPool {
    #[serde(default)]
    keepdims: bool,
}
fields!(GlobalMaxPool: ; keepdims);

impl GlobalAvgPool {
    /// A pool whose output has no spatial axes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the spatial axes stay, with size 1.
    pub fn keepdims(self, keepdims: bool) -> Self {
        Self { keepdims }
    }
}

impl Module for GlobalAvgPool {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.mean(spatial_axes("global_avg_pool", &x.shape())?.as_slice(), self.keepdims)?)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        // All spatial axes as one.
        let shape = graph.shape(x);
        let (Some(&channels), true) = (shape.first(), shape.rank() > 1) else { return Ok(None) };
        let flat = Shape::from([channels, shape[1..].iter().product()]);
        let Some(flat) = graph.view(x, flat) else { return Ok(None) };
        let Some(mean) = graph.adaptive_avg_pool(flat, OutputSize([Some(1)]))? else { return Ok(None) };
        let ones = vec![1; if self.keepdims { shape.rank() - 1 } else { 0 }];
        Ok(graph.view(mean, Shape::new(&[&[channels], &ones[..]].concat())?))
    }
}

impl Spec for GlobalAvgPool {
    fn plan(&self, input: &Shape) -> Plan {
        global_plan("GlobalAvgPool", "global_avg_pool", input, self.keepdims, self.clone())
    }
}

impl GlobalMaxPool {
    /// A pool whose output has no spatial axes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the spatial axes stay, with size 1.
    pub fn keepdims(self, keepdims: bool) -> Self {
        Self { keepdims }
    }
}

impl Module for GlobalMaxPool {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.max(spatial_axes("global_max_pool", &x.shape())?.as_slice(), self.keepdims)?)
    }
}

impl Spec for GlobalMaxPool {
    fn plan(&self, input: &Shape) -> Plan {
        global_plan("GlobalMaxPool", "global_max_pool", input, self.keepdims, self.clone())
    }
}

/// All axes behind image and channel, of which there must be one at least, and none without elements.
fn spatial_axes(op: &'static str, x: &Shape) -> Result<Vec<isize>> {
    if x.rank() < 3 || x[2..].contains(&0) {
        let what = format!("expects [n, c, sizes..], got {x}");
        return Err(Error::new(op, what, "it needs a spatial axis, and every spatial size must be 1 or more"));
    }
    Ok((2..x.rank() as isize).collect())
}

fn global_plan(name: &str, op: &'static str, input: &Shape, keepdims: bool, layer: impl Layer + 'static) -> Plan {
    Plan::new(name.into(), || {
        if input.rank() < 2 {
            let what = format!("expects [n, c, sizes..], got {}", batched(input));
            return Err(Error::new(op, what, "it needs a spatial axis"));
        }
        let mut sizes = vec![1; if keepdims { input.rank() } else { 1 }];
        sizes[0] = input[0];
        Ok(Draft::new(Shape::new(&sizes)?, input.elements() as u64).fixed(layer))
    })
}

impl Builder {
    /// [`AdaptiveAvgPool`]: `.adaptive_avg_pool([7, 7])`
    pub fn adaptive_avg_pool<const D: usize>(self, sizes: impl Into<OutputSize<D>>) -> Self
    where
        AdaptiveAvgPool<D>: Into<Step>,
    {
        self.step(AdaptiveAvgPool { output_size: sizes.into() })
    }

    /// [`AdaptiveMaxPool`]: `.adaptive_max_pool([7, 7])`
    pub fn adaptive_max_pool<const D: usize>(self, sizes: impl Into<OutputSize<D>>) -> Self
    where
        AdaptiveMaxPool<D>: Into<Step>,
    {
        self.step(AdaptiveMaxPool { output_size: sizes.into() })
    }

    /// [`GlobalAvgPool`]
    pub fn global_avg_pool(self) -> Self {
        self.step(GlobalAvgPool::new())
    }

    /// [`GlobalMaxPool`]
    pub fn global_max_pool(self) -> Self {
        self.step(GlobalMaxPool::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, SequentialConfig, check_module};
    use maplet_tensor::Tensor;

    #[test]
    fn behave_as_modules() {
        let expect = Expect { input: &[3, 2, 7], output: &[3, 2, 3], ..Expect::default() };
        check_module(&mut AdaptiveAvgPool1d::new(3).unwrap(), &expect).unwrap();
        check_module(&mut AdaptiveMaxPool1d::new(3).unwrap(), &expect).unwrap();
        let expect = Expect { input: &[2, 2, 3, 5], output: &[2, 2, 4, 5], ..expect };
        check_module(&mut AdaptiveAvgPool2d::new([Some(4), None]).unwrap(), &expect).unwrap();
        check_module(&mut AdaptiveMaxPool2d::new([Some(4), None]).unwrap(), &expect).unwrap();
        let expect = Expect { input: &[2, 1, 3, 2, 4], output: &[2, 1, 2, 2, 2], ..expect };
        check_module(&mut AdaptiveAvgPool3d::new(2).unwrap(), &expect).unwrap();
        check_module(&mut AdaptiveMaxPool3d::new(2).unwrap(), &expect).unwrap();
        let expect = Expect { output: &[2, 1], ..expect };
        check_module(&mut GlobalAvgPool::new(), &expect).unwrap();
        check_module(&mut GlobalMaxPool::new(), &expect).unwrap();
        let expect = Expect { output: &[2, 1, 1, 1, 1], ..expect };
        check_module(&mut GlobalAvgPool::new().keepdims(true), &expect).unwrap();
        check_module(&mut GlobalMaxPool::new().keepdims(true), &expect).unwrap();
    }

    #[test]
    fn global_pools_leave_one_number_a_channel() {
        let x = Tensor::from([[[1.0f32, 2.0, 6.0], [4.0, 5.0, 3.0]]]);
        let global = |layer: &dyn Module| layer.forward(&x.clone().into()).unwrap().into_value();
        assert_eq!(global(&GlobalAvgPool::new()), Tensor::from([[3.0f32, 4.0]]));
        assert_eq!(global(&GlobalMaxPool::new().keepdims(true)), Tensor::from([[[6.0f32], [5.0]]]));
    }

    #[test]
    fn are_steps() {
        let model = Sequential::input([2, 9, 8]).adaptive_avg_pool([None, Some(4)]).adaptive_max_pool([3, 3]);
        let model = model.global_max_pool().build(1).unwrap();
        let rows: Vec<_> = model.rows().iter().map(|row| format!("{} {}", row.label, row.output)).collect();
        let expected = ["AdaptiveAvgPool2d –×4 [2, 9, 4]", "AdaptiveMaxPool2d 3×3 [2, 3, 3]", "GlobalMaxPool [2]"];
        assert_eq!(rows, expected);
        let json = serde_json::to_string(&model.config()).unwrap();
        assert_eq!(serde_json::from_str::<SequentialConfig>(&json).unwrap(), model.config());
        assert_eq!(Sequential::input([2, 3, 4]).global_avg_pool().build(1).unwrap().rows()[0].output, Shape::from([2]));
    }

    #[test]
    fn misfits_are_explained() {
        let text = AdaptiveAvgPool2d::new([1, 0]).err().unwrap().to_string();
        assert_eq!(text, "adaptive_avg_pool2d: the output's width is 0; help: use 1 or more");
        let text = Sequential::input([4]).global_avg_pool().build(1).err().unwrap().to_string();
        let expected = "layer 0 (GlobalAvgPool): global_avg_pool: expects [n, c, sizes..], got [n, 4]; \
                        help: it needs a spatial axis";
        assert_eq!(text, expected);
        let x = Var::from(Tensor::zeros([2, 3, 0], maplet_tensor::DType::F32));
        let expected = "global_max_pool: expects [n, c, sizes..], got [2, 3, 0]; \
                        help: it needs a spatial axis, and every spatial size must be 1 or more";
        assert_eq!(GlobalMaxPool::new().forward(&x).unwrap_err().to_string(), expected);
        let expected = "adaptive_max_pool1d: input [2, 3, 0] has no length; help: every spatial size must be 1 or more";
        assert_eq!(AdaptiveMaxPool1d::new(1).unwrap().forward(&x).unwrap_err().to_string(), expected);
    }
}
