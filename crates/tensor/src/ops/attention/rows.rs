//! Attention on the elements of a block of scores: exponentials, dropout, gradients; one query a lane.

use super::kernel::VECTORS;
use crate::lanes::{Job, Lanes, Lanewise};
use crate::math::Math;
use crate::ops::dropout::Dropout;
use crate::ops::moments::Dot;
use crate::ops::number::Number;
use crate::simd::vectorized;

/// Lanes in a vector loop.
pub(super) const LANES: usize = 16;

/// What the kernels need of an element: one name, because `vectorized!` takes one bound.
pub(super) trait AttentionMath: Math + Number + Lanewise {
    /// Just above the exponent of the least normal number.
    const FLOOR: Self;
    /// Far above what rounding may make of a 0.
    const CEILING: Self;

    /// `eˣ` for an `x` that at most rounding lifts above 0. What is below normal numbers is 0: −∞, which masks are full
    /// of, must not cost a slow denormal number on the way.
    #[inline(always)]
    fn weight<const FUSED: bool>(self) -> Self {
        let x = if self < Self::FLOOR { Self::FLOOR } else { self };
        let exp = if x > Self::CEILING { Self::CEILING } else { x }.exp_of_middle::<FUSED>();
        if self < Self::FLOOR { Self::zero() } else { exp }
    }
}

impl AttentionMath for f32 {
    const FLOOR: f32 = -87.0;
    const CEILING: f32 = 88.0;
}

impl AttentionMath for f64 {
    const FLOOR: f64 = -708.0;
    const CEILING: f64 = 708.0;
}

/// The vector's worth of elements from `at` on.
#[inline(always)]
fn vector<T: Copy>(x: &[T], at: usize) -> [T; LANES] {
    x[at..at + LANES].try_into().expect("LANES elements")
}

vectorized! {
    /// Scores to `e^(score − greatest)`, where the greatest may rise: then what was summed before shrinks by `rescale`.
    /// Each vector of queries looks at so many of the rows.
    pub(super) fn exponentials<T: AttentionMath>(
        scores: &mut [T],
        greatest: &mut [T],
        totals: &mut [T],
        rescale: &mut [T],
        width: usize,
        looks: [usize; VECTORS],
    ) {
        for (at, looks) in (0..width).step_by(LANES).zip(looks) {
            let before = vector(greatest, at);
            let mut most = before;
            for row in scores.chunks_exact(width).take(looks) {
                let row = vector(row, at);
                for i in 0..LANES {
                    // May lose a NaN, whose exponential then makes the sum NaN all the same.
                    most[i] = if row[i] > most[i] { row[i] } else { most[i] };
                }
            }
            // As long as nothing may be looked at: −∞ − 0, not −∞ + ∞.
            let mut shift = most;
            for shift in &mut shift {
                *shift = if *shift == T::LEAST { T::zero() } else { *shift };
            }
            let mut sum = vector(totals, at);
            for i in 0..LANES {
                rescale[at + i] = (before[i] - shift[i]).weight::<FUSED>();
                sum[i] *= rescale[at + i];
            }
            for row in scores.chunks_exact_mut(width).take(looks) {
                let row = &mut row[at..at + LANES];
                for i in 0..LANES {
                    row[i] = (row[i] - shift[i]).weight::<FUSED>();
                    sum[i] += row[i];
                }
            }
            greatest[at..at + LANES].copy_from_slice(&most);
            totals[at..at + LANES].copy_from_slice(&sum);
        }
    }
}

vectorized! {
    pub(super) fn scale_rows<T: AttentionMath>(rows: &mut [T], by: &[T], width: usize) {
        for (row, &by) in rows.chunks_exact_mut(width.max(1)).zip(by) {
            for x in row {
                *x *= by;
            }
        }
    }
}

vectorized! {
    pub(super) fn scale<T: AttentionMath>(x: &mut [T], by: T) {
        x.iter_mut().for_each(|x| *x *= by);
    }
}

vectorized! {
    /// Hides so many of the first row's scores, and one more in each row after it.
    pub(super) fn hide<T: AttentionMath>(scores: &mut [T], width: usize, hidden: usize) {
        for (row, hidden) in scores.chunks_exact_mut(width).zip(hidden..) {
            for (i, score) in row.iter_mut().enumerate() {
                *score = if i < hidden { T::LEAST } else { *score };
            }
        }
    }
}

vectorized! {
    /// The sums of exponentials to their logarithms; `shares` are their inverses, 0 where nothing was looked at.
    pub(super) fn finish<T: AttentionMath>(greatest: &[T], totals: &mut [T], shares: &mut [T]) {
        for ((total, share), &greatest) in totals.iter_mut().zip(shares).zip(greatest) {
            *share = if *total == T::zero() { T::zero() } else { T::one() / *total };
            *total = greatest + total.fast_ln::<FUSED>();
        }
    }
}

/// The beginning of `from` to `to`, without the call that `copy_from_slice` would be for each short row.
#[inline(always)]
pub(super) fn copy_row<T: Copy>(to: &mut [T], from: &[T]) {
    let from = &from[..to.len()];
    let (to, to_rest) = to.as_chunks_mut::<LANES>();
    let (from, from_rest) = from.as_chunks::<LANES>();
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
}

vectorized! {
    pub(super) fn drop_weights<T: AttentionMath>(weights: &mut [T], drop: Dropout<T>, first: u64, t_k: usize, width: usize) {
        for (k, row) in weights.chunks_exact_mut(width).enumerate() {
            for (i, weight) in row.iter_mut().enumerate() {
                *weight *= drop.factor(first + (i * t_k + k) as u64);
            }
        }
    }
}

/// `Σ a · b` of each of `out.len()` rows of `width` elements, `stride` apart.
pub(super) fn row_products<T: AttentionMath>(out: &mut [T], a: &[T], b: &[T], stride: usize, width: usize) {
    T::with_lanes(RowProducts { out, a, b, stride, width });
}

struct RowProducts<'a, T> {
    out: &'a mut [T],
    a: &'a [T],
    b: &'a [T],
    stride: usize,
    width: usize,
}

impl<T: AttentionMath> Job<T> for RowProducts<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = T>>(self) {
        for (i, out) in self.out.iter_mut().enumerate() {
            let row = i * self.stride..i * self.stride + self.width;
            // SAFETY: the caller's promise.
            *out = T::from_f64(unsafe { Dot(&self.a[row.clone()], &self.b[row]).run::<L>() });
        }
    }
}

vectorized! {
    /// Scores to weights after dropout, and the gradients of those weights to the gradients of the scores.
    pub(super) fn weigh<T: AttentionMath>(
        weights: &mut [T],
        slopes: &mut [T],
        logs: &[T],
        along: &[T],
        scale: T,
        drop: Option<Dropout<T>>,
        first: u64,
        t_k: usize,
        width: usize,
        looks: [usize; VECTORS],
    ) {
        for (at, looks) in (0..width).step_by(LANES).zip(looks) {
            let (logs, along) = (vector(logs, at), vector(along, at));
            let rows = weights.chunks_exact_mut(width).zip(slopes.chunks_exact_mut(width));
            for (k, (weights, slopes)) in rows.enumerate().take(looks) {
                let (weights, slopes) = (&mut weights[at..at + LANES], &mut slopes[at..at + LANES]);
                let mut kept = [T::one(); LANES];
                if let Some(drop) = drop {
                    for i in 0..LANES {
                        kept[i] = drop.factor(first + ((at + i) * t_k + k) as u64);
                    }
                }
                for i in 0..LANES {
                    let weight = (weights[i] - logs[i]).weight::<FUSED>();
                    weights[i] = weight * kept[i];
                    slopes[i] = weight * (slopes[i] * kept[i] - along[i]) * scale;
                }
            }
        }
    }
}
