//! [`Checkpoint`]: a part of a model that saves memory for computation.

use crate::freeze::{Graph, Value};
use crate::{Module, Result};
use maplet_autograd::{Item, ItemMut, Path, Var, Visit, checkpoint};

/// A module whose inner values are not kept for the backward pass but computed again in it.
///
/// Outputs, gradients and running statistics are the same bits as the module's own, and so are the names of its
/// parameters. A chain of `n` checkpointed blocks keeps the input of each, and the inner values of one at a time, for
/// one more forward pass: see [`checkpoint`](fn@maplet_autograd::checkpoint).
///
/// PyTorch: `utils.checkpoint.checkpoint`; Keras: `RematScope`.
///
/// ```
/// use maplet_autograd::{Pass, Tensor, params};
/// use maplet_nn_layers::{Checkpoint, Module, Result, Sequential};
///
/// let block = |seed| Sequential::input([8]).linear(32).gelu().linear(8).build(seed);
/// let model = Sequential::input([8]).add(Checkpoint::new(block(1)?)).add(Checkpoint::new(block(2)?)).build(3)?;
/// let x = Pass::train(0).input(Tensor::from([[1.0f32; 8]]));
/// let loss = model.forward(&x)?.square().sum(.., false)?; // keeps x, and the first block's output
/// assert_eq!(loss.backward()?.len(), 8);
/// assert_eq!(params(&model)[0].0, "0.0.weight");
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoint<M> {
    module: M,
}

impl<M: Module + Clone + 'static> Checkpoint<M> {
    /// `module`, checkpointed. Each forward pass in training clones it, which shares the memory of its parameters.
    pub fn new(module: M) -> Self {
        Self { module }
    }
}

impl<M> Checkpoint<M> {
    /// The module.
    pub fn inner(&self) -> &M {
        &self.module
    }

    /// The module, moved out.
    pub fn into_inner(self) -> M {
        self.module
    }
}

impl<M: Module + Clone + 'static> Module for Checkpoint<M> {
    fn forward(&self, x: &Var) -> Result<Var> {
        checkpoint(&self.module, [x], |module, [x]| module.forward(&x))
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        self.module.lower(graph, x)
    }
}

/// As the module itself: to files and optimizers it makes no difference.
impl<M: Visit> Visit for Checkpoint<M> {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        self.module.visit(path, show);
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        self.module.visit_mut(path, show);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchNorm2d, Conv2d, Dropout, Expect, TransformerConfig, TransformerEncoderLayer, check_module};
    use maplet_autograd::{Pass, fields, params, states};
    use maplet_tensor::{DType, Rng, Shape, Tensor, Window2d};

    #[derive(Clone)]
    struct Block {
        conv: Conv2d,
        norm: BatchNorm2d,
        dropout: Dropout,
    }
    fields!(Block: conv, norm, dropout);

    impl Module for Block {
        fn forward(&self, x: &Var) -> Result<Var> {
            let y = self.norm.forward(&self.conv.forward(x)?)?.relu();
            Ok(self.dropout.forward(&y)?.add(x)?)
        }
    }

    fn block() -> Block {
        Block {
            conv: Conv2d::new(2, 2, Window2d::new(1), &mut Rng::new(3)).unwrap(),
            norm: BatchNorm2d::new(2).unwrap(),
            dropout: Dropout::new(0.4).unwrap(),
        }
    }

    #[test]
    fn behaves_as_a_module() {
        let expect = Expect {
            input: &[3, 2, 4, 4],
            output: &[3, 2, 4, 4],
            parameters: &[
                ("conv.weight", &[2, 2, 1, 1]),
                ("conv.bias", &[2]),
                ("norm.weight", &[2]),
                ("norm.bias", &[2]),
            ],
            states: &[("norm.running_mean", &[2]), ("norm.running_var", &[2])],
            ..Expect::default()
        };
        check_module(&mut Checkpoint::new(block()), &expect).unwrap();
    }

    /// The loss, the gradients and the states of two forward passes through one module.
    fn step<M: Module>(mut model: M, shape: impl Into<Shape>) -> Vec<Tensor> {
        let x = Pass::train(5).leaf(Tensor::normal(shape, 0.0f32, 1.0, &mut Rng::new(4)));
        let y = model.forward(&model.forward(&x).unwrap()).unwrap();
        let loss = y.square().mean(.., false).unwrap();
        let grads = loss.backward().unwrap();
        let mut found = vec![loss.into_value(), grads.of(&x).unwrap().clone()];
        found.extend(params(&model).iter().map(|(_, param)| grads.of(*param).unwrap().clone()));
        grads.apply_states(&mut model).unwrap();
        found.extend(states(&model).iter().map(|(_, state)| state.value().clone()));
        found
    }

    #[test]
    fn a_step_is_the_modules_own_bit_for_bit() {
        let (plain, shape) = (block(), [3, 2, 4, 4]);
        let parted = Checkpoint::new(plain.clone());
        assert_eq!(step(Checkpoint::new(parted), shape), step(plain, shape));

        let config = TransformerConfig { dim_feedforward: 12, dropout: 0.3, ..TransformerConfig::new(8, 2) };
        let plain = TransformerEncoderLayer::new(&config, &mut Rng::new(2)).unwrap();
        assert_eq!(step(Checkpoint::new(plain.clone()), [2, 5, 8]), step(plain, [2, 5, 8]));
    }

    #[test]
    fn errors_are_the_modules_own() {
        let x = Pass::train(0).input(Tensor::zeros([1, 3, 4, 4], DType::F32));
        let text = |module: &dyn Module| module.forward(&x).unwrap_err().to_string();
        assert_eq!(text(&Checkpoint::new(block())), text(&block()));
    }
}
