//! Pools over windows that are laid out once.

use super::tasks;
use crate::ops::pool_planes::mean_plane;
use crate::ops::windows::{Pool, Windows};
use crate::par::Shared;
use crate::simd::vectorized;
use crate::{Float, OutputSize, Result, Shape};

/// The greatest or the mean of each window, for samples of one shape; sequences and images are volumes whose leading
/// sizes are 1.
pub struct FrozenPool {
    windows: Windows,
    /// How many elements a mean counts along a row; none for a maximum.
    counts: Option<Vec<f32>>,
}

impl FrozenPool {
    /// [`Tensor::max_pool`](crate::Tensor::max_pool) of samples of `[c, d, h, w]`.
    ///
    /// # Errors
    /// A pool that is impossible or does not fit.
    pub fn max(sample: [usize; 4], pool: &Pool<3>) -> Result<Self> {
        Ok(Self { windows: Windows::of_pool(["frozen_max_pool"; 3], shape(sample), pool)?, counts: None })
    }

    /// [`Tensor::avg_pool`](crate::Tensor::avg_pool) of samples of `[c, d, h, w]`.
    ///
    /// # Errors
    /// A pool that is impossible or does not fit.
    pub fn mean(sample: [usize; 4], pool: &Pool<3>) -> Result<Self> {
        Ok(Self::mean_of(Windows::of_pool(["frozen_avg_pool"; 3], shape(sample), pool)?))
    }

    /// The mean of evenly shared places of samples of `[c, d, h, w]`.
    ///
    /// # Errors
    /// A size of 0.
    pub fn adaptive_mean(sample: [usize; 4], to: OutputSize<3>) -> Result<Self> {
        Ok(Self::mean_of(Windows::adaptive(["frozen_adaptive_avg_pool"; 3], shape(sample), to)?))
    }

    fn mean_of(windows: Windows) -> Self {
        Self { counts: Some(windows.counts()), windows }
    }

    /// The elements of a sample of the input.
    pub fn input(&self) -> usize {
        self.windows.output[1] * self.windows.plane()
    }

    /// The sizes `[c, d, h, w]` of a sample of the output.
    pub fn output(&self) -> [usize; 4] {
        std::array::from_fn(|axis| self.windows.output[axis + 1])
    }

    /// Writes the output of all samples in `x` to `y`.
    ///
    /// # Panics
    /// If the slices do not hold the same number of whole planes.
    pub fn run(&self, x: &[f32], y: &mut [f32], alone: bool) {
        let [plane, out] = [self.windows.plane(), self.windows.out_plane()];
        assert!(x.len().is_multiple_of(plane) && y.len() == x.len() / plane * out, "whole planes");
        let y = Shared::new(y);
        tasks(x.len() / plane, self.windows.seen() as f64 * 0.2, alone, |i| {
            // SAFETY: planes do not overlap.
            let (x, y) = (&x[i * plane..][..plane], unsafe { y.slice(i * out, out) });
            match &self.counts {
                Some(counts) => mean_plane(&self.windows, counts, x, y),
                None => greatest_plane(&self.windows, x, y),
            }
        });
    }
}

/// One sample, as the ops see it.
fn shape([c, d, h, w]: [usize; 4]) -> Shape {
    Shape::from([1, c, d, h, w])
}

vectorized! {
    /// The greatest element of each window; NaN counts as greatest. As `max_plane`, which also notes their places.
    fn greatest_plane<T: Float>(windows: &Windows, x: &[T], y: &mut [T]) {
        let ([.., width], columns, even) = (windows.input, &windows.spans[2], &windows.even);
        for (i, y) in y.chunks_mut(columns.len()).enumerate() {
            y.fill(T::neg_infinity());
            for u in windows.rows(i).0 {
                let x = &x[u * width..][..width];
                for j in even.others(columns.len()) {
                    columns[j].places().for_each(|v| y[j] = greater(y[j], x[v]));
                }
                let y = &mut y[even.range.clone()];
                for from in even.taps() {
                    match even.stride {
                        1 => y.iter_mut().zip(&x[from..]).for_each(|(y, &x)| *y = greater(*y, x)),
                        2 => y.iter_mut().zip(x[from..].chunks(2)).for_each(|(y, x)| *y = greater(*y, x[0])),
                        stride => y.iter_mut().zip(x[from..].chunks(stride)).for_each(|(y, x)| *y = greater(*y, x[0])),
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn greater<T: Float>(a: T, b: T) -> T {
    if (b > a) | b.is_nan() { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rng, Tensor, Window3d};

    #[test]
    fn the_mean_of_a_large_plane_keeps_its_digits() {
        const PLANE: usize = 112 * 112;
        let pool = FrozenPool::adaptive_mean([1, 1, 1, PLANE], [1, 1, 1].into()).unwrap();
        let mut y = [0.0];
        pool.run(&vec![0.1; PLANE], &mut y, true);
        // Sixteen lanes of sums: a sixteenth of the plane's roundings each. One chain of sums is beyond it.
        let bound = 0.1 * (PLANE / 16) as f32 * f32::EPSILON;
        assert!((y[0] - 0.1).abs() <= bound, "{}", y[0]);
    }

    #[test]
    fn equals_the_ops() {
        let mut rng = Rng::new(5);
        for (size, pool) in [
            ([1, 13, 12], Pool::from(Window3d::pool([1, 2, 2]))),
            ([1, 9, 9], Pool::from(Window3d::new([1, 3, 3]).stride([1, 2, 2]).padding([0, 1, 1])).ceil_mode(true)),
            ([1, 1, 40], Window3d::new([1, 1, 3]).into()),
            ([3, 5, 7], Pool::from(Window3d::new(2).padding(1).stride(3)).count_include_pad(false)),
            ([1, 1, 30], Window3d::new([1, 1, 3]).dilation([1, 1, 4]).stride([1, 1, 3]).into()),
        ] {
            let [d, h, w] = size;
            let x = Tensor::normal([2, 3, d, h, w], 0.0f32, 1.0, &mut rng);
            let cases = [
                (FrozenPool::max([3, d, h, w], &pool).unwrap(), x.max_pool(pool).unwrap().0),
                (FrozenPool::mean([3, d, h, w], &pool).unwrap(), x.avg_pool(pool).unwrap()),
            ];
            for (frozen, want) in cases {
                let mut y = Tensor::zeros_like(&want);
                frozen.run(x.slice_of(), y.own_slice(), false);
                assert_eq!((&want.shape()[1..], &y), (&frozen.output()[..], &want));
            }
        }
    }

    #[test]
    fn windows_that_share_the_input_out() {
        // [0, 2), [1, 3), [3, 5), [4, 6) by the definition.
        let pool = FrozenPool::adaptive_mean([1, 1, 1, 6], [1, 1, 4].into()).unwrap();
        let mut y = [0.0; 4];
        pool.run(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut y, true);
        assert_eq!((pool.output(), y), ([1, 1, 1, 4], [1.5, 2.5, 4.5, 5.5]));
    }

    #[test]
    fn nan_counts_as_greatest() {
        let pool = FrozenPool::max([1, 1, 1, 4], &Window3d::pool([1, 1, 2]).into()).unwrap();
        let mut y = [0.0; 2];
        pool.run(&[f32::NAN, 1.0, 2.0, f32::NAN], &mut y, true);
        assert!(y.iter().all(|y| y.is_nan()));
    }
}
