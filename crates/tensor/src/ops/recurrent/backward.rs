//! The adjoint of a recurrent layer: back through all steps, then the gradients of the weights over all of them.

use super::{Parts, RecurrentRun, row, row_mut, without_padding};
use crate::dtype::dispatch_float;
use crate::math::Math;
use crate::ops::activation::check_adjoint;
use crate::ops::cells;
use crate::ops::recurrence::{Cell, Recurrence, RecurrentWeights, Sizes};
use crate::par::{self, Shared};
use crate::product::{Matrix, Onto};
use crate::simd::vectorized;
use crate::{DType, Float, Result, Shape, Tensor, Trans};

impl RecurrentRun {
    /// Adjoint of [`Tensor::recurrent`]: the gradients of its input `x`, of `h0` and `c0`, and of the weights in the
    /// order of [`RecurrentWeights`]' fields, as far as `want` asks for them; from those of output, `h_n` and `c_n`.
    ///
    /// # Errors
    /// Gradients of another shape or type than the outputs.
    pub fn grad(
        &self,
        x: &Tensor,
        weights: &RecurrentWeights<&Tensor>,
        recurrence: &Recurrence,
        dys: [Tensor; 3],
        want: [bool; 8],
    ) -> Result<[Option<Tensor>; 8]> {
        for (y, dy) in [&self.output, &self.h_n, &self.c_n].into_iter().zip(&dys) {
            check_adjoint(recurrence.cell.op(), y, dy)?;
        }
        dispatch_float!(x.dtype(), recurrence.cell.op(), T => backward::<T>(self, x, weights, recurrence, dys, want))
    }
}

fn backward<T: Math>(
    run: &RecurrentRun,
    x: &Tensor,
    weights: &RecurrentWeights<&Tensor>,
    recurrence: &Recurrence,
    [dy, dh_n, dc_n]: [Tensor; 3],
    want: [bool; 8],
) -> Result<[Option<Tensor>; 8]> {
    let Sizes { steps, batch, input, hidden, state, width, memory, projected } = run.sizes;
    let (is_lstm, is_gru) = (recurrence.cell == Cell::Lstm, recurrence.cell == Cell::Gru);
    let only = |condition: bool, size: usize| if condition { size } else { 0 };
    // What arrives at the last state travels back step by step, to become the gradient of the initial one.
    let (mut dh0, mut dc0) = (dh_n, dc_n);
    let mut d_gates = Tensor::dirty::<T>(Shape::from([steps, batch, width]));
    let mut d_inner = Tensor::dirty::<T>(Shape::from([steps, batch, only(is_gru, width)]));
    let mut d_states = Tensor::dirty::<T>(Shape::from([steps, batch, only(projected > 0, state)]));

    let parts = Parts::new(batch);
    // Of each part, the sums over its steps and sequences: in f64, since they may be many.
    let biases = [want[5] || (want[6] && !is_gru), want[6] && is_gru];
    let mut d_biases = biases.map(|wanted| Tensor::zeros([parts.count, only(wanted, width)], DType::F64));
    let recur = parts.right::<T>(weights.weight_hh, false, steps);
    let project = weights.weight_hr.map(|weight| parts.right::<T>(weight, false, steps));
    let [gates, states, memories, dy] = [&run.gates, &run.states, &run.memories, &dy].map(Tensor::slice_of::<T>);
    let [all_dh, all_dc, all_gates, all_inner, all_states] =
        [&mut dh0, &mut dc0, &mut d_gates, &mut d_inner, &mut d_states].map(|all| Shared::new(all.own_slice::<T>()));
    let all_biases = d_biases.each_mut().map(|all| Shared::new(all.own_slice::<f64>()));
    par::tasks(parts.count, run.sizes.cost(parts.rows), |task| {
        let part = parts.get(task);
        let mut sums = Tensor::dirty::<T>(Shape::from([part.rows, state + projected]));
        let (dh, d_out) = sums.own_slice::<T>().split_at_mut(part.rows * state);
        for step in recurrence.steps(steps).rev() {
            let [before, after] = recurrence.place(step);
            // SAFETY: tasks have sequences of their own.
            let [carry, dc, d_gates, d_inner, d_states] = unsafe {
                [
                    part.of(&all_dh, 0, state),
                    part.of(&all_dc, 0, only(is_lstm, memory)),
                    part.of(&all_gates, step, width),
                    part.of(&all_inner, step, only(is_gru, width)),
                    part.of(&all_states, step, only(projected > 0, state)),
                ]
            };
            let (gates, h_before) = (part.at(gates, step, width), part.at(states, before, state));
            let (m_before, m) = (part.at(memories, before, memory), part.at(memories, after, memory));
            let live = |i: &usize| recurrence.is_live(step, part.first + i);
            for i in 0..part.rows {
                let (dh, carry) = (row_mut(dh, i, state), row_mut(carry, i, state));
                dh.fill(T::zero());
                if live(&i) {
                    let dy = row(dy, recurrence.output_row([steps, batch], step, part.first + i), state);
                    dh.iter_mut().zip(&*carry).zip(dy).for_each(|((dh, &carry), &dy)| *dh = carry + dy);
                    carry.fill(T::zero());
                }
            }
            if let Some(project) = &project {
                d_states.copy_from_slice(dh);
                project.multiply(part.rows, Matrix::new(dh, state, false), d_out, Onto::Nothing);
            }
            let d_out = if projected > 0 { &*d_out } else { &*dh };
            for i in 0..part.rows {
                let (gates, d_out, d_gates) = (row(gates, i, width), row(d_out, i, hidden), row_mut(d_gates, i, width));
                let d_inner = row_mut(d_inner, i, only(is_gru, width));
                if !live(&i) {
                    d_gates.fill(T::zero());
                    d_inner.fill(T::zero());
                    continue;
                }
                let (m_before, m) = (row(m_before, i, memory), row(m, i, memory));
                match recurrence.cell {
                    Cell::RnnTanh => cells::plain_grad(gates, d_out, false, d_gates),
                    Cell::RnnRelu => cells::plain_grad(gates, d_out, true, d_gates),
                    Cell::Lstm => cells::lstm_grad(gates, m_before, m, d_out, row_mut(dc, i, memory), d_gates),
                    Cell::Gru => {
                        let (h_before, carry) = (row(h_before, i, state), row_mut(carry, i, state));
                        cells::gru_grad(gates, h_before, m, d_out, d_gates, d_inner, carry);
                    }
                }
            }
            for ((all, wanted), rows) in all_biases.iter().zip(biases).zip([&*d_gates, &*d_inner]) {
                if wanted {
                    // SAFETY: tasks have places of their own.
                    add_rows(rows, unsafe { all.slice(task * width, width) });
                }
            }
            let through = if is_gru { &*d_inner } else { &*d_gates };
            recur.multiply(part.rows, Matrix::new(through, width, false), carry, Onto::Itself);
        }
    });

    // All steps of all sequences are rows from here on.
    let rows = |all: &Tensor, size: usize| all.with_shape(Shape::from([steps * batch, size]));
    let (d_gates, d_inner) = (rows(&d_gates, width), rows(&d_inner, only(is_gru, width)));
    let [first_before, _] = recurrence.place(0);
    let h_before = run.states.window(first_before * batch * state, Shape::from([steps * batch, state]));
    let dx = want[0].then(|| d_gates.matmul(weights.weight_ih)?.reshape(x.shape())).transpose()?;
    // The padding's gradients are zeros, but zero times whatever lies there might not be.
    let x = want[3].then(|| rows(&without_padding::<T>(x.clone(), recurrence), input));
    let h_before = want[4].then_some(&h_before);
    let [d_ih, d_hh] = if is_gru {
        let ([d_ih], [d_hh]) = (weight_grads(&d_gates, [x.as_ref()])?, weight_grads(&d_inner, [h_before])?);
        [d_ih, d_hh]
    } else {
        weight_grads(&d_gates, [x.as_ref(), h_before])?
    };
    let sum = |all: &Tensor| all.sum(0, false).map(|sum| sum.to_dtype(T::DTYPE));
    let [db_ih, db_hh] = [sum(&d_biases[0])?, sum(&d_biases[if is_gru { 1 } else { 0 }])?];
    let hiddens = want[7].then(|| rows(&run.hiddens, hidden));
    let [d_hr] = weight_grads(&rows(&d_states, only(projected > 0, state)), [hiddens.as_ref()])?;
    let [dh0, dc0] = [(want[1], dh0), (want[2], dc0)].map(|(want, d)| want.then_some(d));
    Ok([dx, dh0, dc0, d_ih, d_hh, want[5].then_some(db_ih), want[6].then_some(db_hh), d_hr])
}

/// `dᵀ · input` for each input that there is, in one product, so that `d` is read once.
fn weight_grads<const I: usize>(d: &Tensor, inputs: [Option<&Tensor>; I]) -> Result<[Option<Tensor>; I]> {
    let mut grads = [const { None }; I];
    let given: Vec<&Tensor> = inputs.into_iter().flatten().collect();
    let of = |input: &Tensor| d.matmul_with(input, Trans { a: true, b: false });
    let product = match given[..] {
        [] => return Ok(grads),
        [input] => of(input)?,
        _ => of(&Tensor::concat(&given, 1)?)?,
    };
    let mut at = 0;
    for (grad, input) in grads.iter_mut().zip(inputs) {
        let Some(input) = input else { continue };
        let end = at + input.shape()[1];
        *grad = Some(if given.len() == 1 { product.clone() } else { product.slice(1, at, end)? });
        at = end;
    }
    Ok(grads)
}

vectorized! {
    /// Adds rows to `sums`, as long as they are; first they are added up in their own type.
    fn add_rows<T: Float>(rows: &[T], sums: &mut [f64]) {
        let width = sums.len();
        for (i, sums) in sums.chunks_mut(64).enumerate() {
            let mut totals = [T::zero(); 64];
            for row in rows.chunks_exact(width) {
                totals.iter_mut().zip(&row[i * 64..][..sums.len()]).for_each(|(total, d)| *total += *d);
            }
            sums.iter_mut().zip(totals).for_each(|(sum, total)| *sum += total.as_f64());
        }
    }
}
