//! The search for the op that first makes a NaN or an infinity: see
//! [`Pass::detect_anomaly`](crate::Pass::detect_anomaly).

use crate::node::Node;
use crate::pass::lock;
use crate::{Error, Message, Result, Var};
use maplet_tensor::{DType, NotFinite, Tensor};
use std::sync::Mutex;

/// What a watched pass has come upon: the first anomaly alone, as all others may follow from it.
///
/// An op does not fail when it finds one, since operators and functions of one value could only panic: it is noted
/// here, and the next to ask is told.
#[derive(Default)]
pub(crate) struct Watch {
    first: Mutex<Option<Message>>,
}

impl Watch {
    pub(crate) fn first(&self) -> Option<Message> {
        lock(&self.first).clone()
    }

    /// Looks at a value that enters the pass. An infinity may be meant, as in a mask; a NaN is not.
    pub(crate) fn entered(&self, op: &'static str, value: &Tensor) {
        if let Some(found) = value.not_finite().filter(|found| found.nans > 0) {
            let what = format!("what enters the pass as {} is {}", tensor(value), words(value, &found));
            self.note(op, what, "look for the NaN in the data, or in the parameters before this step");
        }
    }

    /// Looks at what an op made. It is to blame for a NaN that no input had, and for an infinity if every input was
    /// finite.
    pub(crate) fn made<'v>(&self, op: &'static str, ys: &[Tensor], xs: impl Iterator<Item = &'v Var>) {
        let Some((y, found)) = ys.iter().find_map(|y| Some((y, y.not_finite()?))) else { return };
        let xs: Vec<&Tensor> = xs.map(Var::value).collect();
        let inherited = |x: NotFinite| found.nans == 0 || x.nans > 0;
        if xs.iter().any(|x| x.not_finite().is_some_and(inherited)) {
            return;
        }
        let inputs: Vec<String> = xs.into_iter().map(span).collect();
        let from = if inputs.is_empty() { String::new() } else { format!(", from {}", inputs.join(" and ")) };
        let what = format!("its output {} is {}{from}", tensor(y), words(y, &found));
        self.note(op, what, "keep the inputs where the op is finite, with clamp(..) or a small number added");
    }

    fn note(&self, op: &'static str, what: String, help: &str) {
        lock(&self.first).get_or_insert_with(|| Message { op, what, help: help.into() });
    }

    /// Looks at the gradient `dx` that the rule of `op` sends to what `parent` made.
    pub(crate) fn pulled(&self, op: &'static str, parent: &Node, dx: &Var) -> Result<()> {
        let Some(found) = dx.value().not_finite() else { return Ok(()) };
        let (x, maker) = (tensor(dx.value()), parent.op());
        let what = format!("the gradient of its input {x}, made by `{maker}`, is {}", words(dx.value(), &found));
        let help = "keep the input away from where the op has no finite slope, with clamp(..) or a small number added";
        Err(Error::graph(op, what, help))
    }
}

/// `f32 [2, 3]`
fn tensor(x: &Tensor) -> String {
    format!("{} {}", x.dtype(), x.shape())
}

/// `f32 [2, 3] within [-1, 2.5]`
fn span(x: &Tensor) -> String {
    let number = |x: Tensor| match x.dtype() {
        DType::F32 => x.item::<f32>().map(|x| x.to_string()),
        _ => x.to_dtype(DType::F64).item::<f64>().map(|x| x.to_string()),
    };
    match (x.min(.., false).and_then(number), x.max(.., false).and_then(number)) {
        (Ok(low), Ok(high)) => format!("{} within [{low}, {high}]", tensor(x)),
        _ => tensor(x), // empty
    }
}

/// `inf at [0, 2], 3 of 6 elements NaN or infinite`
fn words(x: &Tensor, found: &NotFinite) -> String {
    let (count, index) = (found.nans + found.infinities, &found.index);
    format!("{} at {index:?}, {count} of {} elements NaN or infinite", found.value, x.len())
}
