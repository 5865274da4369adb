//! The weight gradient of a convolution: a product over all positions of all images.
//!
//! A small gradient is summed image by image, each task some images, and the partial sums are added in order. A large
//! one is cut into blocks of taps instead, each task a block over all images: adding up whole copies of it would cost
//! more than the product.

use crate::ops::gather::{DEPTH, NS_PER_MAC, check_offsets};
use crate::ops::geometry::{Conv, Framed};
use crate::par::{self, Shared};
use crate::tile::{Block, Offsets, Start};
use crate::turn::turn_into;
use crate::{Float, Shape, Tensor};

/// A gradient of more elements than this is large, if the batch's `dy` is not: it is read once a block.
const LARGE: usize = 64 << 10;
const SMALL_DY: usize = 1 << 20;

impl Conv {
    /// The weight gradient, given the input and a function that writes image `n`'s `dy` of a group as
    /// `[positions, o]`, in the order of `positions`.
    pub(crate) fn grad_weight<T: Float>(
        &self,
        input: Framed<'_, T>,
        positions: &[usize],
        dy: impl Fn(usize, usize, &mut [T]) + Sync,
    ) -> Tensor {
        let taps = self.taps(input.volume);
        if self.is_cut_by_taps(positions.len()) {
            return self.by_taps(input, &taps, positions, &dy);
        }
        let (plane, o) = (positions.len(), self.o_group);
        let cost = (plane * taps.len() * o) as f64 * NS_PER_MAC;
        self.by_images(&input, taps.len(), cost, |n, part, image, sums| {
            let mut turned = Tensor::dirty::<T>(Shape::from([plane, o]));
            dy(n, part, turned.own_slice());
            multiply_add(image, &taps, positions, turned.slice_of(), o, sums);
        })
    }

    /// Whether a task takes some taps of all images, each of so many positions, and not some images.
    pub(crate) fn is_cut_by_taps(&self, positions: usize) -> bool {
        let gradient = self.w_shape.elements() / self.groups.max(1);
        gradient >= LARGE && self.n * positions * self.o_group <= SMALL_DY
    }

    /// A task takes some taps of a group through all images.
    fn by_taps<T: Float>(
        &self,
        mut input: Framed<'_, T>,
        taps: &[usize],
        positions: &[usize],
        dy: &(dyn Fn(usize, usize, &mut [T]) + Sync),
    ) -> Tensor {
        let [o, plane] = [self.o_group, positions.len()];
        input.frame_all(self.n);
        let mut turned = Tensor::dirty::<T>(Shape::from([self.groups, self.n, plane, o]));
        par::rows(turned.own_slice::<T>(), (plane * o).max(1), (plane * o) as f64, |first, rows| {
            for (i, rows) in rows.chunks_exact_mut(plane * o).enumerate() {
                dy((first + i) % self.n, (first + i) / self.n, rows);
            }
        });
        let turned = turned.slice_of::<T>();
        let block = (taps.len() / 24).next_multiple_of(8).clamp(16, 64);
        let blocks = taps.len().div_ceil(block);
        Tensor::build(self.w_shape, |out: &mut [T]| {
            let out = Shared::new(out);
            let cost = (block * self.n * plane * o) as f64 * NS_PER_MAC;
            par::tasks(self.groups * blocks, cost, |task| {
                let (part, first) = (task / blocks, task % blocks * block);
                let some = &taps[first..taps.len().min(first + block)];
                let images = input.images(0..self.n, part, &mut []);
                let dy = &turned[part * self.n * plane * o..][..self.n * plane * o];
                let mut sums = Tensor::dirty::<T>(Shape::from([some.len(), o]));
                let sums = sums.own_slice::<T>();
                sums.fill(T::zero());
                for (image, dy) in images.iter().zip(dy.chunks_exact(plane * o)) {
                    multiply_add(image, some, positions, dy, o, sums);
                }
                let to = out.start().wrapping_add(part * o * taps.len() + first);
                // SAFETY: these taps of the group's channels are this task's alone.
                unsafe { turn_into([some.len(), o], sums, o, to, taps.len()) };
            });
        })
    }

    /// A task takes some images: `add(n, part, image, sums)` adds image `n`'s part of a group's gradient, as
    /// `[taps, o]`; it takes `cost` nanoseconds.
    pub(crate) fn by_images<T: Float>(
        &self,
        input: &Framed<'_, T>,
        taps: usize,
        cost: f64,
        add: impl Fn(usize, usize, &[T], &mut [T]) + Sync,
    ) -> Tensor {
        let (o, part_len) = (self.o_group, taps * self.o_group);
        if part_len == 0 {
            if o > 0 {
                // `add` may do more than add.
                (0..self.n * self.groups).for_each(|i| add(i / self.groups, i % self.groups, &[], &mut []));
            }
            return Tensor::zeros(self.w_shape, T::DTYPE);
        }
        // Enough work for a task, and to be worth adding up one more gradient. The cut depends on sizes alone.
        let least = 10_000.0 + part_len as f64;
        let images = par::even(self.n, ((least / cost.max(1.0)) as usize).max(self.n.div_ceil(16))).max(1);
        let cuts = self.n.div_ceil(images).max(1);
        let mut partial = Tensor::dirty::<T>(Shape::from([cuts, self.groups, taps, o]));
        par::rows(partial.own_slice::<T>(), part_len, cost * images as f64, |first, sums| {
            let mut memory = input.memory(1);
            for (i, sums) in sums.chunks_mut(part_len).enumerate() {
                let (cut, part) = ((first + i) / self.groups, (first + i) % self.groups);
                sums.fill(T::zero());
                for n in cut * images..self.n.min((cut + 1) * images) {
                    let image = input.images(n..n + 1, part, memory.own_slice());
                    add(n, part, image[0], sums);
                }
            }
        });
        let (partial, total) = (partial.slice_of::<T>(), self.groups * part_len);
        Tensor::build(self.w_shape, |out: &mut [T]| {
            let (out, block) = (Shared::new(out), 64);
            let blocks = taps.div_ceil(block);
            par::tasks(self.groups * blocks, (cuts * block * o) as f64 * 0.2, |task| {
                let (part, first) = (task / blocks, task % blocks * block);
                let count = block.min(taps - first);
                let start = part * part_len + first * o;
                let mut sum = Tensor::dirty::<T>(Shape::from([count, o]));
                let sum = sum.own_slice::<T>();
                sum.copy_from_slice(&partial[start..][..count * o]);
                for partial in partial.chunks_exact(total).skip(1) {
                    sum.iter_mut().zip(&partial[start..]).for_each(|(sum, &x)| *sum += x);
                }
                let to = out.start().wrapping_add(part * part_len + first);
                // SAFETY: these taps of the group's channels are this task's alone.
                unsafe { turn_into([count, o], sum, o, to, taps) };
            });
        })
    }
}

/// `sums[t, j] += Σ_p image[taps[t] + positions[p]] · dy[p, j]`
fn multiply_add<T: Float>(image: &[T], taps: &[usize], positions: &[usize], dy: &[T], columns: usize, sums: &mut [T]) {
    check_offsets(image, taps, positions);
    assert!(dy.len() >= positions.len() * columns && sums.len() >= taps.len() * columns);
    for t0 in (0..positions.len()).step_by(DEPTH) {
        let block = Block {
            rows: taps.len(),
            steps: DEPTH.min(positions.len() - t0),
            columns,
            a: image.as_ptr(),
            a_rows: Offsets::List(taps),
            a_steps: Offsets::List(&positions[t0..]),
            b: dy[t0 * columns..].as_ptr(),
            b_stride: columns,
            c: sums.as_mut_ptr(),
            c_stride: columns,
            start: Start::Sum,
            ahead: None,
        };
        // SAFETY: the offsets lie in the image (checked above), B and C have the block's sizes.
        unsafe { block.run() };
    }
}
