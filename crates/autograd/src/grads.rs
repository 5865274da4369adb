//! [`Grads`]: gradients as a value.

use crate::backward::Leaf;
use crate::node::{Found, Key};
use crate::part::Role;
use crate::pass::Audit;
use crate::{Error, ItemMut, Pass, Path, Result, Var, Visit, params};
use maplet_tensor::Tensor;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// The gradients that a walk found, in the order in which their parameters were made.
///
/// ```
/// use maplet_autograd::{Param, Pass, Tensor};
///
/// let weight = Param::new(Tensor::from([3.0f32, 4.0]));
/// let x = Pass::train(0).input(Tensor::from([1.0f32]));
/// let loss = weight.on(&x).square().mul_scalar(0.5).sum(.., false)?;
/// let mut grads = loss.backward()?;
/// assert_eq!(grads.norm(), 5.0);
/// grads.clip_norm(1.0);
/// assert_eq!(grads.of(&weight), Some(&Tensor::from([0.6f32, 0.8])));
/// # Ok::<(), maplet_autograd::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Grads {
    grads: BTreeMap<Key, Var>,
    /// Those that [`Var::retain_grad`] asked for.
    retained: BTreeMap<Key, Var>,
    /// New values of the states that the forward computation updated, and of parameters that it replaced.
    states: BTreeMap<u64, Tensor>,
    audit: Option<Audit>,
}

impl Grads {
    pub(crate) fn collected(found: Found, pass: &Pass) -> Self {
        let pass_on = pass.with_role(Role::Record);
        // The handles that travelled through the walk are its own; what users do with gradients is no part of it.
        let out = |dx: Var| Var { pass: Some(pass_on.clone()), ..dx };
        Self {
            grads: found.grads.into_iter().filter_map(|(key, dx)| Some((key, out(dx?)))).collect(),
            retained: found.retained.into_iter().map(|(key, dx)| (key, out(dx))).collect(),
            states: pass.states().clone(),
            audit: pass.audit(),
        }
    }

    /// The gradient of a parameter, a leaf or a target of the walk, or of a value that
    /// [`retain_grad`](Var::retain_grad) was called on; nothing if the walk did not reach it.
    pub fn of(&self, leaf: &(impl Leaf + ?Sized)) -> Option<&Tensor> {
        self.var_of(leaf).map(Var::value)
    }

    /// The gradient as a value that can be differentiated again, after
    /// [`backward_with_graph`](Var::backward_with_graph).
    pub fn var_of(&self, leaf: &(impl Leaf + ?Sized)) -> Option<&Var> {
        let key = leaf.key()?;
        self.grads.get(&key).or_else(|| self.retained.get(&key))
    }

    /// Sets the gradient of a parameter or a recorded value: for gradients that were not found by a walk, or changed
    /// since. A value that was never recorded has none, and nothing is set.
    ///
    /// ```
    /// use maplet_autograd::{Grads, Param, Tensor};
    ///
    /// let (weight, mut grads) = (Param::new(Tensor::from([1.0f32])), Grads::default());
    /// grads.set(&weight, Tensor::from([0.5f32]));
    /// assert_eq!(grads.norm(), 0.5);
    /// ```
    pub fn set(&mut self, leaf: &impl Leaf, grad: Tensor) {
        if let Some(key) = leaf.key() {
            self.grads.insert(key, Var::from(grad));
        }
    }

    /// Every gradient.
    pub fn iter(&self) -> impl Iterator<Item = &Tensor> {
        self.grads.values().map(Var::value)
    }

    /// The number of gradients.
    pub fn len(&self) -> usize {
        self.grads.len()
    }

    /// Whether there are no gradients.
    pub fn is_empty(&self) -> bool {
        self.grads.is_empty()
    }

    /// The Euclidean norm of all gradients together.
    pub fn norm(&self) -> f64 {
        self.iter().map(Tensor::squared_norm).sum::<f64>().sqrt()
    }

    /// Scales all gradients down so that [`norm`](Self::norm) is at most `max`; returns the norm before.
    ///
    /// PyTorch: `nn.utils.clip_grad_norm_`; Keras: –.
    ///
    /// # Reference
    /// Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks", algorithm 1.
    pub fn clip_norm(&mut self, max: f64) -> f64 {
        let norm = self.norm();
        if norm > max {
            self.scale(max / norm);
        }
        norm
    }

    /// Brings every element into `[-max, max]`.
    ///
    /// PyTorch: `nn.utils.clip_grad_value_`; Keras: –.
    pub fn clip_value(&mut self, max: f64) {
        self.change(|dx| dx.clamp(-max, max));
    }

    /// Multiplies every gradient by `factor`.
    pub fn scale(&mut self, factor: f64) {
        self.change(|dx| dx.mul_scalar(factor));
    }

    fn change(&mut self, change: impl Fn(&Tensor) -> Tensor) {
        for dx in self.grads.values_mut() {
            *dx = dx.constant(change(&dx.value));
        }
    }

    /// Adds the gradients of another walk, so that several small batches make a large one.
    ///
    /// The sums are plain values, without a graph. Where both walks updated a state, the one of `other` stays.
    ///
    /// # Errors
    /// Two gradients of one leaf that differ in shape, which cannot happen while its parameter keeps its shape.
    pub fn add(&mut self, other: Self) -> Result<()> {
        for (key, dx) in other.grads {
            match self.grads.entry(key) {
                Entry::Vacant(entry) => _ = entry.insert(dx),
                Entry::Occupied(entry) => {
                    let sum = entry.into_mut();
                    sum.value.accumulate(&dx.value)?;
                    sum.node = None;
                }
            }
        }
        self.retained.extend(other.retained);
        self.states.extend(other.states);
        match (&mut self.audit, other.audit) {
            (Some(audit), Some(other)) => {
                audit.joined.extend(other.joined);
                audit.cuts.extend(other.cuts);
            }
            (audit, other) => *audit = audit.take().or(other),
        }
        Ok(())
    }

    /// Whether [`apply_states`](Self::apply_states) has something to apply.
    pub fn has_states(&self) -> bool {
        !self.states.is_empty()
    }

    /// Gives the model the states (running statistics) that the forward computation found, and the parameters what
    /// [`Param::on_with`](crate::Param::on_with) replaced. Optimizers do this, before they change the parameters.
    ///
    /// # Errors
    /// A state or parameter that has another shape now.
    pub fn apply_states<M: Visit + ?Sized>(&self, model: &mut M) -> Result<()> {
        if !self.has_states() {
            return Ok(());
        }
        let mut result = Ok(());
        model.visit_mut(&Path::root(), &mut |path, item| {
            let set = match item {
                ItemMut::State(state) => self.states.get(&state.id()).map(|value| state.set_value(value.clone())),
                ItemMut::Param(param) => self.states.get(&param.id()).map(|value| param.set_value(value.clone())),
            };
            if let (Ok(()), Some(Err(error))) = (&result, set) {
                result = Err(Error::new("apply_states", format!("{path}: {error}"), ""));
            }
        });
        result
    }

    /// The trainable parameters of `model` that have no gradient, and why.
    ///
    /// The reason is known in full only if the pass was [`audited`](Pass::audited).
    ///
    /// ```
    /// use maplet_autograd::{Param, Pass, Tensor};
    ///
    /// let model = (Param::new(Tensor::from([1.0f32])), Param::new(Tensor::from([2.0f32])));
    /// let x = Pass::train(0).audited().input(Tensor::from([1.0f32]));
    /// let y = model.0.on(&x).add(&model.1.on(&x).detach())?;
    /// let missing = y.backward()?.missing(&model);
    /// assert_eq!(missing[0].to_string(), "`1` has no gradient: `detach` cut it");
    /// # Ok::<(), maplet_autograd::Error>(())
    /// ```
    pub fn missing<M: Visit + ?Sized>(&self, model: &M) -> Vec<Missing> {
        let params = params(model).into_iter();
        let without = params.filter(|(_, param)| param.is_trainable() && self.of(*param).is_none());
        without.map(|(name, param)| Missing { name, why: self.why(param.id()) }).collect()
    }

    fn why(&self, id: u64) -> Why {
        let Some(audit) = &self.audit else { return Why::Unknown };
        match audit.cuts.iter().find(|(_, leaves)| leaves.contains(&id)) {
            Some((op, _)) => Why::Cut(op),
            None if audit.joined.contains(&id) => Why::Unreached,
            None => Why::Unused,
        }
    }
}

/// A trainable parameter without a gradient: see [`Grads::missing`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// The parameter's name.
    pub name: String,
    /// Why it has no gradient.
    pub why: Why,
}

/// Why a parameter has no gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// This op lets no gradient through, and the parameter's way to the loss led through it.
    Cut(&'static str),
    /// The parameter never met the data.
    Unused,
    /// The parameter met the data, but the loss does not depend on the result; or its value was taken out of the graph.
    Unreached,
    /// The pass was not audited.
    Unknown,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` has no gradient: ", self.name)?;
        match self.why {
            Why::Cut(op) => write!(f, "`{op}` cut it"),
            Why::Unused => f.write_str("the forward computation never used it"),
            Why::Unreached => f.write_str("the loss does not depend on what it was used for"),
            Why::Unknown => f.write_str("the loss does not depend on it"),
        }
    }
}

impl fmt::Debug for Grads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.grads.values()).finish()
    }
}
