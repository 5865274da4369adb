//! When callbacks are called, what they can do, and what people see.

mod common;

use common::{quiet, trainer, twos};
use maplet_autograd::params;
use maplet_nn_layers::mse;
use maplet_optim::{Accumulate, ReduceOnPlateau, Sgd, Swa};
use maplet_train::{
    AverageWeights, Callback, Compile, Context, EarlyStopping, Error, FitOptions, ModelCheckpoint, Progress,
    ReduceLrOnPlateau, Result, StopSignal, Trainer,
};
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Writes every moment down, and raises a signal or stops at one of them.
#[derive(Default)]
struct Recorder {
    moments: Vec<String>,
    signal_at: Option<(&'static str, StopSignal)>,
    stop_at: Option<&'static str>,
}

impl Recorder {
    fn at(&mut self, moment: String, context: &mut Context<'_>) -> Result<()> {
        if let Some((_, signal)) = self.signal_at.as_ref().filter(|(at, _)| *at == moment) {
            signal.request();
        }
        if self.stop_at == Some(moment.as_str()) {
            context.stop("enough");
        }
        self.moments.push(moment);
        Ok(())
    }
}

impl Callback for Recorder {
    fn on_train_begin(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.at("train begins".into(), context)
    }
    fn on_epoch_begin(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.at(format!("epoch {}/{} begins", context.epoch, context.epochs), context)
    }
    fn on_batch_begin(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.at(format!("step {}/{} begins", context.step, context.steps), context)
    }
    fn on_batch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.at(format!("step {} ends with {}", context.step, context.loss), context)
    }
    fn on_epoch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.at(format!("epoch {} ends with {}", context.epoch, context.log().unwrap().loss), context)
    }
    fn on_train_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.at("train ends".into(), context)
    }
}

#[test]
fn moments_come_in_keras_order() {
    let mut recorder = Recorder::default();
    trainer(0.25, ()).fit(&twos(4), quiet(2).callback(&mut recorder)).unwrap();
    let expected = [
        "train begins",
        "epoch 1/2 begins",
        "step 1/2 begins",
        "step 1 ends with 4",
        "step 2/2 begins",
        "step 2 ends with 2.5", // the mean of 4 and 1
        "epoch 1 ends with 2.5",
        "epoch 2/2 begins",
        "step 1/2 begins",
        "step 1 ends with 0.25",
        "step 2/2 begins",
        "step 2 ends with 0.15625",
        "epoch 2 ends with 0.15625",
        "train ends",
    ];
    assert_eq!(recorder.moments, expected);
}

#[test]
fn a_signal_stops_after_the_step() {
    let signal = StopSignal::new();
    let signal_at = Some(("step 1 ends with 0.25", signal.clone()));
    let mut recorder = Recorder { signal_at, ..Recorder::default() };
    let mut trainer = trainer(0.25, ());
    let options = quiet(9).callback(&mut recorder).stop_signal(signal.clone());
    let history = trainer.fit(&twos(4), options).unwrap();
    assert_eq!(recorder.moments.last().unwrap(), "train ends");
    assert_eq!(history.stopped.as_deref(), Some("stopped in epoch 2, after step 1"));
    assert_eq!((history.epochs.len(), trainer.steps(), trainer.model().weight()), (1, 3, 1.75));

    let history = trainer.fit(&twos(4), quiet(9).stop_signal(signal.clone())).unwrap();
    assert_eq!((history.stopped.as_deref(), trainer.steps()), (Some("stopped before epoch 1"), 3));
    signal.clear();
    let history = trainer.fit(&twos(4), quiet(1).stop_signal(signal)).unwrap();
    assert_eq!((history.stopped, trainer.steps()), (None, 5));
}

#[test]
fn a_callback_stops_wherever_it_is() {
    let steps_until = |stop_at| {
        let mut recorder = Recorder { stop_at: Some(stop_at), ..Recorder::default() };
        let mut trainer = trainer(0.25, ());
        let history = trainer.fit(&twos(4), quiet(9).callback(&mut recorder)).unwrap();
        assert_eq!(history.stopped.as_deref(), Some("enough"));
        (trainer.steps(), history.epochs.len())
    };
    assert_eq!(steps_until("train begins"), (0, 0));
    assert_eq!(steps_until("step 2 ends with 2.5"), (2, 0));
    assert_eq!(steps_until("epoch 1 ends with 2.5"), (2, 1));
}

#[test]
fn early_stopping_keeps_the_best_weights() {
    // A step multiplies w − 2 by −2, one step an epoch: −2, 4, −8, 16. The first epoch is the best.
    let (data, mut trainer) = (twos(2), trainer(1.5, ()));
    let stop = EarlyStopping::lowest("val_loss").patience(2).restore_best();
    let history = trainer.fit(&data, quiet(9).validation(&data).callback(stop)).unwrap();
    assert_eq!(history.get("val_loss"), [16.0, 64.0, 256.0]);
    assert_eq!(history.stopped.as_deref(), Some("early stopping: val_loss was best in epoch 1 (16.0000)"));
    assert_eq!(trainer.model().weight(), 6.0);
}

#[test]
fn early_stopping_wants_more_than_min_delta() {
    // The loss goes 4, 1, 0.25, 0.0625: the last gain above 0.5 is that of epoch 3.
    let epochs = |stop| trainer(0.25, ()).fit(&twos(2), quiet(9).callback(stop)).unwrap().epochs.len();
    assert_eq!(epochs(EarlyStopping::lowest("loss").min_delta(0.5).patience(1)), 4);
    assert_eq!(epochs(EarlyStopping::lowest("loss").patience(1)), 9);
    assert_eq!(epochs(EarlyStopping::highest("loss").patience(1)), 2);
    let error = trainer(0.25, ()).fit(&twos(2), quiet(9).callback(EarlyStopping::lowest("val_loss"))).unwrap_err();
    let text = "early_stopping: the log has no `val_loss`, it has loss; \
                help: name one of these; those with val_ need validation data";
    assert_eq!(error.to_string(), text);
}

#[test]
fn the_model_is_saved_when_it_is_better() {
    /// The epochs that were saved, with their weights.
    type Saved = Arc<Mutex<Vec<(usize, f32)>>>;
    let saved_with = |make: &dyn Fn(Saved) -> ModelCheckpoint<'static>, learning_rate| {
        let saved = Saved::default();
        trainer(learning_rate, ()).fit(&twos(2), quiet(3).callback(make(saved.clone()))).unwrap();
        saved.lock().unwrap().clone()
    };
    let note = |saved: Saved| {
        move |model: &dyn maplet_nn_layers::Module, log: &maplet_train::EpochLog| {
            saved.lock().unwrap().push((log.epoch, params(model)[0].1.value().item::<f32>()?));
            Ok(())
        }
    };
    let better = [(1, 1.0), (2, 1.5), (3, 1.75)]; // halves w − 2
    let worse = [(1, 6.0), (2, -6.0), (3, 18.0)]; // multiplies w − 2 by −2
    assert_eq!(saved_with(&|saved| ModelCheckpoint::lowest("loss", note(saved)), 0.25), better);
    assert_eq!(saved_with(&|saved| ModelCheckpoint::lowest("loss", note(saved)), 1.5), worse[..1]);
    assert_eq!(saved_with(&|saved| ModelCheckpoint::highest("loss", note(saved)), 1.5), worse);
    assert_eq!(saved_with(&|saved| ModelCheckpoint::every_epoch(note(saved)), 1.5), worse);

    let full = ModelCheckpoint::every_epoch(|_, _| Err("the disk is full".into()));
    let error = trainer(0.25, ()).fit(&twos(2), quiet(1).callback(full)).unwrap_err();
    assert_eq!(error.to_string(), "model_checkpoint: the disk is full");
}

/// A writer that can be read afterwards.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn elsewhere_than_on_a_terminal_there_is_one_line_an_epoch() {
    let (page, data) = (Page::default(), twos(2));
    let options = quiet(3).validation(&data).callback(EarlyStopping::highest("loss").restore_best());
    trainer(0.25, ()).fit(&data, options.progress(Progress::lines(page.clone()))).unwrap();
    let written = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    let mut lines: Vec<&str> = written.lines().collect();
    if cfg!(debug_assertions) {
        let warning = "warning: this build is not optimized, training is many times slower; help: use --release";
        assert_eq!(lines.remove(0), warning);
    }
    // The second part of an epoch's line is the time.
    let untimed = |line: &str| {
        let mut parts: Vec<&str> = line.split(" - ").collect();
        assert!(parts.remove(1).ends_with("/step"));
        parts.join(" - ")
    };
    assert_eq!(untimed(lines[0]), "Epoch 1/3 - loss: 4.0000 - val_loss: 1.0000");
    assert_eq!(untimed(lines[1]), "Epoch 2/3 - loss: 1.0000 - val_loss: 0.2500");
    let rest =
        ["early stopping: loss was best in epoch 1 (4.0000)", "early stopping: the model holds the weights of epoch 1"];
    assert_eq!(lines[2..], rest);
}

/// A display of the caller's own.
#[derive(Default)]
struct Notes(Vec<String>);

impl Callback for Notes {
    fn on_epoch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        context.note(format!("{:?}", context.metrics()));
        Ok(())
    }
    fn on_note(&mut self, text: &str) {
        self.0.push(text.into());
    }
}

/// Ends every training with an error.
struct Fails;

impl Callback for Fails {
    fn on_epoch_end(&mut self, _: &mut Context<'_>) -> Result<()> {
        Err(Error::new("fails", "on purpose", ""))
    }
}

#[test]
fn a_display_of_the_caller_gets_notes_and_an_error_comes_out() {
    let mut notes = Notes::default();
    trainer(0.25, ()).fit(&twos(2), quiet(1).progress(&mut notes)).unwrap();
    assert_eq!(notes.0.last().unwrap(), "[]");
    assert_eq!(notes.0.len(), 1 + usize::from(cfg!(debug_assertions)));
    let error = trainer(0.25, ()).fit(&twos(2), quiet(1).callback(Fails)).unwrap_err();
    assert_eq!(error.to_string(), "fails: on purpose");
}

#[test]
fn a_plateau_lowers_the_rate_and_counts_on_after_a_break() {
    // The validation data is learned at once, so its loss gets no better.
    let plateau =
        || ReduceLrOnPlateau::new("val_loss", ReduceOnPlateau::lowest().factor(0.5).patience(1).threshold(0.0));
    let rates = |trainer: &mut Trainer<common::Scale>, options: FitOptions<'_>| -> Vec<f64> {
        let history = trainer.fit(&twos(2), options.callback(plateau())).unwrap();
        history.epochs.iter().map(|log| log.learning_rate).collect()
    };
    let validation = twos(2);
    // A step multiplies `w − 2` by 1 − 2 · 0.5, and then nothing changes.
    let whole = rates(&mut trainer(0.5, ()), quiet(7).validation(&validation));
    assert_eq!(whole, [0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]);

    let folder = tempfile::tempdir().unwrap();
    let checkpoint = |epochs| quiet(epochs).validation(&validation).checkpoint(folder.path().join("run")).resume();
    rates(&mut trainer(0.5, ()), checkpoint(2));
    assert_eq!(rates(&mut trainer(0.5, ()), checkpoint(7)), whole);
}

#[test]
fn a_plateau_of_a_number_that_is_not_there_is_an_error() {
    let plateau = ReduceLrOnPlateau::new("val_loss", ReduceOnPlateau::lowest());
    let text = trainer(0.1, ()).fit(&twos(2), quiet(1).callback(plateau)).unwrap_err().to_string();
    let expected = "reduce_lr_on_plateau: the log has no `val_loss`, it has loss; \
                    help: name one of these; those with val_ need validation data";
    assert_eq!(text, expected);
    let plateau = ReduceLrOnPlateau::new("loss", ReduceOnPlateau::lowest().factor(2.0));
    let text = trainer(0.1, ()).fit(&twos(2), quiet(1).callback(plateau)).unwrap_err().to_string();
    assert_eq!(text, "reduce_on_plateau: factor is 2; help: use a number from 0 to below 1");
}

#[test]
fn averages_are_taken_after_steps_or_epochs() {
    // A step halves `w − 2`: the weights are 1, 1.5, 1.75, 1.875.
    let (mut each, mut late) = (Swa::new(), Swa::new());
    let mut trainer = trainer(0.25, ());
    let options = quiet(2).callback(AverageWeights::every_step(&mut each));
    trainer.fit(&twos(4), options.callback(AverageWeights::every_epoch(&mut late).from(2))).unwrap();
    assert_eq!((trainer.model().weight(), each.count(), late.count()), (1.875, 4, 1));
    each.apply(trainer.model_mut()).unwrap();
    assert_eq!(trainer.model().weight(), (1.0 + 1.5 + 1.75 + 1.875) / 4.0);
}

/// Two batches of two are one batch of four.
#[test]
fn gradients_are_gathered_over_batches() {
    let gathered = |batch: usize| {
        let sgd = Accumulate::new(4 / batch as u64, Sgd::new(0.125));
        let mut trainer = common::Scale::new(0.0).compile(sgd, mse, ());
        trainer.fit(&twos(8), quiet(3).batch_size(batch)).unwrap();
        trainer.model().weight()
    };
    assert_eq!((gathered(1), gathered(2)), (gathered(4), gathered(4)));
}
