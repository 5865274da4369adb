//! Connectionist temporal classification: a kernel, and the plain recursion over time as its twin.

use crate::{Result, Var, record_fused};
use maplet_tensor::{CtcTargets, DType, Tensor};

impl Var {
    /// `−log p(labels)` of each sample, summed over all alignments of its labels with the steps of these
    /// log-probabilities.
    ///
    /// Memory: `t · (2s + 1)` numbers a sample.
    ///
    /// # Shapes
    /// `self: [t, n, classes]` → `[n]`
    ///
    /// # Errors
    /// Shapes that do not fit, lengths beyond the axes, labels that are blank or no classes.
    ///
    /// # Numerics
    /// The gradient is the derivative, minus the probability of each class at each step given the labels; PyTorch adds
    /// `exp(self)`, which `log_softmax` then takes away again. It is not a number where the loss is infinite, unless
    /// that is zeroed.
    ///
    /// # Reference
    /// Graves, Fernández, Gomez & Schmidhuber (2006), "Connectionist Temporal Classification".
    pub fn ctc(&self, targets: &CtcTargets) -> Result<Var> {
        let (losses, alphas) = self.value().ctc(targets)?;
        let (x, spec) = (self.value().clone(), targets.clone());
        let kernel = move |dy: Tensor, [_]: [bool; 1]| Ok([Some(dy.ctc_grad(&x, &alphas, &spec)?)]);
        let targets = targets.clone();
        record_fused("ctc", losses, [self], kernel, move |[x]| recursion(&x, &targets))
    }
}

/// Far below every logarithm, and still a number: ∞ − ∞ would not be one.
const NEVER: f64 = -1e30;

/// The ways into each state, step by step.
fn recursion(log_probs: &Var, targets: &CtcTargets) -> Result<Var> {
    let [t, n, classes] = log_probs.dims("ctc")?;
    let (s, constant) = (targets.labels.size(1)?, |x: Vec<f64>, shape: [usize; 2]| -> Result<Var> {
        Ok(log_probs.constant(Tensor::from_vec(x, shape)?.to_dtype(log_probs.dtype())))
    });
    let width = 2 * s + 1;
    // Labels with blanks around each; what is behind a sample's labels is any class.
    let labels = targets.labels.as_slice::<i64>()?;
    let state = |i: usize, at: usize| match at % 2 {
        1 => labels[i * s + at / 2].clamp(0, classes as i64 - 1),
        _ => targets.blank as i64,
    };
    let states: Vec<i64> = (0..n * width).map(|at| state(at / width, at % width)).collect();
    let states = log_probs.constant(Tensor::from_vec(states, [n, width])?);
    let may_jump = |i, at| at == 1 || (at % 2 == 1 && state(i, at) != state(i, at - 2));
    let gates = (0..n * width).map(|at| if may_jump(at / width, at % width) { 0.0 } else { NEVER }).collect();
    let gates = constant(gates, [n, width])?;

    // Behind two states that are none: all ways begin in the second of those.
    let begin = |at: usize| if at % (width + 2) == 1 { 0.0 } else { NEVER };
    let mut padded = constant((0..n * (width + 2)).map(begin).collect(), [n, width + 2])?;
    let mut ways = padded.slice(1, 2, width + 2)?;
    for step in 0..t {
        let jump = padded.slice(1, 0, width)?.add(&gates)?;
        let joined = Var::stack(&[&padded.slice(1, 2, width + 2)?, &padded.slice(1, 1, width + 1)?, &jump], -1)?;
        let emitted = log_probs.slice(0, step, step + 1)?.squeeze(0)?.gather(-1, &states)?;
        let running: Vec<u8> = targets.input_lengths.iter().map(|&length| u8::from(step < length)).collect();
        let running = log_probs.constant(Tensor::from_vec(running, [n, 1])?);
        ways = running.where_cond(&joined.logsumexp(-1, false)?.add(&emitted)?, &ways)?;
        padded = ways.pad(&[(0, 0), (2, 0)], NEVER)?;
    }
    // The last label and the blank behind it; without labels, the blank and nothing.
    let ends = targets.target_lengths.iter().flat_map(|&length| [2 * length as i64 + 1, 2 * length as i64 + 2]);
    let ends = log_probs.constant(Tensor::from_vec(ends.collect::<Vec<i64>>(), [n, 2])?);
    let loss = padded.gather(-1, &ends)?.logsumexp(-1, false)?.neg();
    // Too few steps: a constant, as the kernel has it.
    let of = |&loss: &f64| match (loss < -NEVER / 2.0, targets.zero_infinity) {
        (true, _) => 1.0,
        (false, zeroed) => {
            if zeroed {
                0.0
            } else {
                f64::NAN
            }
        }
    };
    let factors = loss.value().to_dtype(DType::F64).to_vec::<f64>()?.iter().map(of).collect();
    loss.mul(&constant(factors, [n, 1])?.squeeze(-1)?)
}
