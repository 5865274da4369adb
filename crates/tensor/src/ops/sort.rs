//! Orders along an axis: the places of extremes, sorting, the k greatest.

use super::fold::fold_slice;
use super::number::{Number, with_function};
use super::reduce::nothing_along;
use crate::dtype::dispatch;
use crate::simd::vectorized;
use crate::{Error, Result, Shape, Tensor, par};

/// NaN counts as greater than every number, as in PyTorch; of equal elements the first comes first.
impl Tensor {
    /// The place of the greatest element along an axis, the first if there are several, as `i64`.
    ///
    /// ```
    /// # use maplet_tensor::Tensor;
    /// let logits = Tensor::from([[0.1f32, 0.7, 0.2], [0.5, 0.3, 0.5]]);
    /// assert_eq!(logits.argmax(1, false)?, Tensor::from([1i64, 0]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, or it has size 0.
    pub fn argmax(&self, axis: isize, keepdims: bool) -> Result<Self> {
        with_function!(self.dtype(), T, f = T::larger => place_of("argmax", self, axis, keepdims, T::LEAST, f))
    }

    /// The place of the least element along an axis, the first if there are several, as `i64`. A NaN wins here too.
    ///
    /// # Errors
    /// No such axis, or it has size 0.
    pub fn argmin(&self, axis: isize, keepdims: bool) -> Result<Self> {
        with_function!(self.dtype(), T, f = T::smaller => place_of("argmin", self, axis, keepdims, T::GREATEST, f))
    }

    /// The elements in rising (or falling) order along an axis, and their places before, as `i64`.
    ///
    /// # Errors
    /// No such axis.
    pub fn sort(&self, axis: isize, descending: bool) -> Result<(Self, Self)> {
        let at = self.shape().axis("sort", axis)?;
        Ok(self.ordered(at, self.shape()[at], descending))
    }

    /// The `k` greatest elements along an axis, greatest first, and their places, as `i64`.
    ///
    /// ```
    /// # use maplet_tensor::Tensor;
    /// let (values, places) = Tensor::from([0.1f32, 0.6, 0.3]).top_k(2, 0)?;
    /// assert_eq!((values, places), (Tensor::from([0.6f32, 0.3]), Tensor::from([1i64, 2])));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, or fewer than `k` elements along it.
    pub fn top_k(&self, k: usize, axis: isize) -> Result<(Self, Self)> {
        let at = self.shape().axis("top_k", axis)?;
        let size = self.shape()[at];
        if k > size {
            let what = format!("{k} elements asked for along axis {axis} of {}", self.shape());
            return Err(Error::value("top_k", what, format!("use at most {size}")));
        }
        Ok(self.ordered(at, k, true))
    }

    /// The first `k` elements of the order along `axis`, and their places.
    fn ordered(&self, axis: usize, k: usize, descending: bool) -> (Self, Self) {
        let x = self.axis_to_last(axis);
        let shape = Shape::of(&x.shape().with_size(x.rank() - 1, k));
        let n = self.shape()[axis];
        let cost = 10.0 * n as f64 * (n.max(2) as f64).log2();
        let (values, places) = dispatch!(self.dtype(), T => {
            let x = x.slice_of::<T>();
            let places = Tensor::build(shape, |out: &mut [i64]| par::rows(out, k, cost, |first, out| {
                for (row, out) in out.chunks_mut(k).enumerate() {
                    first_places(out, &x[(first + row) * n..][..n], descending);
                }
            }));
            let values = Tensor::build(shape, |out: &mut [T]| {
                for ((i, out), &place) in out.iter_mut().enumerate().zip(places.slice_of::<i64>()) {
                    *out = x[i / k * n + place as usize];
                }
            });
            (values, places)
        });
        (values.axis_from_last(axis), places.axis_from_last(axis))
    }
}

/// Writes the places of the first `out.len()` elements of `x` in order.
fn first_places<T: Number>(out: &mut [i64], x: &[T], descending: bool) {
    // Rank and place in one integer: fast to compare, and no two are equal, so an unstable sort gives the stable order.
    let flip = if descending { u64::MAX } else { 0 };
    let key = |(place, x): (usize, &T)| ((x.rank() ^ flip) as u128) << 64 | place as u128;
    let mut keys: Vec<u128> = x.iter().enumerate().map(key).collect();
    if (1..keys.len()).contains(&out.len()) {
        keys.select_nth_unstable(out.len() - 1);
    }
    let keys = &mut keys[..out.len()];
    keys.sort_unstable();
    out.iter_mut().zip(keys).for_each(|(out, key)| *out = *key as i64);
}

fn place_of<T: Number, F: Fn(T, T) -> T + Sync>(
    op: &'static str,
    x: &Tensor,
    axis: isize,
    keepdims: bool,
    init: T,
    f: F,
) -> Result<Tensor> {
    let shape = x.shape();
    let at = shape.axis(op, axis)?;
    let n = shape[at];
    if n == 0 {
        return Err(nothing_along(op, &shape, at));
    }
    let result = if keepdims { shape.with_size(at, 1) } else { shape.without(at) };
    let x = x.axis_to_last(at);
    let elements = x.slice_of::<T>();
    Ok(Tensor::build(result, |out| {
        par::elements(out, 0.3 * n as f64, |start, out| {
            rows_places(out, &elements[start * n..][..out.len() * n], n, init, &f);
        });
    }))
}

vectorized! {
    fn rows_places<T: Number, F: Fn(T, T) -> T>(out: &mut [i64], x: &[T], n: usize, init: T, f: &F) {
        const BLOCK: usize = 64;
        for (out, row) in out.iter_mut().zip(x.chunks_exact(n)) {
            let extreme = fold_slice(row, init, f);
            let is_extreme = |x: &T| *x == extreme || (x.is_not_a_number() && extreme.is_not_a_number());
            // Block by block without branches, then the place in the block.
            let holds_it = |block: &[T]| block.iter().fold(false, |found, x| found | is_extreme(x));
            let block = row.chunks(BLOCK).position(holds_it).expect("the extreme is one of the elements") * BLOCK;
            *out = (block + row[block..].iter().position(is_extreme).expect("it is in this block")) as i64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn orders_agree_with_a_stable_sort(
            (sizes, axis) in proptest::collection::vec(prop_oneof![0..5usize, Just(40)], 1..4)
                .prop_flat_map(|sizes| (Just(sizes.clone()), 0..sizes.len())),
            descending in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let shape = Shape::new(&sizes).unwrap();
            let mut rng = crate::Rng::new(seed);
            // Few values, so that many are equal.
            let x = Tensor::from_vec((0..shape.elements()).map(|_| rng.below(5) as f32).collect(), shape).unwrap();
            let (values, places) = x.sort(axis as isize, descending).unwrap();
            let k = sizes[axis] / 2;
            let top = x.top_k(k, axis as isize).unwrap();
            let extremes = x.argmax(axis as isize, true).and_then(|max| Ok((max, x.argmin(axis as isize, false)?)));
            let (outer, n, inner) = shape.around(axis);
            let lane = |x: &[f32], n: usize, o: usize, i: usize| (0..n).map(|j| x[(o * n + j) * inner + i]).collect::<Vec<_>>();
            for o in 0..outer {
                for i in 0..inner {
                    let before = lane(x.as_slice().unwrap(), n, o, i);
                    let mut expected: Vec<usize> = (0..n).collect();
                    expected.sort_by(|&a, &b| before[a].total_cmp(&before[b]));
                    if descending {
                        expected.sort_by(|&a, &b| before[b].total_cmp(&before[a]).then(a.cmp(&b)));
                    }
                    for (j, &place) in expected.iter().enumerate() {
                        let at = (o * n + j) * inner + i;
                        prop_assert_eq!(places.as_slice::<i64>().unwrap()[at], place as i64);
                        prop_assert_eq!(values.as_slice::<f32>().unwrap()[at], before[place]);
                        if descending && j < k {
                            let at = (o * k + j) * inner + i;
                            prop_assert_eq!(top.1.as_slice::<i64>().unwrap()[at], place as i64);
                            prop_assert_eq!(top.0.as_slice::<f32>().unwrap()[at], before[place]);
                        }
                    }
                    if let Ok((argmax, argmin)) = &extremes {
                        let least = before.iter().copied().fold(9.0, f32::min);
                        let least = before.iter().position(|&x| x == least).unwrap();
                        let greatest = before.iter().copied().fold(-1.0, f32::max);
                        let greatest = before.iter().position(|&x| x == greatest).unwrap();
                        prop_assert_eq!(argmax.as_slice::<i64>().unwrap()[o * inner + i], greatest as i64);
                        prop_assert_eq!(argmin.as_slice::<i64>().unwrap()[o * inner + i], least as i64);
                    }
                }
            }
            prop_assert_eq!(extremes.is_ok(), n > 0);
        }
    }

    #[test]
    fn nan_is_the_greatest() {
        let x = Tensor::from([f32::NAN, 1.0, f32::INFINITY, -1.0, -f32::NAN]);
        assert_eq!(x.sort(0, false).unwrap().1, Tensor::from([3i64, 1, 2, 0, 4]));
        assert_eq!(x.sort(0, true).unwrap().1, Tensor::from([0i64, 4, 2, 1, 3]));
        assert_eq!(x.argmax(0, false).unwrap(), Tensor::scalar(0i64));
        assert_eq!(x.argmin(0, false).unwrap(), Tensor::scalar(0i64));
        assert_eq!(x.top_k(3, 0).unwrap().1, Tensor::from([0i64, 4, 2]));
    }

    #[test]
    fn shapes_follow_keepdims() {
        let x = Tensor::zeros([2, 3, 4], DType::U8);
        assert_eq!(x.argmax(1, true).unwrap().shape(), Shape::from([2, 1, 4]));
        assert_eq!(x.argmin(-1, false).unwrap().shape(), Shape::from([2, 3]));
        assert_eq!(x.top_k(0, 1).unwrap().0.shape(), Shape::from([2, 0, 4]));
        assert_eq!(x.top_k(2, 0).unwrap().1.shape(), Shape::from([2, 3, 4]));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let x = Tensor::zeros([2, 0], DType::F32);
        let text = x.argmax(1, false).unwrap_err().to_string();
        assert_eq!(text, "argmax: [2, 0] has no elements along axis 1; help: check for is_empty first");
        let text = x.argmin(-1, true).unwrap_err().to_string();
        assert_eq!(text, "argmin: [2, 0] has no elements along axis 1; help: check for is_empty first");
        let text = x.top_k(3, 0).unwrap_err().to_string();
        assert_eq!(text, "top_k: 3 elements asked for along axis 0 of [2, 0]; help: use at most 2");
        let text = x.sort(2, false).unwrap_err().to_string();
        assert_eq!(text, "sort: [2, 0] has no axis 2; help: axes run from 0 to 1, or from -1 to -2");
    }
}
