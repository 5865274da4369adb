//! A few rows times a transposed matrix: dot products along the rows of both, so that nothing is packed or turned.
//!
//! With one row this reads the matrix once, in its own order, and is bound by nothing else.

use crate::lanes::{Lanes, Plain};
use crate::par::{self, Shared};
use crate::product::{Matrix, Onto};
use crate::{DType, Float, Simd, simd};
use std::array::from_fn;

/// Up to so many rows of `A` a dot product is faster than packing.
pub(crate) const MOST_ROWS: usize = 8;
/// Nanoseconds that a core needs for a byte of a matrix that lies in its third cache.
const NS_PER_BYTE: f64 = 0.014;
/// Nanoseconds of one multiply-add.
const NS_PER_MAC: f64 = 0.012;
/// Columns of `B` that are read side by side.
const SIDE_BY_SIDE: usize = 4;

/// Whether [`dots`] is the way to compute `A · B`.
pub(crate) fn suits<T: Float>([m, k, n]: [usize; 3], a: Matrix<'_, T>, b: Matrix<'_, T>) -> bool {
    m <= MOST_ROWS && k >= 16 && n > 1 && a.columns == 1 && b.rows == 1
}

/// `C = onto + A · B`, where `A` is `[m, k]` with whole rows, `B` is `[k, n]` with whole columns, `C` is row-major.
///
/// The bits depend on the sizes and the level of [`Simd`]; `alone` keeps the work in this thread.
pub(crate) fn dots<T: Float>(
    [m, k, n]: [usize; 3],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    onto: Onto<'_, T>,
    c: &mut [T],
    alone: bool,
) {
    a.check(m, k);
    b.check(k, n);
    assert!(a.columns == 1 && b.rows == 1 && c.len() == m * n, "A has whole rows, B whole columns, C is [m, n]");
    assert!(!matches!(onto, Onto::Row(row) if row.len() != n), "a row of C");
    let cost = (k * size_of::<T>()) as f64 * NS_PER_BYTE + (m * k) as f64 * NS_PER_MAC; // of a column of C
    let columns = ((10_000.0 / cost) as usize).clamp(1, n.max(1)).next_multiple_of(2 * SIDE_BY_SIDE);
    let shared = Shared::new(c);
    let task = |task: usize| {
        for j in (task * columns..n.min((task + 1) * columns)).step_by(SIDE_BY_SIDE) {
            for i in (0..m).step_by(4) {
                let rows = Rows { k, a: &a.data[i * a.rows..], a_stride: a.rows, b: &b.data[j * b.columns..] };
                let (height, width) = ((m - i).min(4), (n - j).min(SIDE_BY_SIDE));
                let sums = rows.sums(height, b.columns, width);
                for (r, sums) in sums.iter().enumerate().take(height) {
                    // SAFETY: these columns of C are this task's alone.
                    let c = unsafe { shared.slice((i + r) * n + j, width) };
                    for (v, (c, &sum)) in c.iter_mut().zip(sums).enumerate() {
                        *c = onto.start(*c, j + v) + sum;
                    }
                }
            }
        }
    };
    let count = n.div_ceil(columns);
    if alone { (0..count).for_each(task) } else { par::tasks(count, cost * columns as f64, task) }
}

/// Some rows of `A` and some columns of `B`.
struct Rows<'a, T> {
    k: usize,
    a: &'a [T],
    a_stride: usize,
    b: &'a [T],
}

impl<T: Float> Rows<'_, T> {
    /// The products of `height` rows (at most 4) and `width` columns (at most [`SIDE_BY_SIDE`]).
    fn sums(&self, height: usize, b_stride: usize, width: usize) -> [[T; SIDE_BY_SIDE]; 4] {
        let last = |count: usize, stride: usize| (count - 1) * stride + self.k;
        assert!(last(height, self.a_stride) <= self.a.len() && last(width, b_stride) <= self.b.len());
        // Rows beyond the last repeat it; nobody looks at their sums.
        let a = from_fn(|i| self.a[i.min(height - 1) * self.a_stride..].as_ptr());
        let b = from_fn(|j| self.b[j.min(width - 1) * b_stride..].as_ptr());
        #[cfg(target_arch = "x86_64")]
        if T::DTYPE == DType::F32 {
            let (a, b) = (a.map(<*const T>::cast), b.map(<*const T>::cast));
            // SAFETY: the instructions exist, `T` is f32, and each pointer has `k` elements by the assertion.
            let sums = unsafe {
                match simd() {
                    Simd::Avx512 => Some(x86::avx512(self.k, height, a, b)),
                    Simd::Avx2 => Some(x86::avx2(self.k, height, a, b)),
                    Simd::Plain => None,
                }
            };
            if let Some(sums) = sums {
                return sums.map(|row| row.map(|sum| T::from_f64(f64::from(sum))));
            }
        }
        // SAFETY: plain code runs everywhere, and each pointer has `k` elements by the assertion.
        unsafe { by_height::<Plain<T>>(self.k, height, a, b) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{SIDE_BY_SIDE, by_height};
    use crate::lanes::{Avx2, Avx512};

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    pub(super) unsafe fn avx512(
        k: usize,
        height: usize,
        a: [*const f32; 4],
        b: [*const f32; SIDE_BY_SIDE],
    ) -> [[f32; SIDE_BY_SIDE]; 4] {
        // SAFETY: the features are enabled here; the rest is the caller's promise.
        unsafe { by_height::<Avx512>(k, height, a, b) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(
        k: usize,
        height: usize,
        a: [*const f32; 4],
        b: [*const f32; SIDE_BY_SIDE],
    ) -> [[f32; SIDE_BY_SIDE]; 4] {
        // SAFETY: as above.
        unsafe { by_height::<Avx2>(k, height, a, b) }
    }
}

/// The sums, with as many rows as needed known to the compiler; a single one has two sums a column, so that additions
/// do not wait for one another.
#[inline(always)]
unsafe fn by_height<L: Lanes>(
    k: usize,
    height: usize,
    a: [*const L::Item; 4],
    b: [*const L::Item; SIDE_BY_SIDE],
) -> [[L::Item; SIDE_BY_SIDE]; 4] {
    let mut all = [[num_traits::Zero::zero(); SIDE_BY_SIDE]; 4];
    // SAFETY: promised by the caller.
    unsafe {
        match height {
            1 => all[..1].copy_from_slice(&sums::<L, 1, 2>(k, [a[0]], b)),
            2 => all[..2].copy_from_slice(&sums::<L, 2, 1>(k, [a[0], a[1]], b)),
            _ => all = sums::<L, 4, 1>(k, a, b),
        }
    }
    all
}

/// `Σ_t a[i][t] · b[j][t]`, each in `PARTS` partial sums of a vector.
#[inline(always)]
unsafe fn sums<L: Lanes, const ROWS: usize, const PARTS: usize>(
    k: usize,
    a: [*const L::Item; ROWS],
    b: [*const L::Item; SIDE_BY_SIDE],
) -> [[L::Item; SIDE_BY_SIDE]; ROWS] {
    // SAFETY: every element read is below `k`, as the caller promises; a masked vector reads only what is left.
    unsafe {
        let mut sums = [[[L::splat(num_traits::Zero::zero()); PARTS]; SIDE_BY_SIDE]; ROWS];
        let step = PARTS * L::WIDTH;
        let mut t = 0;
        while t + step <= k {
            for part in 0..PARTS {
                let at = t + part * L::WIDTH;
                let a: [L; ROWS] = from_fn(|i| L::load(a[i].add(at)));
                for j in 0..SIDE_BY_SIDE {
                    let b = L::load(b[j].add(at));
                    for i in 0..ROWS {
                        sums[i][j][part] = a[i].mul_add(b, sums[i][j][part]);
                    }
                }
            }
            t += step;
        }
        while t < k {
            let count = (k - t).min(L::WIDTH);
            let a: [L; ROWS] = from_fn(|i| L::load_first(a[i].add(t), count));
            for j in 0..SIDE_BY_SIDE {
                let b = L::load_first(b[j].add(t), count);
                for i in 0..ROWS {
                    sums[i][j][0] = a[i].mul_add(b, sums[i][j][0]);
                }
            }
            t += L::WIDTH;
        }
        sums.map(|row| row.map(|parts| total(parts)))
    }
}

/// The sum of all lanes of all vectors, by halves.
#[inline(always)]
unsafe fn total<L: Lanes, const PARTS: usize>(parts: [L; PARTS]) -> L::Item {
    let mut lanes = [num_traits::Zero::zero(); 16]; // the widest vector's
    // SAFETY: no vector has more lanes; the instructions exist, as the caller promises.
    unsafe {
        let one = L::splat(num_traits::One::one());
        parts[1..].iter().fold(parts[0], |sum, part| part.mul_add(one, sum)).store(lanes.as_mut_ptr());
    }
    let mut half = L::WIDTH / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rng, Tensor};

    /// Against two loops in `f64`; a sum of `k` products of numbers below 1 errs by `k · ε` at most.
    fn check<T: Float>([m, k, n]: [usize; 3], eps: f64) {
        let mut rng = Rng::new((m + 10 * n + 100 * k) as u64);
        let mut draw =
            |len: usize| Tensor::uniform([len], T::from_f64(-1.0), T::one(), &mut rng).to_vec::<T>().unwrap();
        let (a, b, bias, old) = (draw(m * (k + 1)), draw(n * (k + 2)), draw(n), draw(m * n));
        let (a, b) = (Matrix::new(&a, k + 1, false), Matrix::new(&b, k + 2, true));
        for (onto, alone) in [(Onto::Nothing, true), (Onto::Row(&bias), false), (Onto::Itself, false)] {
            let mut c = old.clone();
            dots([m, k, n], a, b, onto, &mut c, alone);
            for (at, c) in c.iter().enumerate() {
                let (i, j) = (at / n, at % n);
                let start = onto.start(old[at], j);
                let products = (0..k).map(|t| a.data[i * (k + 1) + t].as_f64() * b.data[j * (k + 2) + t].as_f64());
                let want = start.as_f64() + products.sum::<f64>();
                assert!((c.as_f64() - want).abs() <= (k + 1) as f64 * eps, "{m} × {k} × {n}: {c} against {want}");
            }
        }
    }

    #[test]
    fn equal_two_loops() {
        for m in 1..=MOST_ROWS {
            for (k, n) in [(16, 2), (17, 3), (31, 5), (32, 4), (33, 8), (47, 9), (100, 70)] {
                check::<f32>([m, k, n], f64::from(f32::EPSILON));
                check::<f64>([m, k, n], f64::EPSILON);
            }
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn bits_do_not_depend_on_the_number_of_threads() {
        let mut rng = Rng::new(1);
        let [a, b] = [3 * 5000, 5000 * 131].map(|len| Tensor::normal([len], 0.0f32, 1.0, &mut rng));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (a, b) = (Matrix::new(a.slice_of(), 5000, false), Matrix::new(b.slice_of(), 5000, true));
            let mut c = vec![0.0f32; 3 * 131];
            pool.install(|| dots([3, 5000, 131], a, b, Onto::Nothing, &mut c, false));
            c
        };
        assert!(run(1) == run(2) && run(1) == run(7));
    }
}
