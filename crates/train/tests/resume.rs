//! Trainings that are broken off and taken up again give the same bits as those that are not; so do all thread counts.

mod common;

use common::{quiet, trainer, twos};
use maplet_autograd::container;
use maplet_data::digits;
use maplet_nn_layers::{Sequential, cross_entropy};
use maplet_optim::{Adam, Cosine, Schedule};
use maplet_tensor::Tensor;
use maplet_train::{
    Accuracy, Average, Callback, Compile, Context, EarlyStopping, Error, F1, FitOptions, History, Progress, Result,
    StopSignal, TopK, Trainer,
};
use std::path::Path;

const EPOCHS: usize = 3;

/// Everything a step can change: weights, running statistics, random numbers, moments, a schedule.
fn compiled(seed: u64) -> Trainer<Sequential> {
    let model = Sequential::input([1, 28, 28]).avg_pool2d(4).flatten().linear(16).relu().dropout(0.3);
    let model = model.linear(10).build(seed).unwrap();
    let adam = Adam::new(1e-2).schedule(Cosine::new(14).warm_up(4));
    model.compile(adam, cross_entropy, (Accuracy::new(), TopK::new(3), F1::new(Average::Macro)))
}

fn options<'a>(path: &Path) -> FitOptions<'a> {
    let options = FitOptions::new().epochs(EPOCHS).batch_size(16).seed(7).validation_split(0.2);
    options.progress(Progress::none()).checkpoint(path)
}

/// Breaks a training off at a step: by a signal, or by an error, as a crash would.
struct BreakAt {
    epoch: usize,
    step: usize,
    signal: Option<StopSignal>,
}

impl Callback for BreakAt {
    fn on_batch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        if (context.epoch, context.step) == (self.epoch, self.step) {
            let Some(signal) = &self.signal else { return Err(Error::new("crash", "the power is out", "")) };
            signal.request();
        }
        Ok(())
    }
}

/// All bits that a training leaves behind: weights and optimizer.
fn bits(trainer: &Trainer<Sequential>) -> Vec<(String, Vec<u32>)> {
    let mut tensors = container::snapshot(trainer.model());
    tensors.extend(trainer.optimizer().state().tensors);
    let bits = |tensor: &Tensor| tensor.to_vec::<f32>().map(|x| x.iter().map(|x| x.to_bits()).collect());
    tensors.iter().filter_map(|(name, tensor)| Some((name.clone(), bits(tensor).ok()?))).collect()
}

/// The history without its times.
fn numbers(mut history: History) -> History {
    history.epochs.iter_mut().for_each(|log| (log.seconds, log.step_seconds) = (0.0, 0.0));
    history
}

#[test]
fn a_resumed_training_is_the_uninterrupted_one() {
    let data = digits(120, 1);
    let folder = tempfile::tempdir().unwrap();
    let mut whole = compiled(1);
    let history = numbers(whole.fit(&data, options(&folder.path().join("whole"))).unwrap());
    assert_eq!(history.epochs[0].steps, 6); // 96 samples

    // In the middle of an epoch, at its end, at its first step; by a signal, and by a crash.
    for (case, (epoch, step, crash)) in
        [(2, 3, false), (1, 6, false), (3, 1, false), (2, 3, true), (1, 2, true)].into_iter().enumerate()
    {
        let path = folder.path().join(case.to_string());
        let signal = StopSignal::new();
        let stop = BreakAt { epoch, step, signal: (!crash).then(|| signal.clone()) };
        let broken = compiled(1).fit(&data, options(&path).stop_signal(signal).callback(stop));
        match crash {
            true => assert_eq!(broken.unwrap_err().to_string(), "crash: the power is out"),
            false => assert_eq!(broken.unwrap().stopped, Some(format!("stopped in epoch {epoch}, after step {step}"))),
        }
        let mut resumed = compiled(99); // weights of its own, which the checkpoint replaces
        let rest = resumed.fit(&data, options(&path).resume()).unwrap();
        assert_eq!(numbers(rest), history, "case {case}");
        assert!(bits(&resumed) == bits(&whole), "case {case}");
        assert_eq!(resumed.steps(), whole.steps());

        let again = compiled(1).fit(&data, options(&path).resume()).unwrap();
        assert_eq!(numbers(again), history); // finished: nothing is left to do
    }
}

#[test]
fn without_a_file_resume_begins_anew() {
    let (data, folder) = (digits(40, 1), tempfile::tempdir().unwrap());
    let (mut plain, mut resumed) = (compiled(1), compiled(1));
    plain.fit(&data, options(&folder.path().join("a"))).unwrap();
    resumed.fit(&data, options(&folder.path().join("b")).resume()).unwrap();
    assert!(bits(&plain) == bits(&resumed));
}

#[test]
fn early_stopping_goes_on_counting() {
    // One step an epoch, and w − 2 is multiplied by −2: epoch 1 is the best, and epoch 3 the last with patience 2.
    let (data, folder) = (twos(2), tempfile::tempdir().unwrap());
    let options = |epochs| {
        let stop = EarlyStopping::lowest("val_loss").patience(2);
        quiet(epochs).callback(stop).checkpoint(folder.path().join("it"))
    };
    trainer(1.5, ()).fit(&data, options(2).validation(&data)).unwrap();
    for _ in 0..2 {
        let history = trainer(1.5, ()).fit(&data, options(9).validation(&data).resume()).unwrap();
        assert_eq!(history.get("val_loss"), [16.0, 64.0, 256.0]);
        assert_eq!(history.stopped.as_deref(), Some("early stopping: val_loss was best in epoch 1 (16.0000)"));
    }
}

#[test]
fn a_checkpoint_of_another_training_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it");
    trainer(0.25, ()).fit(&twos(4), quiet(1).checkpoint(&path)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = trainer(0.25, ()).fit(&twos(4), quiet(1).checkpoint(&path)).unwrap_err();
    let text = format!(
        "fit: the checkpoint {} is there already; help: go on from it with resume(), or remove it to begin anew",
        path.display()
    );
    assert_eq!(error.to_string(), text);

    let error = trainer(0.25, ()).fit(&twos(4), quiet(1).batch_size(4).checkpoint(&path).resume()).unwrap_err();
    let text = format!(
        "resume: {} was written on 4 samples in batches of 2 with seed 0, this training has 4 samples in batches of 4 \
         with seed 0; help: use the same data and options, or another checkpoint file",
        path.display()
    );
    assert_eq!(error.to_string(), text);

    let error = compiled(1).fit(&digits(20, 1), options(&path).batch_size(2).seed(0).resume()).unwrap_err();
    assert!(error.to_string().starts_with("resume: "), "{error}"); // 16 samples are not 4
    let error = compiled(1).fit(&digits(4, 1), quiet(1).checkpoint(&path).resume()).unwrap_err().to_string();
    assert!(error.starts_with(&path.display().to_string()) && error.contains("`weight` [1]"), "{error}");

    assert!(std::fs::read(&path).unwrap() == before); // nothing of this has touched the file
    container::Container::new("model").save(&path).unwrap();
    let error = trainer(0.25, ()).fit(&twos(4), quiet(1).checkpoint(&path).resume()).unwrap_err().to_string();
    assert!(error.contains("a `model` file, expected a `checkpoint` file"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_known_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = trainer(0.25, ());
    let path = folder.path().join("missing").join("it");
    let error = trainer.fit(&twos(4), quiet(1).checkpoint(&path)).unwrap_err().to_string();
    assert!(error.starts_with("save: ") && error.contains(&path.display().to_string()), "{error}");
    assert_eq!(trainer.steps(), 0);
}

#[test]
fn one_two_and_seven_threads_give_the_same_bits() {
    let data = digits(128, 3);
    let run = |threads| {
        let model = Sequential::input([1, 28, 28]).conv2d(16, 3).relu().max_pool2d(2).flatten().linear(32).relu();
        let model = model.linear(10).build(42).unwrap();
        let mut trainer = model.compile(Adam::new(1e-3), cross_entropy, Accuracy::new());
        let options = FitOptions::new().seed(42).threads(threads).validation_split(0.25).progress(Progress::none());
        let history = trainer.fit(&data, options).unwrap();
        (numbers(history), bits(&trainer))
    };
    let one = run(1);
    assert!(one.0.epochs[0].loss.is_finite());
    assert!(run(2) == one);
    assert!(run(7) == one);
}
