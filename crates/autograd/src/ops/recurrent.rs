//! Recurrent layers: one direction of one layer is one op, whose twin goes step by step.

use crate::{Result, Var, record_fused_outputs};
use maplet_tensor::{Activation, Cell, Recurrence, RecurrentWeights, Tensor};

impl Var {
    /// Runs one direction of a recurrent layer from the state `h0` and, if it is an LSTM, the cell `c0` (zeros without
    /// one). Gives the output, and the last states `h_n` and `c_n` (the latter empty for other layers).
    ///
    /// Steps beyond a sequence's length give zeros and leave its state as it is, in either direction.
    ///
    /// # Shapes
    /// - `self: [t, n, input]`, `h0: [n, h]`, `c0: [n, hidden]` → `[t, n, h]`, or `[n, t, h]` by sequence, `[n, h]`,
    ///   `[n, hidden]`, where `h` is `hidden` or the projection's size
    ///
    /// # Errors
    /// Sizes or types that do not fit, a sequence without steps, or lengths outside `1..=t`.
    ///
    /// # Numerics
    /// Saves the gates and states of all steps: `O(t · n · hidden)` memory.
    ///
    /// # Reference
    /// Elman (1990), "Finding Structure in Time"; Hochreiter & Schmidhuber (1997), "Long Short-Term Memory"; Cho et al.
    /// (2014), "Learning Phrase Representations using RNN Encoder-Decoder"; Sak, Senior & Beaufays (2014), "Long
    /// Short-Term Memory Recurrent Neural Network Architectures", for the projection.
    pub fn recurrent(
        &self,
        h0: &Var,
        c0: Option<&Var>,
        weights: &RecurrentWeights<Var>,
        recurrence: &Recurrence,
    ) -> Result<[Var; 3]> {
        let values = weights.map(Var::value);
        let run = self.value().recurrent(h0.value(), c0.map(Var::value), &values, recurrence)?;
        let outputs = [&run.output, &run.h_n, &run.c_n].map(Tensor::clone);
        // Absent inputs are constants without elements.
        let none = Var::from(Tensor::zeros([0], self.dtype()));
        let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr } = weights;
        let [c0, bias_ih, bias_hh, weight_hr] =
            [c0, bias_ih.as_ref(), bias_hh.as_ref(), weight_hr.as_ref()].map(|input| input.unwrap_or(&none));
        let inputs = [self, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr];

        let (x, saved, way) = (self.value().clone(), weights.map(|weight| weight.value().clone()), recurrence.clone());
        let kernel = move |dys, want| Ok(run.grad(&x, &saved.map(|weight| weight), &way, dys, want)?);
        let (way, c_n) = (recurrence.clone(), outputs[2].shape());
        let twin = move |[x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr]: [Var; 8]| {
            let [bias_ih, bias_hh, weight_hr] =
                [bias_ih, bias_hh, weight_hr].map(|weight| (!weight.is_empty()).then_some(weight));
            let c0 = if c0.shape() == c_n { c0 } else { h0.constant(Tensor::zeros(c_n, h0.dtype())) };
            let weights = RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr };
            step_by_step(&x, [h0, c0], &weights, &way)
        };
        record_fused_outputs(recurrence.cell.op(), outputs, inputs, kernel, twin)
    }
}

/// What [`Var::recurrent`] computes, made of plain ops.
fn step_by_step(
    x: &Var,
    [mut h, mut c]: [Var; 2],
    weights: &RecurrentWeights<Var>,
    recurrence: &Recurrence,
) -> Result<[Var; 3]> {
    let [steps, batch, _] = x.dims(recurrence.cell.op())?;
    let rows = x.split(1, 0)?;
    let mut outputs = vec![None; steps];
    for step in recurrence.steps(steps) {
        let [h_after, c_after] = one_step(&rows[step].squeeze(0)?, [&h, &c], weights, recurrence.cell)?;
        let Some(_) = &recurrence.lengths else {
            (outputs[step], h, c) = (Some(h_after.clone()), h_after, c_after);
            continue;
        };
        let live: Vec<u8> = (0..batch).map(|i| recurrence.is_live(step, i).into()).collect();
        let live = x.constant(Tensor::from_vec(live, [batch, 1])?);
        outputs[step] = Some(live.where_cond(&h_after, &x.constant(h.value().zeros_like()))?);
        h = live.where_cond(&h_after, &h)?;
        c = if recurrence.cell == Cell::Lstm { live.where_cond(&c_after, &c)? } else { c_after };
    }
    let outputs: Vec<&Var> = outputs.iter().flatten().collect();
    let c = if recurrence.cell == Cell::Lstm { c } else { x.constant(Tensor::zeros([0], x.dtype())) };
    Ok([Var::stack(&outputs, if recurrence.by_sequence { 1 } else { 0 })?, h, c])
}

/// The state and the cell after one step from `[h, c]`, for rows `x` of one step.
fn one_step(x: &Var, [h, c]: [&Var; 2], weights: &RecurrentWeights<Var>, cell: Cell) -> Result<[Var; 2]> {
    let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr } = weights;
    let gates = x.linear(weight_ih, bias_ih.as_ref(), Activation::Identity)?;
    let inner = h.linear(weight_hh, bias_hh.as_ref(), Activation::Identity)?;
    let hidden = weight_ih.shape()[0] / cell.gates();
    let part = |gates: &Var, i: usize| gates.slice(1, i * hidden, (i + 1) * hidden);
    match cell {
        Cell::RnnTanh => Ok([gates.add(&inner)?.tanh(), c.clone()]),
        Cell::RnnRelu => Ok([gates.add(&inner)?.relu(), c.clone()]),
        Cell::Lstm => {
            let gates = gates.add(&inner)?;
            let (i, f) = (part(&gates, 0)?.sigmoid(), part(&gates, 1)?.sigmoid());
            let (g, o) = (part(&gates, 2)?.tanh(), part(&gates, 3)?.sigmoid());
            let c = f.mul(c)?.add(&i.mul(&g)?)?;
            let h = o.mul(&c.tanh())?;
            let h = if let Some(weight) = weight_hr { h.linear(weight, None, Activation::Identity)? } else { h };
            Ok([h, c])
        }
        Cell::Gru => {
            let gate = |i: usize| Ok::<_, crate::Error>(part(&gates, i)?.add(&part(&inner, i)?)?.sigmoid());
            let (r, z) = (gate(0)?, gate(1)?);
            let n = part(&gates, 2)?.add(&r.mul(&part(&inner, 2)?)?)?.tanh();
            Ok([n.add(&z.mul(&h.sub(&n)?)?)?, c.clone()])
        }
    }
}
