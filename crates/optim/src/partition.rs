//! [`Partition`]: one optimizer for some parameters, another for the rest.

use crate::wrapper::{Own, another};
use crate::{Optimizer, OptimizerState, Result};
use maplet_autograd::{Grads, Item, ItemMut, Param, Path, Visit};

/// Gives the parameters that a predicate picks to one optimizer, and all others to another: matrices to
/// [`Muon`](crate::Muon), vectors to [`AdamW`](crate::AdamW).
///
/// The learning rate is the first optimizer's; setting it sets the second's in the ratio that they were built with.
///
/// Both are asked before either steps, so that a step which one of them refuses changes nothing. Their clipping is
/// their own: `clip_norm` bounds the norm of the gradients that its optimizer gets. To bound the norm of all together,
/// call [`Grads::clip_norm`] before the step.
///
/// PyTorch: –; Keras: –.
pub struct Partition<A, B> {
    picks: Box<Picks>,
    first: A,
    second: B,
    /// The second rate over the first; none if the first was 0.
    ratio: Option<f64>,
}

type Picks = dyn Fn(&str, &Param) -> bool + Send + Sync;

impl<A: Optimizer, B: Optimizer> Partition<A, B> {
    /// The first optimizer for the parameters that the predicate picks by their path or shape, the second for the rest.
    pub fn new(picks: impl Fn(&str, &Param) -> bool + Send + Sync + 'static, first: A, second: B) -> Self {
        let ratio = Some(second.learning_rate() / first.learning_rate()).filter(|ratio| ratio.is_finite());
        Self { picks: Box::new(picks), first, second, ratio }
    }
}

const NAME: &str = "partition";

impl<A: Optimizer, B: Optimizer> Optimizer for Partition<A, B> {
    fn step(&mut self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        self.check_step(model, grads)?;
        grads.apply_states(model)?; // the last that can be refused
        self.first.step(&mut Part { model: &mut *model, picks: &*self.picks, picked: true }, grads)?;
        self.second.step(&mut Part { model, picks: &*self.picks, picked: false }, grads)
    }

    fn check_step(&self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        self.first.check_step(&mut Part { model: &mut *model, picks: &*self.picks, picked: true }, grads)?;
        self.second.check_step(&mut Part { model, picks: &*self.picks, picked: false }, grads)
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
        self.first.set_learning_rate(learning_rate);
        if let Some(ratio) = self.ratio {
            self.second.set_learning_rate(ratio * learning_rate);
        }
    }

    fn current_learning_rate(&self) -> f64 {
        self.first.current_learning_rate()
    }

    fn steps(&self) -> u64 {
        self.first.steps()
    }

    fn state(&self) -> OptimizerState {
        let (first, second) = (self.first.state(), self.second.state());
        let optimizer = format!("{NAME}({}, {})", first.optimizer, second.optimizer);
        let mut own =
            Own { numbers: second.numbers.into_iter().collect(), tensors: second.tensors.into_iter().collect() };
        own.numbers.insert("step".into(), second.step as f64);
        own.numbers.extend(self.ratio.map(|ratio| ("ratio".into(), ratio)));
        OptimizerState { optimizer, ..own.around(NAME, first) }
    }

    fn load_state(&mut self, state: OptimizerState) -> Result<()> {
        let Some((first, second)) = kinds(&state.optimizer) else { return Err(another(NAME, &state.optimizer)) };
        let (first, second) = (format!("{NAME}({first})"), second.to_string());
        let (mut own, first) = Own::unwrap(NAME, OptimizerState { optimizer: first, ..state })?;
        let step = own.count(NAME, "step")?;
        own.numbers.remove("step");
        let ratio = own.numbers.remove("ratio");
        let (numbers, tensors) = (own.numbers.into_iter().collect(), own.tensors.into_iter().collect());
        let before = self.first.state();
        self.first.load_state(first)?;
        let second = OptimizerState { optimizer: second, step, numbers, tensors };
        self.second.load_state(second).inspect_err(|_| _ = self.first.load_state(before))?;
        self.ratio = ratio;
        Ok(())
    }
}

/// The two of `partition(muon, lookahead(adamw))`.
fn kinds(optimizer: &str) -> Option<(&str, &str)> {
    let both = optimizer.strip_prefix(NAME)?.strip_prefix('(')?.strip_suffix(')')?;
    let mut depth = 0;
    let comma = both.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })?;
    Some((&both[..comma], both[comma..].strip_prefix(", ")?))
}

/// The parameters that a predicate picks, or the others, and all states.
struct Part<'m, 'p> {
    model: &'m mut dyn Visit,
    picks: &'p Picks,
    picked: bool,
}

impl Visit for Part<'_, '_> {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        self.model.visit(path, &mut |path, item| match &item {
            Item::Param(param) if (self.picks)(&path.to_string(), param) != self.picked => {}
            _ => show(path, item),
        });
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        self.model.visit_mut(path, &mut |path, item| match &item {
            ItemMut::Param(param) if (self.picks)(&path.to_string(), param) != self.picked => {}
            _ => show(path, item),
        });
    }
}
