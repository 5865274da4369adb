//! Agreement with PyTorch, by a fixture that `fixtures/make_mnist_cnn.py` made (its metadata names the versions).

use maplet_autograd::{Var, params};
use maplet_models::{load_safetensors, mnist_cnn, read_safetensors, save_safetensors};
use maplet_nn_layers::{Module, Sequential};
use maplet_tensor::Tensor;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The fixture's module: the MNIST CNN with 4 channels for 32 and 16 hidden units for 128.
fn small(seed: u64) -> Sequential {
    let builder = Sequential::input([1, 28, 28]).conv2d(4, 3).relu().max_pool2d(2);
    builder.flatten().linear(16).relu().linear(10).build(seed).unwrap()
}

#[test]
fn weights_from_pytorch_give_pytorchs_logits() {
    let mut model = small(0);
    load_safetensors(&mut model, fixture("mnist_cnn.safetensors")).unwrap();
    let io: BTreeMap<String, Tensor> =
        read_safetensors(fixture("mnist_cnn_io.safetensors")).unwrap().into_iter().collect();
    let logits = model.forward(&Var::from(&io["inputs"])).unwrap();
    assert_eq!(logits.shape(), io["logits"].shape());
    let (ours, theirs) = (logits.value().as_slice::<f32>().unwrap(), io["logits"].as_slice::<f32>().unwrap());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((ours - theirs).abs() <= 1e-5, "{ours} {theirs}");
    }
    // The fixture would tell a wrong order of rows or columns: its logits are far apart.
    let spread = |x: &[f32]| x.iter().fold(f32::MIN, |a, &b| a.max(b)) - x.iter().fold(f32::MAX, |a, &b| a.min(b));
    assert!(spread(theirs) > 0.1);
}

#[test]
fn the_full_sized_model_has_pytorchs_names_and_shapes() {
    let bytes = fs::read(fixture("mnist_cnn_io.safetensors")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let theirs = &metadata.metadata().as_ref().unwrap()["full_size"];
    let theirs: BTreeMap<String, Vec<usize>> = serde_json::from_str(theirs).unwrap();
    let model = mnist_cnn(0).unwrap();
    let ours = params(&model).into_iter().map(|(name, param)| (name, param.shape().to_vec()));
    assert_eq!(ours.collect::<BTreeMap<_, _>>(), theirs);
}

#[test]
fn what_pytorch_wrote_is_what_we_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.safetensors");
    let mut model = small(0);
    load_safetensors(&mut model, fixture("mnist_cnn.safetensors")).unwrap();
    save_safetensors(&model, &path).unwrap();
    assert!(read_safetensors(&path).unwrap() == read_safetensors(fixture("mnist_cnn.safetensors")).unwrap());
}
