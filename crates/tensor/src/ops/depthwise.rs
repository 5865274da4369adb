//! Convolutions in which each output channel sees one input channel, and their adjoints: there is no matrix to
//! multiply, so each plane is worked on along its rows.
//!
//! With a stride, the columns of a row are first sorted by their rest, so that what neighboring outputs meet lies side
//! by side: with 2, the even columns and then the odd ones.

use crate::ops::geometry::{Conv, Volume, area, lattice, pitches};
use crate::ops::matmul::{Activation, finish};
use crate::par::{self, Shared};
use crate::simd::vectorized;
use crate::{Float, Shape, Tensor};
use std::array::from_fn;

/// Outputs that are computed at once in registers.
const WIDE: usize = 64;
/// A vector's worth, for what is left of a row.
const NARROW: usize = 16;
/// Nanoseconds of one multiply-add.
const NS: f64 = 0.06;

/// Where the elements of a plane lie once it is padded and sorted.
struct Layout {
    from: Volume,
    padding: Volume,
    stride: usize,
    /// Columns of one rest.
    columns: usize,
    /// With the padding; the last axis holds all rests.
    volume: Volume,
    /// Where each output row's first tap lies, and the other taps from there.
    rows: Vec<usize>,
    taps: Vec<usize>,
    /// Outputs of a row.
    width: usize,
}

impl Conv {
    /// Whether these kernels take it: few enough output channels for each input channel that a matrix would be thin.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.c_group == 1 && self.o_group <= 4 && self.groups > 1
    }

    pub(crate) fn depthwise<T: Float>(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        activation: Activation,
    ) -> Tensor {
        let (layout, taps, plane) = (Layout::new(self), area(self.window.kernel), area(self.output));
        let (x, weight, bias) = (x.slice_of::<T>(), weight.slice_of::<T>(), bias.map(Tensor::slice_of::<T>));
        Tensor::build(self.y_shape, |y: &mut [T]| {
            let out_len = (self.o_group * plane).max(1);
            par::rows(y, out_len, (out_len * taps) as f64 * NS, |first, y| {
                let mut memory = layout.memory::<T>();
                for (i, y) in y.chunks_exact_mut(out_len).enumerate() {
                    let padded = layout.place(&x[(first + i) * area(self.input)..], memory.own_slice());
                    for (k, y) in y.chunks_exact_mut(plane).enumerate() {
                        let o = (first + i) % self.groups * self.o_group + k;
                        let bias = bias.map_or(T::zero(), |bias| bias[o]);
                        correlate(padded, &layout.rows, &layout.taps, &weight[o * taps..][..taps], bias, y);
                        finish(y, activation);
                    }
                }
            });
        })
    }

    pub(crate) fn depthwise_grad_input<T: Float>(&self, dy: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let (layout, taps, plane) = (Layout::new(self), area(self.window.kernel), area(self.output));
        let (dy, weight, bias) = (dy.slice_of::<T>(), weight.slice_of::<T>(), bias.map(Tensor::slice_of::<T>));
        Tensor::build(self.x_shape, |dx: &mut [T]| {
            let size = area(self.input).max(1);
            let cost = (self.o_group * plane * taps) as f64 * NS;
            par::rows(dx, size, cost, |first, dx| {
                let (mut memory, mut dy_memory) = (layout.memory::<T>(), layout.dy_memory::<T>());
                let dy_here = dy_memory.own_slice::<T>();
                for (i, dx) in dx.chunks_exact_mut(size).enumerate() {
                    let (channel, sums) = ((first + i) % self.groups, memory.own_slice::<T>());
                    sums.fill(bias.map_or(T::zero(), |bias| bias[channel]));
                    for k in 0..self.o_group {
                        layout.place_dy(&dy[((first + i) * self.o_group + k) * plane..], dy_here);
                        let weight = &weight[(channel * self.o_group + k) * taps..][..taps];
                        scatter(dy_here, &layout.rows, &layout.taps, weight, sums);
                    }
                    layout.take(sums, dx);
                }
            });
        })
    }

    pub(crate) fn depthwise_grad_weight<T: Float>(&self, dy: &Tensor, x: &Tensor) -> Tensor {
        let (layout, taps, plane) = (Layout::new(self), area(self.window.kernel), area(self.output));
        let (dy, x) = (dy.slice_of::<T>(), x.slice_of::<T>());
        Tensor::build(self.w_shape, |dw: &mut [T]| {
            let dw = Shared::new(dw);
            let cost = (self.n * self.o_group * plane * taps) as f64 * NS;
            // A task is a channel: its sums run over the images in their order.
            par::tasks(self.groups, cost, |channel| {
                let (mut memory, mut dy_memory) = (layout.memory::<T>(), layout.dy_memory::<T>());
                let dy_here = dy_memory.own_slice::<T>();
                let mut sums = vec![0.0; self.o_group * taps];
                for n in 0..self.n {
                    let at = n * self.groups + channel;
                    let padded = layout.place(&x[at * area(self.input)..], memory.own_slice());
                    for (k, sums) in sums.chunks_exact_mut(taps).enumerate() {
                        layout.place_dy(&dy[(at * self.o_group + k) * plane..], dy_here);
                        products(padded, &layout.rows, &layout.taps, dy_here, sums);
                    }
                }
                // SAFETY: each channel's weights are one task's alone.
                let dw = unsafe { dw.slice(channel * self.o_group * taps, self.o_group * taps) };
                dw.iter_mut().zip(sums).for_each(|(dw, sum)| *dw = T::from_f64(sum));
            });
        })
    }
}

impl Layout {
    fn new(conv: &Conv) -> Self {
        let window = conv.window;
        let [depth, height, width] = conv.padded_volume();
        let stride = window.stride[2].min(width.max(1)); // beyond the row there is one output, whatever the stride
        let columns = width.div_ceil(stride);
        let volume = [depth, height, columns * stride];
        let pitch = pitches(volume);
        let scaled = |count: usize, by: usize| (0..count).map(|i| i * by).collect::<Vec<_>>();
        let rows = from_fn::<_, 2, _>(|side| scaled(conv.output[side], window.stride[side] * pitch[side]));
        let [depths, heights] = from_fn(|side| scaled(window.kernel[side], window.dilation[side] * pitch[side]));
        let column = |p: usize| p * window.dilation[2] % stride * columns + p * window.dilation[2] / stride;
        let across = (0..window.kernel[2]).map(column).collect();
        let taps = lattice(&[depths, heights, across]);
        Self {
            from: conv.input,
            padding: window.padding,
            stride,
            columns,
            volume,
            rows: lattice(&rows),
            taps,
            width: conv.output[2],
        }
    }

    /// For one plane, and as much behind it as a vector may read beyond a row.
    fn memory<T: Float>(&self) -> Tensor {
        Tensor::dirty::<T>(Shape::from([area(self.volume) + NARROW]))
    }

    /// For one plane of `dy`, its rows filled up to whole vectors.
    fn dy_memory<T: Float>(&self) -> Tensor {
        Tensor::dirty::<T>(Shape::from([self.rows.len(), self.width.next_multiple_of(NARROW)]))
    }

    fn place_dy<T: Float>(&self, dy: &[T], memory: &mut [T]) {
        let pitch = self.width.next_multiple_of(NARROW);
        for (row, dy) in memory.chunks_exact_mut(pitch).zip(dy.chunks_exact(self.width)) {
            row[..self.width].copy_from_slice(dy);
            row[self.width..].fill(T::zero());
        }
    }

    /// Where each row of the input begins, and the rests of its columns.
    fn lines(&self) -> impl Iterator<Item = usize> {
        let [_, pitch, _] = pitches(self.volume);
        let [depth, height, _] = self.from;
        (0..depth * height).map(move |row| {
            ((row / height + self.padding[0]) * self.volume[1] + row % height + self.padding[1]) * pitch
        })
    }

    /// Where column `u` of a row of the input lies in its line.
    fn column(&self, u: usize) -> usize {
        (u + self.padding[2]) % self.stride * self.columns + (u + self.padding[2]) / self.stride
    }

    fn place<'m, T: Float>(&self, x: &[T], memory: &'m mut [T]) -> &'m [T] {
        memory.fill(T::zero());
        let width = self.from[2];
        for (line, x) in self.lines().zip(x.chunks_exact(width.max(1))) {
            for first in 0..self.stride.min(width) {
                let out = &mut memory[line + self.column(first)..];
                match self.stride {
                    1 => out[..width].copy_from_slice(x),
                    stride => x[first..].iter().step_by(stride).zip(out).for_each(|(&x, out)| *out = x),
                }
            }
        }
        memory
    }

    fn take<T: Float>(&self, memory: &[T], x: &mut [T]) {
        let width = self.from[2];
        for (line, x) in self.lines().zip(x.chunks_exact_mut(width.max(1))) {
            for first in 0..self.stride.min(width) {
                let from = &memory[line + self.column(first)..];
                match self.stride {
                    1 => x.copy_from_slice(&from[..width]),
                    stride => x[first..].iter_mut().step_by(stride).zip(from).for_each(|(x, &from)| *x = from),
                }
            }
        }
    }
}

vectorized! {
    /// `y[i, j] = bias + Σ_t x[rows[i] + taps[t] + j] · weight[t]`
    fn correlate<T: Float>(x: &[T], rows: &[usize], taps: &[usize], weight: &[T], bias: T, y: &mut [T]) {
        let width = y.len() / rows.len().max(1);
        for (&row, y) in rows.iter().zip(y.chunks_exact_mut(width.max(1))) {
            let (wide, rest) = y.as_chunks_mut::<WIDE>();
            let narrow_from = row + wide.len() * WIDE;
            for (i, y) in wide.iter_mut().enumerate() {
                *y = sums::<T, WIDE>(&x[row + i * WIDE..], taps, weight, bias);
            }
            for (i, y) in rest.chunks_mut(NARROW).enumerate() {
                let sums = sums::<T, NARROW>(&x[narrow_from + i * NARROW..], taps, weight, bias);
                y.copy_from_slice(&sums[..y.len()]);
            }
        }
    }
}

#[inline(always)]
fn sums<T: Float, const N: usize>(x: &[T], taps: &[usize], weight: &[T], bias: T) -> [T; N] {
    let mut sums = [bias; N];
    for (&tap, &weight) in taps.iter().zip(weight) {
        let x = &x[tap..][..N];
        for j in 0..N {
            sums[j] += weight * x[j];
        }
    }
    sums
}

vectorized! {
    /// Adjoint of [`correlate`] towards `x`: `x[rows[i] + taps[t] + j] += dy[i, j] · weight[t]`. Rows of `dy` end in
    /// zeros, to whole vectors, and may reach beyond their row of `x`.
    fn scatter<T: Float>(dy: &[T], rows: &[usize], taps: &[usize], weight: &[T], x: &mut [T]) {
        let pitch = dy.len() / rows.len().max(1);
        // Taps outermost: a row is read again long after it was written, not from a store that is still on its way.
        for (&tap, &weight) in taps.iter().zip(weight) {
            for (&row, dy) in rows.iter().zip(dy.chunks_exact(pitch.max(1))) {
                let x = x[row + tap..][..pitch].as_chunks_mut::<NARROW>().0;
                for (x, dy) in x.iter_mut().zip(dy.as_chunks::<NARROW>().0) {
                    for j in 0..NARROW {
                        x[j] += dy[j] * weight;
                    }
                }
            }
        }
    }
}

vectorized! {
    /// Adjoint of [`correlate`] towards the weight: `dw[t] += Σ_ij x[rows[i] + taps[t] + j] · dy[i, j]`, with rows of
    /// `dy` as in [`scatter`].
    fn products<T: Float>(x: &[T], rows: &[usize], taps: &[usize], dy: &[T], dw: &mut [f64]) {
        let pitch = dy.len() / rows.len().max(1);
        for (&tap, dw) in taps.iter().zip(dw) {
            let mut sums = [T::zero(); NARROW];
            for (&row, dy) in rows.iter().zip(dy.chunks_exact(pitch.max(1))) {
                let x = x[row + tap..][..pitch].as_chunks::<NARROW>().0;
                for (dy, x) in dy.as_chunks::<NARROW>().0.iter().zip(x) {
                    for j in 0..NARROW {
                        sums[j] += dy[j] * x[j];
                    }
                }
            }
            *dw += sums.iter().map(|sum| sum.as_f64()).sum::<f64>();
        }
    }
}
