//! [`MaxPool`], [`AvgPool`] and [`LpPool`]: sequences, images and volumes made smaller, window by window.

use crate::freeze::{Graph, Value};
use crate::fusion::Part;
use crate::module::Layer;
use crate::plan::{Draft, Plan, expect_spatial, window_label};
use crate::step::{Spec, Step};
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{Pool, Shape, Sizes, Window1d, Window2d, Window3d};
use serde::{Deserialize, Serialize};
use std::any::Any;

/// The largest value of each window; padding counts as −∞.
///
/// # Shapes
/// - input `[n, c, sizes..]` with `D` sizes, output `[n, c, sizes′..]` with those of [`Pool::output`]
///
/// # Example
/// ```
/// use maplet_autograd::Tensor;
/// use maplet_nn_layers::{MaxPool2d, Module};
/// use maplet_tensor::{Pool, Window2d};
///
/// let x = Tensor::from([[[[1.0f32, 2.0, 5.0], [4.0, 3.0, 6.0]]]]);
/// let y = MaxPool2d::new(Window2d::pool(2))?.forward(&x.clone().into())?;
/// assert_eq!(y.value(), &Tensor::from([[[[4.0f32]]]]));
/// let whole = MaxPool2d::new(Pool::from(Window2d::pool(2)).ceil_mode(true))?;
/// assert_eq!(whole.forward(&x.into())?.value(), &Tensor::from([[[[4.0f32, 6.0]]]]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
#[serde(bound(serialize = "[usize; D]: Serialize", deserialize = "[usize; D]: Deserialize<'de>"))]
pub struct MaxPool<const D: usize> {
    pool: Pool<D>,
}
fields!([const D: usize] MaxPool<D>: ; pool);

/// The largest value of each window of a sequence: [`MaxPool`].
///
/// PyTorch: `nn.MaxPool1d`; Keras: `MaxPooling1D`.
pub type MaxPool1d = MaxPool<1>;
/// The largest value of each window of an image: [`MaxPool`].
///
/// PyTorch: `nn.MaxPool2d`; Keras: `MaxPooling2D`.
pub type MaxPool2d = MaxPool<2>;
/// The largest value of each window of a volume: [`MaxPool`].
///
/// PyTorch: `nn.MaxPool3d`; Keras: `MaxPooling3D`.
pub type MaxPool3d = MaxPool<3>;

/// The mean of each window; padding counts as zeros, and is counted unless the [`Pool`] says otherwise.
///
/// # Shapes
/// - input `[n, c, sizes..]` with `D` sizes, output `[n, c, sizes′..]` with those of [`Pool::output`]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
#[serde(bound(serialize = "[usize; D]: Serialize", deserialize = "[usize; D]: Deserialize<'de>"))]
pub struct AvgPool<const D: usize> {
    pool: Pool<D>,
}
fields!([const D: usize] AvgPool<D>: ; pool);

/// The mean of each window of a sequence: [`AvgPool`].
///
/// PyTorch: `nn.AvgPool1d`; Keras: `AveragePooling1D`.
pub type AvgPool1d = AvgPool<1>;
/// The mean of each window of an image: [`AvgPool`].
///
/// PyTorch: `nn.AvgPool2d`; Keras: `AveragePooling2D`.
pub type AvgPool2d = AvgPool<2>;
/// The mean of each window of a volume: [`AvgPool`].
///
/// PyTorch: `nn.AvgPool3d`; Keras: `AveragePooling3D`.
pub type AvgPool3d = AvgPool<3>;

/// The norm of each window, `(Σ xᵖ)^(1/p)` with `p = norm_type`: the sum for 1, and nearer to the maximum the larger.
///
/// # Shapes
/// - input `[n, c, sizes..]` with `D` sizes, output `[n, c, sizes′..]` with those of [`Pool::output`]
///
/// # Numerics
/// As in PyTorch no absolute value is taken, so that for an odd `p` a window with a negative sum gives NaN; where the
/// sum is 0 the gradient is 0; a window that `ceil_mode` cuts short counts as if it were whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound(serialize = "[usize; D]: Serialize", deserialize = "[usize; D]: Deserialize<'de>"))]
pub struct LpPool<const D: usize> {
    norm_type: f64,
    pool: Pool<D>,
}
fields!([const D: usize] LpPool<D>: ; norm_type, pool);

/// The norm of each window of a sequence: [`LpPool`].
///
/// PyTorch: `nn.LPPool1d`; Keras: –.
pub type LpPool1d = LpPool<1>;
/// The norm of each window of an image: [`LpPool`].
///
/// PyTorch: `nn.LPPool2d`; Keras: –.
pub type LpPool2d = LpPool<2>;
/// The norm of each window of a volume: [`LpPool`].
///
/// PyTorch: `nn.LPPool3d`; Keras: –.
pub type LpPool3d = LpPool<3>;

const MAX_POOL: [&str; 3] = ["max_pool1d", "max_pool2d", "max_pool3d"];
const AVG_POOL: [&str; 3] = ["avg_pool1d", "avg_pool2d", "avg_pool3d"];
const LP_POOL: [&str; 3] = ["lp_pool1d", "lp_pool2d", "lp_pool3d"];

impl<const D: usize> MaxPool<D> {
    /// A pool over windows: [`Window::pool`](maplet_tensor::Window::pool) makes one whose stride is its kernel,
    /// [`Pool`] has the options.
    ///
    /// # Errors
    /// A zero in the window, groups, or padding of more than half the window.
    pub fn new(pool: impl Into<Pool<D>>) -> Result<Self> {
        let pool = pool.into();
        pool.check(MAX_POOL[D - 1])?;
        Ok(Self { pool })
    }

    /// The window and the options.
    pub fn pool(&self) -> Pool<D> {
        self.pool
    }

    /// The output, and the places of the maxima for [`MaxUnpool`](crate::MaxUnpool): PyTorch's `return_indices`.
    ///
    /// # Errors
    /// As [`forward`](Module::forward).
    pub fn forward_with_indices(&self, x: &Var) -> Result<(Var, Var)> {
        Ok(x.max_pool_with_indices(self.pool)?)
    }
}

impl<const D: usize> Module for MaxPool<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.max_pool(self.pool)?)
    }

    fn part(&self) -> Part<'_> {
        (self as &dyn Any).downcast_ref().map_or(Part::Other, Part::MaxPool2d)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        graph.max_pool(x, self.pool)
    }
}

impl<const D: usize> Spec for MaxPool<D> {
    fn plan(&self, input: &Shape) -> Plan {
        plan(format!("MaxPool{D}d"), MAX_POOL[D - 1], input, self.pool, self.clone())
    }
}

impl<const D: usize> AvgPool<D> {
    /// A pool over windows: [`Window::pool`](maplet_tensor::Window::pool) makes one whose stride is its kernel,
    /// [`Pool`] has the options.
    ///
    /// # Errors
    /// A zero in the window, groups, padding of more than half the window, or a divisor of 0.
    pub fn new(pool: impl Into<Pool<D>>) -> Result<Self> {
        let pool = pool.into();
        pool.check(AVG_POOL[D - 1])?;
        Ok(Self { pool })
    }

    /// The window and the options.
    pub fn pool(&self) -> Pool<D> {
        self.pool
    }
}

impl<const D: usize> Module for AvgPool<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.avg_pool(self.pool)?)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        graph.avg_pool(x, self.pool)
    }
}

impl<const D: usize> Spec for AvgPool<D> {
    fn plan(&self, input: &Shape) -> Plan {
        plan(format!("AvgPool{D}d"), AVG_POOL[D - 1], input, self.pool, self.clone())
    }
}

impl<const D: usize> LpPool<D> {
    /// A pool of `norm_type` over windows.
    ///
    /// # Errors
    /// A `norm_type` that is not a positive number, and as [`AvgPool::new`].
    pub fn new(norm_type: f64, pool: impl Into<Pool<D>>) -> Result<Self> {
        let layer = Self { norm_type, pool: pool.into() };
        layer.check()?;
        Ok(layer)
    }

    fn check(&self) -> Result<()> {
        let op = LP_POOL[D - 1];
        self.pool.check(op)?;
        if self.norm_type > 0.0 && self.norm_type.is_finite() {
            return Ok(());
        }
        Err(Error::new(op, format!("norm_type is {}", self.norm_type), "use a positive number, or a max-pool for ∞"))
    }
}

impl<const D: usize> Module for LpPool<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.lp_pool(self.norm_type, self.pool)?)
    }
}

impl<const D: usize> Spec for LpPool<D> {
    fn plan(&self, input: &Shape) -> Plan {
        let mut plan =
            plan(format!("LpPool{D}d norm {},", self.norm_type), LP_POOL[D - 1], input, self.pool, self.clone());
        plan.body = self.check().and(plan.body);
        plan
    }
}

fn plan<const D: usize>(
    name: String,
    op: &'static str,
    input: &Shape,
    pool: Pool<D>,
    layer: impl Layer + 'static,
) -> Plan {
    let Pool { window, ceil_mode, .. } = pool;
    let rounded = if ceil_mode { ", ceil mode" } else { "" };
    Plan::new(format!("{name} {}{rounded}", window_label(&window, window.kernel)), || {
        pool.check(op)?;
        let (channels, sizes) = expect_spatial(op, input)?;
        let output = Shape::new(&[&[channels], &pool.output(op, sizes)?[..]].concat())?;
        let flops = (output.elements() as u64).saturating_mul(window.kernel.iter().product::<usize>() as u64);
        Ok(Draft::new(output, flops).fixed(layer))
    })
}

/// Pools. Those called after their kernel have windows that do not overlap; the others take any
/// [`Window`](maplet_tensor::Window) or [`Pool`].
impl Builder {
    /// [`MaxPool1d`]
    pub fn max_pool1d(self, kernel: impl Into<Sizes<1>>) -> Self {
        self.max_pool(Window1d::pool(kernel))
    }

    /// [`MaxPool2d`]
    pub fn max_pool2d(self, kernel: impl Into<Sizes<2>>) -> Self {
        self.max_pool(Window2d::pool(kernel))
    }

    /// [`MaxPool3d`]
    pub fn max_pool3d(self, kernel: impl Into<Sizes<3>>) -> Self {
        self.max_pool(Window3d::pool(kernel))
    }

    /// [`MaxPool`]
    pub fn max_pool<const D: usize>(self, pool: impl Into<Pool<D>>) -> Self
    where
        MaxPool<D>: Into<Step>,
    {
        self.step(MaxPool { pool: pool.into() })
    }

    /// [`AvgPool1d`]
    pub fn avg_pool1d(self, kernel: impl Into<Sizes<1>>) -> Self {
        self.avg_pool(Window1d::pool(kernel))
    }

    /// [`AvgPool2d`]
    pub fn avg_pool2d(self, kernel: impl Into<Sizes<2>>) -> Self {
        self.avg_pool(Window2d::pool(kernel))
    }

    /// [`AvgPool3d`]
    pub fn avg_pool3d(self, kernel: impl Into<Sizes<3>>) -> Self {
        self.avg_pool(Window3d::pool(kernel))
    }

    /// [`AvgPool`]
    pub fn avg_pool<const D: usize>(self, pool: impl Into<Pool<D>>) -> Self
    where
        AvgPool<D>: Into<Step>,
    {
        self.step(AvgPool { pool: pool.into() })
    }

    /// [`LpPool`]
    pub fn lp_pool<const D: usize>(self, norm_type: f64, pool: impl Into<Pool<D>>) -> Self
    where
        LpPool<D>: Into<Step>,
    {
        self.step(LpPool { norm_type, pool: pool.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, check_module};
    use maplet_tensor::Tensor;

    #[test]
    fn behave_as_modules() {
        let axes = "input [3, 7, 6] has 3 axes; help: it must be [n, channels, height, width]";
        let (max, avg) = (format!("max_pool2d: {axes}"), format!("avg_pool2d: {axes}"));
        let expect = Expect { input: &[3, 2, 7, 6], output: &[3, 2, 3, 3], ..Expect::default() };
        let window = Window2d::pool(2);
        let refuses = &[(&[3, 7, 6][..], max.as_str())];
        check_module(&mut MaxPool2d::new(window).unwrap(), &Expect { refuses, ..expect }).unwrap();
        let refuses = &[(&[3, 7, 6][..], avg.as_str())];
        check_module(&mut AvgPool2d::new(window).unwrap(), &Expect { refuses, ..expect }).unwrap();
        check_module(&mut LpPool2d::new(2.0, window).unwrap(), &Expect { refuses, ..expect }).unwrap();

        let expect = Expect { input: &[2, 1, 7], output: &[2, 1, 4], ..expect };
        let pool = Pool::from(Window1d::new(3).stride(2).padding(1)).count_include_pad(false);
        check_module(&mut MaxPool1d::new(pool).unwrap(), &expect).unwrap();
        check_module(&mut AvgPool1d::new(pool).unwrap(), &expect).unwrap();
        check_module(&mut LpPool1d::new(2.0, Pool::from(Window1d::pool(2)).ceil_mode(true)).unwrap(), &expect).unwrap();

        let expect = Expect { input: &[2, 1, 3, 4, 5], output: &[2, 1, 2, 2, 3], ..expect };
        let pool = Pool::from(Window3d::pool(2)).ceil_mode(true);
        check_module(&mut MaxPool3d::new(pool).unwrap(), &expect).unwrap();
        check_module(&mut AvgPool3d::new(pool.divisor_override(3)).unwrap(), &expect).unwrap();
        check_module(&mut LpPool3d::new(4.0, pool).unwrap(), &expect).unwrap();
    }

    #[test]
    fn the_norm_of_each_window() {
        let x = Tensor::from([[[3.0f32, 4.0, -5.0, 12.0, 0.0, 0.0]]]);
        let y = LpPool1d::new(2.0, Window1d::pool(2)).unwrap().forward(&x.into()).unwrap();
        assert_eq!(y.value(), &Tensor::from([[[5.0f32, 13.0, 0.0]]]));
    }

    #[test]
    fn are_steps() {
        let pool = Pool::from(Window1d::pool(2)).ceil_mode(true);
        let model = Sequential::input([2, 21]).max_pool1d(2).avg_pool(pool).lp_pool(2.0, Window1d::new(2)).build(1);
        let model = model.unwrap();
        let labels: Vec<_> = model.rows().iter().map(|row| row.label.as_str()).collect();
        assert_eq!(labels, ["MaxPool1d 2", "AvgPool1d 2, ceil mode", "LpPool1d norm 2, 2, stride 1"]);
        assert_eq!(model.rows()[2].output, Shape::from([2, 4]));
        let x = Var::from(Tensor::zeros([1, 2, 21], maplet_tensor::DType::F32));
        assert_eq!(model.forward(&x).unwrap().shape(), Shape::from([1, 2, 4]));
        let json = serde_json::to_string(&model.config()).unwrap();
        assert_eq!(serde_json::from_str::<crate::SequentialConfig>(&json).unwrap(), model.config());
        let volume = Sequential::input([2, 4, 4, 4]).max_pool3d(2).avg_pool3d([2, 1, 1]).build(1).unwrap();
        assert_eq!(volume.rows()[1].output, Shape::from([2, 1, 2, 2]));
        let wide = Window3d::new(1 << 20).padding(1 << 19);
        let counted = Sequential::input([8, 1, 1, 1]).max_pool(wide).max_pool3d(1).build(1).unwrap();
        assert!(counted.to_string().contains("18,446,744,073,709,551,615 FLOPs"));
        let text = Sequential::input([2, 4]).lp_pool(f64::NAN, Window1d::pool(2)).build(1).err().unwrap().to_string();
        let expected = "layer 0 (LpPool1d norm NaN, 2): lp_pool1d: norm_type is NaN; \
                        help: use a positive number, or a max-pool for ∞";
        assert_eq!(text, expected);
    }

    #[test]
    fn refuse_windows_that_cannot_be() {
        let text = MaxPool2d::new(Window2d::pool(2).padding([1, 2])).err().unwrap().to_string();
        let expected = "max_pool2d: padding 2 is more than half of the window, which spans 2 in width; \
                        help: a window must not lie in the padding alone";
        assert_eq!(text, expected);
        let text = AvgPool1d::new(Window1d::pool(2).groups(2)).err().unwrap().to_string();
        assert_eq!(text, "avg_pool1d: groups is 2; help: a pool has one group");
        let text = AvgPool3d::new(Window3d::pool(0)).err().unwrap().to_string();
        assert_eq!(text, "avg_pool3d: kernel is 0; help: use 1 to 1048576");
        let text = LpPool2d::new(0.0, Window2d::pool(2)).err().unwrap().to_string();
        assert_eq!(text, "lp_pool2d: norm_type is 0; help: use a positive number, or a max-pool for ∞");
    }
}
