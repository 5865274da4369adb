//! [`Var`]: a tensor plus, while recording, its place in a graph.

use crate::node::{Node, Parent};
use crate::{Pass, Result};
use maplet_tensor::{DType, Element, Rng, Shape, Tensor};
use std::sync::Arc;

/// A tensor that remembers how it was made, if it was made in a [`Pass`].
///
/// A `Var` made from a plain tensor records nothing: that is inference. One that entered through
/// [`Pass::input`] or [`Pass::leaf`] records every op it meets. Cloning is cheap, and threads may share it.
///
/// ```
/// use maplet_autograd::{Pass, Tensor, Var};
///
/// let plain = Var::from(Tensor::from([1.0f32, 2.0]));
/// assert!(!plain.square().is_recorded());
///
/// let x = Pass::record().leaf(Tensor::from([1.0f32, 2.0]));
/// assert!(x.square().is_recorded());
/// ```
#[derive(Clone)]
pub struct Var {
    pub(crate) value: Tensor,
    /// The op that made this value; `None` for constants, and for everything outside a pass.
    pub(crate) node: Option<Arc<Node>>,
    /// Which output of that op this is.
    pub(crate) out: u32,
    pub(crate) pass: Option<Pass>,
    /// A trainable parameter took part outside any pass: see [`Record::done`](crate::Record::done).
    pub(crate) loose: bool,
}

impl From<Tensor> for Var {
    fn from(value: Tensor) -> Self {
        Self { value, node: None, out: 0, pass: None, loose: false }
    }
}

impl From<&Tensor> for Var {
    fn from(value: &Tensor) -> Self {
        value.clone().into()
    }
}

/// The value.
impl Var {
    /// The value, without its history.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The value, moved out.
    pub fn into_value(self) -> Tensor {
        self.value
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> Shape {
        self.value.shape()
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.value.rank()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.value.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.value.dtype()
    }

    /// The size of one axis, counted from the end if negative.
    ///
    /// # Errors
    /// No such axis.
    pub fn size(&self, axis: isize) -> Result<usize> {
        Ok(self.value.size(axis)?)
    }

    /// The sizes of exactly `N` axes, to be named by a pattern: `let [n, c, h, w] = x.dims("conv2d")?;`.
    ///
    /// # Errors
    /// Another rank; the text begins with `op`.
    pub fn dims<const N: usize>(&self, op: &'static str) -> Result<[usize; N]> {
        Ok(self.value.dims(op)?)
    }

    /// The only element.
    ///
    /// # Errors
    /// More or fewer elements than one, or another element type than `T`.
    pub fn item<T: Element>(&self) -> Result<T> {
        Ok(self.value.item()?)
    }
}

/// The history.
impl Var {
    /// The same value as a constant: no gradient flows through it.
    pub fn detach(&self) -> Self {
        self.note_cut("detach");
        Self { node: None, out: 0, loose: false, ..self.clone() }
    }

    /// A constant that takes part in whatever `self` takes part in: an initial state, a mask, a table of positions.
    pub fn constant(&self, value: impl Into<Tensor>) -> Self {
        Self { pass: self.pass.clone(), ..Self::from(value.into()) }
    }

    /// The pass that this value belongs to.
    pub fn pass(&self) -> Option<&Pass> {
        self.pass.as_ref()
    }

    /// Whether a gradient can be asked of this value.
    pub fn is_recorded(&self) -> bool {
        self.node.is_some()
    }

    /// Whether layers should behave as in training: the value belongs to a pass made by [`Pass::train`].
    pub fn is_training(&self) -> bool {
        self.pass.as_ref().is_some_and(Pass::is_training)
    }

    /// The next generator of the pass's random numbers; none in evaluation mode and outside any pass.
    pub fn rng(&self) -> Option<Rng> {
        self.pass.as_ref().and_then(Pass::rng)
    }

    /// Where a rule sends this value's gradient.
    pub(crate) fn parent(&self) -> Option<Parent> {
        Some(Parent { node: self.node.clone()?, out: self.out })
    }

    /// Whether this handle travels through a plain backward walk, where nothing is recorded.
    pub(crate) fn is_quiet(&self) -> bool {
        self.pass.as_ref().is_some_and(Pass::is_quiet)
    }

    pub(crate) fn note_cut(&self, op: &'static str) {
        if let (Some(node), Some(pass)) = (&self.node, &self.pass) {
            pass.note_cut(op, node);
        }
    }

    /// This value on its way through a walk of `pass`: inside it, and without a history if the walk is quiet.
    pub(crate) fn settled(self, pass: &Pass) -> Self {
        let quiet = pass.is_quiet();
        match &self.pass {
            Some(own) if own.role.is_walk() && own.is_quiet() == quiet && !(quiet && self.node.is_some()) => self,
            _ => Self { value: self.value, node: self.node.filter(|_| !quiet), pass: Some(pass.clone()), ..self },
        }
    }

    /// The sum of two gradients; in place if this one is nobody else's and nothing is recorded.
    pub(crate) fn accumulate(mut self, other: Self) -> Result<Self> {
        if self.node.is_some() || other.node.is_some() {
            return self.add(&other);
        }
        if self.value.is_unique() || !other.value.is_unique() {
            self.value.accumulate(&other.value)?;
            return Ok(self);
        }
        other.accumulate(self)
    }
}

/// The value, and the op that made it.
impl std::fmt::Debug for Var {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let op = self.node.as_ref().map_or("constant", |node| node.op());
        write!(f, "Var({} {} from {op})", self.dtype(), self.shape())
    }
}
