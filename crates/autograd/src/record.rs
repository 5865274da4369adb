//! How an op enters the graph: its value, and a rule for each input that wants a gradient.
//!
//! The ops of this crate and users' own ops are written with the same functions.

use crate::backward::sealed::Sealed as _;
use crate::few::Few;
use crate::node::{Edge, EdgeRule, JointRule, Key, Node, Only, Parent, Rules, walk};
use crate::{Error, Pass, Result, Var, Walk};
use maplet_tensor::{DType, Shape, Tensor};
use std::array::from_fn;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Begins to record the op named `op`, whose value is `y`.
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
        self.meet(x, x.loose);
        if let (Some(parent), false) = (x.parent(), x.is_quiet()) {
            self.edges.push(Edge { parent, rule: rule(&self.y) });
        }
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

/// Records an op with one rule for all its inputs, for gradients that share work.
///
/// `rule(dy, want)` returns a gradient for each input that `want` marks; it is written in `Var` operations.
///
/// # Errors
/// As [`Record::done`].
pub fn record_all<const N: usize>(
    op: &'static str,
    y: Tensor,
    xs: [&Var; N],
    rule: impl Fn(Var, [bool; N]) -> Result<[Option<Var>; N]> + Send + Sync + 'static,
) -> Result<Var> {
    let joint = move |dys: Vec<Option<Var>>, want: &[bool]| match dys.into_iter().next().flatten() {
        Some(dy) => Ok(rule(dy, from_fn(|i| want[i]))?.into()),
        None => Ok(vec![None; N]),
    };
    let [y] = array(record_joint(op, vec![y], &xs, || Arc::new(joint))?);
    Ok(y)
}

/// Records a fused op: a hand-written gradient kernel, and the composition of plain ops that it equals.
///
/// In a plain walk `kernel(dy, want)` computes the gradients that `want` marks, as tensors. In a recorded walk, where
/// gradients must be differentiable again, `twin` is replayed on the inputs and differentiated instead; so it needs
/// no second-order mathematics, and it is the composition that the test of equality needs anyway.
///
/// ```
/// use maplet_autograd::{Pass, Result, Tensor, Var, record_fused};
///
/// /// `y = x · sigmoid(x)`
/// fn silu(x: &Var) -> Result<Var> {
///     let saved = x.value().clone();
///     let kernel = move |dy: Tensor, [_]: [bool; 1]| Ok([Some(saved.silu_grad(&dy)?)]);
///     record_fused("silu", x.value().silu(), [x], kernel, |[x]| x.mul(&x.sigmoid()))
/// }
///
/// let x = Pass::record().leaf(Tensor::from([0.0f32]));
/// assert_eq!(silu(&x)?.backward()?.of(&x), Some(&Tensor::from([0.5f32])));
/// # Ok::<(), maplet_autograd::Error>(())
/// ```
///
/// # Errors
/// As [`Record::done`].
pub fn record_fused<const N: usize>(
    op: &'static str,
    y: Tensor,
    xs: [&Var; N],
    kernel: impl Fn(Tensor, [bool; N]) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static,
    twin: impl Fn([Var; N]) -> Result<Var> + Send + Sync + 'static,
) -> Result<Var> {
    let [y] = record_fused_outputs(op, [y], xs, move |[dy], want| kernel(dy, want), move |xs| Ok([twin(xs)?]))?;
    Ok(y)
}

/// As [`record_fused`], for an op with several outputs: the kernel gets zeros for those without a gradient.
///
/// # Errors
/// As [`Record::done`].
pub fn record_fused_outputs<const N: usize, const M: usize>(
    op: &'static str,
    ys: [Tensor; M],
    xs: [&Var; N],
    kernel: impl Fn([Tensor; M], [bool; N]) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static,
    twin: impl Fn([Var; N]) -> Result<[Var; M]> + Send + Sync + 'static,
) -> Result<[Var; M]> {
    let outputs = from_fn(|i| (ys[i].shape(), ys[i].dtype()));
    let ys = record_joint(op, ys.into(), &xs, move || {
        let inputs = xs.map(Var::clone);
        Arc::new(move |dys, want| match quiet(&dys) {
            true => run(&kernel, outputs, dys, want),
            false => replay(op, &twin, &inputs, dys, want),
        })
    })?;
    Ok(array(ys))
}

/// Records a fused op whose gradient is a kernel alone: it can be differentiated once, and asking for more is an error.
///
/// # Errors
/// As [`Record::done`].
pub fn record_kernel<const N: usize>(
    op: &'static str,
    y: Tensor,
    xs: [&Var; N],
    kernel: impl Fn(Tensor, [bool; N]) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static,
) -> Result<Var> {
    let kernel = move |[dy]: [Tensor; 1], want| kernel(dy, want);
    let outputs = [(y.shape(), y.dtype())];
    let ys = record_joint(op, vec![y], &xs, move || {
        Arc::new(move |dys, want| match quiet(&dys) {
            true => run(&kernel, outputs, dys, want),
            false => {
                let help = "write it with record_fused, whose twin can be differentiated, or walk with backward()";
                Err(Error::graph(op, "its gradient is a kernel that cannot be differentiated again", help))
            }
        })
    })?;
    let [y] = array(ys);
    Ok(y)
}

/// As [`record_fused`] for input, weight and an optional bias, which `kernel` and `twin` see as the third input.
pub(crate) fn record_biased(
    op: &'static str,
    y: Tensor,
    [x, weight]: [&Var; 2],
    bias: Option<&Var>,
    kernel: impl Fn(Tensor, [bool; 3]) -> Result<[Option<Tensor>; 3]> + Send + Sync + 'static,
    twin: impl Fn(&Var, &Var, Option<&Var>) -> Result<Var> + Send + Sync + 'static,
) -> Result<Var> {
    match bias {
        Some(bias) => record_fused(op, y, [x, weight, bias], kernel, move |[x, w, b]| twin(&x, &w, Some(&b))),
        None => {
            let kernel = move |dy, [x, w]: [bool; 2]| kernel(dy, [x, w, false]).map(|[dx, dw, _]| [dx, dw]);
            record_fused(op, y, [x, weight], kernel, move |[x, w]| twin(&x, &w, None))
        }
    }
}

/// The pieces `ys` of `x` along `axis`, whose gradients are joined again.
pub(crate) fn record_split(x: &Var, ys: Vec<Tensor>, axis: isize) -> Result<Vec<Var>> {
    let shapes: Vec<Shape> = ys.iter().map(Tensor::shape).collect();
    let dtype = x.dtype();
    record_joint("split", ys, &[x], || {
        Arc::new(move |mut dys, _| {
            dys.resize(shapes.len(), None);
            let Some(some) = dys.iter().flatten().next().cloned() else { return Ok(vec![None]) };
            let whole =
                |(dy, &shape): (Option<Var>, &Shape)| dy.unwrap_or_else(|| some.constant(Tensor::zeros(shape, dtype)));
            let dys: Vec<Var> = dys.into_iter().zip(&shapes).map(whole).collect();
            Ok(vec![Some(Var::concat(&dys.iter().collect::<Vec<_>>(), axis)?)])
        })
    })
}

/// Makes the outputs of one joint rule; the rule is built only if an input wants a gradient.
fn record_joint(
    op: &'static str,
    ys: Vec<Tensor>,
    xs: &[&Var],
    rule: impl FnOnce() -> Arc<JointRule>,
) -> Result<Vec<Var>> {
    let Meeting { pass, loose } = Meeting::of(op, xs)?;
    let node = pass.as_ref().and_then(|pass| {
        pass.look(op, &ys, || xs.iter().copied());
        let parents: Vec<Option<Parent>> = xs.iter().map(|x| x.parent()).collect();
        let records = parents.iter().any(Option::is_some) && pass.records(|| parents.iter().flatten());
        records.then(|| pass.node(op, None, &ys, Rules::Joint(parents, rule())))
    });
    let var = |(out, value)| Var { value, node: node.clone(), out: out as u32, pass: pass.clone(), loose };
    Ok(ys.into_iter().enumerate().map(var).collect())
}

/// The outputs of an op that is known to have as many.
fn array<const M: usize>(ys: Vec<Var>) -> [Var; M] {
    ys.try_into().unwrap_or_else(|ys: Vec<Var>| unreachable!("{} outputs, not {M}", ys.len()))
}

fn quiet(dys: &[Option<Var>]) -> bool {
    dys.iter().flatten().any(Var::is_quiet)
}

/// Calls the kernel of a fused op.
fn run<const N: usize, const M: usize>(
    kernel: &impl Fn([Tensor; M], [bool; N]) -> Result<[Option<Tensor>; N]>,
    outputs: [(Shape, DType); M],
    dys: Vec<Option<Var>>,
    want: &[bool],
) -> Result<Vec<Option<Var>>> {
    let mut dys = dys.into_iter();
    let dys = outputs.map(|(shape, dtype)| match dys.next().flatten() {
        Some(dy) => dy.value,
        None => Tensor::zeros(shape, dtype),
    });
    Ok(kernel(dys, from_fn(|i| want[i]))?.map(|dx| dx.map(Var::from)).into())
}

/// Differentiates the twin of a fused op, in such a way that the gradients are recorded.
fn replay<const N: usize, const M: usize>(
    op: &'static str,
    twin: &impl Fn([Var; N]) -> Result<[Var; M]>,
    inputs: &[Var; N],
    dys: Vec<Option<Var>>,
    want: &[bool],
) -> Result<Vec<Option<Var>>> {
    // Each input gets a name of its own: one value may be two inputs, and one input may be made from another.
    let mut names = Vec::with_capacity(N);
    for (x, &want) in inputs.iter().zip(want) {
        names.push(if want { record("input", x.value.clone()).pull(x, Ok).done()? } else { x.clone() });
    }
    let ys = twin(from_fn(|i| names[i].clone()))?;
    let pairs = ys.iter().zip(dys).filter_map(|(y, dy)| Some((y.parent()?, dy?)));
    let seeds: Vec<(Parent, Var)> = pairs.collect();
    let Some(pass) = seeds.first().and_then(|(_, dy)| dy.pass.clone()) else { return Ok(vec![None; N]) };

    let wanted = names.iter().zip(want).map(|(x, &want)| if want { x.key() } else { None });
    let wanted: Vec<Option<Key>> = wanted.collect();
    let targets: BTreeSet<Key> = wanted.iter().copied().flatten().collect();
    let only = Only::new(targets, seeds.iter().map(|(y, _)| y.node.clone()))?;
    let mut found = walk(op, seeds, &pass, Walk::WithGraph, Some(only))?;
    Ok(wanted.into_iter().map(|key| found.grads.remove(&key?).flatten()).collect())
}

/// What an op's inputs have in common.
#[derive(Default)]
pub(crate) struct Meeting {
    pub(crate) pass: Option<Pass>,
    loose: bool,
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
