//! What `fit`, `evaluate` and `predict` compute, against trainings that can be done by hand.

mod common;

use common::{Scale, quiet, trainer, twos};
use maplet_data::{Batch, Loader, TensorDataset};
use maplet_nn_layers::{Sequential, cross_entropy, mse};
use maplet_optim::Sgd;
use maplet_tensor::{DType, Rng, Tensor};
use maplet_train::{Accuracy, Compile, ConfusionMatrix, FitOptions, Metric, Progress};

#[test]
fn a_history_is_that_of_gradient_descent() {
    // w − 2 is halved by each step: −2, −1, −1/2, −1/4, −1/8. Two steps an epoch.
    let mut trainer = trainer(0.25, ());
    let validation = twos(3);
    let history = trainer.fit(&twos(4), quiet(2).validation(&validation)).unwrap();
    assert_eq!(history.get("loss"), [(4.0 + 1.0) / 2.0, (0.25 + 0.0625) / 2.0]);
    assert_eq!(history.get("val_loss"), [0.25, 0.015625]);
    assert_eq!(trainer.model().weight(), 1.875);
    assert_eq!((trainer.steps(), &history.stopped), (4, &None));
    let log = history.last().unwrap();
    assert_eq!((log.epoch, log.steps, log.learning_rate), (2, 2, 0.25));
    assert!(log.seconds >= 2.0 * log.step_seconds && log.step_seconds > 0.0);
}

#[test]
fn a_loss_is_the_mean_over_samples_not_batches() {
    // Targets 0, 0 and 3 with outputs of 0: batch losses 0 and 9, but a mean of 3 over the samples.
    let data = TensorDataset::new(Tensor::full([3, 1], 1.0f32), Tensor::from([[0.0f32], [0.0], [3.0]])).unwrap();
    let mut trainer = trainer(0.0, ()).evaluation_batch_size(2);
    assert_eq!(trainer.fit(&data, quiet(1)).unwrap().get("loss"), [3.0]);
    assert_eq!(trainer.evaluate(&data).unwrap().loss, 3.0);
}

#[test]
fn a_loader_and_open_steps_do_the_same() {
    let (mut by_fit, mut by_loader, mut by_step) = (trainer(0.25, ()), trainer(0.25, ()), trainer(0.25, ()));
    by_fit.fit(&twos(4), quiet(2)).unwrap();
    let loader = Loader::new(twos(4), 2).unwrap().prefetch(1);
    by_loader.fit_loader(&loader, quiet(2)).unwrap();
    let batch = Batch { inputs: Tensor::full([2, 1], 1.0f32), targets: Tensor::full([2, 1], 2.0f32) };
    let losses: Vec<f64> = (0..4).map(|_| by_step.step(&batch).unwrap().loss).collect();
    assert_eq!(losses, [4.0, 1.0, 0.25, 0.0625]);
    assert_eq!([by_fit, by_loader, by_step].map(|trainer| trainer.into_model().weight()), [1.875; 3]);
}

#[test]
fn predictions_are_the_model_s_outputs_in_order() {
    let trainer = Scale::new(3.0).compile(Sgd::new(0.1), mse, ()).evaluation_batch_size(2);
    let outputs = trainer.predict(&Tensor::from([[1.0f32], [2.0], [-1.0]])).unwrap();
    assert_eq!(outputs, Tensor::from([[3.0f32], [6.0], [-3.0]]));
    assert_eq!(trainer.predict(&Tensor::zeros([0, 1], DType::F32)).unwrap().shape()[..], [0, 1]);
}

/// Points on both sides of a line, none closer to it than 0.1: logistic regression must separate them.
fn two_sides(n: usize, seed: u64) -> TensorDataset {
    let mut rng = Rng::new(seed);
    let (mut points, mut labels) = (Vec::new(), Vec::new());
    while labels.len() < n {
        let (x, y) = (2.0 * rng.uniform() as f32 - 1.0, 2.0 * rng.uniform() as f32 - 1.0);
        if (x - y).abs() > 0.15 {
            points.extend([x, y]);
            labels.push(i64::from(x > y));
        }
    }
    TensorDataset::new(Tensor::from_vec(points, [n, 2]).unwrap(), Tensor::from_vec(labels, [n]).unwrap()).unwrap()
}

#[test]
fn two_sides_of_a_line_are_told_apart() {
    let model = Sequential::input([2]).linear(2).build(1).unwrap();
    let mut trainer = model.compile(Sgd::new(1.0), cross_entropy, Accuracy::new());
    let options = FitOptions::new().epochs(20).seed(3).validation_split(0.25).progress(Progress::none());
    let history = trainer.fit(&two_sides(400, 1), options).unwrap();
    assert_eq!(history.epochs[0].steps, 10); // 300 samples are left, in batches of 32
    assert_eq!(
        (history.last().unwrap().get("accuracy"), history.last().unwrap().get("val_accuracy")),
        (Some(1.0), Some(1.0))
    );

    let mut matrix = ConfusionMatrix::new();
    let result = trainer.evaluate_with(&two_sides(100, 2), &mut [&mut matrix]).unwrap();
    assert!(result.get("accuracy").unwrap() > 0.98);
    assert_eq!(result.metrics, [("accuracy".to_string(), matrix.result())]);
    assert_eq!(matrix.counts().iter().sum::<u64>(), 100);
}

#[test]
fn the_seed_decides_the_order_and_nothing_else_does() {
    let run = |seed| {
        let model = Sequential::input([2]).linear(4).dropout(0.5).linear(2).build(1).unwrap();
        let mut trainer = model.compile(Sgd::new(0.5), cross_entropy, ());
        trainer.fit(&two_sides(64, 1), FitOptions::new().seed(seed).progress(Progress::none())).unwrap().get("loss")
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn every_step_drops_other_units_and_can_be_replayed() {
    let losses = |seed| {
        let model = Sequential::input([16]).dropout(0.5).linear(2).build(1).unwrap();
        let mut trainer = model.compile(Sgd::new(0.0), cross_entropy, ()).seed(seed);
        let batch = Batch { inputs: Tensor::full([8, 16], 1.0f32), targets: Tensor::zeros([8], DType::I64) };
        [(); 3].map(|()| trainer.step(&batch).unwrap().loss)
    };
    let [a, b, c] = losses(1);
    assert!(a != b && b != c && c != a); // the weights stand still: the masks differ
    assert_eq!(losses(1), [a, b, c]);
    assert_ne!(losses(2), [a, b, c]);
}

#[test]
fn options_that_make_no_sense_are_named() {
    let text =
        |data: &TensorDataset, options: FitOptions<'_>| trainer(0.1, ()).fit(data, options).unwrap_err().to_string();
    let validation = twos(2);
    assert_eq!(
        text(&twos(4), quiet(1).validation(&validation).validation_split(0.5)),
        "fit: both validation data and a validation split are given; help: give one of them"
    );
    assert_eq!(
        text(&twos(4), quiet(1).batch_size(5).drop_last()),
        "fit: a batch needs 5 samples, there are 4; help: use a smaller batch size, or keep the last batch"
    );
    assert_eq!(
        text(&twos(4), quiet(1).batch_size(0)),
        "loader: the batch size is 0; help: use at least 1; 32 is usual"
    );
    assert_eq!(
        text(&twos(4), quiet(1).resume()),
        "fit: there is no checkpoint to resume from; help: name its file with checkpoint(path)"
    );
    let loader = Loader::new(twos(4), 2).unwrap();
    assert_eq!(
        trainer(0.1, ()).fit_loader(&loader, quiet(1).validation_split(0.5)).unwrap_err().to_string(),
        "fit_loader: a validation split needs the dataset itself; \
         help: split it with train_validation_split before making the loader"
    );
    let empty =
        TensorDataset::new(Tensor::zeros([0, 1], DType::F32), Tensor::from_vec(Vec::<f32>::new(), [0]).unwrap());
    assert_eq!(trainer(0.1, ()).evaluate(&empty.unwrap()).unwrap_err().to_string(), "evaluate: the dataset is empty");
}
