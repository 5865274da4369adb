//! [`MaxPool2d`] and [`AvgPool2d`]: images made smaller.

use crate::fusion::Part;
use crate::plan::{Draft, Plan, expect_spatial, window_label};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{Shape, Sizes, Window2d};
use serde::{Deserialize, Serialize};

/// The largest value of each window.
///
/// # Shapes
/// - input `[n, c, h, w]`, output `[n, c, h′, w′]` with [`Window2d::output`]'s `h′, w′`; padding counts as −∞
///
/// ```
/// use maplet_autograd::Tensor;
/// use maplet_nn_layers::{MaxPool2d, Module};
/// use maplet_tensor::Window2d;
///
/// let x = Tensor::from([[[[1.0f32, 2.0], [4.0, 3.0]]]]);
/// let y = MaxPool2d::new(Window2d::pool(2))?.forward(&x.into())?;
/// assert_eq!(y.value(), &Tensor::from([[[[4.0f32]]]]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool2d {
    window: Window2d,
}
fields!(MaxPool2d: ; window);

/// The mean of each window.
///
/// # Shapes
/// - input `[n, c, h, w]`, output `[n, c, h′, w′]` with [`Window2d::output`]'s `h′, w′`; padding counts as zeros, and
///   is counted (PyTorch's `count_include_pad=True`)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool2d {
    window: Window2d,
}
fields!(AvgPool2d: ; window);

impl MaxPool2d {
    /// A pool over windows; [`Window2d::pool`] makes one whose stride is its kernel.
    ///
    /// # Errors
    /// A zero in the window, groups, or padding beyond half the kernel.
    pub fn new(window: Window2d) -> Result<Self> {
        check("max_pool2d", window)?;
        Ok(Self { window })
    }

    /// Kernel, stride, padding and dilation.
    pub fn window(&self) -> Window2d {
        self.window
    }
}

impl AvgPool2d {
    /// A pool over windows; [`Window2d::pool`] makes one whose stride is its kernel.
    ///
    /// # Errors
    /// A zero in the window, groups, or padding beyond half the kernel.
    pub fn new(window: Window2d) -> Result<Self> {
        check("avg_pool2d", window)?;
        Ok(Self { window })
    }

    /// Kernel, stride, padding and dilation.
    pub fn window(&self) -> Window2d {
        self.window
    }
}

impl Module for MaxPool2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.max_pool(self.window)?)
    }

    fn part(&self) -> Part<'_> {
        Part::MaxPool2d(self)
    }
}

impl Spec for MaxPool2d {
    fn plan(&self, input: &Shape) -> Plan {
        plan("MaxPool2d", "max_pool2d", input, self.window, self.clone())
    }
}

impl Module for AvgPool2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.avg_pool(self.window)?)
    }
}

impl Spec for AvgPool2d {
    fn plan(&self, input: &Shape) -> Plan {
        plan("AvgPool2d", "avg_pool2d", input, self.window, self.clone())
    }
}

fn check(op: &'static str, window: Window2d) -> Result<()> {
    window.check(op)?;
    if window.groups != 1 {
        return Err(Error::new(op, format!("groups is {}", window.groups), "a pool has one group"));
    }
    let [kernel, padding] = [window.kernel, window.padding];
    if (0..2).any(|side| 2 * padding[side] > kernel[side]) {
        let what = format!("padding {padding:?} is more than half of kernel {kernel:?}");
        return Err(Error::new(op, what, "a window must not lie in the padding alone"));
    }
    Ok(())
}

fn plan(name: &str, op: &'static str, input: &Shape, window: Window2d, layer: impl Module + 'static) -> Plan {
    Plan::new(format!("{name} {}", window_label(&window, window.kernel)), || {
        check(op, window)?;
        let (channels, [height, width]) = expect_spatial(op, input)?;
        let [height, width] = window.output(op, [height, width])?;
        let output = Shape::new(&[channels, height, width])?;
        let flops = output.elements() as u64 * window.kernel.iter().product::<usize>() as u64;
        Ok(Draft::new(output, flops).fixed(layer))
    })
}

impl Builder {
    /// [`MaxPool2d`] over windows that do not overlap.
    pub fn max_pool2d(self, kernel: impl Into<Sizes<2>>) -> Self {
        self.max_pool2d_with(Window2d::pool(kernel))
    }

    /// [`MaxPool2d`] with stride, padding and dilation.
    pub fn max_pool2d_with(self, window: Window2d) -> Self {
        self.step(MaxPool2d { window })
    }

    /// [`AvgPool2d`] over windows that do not overlap.
    pub fn avg_pool2d(self, kernel: impl Into<Sizes<2>>) -> Self {
        self.avg_pool2d_with(Window2d::pool(kernel))
    }

    /// [`AvgPool2d`] with stride and padding.
    pub fn avg_pool2d_with(self, window: Window2d) -> Self {
        self.step(AvgPool2d { window })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};
    use maplet_tensor::Tensor;

    #[test]
    fn behave_as_modules() {
        let expect = Expect {
            input: &[3, 2, 7, 6],
            output: &[3, 2, 3, 3],
            refuses: &[(
                &[3, 7, 6],
                "max_pool2d: input [3, 7, 6] has 3 axes; help: it must be [n, channels, height, width]",
            )],
            ..Expect::default()
        };
        check_module(&mut MaxPool2d::new(Window2d::pool(2)).unwrap(), &expect).unwrap();
        let expect = Expect {
            refuses: &[(
                &[3, 7, 6],
                "avg_pool2d: input [3, 7, 6] has 3 axes; help: it must be [n, channels, height, width]",
            )],
            ..expect
        };
        check_module(&mut AvgPool2d::new(Window2d::pool(2)).unwrap(), &expect).unwrap();
        let padded = Window2d::new(3).stride(2).padding(1);
        let expect = Expect { input: &[2, 1, 5, 5], output: &[2, 1, 3, 3], refuses: &[], ..expect };
        check_module(&mut MaxPool2d::new(padded).unwrap(), &expect).unwrap();
        check_module(&mut AvgPool2d::new(padded).unwrap(), &expect).unwrap();
    }

    #[test]
    fn largest_and_mean_of_each_window() {
        let x = Tensor::from([[[[1.0f32, 2.0, 5.0, 6.0], [4.0, 3.0, 7.0, 8.0]]]]);
        let max = MaxPool2d::new(Window2d::pool(2)).unwrap().forward(&x.clone().into()).unwrap();
        assert_eq!(max.value(), &Tensor::from([[[[4.0f32, 8.0]]]]));
        let mean = AvgPool2d::new(Window2d::pool(2)).unwrap().forward(&x.into()).unwrap();
        assert_eq!(mean.value(), &Tensor::from([[[[2.5f32, 6.5]]]]));
    }

    #[test]
    fn refuse_windows_in_the_padding_alone() {
        let text = MaxPool2d::new(Window2d::pool(2).padding([1, 2])).err().unwrap().to_string();
        let expected = "max_pool2d: padding [1, 2] is more than half of kernel [2, 2]; \
                        help: a window must not lie in the padding alone";
        assert_eq!(text, expected);
        let text = AvgPool2d::new(Window2d::pool(2).groups(2)).err().unwrap().to_string();
        assert_eq!(text, "avg_pool2d: groups is 2; help: a pool has one group");
        let text = AvgPool2d::new(Window2d::pool(0)).err().unwrap().to_string();
        assert_eq!(text, "avg_pool2d: kernel is 0; help: use 1 to 1048576");
    }
}
