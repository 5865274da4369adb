//! Resampling: each place along an axis becomes a weighted sum of neighboring places. Interpolation in every mode, and
//! adaptive means, are tables of such weights ([`Taps`]); along several axes one comes after the other.

use super::windows::{OutputSize, share_out, spatial};
use crate::dtype::dispatch_float;
use crate::simd::vectorized;
use crate::turn::turn;
use crate::window::axis_names;
use crate::{Element, Error, Float, Result, Shape, Tensor, Window, par};
use num_traits::Zero;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A linear map along one axis: for each place of the output, where in the input it looks, and with which weights.
///
/// ```
/// use maplet_tensor::{Taps, Tensor};
///
/// let halves = Taps::new(4, [(0, vec![0.5, 0.5]), (2, vec![0.5, 0.5])])?;
/// assert_eq!(Tensor::from([1.0f32, 2.0, 3.0, 4.0]).resample(0, &halves)?, Tensor::from([1.5f32, 3.5]));
/// # Ok::<(), maplet_tensor::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Taps {
    input: usize,
    /// For each output place the first input place, and which of the weights.
    rows: Arc<[(usize, Range<usize>)]>,
    weights: Arc<[f64]>,
}

impl Taps {
    /// A table for axes of size `input`: for each output place the first input place, and the weights from there on.
    ///
    /// # Errors
    /// Weights for places behind the last.
    pub fn new(input: usize, rows: impl IntoIterator<Item = (usize, Vec<f64>)>) -> Result<Self> {
        let (mut table, mut all) = (vec![], vec![]);
        for (start, weights) in rows {
            if start > input || weights.len() > input - start {
                let what =
                    format!("{} weights from place {start} on are too many for a size of {input}", weights.len());
                return Err(Error::value("taps", what, "stay inside the input"));
            }
            // Zeros at the ends look nowhere.
            let first = weights.iter().take_while(|&&weight| weight == 0.0).count();
            let zeros = weights[first..].iter().rev().take_while(|&&weight| weight == 0.0).count();
            let weights = &weights[first..weights.len() - zeros];
            table.push((start + first, all.len()..all.len() + weights.len()));
            all.extend_from_slice(weights);
        }
        Ok(Self { input, rows: table.into(), weights: all.into() })
    }

    /// The adjoint map's table.
    pub fn transposed(&self) -> Self {
        let mut columns = vec![(0, Vec::new()); self.input];
        for (i, (start, range)) in self.rows.iter().enumerate() {
            for (place, &weight) in (*start..).zip(&self.weights[range.clone()]) {
                let (first, weights) = &mut columns[place];
                if weights.is_empty() {
                    *first = i;
                }
                weights.resize(i - *first, 0.0); // outputs between that do not look here
                weights.push(weight);
            }
        }
        Self::new(self.rows.len(), columns).expect("an output's number is below their count")
    }

    fn is_identity(&self) -> bool {
        let alone = |(i, row): (usize, &(usize, Range<usize>))| row.0 == i && self.weights[row.1.clone()] == [1.0];
        self.rows.len() == self.input && self.rows.iter().enumerate().all(alone)
    }
}

impl Tensor {
    /// The sums that the table says, along one axis: `y[i] = Σ weight[i][k] · x[start[i] + k]`. Adjoint: the same with
    /// [`Taps::transposed`].
    ///
    /// # Errors
    /// No such axis, or one of another size than the table's; another type.
    pub fn resample(&self, axis: isize, taps: &Taps) -> Result<Self> {
        let shape = self.shape();
        let at = shape.axis("resample", axis)?;
        let (_, size, inner) = shape.around(at);
        if size != taps.input {
            let what = format!("axis {axis} of {shape} has size {size}, the table is for {}", taps.input);
            return Err(Error::shape("resample", what, "make the table for this size"));
        }
        self.dtype().expect_float("resample")?;
        if taps.is_identity() {
            return Ok(self.clone());
        }
        let places = taps.rows.len();
        let result = Shape::new(&shape.with_size(at, places))?;
        dispatch_float!(self.dtype(), "resample", T => {
            let (x, block) = (self.slice_of::<T>(), size * inner);
            let weights: Vec<T> = taps.weights.iter().map(|&weight| T::from_f64(weight)).collect();
            let sum = |i: usize, x: &[T], y: &mut [T]| {
                let (start, range) = &taps.rows[i];
                weigh(&x[start * y.len()..], &weights[range.clone()], y);
            };
            let cost = 0.2 * taps.weights.len() as f64; // of all places for one element of the axes behind
            Ok(Tensor::build(result, |y: &mut [T]| match inner {
                // Sums along the last axis are turned, so that neighboring rows are the lanes of a vector.
                1 => par::rows(y, places, cost + 0.5 * (size + places) as f64, |first, rows| {
                    let (mut from, mut to) = (vec![T::zero(); size * LANES], vec![T::zero(); places * LANES]);
                    for (r, y) in rows.chunks_mut(places * LANES).enumerate() {
                        let lanes = y.len() / places;
                        let x = &x[(first + r * LANES) * size..][..lanes * size];
                        let (from, to) = (&mut from[..size * lanes], &mut to[..places * lanes]);
                        turn([lanes, size], x, size, from, lanes);
                        to.chunks_mut(lanes).enumerate().for_each(|(i, y)| sum(i, from, y));
                        turn([places, lanes], to, lanes, y, places);
                    }
                }),
                _ => par::rows(y, inner, cost / places as f64 * inner as f64, |first, rows| {
                    for (r, y) in rows.chunks_mut(inner).enumerate() {
                        sum((first + r) % places, &x[(first + r) / places * block..], y);
                    }
                }),
            }))
        })
    }
}

/// Rows whose sums along the last axis are taken together.
const LANES: usize = 32;

vectorized! {
    /// `y = Σ weights[k] · x[k]`, where `x` has rows as long as `y`.
    fn weigh<T: Float>(x: &[T], weights: &[T], y: &mut [T]) {
        y.fill(T::zero());
        for (&weight, x) in weights.iter().zip(x.chunks_exact(y.len())) {
            for (y, &x) in y.iter_mut().zip(x) {
                *y += weight * x;
            }
        }
    }
}

/// How values between the places of a grid are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Interpolation {
    /// The place at or before the point: PyTorch's `nearest`, which the older OpenCV shares.
    Nearest,
    /// The nearest place: PyTorch's `nearest-exact`, as in Scikit-image and PIL.
    NearestExact,
    /// A straight line between two places: PyTorch's `linear`, `bilinear` and `trilinear`.
    #[doc(alias("bilinear", "trilinear"))]
    Linear,
    /// A cubic through four places, with a = −0.75: PyTorch's `bicubic`.
    #[doc(alias = "bicubic")]
    Cubic,
    /// The mean of the places that fall on the point: PyTorch's `area`, which is adaptive average pooling.
    Area,
}

impl fmt::Display for Interpolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nearest => "nearest",
            Self::NearestExact => "nearest-exact",
            Self::Linear => "linear",
            Self::Cubic => "cubic",
            Self::Area => "area",
        })
    }
}

impl Interpolation {
    /// An error for `align_corners` with a mode where it means nothing.
    pub fn check(self, op: &'static str, align_corners: bool) -> Result<()> {
        if align_corners && !matches!(self, Self::Linear | Self::Cubic) {
            let what = format!("align_corners means nothing for {self} interpolation");
            return Err(Error::value(op, what, "use it with linear or cubic, or leave it out"));
        }
        Ok(())
    }

    /// The table that makes `output` places of `input` ones.
    ///
    /// Points lie at `(i + ½) / scale − ½` (both grids cover the same ground), or with `align_corners` at
    /// `i · (input − 1) / (output − 1)` (first and last places fall together). `scale` is `output / input` if not
    /// given.
    ///
    /// # Errors
    /// No places on one side, or `align_corners` for a mode where it means nothing.
    pub fn taps(self, input: usize, output: usize, scale: Option<f64>, align_corners: bool) -> Result<Taps> {
        const OP: &str = "interpolate";
        if input == 0 || output == 0 {
            return Err(Error::value(OP, format!("{input} places cannot become {output}"), "use 1 or more"));
        }
        self.check(OP, align_corners)?;
        let step = match align_corners {
            true => (input - 1) as f64 / (output - 1).max(1) as f64,
            false => scale.map_or(input as f64 / output as f64, |scale| 1.0 / scale),
        };
        // PyTorch finds the nearest place in single precision, whatever the data: a tie falls on the side that it
        // takes.
        let step32 = scale.map_or(input as f32 / output as f32, |scale| (1.0 / scale) as f32);
        let point = |i: usize| if align_corners { step * i as f64 } else { step * (i as f64 + 0.5) - 0.5 };
        let last = input - 1;
        let row = |i: usize| match self {
            // PyTorch's backward takes these two whatever the factor, its forward not always.
            Self::Nearest if output == input => (i, vec![1.0]),
            Self::Nearest if output == 2 * input => (i / 2, vec![1.0]),
            Self::Nearest => (((i as f32 * step32) as usize).min(last), vec![1.0]),
            Self::NearestExact => ((((i as f64 + 0.5) * f64::from(step32)) as f32 as usize).min(last), vec![1.0]),
            Self::Linear if output == input => (i, vec![1.0]),
            Self::Linear => {
                let point = point(i).max(0.0);
                let start = (point as usize).min(last);
                let right = (point - start as f64).min(1.0);
                if start == last { (start, vec![1.0]) } else { (start, vec![1.0 - right, right]) }
            }
            Self::Cubic => {
                let point = point(i);
                let middle = point.floor().min(last as f64);
                let clamped = |place: i64| place.clamp(0, last as i64) as usize;
                let (first, start) = (middle as i64 - 1, clamped(middle as i64 - 1));
                let mut weights = vec![0.0; clamped(first + 3) - start + 1];
                for (place, weight) in (first..).zip(cubic((point - middle).min(1.0))) {
                    weights[clamped(place) - start] += weight;
                }
                (start, weights)
            }
            Self::Area => {
                let range = share_out(input, output, i);
                (range.start, vec![1.0 / range.len() as f64; range.len()])
            }
        };
        Taps::new(input, (0..output).map(row))
    }
}

/// The weights of the places −1, 0, 1 and 2 for the point `t` between 0 and 1.
fn cubic(t: f64) -> [f64; 4] {
    const A: f64 = -0.75;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

/// The spatial sizes after an interpolation: given, or as factors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[serde(bound(
    serialize = "[usize; D]: Serialize, [f64; D]: Serialize",
    deserialize = "[usize; D]: Deserialize<'de>, [f64; D]: Deserialize<'de>"
))]
pub enum Resize<const D: usize> {
    /// The sizes.
    Size([usize; D]),
    /// `⌊input · factor⌋`. The points between the places are found with the factor itself, as PyTorch does unless
    /// `recompute_scale_factor` is set.
    Scale([f64; D]),
}

impl<const D: usize> From<[usize; D]> for Resize<D> {
    fn from(sizes: [usize; D]) -> Self {
        Self::Size(sizes)
    }
}

impl<const D: usize> From<[f64; D]> for Resize<D> {
    fn from(factors: [f64; D]) -> Self {
        Self::Scale(factors)
    }
}

impl<const D: usize> From<f64> for Resize<D> {
    fn from(factor: f64) -> Self {
        Self::Scale([factor; D])
    }
}

impl<const D: usize> Resize<D> {
    /// The spatial sizes of the output.
    ///
    /// # Errors
    /// A factor that is not a positive number, or a size of 0.
    pub fn output(&self, op: &'static str, input: [usize; D]) -> Result<[usize; D]> {
        self.check(op)?;
        match *self {
            Self::Size(sizes) => Ok(sizes),
            Self::Scale(factors) => {
                let sizes = std::array::from_fn(|side| (input[side] as f64 * factors[side]) as usize);
                Resize::Size(sizes).check(op)?;
                Ok(sizes)
            }
        }
    }

    /// An error for a size of 0, or a factor that is not a positive number.
    pub fn check(&self, op: &'static str) -> Result<()> {
        match self {
            Self::Size(sizes) => match sizes.iter().position(|&size| size == 0) {
                Some(side) => {
                    let what = format!("the output's {} is 0", axis_names(D)[side]);
                    Err(Error::value(op, what, "use a larger size or factor"))
                }
                None => Ok(()),
            },
            Self::Scale(factors) if factors.iter().all(|&factor| factor > 0.0 && factor.is_finite()) => Ok(()),
            Self::Scale(factors) => {
                Err(Error::value(op, format!("the scale factor is {factors:?}"), "use positive numbers"))
            }
        }
    }

    /// The tables for the spatial axes of `x: [n, c, sizes..]`.
    ///
    /// # Errors
    /// Another rank, nothing along an axis, and as [`output`](Self::output) and [`Interpolation::taps`].
    pub fn taps(&self, x: Shape, mode: Interpolation, align_corners: bool) -> Result<Vec<Taps>> {
        let op = Window::<D>::name(["interpolate1d", "interpolate2d", "interpolate3d"]);
        let input = spatial::<D>(op, x)?;
        let output = self.output(op, input)?;
        let factor = |side| if let Self::Scale(factors) = self { Some(factors[side]) } else { None };
        (0..D).map(|side| mode.taps(input[side], output[side], factor(side), align_corners)).collect()
    }
}

impl<const D: usize> OutputSize<D> {
    /// The tables of adaptive average pooling for the spatial axes of `x: [n, c, sizes..]`.
    ///
    /// # Errors
    /// Another rank, nothing along an axis, or a size of 0.
    pub fn taps(&self, x: Shape) -> Result<Vec<Taps>> {
        let op = Window::<D>::name(["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"]);
        let input = spatial::<D>(op, x)?;
        let output = self.output(op, input)?;
        (0..D).map(|side| Interpolation::Area.taps(input[side], output[side], None, false)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Rng};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 64 }))]
        #[test]
        fn is_a_product_with_the_tables_matrix(
            outer in 0usize..3, input in 1usize..9, output in 1usize..20, inner in 1usize..4,
            mode in prop_oneof![Just(Interpolation::Nearest), Just(Interpolation::NearestExact),
                Just(Interpolation::Linear), Just(Interpolation::Cubic), Just(Interpolation::Area)],
        ) {
            let taps = mode.taps(input, output, None, false).unwrap();
            let mut matrix = vec![0.0; input * output];
            for (i, (start, range)) in taps.rows.iter().enumerate() {
                let weights = &taps.weights[range.clone()];
                matrix[i * input + start..][..weights.len()].copy_from_slice(weights);
                // Constants stay what they are.
                prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-15 * 8.0);
            }
            let matrix = Tensor::from_vec(matrix, [output, input]).unwrap();
            let close = |a: &Tensor, b: &Tensor| {
                assert_eq!(a.shape(), b.shape());
                let pairs = a.as_slice::<f64>().unwrap().iter().zip(b.as_slice::<f64>().unwrap());
                pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-14)
            };
            let x = Tensor::uniform([outer, input, inner], -1.0f64, 1.0, &mut Rng::new(1));
            prop_assert!(close(&x.resample(1, &taps).unwrap(), &matrix.matmul(&x).unwrap()));
            let dy = Tensor::uniform([outer, output, inner], -1.0f64, 1.0, &mut Rng::new(2));
            let adjoint = matrix.transpose(0, 1).unwrap().matmul(&dy).unwrap();
            prop_assert!(close(&dy.resample(1, &taps.transposed()).unwrap(), &adjoint));
        }
    }

    #[test]
    fn transposed_tables_may_have_gaps() {
        let taps = Taps::new(2, [(0, vec![1.0]), (1, vec![2.0]), (0, vec![3.0]), (2, vec![])]).unwrap();
        let x = Tensor::from([1.0f64, 10.0]);
        assert_eq!(x.resample(0, &taps).unwrap(), Tensor::from([1.0f64, 20.0, 3.0, 0.0]));
        let dy = Tensor::from([1.0f64, 10.0, 100.0, 1000.0]);
        assert_eq!(dy.resample(0, &taps.transposed()).unwrap(), Tensor::from([301.0f64, 20.0]));
    }

    #[test]
    fn what_changes_nothing_costs_nothing() {
        let x = Tensor::zeros([2, 3], DType::F32);
        for mode in [Interpolation::Nearest, Interpolation::Linear, Interpolation::Cubic, Interpolation::Area] {
            let y = x.resample(1, &mode.taps(3, 3, None, false).unwrap()).unwrap();
            assert_eq!(y.as_slice::<f32>().unwrap().as_ptr(), x.as_slice::<f32>().unwrap().as_ptr(), "{mode:?}");
        }
    }

    #[test]
    fn misfits_are_explained() {
        let taps = Interpolation::Linear.taps(3, 6, None, true).unwrap();
        let error = Tensor::zeros([2, 4], DType::F32).resample(-1, &taps).unwrap_err().to_string();
        let expected = "resample: axis -1 of [2, 4] has size 4, the table is for 3; help: make the table for this size";
        assert_eq!(error, expected);
        let error = Taps::new(2, [(1, vec![1.0, 1.0])]).unwrap_err().to_string();
        let expected = "taps: 2 weights from place 1 on are too many for a size of 2; help: stay inside the input";
        assert_eq!(error, expected);
        for (input, output) in [(0, 3), (3, 0)] {
            let error = Interpolation::Linear.taps(input, output, None, false).unwrap_err().to_string();
            assert_eq!(error, format!("interpolate: {input} places cannot become {output}; help: use 1 or more"));
        }
        let image = Shape::from([1, 1, 4, 4]);
        let text = |to: Resize<2>, mode, corners| to.taps(image, mode, corners).unwrap_err().to_string();
        let expected = "interpolate: align_corners means nothing for nearest interpolation; \
                        help: use it with linear or cubic, or leave it out";
        assert_eq!(text([8, 8].into(), Interpolation::Nearest, true), expected);
        let expected = "interpolate2d: the scale factor is [2.0, 0.0]; help: use positive numbers";
        assert_eq!(text([2.0, 0.0].into(), Interpolation::Linear, false), expected);
        let expected = "interpolate2d: the output's height is 0; help: use a larger size or factor";
        assert_eq!(text([0.2, 1.0].into(), Interpolation::Linear, false), expected);
        assert_eq!(text([0, 8].into(), Interpolation::Linear, false), expected);
        let error = Resize::Size([8]).taps(image, Interpolation::Linear, false).unwrap_err().to_string();
        assert_eq!(error, "interpolate1d: input [1, 1, 4, 4] has 4 axes; help: it must be [n, channels, length]");
        let error = OutputSize::from([0, 2]).taps(image).unwrap_err().to_string();
        assert_eq!(error, "adaptive_avg_pool2d: the output's height is 0; help: use 1 or more");
    }
}
