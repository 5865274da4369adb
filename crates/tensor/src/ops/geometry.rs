//! The sizes of a convolution, and where its elements lie: positions, taps, padding.
//!
//! Sequences and images are volumes whose leading axes have size 1: from here on there are always three spatial axes,
//! and all kernels work on lists of offsets that know nothing of axes.

use crate::ops::matmul::check_bias;
use crate::par;
use crate::window::axis_names;
use crate::{Error, Float, Result, Shape, Tensor, Window, Window3d};
use std::array::from_fn;

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
        if self.window.padding == [0; 3] {
            return (self.input, x.clone());
        }
        let volume = self.padded_volume();
        (volume, place::<T>(x, self.input, volume, self.window.padding))
    }

    /// The input's size with its padding.
    pub(crate) fn padded_volume(&self) -> Volume {
        from_fn(|side| self.input[side] + 2 * self.window.padding[side])
    }

    /// `dy` with a border of zeros, so that every pixel's taps lie inside, and the size of its volumes.
    pub(crate) fn bordered<T: Float>(&self, dy: &Tensor) -> (Volume, Tensor) {
        let volume = self.bordered_volume();
        (volume, place::<T>(dy, self.output, volume, self.border()))
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

/// Copies each volume of `x`, of size `from`, into a volume of zeros of size `to`, at `corner`.
fn place<T: Float>(x: &Tensor, from: Volume, to: Volume, corner: Volume) -> Tensor {
    let [n, c, ..] = *x.shape().sizes() else { unreachable!("checked to have a batch and channels") };
    let x = x.slice_of::<T>();
    Tensor::build(Shape::from([n, c, to[0], to[1], to[2]]), |out: &mut [T]| {
        par::rows(out, area(to).max(1), area(to) as f64 * 0.2, |first, volumes| {
            volumes.fill(T::zero());
            for (i, volume) in volumes.chunks_mut(area(to)).enumerate() {
                let x = &x[(first + i) * area(from)..][..area(from)];
                for (row, x) in x.chunks(from[2].max(1)).enumerate() {
                    let (z, y) = (row / from[1], row % from[1]);
                    let start = ((z + corner[0]) * to[1] + y + corner[1]) * to[2] + corner[2];
                    volume[start..][..from[2]].copy_from_slice(x);
                }
            }
        });
    })
}
