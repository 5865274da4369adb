//! MNIST and Fashion-MNIST from their published files.

use crate::{Error, ImageDataset, Result, idx};
use maplet_tensor::DType;
use std::path::{Path, PathBuf};

/// Which part of a published dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// The part to train on.
    Train,
    /// The part to test with, and nothing else.
    Test,
}

/// The MNIST handwritten digits: 60,000 training and 10,000 test images, 28 × 28, white on black.
///
/// # Reference
/// LeCun, Bottou, Bengio & Haffner (1998), "Gradient-based learning applied to document recognition".
///
/// # Example
/// ```no_run
/// use maplet_data::{Dataset, Mnist, Split};
///
/// let train = Mnist::open("data", Split::Train)?;
/// assert_eq!(train.len(), 60_000);
/// assert_eq!(train.batch(&[0, 1])?.inputs.shape().to_string(), "[2, 1, 28, 28]");
/// # Ok::<(), maplet_data::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Mnist;

impl Mnist {
    /// The names of the classes: the digits.
    pub const CLASS_NAMES: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

    /// Reads one part from `dir/mnist` or `dir`, whose files may be gzip (`.gz`) or unpacked.
    ///
    /// # Errors
    /// Missing files (the text says how to get them), files that are not what they should be, a label above 9.
    pub fn open(dir: impl AsRef<Path>, split: Split) -> Result<ImageDataset> {
        open(dir.as_ref(), "mnist", split, Self::CLASS_NAMES)
    }
}

/// Fashion-MNIST: ten kinds of clothing in the form of [`Mnist`].
///
/// # Reference
/// Xiao, Rasul & Vollgraf (2017), "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms".
///
/// # Example
/// ```no_run
/// use maplet_data::{FashionMnist, Split};
///
/// let test = FashionMnist::open("data", Split::Test)?;
/// assert_eq!(test.class_names()[9], "Ankle boot");
/// # Ok::<(), maplet_data::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct FashionMnist;

impl FashionMnist {
    /// The names of the classes.
    pub const CLASS_NAMES: &[&str] =
        &["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

    /// Reads one part from `dir/fashion-mnist` or `dir`. The files have the same names as MNIST's, so that only
    /// the folder tells the two apart.
    ///
    /// # Errors
    /// As [`Mnist::open`].
    pub fn open(dir: impl AsRef<Path>, split: Split) -> Result<ImageDataset> {
        open(dir.as_ref(), "fashion-mnist", split, Self::CLASS_NAMES)
    }
}

fn open(dir: &Path, name: &'static str, split: Split, class_names: &'static [&'static str]) -> Result<ImageDataset> {
    let part = match split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let [images_path, labels_path] =
        find(dir, name, [&format!("{part}-images-idx3-ubyte"), &format!("{part}-labels-idx1-ubyte")])?;
    let images = idx::read(&images_path)?;
    let labels = idx::read(&labels_path)?;

    let bad = |path: &Path, what: String, help: &str| Err(Error::file(name, path, what, help));
    let count = match *images.shape() {
        [count, 28, 28] if images.dtype() == DType::U8 => count,
        _ => {
            let what = format!("holds {} {}, expected [n, 28, 28] u8 images", images.shape(), images.dtype());
            return bad(&images_path, what, "fetch it again");
        }
    };
    if labels.shape()[..] != [count] || labels.dtype() != DType::U8 {
        let what = format!("holds {} {}, expected [{count}] u8 labels", labels.shape(), labels.dtype());
        return bad(&labels_path, what, "images and labels must come from the same part");
    }
    if let Some(at) = labels.as_slice::<u8>()?.iter().position(|&label| usize::from(label) >= class_names.len()) {
        let what = format!("label {} of sample {at} is out of range", labels.as_slice::<u8>()?[at]);
        return bad(&labels_path, what, "labels run from 0 to 9; fetch it again");
    }
    ImageDataset::new(images.reshape([count, 1, 28, 28])?, labels.to_dtype(DType::I64), class_names)
}

/// The paths of the files, all in one folder: `dir/name` if any is there, else `dir`.
fn find(dir: &Path, name: &'static str, files: [&str; 2]) -> Result<[PathBuf; 2]> {
    let inner = dir.join(name);
    let there = |folder: &Path, file: &str| {
        [format!("{file}.gz"), file.to_string()].into_iter().map(|file| folder.join(file)).find(|path| path.is_file())
    };
    let mut missing = None;
    for folder in [inner.as_path(), dir] {
        match files.map(|file| there(folder, file)) {
            [Some(images), Some(labels)] => return Ok([images, labels]),
            [None, None] => {}
            [images, _] => missing = missing.or(Some(files[usize::from(images.is_some())])),
        }
    }
    let fetch = match name {
        "mnist" => "cargo xtask fetch-mnist".to_string(),
        other => format!("cargo xtask fetch-mnist --dataset {other}"),
    };
    let (inner, dir) = (inner.display(), dir.display());
    let what = format!("{}(.gz) is neither in {inner} nor in {dir}", missing.unwrap_or(files[0]));
    Err(Error::new(name, what, format!("get it with `{fetch} --out {dir}`, or put it there by hand")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idx::tests::{encode, gzip};
    use crate::{Dataset, Normalizer};
    use maplet_tensor::Tensor;
    use std::fs;

    const IMAGES: &str = "t10k-images-idx3-ubyte";
    const LABELS: &str = "t10k-labels-idx1-ubyte";

    /// The files of three test images, all of whose pixels are 0, 51 and 102, with these labels.
    fn fixture(labels: &[u8]) -> [Vec<u8>; 2] {
        let pixels: Vec<u8> = [0, 51, 102].into_iter().flat_map(|pixel| [pixel; 28 * 28]).collect();
        [encode(8, &[3, 28, 28], &pixels), encode(8, &[labels.len() as u32], labels)]
    }

    #[test]
    fn finds_packed_and_plain_files_in_either_folder() {
        let [images, labels] = fixture(&[7, 2, 1]);
        for inner in ["mnist", ""] {
            for pack in [false, true] {
                let root = tempfile::tempdir().unwrap();
                let folder = root.path().join(inner);
                fs::create_dir_all(&folder).unwrap();
                let (name, bytes) =
                    if pack { (format!("{IMAGES}.gz"), gzip(&images)) } else { (IMAGES.into(), images.clone()) };
                fs::write(folder.join(name), bytes).unwrap();
                fs::write(folder.join(LABELS), &labels).unwrap();
                let test = Mnist::open(root.path(), Split::Test).unwrap();
                assert_eq!((test.len(), test.labels()), (3, &Tensor::from([7i64, 2, 1])));
                let batch = test.batch(&[1]).unwrap();
                assert_eq!(batch.inputs, Tensor::full([1, 1, 28, 28], 51.0f32 / 255.0));
            }
        }
    }

    #[test]
    fn its_own_folder_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for (folder, labels) in [("", [0, 0, 0]), ("fashion-mnist", [9, 9, 9])] {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            for (name, bytes) in [IMAGES, LABELS].into_iter().zip(fixture(&labels)) {
                fs::write(folder.join(name), bytes).unwrap();
            }
        }
        let fashion = FashionMnist::open(root.path(), Split::Test).unwrap();
        assert_eq!((fashion.labels(), fashion.class_names()[9]), (&Tensor::from([9i64; 3]), "Ankle boot"));
        assert_eq!(Mnist::open(root.path(), Split::Test).unwrap().labels(), &Tensor::from([0i64; 3]));
    }

    #[test]
    fn missing_files_are_named_with_the_way_to_get_them() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().display();
        let text = |split| Mnist::open(root.path(), split).unwrap_err().to_string();
        let nothing = format!(
            "mnist: train-images-idx3-ubyte(.gz) is neither in {dir}/mnist nor in {dir}; \
             help: get it with `cargo xtask fetch-mnist --out {dir}`, or put it there by hand"
        );
        assert_eq!(text(Split::Train), nothing);
        fs::write(root.path().join(IMAGES), &fixture(&[0; 3])[0]).unwrap();
        assert!(text(Split::Test).starts_with(&format!("mnist: {LABELS}(.gz) is neither in {dir}/mnist")));
        let fashion = FashionMnist::open(root.path(), Split::Train).unwrap_err().to_string();
        assert!(fashion.contains(&format!("`cargo xtask fetch-mnist --dataset fashion-mnist --out {dir}`")));
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let root = tempfile::tempdir().unwrap();
        let (images_path, labels_path) = (root.path().join(IMAGES), root.path().join(LABELS));
        let text = |images: &[u8], labels: &[u8]| {
            fs::write(&images_path, images).unwrap();
            fs::write(&labels_path, labels).unwrap();
            Mnist::open(root.path(), Split::Test).unwrap_err().to_string()
        };
        let [images, labels] = fixture(&[3, 10, 4]);
        let labels_name = labels_path.display();
        let expected = format!(
            "mnist: {labels_name}: label 10 of sample 1 is out of range; help: labels run from 0 to 9; fetch it again"
        );
        assert_eq!(text(&images, &labels), expected);
        let expected = format!(
            "mnist: {labels_name}: holds [2] u8, expected [3] u8 labels; \
             help: images and labels must come from the same part"
        );
        assert_eq!(text(&images, &fixture(&[1, 2])[1]), expected);
        let expected = format!(
            "mnist: {}: holds [3] u8, expected [n, 28, 28] u8 images; help: fetch it again",
            images_path.display()
        );
        assert_eq!(text(&labels, &labels), expected);
    }

    /// The folder with the published files, where there is one.
    fn published() -> Option<PathBuf> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
        let dir = std::env::var_os("MAPLET_DATA").map_or(beside, PathBuf::from);
        dir.join("mnist").is_dir().then_some(dir)
    }

    #[test]
    fn the_published_files_hold_what_is_published() {
        let Some(dir) = published() else { return };
        let labels = |data: &ImageDataset, n: usize| data.labels().as_slice::<i64>().unwrap()[..n].to_vec();
        let train = Mnist::open(&dir, Split::Train).unwrap();
        let test = Mnist::open(&dir, Split::Test).unwrap();
        assert_eq!((train.len(), test.len()), (60_000, 10_000));
        assert_eq!((labels(&train, 6), labels(&test, 5)), (vec![5, 0, 4, 1, 9, 2], vec![7, 2, 1, 0, 4]));
        let ones = train.labels().as_slice::<i64>().unwrap().iter().filter(|&&label| label == 1).count();
        assert_eq!(ones, 6742); // LeCun's table of the classes

        // The mean and deviation that every tutorial uses, to their four digits.
        let Normalizer { mean, std } = Normalizer::fit(&train).unwrap();
        assert!((mean[0] - 0.1307).abs() < 5e-5 && (std[0] - 0.3081).abs() < 5e-5, "{mean:?} {std:?}");
    }

    #[test]
    fn the_published_clothes_are_balanced() {
        let Some(dir) = published().filter(|dir| dir.join("fashion-mnist").is_dir()) else { return };
        let test = FashionMnist::open(&dir, Split::Test).unwrap();
        let mut counts = [0; 10];
        test.labels().as_slice::<i64>().unwrap().iter().for_each(|&label| counts[label as usize] += 1);
        assert_eq!(counts, [1000; 10]);
        let first: &[i64] = &[9, 2, 1, 1, 6]; // boot, pullover, trousers, trousers, shirt
        assert_eq!(&test.labels().as_slice::<i64>().unwrap()[..5], first);
    }
}
