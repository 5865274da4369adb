//! Optimizers that need the loss more than once a step, in a trainer.

mod common;

use common::{Scale, quiet, twos};
use maplet_autograd::Var;
use maplet_data::{Batch, Dataset, TensorDataset};
use maplet_nn_layers::{Error, Sequential, func, mse};
use maplet_optim::{Lbfgs, LineSearch, Lookahead, Optimizer, Sam, Sgd};
use maplet_tensor::Tensor;
use maplet_train::{Compile, Metric, Result, Trainer};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Counts the samples it was shown.
struct Seen(f64);

impl Metric for Seen {
    fn name(&self) -> &str {
        "seen"
    }

    fn update(&mut self, outputs: &Tensor, _: &Tensor) -> Result<()> {
        self.0 += outputs.size(0)? as f64;
        Ok(())
    }

    fn result(&self) -> f64 {
        self.0
    }

    fn reset(&mut self) {
        self.0 = 0.0;
    }
}

/// The loss is `(w − 2)²`. From 0 the first iteration goes the length 1 down the slope; that teaches the curvature, and
/// the second one arrives.
#[test]
fn lbfgs_is_fitted_as_any_other() {
    for search in [LineSearch::Fixed, LineSearch::StrongWolfe] {
        let mut trainer = Scale::new(0.0).compile(Lbfgs::new(1.0).line_search(search), mse, Seen(0.0));
        let history = trainer.fit(&twos(4), quiet(2).batch_size(4)).unwrap();
        assert!((trainer.model().weight() - 2.0).abs() < 1e-5);
        let [first, second] = &history.epochs[..] else { panic!("two epochs") };
        assert_eq!((first.loss, first.get("seen")), (4.0, Some(4.0))); // of the first evaluation, and counted once
        assert!(second.loss < 1e-9);
        assert_eq!((trainer.steps(), trainer.optimizer().steps()), (2, 2));
    }
}

/// At 0 the slope is −4, so the worst place at the distance 0.5 is −0.5, with the slope −5.
#[test]
fn sam_steps_by_the_slope_of_the_worst_place() {
    let mut trainer = Scale::new(0.0).compile(Sam::new(Sgd::new(0.25), 0.5), mse, Seen(0.0));
    let batch = twos(2).batch(&[0, 1]).unwrap();
    assert_eq!(trainer.step(&batch).unwrap().loss, 4.0);
    assert_eq!((trainer.model().weight(), trainer.metrics_mut()[0].result()), (1.25, 2.0));
}

fn with_hook(hook: impl Fn(&Var) -> Result<(), Error> + Clone + Send + Sync + 'static) -> Sequential {
    let look = func(move |x: &Var| hook(x).map(|()| x.clone()));
    Sequential::input([8]).linear(8).dropout(0.5).add(look).build(1).unwrap()
}

fn eights() -> Batch {
    let ones = Tensor::full([4, 8], 1.0f32);
    TensorDataset::new(ones.clone(), ones).unwrap().batch(&[0, 1, 2, 3]).unwrap()
}

#[test]
fn one_step_drops_the_same_each_time_and_the_next_another() {
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let seen = dropped.clone();
    let model = with_hook(move |x| {
        seen.lock().unwrap().push(x.value().equal(&Tensor::scalar(0.0f32))?);
        Ok(())
    });
    dropped.lock().unwrap().clear(); // of the dry run
    let mut trainer = model.compile(Sam::new(Sgd::new(0.1), 0.1), mse, ());
    trainer.step(&eights()).unwrap();
    trainer.step(&eights()).unwrap();
    let dropped = dropped.lock().unwrap();
    let [first, again, second, _] = &dropped[..] else { panic!("four evaluations: {}", dropped.len()) };
    assert!(first == again && first != second);
}

#[test]
fn an_evaluation_that_fails_keeps_its_own_error_and_the_weights() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let model = with_hook(move |_| match count.fetch_add(1, Relaxed) {
        1 => Err(Error::new("hook", "no more", "")),
        _ => Ok(()),
    });
    calls.store(0, Relaxed); // the dry run does not count
    let before = maplet_autograd::container::snapshot(&model);
    let mut trainer = model.compile(Sam::new(Sgd::new(0.1), 0.1), mse, ());
    assert_eq!(trainer.step(&eights()).unwrap_err().to_string(), "layer 2 (Func): hook: no more");
    assert!(maplet_autograd::container::snapshot(trainer.model()) == before);
    assert_eq!((trainer.steps(), trainer.optimizer().steps()), (0, 0));
}

#[test]
fn a_wrapper_that_hands_on_gradients_is_told_so() {
    let text = |optimizer: Box<dyn Optimizer>| {
        let mut trainer = Scale::new(0.0).compile(optimizer, mse, ());
        trainer.fit(&twos(2), quiet(1)).unwrap_err().to_string()
    };
    let rest = "it needs the loss more than once a step, not gradients; \
                help: step it by step_closure or a trainer, and wrap it in no other optimizer";
    assert_eq!(text(Box::new(Lookahead::new(Lbfgs::new(1.0)))), format!("epoch 1, step 1: lbfgs: {rest}"));
    let sam = Sam::new(Sgd::new(0.1), 0.1);
    assert_eq!(text(Box::new(Lookahead::new(sam))), format!("epoch 1, step 1: sam: {rest}"));
}

#[test]
fn trainings_are_resumed_bit_for_bit() {
    let optimizers: [fn() -> Box<dyn Optimizer>; 2] =
        [|| Box::new(Lbfgs::new(1.0).max_iterations(2)), || Box::new(Sam::new(Sgd::new(0.01).momentum(0.9), 0.1))];
    for optimizer in optimizers {
        let compiled = || -> Trainer<Sequential> {
            let model = Sequential::input([3]).linear(4).tanh().linear(1).build(1).unwrap();
            model.compile(optimizer(), mse, ())
        };
        let inputs = Tensor::normal([8, 3], 0.0f32, 1.0, &mut maplet_tensor::Rng::new(1));
        let sums = inputs.sum(1, true).unwrap();
        let data = TensorDataset::new(inputs, sums).unwrap();
        let (mut whole, mut halves) = (compiled(), compiled());
        whole.fit(&data, quiet(4)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("halves");
        compiled().fit(&data, quiet(2).checkpoint(&path)).unwrap();
        halves.fit(&data, quiet(4).checkpoint(&path).resume()).unwrap();
        let weights = |trainer: &Trainer<Sequential>| maplet_autograd::container::snapshot(trainer.model());
        assert!(weights(&whole) == weights(&halves));
        assert!(whole.optimizer().state() == halves.optimizer().state());
    }
}
