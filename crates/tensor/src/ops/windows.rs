//! What each output of a pooling sees: [`Pool`], its options, and `Windows`, its places along the axes.
//!
//! Pooling over one or two axes is pooling over three of which the first have size 1: so the kernels know only three.

use crate::ops::geometry::spatial_dims;
use crate::window::axis_names;
use crate::{Error, Float, Result, Shape, Window};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How a pooling goes over `D` spatial axes: its window, and what becomes of the border.
///
/// A [`Window`] alone is a pool with the usual options.
///
/// ```
/// use maplet_tensor::{Pool, Window2d};
///
/// let pool = Pool::from(Window2d::pool(2));
/// assert_eq!(pool.output("max_pool2d", [5, 5])?, [2, 2]);
/// assert_eq!(pool.ceil_mode(true).output("max_pool2d", [5, 5])?, [3, 3]);
/// # Ok::<(), maplet_tensor::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(serialize = "[usize; D]: Serialize", deserialize = "[usize; D]: Deserialize<'de>"))]
#[serde(deny_unknown_fields)]
pub struct Pool<const D: usize> {
    /// Kernel, stride, padding and dilation; groups are 1.
    pub window: Window<D>,
    /// Whether a last window may reach beyond the padding, so that no element of the input is left out.
    #[serde(default)]
    pub ceil_mode: bool,
    /// Whether a mean counts the padding's zeros. What lies beyond the padding is never counted.
    #[serde(default = "yes")]
    pub count_include_pad: bool,
    /// What a mean divides by, instead of by the number of elements.
    #[serde(default)]
    pub divisor_override: Option<usize>,
}

fn yes() -> bool {
    true
}

impl<const D: usize> From<Window<D>> for Pool<D> {
    fn from(window: Window<D>) -> Self {
        Self { window, ceil_mode: false, count_include_pad: true, divisor_override: None }
    }
}

impl<const D: usize> Pool<D> {
    /// Sets whether a last window may reach beyond the padding.
    pub fn ceil_mode(mut self, on: bool) -> Self {
        self.ceil_mode = on;
        self
    }

    /// Sets whether a mean counts the padding.
    pub fn count_include_pad(mut self, on: bool) -> Self {
        self.count_include_pad = on;
        self
    }

    /// Sets what a mean divides by.
    pub fn divisor_override(mut self, divisor: usize) -> Self {
        self.divisor_override = Some(divisor);
        self
    }

    /// The spatial sizes of the output: [`Window::output`]'s, rounded up if `ceil_mode`, but for windows that would
    /// begin in the padding behind the input.
    ///
    /// # Errors
    /// As [`check`](Self::check), and a window larger than the padded input.
    pub fn output(&self, op: &'static str, input: [usize; D]) -> Result<[usize; D]> {
        self.check(op)?;
        self.window.output_rounded(op, input, self.ceil_mode)
    }

    /// An error for numbers that no input could make right: a zero in the window, groups, a padding of more than half
    /// the window, a divisor of 0.
    pub fn check(&self, op: &'static str) -> Result<()> {
        self.window.check(op)?;
        let Window { padding, groups, .. } = self.window;
        if groups != 1 {
            return Err(Error::value(op, format!("groups is {groups}"), "a pool has one group"));
        }
        if let Some(side) = (0..D).find(|&side| 2 * padding[side] > self.window.span(side)) {
            let (name, span) = (axis_names(D)[side], self.window.span(side));
            let what =
                format!("padding {} is more than half of the window, which spans {span} in {name}", padding[side]);
            return Err(Error::value(op, what, "a window must not lie in the padding alone"));
        }
        if self.divisor_override == Some(0) {
            return Err(Error::value(op, "divisor_override is 0", "use 1 or more"));
        }
        Ok(())
    }

    /// What window `i` sees along one side.
    fn span(&self, side: usize, i: usize, input: usize) -> Span {
        let [kernel, padding, step] = [self.window.kernel, self.window.padding, self.window.dilation].map(|a| a[side]);
        let corner = i * self.window.stride[side]; // in the padded input
        let first = padding.saturating_sub(corner).div_ceil(step).min(kernel);
        let start = (corner + first * step).saturating_sub(padding).min(input);
        let end = (corner + self.window.span(side)).saturating_sub(padding).clamp(start, input);
        let counted = match self.count_include_pad {
            true => kernel.min((input + 2 * padding - corner).div_ceil(step)),
            false => (end - start).div_ceil(step),
        };
        Span { start, end, step, counted }
    }
}

/// The places `start, start + step, ..` below `end`, of which a mean counts `counted`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) step: usize,
    pub(crate) counted: usize,
}

impl Span {
    #[inline(always)]
    pub(crate) fn places(self) -> impl Iterator<Item = usize> {
        (self.start..self.end).step_by(self.step)
    }
}

/// What each output sees, along each of three axes.
pub(crate) struct Windows {
    pub(crate) input: [usize; 3],
    pub(crate) spans: [Vec<Span>; 3],
    /// Of the spans along the last axis, those that lie evenly.
    pub(crate) even: Even,
    divisor: Option<usize>,
    pub(crate) output: Shape,
}

/// Spans `range` of an axis all see `taps` places, `step` apart, and each begins `stride` behind the one before; the
/// first begins at `start`.
pub(crate) struct Even {
    pub(crate) range: Range<usize>,
    pub(crate) start: usize,
    pub(crate) stride: usize,
    pub(crate) taps: usize,
    pub(crate) step: usize,
}

impl Even {
    /// The first run of the longest spans.
    fn of(spans: &[Span]) -> Self {
        let taps = spans.iter().map(|span| span.places().count()).max().unwrap_or(0);
        let first = spans.iter().position(|span| span.places().count() == taps).unwrap_or(0);
        // A dilated window in the padding may begin behind the next one.
        let between = |pair: &[Span]| pair[1].start.checked_sub(pair[0].start).filter(|&stride| stride > 0);
        let stride = spans[first..].windows(2).next().and_then(between);
        let follows = |pair: &&[Span]| between(pair) == stride && pair[1].places().count() == taps;
        let more = if stride.is_some() { spans[first..].windows(2).take_while(follows).count() } else { 0 };
        let Span { start, step, .. } =
            spans.get(first).copied().unwrap_or(Span { start: 0, end: 0, step: 1, counted: 0 });
        Self { range: first..(first + 1 + more).min(spans.len()), start, stride: stride.unwrap_or(1), taps, step }
    }
}

impl Windows {
    /// The windows of a pooling; `ops` are its names over one, two and three axes.
    pub(crate) fn of_pool<const D: usize>(ops: [&'static str; 3], x: Shape, pool: &Pool<D>) -> Result<Self> {
        let op = Window::<D>::name(ops);
        let input = spatial::<D>(op, x)?;
        let sizes = pool.output(op, input)?;
        let spans = |side: usize| (0..sizes[side]).map(|i| pool.span(side, i, input[side])).collect::<Vec<_>>();
        let windows = Self::new(x, input, sizes, spans, pool.divisor_override)?;
        if windows.spans.iter().flatten().any(|span| span.start == span.end) {
            let what = format!("dilation {:?} leaves windows without an element of {x}", pool.window.dilation);
            return Err(Error::value(op, what, "use a smaller dilation or less padding"));
        }
        Ok(windows)
    }

    /// As many windows as the output has places, which share the input out evenly.
    pub(crate) fn adaptive<const D: usize>(ops: [&'static str; 3], x: Shape, to: OutputSize<D>) -> Result<Self> {
        let op = Window::<D>::name(ops);
        let input = spatial::<D>(op, x)?;
        let sizes = to.output(op, input)?;
        let spans = |side: usize| {
            let span = |i: usize| {
                let Range { start, end } = share_out(input[side], sizes[side], i);
                Span { start, end, step: 1, counted: end - start }
            };
            (0..sizes[side]).map(span).collect()
        };
        Self::new(x, input, sizes, spans, None)
    }

    /// Windows whose steps vary around `(input − kernel) / (output − 1)`, shifted by a number of 0 to 1 for each axis.
    pub(crate) fn fractional<const D: usize>(
        op: &'static str,
        x: Shape,
        kernel: [usize; D],
        sizes: [usize; D],
        shift: [f64; D],
    ) -> Result<Self> {
        let input = spatial::<D>(op, x)?;
        for side in 0..D {
            let (kernel, size, from, name) = (kernel[side], sizes[side], input[side], axis_names(D)[side]);
            if kernel == 0 || kernel > from || size > from - kernel + 1 {
                let what = format!("{size} windows of {kernel} do not fit in a {name} of {from}");
                return Err(Error::shape(
                    op,
                    what,
                    "kernel + output - 1 may be at most the input's size, and a kernel not 0",
                ));
            }
        }
        let spans = |side: usize| {
            let (last, room) = (sizes[side] - 1, input[side] - kernel[side]);
            let step = room as f64 / last.max(1) as f64;
            let shifted = |i: usize| ((i as f64 + shift[side]) * step) as usize;
            let start = |i: usize| if i == last { room } else { shifted(i) - shifted(0) };
            let span = |start: usize| Span { start, end: start + kernel[side], step: 1, counted: kernel[side] };
            (0..=last).map(|i| span(start(i))).collect()
        };
        Self::new(x, input, sizes, spans, None)
    }

    fn new<const D: usize>(
        x: Shape,
        input: [usize; D],
        output: [usize; D],
        spans: impl Fn(usize) -> Vec<Span>,
        divisor: Option<usize>,
    ) -> Result<Self> {
        let missing = 3 - D;
        let one = || vec![Span { start: 0, end: 1, step: 1, counted: 1 }];
        let spans = std::array::from_fn(|axis| axis.checked_sub(missing).map_or_else(one, &spans));
        Ok(Self {
            input: std::array::from_fn(|axis| axis.checked_sub(missing).map_or(1, |side| input[side])),
            even: Even::of(&spans[2]),
            spans,
            divisor,
            output: Shape::new(&[&x[..2], &output].concat())?,
        })
    }

    /// The elements of one plane of the input.
    pub(crate) fn plane(&self) -> usize {
        self.input.iter().product()
    }

    /// The elements of one plane of the output.
    pub(crate) fn out_plane(&self) -> usize {
        self.spans.iter().map(Vec::len).product()
    }

    /// The elements that the windows of a plane see, together.
    pub(crate) fn seen(&self) -> usize {
        let along = |spans: &Vec<Span>| spans.iter().map(|span| span.places().count()).sum::<usize>();
        self.spans.iter().map(along).product()
    }

    /// How many elements a mean counts along a row, for each output.
    pub(crate) fn counts<T: Float>(&self) -> Vec<T> {
        let count = |span: &Span| T::from_f64(if self.divisor.is_some() { 1 } else { span.counted } as f64);
        self.spans[2].iter().map(count).collect()
    }

    /// For row `i` of the output: the rows of the input that it sees, in order, and how many of them a mean counts.
    pub(crate) fn rows(&self, i: usize) -> (impl Iterator<Item = usize> + Clone, usize) {
        let [depths, heights, _] = &self.spans;
        let (depth, height) = (depths[i / heights.len()], heights[i % heights.len()]);
        let rows = (depth.start..depth.end).step_by(depth.step).flat_map(move |u| {
            let plane = u * self.input[1];
            (height.start..height.end).step_by(height.step).map(move |v| plane + v)
        });
        (rows, self.divisor.unwrap_or(depth.counted * height.counted))
    }
}

/// The places that output `i` sees, of `output` that share `input` places out evenly: from `⌊i · input / output⌋` up to
/// `⌈(i + 1) · input / output⌉`.
pub(crate) fn share_out(input: usize, output: usize, i: usize) -> Range<usize> {
    i * input / output..((i + 1) * input).div_ceil(output)
}

/// The sizes behind image and channel.
///
/// # Errors
/// Another rank, or nothing along one of them.
pub(crate) fn spatial<const D: usize>(op: &'static str, x: Shape) -> Result<[usize; D]> {
    let (_, _, sizes) = spatial_dims::<D>(op, "input", x, "n, channels", "")?;
    match sizes.iter().position(|&size| size == 0) {
        Some(side) => {
            let what = format!("input {x} has no {}", axis_names(D)[side]);
            Err(Error::shape(op, what, "every spatial size must be 1 or more"))
        }
        None => Ok(sizes),
    }
}

/// The spatial sizes that an adaptive pooling is to make: one number for all axes, one for each, or `None` where an
/// axis keeps its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(serialize = "[Option<usize>; D]: Serialize", deserialize = "[Option<usize>; D]: Deserialize<'de>"))]
pub struct OutputSize<const D: usize>(pub [Option<usize>; D]);

impl<const D: usize> OutputSize<D> {
    /// The spatial sizes of the output.
    ///
    /// # Errors
    /// A size of 0.
    pub fn output(&self, op: &'static str, input: [usize; D]) -> Result<[usize; D]> {
        if let Some(side) = self.0.iter().position(|&size| size == Some(0)) {
            return Err(Error::value(op, format!("the output's {} is 0", axis_names(D)[side]), "use 1 or more"));
        }
        Ok(std::array::from_fn(|side| self.0[side].unwrap_or(input[side])))
    }
}

impl<const D: usize> From<usize> for OutputSize<D> {
    fn from(size: usize) -> Self {
        Self([Some(size); D])
    }
}

impl<const D: usize> From<[usize; D]> for OutputSize<D> {
    fn from(sizes: [usize; D]) -> Self {
        Self(sizes.map(Some))
    }
}

impl<const D: usize> From<[Option<usize>; D]> for OutputSize<D> {
    fn from(sizes: [Option<usize>; D]) -> Self {
        Self(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Window1d, Window2d};

    #[test]
    fn output_sizes_are_pytorchs() {
        // torch 2.15: F.max_pool1d(torch.zeros(1, 1, n), kernel, stride, padding, dilation, ceil_mode=True).shape[-1]
        for (n, kernel, stride, padding, dilation, expected) in [
            (5, 2, 2, 0, 1, 3),
            (4, 2, 2, 0, 1, 2),
            (4, 3, 2, 1, 1, 3),
            (1, 2, 2, 1, 1, 1),
            (3, 4, 2, 0, 1, 1),
            (9, 3, 3, 1, 2, 3),
        ] {
            let window = Window1d::new(kernel).stride(stride).padding(padding).dilation(dilation);
            let found = Pool::from(window).ceil_mode(true).output("max_pool1d", [n]);
            assert_eq!(found, Ok([expected]), "{n} {window:?}");
        }
    }

    #[test]
    fn impossible_pools_are_refused() {
        let text = |pool: Pool<2>| pool.output("avg_pool2d", [4, 4]).unwrap_err().to_string();
        let pool = Pool::from(Window2d::pool(2));
        let padding = "avg_pool2d: padding 2 is more than half of the window, which spans 2 in width; \
                       help: a window must not lie in the padding alone";
        assert_eq!(text(Pool::from(Window2d::pool(2).padding([1, 2]))), padding);
        assert_eq!(text(Pool::from(Window2d::pool(0))), "avg_pool2d: kernel is 0; help: use 1 to 1048576");
        assert_eq!(text(pool.divisor_override(0)), "avg_pool2d: divisor_override is 0; help: use 1 or more");
        assert_eq!(
            text(Pool::from(Window2d::pool(2).groups(2))),
            "avg_pool2d: groups is 2; help: a pool has one group"
        );
        let span = "avg_pool2d: the window spans 7 in height, the padded input has 4; \
                    help: use a smaller kernel or dilation, or more padding";
        assert_eq!(text(Pool::from(Window2d::pool(7))), span);
    }
}
