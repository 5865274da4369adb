//! The sizes of a convolution, and where its elements lie: positions, taps, padding.
//!
//! Sequences and images are volumes whose leading axes have size 1: from here on there are always three spatial axes,
//! and all kernels work on lists of offsets that know nothing of axes.

use crate::ops::matmul::check_bias;
use crate::par;
use crate::window::axis_names;
use crate::{Error, Float, Result, Shape, Tensor, Window, Window3d};
use std::array::from_fn;
use std::ops::Range;

/// The sizes of one convolution.
pub(crate) struct Conv {
    pub(crate) n: usize,
    pub(crate) c: usize,
    pub(crate) o: usize,
    pub(crate) groups: usize,
    pub(crate) c_group: usize,
    pub(crate) o_group: usize,
    pub(crate) input: Volume,
    pub(crate) output: Volume,
    pub(crate) window: Window3d,
    pub(crate) x_shape: Shape,
    pub(crate) w_shape: Shape,
    pub(crate) y_shape: Shape,
}

/// A depth, a height and a width in memory.
pub(crate) type Volume = [usize; 3];

/// The number of elements of a volume.
pub(crate) fn area(volume: Volume) -> usize {
    volume.iter().product()
}

/// All sums of one number of each list, those of the last list next to each other.
pub(crate) fn lattice(lists: &[Vec<usize>]) -> Vec<usize> {
    lists.iter().fold(vec![0], |sums, list| {
        let mut longer = Vec::with_capacity(sums.len() * list.len());
        sums.iter().for_each(|sum| longer.extend(list.iter().map(|x| sum + x)));
        longer
    })
}

/// The elements between neighbors on each axis of a volume.
pub(crate) fn pitches([_, h, w]: Volume) -> Volume {
    [h * w, w, 1]
}

/// `D` sizes as those of a volume; the axes in front have size `one`.
pub(crate) fn in_volume<const D: usize>(sizes: [usize; D], one: usize) -> Volume {
    from_fn(|side| if side + D < 3 { one } else { sizes[side + D - 3] })
}

/// The batch, the channels and the `D` spatial sizes of `shape`, or an error that says what it must be.
pub(crate) fn spatial_dims<const D: usize>(
    op: &'static str,
    name: &str,
    shape: Shape,
    lead: &str,
    kernel: &str,
) -> Result<(usize, usize, [usize; D])> {
    if let Some((&[first, second], rest)) = shape.split_first_chunk::<2>()
        && let Ok(sizes) = rest.try_into()
    {
        return Ok((first, second, sizes));
    }
    let axes: String = axis_names(D).iter().map(|axis| format!(", {kernel}{axis}")).collect();
    let what = format!("{name} {shape} has {} axes", shape.rank());
    Err(Error::shape(op, what, format!("it must be [{lead}{axes}]")))
}

impl Conv {
    pub(crate) fn new<const D: usize>(op: &'static str, x: Shape, weight: Shape, window: Window<D>) -> Result<Self> {
        let (n, c, input) = spatial_dims::<D>(op, "input", x, "n, channels", "")?;
        let (o, c_group, kernel) = spatial_dims::<D>(op, "weight", weight, "out, in / groups", "kernel ")?;
        let output = window.output(op, input)?;
        let groups = window.groups;
        if kernel != window.kernel {
            let what = format!("weight {weight} has another kernel than the window's {:?}", window.kernel);
            return Err(Error::shape(op, what, "they must be the same"));
        }
        if c != c_group * groups {
            let plural = |count| if count == 1 { "channel" } else { "channels" };
            let expected = c_group * groups;
            let what = format!("input {x} has {c} {}, weight {weight} expects {expected}", plural(c));
            return Err(Error::shape(op, what, format!("build the layer with in_channels = {c}")));
        }
        if o % groups != 0 {
            let what = format!("weight {weight} has {o} output channels, not divisible into {groups} groups");
            return Err(Error::shape(op, what, "use a multiple of the groups"));
        }
        let conv = Self {
            n,
            c,
            o,
            groups,
            c_group,
            o_group: o / groups,
            input: in_volume(input, 1),
            output: in_volume(output, 1),
            window: Window {
                kernel: in_volume(kernel, 1),
                stride: in_volume(window.stride, 1),
                padding: in_volume(window.padding, 0),
                dilation: in_volume(window.dilation, 1),
                groups,
            },
            x_shape: x,
            w_shape: weight,
            y_shape: Shape::new(&[&[n, o], &output[..]].concat())?,
        };
        for (channels, volume) in [(c, conv.padded_volume()), (o, conv.bordered_volume())] {
            Shape::new(&[&[n, channels], &volume[..]].concat())?; // the scratch can be addressed
        }
        Ok(conv)
    }

    pub(crate) fn check_operands(
        &self,
        op: &'static str,
        x: &Tensor,
        other: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<()> {
        x.same_dtype(op, other)?;
        if let Some(bias) = bias {
            x.same_dtype(op, bias)?;
            check_bias(op, bias, self.o)?;
        }
        Ok(())
    }

    pub(crate) fn check_dy(&self, op: &'static str, dy: &Tensor) -> Result<()> {
        if dy.shape() == self.y_shape {
            return Ok(());
        }
        let what = format!("dy is {}, the output was {}", dy.shape(), self.y_shape);
        Err(Error::shape(op, what, "pass the gradient of the output"))
    }

    /// The input with its padding in memory, and the size of its volumes.
    pub(crate) fn padded<T: Float>(&self, x: &Tensor) -> (Volume, Tensor) {
        let mut framed = self.framed_input::<T>(x);
        framed.frame_all(self.n);
        (framed.volume, framed.whole.unwrap_or_else(|| x.clone()))
    }

    /// The input, each image with its padding when it is asked for.
    pub(crate) fn framed_input<'a, T: Float>(&self, x: &'a Tensor) -> Framed<'a, T> {
        let channels = [self.groups, self.c_group];
        Framed::new(x.slice_of(), channels, [self.input, self.padded_volume()], self.window.padding)
    }

    /// The input's size with its padding.
    pub(crate) fn padded_volume(&self) -> Volume {
        from_fn(|side| self.input[side] + 2 * self.window.padding[side])
    }

    /// `dy` with a border of zeros, so that every pixel's taps lie inside.
    pub(crate) fn framed_dy<'a, T: Float>(&self, dy: &'a Tensor) -> Framed<'a, T> {
        let channels = [self.groups, self.o_group];
        Framed::new(dy.slice_of(), channels, [self.output, self.bordered_volume()], self.border())
    }

    fn bordered_volume(&self) -> Volume {
        from_fn(|side| {
            let last = (self.input[side].max(1) - 1 + self.window.padding[side]) / self.window.stride[side];
            self.border()[side] + self.output[side].max(last + 1)
        })
    }

    pub(crate) fn border(&self) -> Volume {
        from_fn(|side| {
            (self.window.span(side) - 1).saturating_sub(self.window.padding[side]).div_ceil(self.window.stride[side])
        })
    }

    /// The offset of each output position's first tap.
    pub(crate) fn positions(&self, volume: Volume) -> Vec<usize> {
        let pitch = pitches(volume);
        let along = |side| (0..self.output[side]).map(|i| i * self.window.stride[side] * pitch[side]).collect();
        lattice(&[along(0), along(1), along(2)])
    }

    /// The offset of each tap from a position, in the order of the weight's axes.
    pub(crate) fn taps(&self, volume: Volume) -> Vec<usize> {
        let pitch = pitches(volume);
        let along =
            |side| (0..self.window.kernel[side]).map(|p| p * self.window.dilation[side] * pitch[side]).collect();
        let channels = (0..self.c_group).map(|c| c * area(volume)).collect();
        lattice(&[channels, along(0), along(1), along(2)])
    }
}

/// Images whose volumes stand in a frame of zeros, so that all taps lie inside.
///
/// An image gets its frame where it is used, in the caches, or all get theirs at once if several tasks share one.
pub(crate) struct Framed<'a, T> {
    x: &'a [T],
    groups: usize,
    /// Channels of a group.
    channels: usize,
    from: Volume,
    /// With the frame.
    pub(crate) volume: Volume,
    corner: Volume,
    whole: Option<Tensor>,
}

impl<'a, T: Float> Framed<'a, T> {
    fn new(x: &'a [T], [groups, channels]: [usize; 2], [from, volume]: [Volume; 2], corner: Volume) -> Self {
        Self { x, groups, channels, from, volume, corner, whole: None }
    }

    /// Frames all of so many images now.
    pub(crate) fn frame_all(&mut self, images: usize) {
        if self.is_bare() {
            return;
        }
        let (channels, [d, h, w]) = (self.groups * self.channels, self.volume);
        let (from, to) = (area(self.from), area(self.volume));
        self.whole = Some(Tensor::build(Shape::from([images, channels, d, h, w]), |out: &mut [T]| {
            par::rows(out, to.max(1), to as f64 * 0.2, |first, out| {
                place(&self.x[first * from..][..out.len() / to * from], self.from, out, self.volume, self.corner);
            });
        }));
    }

    /// All images, after [`frame_all`](Self::frame_all).
    pub(crate) fn data(&self) -> &[T] {
        self.whole.as_ref().map_or(self.x, Tensor::slice_of)
    }

    fn is_bare(&self) -> bool {
        self.from == self.volume
    }

    /// What [`images`](Self::images) needs for a group of so many images.
    pub(crate) fn memory(&self, images: usize) -> Tensor {
        let needed = !self.is_bare() && self.whole.is_none();
        Tensor::dirty::<T>(Shape::from([if needed { images * self.channels * area(self.volume) } else { 0 }]))
    }

    /// One group of some images, each `[channels, volume]`.
    pub(crate) fn images<'m>(&'m self, images: Range<usize>, group: usize, memory: &'m mut [T]) -> Vec<&'m [T]> {
        let at = |image: usize, volume| (image * self.groups + group) * self.channels * area(volume);
        let [from, to] = [self.from, self.volume].map(|volume| self.channels * area(volume));
        match &self.whole {
            _ if to == 0 => images.map(|_| &[][..]).collect(), // no channels: still as many images
            None if self.is_bare() => images.map(|image| &self.x[at(image, self.from)..][..from]).collect(),
            Some(whole) => images.map(|image| &whole.slice_of()[at(image, self.volume)..][..to]).collect(),
            None => {
                let memory = memory.chunks_exact_mut(to.max(1));
                let framed = |(image, out): (usize, &'m mut [T])| {
                    place(&self.x[at(image, self.from)..][..from], self.from, out, self.volume, self.corner);
                    &*out
                };
                images.zip(memory).map(framed).collect()
            }
        }
    }
}

/// Copies volumes of size `from` into volumes of zeros of size `to`, at `corner`.
pub(crate) fn place<T: Float>(x: &[T], from: Volume, out: &mut [T], to: Volume, corner: Volume) {
    let [_, h, w] = from;
    out.fill(T::zero());
    for (x, out) in x.chunks_exact(area(from).max(1)).zip(out.chunks_exact_mut(area(to).max(1))) {
        for (row, x) in x.chunks_exact(w).enumerate() {
            let start = ((row / h + corner[0]) * to[1] + row % h + corner[1]) * to[2] + corner[2];
            out[start..][..w].copy_from_slice(x);
        }
    }
}

/// The places of a volume, window by window, for windows of `kernel` that lie side by side, `count` along each axis.
pub(crate) fn in_windows([_, h, w]: Volume, [kd, kh, kw]: Volume, [pd, ph, pw]: Volume) -> Vec<usize> {
    let along = |count, step| (0..count).map(|i| i * step).collect();
    lattice(&[along(pd, kd * h * w), along(ph, kh * w), along(pw, kw), along(kd, h * w), along(kh, w), along(kw, 1)])
}
