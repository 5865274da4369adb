//! A model so small that its training can be followed by hand.
#![allow(dead_code)]

use maplet_autograd::{Param, Var, fields};
use maplet_data::TensorDataset;
use maplet_nn_layers::{Module, Result, mse};
use maplet_optim::Sgd;
use maplet_tensor::Tensor;
use maplet_train::{Compile, FitOptions, Metrics, Progress, Trainer};

/// `y = weight · x`, beginning with `weight = 0`.
///
/// On [`twos`] with [`mse`] the loss is `(w − 2)²`, and a step of gradient descent multiplies `w − 2` by `1 − 2 lr`.
pub(crate) struct Scale {
    weight: Param,
}
fields!(Scale: weight);

impl Module for Scale {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.mul(&self.weight.on(x))?)
    }
}

impl Scale {
    pub(crate) fn new(weight: f32) -> Self {
        Self { weight: Param::new(Tensor::from([weight])) }
    }

    pub(crate) fn weight(&self) -> f32 {
        self.weight.value().item().unwrap()
    }
}

/// `n` times the input 1 with the target 2.
pub(crate) fn twos(n: usize) -> TensorDataset {
    TensorDataset::new(Tensor::full([n, 1], 1.0f32), Tensor::full([n, 1], 2.0f32)).unwrap()
}

pub(crate) fn trainer(learning_rate: f64, metrics: impl Into<Metrics>) -> Trainer<Scale> {
    Scale::new(0.0).compile(Sgd::new(learning_rate), mse, metrics)
}

/// Batches of two, in order, and nothing shown.
pub(crate) fn quiet<'a>(epochs: usize) -> FitOptions<'a> {
    FitOptions::new().epochs(epochs).batch_size(2).shuffle(false).progress(Progress::none())
}
