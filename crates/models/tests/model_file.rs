//! Model files: what is saved is loaded, by itself, and nothing else is.

use maplet_autograd::Var;
use maplet_autograd::container::{Container, snapshot};
use maplet_data::Normalizer;
use maplet_models::{Error, ModelFile, mlp, mnist_cnn};
use maplet_nn_layers::{Module, Sequential, cast, func};
use maplet_tensor::{DType, Rng, Tensor};
use proptest::prelude::*;
use std::path::Path;

fn text<T>(result: Result<T, Error>) -> String {
    result.err().expect("an error").to_string()
}

fn forward(model: &Sequential, x: &Tensor) -> Tensor {
    model.forward(&Var::from(x)).unwrap().into_value()
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.as_slice::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
}

/// Every kind of step that has a description.
fn everything() -> Sequential {
    let stem = Sequential::input([2, 12, 12]).conv2d(4, 3).batch_norm2d().relu().max_pool2d(2).avg_pool2d(2);
    let body = stem.flatten().linear(12).layer_norm().gelu().dropout(0.5).reshape([3, 4]).flatten();
    body.linear(5).silu().leaky_relu(0.1).tanh().sigmoid().linear(3).build(3).unwrap()
}

#[test]
fn a_loaded_model_gives_the_same_logits_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.maplet");
    let mut rng = Rng::new(1);
    for (model, shape) in [(mnist_cnn(42).unwrap(), [3, 1, 28, 28]), (everything(), [3, 2, 12, 12])] {
        let x = Tensor::normal(shape, 0.0f32, 1.0, &mut rng);
        let before = forward(&model, &x);
        let file = ModelFile::new(model);
        file.save(&path).unwrap();
        let again = ModelFile::load(&path).unwrap();
        assert_eq!(bits(&forward(&again.model, &x)), bits(&before));
        assert!(snapshot(&again.model) == snapshot(&file.model));
        assert_eq!(again.model.to_string(), file.model.to_string());
    }
}

#[test]
fn normalisation_and_names_come_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.maplet");
    let normalizer = Normalizer { mean: vec![0.1307, 1e-300], std: vec![0.3081, std::f64::consts::PI] };
    let file = ModelFile::new(mlp(&[2, 3], 1).unwrap()).normalizer(normalizer.clone());
    file.class_names(["a", "b", "ç"]).unwrap().save(&path).unwrap();
    let again = ModelFile::load(&path).unwrap();
    assert_eq!(again.normalizer, Some(normalizer));
    assert_eq!(again.class_names, ["a", "b", "ç"]);
}

#[test]
fn a_model_in_f64_stays_in_f64() {
    let mut model = mlp(&[2, 3, 2], 1).unwrap();
    cast(&mut model, DType::F64).unwrap();
    let container = ModelFile::new(model).to_container().unwrap();
    let again = ModelFile::from_container(container.clone()).unwrap();
    assert!(snapshot(&again.model) == container.tensors);
    let classes = again.classify(&Tensor::from([[0.5f64, 1.0]])).unwrap();
    assert_eq!(classes.top(0, 9).len(), 2);
}

#[test]
fn classify_normalises_and_names() {
    // One linear layer that copies its two inputs; the third class gets 0.
    let mut model = mlp(&[2, 3], 1).unwrap();
    let weights =
        [("0.weight", Tensor::from([[1.0f32, 0.0], [0.0, 1.0], [0.0, 0.0]])), ("0.bias", Tensor::from([0.0f32; 3]))];
    maplet_autograd::container::restore(&mut model, &weights.map(|(name, x)| (name.to_string(), x))).unwrap();
    let file = ModelFile::new(model).normalizer(Normalizer { mean: vec![1.0, 0.0], std: vec![0.5, 1.0] });
    let file = file.class_names(["left", "right", "none"]).unwrap();

    // (1.5, ln 3) becomes (1, ln 3): probabilities e, 3 and 1, over their sum.
    let classes = file.classify(&Tensor::from([[1.5f32, 3f32.ln()], [1.0, -1.0]])).unwrap();
    let e = std::f32::consts::E;
    let top = classes.top(0, 2);
    assert_eq!((&top[0].0[..], &top[1].0[..]), ("right", "left"));
    assert!((top[0].1 - 3.0 / (e + 4.0)).abs() < 1e-6 && (top[1].1 - e / (e + 4.0)).abs() < 1e-6);
    assert_eq!(classes.labels.to_vec::<i64>().unwrap()[0], 1);

    let nameless = ModelFile::new(file.model);
    assert_eq!(nameless.classify(&Tensor::from([[9.0f32, 0.0]])).unwrap().top(0, 1)[0].0, "0");
}

#[test]
fn many_inputs_go_through_in_batches() {
    let file = ModelFile::new(mlp(&[3, 4, 2], 1).unwrap());
    let x = Tensor::normal([600, 3], 0.0f32, 1.0, &mut Rng::new(2));
    let all = file.classify(&x).unwrap();
    assert_eq!((all.probs.shape().sizes(), all.labels.shape().sizes()), (&[600, 2][..], &[600][..]));
    let one = file.classify(&x.slice(0, 599, 600).unwrap()).unwrap();
    let (all_last, one) = (all.probs.slice(0, 599, 600).unwrap(), one.probs);
    let apart = all_last.sub(&one).unwrap().abs().max(.., false).unwrap().item::<f32>().unwrap();
    assert!(apart < 1e-6, "{apart}"); // a batch of another size may add in another order
    assert_eq!(file.classify(&x.slice(0, 0, 0).unwrap()).unwrap().probs.shape().sizes(), [0, 2]);
}

#[test]
fn what_cannot_be_saved_says_so() {
    let names = text(ModelFile::new(mlp(&[2, 3], 1).unwrap()).class_names(["a", "b"]));
    assert_eq!(names, "class_names: 2 class names for an output of [3]; help: give one name for each output");

    let own = Sequential::input([2]).linear(2).add(func(|x: &Var| Ok(x.square()))).build(1).unwrap();
    let error = text(ModelFile::new(own).to_container());
    assert!(error.starts_with("save: layer 1 ("), "{error}");
    assert!(error.ends_with(") is code, not data; help: save the weights alone, with save_safetensors"), "{error}");
}

/// The error of loading this description with these tensors.
fn load(json: &str, tensors: &[(&str, Tensor)]) -> String {
    let mut container = Container::new("model");
    container.meta.insert("description.json".into(), json.as_bytes().to_vec());
    container.tensors = tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
    text(ModelFile::from_container(container))
}

fn description(file: &ModelFile) -> String {
    String::from_utf8(file.to_container().unwrap().meta["description.json"].clone()).unwrap()
}

#[test]
fn files_that_make_no_sense_are_refused() {
    let error = text(ModelFile::from_container(Container::new("checkpoint")));
    let kind = "load: a `checkpoint` file, expected a `model` file; help: load it with the function of that kind";
    assert_eq!(error, kind);
    let error = text(ModelFile::from_container(Container::new("model")));
    assert_eq!(error, "load: malformed: there is no part `description.json`; help: save the file again");
    assert!(load("{", &[]).starts_with("load: the description: EOF while parsing"));
    assert!(load(&"[".repeat(100_000), &[]).starts_with("load: the description: "));

    let json = description(&ModelFile::new(mlp(&[4, 3, 2], 1).unwrap()));
    let few = "load: the architecture has 23 parameters, the file holds 6 numbers; help: save the file again";
    assert_eq!(load(&json, &[("0.weight", Tensor::zeros([6], DType::F32))]), few);
    let wrong = load(&json, &[("weights", Tensor::zeros([23], DType::F32))]);
    let expected = "load: 4 parameters missing (`0.weight`, `0.bias`, `2.weight`, `2.bias`), \
                    1 unexpected (`weights` [23]); help: build the model that the file was saved from";
    assert_eq!(wrong, expected);
}

/// A few bytes that ask for terabytes of weights or activations.
#[test]
fn a_description_takes_no_memory_for_what_the_file_does_not_hold() {
    let json = description(&ModelFile::new(mlp(&[4, 3, 2], 1).unwrap()));
    for (from, to, expected) in [
        ("3", "60000", "load: the architecture has 420002 parameters, the file holds 0 numbers"),
        ("3", "1099511627776", "out_features 1099511627776 × in_features 4 is more weights than a model can have"),
        ("4", "1099511627776", "one sample of [1099511627776] has 1099511627776 numbers"),
        ("3", "18446744073709551615", "is more weights than a model can have"),
    ] {
        let error = load(&json.replace(from, to), &[]);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn unknown_fields_of_later_programs_are_passed_over() {
    let file = ModelFile::new(mlp(&[4, 2], 1).unwrap());
    let mut container = file.to_container().unwrap();
    let json = description(&file).replacen('{', "{\"licence\": \"MIT\",", 1);
    container.meta.insert("description.json".into(), json.into_bytes());
    assert!(ModelFile::from_container(container).is_ok());
}

#[test]
fn errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.maplet");
    let save = |container: Container| {
        container.save(&path).unwrap();
        text(ModelFile::load(&path)).replace(&path.display().to_string(), "FILE")
    };
    let part = "FILE: load: malformed: there is no part `description.json`; help: save the file again";
    assert_eq!(save(Container::new("model")), part);
    let absent = text(ModelFile::load(Path::new("absent.maplet")));
    let expected = "load: absent.maplet: No such file or directory (os error 2); \
                    help: check that the file is there and may be read";
    assert_eq!(absent, expected);
}

proptest! {
    /// Numbers in JSON come back bit for bit, not only nearly.
    #[test]
    fn any_normalisation_comes_back(mean in any::<f64>(), std in any::<f64>()) {
        prop_assume!(mean.is_finite() && std.is_finite());
        let file = ModelFile::new(mlp(&[1, 1], 1).unwrap()).normalizer(Normalizer { mean: vec![mean], std: vec![std] });
        let again = ModelFile::from_container(file.to_container().unwrap()).unwrap().normalizer.unwrap();
        prop_assert_eq!((again.mean[0].to_bits(), again.std[0].to_bits()), (mean.to_bits(), std.to_bits()));
    }

    /// A description with any byte changed is refused or loads into something whole; it never panics.
    #[test]
    fn changed_descriptions_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut container = ModelFile::new(mlp(&[4, 3, 2], 1).unwrap()).to_container().unwrap();
        let json = container.meta.get_mut("description.json").unwrap();
        let at = at.index(json.len());
        json[at] = byte;
        if let Ok(file) = ModelFile::from_container(container) {
            prop_assert!(file.classify(&Tensor::zeros([1, 4], DType::F32)).is_ok());
        }
    }
}
