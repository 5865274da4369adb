//! The loops of the pools over one plane: for each row of the output, over the rows of the input that it sees.
//!
//! Along a row most windows lie evenly (`Even`). They are taken tap by tap, so that neighboring windows are the lanes
//! of a vector; those at the border are taken one by one. Either way each output meets its elements in their order, but
//! for the mean of a long row, which is summed in lanes.

use super::moments::Sum;
use super::windows::{Even, Windows};
use crate::Float;
use crate::lanes::Lanewise;
use crate::simd::vectorized;

/// From this many elements on a row is summed in lanes.
const LONG: usize = 64;

vectorized! {
    /// The first greatest element of each window, and its place; NaN counts as greatest.
    pub(crate) fn max_plane<T: Float>(windows: &Windows, x: &[T], y: &mut [T], places: &mut [i64]) {
        let ([.., width], columns, even) = (windows.input, &windows.spans[2], &windows.even);
        for (i, (y, places)) in y.chunks_mut(columns.len()).zip(places.chunks_mut(columns.len())).enumerate() {
            let (rows, _) = windows.rows(i);
            let first = rows.clone().next().map_or(0, |u| u * width);
            y.fill(T::neg_infinity());
            places.iter_mut().zip(columns).for_each(|(place, span)| *place = (first + span.start) as i64);
            for u in rows {
                let (at, x) = (u * width, &x[u * width..][..width]);
                for j in even.others(columns.len()) {
                    columns[j].places().for_each(|v| take_greater(x[v], (at + v) as i64, &mut y[j], &mut places[j]));
                }
                let (y, places) = (&mut y[even.range.clone()], &mut places[even.range.clone()]);
                for from in even.taps() {
                    let (at, x) = (at + from, &x[from..]);
                    match even.stride {
                        1 => greatest::<T, 1>(x, 1, at, y, places),
                        2 => greatest::<T, 2>(x, 2, at, y, places),
                        stride => greatest::<T, 0>(x, stride, at, y, places),
                    }
                }
            }
        }
    }
}

vectorized! {
    /// The mean of each window. A mean along a row counts `counts`.
    pub(crate) fn mean_plane<T: Lanewise>(windows: &Windows, counts: &[T], x: &[T], y: &mut [T]) {
        let ([.., width], columns, even) = (windows.input, &windows.spans[2], &windows.even);
        y.fill(T::zero());
        for (i, y) in y.chunks_mut(columns.len()).enumerate() {
            let (rows, counted) = windows.rows(i);
            for u in rows {
                let x = &x[u * width..][..width];
                if let [span] = columns[..]
                    && span.step == 1
                    && span.start + LONG <= span.end
                {
                    let x = &x[span.start..span.end];
                    y[0] += T::from_f64(T::with_lanes(Sum(x)));
                    continue;
                }
                for j in even.others(columns.len()) {
                    columns[j].places().for_each(|v| y[j] += x[v]);
                }
                let y = &mut y[even.range.clone()];
                for from in even.taps() {
                    match even.stride {
                        1 => add::<T, 1>(&x[from..], 1, y),
                        2 => add::<T, 2>(&x[from..], 2, y),
                        stride => add::<T, 0>(&x[from..], stride, y),
                    }
                }
            }
            let counted = T::from_f64(counted as f64);
            y.iter_mut().zip(counts).for_each(|(y, &count)| *y *= T::one() / (counted * count));
        }
    }
}

vectorized! {
    /// Adjoint of `mean_plane`; `parts` is memory for one row of the output.
    pub(crate) fn mean_plane_grad<T: Float>(
        windows: &Windows,
        counts: &[T],
        dy: &[T],
        parts: &mut [T],
        dx: &mut [T],
    ) {
        let ([.., width], columns, even) = (windows.input, &windows.spans[2], &windows.even);
        dx.fill(T::zero());
        for (i, dy) in dy.chunks(columns.len()).enumerate() {
            let (rows, counted) = windows.rows(i);
            let counted = T::from_f64(counted as f64);
            let shares = dy.iter().zip(counts).map(|(&dy, &count)| dy * (T::one() / (counted * count)));
            parts.iter_mut().zip(shares).for_each(|(part, share)| *part = share);
            for u in rows {
                let dx = &mut dx[u * width..][..width];
                for j in 0..even.range.start {
                    columns[j].places().for_each(|v| dx[v] += parts[j]);
                }
                let inner = &parts[even.range.clone()];
                match even.stride {
                    2 if even.is_gapless() => spread_gapless::<T, 2>(&mut dx[even.start..], inner),
                    3 if even.is_gapless() => spread_gapless::<T, 3>(&mut dx[even.start..], inner),
                    // From the last tap on, so that what meets is added in the order of the windows.
                    1 => even.taps().rev().for_each(|from| spread::<T, 1>(&mut dx[from..], 1, inner)),
                    stride => even.taps().rev().for_each(|from| spread::<T, 0>(&mut dx[from..], stride, inner)),
                }
                for j in even.range.end..columns.len() {
                    columns[j].places().for_each(|v| dx[v] += parts[j]);
                }
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::neg_cmp_op_on_partial_ord)] // true for NaN
fn take_greater<T: Float>(x: T, at: i64, y: &mut T, place: &mut i64) {
    let wins = !(x <= *y) && !y.is_nan();
    *place = if wins { at } else { *place };
    *y = if wins { x } else { *y };
}

/// `y[j] = max(y[j], x[j · stride])` with its place; `STRIDE` is the stride where the loop is compiled for it, else 0.
#[inline(always)]
fn greatest<T: Float, const STRIDE: usize>(x: &[T], stride: usize, at: usize, y: &mut [T], places: &mut [i64]) {
    let stride = if STRIDE == 0 { stride } else { STRIDE };
    let whole = y.len().min(x.len() / stride); // the last one's chunk may reach beyond the row
    let ((y, y_last), (places, place_last)) = (y.split_at_mut(whole), places.split_at_mut(whole));
    for (j, ((y, place), x)) in y.iter_mut().zip(places).zip(x.chunks_exact(stride)).enumerate() {
        take_greater(x[0], (at + j * stride) as i64, y, place);
    }
    if let ([y], [place]) = (y_last, place_last) {
        take_greater(x[whole * stride], (at + whole * stride) as i64, y, place);
    }
}

/// `y[j] += x[j · stride]`
#[inline(always)]
fn add<T: Float, const STRIDE: usize>(x: &[T], stride: usize, y: &mut [T]) {
    let stride = if STRIDE == 0 { stride } else { STRIDE };
    let whole = y.len().min(x.len() / stride);
    let (y, last) = y.split_at_mut(whole);
    y.iter_mut().zip(x.chunks_exact(stride)).for_each(|(y, x)| *y += x[0]);
    if let [y] = last {
        *y += x[whole * stride];
    }
}

/// `x[j · stride] += parts[j]`
#[inline(always)]
fn spread<T: Float, const STRIDE: usize>(x: &mut [T], stride: usize, parts: &[T]) {
    let stride = if STRIDE == 0 { stride } else { STRIDE };
    let whole = parts.len().min(x.len() / stride);
    x.chunks_exact_mut(stride).zip(&parts[..whole]).for_each(|(x, &part)| x[0] += part);
    if let [part] = parts[whole..] {
        x[whole * stride] += part;
    }
}

/// `x[j · SIZE + k] += parts[j]` for all `k` below `SIZE`
#[inline(always)]
fn spread_gapless<T: Float, const SIZE: usize>(x: &mut [T], parts: &[T]) {
    for (x, &part) in x.as_chunks_mut::<SIZE>().0.iter_mut().zip(parts) {
        x.iter_mut().for_each(|x| *x += part);
    }
}

impl Even {
    /// Where the first even window's taps are.
    pub(crate) fn taps(&self) -> impl DoubleEndedIterator<Item = usize> {
        (0..self.taps).map(|tap| self.start + tap * self.step)
    }

    /// Whether each window begins where the one before ends.
    fn is_gapless(&self) -> bool {
        self.step == 1 && self.taps == self.stride
    }

    /// The windows that do not lie evenly.
    pub(crate) fn others(&self, count: usize) -> impl Iterator<Item = usize> {
        (0..self.range.start).chain(self.range.end..count)
    }
}
