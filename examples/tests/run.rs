//! Every example runs, and prints what its header promises; on few data, so that it takes seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

/// The built example, which lies beside this test's folder. `cargo test` builds examples before it runs tests; a call
/// that names only this test does not, so they are built here then.
fn example(name: &str) -> PathBuf {
    static BUILD: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if is_fresh(&path).is_none() {
        let release: &[&str] = if profile.ends_with("release") { &["--release"] } else { &[] };
        let cargo = Command::new(env!("CARGO")).args(["build", "--examples"]).args(release).status().unwrap();
        assert!(cargo.success());
    }
    path
}

/// Nothing if the program is not there or older than a source that it was made from; those are listed beside it.
fn is_fresh(program: &Path) -> Option<()> {
    let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let built = changed(program)?;
    let sources = fs::read_to_string(program.with_extension("d")).ok()?;
    let mut sources = sources.lines().next()?.split_once(": ")?.1.split_whitespace();
    sources.all(|source| changed(Path::new(source)).is_some_and(|changed| changed <= built)).then_some(())
}

fn run(name: &str, folder: &Path, args: &[&str]) -> Output {
    // An empty folder of data: nothing of this machine's takes part.
    Command::new(example(name)).args(args).current_dir(folder).env("MAPLET_DATA", folder).output().unwrap()
}

fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn number_after(text: &str, label: &str) -> f64 {
    let rest = &text[text.rfind(label).unwrap_or_else(|| panic!("no `{label}` in {text}")) + label.len()..];
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn tensor() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(run("01_tensor", folder.path(), &[]));
    assert!(text.contains("x is f32 [2, 3], counts i64 [3]"), "{text}");
    assert!(text.contains("an error: matmul: inner sizes differ: [2, 3] × [2, 3]; help: "), "{text}");
}

#[test]
fn gradient() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(run("02_gradient", folder.path(), &[]));
    assert!(text.contains("y = x² at x = 3: y = 9, dy/dx = 6, d²y/dx² = 2"), "{text}");
}

#[test]
fn regression() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(run("03_regression", folder.path(), &[]));
    assert!(number_after(&text, "R² ") > 0.9, "{text}");
}

#[test]
fn custom_op() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(run("05_custom_op", folder.path(), &[]));
    assert_eq!(text.matches("mish'(0) = 0.600").count(), 3, "{text}");
    assert!(text.contains("learned: [3.0, -1.0, 2.0]"), "{text}");
}

#[test]
fn freeze() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(run("06_freeze", folder.path(), &[]));
    assert!(text.contains("conv [1, 28, 28] → [16, 13, 13], max_pool 2×2, relu\n"), "{text}");
    assert!(number_after(&text, "of the logits ") < 1e-4 && number_after(&text, "one image: ") > 0.0, "{text}");
    assert!(text.contains("4 threads agree"), "{text}");
}

#[test]
fn mnist_loop() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(run("04_mnist_loop", folder.path(), &["--dataset", "digits", "--samples", "1500"]));
    assert!(number_after(&text, "test accuracy ") > 60.0, "{text}");
}

#[test]
fn without_a_network_the_digits_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = "http://127.0.0.1:9"; // a proxy that is not there: this test never leaves the machine
    let mut command = Command::new(example("04_mnist_loop"));
    command.args(["--samples", "100", "--data", "here"]).current_dir(folder.path());
    let output =
        command.env("HTTPS_PROXY", nobody).env("HTTP_PROXY", nobody).env("ALL_PROXY", nobody).output().unwrap();
    let text = stdout(output);
    let expected = "MNIST is not in here and cannot be fetched: generated digits take its place.\n\
                    generated digits: 100 training and 20 test images\n";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn damaged_data_are_an_error_and_not_a_reason_to_draw() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"] {
        fs::write(folder.path().join(file), "no images").unwrap();
    }
    let nobody = "http://127.0.0.1:9";
    let mut command = Command::new(example("04_mnist_loop"));
    command.args(["--data", "."]).current_dir(folder.path()).env("HTTPS_PROXY", nobody).env("HTTP_PROXY", nobody);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.starts_with("Error: idx: ./train-images-idx3-ubyte: "), "{text}");
}

#[test]
fn train_save_and_predict() {
    let folder = tempfile::tempdir().unwrap();
    let args =
        ["--dataset", "digits", "--samples", "2000", "--epochs", "3", "--threads", "2", "--save", "digits.maplet"];
    let text = stdout(run("mnist_cnn", folder.path(), &args));
    assert!(text.contains("generated digits: 2000 training and 400 test images"), "{text}");
    assert!(text.contains("692,352") || text.contains("692352"), "no table of the model: {text}");
    assert!(number_after(&text, "test accuracy ") > 80.0 && number_after(&text, "test loss ") < 1.0, "{text}");

    // A 1 as a person would draw it: a dark stroke on a large light page.
    let stroke = |x: u32, y: u32| (140..160).contains(&x) && (50..200).contains(&y);
    let page = image::GrayImage::from_fn(400, 300, |x, y| image::Luma([if stroke(x, y) { 30 } else { 250 }]));
    page.save(folder.path().join("one.png")).unwrap();
    let text = stdout(run("mnist_predict", folder.path(), &["digits.maplet", "one.png"]));
    assert!(text.starts_with("1 ") && text.lines().count() == 3, "{text}");

    let absent = run("mnist_predict", folder.path(), &["absent.maplet", "one.png"]);
    assert!(!absent.status.success());
    let expected = "Error: load: absent.maplet: No such file or directory (os error 2); \
                    help: check that the file is there and may be read\n";
    assert_eq!(String::from_utf8(absent.stderr).unwrap(), expected);
}
