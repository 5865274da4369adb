//! A right operand of products that is packed once for all.

use crate::dtype::Float;
use crate::panels::{Panels, pack};
use crate::par::{self, Shared};
use crate::product::{Matrix, NS_PER_MEGA, Onto, product};
use crate::tensor::Tensor;
use crate::tile::panel_width;
use crate::{DType, Simd, simd};

/// A right operand that many products share: it is packed once.
pub(crate) struct Right<'a, T> {
    size: [usize; 2],
    b: Matrix<'a, T>,
    packed: Option<Tensor>,
    /// Whether each product shares out its columns, because nothing else runs beside it.
    alone: bool,
}

impl<'a, T: Float> Right<'a, T> {
    /// `B` of `[k, n]`, for so many products; `alone` says that they do not run beside one another.
    pub(crate) fn new([k, n]: [usize; 2], b: Matrix<'a, T>, products: usize, alone: bool) -> Self {
        b.check(k, n);
        let pays = products > 1 && k * n > 0 && T::DTYPE == DType::F32 && simd() != Simd::Plain;
        Self { size: [k, n], b, packed: pays.then(|| pack(k, n, b)), alone }
    }

    /// `C = onto + A · B`, with `A` of `[m, k]`.
    pub(crate) fn multiply(&self, m: usize, a: Matrix<'_, T>, c: &mut [T], onto: Onto<'_, T>) {
        let [k, n] = self.size;
        let Some(packed) = &self.packed else { return product([m, k, n], a, self.b, c, onto) };
        a.check(m, k);
        assert_eq!(c.len(), m * n, "C is [m, n]");
        assert!(!matches!(onto, Onto::Row(row) if row.len() != n), "a row of C");
        if m == 0 {
            return;
        }
        let (panels, count) = (Panels::packed(packed.slice_of(), k), n.div_ceil(panel_width::<T>()));
        let shared = Shared::new(c);
        let group = if self.alone { (1_000_000 / (k * m * panel_width::<T>())).clamp(1, count) } else { count };
        par::tasks(count.div_ceil(group), NS_PER_MEGA * 1e-6 * (m * k * n) as f64, |task| {
            let some = task * group..(task + 1) * group;
            // SAFETY: A and B hold every element by their checks, C by the assertion; tasks own disjoint columns of C.
            unsafe { panels.multiply(m, a, some, 0..k, n, shared.start(), onto) };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    #[cfg(not(miri))]
    fn a_shared_right_operand_gives_the_same_product() {
        let mut rng = Rng::new(3);
        for [m, k, n] in [[16, 300, 70], [3, 40, 33], [5, 1, 1]] {
            let [a, b] =
                [m * k, k * n].map(|len| Tensor::normal([len], 0.0f32, 1.0, &mut rng).to_vec::<f32>().unwrap());
            for transposed in [false, true] {
                let (a, b) = (Matrix::new(&a, k, false), Matrix::new(&b, if transposed { k } else { n }, transposed));
                let mut want = vec![1.0f32; m * n];
                product([m, k, n], a, b, &mut want, Onto::Itself);
                for (products, alone) in [(1, false), (9, false), (9, true)] {
                    let mut c = vec![1.0f32; m * n];
                    Right::new([k, n], b, products, alone).multiply(m, a, &mut c, Onto::Itself);
                    let near = c.iter().zip(&want).all(|(c, want)| (c - want).abs() <= k as f32 * f32::EPSILON * 8.0);
                    assert!(near, "{m} × {k} × {n}, {transposed}, {products}");
                }
            }
        }
    }
}
