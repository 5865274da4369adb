//! Asking for gradients: what users call to start a walk.

use crate::node::{Key, Only, walk};
use crate::part::Role;
use crate::{Error, Grads, Param, Result, Var};
use maplet_tensor::{DType, Shape, Tensor};
use std::collections::BTreeSet;

/// What a walk leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// Frees what the graph saved as it goes: parameters are uniquely owned again when the optimizer comes.
    Consume,
    /// Leaves the graph as it is, for another walk.
    Keep,
    /// Leaves the graph as it is and records the walk, so that the gradients can be differentiated.
    WithGraph,
}

/// What a gradient can be asked of: a [`Param`], or a recorded [`Var`].
pub trait Leaf: sealed::Sealed {}
impl Leaf for Param {}
impl Leaf for Var {}

pub(crate) mod sealed {
    use super::{DType, Key, Shape};

    pub trait Sealed {
        /// What the gradient is stored under; `None` for a value that was never recorded.
        fn key(&self) -> Option<Key>;

        fn kind(&self) -> (Shape, DType);
    }
}

impl sealed::Sealed for Param {
    fn key(&self) -> Option<Key> {
        Some(Key::Leaf(self.id()))
    }

    fn kind(&self) -> (Shape, DType) {
        (self.shape(), self.dtype())
    }
}

impl sealed::Sealed for Var {
    fn key(&self) -> Option<Key> {
        self.node.as_ref().map(|node| node.key(self.out))
    }

    fn kind(&self) -> (Shape, DType) {
        (self.shape(), self.dtype())
    }
}

impl Var {
    /// The gradients of this one number with respect to every parameter and leaf it depends on.
    ///
    /// Frees what the graph saved, even while a handle on this value lives on.
    ///
    /// # Errors
    /// More than one element; a value that was never recorded; a graph that was walked before.
    pub fn backward(&self) -> Result<Grads> {
        self.collect("backward", self.one("backward")?, Walk::Consume, None)
    }

    /// As [`backward`](Self::backward), for a value of any shape: `dy` is the gradient that arrives at it.
    ///
    /// # Errors
    /// `dy` of another shape or type; a value that was never recorded; a graph that was walked before.
    pub fn backward_from(&self, dy: impl Into<Var>) -> Result<Grads> {
        self.collect("backward_from", dy.into(), Walk::Consume, None)
    }

    /// As [`backward`](Self::backward), but records the walk, so that [`Grads::var_of`] can be differentiated again.
    ///
    /// # Errors
    /// As [`backward`](Self::backward), and an op whose gradient cannot be differentiated again.
    pub fn backward_with_graph(&self) -> Result<Grads> {
        self.collect("backward_with_graph", self.one("backward_with_graph")?, Walk::WithGraph, None)
    }

    /// The gradients with respect to `targets` alone, which may be any recorded values: parameters, leaves, or
    /// values in the middle of the computation. Only the ops between are walked.
    ///
    /// ```
    /// use maplet_autograd::{Pass, Tensor, Walk};
    ///
    /// let x = Pass::record().leaf(Tensor::from([3.0f32]));
    /// let middle = x.square();
    /// let y = middle.square().sum(.., false)?; // y = m², so dy/dm = 2m = 18
    /// let grads = y.backward_to(&[&middle], Walk::Keep)?;
    /// assert_eq!(grads.of(&middle), Some(&Tensor::from([18.0f32])));
    /// assert_eq!(grads.of(&x), None);
    /// # Ok::<(), maplet_autograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`backward`](Self::backward); a target that was never recorded.
    pub fn backward_to(&self, targets: &[&dyn Leaf], walk: Walk) -> Result<Grads> {
        self.backward_from_to(self.one("backward_to")?, targets, walk)
    }

    /// As [`backward_to`](Self::backward_to), for a value of any shape: `dy` is the gradient that arrives at it.
    ///
    /// # Errors
    /// As [`backward_to`](Self::backward_to); `dy` of another shape or type.
    pub fn backward_from_to(&self, dy: impl Into<Var>, targets: &[&dyn Leaf], walk: Walk) -> Result<Grads> {
        let unrecorded = || {
            let help = "ask for a parameter, a leaf, or a value made from one";
            Error::graph("backward_to", "a target was never recorded, so it has no gradient", help)
        };
        let targets: Result<BTreeSet<Key>> = targets.iter().map(|target| target.key().ok_or_else(unrecorded)).collect();
        self.collect("backward_to", dy.into(), walk, Some(targets?))
    }

    /// Has every walk keep the gradient of this value, so that [`Grads::of`](crate::Grads::of) knows it; parameters and
    /// leaves need no asking. [`Grads::norm`](crate::Grads::norm) and what changes all gradients leave it out.
    ///
    /// Outside a pass nothing happens. For the gradients of some values alone, see [`backward_to`](Self::backward_to).
    ///
    /// PyTorch: `Tensor.retain_grad`; Keras: –.
    ///
    /// ```
    /// use maplet_autograd::{Pass, Tensor};
    ///
    /// let x = Pass::record().leaf(Tensor::from([3.0f32]));
    /// let middle = x.square();
    /// middle.retain_grad();
    /// let grads = middle.square().sum(.., false)?.backward()?; // y = m², so dy/dm = 2m
    /// assert_eq!(grads.of(&middle), Some(&Tensor::from([18.0f32])));
    /// assert_eq!(grads.of(&x), Some(&Tensor::from([108.0f32])));
    /// # Ok::<(), maplet_autograd::Error>(())
    /// ```
    pub fn retain_grad(&self) {
        if let Some(parent) = self.parent() {
            parent.node.retain();
        }
    }

    /// The gradient of a single number by itself: 1.
    fn one(&self, op: &'static str) -> Result<Var> {
        if self.len() == 1 {
            return Ok(Tensor::ones(self.shape(), self.dtype()).into());
        }
        let what = format!("the value is {}, not a single number", self.shape());
        Err(Error::graph(op, what, "reduce it with mean(..) or sum(..), or say what arrives with backward_from(dy)"))
    }

    fn collect(&self, op: &'static str, dy: Var, mode: Walk, targets: Option<BTreeSet<Key>>) -> Result<Grads> {
        if self.pass.as_ref().is_some_and(|pass| matches!(pass.role, Role::First(_))) {
            let what = "a checkpointed part is not recorded when it is run first, so there is nothing to walk";
            return Err(Error::graph(op, what, "ask for gradients outside checkpoint(..)"));
        }
        let (Some(output), Some(pass)) = (self.parent(), &self.pass) else {
            let what = format!("this {} value was never recorded, so it has no gradient", self.shape());
            return Err(Error::graph(op, what, "bring the data in through Pass::train(seed).input(..) or .leaf(..)"));
        };
        pass.anomaly()?;
        if dy.pass.as_ref().is_some_and(|other| !pass.is(other)) || dy.loose {
            return Err(Error::graph(op, "dy belongs to another pass", "pass its value: dy.into_value()"));
        }
        if (dy.shape(), dy.dtype()) != (self.shape(), self.dtype()) {
            let what = format!("dy is {} {}, the value {} {}", dy.dtype(), dy.shape(), self.dtype(), self.shape());
            return Err(Error::graph(op, what, "a gradient has the shape and type of its value"));
        }
        let only = targets.map(|targets| Only::new(targets, vec![output.node.clone()])).transpose()?;
        let found = walk(op, vec![(output, dy)], pass, mode, only)?;
        Ok(Grads::collected(found, pass))
    }
}
