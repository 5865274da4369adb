//! Reductions over axes: sums, means, variances, extremes.

use super::fold::{fold, folded};
use super::movement::check_stretches;
use super::number::{Number, with_function};
use crate::dtype::dispatch;
use crate::{Axes, DType, Error, MAX_RANK, Result, Shape, Tensor};

/// Reductions take one axis (`-1`), several (`[0, 2]`) or all (`..`). With `keepdims` the folded axes stay with size 1,
/// else they go.
///
/// # Numerics
/// Sums are blocked: the rounding error grows with the logarithm of the number of terms, and the result is the same for
/// every number of threads.
impl Tensor {
    /// The sum along the axes: 0 for nothing. Integers wrap around; `u8` is summed in `i64`, so that masks can be
    /// counted.
    ///
    /// # Errors
    /// An axis out of range or named twice.
    pub fn sum(&self, axes: impl Into<Axes>, keepdims: bool) -> Result<Self> {
        let mask = axes.into().mask("sum", &self.shape())?;
        Ok(self.sum_axes(&mask, folded(&self.shape(), &mask, keepdims)))
    }

    /// The sum, of floats in their own type, over the axes that [`broadcast_to`](Self::broadcast_to) would stretch from
    /// `shape` to this tensor's shape: its adjoint.
    ///
    /// # Errors
    /// `shape` does not broadcast to this tensor's shape.
    pub fn sum_to(&self, shape: impl Into<Shape>) -> Result<Self> {
        let (own, shape) = (self.shape(), shape.into());
        check_stretches("sum_to", &shape, &own)?;
        if own == shape {
            return Ok(self.clone());
        }
        let lead = own.rank() - shape.rank();
        let mask = std::array::from_fn(|axis| axis < lead || shape.get(axis - lead) == Some(&1));
        Ok(self.sum_axes(&mask, shape))
    }

    #[inline(never)] // else each crate that sums compiles it again
    fn sum_axes(&self, mask: &[bool; MAX_RANK], shape: Shape) -> Self {
        match self.dtype() {
            DType::F32 => fold::<f32, _>(self, mask, shape, 0.0, Number::plus),
            DType::F64 => fold::<f64, _>(self, mask, shape, 0.0, Number::plus),
            DType::I64 => fold::<i64, _>(self, mask, shape, 0, Number::plus),
            DType::U8 => self.to_dtype(DType::I64).sum_axes(mask, shape),
        }
    }

    /// The mean along the axes: NaN for nothing.
    ///
    /// # Errors
    /// An axis out of range or named twice, or an integer tensor.
    pub fn mean(&self, axes: impl Into<Axes>, keepdims: bool) -> Result<Self> {
        self.dtype().expect_float("mean")?;
        let mask = axes.into().mask("mean", &self.shape())?;
        let sum = self.sum_axes(&mask, folded(&self.shape(), &mask, keepdims));
        Ok(sum.div_scalar(count(&self.shape(), &mask) as f64))
    }

    /// The variance along the axes: `Σ (x − mean)² / (n − correction)`. A correction of 1 gives the unbiased estimate
    /// of a sample, 0 the variance of the elements themselves; NaN for nothing.
    ///
    /// # Errors
    /// An axis out of range or named twice, or an integer tensor.
    pub fn var(&self, axes: impl Into<Axes>, keepdims: bool, correction: usize) -> Result<Self> {
        self.dtype().expect_float("var")?;
        let mask = axes.into().mask("var", &self.shape())?;
        let n = count(&self.shape(), &mask);
        let mean = self.sum_axes(&mask, folded(&self.shape(), &mask, true)).div_scalar(n as f64);
        let squares = self.sub(&mean)?.square().sum_axes(&mask, folded(&self.shape(), &mask, keepdims));
        Ok(squares.div_scalar(n.saturating_sub(correction) as f64))
    }

    /// The greatest element along the axes; NaN if there is one.
    ///
    /// # Errors
    /// An axis out of range, named twice, or of size 0.
    pub fn max(&self, axes: impl Into<Axes>, keepdims: bool) -> Result<Self> {
        self.greatest(axes.into(), keepdims)
    }

    /// The least element along the axes; NaN if there is one.
    ///
    /// # Errors
    /// An axis out of range, named twice, or of size 0.
    pub fn min(&self, axes: impl Into<Axes>, keepdims: bool) -> Result<Self> {
        self.least(axes.into(), keepdims)
    }

    /// [`max`](Self::max), compiled here once and not by each crate that calls it; so is its neighbor.
    fn greatest(&self, axes: Axes, keepdims: bool) -> Result<Self> {
        let (mask, shape) = self.extreme_axes("max", axes, keepdims)?;
        with_function!(self.dtype(), T, f = T::larger => Ok(fold(self, &mask, shape, T::LEAST, f)))
    }

    fn least(&self, axes: Axes, keepdims: bool) -> Result<Self> {
        let (mask, shape) = self.extreme_axes("min", axes, keepdims)?;
        with_function!(self.dtype(), T, f = T::smaller => Ok(fold(self, &mask, shape, T::GREATEST, f)))
    }

    fn extreme_axes(&self, op: &'static str, axes: Axes, keepdims: bool) -> Result<([bool; MAX_RANK], Shape)> {
        let shape = self.shape();
        let mask = axes.mask(op, &shape)?;
        match (0..shape.rank()).find(|&axis| mask[axis] && shape[axis] == 0) {
            Some(axis) => Err(nothing_along(op, &shape, axis)),
            None => Ok((mask, folded(&shape, &mask, keepdims))),
        }
    }

    /// The running sum along an axis, which keeps its size. Integers wrap around; `u8` is summed in `i64`.
    ///
    /// ```
    /// # use maplet_tensor::Tensor;
    /// assert_eq!(Tensor::from([1i64, 2, 3]).cumsum(0)?, Tensor::from([1i64, 3, 6]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis.
    pub fn cumsum(&self, axis: isize) -> Result<Self> {
        let (_, size, inner) = self.shape().around(self.shape().axis("cumsum", axis)?);
        if self.dtype() == DType::U8 {
            return self.to_dtype(DType::I64).cumsum(axis);
        }
        Ok(dispatch!(self.dtype(), T => {
            let x = self.slice_of::<T>();
            let plane = size * inner;
            Tensor::build(self.shape(), |out| crate::par::rows(out, plane, plane as f64, |first, planes| {
                planes.copy_from_slice(&x[first * plane..][..planes.len()]);
                for plane in planes.chunks_mut(plane) {
                    if inner == 1 {
                        let mut total = T::default();
                        for x in plane {
                            total = total.plus(*x);
                            *x = total;
                        }
                        continue;
                    }
                    let (mut before, mut rest) = plane.split_at_mut(inner);
                    while !rest.is_empty() {
                        let (row, next) = rest.split_at_mut(inner);
                        row.iter_mut().zip(&*before).for_each(|(x, &before)| *x = before.plus(*x));
                        (before, rest) = (row, next);
                    }
                }
            }))
        }))
    }
}

/// The elements that are folded into one.
fn count(shape: &Shape, mask: &[bool; MAX_RANK]) -> usize {
    (0..shape.rank()).filter(|&axis| mask[axis]).map(|axis| shape[axis]).product()
}

/// The error of a reduction that has no value for nothing.
pub(crate) fn nothing_along(op: &'static str, shape: &Shape, axis: usize) -> Error {
    Error::shape(op, format!("{shape} has no elements along axis {axis}"), "check for is_empty first")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use proptest::prelude::*;

    fn slice(x: &Tensor) -> Vec<f64> {
        x.to_vec().unwrap()
    }

    /// Groups the elements that fold into one, by index arithmetic.
    fn groups(x: &Tensor, mask: &[bool]) -> Vec<Vec<f64>> {
        let kept: Vec<usize> = (0..x.rank()).filter(|&axis| !mask[axis]).collect();
        let strides = x.shape().strides();
        let mut groups = vec![Vec::new(); kept.iter().map(|&axis| x.shape()[axis]).product()];
        for (at, value) in slice(x).into_iter().enumerate() {
            let place =
                kept.iter().fold(0, |place, &axis| place * x.shape()[axis] + at / strides[axis] % x.shape()[axis]);
            groups[place].push(value);
        }
        groups
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn folds_as_a_naive_loop_does(
            axes in proptest::collection::vec((prop_oneof![0..5usize, Just(1), Just(40)], any::<bool>()), 0..5),
            keepdims in any::<bool>(),
        ) {
            let sizes: Vec<usize> = axes.iter().map(|axis| axis.0).collect();
            let mask: Vec<bool> = axes.iter().map(|axis| axis.1).collect();
            let shape = Shape::new(&sizes).unwrap();
            // Whole numbers: sums are exact in any order.
            let x = Tensor::from_vec((0..shape.elements()).map(|i| (i * 7919 % 101) as f64).collect(), shape).unwrap();
            let chosen: Vec<isize> = (0..mask.len() as isize).filter(|&axis| mask[axis as usize]).collect();
            let groups = groups(&x, &mask);
            let sums: Vec<f64> = groups.iter().map(|group| group.iter().sum()).collect();
            let sum = x.sum(chosen.as_slice(), keepdims).unwrap();
            prop_assert_eq!(slice(&sum), sums.clone());
            let kept: Vec<usize> = axes.iter().filter(|a| keepdims || !a.1).map(|a| if a.1 { 1 } else { a.0 }).collect();
            prop_assert_eq!(sum.shape().to_vec(), kept);
            if groups.iter().all(|group| !group.is_empty()) && !axes.iter().any(|a| a.0 == 0) {
                let max = slice(&x.max(chosen.as_slice(), keepdims).unwrap());
                let min = slice(&x.min(chosen.as_slice(), keepdims).unwrap());
                prop_assert_eq!(max, groups.iter().map(|group| group.iter().copied().fold(-1.0, f64::max)).collect::<Vec<_>>());
                prop_assert_eq!(min, groups.iter().map(|group| group.iter().copied().fold(1e9, f64::min)).collect::<Vec<_>>());
            }
            let with_ones: Vec<usize> = axes.iter().map(|a| if a.1 { 1 } else { a.0 }).collect();
            prop_assert_eq!(slice(&x.sum_to(Shape::new(&with_ones).unwrap()).unwrap()), sums);
        }
    }

    #[test]
    fn long_sums_are_accurate() {
        // 2²⁰ + 7 terms; naive summation in f32 would err by hundreds of ulps. The exact sum is taken in f64.
        let len = if cfg!(miri) { 5000 } else { (1 << 20) + 7 };
        let x = Tensor::uniform([len], 0.0f32, 1.0, &mut Rng::new(1));
        let exact: f64 = x.to_vec::<f32>().unwrap().iter().map(|&x| x as f64).sum();
        for sum in [
            x.sum(.., false).unwrap(),
            x.unsqueeze(1).unwrap().broadcast_to([len, 3]).unwrap().sum(0, false).unwrap().slice(0, 1, 2).unwrap(),
        ] {
            let error = (sum.to_vec::<f32>().unwrap()[0] as f64 - exact).abs() / exact;
            assert!(error < 8.0 * f32::EPSILON as f64, "{error}");
        }
    }

    #[test]
    fn the_same_bits_for_every_number_of_threads() {
        let (rows, columns) = if cfg!(miri) { (40, 5) } else { (70_000, 5) };
        let x = Tensor::normal([rows, columns], 0.0f32, 1.0, &mut Rng::new(2));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| [x.sum(.., false), x.sum(0, false), x.sum(1, false), x.var(0, true, 1)].map(Result::unwrap))
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(7));
    }

    #[test]
    fn means_and_variances() {
        // NumPy's documentation: np.var([[1, 2], [3, 4]]) is 1.25, over axis 0 [1, 1], over axis 1 [0.25, 0.25].
        let x = Tensor::from([[1.0f64, 2.0], [3.0, 4.0]]);
        assert_eq!(x.mean(.., false).unwrap(), Tensor::scalar(2.5f64));
        assert_eq!(x.mean(0, true).unwrap(), Tensor::from([[2.0f64, 3.0]]));
        assert_eq!(x.var(.., false, 0).unwrap(), Tensor::scalar(1.25f64));
        assert_eq!(x.var(0, false, 0).unwrap(), Tensor::from([1.0f64, 1.0]));
        assert_eq!(x.var(1, true, 0).unwrap(), Tensor::from([[0.25f64], [0.25]]));
        assert_eq!(x.var(0, false, 1).unwrap(), Tensor::from([2.0f64, 2.0]));
        // A mean far from 0 costs no digits: deviations are −1, 0, 1.
        let far = Tensor::from([1e8f64 - 1.0, 1e8, 1e8 + 1.0]);
        assert_eq!(far.var(0, false, 1).unwrap().item::<f64>().unwrap(), 1.0);
    }

    #[test]
    fn nothing_sums_to_zero_and_has_no_mean() {
        let x = Tensor::zeros([2, 0], DType::F32);
        assert_eq!(x.sum(1, false).unwrap(), Tensor::from([0.0f32, 0.0]));
        assert!(x.sum(0, false).unwrap().is_empty());
        assert!(x.mean(.., false).unwrap().item::<f32>().unwrap().is_nan());
        assert!(Tensor::from([1.0f32]).var(0, false, 1).unwrap().item::<f32>().unwrap().is_nan());
        assert_eq!(x.max(0, false).unwrap().shape(), Shape::from([0]));
        let scalar = Tensor::scalar(3.0f32);
        assert_eq!((scalar.sum(.., false).unwrap(), scalar.max(.., true).unwrap()), (scalar.clone(), scalar));
    }

    #[test]
    fn integers_are_summed_in_i64() {
        assert_eq!(Tensor::full([1000], 255u8).sum(0, false).unwrap(), Tensor::scalar(255_000i64));
        assert_eq!(Tensor::from([i64::MAX, 1]).sum(0, false).unwrap(), Tensor::scalar(i64::MIN));
        assert_eq!(Tensor::from([200u8, 100]).cumsum(0).unwrap(), Tensor::from([200i64, 300]));
        assert_eq!(Tensor::from([3u8, 7, 5]).max(0, false).unwrap(), Tensor::scalar(7u8));
    }

    #[test]
    fn extremes_propagate_nan_wherever_it_stands() {
        for at in [0, 1, 31, 32, 40, 99] {
            let mut x = Tensor::arange(0.0f32, 100.0, 1.0).unwrap();
            x.as_mut_slice::<f32>().unwrap()[at] = f32::NAN;
            assert!(x.max(0, false).unwrap().item::<f32>().unwrap().is_nan());
            assert!(x.min(0, false).unwrap().item::<f32>().unwrap().is_nan());
        }
        let x = Tensor::from([f32::NEG_INFINITY; 3]);
        assert_eq!(x.max(0, false).unwrap().item::<f32>().unwrap(), f32::NEG_INFINITY);
    }

    #[test]
    fn cumsum_runs_along_any_axis() {
        let x = Tensor::from([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert_eq!(x.cumsum(0).unwrap(), Tensor::from([[1.0f32, 2.0, 3.0], [5.0, 7.0, 9.0]]));
        assert_eq!(x.cumsum(-1).unwrap(), Tensor::from([[1.0f32, 3.0, 6.0], [4.0, 9.0, 15.0]]));
        assert!(Tensor::zeros([0, 2], DType::F32).cumsum(0).unwrap().is_empty());
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let (x, i) = (Tensor::zeros([2, 0], DType::F32), Tensor::from([1i64]));
        let convert = "expects f32 or f64, got i64; help: convert with to_dtype(DType::F32)";
        for (result, text) in [
            (x.max(1, false), "max: [2, 0] has no elements along axis 1; help: check for is_empty first".to_string()),
            (x.min(.., true), "min: [2, 0] has no elements along axis 1; help: check for is_empty first".to_string()),
            (i.mean(0, false), format!("mean: {convert}")),
            (i.var(0, false, 1), format!("var: {convert}")),
            (i.sum(1, false), "sum: [1] has no axis 1; help: axes run from 0 to 0, or from -1 to -1".to_string()),
            (i.cumsum(2), "cumsum: [1] has no axis 2; help: axes run from 0 to 0, or from -1 to -1".to_string()),
            (
                i.sum_to([2]),
                "sum_to: [2] does not broadcast to [1]; \
                 help: matched from the right, each size must be equal or 1"
                    .to_string(),
            ),
        ] {
            assert_eq!(result.unwrap_err().to_string(), text);
        }
    }
}
