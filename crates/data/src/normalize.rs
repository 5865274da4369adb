//! Bringing inputs to a common scale: [`Normalizer`] (mean 0, variance 1) and [`MinMax`] (from 0 to 1).
//!
//! Both are fitted on the training part alone and then applied to every part. A *channel* is an index of axis 1: the
//! color of `[n, c, h, w]`, the feature of `[n, features]`; inputs of rank 1 are one channel.

use crate::{Batch, Dataset, Error, Result};
use maplet_tensor::{DType, Element, Tensor};
use serde::{Deserialize, Serialize};

/// Shifts and scales each channel: `y = (x − mean) / std`.
///
/// Plain data, to be saved beside the model: what is predicted later needs the same treatment.
///
/// # Example
/// ```
/// use maplet_data::{Normalizer, TensorDataset};
/// use maplet_tensor::Tensor;
///
/// let data = TensorDataset::new(Tensor::from([[1.0f32, 10.0], [3.0, 30.0]]), Tensor::from([0i64, 1]))?;
/// let normalizer = Normalizer::fit(&data)?;
/// assert_eq!((&normalizer.mean[..], &normalizer.std[..]), (&[2.0, 20.0][..], &[1.0, 10.0][..]));
/// assert_eq!(normalizer.apply(data.inputs())?, Tensor::from([[-1.0f32, -1.0], [1.0, 1.0]]));
/// # Ok::<(), maplet_data::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalizer {
    /// What is subtracted, for each channel.
    pub mean: Vec<f64>,
    /// What is divided by, for each channel.
    pub std: Vec<f64>,
}

impl Normalizer {
    /// Finds each channel's mean and standard deviation (biased: divided by the count) over all inputs.
    ///
    /// Reads the dataset once, in batches, in order; adds in `f64`. A channel that never varies keeps `std = 1`, so
    /// that it becomes 0.
    ///
    /// # Errors
    /// An empty dataset, inputs without numbers, or whatever keeps a batch from being read.
    ///
    /// # Reference
    /// Chan, Golub & LeVeque (1979), "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances".
    pub fn fit(dataset: &(impl Dataset + ?Sized)) -> Result<Self> {
        let mut moments: Vec<Moments> = Vec::new();
        for_each_channel("normalizer", dataset, |channel, values| {
            moments.resize(moments.len().max(channel + 1), Moments::default());
            moments[channel].add(values);
        })?;
        let std = |m: &Moments| match (m.squares / m.count).sqrt() {
            std if std > 0.0 => std,
            _ => 1.0,
        };
        Ok(Self { mean: moments.iter().map(|m| m.mean).collect(), std: moments.iter().map(std).collect() })
    }

    /// Normalises a batch: `[n, channels, ..]` or `[n]`.
    ///
    /// # Errors
    /// Another number of channels, no float tensor, or a `std` that cannot be divided by.
    pub fn apply(&self, inputs: &Tensor) -> Result<Tensor> {
        self.per_channel("normalize", inputs, |x, mean, std| (x - mean) / std)
    }

    /// Undoes [`apply`](Self::apply): for predicted targets that were normalised for training.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn invert(&self, outputs: &Tensor) -> Result<Tensor> {
        self.per_channel("denormalize", outputs, |y, mean, std| y * std + mean)
    }

    /// The dataset with this applied to every input.
    pub fn on<D: Dataset>(self, dataset: D) -> Normalized<D> {
        Normalized { dataset, normalizer: self }
    }

    /// An error unless there is one usable pair for each of `channels`.
    pub(crate) fn check(&self, op: &'static str, channels: usize) -> Result<()> {
        if (self.mean.len(), self.std.len()) != (channels, channels) {
            let (means, stds) = (self.mean.len(), self.std.len());
            let what = format!("{channels} channels, but {means} means and {stds} standard deviations");
            return Err(Error::new(op, what, "axis 1 counts the channels"));
        }
        for (channel, (mean, std)) in self.mean.iter().zip(&self.std).enumerate() {
            if !(mean.is_finite() && std.is_finite() && *std > 0.0) {
                let what = format!("channel {channel} has mean {mean} and standard deviation {std}");
                return Err(Error::new(op, what, "both must be finite, and the deviation above 0"));
            }
        }
        Ok(())
    }

    fn per_channel(&self, op: &'static str, x: &Tensor, f: impl Fn(f64, f64, f64) -> f64) -> Result<Tensor> {
        self.check(op, channels(op, x)?)?;
        let mut y = x.clone();
        match x.dtype() {
            DType::F32 => map_channels::<f32>(&mut y, |x, c| f(x, self.mean[c], self.std[c]))?,
            DType::F64 => map_channels::<f64>(&mut y, |x, c| f(x, self.mean[c], self.std[c]))?,
            other => return Err(Error::new(op, format!("the input is {other}, not a float"), "convert with to_dtype")),
        }
        Ok(y)
    }
}

/// The smallest and the largest value of each channel: `y = (x − min) / (max − min)`, from 0 to 1.
///
/// It fits, then becomes a [`Normalizer`] by `into()`, and so works wherever one does.
///
/// # Example
/// ```
/// use maplet_data::{MinMax, Normalizer, TensorDataset};
/// use maplet_tensor::Tensor;
///
/// let data = TensorDataset::new(Tensor::from([[1.0f32], [2.0], [5.0]]), Tensor::from([0i64, 1, 1]))?;
/// let scale: Normalizer = MinMax::fit(&data)?.into();
/// assert_eq!(scale.apply(data.inputs())?, Tensor::from([[0.0f32], [0.25], [1.0]]));
/// # Ok::<(), maplet_data::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MinMax {
    /// The smallest value of each channel.
    pub min: Vec<f64>,
    /// The largest value of each channel.
    pub max: Vec<f64>,
}

impl MinMax {
    /// Finds each channel's range over all inputs. NaNs are passed over.
    ///
    /// # Errors
    /// As [`Normalizer::fit`].
    pub fn fit(dataset: &(impl Dataset + ?Sized)) -> Result<Self> {
        let (mut min, mut max) = (Vec::new(), Vec::new());
        for_each_channel("min_max", dataset, |channel, values| {
            min.resize(min.len().max(channel + 1), f64::INFINITY);
            max.resize(max.len().max(channel + 1), f64::NEG_INFINITY);
            min[channel] = values.iter().copied().fold(min[channel], f64::min);
            max[channel] = values.iter().copied().fold(max[channel], f64::max);
        })?;
        Ok(Self { min, max })
    }

    /// Scales a batch: `[n, channels, ..]` or `[n]`.
    ///
    /// # Errors
    /// As [`Normalizer::apply`].
    pub fn apply(&self, inputs: &Tensor) -> Result<Tensor> {
        Normalizer::from(self.clone()).apply(inputs)
    }
}

/// A channel that never varies becomes 0.
impl From<MinMax> for Normalizer {
    fn from(MinMax { min, max }: MinMax) -> Self {
        let range = |(min, max): (&f64, &f64)| if max > min { max - min } else { 1.0 };
        let std = min.iter().zip(&max).map(range).collect();
        Self { mean: min, std }
    }
}

/// A dataset whose inputs are normalised as they are read; see [`Normalizer::on`].
#[derive(Debug, Clone)]
pub struct Normalized<D> {
    dataset: D,
    normalizer: Normalizer,
}

impl<D: Dataset> Dataset for Normalized<D> {
    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn item(&self, index: usize) -> Result<(Tensor, Tensor)> {
        let (input, target) = self.dataset.item(index)?;
        let input = self.normalizer.apply(&input.unsqueeze(0)?)?.squeeze(0)?;
        Ok((input, target))
    }

    fn batch(&self, indices: &[usize]) -> Result<Batch> {
        let Batch { inputs, targets } = self.dataset.batch(indices)?;
        Ok(Batch { inputs: self.normalizer.apply(&inputs)?, targets })
    }
}

/// Count, mean and sum of squared deviations of the values so far.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, values: &[f64]) {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
        let (total, apart) = (self.count + count, mean - self.mean);
        self.squares += squares + apart * apart * self.count * count / total;
        self.mean += apart * count / total;
        self.count = total;
    }
}

/// Calls `visit(channel, values)` with runs of values that lie side by side, over the whole dataset in order.
fn for_each_channel(
    op: &'static str,
    dataset: &(impl Dataset + ?Sized),
    mut visit: impl FnMut(usize, &[f64]),
) -> Result<()> {
    const BATCH: usize = 256;
    if dataset.is_empty() {
        return Err(Error::new(op, "the dataset is empty", "fit on the training part"));
    }
    let mut expected = None;
    for start in (0..dataset.len()).step_by(BATCH) {
        let indices: Vec<usize> = (start..dataset.len().min(start + BATCH)).collect();
        let inputs = dataset.batch(&indices)?.inputs;
        let channels = channels(op, &inputs)?;
        if *expected.get_or_insert(channels) != channels || inputs.is_empty() {
            return Err(Error::new(op, format!("a batch of inputs is {}", inputs.shape()), "all need one shape"));
        }
        let values = inputs.to_dtype(DType::F64);
        let run = inputs.len() / (inputs.shape()[0] * channels);
        for (i, run) in values.as_slice::<f64>()?.chunks(run).enumerate() {
            visit(i % channels, run);
        }
    }
    Ok(())
}

/// The number of channels of a batch.
fn channels(op: &'static str, inputs: &Tensor) -> Result<usize> {
    match *inputs.shape() {
        [] => Err(Error::new(op, "the input has no axes", "axis 0 counts the samples, axis 1 the channels")),
        [_] => Ok(1),
        [_, channels, ..] => Ok(channels),
    }
}

/// Replaces each value by `f(value, channel)`.
fn map_channels<T: Element>(x: &mut Tensor, f: impl Fn(f64, usize) -> f64) -> Result<()> {
    let channels = x.shape().get(1).copied().unwrap_or(1).max(1);
    let run = x.shape().iter().skip(2).product::<usize>().max(1);
    for (i, run) in x.as_mut_slice::<T>()?.chunks_mut(run).enumerate() {
        run.iter_mut().for_each(|x| *x = T::from_f64(f(x.as_f64(), i % channels)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorDataset;

    fn dataset(inputs: Tensor) -> TensorDataset {
        let targets = Tensor::full([inputs.shape()[0]], 0i64);
        TensorDataset::new(inputs, targets).unwrap()
    }

    #[test]
    fn fits_the_closed_form_over_several_batches() {
        // 1..=n has mean (n + 1) / 2 and variance (n² − 1) / 12; a large offset must cost no digits.
        let n = 1000.0f64;
        let values = (1..=1000).flat_map(|i| [f64::from(i), 1e6 + 3.0 * f64::from(i)]).collect();
        let data = dataset(Tensor::from_vec(values, [1000, 2]).unwrap());
        let Normalizer { mean, std } = Normalizer::fit(&data).unwrap();
        let expected = ((n + 1.0) / 2.0, ((n * n - 1.0) / 12.0).sqrt());
        for (channel, scale, offset) in [(0, 1.0, 0.0), (1, 3.0, 1e6)] {
            assert!((mean[channel] - (offset + scale * expected.0)).abs() < 1e-8, "{mean:?}");
            assert!((std[channel] - scale * expected.1).abs() < 1e-8, "{std:?}");
        }
        let MinMax { min, max } = MinMax::fit(&data).unwrap();
        assert_eq!((min, max), (vec![1.0, 1e6 + 3.0], vec![1000.0, 1e6 + 3000.0]));
    }

    #[test]
    fn a_channel_of_images_is_axis_1_and_of_a_row_all() {
        // Channel 0 holds 1 and 3, channel 1 holds 10 and 30, over two samples of 1 × 2.
        let images = Tensor::from([[[[1.0f32, 3.0]], [[10.0, 30.0]]], [[[3.0, 1.0]], [[30.0, 10.0]]]]);
        let normalizer = Normalizer::fit(&dataset(images.clone())).unwrap();
        assert_eq!(normalizer, Normalizer { mean: vec![2.0, 20.0], std: vec![1.0, 10.0] });
        let expected = Tensor::from([[[[-1.0f32, 1.0]], [[-1.0, 1.0]]], [[[1.0, -1.0]], [[1.0, -1.0]]]]);
        assert_eq!(normalizer.apply(&images).unwrap(), expected);
        assert_eq!(normalizer.invert(&expected).unwrap(), images);

        let row = Tensor::from([0.0f64, 4.0, 8.0]);
        let scale = MinMax::fit(&dataset(row.clone())).unwrap();
        assert_eq!(scale.apply(&row).unwrap(), Tensor::from([0.0f64, 0.5, 1.0]));
    }

    #[test]
    fn a_normalized_dataset_gives_the_same_items_and_batches() {
        let data = dataset(Tensor::from([[1.0f32, 10.0], [3.0, 30.0], [5.0, 20.0]]));
        let normalizer = Normalizer::fit(&data).unwrap();
        let all = normalizer.apply(data.inputs()).unwrap();
        let normalized = normalizer.on(data);
        assert_eq!(normalized.len(), 3);
        assert_eq!(normalized.batch(&[0, 1, 2]).unwrap().inputs, all);
        for i in 0..3 {
            let row = all.slice(0, i, i + 1).unwrap().squeeze(0).unwrap();
            assert_eq!(normalized.item(i).unwrap().0, row);
        }
    }

    #[test]
    fn a_channel_that_never_varies_becomes_zero() {
        let data = dataset(Tensor::from([[5.0f32], [5.0]]));
        for normalizer in [Normalizer::fit(&data).unwrap(), MinMax::fit(&data).unwrap().into()] {
            assert_eq!(normalizer, Normalizer { mean: vec![5.0], std: vec![1.0] });
            assert_eq!(normalizer.apply(data.inputs()).unwrap(), Tensor::from([[0.0f32], [0.0]]));
        }
    }

    #[test]
    fn is_plain_data() {
        let normalizer = Normalizer { mean: vec![0.5], std: vec![0.25] };
        let json = serde_json::to_string(&normalizer).unwrap();
        assert_eq!(json, r#"{"mean":[0.5],"std":[0.25]}"#);
        assert_eq!(serde_json::from_str::<Normalizer>(&json).unwrap(), normalizer);
        let json = serde_json::to_string(&MinMax { min: vec![0.0], max: vec![2.0] }).unwrap();
        assert_eq!(json, r#"{"min":[0.0],"max":[2.0]}"#);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let x = Tensor::full([4, 3], 1.0f32);
        let text = |mean: &[f64], std: &[f64], x: &Tensor| {
            Normalizer { mean: mean.into(), std: std.into() }.apply(x).unwrap_err().to_string()
        };
        let expected = "normalize: 3 channels, but 1 means and 2 standard deviations; help: axis 1 counts the channels";
        assert_eq!(text(&[0.0], &[1.0; 2], &x), expected);
        let expected = "normalize: channel 2 has mean 0 and standard deviation 0; \
                        help: both must be finite, and the deviation above 0";
        assert_eq!(text(&[0.0; 3], &[1.0, 1.0, 0.0], &x), expected);
        let expected = "normalize: the input is u8, not a float; help: convert with to_dtype";
        assert_eq!(text(&[0.0], &[1.0], &Tensor::full([4], 1u8)), expected);
        let expected = "normalize: the input has no axes; help: axis 0 counts the samples, axis 1 the channels";
        assert_eq!(text(&[0.0], &[1.0], &Tensor::scalar(1.0f32)), expected);

        let fit = |inputs| Normalizer::fit(&dataset(inputs)).unwrap_err().to_string();
        let expected = "normalizer: the dataset is empty; help: fit on the training part";
        assert_eq!(fit(Tensor::full([0, 2], 1.0f32)), expected);
        let expected = "normalizer: a batch of inputs is [2, 0]; help: all need one shape";
        assert_eq!(fit(Tensor::full([2, 0], 1.0f32)), expected);
    }
}
