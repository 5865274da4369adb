//! Gradient checkpointing: a part of a computation whose inner values are not kept but computed again.

use crate::node::Rules;
use crate::part::{Again, First, Role};
use crate::record::Meeting;
use crate::visit::{Item, ItemMut};
use crate::{Error, Pass, Path, Result, Var, Visit};
use maplet_tensor::{DType, Shape, Tensor};
use std::array::from_fn;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

/// Runs `part(model, xs)` without keeping what it computes on the way: the backward walk runs it again.
///
/// Values and gradients are the same bits as without. (Gradients of gradients too, but for rounding: they are added up
/// in another order.) A chain of `n` parts, each checkpointed, keeps `n` inputs and the inner values of one part at a
/// time, for one more forward computation.
///
/// The second run meets what the first met: the parameters as they were (`model` is cloned, which shares their memory),
/// the same random numbers, the same running statistics; and new running statistics are applied once. Parts may be
/// nested. `part` must depend on its arguments alone: recorded values that it captures get their gradients, but what is
/// random or changes a state must be applied to values made from the arguments.
///
/// PyTorch: `utils.checkpoint.checkpoint`; Keras: `RematScope`.
///
/// ```
/// use maplet_autograd::{Error, Param, Pass, Tensor, checkpoint};
///
/// let weight = Param::new(Tensor::from([2.0f32, -1.0]));
/// let x = Pass::train(0).leaf(Tensor::from([0.5f32, 3.0]));
/// // Keeps x, and neither the product nor the sine.
/// let y = checkpoint(&weight, [&x], |weight, [x]| {
///     let scaled = x.mul(&weight.on(&x))?;
///     Ok::<_, Error>(scaled.sin().exp())
/// })?;
/// let grads = y.sum(.., false)?.backward()?;
/// assert_eq!((grads.of(&x).is_some(), grads.of(&weight).is_some()), (true, true));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// Those of `part`; inputs from two passes; random numbers for a captured value. When the part is run again, in the
/// walk: outputs of another shape or another number of draws than at first.
///
/// # Reference
/// Chen, Xu, Zhang & Guestrin (2016), "Training Deep Nets with Sublinear Memory Cost", section 4.
pub fn checkpoint<M, E, const N: usize>(
    model: &M,
    xs: [&Var; N],
    part: impl Fn(&M, [Var; N]) -> Result<Var, E> + Send + Sync + 'static,
) -> Result<Var, E>
where
    M: Visit + Clone + Send + Sync + 'static,
    E: From<Error> + Display,
{
    let [y] = checkpoint_outputs(model, xs, move |model, xs| Ok::<_, E>([part(model, xs)?]))?;
    Ok(y)
}

/// As [`checkpoint`], for a part with several outputs.
///
/// # Errors
/// As [`checkpoint`].
pub fn checkpoint_outputs<M, E, const N: usize, const K: usize>(
    model: &M,
    xs: [&Var; N],
    part: impl Fn(&M, [Var; N]) -> Result<[Var; K], E> + Send + Sync + 'static,
) -> Result<[Var; K], E>
where
    M: Visit + Clone + Send + Sync + 'static,
    E: From<Error> + Display,
{
    let Some(pass) = Meeting::of("checkpoint", &xs)?.pass.filter(|pass| !pass.is_quiet()) else {
        return part(model, xs.map(Var::clone)); // nothing would be kept in any case
    };
    let (states, drawn) = (pass.states().clone(), pass.drawn());
    let first = Arc::new(First::new(pass.clone(), &xs));
    let quiet = pass.with_role(Role::First(first.clone()));
    let ys = part(model, from_fn(|i| Var { node: None, out: 0, ..on(&quiet, xs[i]) }))?;

    let (parents, draws) = first.take();
    let fresh = if matches!(pass.role, Role::Again(_)) { 0 } else { draws.len() as u64 };
    if pass.drawn() - drawn != fresh {
        let what =
            "random numbers were drawn for a value from outside the part, which would be others when it is run again";
        return Err(Error::graph("checkpoint", what, "hand that value to the part as an argument").into());
    }
    let mut node = None;
    if !parents.is_empty() {
        let (model, inputs) = (snapshot(model)?, xs.map(Var::clone));
        let outputs = from_fn(|i| (ys[i].shape(), ys[i].dtype()));
        let replay = Replay { pass: pass.clone(), draws, states, outputs };
        let rule = move || replay.run(|pass| part(&model, from_fn(|i| on(pass, &inputs[i]))));
        node = Some(pass.node("checkpoint", None, ys.iter().map(Var::value), Rules::Part(parents, Arc::new(rule))));
    }
    let mut out = 0..;
    Ok(ys.map(|y| {
        let out = out.next().expect("endless");
        match y.pass {
            None => y, // made outside any pass, and so not by the part's inputs
            Some(_) => {
                let node = node.clone().filter(|_| y.dtype().is_float());
                Var { node, out, pass: Some(pass.clone()), ..Var::from(y.value) }
            }
        }
    }))
}

/// `x` through another handle on its pass, if it is in one.
fn on(pass: &Pass, x: &Var) -> Var {
    Var { pass: x.pass.as_ref().map(|_| pass.clone()), ..x.clone() }
}

/// What the second run needs beside the part itself.
struct Replay<const K: usize> {
    pass: Pass,
    draws: Vec<u64>,
    states: BTreeMap<u64, Tensor>,
    outputs: [(Shape, DType); K],
}

impl<const K: usize> Replay<K> {
    fn run<E: Display>(&self, part: impl Fn(&Pass) -> Result<[Var; K], E>) -> Result<Vec<Var>> {
        let again = Arc::new(Again::new(&self.pass.role, self.draws.clone(), self.states.clone()));
        let ys = part(&self.pass.with_role(Role::Again(again.clone()))).map_err(|error| {
            Error::graph("checkpoint", format!("the part failed when it was run again: {error}"), "")
        })?;
        let help = "a checkpointed part must depend on its arguments and the pass alone";
        for (y, (shape, dtype)) in ys.iter().zip(&self.outputs) {
            if (y.shape(), y.dtype()) != (*shape, *dtype) {
                let (shape_again, dtype_again) = (y.shape(), y.dtype());
                let what =
                    format!("the part made {dtype} {shape} at first, and {dtype_again} {shape_again} when run again");
                return Err(Error::graph("checkpoint", what, help));
            }
        }
        let [at_first, now] = again.draws();
        if at_first != now {
            let what =
                format!("the part drew random numbers {at_first} times at first, and {now} times when run again");
            return Err(Error::graph("checkpoint", what, help));
        }
        Ok(ys.into())
    }
}

/// A copy that shares the memory of the model's parameters and states and, unlike a clone, their identity.
fn snapshot<M: Visit + Clone>(model: &M) -> Result<M> {
    let mut ids = Vec::new();
    model.visit(&Path::root(), &mut |_, item| match item {
        Item::Param(param) => ids.push(param.id()),
        Item::State(state) => ids.push(state.id()),
    });
    let mut copy = model.clone();
    let mut items = Vec::with_capacity(ids.len());
    copy.visit_mut(&Path::root(), &mut |_, item| items.push(item));
    if items.len() != ids.len() {
        let what = format!("a clone of the model shows {} parameters and states, not {}", items.len(), ids.len());
        return Err(Error::new("checkpoint", what, "derive Clone"));
    }
    for (item, id) in items.into_iter().zip(ids) {
        match item {
            ItemMut::Param(param) => param.set_id(id),
            ItemMut::State(state) => state.set_id(id),
        }
    }
    Ok(copy)
}
