//! Trainings that cannot go on: each says where and why, and loses nothing.

mod common;

use common::{Scale, quiet, trainer, twos};
use maplet_autograd::{Param, Var, fields, params_mut};
use maplet_data::{Dataset, TensorDataset};
use maplet_nn_layers::{Module, Result, Sequential, cross_entropy, func, mse};
use maplet_optim::{Adam, Sgd};
use maplet_tensor::{DType, Tensor};
use maplet_train::{Accuracy, Callback, Compile, Context, ErrorKind};

const NOT_FINITE: &str = "help: lower the learning rate, clip the gradients, or look for NaN in the data";

#[test]
fn nan_in_the_first_epoch_leaves_the_weights_from_before() {
    let inputs = Tensor::from([[1.0f32], [1.0], [1.0], [f32::NAN]]);
    let data = TensorDataset::new(inputs, Tensor::full([4, 1], 2.0f32)).unwrap();
    let mut trainer = trainer(0.25, ());
    let error = trainer.fit(&data, quiet(3)).unwrap_err();
    let text =
        format!("epoch 1, step 2: loss: it is NaN, the model holds the weights from before the training; {NOT_FINITE}");
    assert_eq!(error.to_string(), text);
    assert!(matches!(error.kind(), ErrorKind::NotFinite { loss, .. } if loss.is_nan()));
    assert_eq!((trainer.model().weight(), trainer.steps()), (0.0, 0));
}

/// `−log` of what the weights make, which is below 0 after the first step.
#[test]
fn a_watched_training_names_the_layer_and_the_op() {
    let model = || {
        let log = func(|x: &Var| Ok(x.log().neg()));
        let mut model = Sequential::input([1]).linear(1).no_bias().add(log).build(1).unwrap();
        params_mut(&mut model)[0].1.set_value(Tensor::from([[1.0f32]])).unwrap();
        model
    };
    // The loss (log w + 2)² rises with w at the rate 4 in w = 1: a step of 0.75 leads to w = −2.
    let mut trainer = model().compile(Sgd::new(0.75), mse, ());
    let error = trainer.fit(&twos(4), quiet(1).detect_anomaly()).unwrap_err().to_string();
    let want = "epoch 1, step 2: layer 1 (Func): log: its output f32 [2, 1] is NaN at [0, 0], 2 of 2 elements NaN or \
                infinite, from f32 [2, 1] within [-2, -2]; help: keep the inputs where the op is finite, with clamp(..) or \
                a small number added";
    assert_eq!(error, want);
    assert_eq!(trainer.steps(), 1);
    let error = model().compile(Sgd::new(0.75), mse, ()).fit(&twos(4), quiet(1)).unwrap_err().to_string();
    assert!(error.starts_with("epoch 1, step 2: loss: it is NaN"), "{error}");
}

/// Remembers the weight of the end of the first epoch.
#[derive(Default)]
struct AfterFirst(Option<Tensor>);

impl Callback for AfterFirst {
    fn on_epoch_end(&mut self, context: &mut Context<'_>) -> maplet_train::Result<()> {
        self.0.get_or_insert(maplet_autograd::params(context.model)[0].1.value().clone());
        Ok(())
    }
}

#[test]
fn a_training_that_explodes_ends_with_the_last_good_epoch() {
    // A step multiplies w − 2 by f = −10⁷. The loss 4 f⁴ of epoch 2, step 1 is finite in f32; 4 f⁶ of step 2 is not.
    let mut after_first = AfterFirst::default();
    let mut trainer = trainer((1e7 + 1.0) / 2.0, ());
    let error = trainer.fit(&twos(4), quiet(5).callback(&mut after_first)).unwrap_err();
    let text =
        format!("epoch 2, step 2: loss: it is inf, the model holds the weights of the end of epoch 1; {NOT_FINITE}");
    assert_eq!(error.to_string(), text);
    let weight = trainer.model().weight();
    assert!((weight / -2e14 - 1.0).abs() < 1e-6, "{weight}"); // −2 f²
    assert_eq!(after_first.0, Some(Tensor::from([weight])));
    assert_eq!(trainer.steps(), 2);
}

#[test]
fn an_epoch_that_ends_in_infinite_weights_is_not_good() {
    // Its loss is a plain 4; the update of 4 · 10³⁸ is more than f32 can hold.
    let mut trainer = trainer(1e38, ());
    let error = trainer.fit(&twos(2), quiet(5)).unwrap_err().to_string();
    assert!(error.starts_with("epoch 2, step 1: loss: it is "), "{error}");
    assert!(error.contains("the model holds the weights from before the training"), "{error}");
    assert_eq!(trainer.model().weight(), 0.0);
}

#[test]
fn the_optimizer_is_put_back_with_the_weights() {
    // Once the bad sample is gone, the training goes on as if it had never been there.
    let good = twos(4);
    let bad = TensorDataset::new(Tensor::from([[1.0f32], [1.0], [f32::NAN], [1.0]]), good.targets().clone()).unwrap();
    let adam = || Scale::new(0.0).compile(Adam::new(0.1), mse, ());
    let (mut broken, mut whole) = (adam(), adam());
    broken.fit(&bad, quiet(1)).unwrap_err();
    broken.fit(&good, quiet(1)).unwrap();
    whole.fit(&good, quiet(1)).unwrap();
    assert_eq!(broken.model().weight().to_bits(), whole.model().weight().to_bits());
}

#[test]
fn a_step_outside_of_fit_changes_nothing() {
    let mut trainer = trainer(0.25, ());
    let mut batch = twos(2).batch(&[0, 1]).unwrap();
    batch.inputs = Tensor::full([2, 1], f32::INFINITY);
    batch.targets = Tensor::full([2, 1], f32::INFINITY);
    let text = format!("loss: it is NaN, the model holds the weights of the step before; {NOT_FINITE}");
    assert_eq!(trainer.step(&batch).unwrap_err().to_string(), text);
    assert_eq!((trainer.model().weight(), trainer.steps()), (0.0, 0));
}

struct Pair {
    used: Param,
    other: Param,
    how: How,
}
fields!(Pair: used, other; how);

#[derive(PartialEq)]
enum How {
    Forgotten,
    Detached,
    AllDetached,
}

impl Module for Pair {
    fn forward(&self, x: &Var) -> Result<Var> {
        let y = x.mul(&self.used.on(x))?;
        Ok(match self.how {
            How::Forgotten => y,
            How::Detached => y.add(&self.other.on(x).detach())?,
            How::AllDetached => y.add(&self.other.on(x))?.detach(),
        })
    }
}

impl Pair {
    fn new(how: How) -> Self {
        let param = || Param::new(Tensor::from([1.0f32]));
        Self { used: param(), other: param(), how }
    }
}

#[test]
fn a_parameter_without_a_gradient_is_named_with_what_cut_it() {
    const HELP: &str = "help: use it on the way to the loss, or freeze it with set_trainable(false)";
    let text = |how| {
        let mut trainer = Pair::new(how).compile(Sgd::new(0.1), mse, ());
        trainer.fit(&twos(2), quiet(1)).unwrap_err().to_string()
    };
    assert_eq!(
        text(How::Forgotten),
        format!("epoch 1, step 1: audit: `other` has no gradient: the forward computation never used it; {HELP}")
    );
    assert_eq!(
        text(How::Detached),
        format!("epoch 1, step 1: audit: `other` has no gradient: `detach` cut it; {HELP}")
    );
    assert_eq!(
        text(How::AllDetached),
        format!(
            "epoch 1, step 1: audit: `used` has no gradient: the loss does not depend on it, \
             `other` has no gradient: the loss does not depend on it; {HELP}"
        )
    );
    let mut frozen = Pair::new(How::Forgotten);
    frozen.other.set_trainable(false);
    assert!(frozen.compile(Sgd::new(0.1), mse, ()).fit(&twos(2), quiet(1)).is_ok());
    let mut unaudited = Pair::new(How::Forgotten).compile(Sgd::new(0.1), mse, ()).without_audit();
    assert!(unaudited.fit(&twos(2), quiet(1)).is_ok());
}

#[test]
fn what_does_not_fit_is_named_with_its_place() {
    // The layers' and losses' own words, which their crates test, behind the epoch and the step.
    let outputs = Var::from(Tensor::zeros([2, 1], DType::F32));
    let targets = Tensor::from([1.0f32, 2.0]);
    let own = mse(&outputs, &targets).unwrap_err().to_string();
    assert!(own.starts_with("mse: "), "{own}");
    let flat = TensorDataset::new(Tensor::full([2, 1], 1.0f32), targets).unwrap();
    assert_eq!(trainer(0.1, ()).fit(&flat, quiet(1)).unwrap_err().to_string(), format!("epoch 1, step 1: {own}"));
    assert_eq!(trainer(0.1, ()).evaluate(&flat).unwrap_err().to_string(), format!("samples 0 to 1: {own}"));

    let validation = flat;
    let error = trainer(0.1, ()).fit(&twos(4), quiet(2).validation(&validation)).unwrap_err().to_string();
    assert_eq!(error, format!("epoch 1, validation: samples 0 to 1: {own}"));

    // A metric that cannot read the targets.
    let error = trainer(0.1, Accuracy::new()).fit(&twos(2), quiet(1)).unwrap_err().to_string();
    let help = "help: labels go from 0 to 1";
    assert_eq!(error, format!("epoch 1, step 1: accuracy: sample 0 has label 2, the outputs have 2 classes; {help}"));

    // A label that is out of range.
    let labels = TensorDataset::new(Tensor::full([2, 1], 1.0f32), Tensor::from([0i64, 3])).unwrap();
    let own = cross_entropy(&outputs, &Tensor::from([0i64, 3])).unwrap_err().to_string();
    let mut trainer = Scale::new(0.0).compile(Sgd::new(0.1), cross_entropy, ());
    assert_eq!(trainer.fit(&labels, quiet(1)).unwrap_err().to_string(), format!("epoch 1, step 1: {own}"));
}

/// Two samples, the second of which cannot be read.
#[derive(Clone)]
struct Torn;

impl Dataset for Torn {
    fn len(&self) -> usize {
        2
    }
    fn item(&self, index: usize) -> maplet_data::Result<(Tensor, Tensor)> {
        match index {
            0 => Ok((Tensor::from([1.0f32]), Tensor::from([2.0f32]))),
            _ => Err(maplet_data::Error::new("torn", "page 2 is missing", "find it")),
        }
    }
}

#[test]
fn a_sample_that_cannot_be_read_ends_the_training() {
    let error = trainer(0.25, ()).fit(&Torn, quiet(1).batch_size(1)).unwrap_err().to_string();
    assert_eq!(error, "epoch 1, step 2: torn: page 2 is missing; help: find it");
}
