//! What a dataset is, and the two that hold any others: [`TensorDataset`] and [`Subset`].

use crate::{Error, Result};
use maplet_tensor::{Rng, Tensor};
use std::sync::Arc;

/// Several samples at once: the first axis of both tensors counts them.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What the model is given: `[n, ..]`.
    pub inputs: Tensor,
    /// What it should answer: `[n]` class labels (`I64`) or `[n, ..]` numbers.
    pub targets: Tensor,
}

impl Batch {
    /// The number of samples.
    pub fn len(&self) -> usize {
        self.inputs.shape().first().copied().unwrap_or(0)
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Samples, each an input and a target, that can be had in any order.
///
/// # Example
/// ```
/// use maplet_data::{Dataset, Result};
/// use maplet_tensor::Tensor;
///
/// /// The parabola `y = x²` at `x = 0, 0.1, …, 9.9`.
/// struct Parabola;
///
/// impl Dataset for Parabola {
///     fn len(&self) -> usize {
///         100
///     }
///     fn item(&self, index: usize) -> Result<(Tensor, Tensor)> {
///         let x = 0.1 * index as f32;
///         Ok((Tensor::from([x]), Tensor::from([x * x])))
///     }
/// }
///
/// let batch = Parabola.batch(&[0, 10, 20])?;
/// assert_eq!(batch.inputs, Tensor::from([[0.0f32], [1.0], [2.0]]));
/// assert_eq!(batch.targets, Tensor::from([[0.0f32], [1.0], [4.0]]));
/// # Ok::<(), maplet_data::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The input and the target of one sample, without a batch axis.
    ///
    /// # Errors
    /// An index outside `0..len()`, or whatever keeps the sample from being read.
    fn item(&self, index: usize) -> Result<(Tensor, Tensor)>;

    /// The samples with these indices, in this order, stacked along a new first axis.
    ///
    /// The default stacks what [`item`](Self::item) gives; datasets in memory override it with one copy.
    ///
    /// # Errors
    /// As [`item`](Self::item); also when the samples' shapes differ, or there are no indices.
    fn batch(&self, indices: &[usize]) -> Result<Batch> {
        let (inputs, targets): (Vec<_>, Vec<_>) =
            indices.iter().map(|&index| self.item(index)).collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let stack = |items: &[Tensor]| Tensor::stack(&items.iter().collect::<Vec<_>>(), 0);
        Ok(Batch { inputs: stack(&inputs)?, targets: stack(&targets)? })
    }
}

impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn item(&self, index: usize) -> Result<(Tensor, Tensor)> {
        (**self).item(index)
    }
    fn batch(&self, indices: &[usize]) -> Result<Batch> {
        (**self).batch(indices)
    }
}

/// An error unless every index is below `len`.
pub(crate) fn check_indices(indices: &[usize], len: usize) -> Result<()> {
    match indices.iter().find(|&&index| index >= len) {
        None => Ok(()),
        Some(index) => Err(Error::new("dataset", format!("sample {index} of {len}"), "indices are counted from 0")),
    }
}

/// Samples held in two tensors, whose first axes count them.
///
/// # Shapes
/// - inputs: `[samples, ..]`, targets: `[samples, ..]`
///
/// # Example
/// ```
/// use maplet_data::{Dataset, TensorDataset};
/// use maplet_tensor::Tensor;
///
/// let data = TensorDataset::new(Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]), Tensor::from([0i64, 1]))?;
/// assert_eq!(data.len(), 2);
/// assert_eq!(data.batch(&[1])?.inputs, Tensor::from([[3.0f32, 4.0]]));
/// # Ok::<(), maplet_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TensorDataset {
    inputs: Tensor,
    targets: Tensor,
}

impl TensorDataset {
    /// Pairs row `i` of `inputs` with row `i` of `targets`.
    ///
    /// # Errors
    /// Different numbers of rows, or a tensor without axes.
    pub fn new(inputs: Tensor, targets: Tensor) -> Result<Self> {
        let (x, y) = (inputs.shape(), targets.shape());
        if !x.is_empty() && x.first() == y.first() {
            return Ok(Self { inputs, targets });
        }
        let what = format!("inputs {x} and targets {y} do not have the same number of samples");
        Err(Error::new("tensor_dataset", what, "the first axis of both counts the samples"))
    }

    /// All inputs: `[samples, ..]`.
    pub fn inputs(&self) -> &Tensor {
        &self.inputs
    }

    /// All targets: `[samples, ..]`.
    pub fn targets(&self) -> &Tensor {
        &self.targets
    }
}

impl Dataset for TensorDataset {
    fn len(&self) -> usize {
        self.inputs.shape()[0]
    }

    fn item(&self, index: usize) -> Result<(Tensor, Tensor)> {
        check_indices(&[index], self.len())?;
        let row = |all: &Tensor| all.slice(0, index, index + 1)?.squeeze(0);
        Ok((row(&self.inputs)?, row(&self.targets)?))
    }

    fn batch(&self, indices: &[usize]) -> Result<Batch> {
        check_indices(indices, self.len())?;
        let ids = Tensor::from_vec(indices.iter().map(|&index| index as i64).collect(), [indices.len()])?;
        Ok(Batch { inputs: self.inputs.select_rows(&ids)?, targets: self.targets.select_rows(&ids)? })
    }
}

/// Some samples of another dataset, in an order of their own.
///
/// # Example
/// ```
/// use maplet_data::{Dataset, Subset, TensorDataset};
/// use maplet_tensor::Tensor;
///
/// let data = TensorDataset::new(Tensor::from([1.0f32, 2.0, 3.0]), Tensor::from([0i64, 1, 0]))?;
/// let ends = Subset::new(data, vec![2, 0])?;
/// assert_eq!(ends.batch(&[0, 1])?.inputs, Tensor::from([3.0f32, 1.0]));
/// # Ok::<(), maplet_data::Error>(())
/// ```
#[derive(Clone)]
pub struct Subset {
    dataset: Arc<dyn Dataset>,
    indices: Vec<usize>,
}

impl Subset {
    /// The samples of `dataset` with these indices.
    ///
    /// # Errors
    /// An index that `dataset` does not have.
    pub fn new(dataset: impl Dataset + 'static, indices: Vec<usize>) -> Result<Self> {
        check_indices(&indices, dataset.len())?;
        Ok(Self { dataset: Arc::new(dataset), indices })
    }

    /// Where in the whole dataset the samples lie.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn item(&self, index: usize) -> Result<(Tensor, Tensor)> {
        check_indices(&[index], self.len())?;
        self.dataset.item(self.indices[index])
    }

    fn batch(&self, indices: &[usize]) -> Result<Batch> {
        check_indices(indices, self.len())?;
        self.dataset.batch(&indices.iter().map(|&index| self.indices[index]).collect::<Vec<_>>())
    }
}

/// Cuts a dataset in two at random: a part to train on, and `validation_fraction` of it (rounded) to validate with.
///
/// The same seed makes the same cut. Each part keeps the samples in their original order; a
/// [`Loader`](crate::Loader) shuffles them.
///
/// # Errors
/// A fraction outside `0..1`, or one that leaves a part empty.
///
/// # Example
/// ```
/// use maplet_data::{Dataset, digits, train_validation_split};
///
/// let (train, validation) = train_validation_split(digits(100, 1), 0.2, 42)?;
/// assert_eq!((train.len(), validation.len()), (80, 20));
/// # Ok::<(), maplet_data::Error>(())
/// ```
pub fn train_validation_split(
    dataset: impl Dataset + 'static,
    validation_fraction: f64,
    seed: u64,
) -> Result<(Subset, Subset)> {
    let samples = dataset.len();
    let count = (samples as f64 * validation_fraction).round(); // NaN and negative numbers fail below
    if !(count >= 1.0 && count < samples as f64) {
        let what = format!("a fraction of {validation_fraction} of {samples} samples leaves a part empty");
        return Err(Error::new("train_validation_split", what, "use a fraction such as 0.1, and more samples"));
    }
    let mut order = Rng::new(seed).permutation(samples);
    let mut validation = order.split_off(samples - count as usize);
    order.sort_unstable();
    validation.sort_unstable();
    let dataset: Arc<dyn Dataset> = Arc::new(dataset);
    Ok((Subset { dataset: dataset.clone(), indices: order }, Subset { dataset, indices: validation }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use maplet_tensor::DType;

    /// `[n, 2]` inputs `[i, 10 i]` and `[n]` targets `i`.
    fn numbers(n: i64) -> TensorDataset {
        let inputs = (0..n).flat_map(|i| [i as f32, 10.0 * i as f32]).collect();
        let targets = Tensor::arange(0, n, 1).unwrap();
        TensorDataset::new(Tensor::from_vec(inputs, [n as usize, 2]).unwrap(), targets).unwrap()
    }

    /// Only `item`, so that `batch` is the trait's.
    struct Items(TensorDataset);

    impl Dataset for Items {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn item(&self, index: usize) -> Result<(Tensor, Tensor)> {
            self.0.item(index)
        }
    }

    #[test]
    fn a_gathered_batch_is_the_stack_of_its_items() {
        let data = numbers(6);
        let (fast, slow) = (data.batch(&[4, 0, 4]).unwrap(), Items(data.clone()).batch(&[4, 0, 4]).unwrap());
        assert_eq!(fast.inputs, Tensor::from([[4.0f32, 40.0], [0.0, 0.0], [4.0, 40.0]]));
        assert_eq!(fast.targets, Tensor::from([4i64, 0, 4]));
        assert_eq!((fast.inputs, fast.targets), (slow.inputs, slow.targets));
        let (input, target) = data.item(3).unwrap();
        assert_eq!((input, target), (Tensor::from([3.0f32, 30.0]), Tensor::scalar(3i64)));
    }

    #[test]
    fn a_subset_translates_its_indices() {
        let shared: Arc<dyn Dataset> = Arc::new(numbers(6));
        let subset = Subset::new(shared, vec![5, 1]).unwrap();
        assert_eq!((subset.len(), subset.indices()), (2, &[5, 1][..]));
        assert_eq!(subset.batch(&[1, 0, 1]).unwrap().targets, Tensor::from([1i64, 5, 1]));
        assert_eq!(subset.item(0).unwrap().1, Tensor::scalar(5i64));
    }

    #[test]
    fn a_split_cuts_every_sample_once_and_always_alike() {
        let (train, validation) = train_validation_split(numbers(50), 0.2, 7).unwrap();
        assert_eq!((train.len(), validation.len()), (40, 10));
        let mut all = [train.indices(), validation.indices()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
        assert_ne!(validation.indices(), (40..50).collect::<Vec<_>>(), "not simply the last ones");

        let again = train_validation_split(numbers(50), 0.2, 7).unwrap().1;
        let other = train_validation_split(numbers(50), 0.2, 8).unwrap().1;
        assert_eq!(again.indices(), validation.indices());
        assert_ne!(other.indices(), validation.indices());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let text = |result: Result<TensorDataset>| result.unwrap_err().to_string();
        let (x, y) = (Tensor::zeros([4, 2], DType::F32), Tensor::zeros([3], DType::I64));
        let expected = "tensor_dataset: inputs [4, 2] and targets [3] do not have the same number of samples; \
                        help: the first axis of both counts the samples";
        assert_eq!(text(TensorDataset::new(x, y)), expected);
        let scalars = TensorDataset::new(Tensor::scalar(1.0f32), Tensor::scalar(1.0f32));
        assert!(text(scalars).starts_with("tensor_dataset: inputs [] and targets []"));

        let expected = "dataset: sample 6 of 6; help: indices are counted from 0";
        assert_eq!(numbers(6).item(6).unwrap_err().to_string(), expected);
        assert_eq!(numbers(6).batch(&[0, 6]).unwrap_err().to_string(), expected);
        assert_eq!(Subset::new(numbers(6), vec![6]).err().unwrap().to_string(), expected);

        for fraction in [0.0, 1.0, -0.5, 2.0, f64::NAN, 0.01] {
            let expected = format!(
                "train_validation_split: a fraction of {fraction} of 6 samples leaves a part empty; \
                 help: use a fraction such as 0.1, and more samples"
            );
            assert_eq!(train_validation_split(numbers(6), fraction, 1).err().unwrap().to_string(), expected);
        }
    }
}
