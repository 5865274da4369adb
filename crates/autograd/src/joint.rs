//! How an op with one rule for all its inputs enters the graph: rules that share work, kernels with their twins, and
//! ops with several outputs.

use crate::backward::sealed::Sealed as _;
use crate::node::{JointRule, Key, Only, Parent, Rules, walk};
use crate::record::Meeting;
use crate::{Error, Result, Var, Walk, record};
use maplet_tensor::{DType, Shape, Tensor};
use std::array::from_fn;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Records an op with one rule for all its inputs, for gradients that share work.
///
/// `rule(dy, want)` returns a gradient for each input that `want` marks; it is written in `Var` operations.
///
/// # Errors
/// As [`Record::done`](crate::Record::done).
pub fn record_all<const N: usize>(
    op: &'static str,
    y: Tensor,
    xs: [&Var; N],
    rule: impl Fn(Var, [bool; N]) -> Result<[Option<Var>; N]> + Send + Sync + 'static,
) -> Result<Var> {
    let [y] = record_all_outputs(op, [y], xs, move |[dy], want| rule(dy, want))?;
    Ok(y)
}

/// As [`record_all`], for an op with several outputs: the rule gets zeros for those without a gradient.
///
/// ```
/// use maplet_autograd::{Pass, Result, Tensor, Var, record_all_outputs};
///
/// /// `(a + b, a − b)`
/// fn butterfly(a: &Var, b: &Var) -> Result<[Var; 2]> {
///     let ys = [a.value().add(b.value())?, a.value().sub(b.value())?];
///     record_all_outputs("butterfly", ys, [a, b], |[sum, difference], _| {
///         Ok([Some(sum.add(&difference)?), Some(sum.sub(&difference)?)])
///     })
/// }
///
/// let x = Pass::record().leaf(Tensor::from([3.0f32]));
/// let [sum, difference] = butterfly(&x, &x.square())?;
/// let grads = sum.mul(&difference)?.backward()?; // x² − x⁴, whose slope is 2x − 4x³
/// assert_eq!(grads.of(&x), Some(&Tensor::from([-102.0f32])));
/// # Ok::<(), maplet_autograd::Error>(())
/// ```
///
/// # Errors
/// As [`Record::done`](crate::Record::done).
pub fn record_all_outputs<const N: usize, const M: usize>(
    op: &'static str,
    ys: [Tensor; M],
    xs: [&Var; N],
    rule: impl Fn([Var; M], [bool; N]) -> Result<[Option<Var>; N]> + Send + Sync + 'static,
) -> Result<[Var; M]> {
    let outputs: Vec<_> = ys.iter().map(|y| (y.shape(), y.dtype())).collect();
    let joint = move |dys, want: &[bool]| match filled(dys, &outputs) {
        Some(dys) => Ok(rule(array(dys), from_fn(|i| want[i]))?.into()),
        None => Ok(vec![None; N]),
    };
    Ok(array(record_joint(op, ys.into(), &xs, || Arc::new(joint))?))
}

/// The gradients of all outputs, zeros where there is none; nothing if there are none at all.
fn filled(mut dys: Vec<Option<Var>>, outputs: &[(Shape, DType)]) -> Option<Vec<Var>> {
    let pass = dys.iter().flatten().next()?.pass.clone();
    dys.resize(outputs.len(), None);
    let zeros = |&(shape, dtype): &_| Var { pass: pass.clone(), ..Tensor::zeros(shape, dtype).into() };
    Some(dys.into_iter().zip(outputs).map(|(dy, output)| dy.unwrap_or_else(|| zeros(output))).collect())
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
/// As [`Record::done`](crate::Record::done).
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
/// As [`Record::done`](crate::Record::done).
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
            false => replay(op, &|xs| Ok(twin(array(xs))?.into()), &inputs, dys, want),
        })
    })?;
    Ok(array(ys))
}

/// Records a fused op whose gradient is a kernel alone: it can be differentiated once, and asking for more is an error.
///
/// # Errors
/// As [`Record::done`](crate::Record::done).
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
    let outputs: Vec<_> = ys.iter().map(|y| (y.shape(), y.dtype())).collect();
    record_joint("split", ys, &[x], || {
        Arc::new(move |dys, _| {
            let join = |dys: Vec<Var>| Var::concat(&dys.iter().collect::<Vec<_>>(), axis);
            Ok(vec![filled(dys, &outputs).map(join).transpose()?])
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
    let mut rule = Some(rule);
    joint_outputs(op, ys, xs, &mut || rule.take().map(|rule| rule()))
}

/// [`record_joint`], compiled once; `rule` gives the rule when it is first asked.
fn joint_outputs(
    op: &'static str,
    ys: Vec<Tensor>,
    xs: &[&Var],
    rule: &mut dyn FnMut() -> Option<Arc<JointRule>>,
) -> Result<Vec<Var>> {
    let Meeting { pass, loose } = Meeting::of(op, xs)?;
    let node = pass.as_ref().and_then(|pass| {
        pass.look(op, &ys, || xs.iter().copied());
        let parents: Vec<Option<Parent>> = xs.iter().map(|x| x.parent()).collect();
        let records = parents.iter().any(Option::is_some) && pass.records(|| parents.iter().flatten());
        let rule = if records { rule() } else { None };
        rule.map(|rule| pass.node(op, None, &ys, Rules::Joint(parents, rule)))
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
fn replay(
    op: &'static str,
    twin: &dyn Fn(Vec<Var>) -> Result<Vec<Var>>,
    inputs: &[Var],
    dys: Vec<Option<Var>>,
    want: &[bool],
) -> Result<Vec<Option<Var>>> {
    // Each input gets a name of its own: one value may be two inputs, and one input may be made from another.
    let mut names = Vec::with_capacity(inputs.len());
    for (x, &want) in inputs.iter().zip(want) {
        names.push(if want { record("input", x.value.clone()).pull(x, Ok).done()? } else { x.clone() });
    }
    let ys = twin(names.clone())?;
    let pairs = ys.iter().zip(dys).filter_map(|(y, dy)| Some((y.parent()?, dy?)));
    let seeds: Vec<(Parent, Var)> = pairs.collect();
    let Some(pass) = seeds.first().and_then(|(_, dy)| dy.pass.clone()) else { return Ok(vec![None; inputs.len()]) };

    let wanted = names.iter().zip(want).map(|(x, &want)| if want { x.key() } else { None });
    let wanted: Vec<Option<Key>> = wanted.collect();
    let targets: BTreeSet<Key> = wanted.iter().copied().flatten().collect();
    let only = Only::new(targets, seeds.iter().map(|(y, _)| y.node.clone()).collect())?;
    let mut found = walk(op, seeds, &pass, Walk::WithGraph, Some(only))?;
    Ok(wanted.into_iter().map(|key| found.grads.remove(&key?).flatten()).collect())
}
