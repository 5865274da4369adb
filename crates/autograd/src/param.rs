//! [`Param`], what is trained, and [`State`], what is remembered without being trained.

use crate::pass::fresh_id;
use crate::{Error, Result, Var};
use maplet_tensor::{DType, Shape, Tensor};

/// A trained tensor of a model.
///
/// It joins the pass of the data that it meets: `self.weight.on(x)` is a leaf if `x` is recorded, and a constant if
/// not. A clone is a parameter of its own, which shares the memory until one of them is written.
///
/// ```
/// use maplet_autograd::{Param, Pass, Tensor};
///
/// let weight = Param::new(Tensor::from([2.0f32]));
/// let x = Pass::train(0).input(Tensor::from([5.0f32]));
/// let loss = x.mul(&weight.on(&x))?.sum(.., false)?;
/// assert_eq!(loss.backward()?.of(&weight), Some(&Tensor::from([5.0f32])));
/// # Ok::<(), maplet_autograd::Error>(())
/// ```
#[derive(Debug)]
pub struct Param {
    value: Tensor,
    id: u64,
    trainable: bool,
}

impl Param {
    /// A trainable parameter.
    pub fn new(value: Tensor) -> Self {
        Self { value, id: fresh_id(), trainable: true }
    }

    /// The value.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The value, to be updated in place.
    pub fn value_mut(&mut self) -> &mut Tensor {
        &mut self.value
    }

    /// Replaces the value.
    ///
    /// # Errors
    /// Another shape or element type.
    pub fn set_value(&mut self, value: Tensor) -> Result<()> {
        check_same(&self.value, &value)?;
        self.value = value;
        Ok(())
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> Shape {
        self.value.shape()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.value.dtype()
    }

    /// A number that no other parameter of this process has.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn set_id(&mut self, id: u64) {
        self.id = id;
    }

    /// The same parameter once more, to ask for its gradient by.
    pub(crate) fn handle(&self) -> Self {
        Self { value: self.value.clone(), ..*self }
    }

    /// Whether gradients are collected for it.
    pub fn is_trainable(&self) -> bool {
        self.trainable
    }

    /// Freezes the parameter, or sets it free.
    pub fn set_trainable(&mut self, trainable: bool) {
        self.trainable = trainable;
    }

    /// The parameter as a value that takes part in whatever `x` takes part in.
    pub fn on(&self, x: &Var) -> Var {
        self.joined(x, self.latest(x))
    }

    /// The latest value within the pass of `x`: the one that [`on_with`](Self::on_with) gave, or the parameter's own.
    pub fn latest(&self, x: &Var) -> Tensor {
        latest(self.id, x).unwrap_or_else(|| self.value.clone())
    }

    /// As [`on`](Self::on), with another value, which travels with the pass of `x` and its [`Grads`](crate::Grads) as a
    /// [`State`] does: it replaces the parameter's own before the optimizer's step. For parameters that are brought
    /// into a set before each use, such as embeddings with a `max_norm`.
    ///
    /// # Errors
    /// Another shape or element type.
    pub fn on_with(&self, x: &Var, value: Tensor) -> Result<Var> {
        check_same(&self.value, &value)?;
        if let Some(pass) = &x.pass {
            pass.states().insert(self.id, value.clone());
        }
        Ok(self.joined(x, value))
    }

    fn joined(&self, x: &Var, value: Tensor) -> Var {
        match &x.pass {
            Some(pass) if self.trainable => pass.joined_by(self.id, value),
            Some(_) => x.constant(value),
            // Should this value meet a recorded one later, `Record::done` says that the parameter would never train.
            None => Var { loose: self.trainable, ..Var::from(value) },
        }
    }
}

/// A parameter of its own.
impl Clone for Param {
    fn clone(&self) -> Self {
        Self { trainable: self.trainable, ..Self::new(self.value.clone()) }
    }
}

/// A tensor that a model remembers without training it: running statistics.
///
/// A forward pass changes nothing. A new value travels with the pass and its [`Grads`](crate::Grads), and reaches the
/// model in [`Grads::apply_states`](crate::Grads::apply_states), which optimizers call.
#[derive(Debug)]
pub struct State {
    value: Tensor,
    id: u64,
}

impl State {
    /// A state with its first value.
    pub fn new(value: Tensor) -> Self {
        Self { value, id: fresh_id() }
    }

    /// The value between passes.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// Replaces the value.
    ///
    /// # Errors
    /// Another shape or element type.
    pub fn set_value(&mut self, value: Tensor) -> Result<()> {
        check_same(&self.value, &value)?;
        self.value = value;
        Ok(())
    }

    /// A number that no other state of this process has.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn set_id(&mut self, id: u64) {
        self.id = id;
    }

    /// The latest value within the pass of `x`.
    pub fn on(&self, x: &Var) -> Tensor {
        latest(self.id, x).unwrap_or_else(|| self.value.clone())
    }

    /// Sets the value within the pass of `x`. Outside any pass there is nothing that could carry it, and it is dropped.
    ///
    /// # Errors
    /// Another shape or element type.
    pub fn update(&self, x: &Var, value: Tensor) -> Result<()> {
        check_same(&self.value, &value)?;
        if let Some(pass) = &x.pass {
            pass.states().insert(self.id, value);
        }
        Ok(())
    }
}

/// A state of its own.
impl Clone for State {
    fn clone(&self) -> Self {
        Self::new(self.value.clone())
    }
}

/// What was given to the parameter or state within the pass of `x`.
fn latest(id: u64, x: &Var) -> Option<Tensor> {
    x.pass.as_ref().and_then(|pass| pass.states().get(&id).cloned())
}

fn check_same(old: &Tensor, new: &Tensor) -> Result<()> {
    if (old.shape(), old.dtype()) == (new.shape(), new.dtype()) {
        return Ok(());
    }
    let what = format!("{} {} cannot replace {} {}", new.dtype(), new.shape(), old.dtype(), old.shape());
    Err(Error::new("set_value", what, "shape and element type must stay the same"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pass;

    #[test]
    fn a_clone_is_another_parameter_with_the_same_memory() {
        let weight = Param::new(Tensor::from([1.0f32, 2.0]));
        let mut copy = weight.clone();
        assert_ne!(weight.id(), copy.id());
        assert!(!copy.value().is_unique());
        copy.value_mut().as_mut_slice::<f32>().unwrap()[0] = 9.0;
        assert_eq!(weight.value(), &Tensor::from([1.0f32, 2.0]));
    }

    #[test]
    fn a_value_of_another_shape_or_type_is_refused() {
        let mut weight = Param::new(Tensor::from([1.0f32, 2.0]));
        let text = weight.set_value(Tensor::from([1.0f64, 2.0])).unwrap_err().to_string();
        let want = "set_value: f64 [2] cannot replace f32 [2]; help: shape and element type must stay the same";
        assert_eq!(text, want);
        weight.set_value(Tensor::from([3.0f32, 4.0])).unwrap();
        assert_eq!(weight.value(), &Tensor::from([3.0f32, 4.0]));
    }

    #[test]
    fn a_frozen_parameter_is_a_constant_everywhere() {
        let mut weight = Param::new(Tensor::from([1.0f32]));
        weight.set_trainable(false);
        let x = Pass::train(0).input(Tensor::from([1.0f32]));
        assert!(!weight.on(&x).is_recorded() && weight.on(&x).is_training());
        let outside = weight.on(&Var::from(Tensor::from([1.0f32])));
        assert!(outside.add(&x).is_ok());
    }

    #[test]
    fn a_replaced_value_travels_with_its_pass_and_then_replaces_the_parameters_own() {
        let mut weight = Param::new(Tensor::from([4.0f32]));
        let x = Pass::train(0).input(Tensor::from([3.0f32]));
        let half = weight.on_with(&x, Tensor::from([2.0f32])).unwrap();
        let again = weight.on(&x);
        assert_eq!((again.value(), weight.value()), (&Tensor::from([2.0f32]), &Tensor::from([4.0f32])));
        let grads = half.add(&again).unwrap().mul(&x).unwrap().backward().unwrap();
        assert_eq!(grads.of(&weight), Some(&Tensor::from([6.0f32])));
        grads.apply_states(&mut weight).unwrap();
        assert_eq!(weight.value(), &Tensor::from([2.0f32]));

        let outside = Var::from(Tensor::from([3.0f32]));
        let value = weight.on_with(&outside, Tensor::from([1.0f32])).unwrap();
        assert_eq!((value.value(), weight.on(&outside).value()), (&Tensor::from([1.0f32]), &Tensor::from([2.0f32])));
        assert!(weight.on_with(&x, Tensor::from([[1.0f32]])).is_err());
    }

    #[test]
    fn a_state_travels_with_its_pass_and_not_with_others() {
        let count = State::new(Tensor::from([0.0f32]));
        let (x, other) = (Pass::train(0).input(Tensor::from([1.0f32])), Pass::train(0).input(Tensor::from([1.0f32])));
        count.update(&x, Tensor::from([5.0f32])).unwrap();
        assert_eq!(count.on(&x), Tensor::from([5.0f32]));
        assert_eq!(count.on(&other), Tensor::from([0.0f32]));
        assert_eq!(count.value(), &Tensor::from([0.0f32]));
        assert!(count.update(&x, Tensor::from([[5.0f32]])).is_err());
    }
}
