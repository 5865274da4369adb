//! The geometry of convolutions and pools: kernel, stride, padding, dilation, groups.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// One size for each of the `D` spatial axes. One number means all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sizes<const D: usize>(pub [usize; D]);

impl<const D: usize> From<usize> for Sizes<D> {
    fn from(size: usize) -> Self {
        Self([size; D])
    }
}

impl<const D: usize> From<[usize; D]> for Sizes<D> {
    fn from(sizes: [usize; D]) -> Self {
        Self(sizes)
    }
}

/// How a window walks over `D` spatial axes; every array has one number an axis: `[length]`, `[height, width]` or
/// `[depth, height, width]`.
///
/// ```
/// use maplet_tensor::{Window1d, Window2d};
///
/// let window = Window2d::new(3).stride(2).padding(1);
/// assert_eq!(window.output("conv2d", [28, 28])?, [14, 14]);
/// assert_eq!(Window1d::new(5).dilation(2).output("conv1d", [100])?, [92]);
/// # Ok::<(), maplet_tensor::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(serialize = "[usize; D]: Serialize", deserialize = "[usize; D]: Deserialize<'de>"))]
pub struct Window<const D: usize> {
    /// The window's size.
    pub kernel: [usize; D],
    /// The step from one window to the next.
    pub stride: [usize; D],
    /// Zeros (for max-pools −∞) added on each side.
    pub padding: [usize; D],
    /// The step from one element of a window to the next.
    pub dilation: [usize; D],
    /// Channels are cut into so many groups that do not see each other; 1 for pools.
    pub groups: usize,
}

/// A window over a sequence, `[length]`.
pub type Window1d = Window<1>;
/// A window over an image, `[height, width]`.
pub type Window2d = Window<2>;
/// A window over a volume, `[depth, height, width]`.
pub type Window3d = Window<3>;

/// What the last `d` axes are called, the first of them first.
pub(crate) fn axis_names(d: usize) -> &'static [&'static str] {
    match d {
        1 => &["length"],
        2 => &["height", "width"],
        _ => &["depth", "height", "width"],
    }
}

impl<const D: usize> Window<D> {
    /// A window of the given kernel: stride 1, padding 0, dilation 1, one group.
    pub fn new(kernel: impl Into<Sizes<D>>) -> Self {
        Self { kernel: kernel.into().0, stride: [1; D], padding: [0; D], dilation: [1; D], groups: 1 }
    }

    /// A pooling window: the stride equals the kernel.
    pub fn pool(kernel: impl Into<Sizes<D>>) -> Self {
        let Sizes(kernel) = kernel.into();
        Self::new(kernel).stride(kernel)
    }

    /// Sets the stride.
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> Self {
        self.stride = stride.into().0;
        self
    }

    /// Sets the padding on each side.
    pub fn padding(mut self, padding: impl Into<Sizes<D>>) -> Self {
        self.padding = padding.into().0;
        self
    }

    /// Sets the dilation.
    pub fn dilation(mut self, dilation: impl Into<Sizes<D>>) -> Self {
        self.dilation = dilation.into().0;
        self
    }

    /// Sets the number of groups.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// The one of three names, of ops over sequences, images and volumes, that is meant here: `["conv1d", "conv2d",
    /// "conv3d"]`. A window over more axes does not compile.
    pub const fn name(names: [&'static str; 3]) -> &'static str {
        const { assert!(D >= 1 && D <= 3, "a window has one, two or three axes") };
        names[D - 1]
    }

    /// The spatial sizes of the output for an input of these: `(input + 2·padding − dilation·(kernel − 1) − 1) / stride
    /// + 1`, rounded down.
    ///
    /// # Errors
    /// A zero in kernel, stride, dilation or groups, or a kernel larger than the padded input.
    pub fn output(&self, op: &'static str, input: [usize; D]) -> Result<[usize; D]> {
        self.output_rounded(op, input, false)
    }

    /// As [`output`](Self::output); if `up`, one more window counts that begins in the input or the padding before it.
    pub(crate) fn output_rounded(&self, op: &'static str, input: [usize; D], up: bool) -> Result<[usize; D]> {
        self.check(op)?;
        let mut output = [0; D];
        for side in 0..D {
            let padded = input[side].saturating_add(2 * self.padding[side]);
            let (span, stride) = (self.span(side), self.stride[side]);
            let reach = if up { padded.saturating_add(stride - 1) } else { padded };
            if span > reach {
                let name = axis_names(D)[side];
                let what = format!("the window spans {span} in {name}, the padded input has {padded}");
                return Err(Error::shape(op, what, "use a smaller kernel or dilation, or more padding"));
            }
            let last = (reach - span) / stride; // the last window's number
            let beyond = up && last * stride >= input[side].saturating_add(self.padding[side]);
            output[side] = last + 1 - usize::from(beyond);
        }
        Ok(output)
    }

    /// The spatial sizes of the output of a transposed convolution, to which [`output`](Self::output) gives back these:
    /// `(input − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1`.
    ///
    /// # Errors
    /// A zero in kernel, stride, dilation or groups, an empty input, nothing left after the padding is cut off, or an
    /// output padding that is neither smaller than the stride nor than the dilation.
    pub fn transposed_output(
        &self,
        op: &'static str,
        input: [usize; D],
        output_padding: [usize; D],
    ) -> Result<[usize; D]> {
        self.check_output_padding(op, output_padding)?;
        let mut output = [0; D];
        for side in 0..D {
            let (name, more) = (axis_names(D)[side], output_padding[side]);
            let (stride, padding) = (self.stride[side], self.padding[side]);
            let Some(steps) = input[side].checked_sub(1) else {
                return Err(Error::shape(op, format!("the input has {name} 0"), "give it 1 or more"));
            };
            let spread = steps.saturating_mul(stride).saturating_add(self.span(side) + more);
            if spread <= 2 * padding {
                let what = format!("padding {padding} cuts all of the {spread} in {name}");
                return Err(Error::value(op, what, "use less padding"));
            }
            output[side] = spread - 2 * padding;
        }
        Ok(output)
    }

    /// As [`check`](Self::check); also an error if an output padding is neither smaller than the stride nor than the
    /// dilation: of several inputs of a convolution that have the same output size it says which one is meant.
    pub fn check_output_padding(&self, op: &'static str, output_padding: [usize; D]) -> Result<()> {
        self.check(op)?;
        for side in 0..D {
            let (more, stride, dilation) = (output_padding[side], self.stride[side], self.dilation[side]);
            if more >= stride.max(dilation) {
                let name = axis_names(D)[side];
                let what = format!("output_padding {more} in {name} with stride {stride} and dilation {dilation}");
                return Err(Error::value(op, what, "it must be smaller than the stride or the dilation"));
            }
        }
        Ok(())
    }

    /// An error if kernel, stride, dilation or groups has a zero, or a number no image can have.
    pub fn check(&self, op: &'static str) -> Result<()> {
        const LIMIT: usize = 1 << 20; // keeps every product of two of these numbers inside usize
        let numbers = [
            ("kernel", self.kernel, 1),
            ("stride", self.stride, 1),
            ("dilation", self.dilation, 1),
            ("groups", [self.groups; D], 1),
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
        assert_eq!(Window1d::new(3).stride(2).output("conv1d", [50]), Ok([24]));
        let window = Window3d::new([3, 5, 2]).stride([2, 1, 1]).padding([4, 2, 0]);
        assert_eq!(window.output("conv3d", [10, 50, 100]), Ok([8, 50, 99]));
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

    #[test]
    fn transposed_sizes_are_pytorchs() {
        // Three cases of torch.nn.ConvTranspose2d's documentation, by its formula.
        let sizes = |window: Window2d, input, more| window.transposed_output("conv_transpose2d", input, more);
        assert_eq!(sizes(Window2d::new(3).stride(2), [50, 100], [0, 0]), Ok([101, 201]));
        assert_eq!(sizes(Window2d::new([3, 5]).stride([2, 1]).padding([4, 2]), [50, 100], [0, 0]), Ok([93, 100]));
        let halved = Window2d::new(3).stride(2).padding(1);
        assert_eq!(sizes(halved, [6, 6], [1, 1]), Ok([12, 12]));
        assert_eq!(halved.output("conv2d", [12, 12]), Ok([6, 6]));
        let text = |window, input, more| sizes(window, input, more).unwrap_err().to_string();
        let expected = "conv_transpose2d: output_padding 2 in width with stride 2 and dilation 1; \
                        help: it must be smaller than the stride or the dilation";
        assert_eq!(text(halved, [6, 6], [1, 2]), expected);
        let expected = "conv_transpose2d: padding 2 cuts all of the 3 in height; help: use less padding";
        assert_eq!(text(Window2d::new(3).padding(2), [1, 9], [0, 0]), expected);
        let expected = "conv_transpose2d: the input has width 0; help: give it 1 or more";
        assert_eq!(text(Window2d::new(3), [4, 0], [0, 0]), expected);
    }

    #[test]
    fn names_follow_the_axes() {
        let names = ["conv1d", "conv2d", "conv3d"];
        assert_eq!([Window1d::name(names), Window2d::name(names), Window3d::name(names)], names);
    }
}
