//! How an op enters the graph: its value, and a rule for each input that wants a gradient. One rule for all inputs is
//! in `joint.rs`.
//!
//! The ops of this crate and users' own ops are written with the same functions.

use crate::few::Few;
use crate::node::{Edge, EdgeRule, Node, Parent, Rules};
use crate::{Error, Pass, Result, Var};
use maplet_tensor::Tensor;
use std::sync::Arc;

/// Begins to record the op named `op`, whose value is `y`.
///
/// PyTorch: `autograd.Function`; Keras: `custom_gradient`.
///
/// ```
/// use maplet_autograd::{Pass, Result, Tensor, Var, record};
///
/// /// `y = x³`, with `dx = 3x² dy`.
/// fn cube(x: &Var) -> Result<Var> {
///     let saved = x.clone();
///     record("cube", x.value().pow_scalar(3.0))
///         .pull(x, move |dy| dy.mul(&saved.square().mul_scalar(3.0)))
///         .done()
/// }
///
/// let x = Pass::record().leaf(Tensor::from([2.0f32]));
/// let dx = cube(&x)?.backward_with_graph()?.var_of(&x).cloned().unwrap();
/// assert_eq!(dx.item::<f32>()?, 12.0);
/// assert_eq!(dx.backward()?.of(&x), Some(&Tensor::from([12.0f32]))); // and again: 6x
/// # Ok::<(), maplet_autograd::Error>(())
/// ```
pub fn record<'x>(op: &'static str, y: Tensor) -> Record<'x> {
    Record { op, y, meeting: Ok(Meeting::default()), edges: Few::new(), inputs: [None; 4] }
}

/// An op that is being recorded: see [`record`].
#[must_use = "nothing is recorded before done()"]
pub struct Record<'x> {
    op: &'static str,
    y: Tensor,
    meeting: Result<Meeting>,
    edges: Few<Edge>,
    /// The first inputs, for a watched pass to look at: ops with more only move elements.
    inputs: [Option<&'x Var>; 4],
}

impl<'x> Record<'x> {
    /// The gradient of the input `x` is `rule(dy)`.
    ///
    /// Rules are written in `Var` operations, so that gradients can be differentiated again; they return gradients and
    /// never add them up. If `x` needs no gradient, the rule and what it would have saved are dropped at once.
    pub fn pull(mut self, x: &'x Var, rule: impl Fn(Var) -> Result<Var> + Send + Sync + 'static) -> Self {
        self.edge(x, |_| Arc::new(move |dy, _: &Arc<Node>| rule(dy)));
        self
    }

    /// As [`pull`](Self::pull), for a rule that wants the op's own output as well: `rule(dy, y)`.
    ///
    /// A rule that captured the output as a tensor would be right at first order and wrong at second.
    pub fn pull_with(mut self, x: &'x Var, rule: impl Fn(Var, &Var) -> Result<Var> + Send + Sync + 'static) -> Self {
        self.edge(x, |y| {
            let y = y.clone();
            Arc::new(move |dy: Var, node: &Arc<Node>| {
                let y = output(&y, node, &dy);
                rule(dy, &y)
            })
        });
        self
    }

    /// As [`pull_with`](Self::pull_with), with a kernel that does the same in one go: it is called in a plain walk, and
    /// `rule` in a recorded one.
    ///
    /// ```
    /// # use maplet_autograd::{Result, Var, record};
    /// fn tanh(x: &Var) -> Result<Var> {
    ///     record("tanh", x.value().tanh())
    ///         .pull_fused(x, |dy, y| y.tanh_grad(&dy), |dy, y| dy.mul(&y.square().neg().add_scalar(1.0)))
    ///         .done()
    /// }
    /// ```
    pub fn pull_fused<E: Into<Error>>(
        mut self,
        x: &'x Var,
        kernel: impl Fn(Tensor, &Tensor) -> Result<Tensor, E> + Send + Sync + 'static,
        rule: impl Fn(Var, &Var) -> Result<Var> + Send + Sync + 'static,
    ) -> Self {
        self.edge(x, |y| {
            let y = y.clone();
            Arc::new(move |dy: Var, node: &Arc<Node>| match dy.is_quiet() {
                true => Ok(kernel(dy.value, &y).map_err(Into::into)?.into()),
                false => {
                    let y = output(&y, node, &dy);
                    rule(dy, &y)
                }
            })
        });
        self
    }

    fn edge(&mut self, x: &'x Var, rule: impl FnOnce(&Tensor) -> Arc<EdgeRule>) {
        if let Some(parent) = self.parent(x) {
            self.edges.push(Edge { parent, rule: rule(&self.y) });
        }
    }

    /// Where the gradient of `x` goes, if it wants one.
    fn parent(&mut self, x: &'x Var) -> Option<Parent> {
        self.meet(x, x.loose);
        if x.is_quiet() { None } else { x.parent() }
    }

    /// The input `x` takes part but gets no gradient: an index, a mask, the argument of a comparison.
    pub fn cut(mut self, x: &'x Var) -> Self {
        self.meet(x, false);
        x.note_cut(self.op);
        self
    }

    fn meet(&mut self, x: &'x Var, loose: bool) {
        if let Some(place) = self.inputs.iter_mut().find(|place| place.is_none()) {
            *place = Some(x);
        }
        if let Ok(meeting) = &mut self.meeting
            && let Err(error) = meeting.meet(self.op, x, loose)
        {
            self.meeting = Err(error);
        }
    }

    /// The output.
    ///
    /// # Errors
    /// Inputs from two passes. Or an input that a trainable parameter helped to make *outside* any pass, together with
    /// one inside a pass: the caller surely expects that parameter to be trained, and it never would be.
    pub fn done(self) -> Result<Var> {
        let Meeting { pass, loose } = self.meeting?.settle(self.op)?;
        let ys = std::slice::from_ref(&self.y);
        let node = pass.as_ref().and_then(|pass| {
            pass.look(self.op, ys, || self.inputs.into_iter().flatten());
            let records = !self.edges.is_empty() && pass.records(|| self.edges.iter().map(|edge| &edge.parent));
            records.then(|| pass.node(self.op, None, ys, Rules::Edges(self.edges)))
        });
        Ok(Var { value: self.y, node, out: 0, pass, loose })
    }

    /// The output of an op with one input, whose pass cannot clash with another's.
    pub(crate) fn single(self) -> Var {
        self.done().unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The output of `node`, for a rule that `dy` arrives at.
fn output(y: &Tensor, node: &Arc<Node>, dy: &Var) -> Var {
    Var { node: Some(node.clone()), pass: dy.pass.clone(), ..Var::from(y) }
}

/// What an op's inputs have in common.
#[derive(Default)]
pub(crate) struct Meeting {
    pub(crate) pass: Option<Pass>,
    pub(crate) loose: bool,
}

impl Meeting {
    pub(crate) fn of(op: &'static str, xs: &[&Var]) -> Result<Self> {
        let mut meeting = Self::default();
        for x in xs {
            meeting.meet(op, x, x.loose)?;
        }
        meeting.settle(op)
    }

    fn meet(&mut self, op: &'static str, x: &Var, loose: bool) -> Result<()> {
        self.loose |= loose;
        match (&mut self.pass, &x.pass) {
            (_, None) => {}
            (pass @ None, Some(_)) => *pass = x.pass.clone(),
            (Some(pass), Some(other)) if pass.is(other) => pass.role.meet(&other.role),
            _ => {
                let help = "make all inputs of a step with one Pass, or bring a finished value in with pass.input(..)";
                return Err(Error::graph(op, "its inputs belong to two passes", help));
            }
        }
        Ok(())
    }

    fn settle(self, op: &'static str) -> Result<Self> {
        if self.loose && self.pass.is_some() {
            let what =
                "a parameter that met data outside any pass meets a recorded value: that parameter would never train";
            return Err(Error::graph(op, what, "start from x.constant(..), or detach() it"));
        }
        Ok(self)
    }
}
