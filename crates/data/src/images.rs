//! [`ImageDataset`]: labelled 8-bit images that become normalised floats as a batch is gathered.

use crate::dataset::check_indices;
use crate::{Batch, Dataset, Error, Normalizer, Result};
use maplet_tensor::{DType, Tensor};

/// Images held as bytes, a quarter of the memory of floats, with a label for each.
///
/// A batch is gathered, scaled from 0..255 to 0..1 and normalised in one pass, to the same bits as in three.
///
/// # Shapes
/// - images: `[n, c, h, w]` (`U8`), labels: `[n]` (`I64`)
/// - batches: inputs `[n, c, h, w]` (`F32`), targets `[n]` (`I64`)
///
/// # Example
/// ```
/// use maplet_data::{Dataset, Normalizer, digits};
///
/// let train = digits(200, 1);
/// let normalizer = Normalizer::fit(&train)?;
/// let train = train.normalize(normalizer)?;
/// let batch = train.batch(&[0, 1, 2])?;
/// assert_eq!(batch.inputs.shape().to_string(), "[3, 1, 28, 28]");
/// assert_eq!(train.class_names()[3], "3");
/// # Ok::<(), maplet_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageDataset {
    images: Tensor,
    labels: Tensor,
    class_names: &'static [&'static str],
    normalizer: Option<Normalizer>,
    /// For each channel, what each byte becomes.
    tables: Vec<[f32; 256]>,
}

impl ImageDataset {
    /// Pairs images with labels, which index `class_names`.
    ///
    /// # Errors
    /// Images that are not `[n, c, h, w]` bytes, labels that are not `[n]` integers, or a label without a class.
    pub fn new(images: Tensor, labels: Tensor, class_names: &'static [&'static str]) -> Result<Self> {
        const OP: &str = "image_dataset";
        let (x, y) = (images.shape(), labels.shape());
        if x.len() != 4 || images.dtype() != DType::U8 {
            let what = format!("images are {x} {}, expected [n, c, h, w] u8", images.dtype());
            return Err(Error::new(OP, what, ""));
        }
        if y[..] != x[..1] || labels.dtype() != DType::I64 {
            let what = format!("labels are {y} {}, expected [{}] i64 for images {x}", labels.dtype(), x[0]);
            return Err(Error::new(OP, what, ""));
        }
        let classes = class_names.len();
        let without_class = |label: &i64| usize::try_from(*label).map_or(true, |label| label >= classes);
        let labels_slice = labels.as_slice::<i64>()?;
        if let Some(at) = labels_slice.iter().position(without_class) {
            let what = format!("label {} of sample {at} is out of range", labels_slice[at]);
            return Err(Error::new(
                OP,
                what,
                format!("{classes} classes have labels from 0 to {}", classes as i64 - 1),
            ));
        }
        let tables = vec![table(|x| x); x[1]];
        Ok(Self { images, labels, class_names, normalizer: None, tables })
    }

    /// Applies `normalizer` to every batch from now on, in place of any earlier one.
    ///
    /// # Errors
    /// A normalizer for another number of channels, or one with a `std` that cannot be divided by.
    pub fn normalize(mut self, normalizer: impl Into<Normalizer>) -> Result<Self> {
        let normalizer = normalizer.into();
        normalizer.check("normalize", self.tables.len())?;
        let scales = normalizer.mean.iter().zip(&normalizer.std);
        self.tables = scales.map(|(mean, std)| table(|x| ((f64::from(x) - mean) / std) as f32)).collect();
        self.normalizer = Some(normalizer);
        Ok(self)
    }

    /// What is applied to every batch, to be saved beside the model.
    pub fn normalizer(&self) -> Option<&Normalizer> {
        self.normalizer.as_ref()
    }

    /// The names of the classes, in the order of their labels.
    pub fn class_names(&self) -> &'static [&'static str] {
        self.class_names
    }

    /// All images: `[n, c, h, w]`, bytes as they were read.
    pub fn images(&self) -> &Tensor {
        &self.images
    }

    /// All labels: `[n]`.
    pub fn labels(&self) -> &Tensor {
        &self.labels
    }
}

impl Dataset for ImageDataset {
    fn len(&self) -> usize {
        self.images.shape()[0]
    }

    fn item(&self, index: usize) -> Result<(Tensor, Tensor)> {
        let Batch { inputs, targets } = self.batch(&[index])?;
        Ok((inputs.squeeze(0)?, targets.squeeze(0)?))
    }

    fn batch(&self, indices: &[usize]) -> Result<Batch> {
        check_indices(indices, self.len())?;
        let [_, channels, height, width] = self.images.dims("batch")?;
        let plane = height * width;
        let (images, labels) = (self.images.as_slice::<u8>()?, self.labels.as_slice::<i64>()?);
        let mut inputs = Tensor::zeros([indices.len(), channels, height, width], DType::F32);
        let mut targets = Tensor::zeros([indices.len()], DType::I64);
        let out = inputs.as_mut_slice::<f32>()?.chunks_exact_mut((channels * plane).max(1));
        for ((out, label), &index) in out.zip(targets.as_mut_slice::<i64>()?).zip(indices) {
            *label = labels[index];
            let image = &images[index * channels * plane..][..channels * plane];
            let planes = out.chunks_exact_mut(plane).zip(image.chunks_exact(plane));
            for ((out, bytes), table) in planes.zip(&self.tables) {
                out.iter_mut().zip(bytes).for_each(|(out, &byte)| *out = table[usize::from(byte)]);
            }
        }
        Ok(Batch { inputs, targets })
    }
}

/// What `f` makes of each byte, scaled to 0..1.
fn table(f: impl Fn(f32) -> f32) -> [f32; 256] {
    std::array::from_fn(|byte| f(byte as f32 / 255.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images of two channels of 1 × 3: bytes 0, 20, … 220.
    fn two() -> ImageDataset {
        let bytes = (0..12).map(|i| 20 * i as u8).collect();
        let images = Tensor::from_vec(bytes, [2, 2, 1, 3]).unwrap();
        ImageDataset::new(images, Tensor::from([1i64, 0]), &["cat", "dog"]).unwrap()
    }

    #[test]
    fn a_batch_is_scaled_and_normalized_to_the_bits_of_separate_steps() {
        let plain = two().batch(&[1, 0, 1]).unwrap();
        assert_eq!(plain.inputs.shape()[..], [3, 2, 1, 3]);
        assert_eq!(plain.inputs.as_slice::<f32>().unwrap()[6..9], [0.0, 20.0 / 255.0, 40.0 / 255.0]);
        assert_eq!(plain.targets, Tensor::from([0i64, 1, 0]));

        let normalizer = Normalizer { mean: vec![0.4914, 0.1307], std: vec![0.2470, 0.3081] };
        let unfused = normalizer.apply(&plain.inputs).unwrap();
        let data = two().normalize(normalizer.clone()).unwrap();
        assert_eq!(data.batch(&[1, 0, 1]).unwrap().inputs, unfused);
        assert_eq!(data.normalizer(), Some(&normalizer));
        assert_eq!(data.item(1).unwrap().1, Tensor::scalar(0i64));
        assert_eq!(data.item(1).unwrap().0.shape()[..], [2, 1, 3]);
        let empty = data.batch(&[]).unwrap();
        assert_eq!((empty.inputs.shape().to_string(), empty.is_empty()), ("[0, 2, 1, 3]".into(), true));
    }

    #[test]
    fn a_later_normalizer_replaces_the_earlier() {
        let once = two().normalize(Normalizer { mean: vec![0.5; 2], std: vec![0.5; 2] }).unwrap();
        let other = Normalizer { mean: vec![0.0; 2], std: vec![1.0; 2] };
        let twice = once.normalize(other).unwrap();
        assert_eq!(twice.batch(&[0, 1]).unwrap().inputs, two().batch(&[0, 1]).unwrap().inputs);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let text = |images: Tensor, labels: Tensor| {
            ImageDataset::new(images, labels, &["cat", "dog"]).unwrap_err().to_string()
        };
        let images = || Tensor::full([2, 1, 4, 4], 0u8);
        let expected = "image_dataset: images are [2, 4, 4] u8, expected [n, c, h, w] u8";
        assert_eq!(text(Tensor::full([2, 4, 4], 0u8), Tensor::from([0i64, 1])), expected);
        let expected = "image_dataset: images are [2, 1, 4, 4] f32, expected [n, c, h, w] u8";
        assert_eq!(text(Tensor::full([2, 1, 4, 4], 0.0f32), Tensor::from([0i64, 1])), expected);
        let expected = "image_dataset: labels are [3] i64, expected [2] i64 for images [2, 1, 4, 4]";
        assert_eq!(text(images(), Tensor::from([0i64, 1, 0])), expected);
        for label in [2, -1] {
            let expected = format!(
                "image_dataset: label {label} of sample 1 is out of range; help: 2 classes have labels from 0 to 1"
            );
            assert_eq!(text(images(), Tensor::from([0i64, label])), expected);
        }
        let wrong = two().normalize(Normalizer { mean: vec![0.5], std: vec![0.5] }).unwrap_err().to_string();
        let expected = "normalize: 2 channels, but 1 means and 1 standard deviations; help: axis 1 counts the channels";
        assert_eq!(wrong, expected);
        assert_eq!(two().item(2).unwrap_err().to_string(), "dataset: sample 2 of 2; help: indices are counted from 0");
    }
}
