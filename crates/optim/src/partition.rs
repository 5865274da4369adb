//! [`Partition`]: one optimizer for some parameters, another for the rest.

use crate::wrapper::Own;
use crate::{Optimizer, OptimizerState, Result};
use maplet_autograd::{Grads, Item, ItemMut, Param, Path, Visit};

/// Gives the parameters that a predicate picks to one optimizer, and all others to another: matrices to
/// [`Muon`](crate::Muon), vectors to [`AdamW`](crate::AdamW).
///
/// The learning rate is the first optimizer's; setting it scales the second's alike.
///
/// PyTorch: –; Keras: –.
pub struct Partition<A, B> {
    picks: Box<Picks>,
    first: A,
    second: B,
}

type Picks = dyn Fn(&str, &Param) -> bool + Send + Sync;

impl<A: Optimizer, B: Optimizer> Partition<A, B> {
    /// The first optimizer for the parameters that the predicate picks by their path or shape, the second for the rest.
    pub fn new(picks: impl Fn(&str, &Param) -> bool + Send + Sync + 'static, first: A, second: B) -> Self {
        Self { picks: Box::new(picks), first, second }
    }
}

const NAME: &str = "partition";

impl<A: Optimizer, B: Optimizer> Optimizer for Partition<A, B> {
    fn step(&mut self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        self.check()?;
        self.first.step(&mut Part { model: &mut *model, picks: &|path, param| (self.picks)(path, param) }, grads)?;
        self.second.step(&mut Part { model, picks: &|path, param| !(self.picks)(path, param) }, grads)
    }

    fn check(&self) -> Result<()> {
        self.first.check()?;
        self.second.check()
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn learning_rate(&self) -> f64 {
        self.first.learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        let old = self.first.learning_rate();
        self.first.set_learning_rate(learning_rate);
        if old != 0.0 {
            self.second.set_learning_rate(self.second.learning_rate() * learning_rate / old);
        }
    }

    fn current_learning_rate(&self) -> f64 {
        self.first.current_learning_rate()
    }

    fn steps(&self) -> u64 {
        self.first.steps()
    }

    fn state(&self) -> OptimizerState {
        let second = self.second.state();
        let mut own =
            Own { numbers: second.numbers.into_iter().collect(), tensors: second.tensors.into_iter().collect() };
        own.numbers.insert("step".into(), second.step as f64);
        own.around(NAME, self.first.state())
    }

    fn load_state(&mut self, state: OptimizerState) -> Result<()> {
        let (mut own, first) = Own::unwrap(NAME, state)?;
        let step = own.count(NAME, "step")?;
        own.numbers.remove("step");
        let (numbers, tensors) = (own.numbers.into_iter().collect(), own.tensors.into_iter().collect());
        let before = self.first.state();
        self.first.load_state(first)?;
        let second = OptimizerState { optimizer: self.second.name().into(), step, numbers, tensors };
        self.second.load_state(second).inspect_err(|_| _ = self.first.load_state(before))
    }
}

/// The parameters that a predicate picks, and all states.
struct Part<'m, 'p> {
    model: &'m mut dyn Visit,
    picks: &'p dyn Fn(&str, &Param) -> bool,
}

impl Visit for Part<'_, '_> {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        self.model.visit(path, &mut |path, item| match &item {
            Item::Param(param) if !(self.picks)(&path.to_string(), param) => {}
            _ => show(path, item),
        });
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        self.model.visit_mut(path, &mut |path, item| match &item {
            ItemMut::Param(param) if !(self.picks)(&path.to_string(), param) => {}
            _ => show(path, item),
        });
    }
}
