//! The sizes of a convolution, and where its elements lie: positions, taps, padding.

use crate::ops::matmul::check_bias;
use crate::par;
use crate::{Error, Float, Result, Shape, Tensor, Window2d};

/// The sizes of one convolution.
pub(crate) struct Conv {
    pub(crate) n: usize,
    pub(crate) c: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) o: usize,
    pub(crate) oh: usize,
    pub(crate) ow: usize,
    pub(crate) groups: usize,
    pub(crate) c_group: usize,
    pub(crate) o_group: usize,
    pub(crate) window: Window2d,
}

/// A height and a width in memory.
pub(crate) type Image = [usize; 2];

impl Conv {
    pub(crate) fn new(op: &'static str, x: Shape, weight: Shape, window: Window2d) -> Result<Self> {
        let axes = |shape: Shape, name: &str, meaning: &str| -> Result<[usize; 4]> {
            shape.sizes().try_into().map_err(|_| {
                let what = format!("{name} {shape} has {} axes", shape.rank());
                Error::shape(op, what, format!("it must be {meaning}"))
            })
        };
        let [n, c, h, w] = axes(x, "input", "[n, channels, height, width]")?;
        let [o, c_group, kh, kw] = axes(weight, "weight", "[out, in / groups, kernel height, kernel width]")?;
        let [oh, ow] = window.output(op, [h, w])?;
        let groups = window.groups;
        if [kh, kw] != window.kernel {
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
        Ok(Self { n, c, h, w, o, oh, ow, groups, c_group, o_group: o / groups, window })
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
        let expected = Shape::from([self.n, self.o, self.oh, self.ow]);
        if dy.shape() == expected {
            return Ok(());
        }
        Err(Error::shape(
            op,
            format!("dy is {}, the output was {expected}", dy.shape()),
            "pass the gradient of the output",
        ))
    }

    /// The input with its padding in memory, and the size of its images.
    pub(crate) fn padded<T: Float>(&self, x: &Tensor) -> (Image, Tensor) {
        let [ph, pw] = self.window.padding;
        if [ph, pw] == [0, 0] {
            return ([self.h, self.w], x.clone());
        }
        let image = [self.h + 2 * ph, self.w + 2 * pw];
        (image, place::<T>(x, [self.h, self.w], image, [ph, pw]))
    }

    /// `dy` with a border of zeros, so that every pixel's taps lie inside, and the size of its images.
    pub(crate) fn bordered<T: Float>(&self, dy: &Tensor) -> (Image, Tensor) {
        let border = self.border();
        let size = |side: usize, input: usize, output: usize| {
            border[side] + output.max((input.max(1) - 1 + self.window.padding[side]) / self.window.stride[side] + 1)
        };
        let image = [size(0, self.h, self.oh), size(1, self.w, self.ow)];
        (image, place::<T>(dy, [self.oh, self.ow], image, border))
    }

    pub(crate) fn border(&self) -> Image {
        std::array::from_fn(|side| {
            (self.window.span(side) - 1).saturating_sub(self.window.padding[side]).div_ceil(self.window.stride[side])
        })
    }

    /// The offset of each output position's first tap.
    pub(crate) fn positions(&self, image: Image) -> Vec<usize> {
        let [sh, sw] = self.window.stride;
        (0..self.oh).flat_map(|i| (0..self.ow).map(move |j| i * sh * image[1] + j * sw)).collect()
    }

    /// The offset of each tap from a position, in the order of the weight's axes.
    pub(crate) fn taps(&self, image: Image) -> Vec<usize> {
        let ([kh, kw], [dh, dw]) = (self.window.kernel, self.window.dilation);
        let kernel = move |c: usize| {
            (0..kh).flat_map(move |p| (0..kw).map(move |q| (c * image[0] + p * dh) * image[1] + q * dw))
        };
        (0..self.c_group).flat_map(kernel).collect()
    }
}

/// Copies each plane of `x`, of size `from`, into a plane of zeros of size `to`, at `corner`; what lies outside is cut.
fn place<T: Float>(x: &Tensor, from: Image, to: Image, corner: Image) -> Tensor {
    let [n, c, ..] = *x.shape().sizes() else { unreachable!("checked to have 4 axes") };
    let x = x.slice_of::<T>();
    Tensor::build(Shape::from([n, c, to[0], to[1]]), |out: &mut [T]| {
        let (size, area) = (to[0] * to[1], from[0] * from[1]);
        par::rows(out, size.max(1), size as f64 * 0.2, |first, planes| {
            planes.fill(T::zero());
            for (i, plane) in planes.chunks_mut(size).enumerate() {
                let x = &x[(first + i) * area..][..area];
                for (y, row) in x.chunks(from[1].max(1)).enumerate() {
                    plane[(y + corner[0]) * to[1] + corner[1]..][..from[1]].copy_from_slice(row);
                }
            }
        });
    })
}
