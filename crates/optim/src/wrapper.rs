//! What optimizers that wrap others share: passing on, and a state that holds the inner one's.

use crate::{Error, OptimizerState, Result};
use maplet_autograd::Tensor;
use std::collections::BTreeMap;

/// The methods of an optimizer that its `inner` one answers.
macro_rules! inner_answers {
    ($inner:ident) => {
        fn learning_rate(&self) -> f64 {
            self.$inner.learning_rate()
        }

        fn set_learning_rate(&mut self, learning_rate: f64) {
            self.$inner.set_learning_rate(learning_rate);
        }

        fn current_learning_rate(&self) -> f64 {
            self.$inner.current_learning_rate()
        }

        fn steps(&self) -> u64 {
            self.$inner.steps()
        }
    };
}
pub(crate) use inner_answers;

/// What a wrapper itself remembers.
#[derive(Default)]
pub(crate) struct Own {
    pub(crate) numbers: BTreeMap<String, f64>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl Own {
    /// A count that the wrapper wrote.
    pub(crate) fn count(&self, op: &'static str, name: &str) -> Result<u64> {
        let count = self.numbers.get(name).filter(|count| **count >= 0.0).map(|count| *count as u64);
        count.ok_or_else(|| Error::new(op, format!("the state lacks the number `{op}:{name}`"), "it is damaged"))
    }

    /// The inner state with this one around it: `lookahead(adam)`, with its own parts as `lookahead:0.weight`.
    pub(crate) fn around(self, name: &str, inner: OptimizerState) -> OptimizerState {
        let prefix = prefix(name, &inner.optimizer);
        let own = |part: String| format!("{prefix}{part}");
        let OptimizerState { optimizer, step, mut numbers, mut tensors } = inner;
        numbers.extend(self.numbers.into_iter().map(|(part, number)| (own(part), number)));
        tensors.extend(self.tensors.into_iter().map(|(part, tensor)| (own(part), tensor)));
        OptimizerState { optimizer: format!("{name}({optimizer})"), step, numbers, tensors }
    }

    /// The opposite of [`around`](Self::around).
    pub(crate) fn unwrap(name: &'static str, state: OptimizerState) -> Result<(Self, OptimizerState)> {
        let inner = state.optimizer.strip_prefix(name).and_then(|rest| rest.strip_prefix('(')?.strip_suffix(')'));
        let Some(optimizer) = inner.map(String::from) else {
            return Err(another(name, &state.optimizer));
        };
        let prefix = prefix(name, &optimizer);
        let (mut own, mut numbers, mut tensors) = (Self::default(), Vec::new(), Vec::new());
        for (part, number) in state.numbers {
            match part.strip_prefix(&prefix) {
                Some(part) => _ = own.numbers.insert(part.into(), number),
                None => numbers.push((part, number)),
            }
        }
        for (part, tensor) in state.tensors {
            match part.strip_prefix(&prefix) {
                Some(part) => _ = own.tensors.insert(part.into(), tensor),
                None => tensors.push((part, tensor)),
            }
        }
        Ok((own, OptimizerState { optimizer, step: state.step, numbers, tensors }))
    }
}

/// What the names of a wrapper's own parts begin with: `lookahead:`, and `lookahead2:` around one that has these.
fn prefix(name: &str, inner: &str) -> String {
    match inner.matches(name).count() {
        0 => format!("{name}:"),
        inner => format!("{name}{}:", inner + 1),
    }
}

/// The error of a state that another optimizer saved.
pub(crate) fn another(name: &'static str, saved: &str) -> Error {
    Error::new(name, format!("the state is one of `{saved}`"), "build the optimizer that was saved")
}
