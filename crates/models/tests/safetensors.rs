//! Safetensors files: round trips and errors.

use maplet_autograd::container::snapshot;
use maplet_models::{Error, load_safetensors, mlp, read_safetensors, save_safetensors, write_safetensors};
use maplet_nn_layers::{BatchNorm1d, Sequential};
use maplet_tensor::{DType, Tensor};
use proptest::prelude::*;
use std::fs;
use std::sync::LazyLock;
use tempfile::TempDir;

fn text<T>(result: Result<T, Error>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn every_type_comes_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("types.safetensors");
    let tensors = [
        ("a".to_string(), Tensor::from([f32::MIN_POSITIVE, -0.0, f32::INFINITY])),
        ("b".to_string(), Tensor::scalar(-2.5e300f64)),
        ("c".to_string(), Tensor::from([[i64::MIN, i64::MAX]])),
        ("d".to_string(), Tensor::zeros([0, 3], DType::U8)),
    ];
    write_safetensors(&tensors, &path).unwrap();
    assert!(read_safetensors(&path).unwrap() == tensors);
}

#[test]
fn a_model_with_running_statistics_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("norm.safetensors");
    let build = |seed| Sequential::input([2, 4, 4]).conv2d(3, 3).batch_norm2d().relu().build(seed).unwrap();
    let (model, mut other) = (build(1), build(2));
    save_safetensors(&model, &path).unwrap();
    let names: Vec<String> = read_safetensors(&path).unwrap().into_iter().map(|(name, _)| name).collect();
    let expected = ["0.bias", "0.weight", "1.bias", "1.running_mean", "1.running_var", "1.weight"];
    assert_eq!(names, expected);

    // PyTorch's own files have a counter that we do not keep.
    let mut tensors = snapshot(&model);
    tensors.push(("1.num_batches_tracked".into(), Tensor::scalar(7i64)));
    write_safetensors(&tensors, &path).unwrap();
    load_safetensors(&mut other, &path).unwrap();
    assert!(snapshot(&model) == snapshot(&other));
}

#[test]
fn a_counter_that_the_model_keeps_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("count.safetensors");
    let mut model = BatchNorm1d::new(2).unwrap().cumulative();
    let mut tensors = snapshot(&model);
    tensors.last_mut().unwrap().1 = Tensor::scalar(7i64);
    write_safetensors(&tensors, &path).unwrap();
    load_safetensors(&mut model, &path).unwrap();
    assert_eq!(model.num_batches_tracked.as_ref().unwrap().value(), &Tensor::scalar(7i64));
    load_safetensors(&mut BatchNorm1d::new(2).unwrap(), &path).unwrap();
}

#[test]
fn what_does_not_fit_is_listed_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let mut tensors = snapshot(&mlp(&[4, 3, 2], 1).unwrap());
    tensors.retain(|(name, _)| !name.starts_with("2."));
    tensors.push(("head.weight".into(), Tensor::zeros([10, 84], DType::F32)));
    write_safetensors(&tensors, &path).unwrap();
    let mut model = mlp(&[5, 3, 2], 1).unwrap();
    let before = snapshot(&model);
    let expected = format!(
        "{}: load: 2 parameters missing (`2.weight`, `2.bias`), 1 unexpected (`head.weight` [10, 84]), \
         1 different (`0.weight` is [3, 4] f32, the model has [3, 5] f32); \
         help: build the model that the file was saved from",
        path.display()
    );
    assert_eq!(text(load_safetensors(&mut model, &path)), expected);
    assert!(snapshot(&model) == before);
}

#[test]
fn files_that_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let load = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        text(read_safetensors(&path)).replace(&path.display().to_string(), "FILE")
    };
    let damaged = "FILE: load: not a safetensors file, or a damaged one";
    assert_eq!(load(b""), format!("{damaged}: header too small; help: copy the file again"));
    assert_eq!(load(&[0xff; 40]), format!("{damaged}: header too large; help: copy the file again"));

    save_safetensors(&mlp(&[4, 3, 2], 1).unwrap(), &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let short = load(&whole[..whole.len() - 1]);
    assert_eq!(short, format!("{damaged}: incomplete metadata, file not fully covered; help: copy the file again"));
    assert_eq!(load(&[&whole[..], b"x"].concat()), short);

    let header = br#"{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}"#;
    let half = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
    let expected = "FILE: load: 1 tensors have an element type without support (`x` BF16); help: save them as float32";
    assert_eq!(load(&half), expected);

    // Sizes that overflow, declared in 60 bytes.
    let header = br#"{"x":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}"#;
    let huge = [&(header.len() as u64).to_le_bytes()[..], header].concat();
    assert!(load(&huge).starts_with("FILE: load: not a safetensors file") || load(&huge).contains("more elements"));

    let absent = folder.path().join("absent.safetensors");
    let expected = "load: No such file or directory (os error 2); help: check that the file is there and may be read";
    assert_eq!(text(read_safetensors(&absent)), format!("{}: {expected}", absent.display()));
    let below = path.join("model.safetensors");
    let expected = "Not a directory (os error 20); \
                    help: a file that was there before is unchanged; check the folder and the free space";
    assert_eq!(text(write_safetensors(&[], &below)), format!("save: {}: {expected}", below.display()));
}

proptest! {
    #[test]
    fn damaged_files_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
        static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let path = FOLDER.path().join("whole.safetensors");
            save_safetensors(&mlp(&[2, 3, 1], 1).unwrap(), &path).unwrap();
            fs::read(path).unwrap()
        });
        let path = FOLDER.path().join("damaged.safetensors");
        let mut bytes = WHOLE.clone();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
            fs::write(&path, bytes).unwrap();
            prop_assert!(read_safetensors(&path).is_err());
        } else {
            bytes[at] = byte;
            fs::write(&path, bytes).unwrap();
            let _ = read_safetensors(&path); // the format has no checksum: a changed weight is a weight
        }
    }
}
