//! The geometry of convolutions and pools: kernel, stride, padding, dilation, groups.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A height and a width. One number means both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair(pub [usize; 2]);

impl From<usize> for Pair {
    fn from(size: usize) -> Self {
        Self([size, size])
    }
}

impl From<[usize; 2]> for Pair {
    fn from(sizes: [usize; 2]) -> Self {
        Self(sizes)
    }
}

/// How a two-dimensional window walks over an image; every array is `[height, width]`.
///
/// ```
/// use maplet_tensor::Window2d;
///
/// let window = Window2d::new(3).stride(2).padding(1);
/// assert_eq!(window.output("conv2d", [28, 28])?, [14, 14]);
/// # Ok::<(), maplet_tensor::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window2d {
    /// The window's size.
    pub kernel: [usize; 2],
    /// The step from one window to the next.
    pub stride: [usize; 2],
    /// Zeros (for max-pools −∞) added on each side.
    pub padding: [usize; 2],
    /// The step from one element of a window to the next.
    pub dilation: [usize; 2],
    /// Channels are cut into so many groups that do not see each other; 1 for pools.
    pub groups: usize,
}

impl Window2d {
    /// A window of the given kernel: stride 1, padding 0, dilation 1, one group.
    pub fn new(kernel: impl Into<Pair>) -> Self {
        Self { kernel: kernel.into().0, stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }

    /// A pooling window: the stride equals the kernel.
    pub fn pool(kernel: impl Into<Pair>) -> Self {
        let Pair(kernel) = kernel.into();
        Self::new(kernel).stride(kernel)
    }

    /// Sets the stride.
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.stride = stride.into().0;
        self
    }

    /// Sets the padding on each side.
    pub fn padding(mut self, padding: impl Into<Pair>) -> Self {
        self.padding = padding.into().0;
        self
    }

    /// Sets the dilation.
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Self {
        self.dilation = dilation.into().0;
        self
    }

    /// Sets the number of groups.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// The `[height, width]` of the output for an input of `[height, width]`:
    /// `(input + 2·padding − dilation·(kernel − 1) − 1) / stride + 1`, rounded down.
    ///
    /// # Errors
    /// A zero in kernel, stride, dilation or groups, or a kernel larger than the padded input.
    pub fn output(&self, op: &'static str, input: [usize; 2]) -> Result<[usize; 2]> {
        self.check(op)?;
        let mut output = [0; 2];
        for side in 0..2 {
            let padded = input[side].saturating_add(2 * self.padding[side]);
            let span = self.span(side);
            if span > padded {
                let name = ["height", "width"][side];
                let what = format!("the window spans {span} in {name}, the padded input has {padded}");
                return Err(Error::shape(op, what, "use a smaller kernel or dilation, or more padding"));
            }
            output[side] = (padded - span) / self.stride[side] + 1;
        }
        Ok(output)
    }

    /// An error if kernel, stride, dilation or groups has a zero, or a number no image can have.
    pub fn check(&self, op: &'static str) -> Result<()> {
        const LIMIT: usize = 1 << 20; // keeps every product of two of these numbers inside usize
        let numbers = [
            ("kernel", self.kernel, 1),
            ("stride", self.stride, 1),
            ("dilation", self.dilation, 1),
            ("groups", [self.groups; 2], 1),
            ("padding", self.padding, 0),
        ];
        for (name, values, least) in numbers {
            if let Some(value) = values.iter().find(|&&value| value < least || value > LIMIT) {
                return Err(Error::value(op, format!("{name} is {value}"), format!("use {least} to {LIMIT}")));
            }
        }
        Ok(())
    }

    /// How far the dilated kernel reaches: `dilation·(kernel − 1) + 1`.
    pub(crate) fn span(&self, side: usize) -> usize {
        self.dilation[side] * (self.kernel[side] - 1) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sizes_are_pytorchs() {
        // The formula's cases in torch.nn.Conv2d's documentation, computed by hand.
        assert_eq!(Window2d::new(3).output("conv2d", [28, 28]), Ok([26, 26]));
        assert_eq!(Window2d::pool(2).output("max_pool2d", [27, 26]), Ok([13, 13]));
        assert_eq!(Window2d::new([3, 5]).stride([2, 1]).padding([4, 2]).output("conv2d", [50, 100]), Ok([28, 100]));
        assert_eq!(Window2d::new(3).dilation([3, 1]).output("conv2d", [7, 3]), Ok([1, 1]));
    }

    #[test]
    fn refuses_impossible_geometry() {
        let text = |window: Window2d| window.output("conv2d", [4, 4]).unwrap_err().to_string();
        let span = "conv2d: the window spans 7 in height, the padded input has 6; \
                    help: use a smaller kernel or dilation, or more padding";
        assert_eq!(text(Window2d::new(7).padding(1)), span);
        assert_eq!(text(Window2d::new(3).stride(0)), "conv2d: stride is 0; help: use 1 to 1048576");
        assert_eq!(text(Window2d::new(0)), "conv2d: kernel is 0; help: use 1 to 1048576");
    }
}
