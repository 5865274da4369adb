//! The product by the library `matrixmultiply`: of `f64`, and of machines without AVX2.

use crate::DType;
use crate::dtype::Float;
use crate::par::{self, Shared};
use crate::product::{Matrix, NS_PER_MEGA, Onto};

/// The product by `matrixmultiply`, in parallel over blocks of rows.
pub(crate) fn library_product<T: Float>(
    [m, k, n]: [usize; 3],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    c: &mut [T],
    onto: Onto<'_, T>,
) {
    if let Onto::Row(row) = onto {
        c.chunks_exact_mut(n).for_each(|c| c.copy_from_slice(row));
    }
    let beta = if matches!(onto, Onto::Nothing) { 0.0 } else { 1.0 };
    let per_row = NS_PER_MEGA * 2e-6 * (k * n) as f64;
    let rows = ((200_000.0 / per_row.max(1.0)) as usize).clamp(8, m.max(8)); // fewer, larger pieces: each packs all of B
    let shared = Shared::new(c);
    par::tasks(m.div_ceil(rows), per_row * rows as f64, |task| {
        let i0 = task * rows;
        let count = rows.min(m - i0);
        // SAFETY: blocks of rows do not overlap.
        let c = unsafe { shared.slice(i0 * n, count * n) };
        let a_start = a.data.as_ptr().wrapping_add(i0 * a.rows);
        let [ra, ca, rb, cb, rc] = [a.rows, a.columns, b.rows, b.columns, n].map(|stride| stride as isize);
        // SAFETY: `check` has shown that A and B hold every element; `T` is what its DTYPE says.
        unsafe {
            match T::DTYPE {
                DType::F32 => matrixmultiply::sgemm(
                    count,
                    k,
                    n,
                    1.0,
                    a_start.cast(),
                    ra,
                    ca,
                    b.data.as_ptr().cast(),
                    rb,
                    cb,
                    beta as f32,
                    c.as_mut_ptr().cast(),
                    rc,
                    1,
                ),
                _ => matrixmultiply::dgemm(
                    count,
                    k,
                    n,
                    1.0,
                    a_start.cast(),
                    ra,
                    ca,
                    b.data.as_ptr().cast(),
                    rb,
                    cb,
                    beta,
                    c.as_mut_ptr().cast(),
                    rc,
                    1,
                ),
            }
        }
    });
}
