//! One direction of one recurrent layer over whole sequences, above its adjoint. What happens to one sequence at one
//! step is in `cells.rs`.
//!
//! Sequences do not depend on each other, so a task takes some of them through all steps, with weights packed once.
//! The gradients of the weights are products over all steps, at the end.

use super::activation::check_adjoint;
use super::cells;
use super::recurrence::{Cell, Recurrence, RecurrentWeights, Sizes, check};
use crate::dtype::dispatch_float;
use crate::math::Math;
use crate::par::{self, Shared};
use crate::product::{Matrix, Onto, product};
use crate::right::Right;
use crate::{Float, Result, Shape, Tensor, Trans};

/// What a recurrent layer made of its sequences, and what its adjoint needs.
#[derive(Clone)]
pub struct RecurrentRun {
    /// `[t, n, h]`: the state after each step, zeros in the padding.
    pub output: Tensor,
    /// `[n, h]`: the state after the last step of each sequence.
    pub h_n: Tensor,
    /// `[n, hidden]`: the LSTM's cell then; `[0]` for others.
    pub c_n: Tensor,
    sizes: Sizes,
    /// `[t, n, g · hidden]`: the values of the gates.
    gates: Tensor,
    /// `[t + 1, n, h]`: the states, with the initial one before the first or, backwards, after the last.
    states: Tensor,
    /// `[t + 1, n, hidden]`: the LSTM's cells in the same way, or the GRU's `m`.
    memories: Tensor,
    /// `[t, n, hidden]`: what is projected, if anything is.
    hiddens: Tensor,
}

impl Tensor {
    /// Runs one direction of a recurrent layer from the state `h0` and, if it is an LSTM, the cell `c0` (zeros without
    /// one).
    ///
    /// A sequence keeps its state in the padding, whichever way the layer goes: so the last state is that after the
    /// sequence's own last step, and backwards the layer starts at the sequence's own end.
    ///
    /// # Shapes
    /// - `self: [t, n, input]`, `h0: [n, h]`, `c0: [n, hidden]`, where `h` is `hidden` or the projection's size
    ///
    /// # Errors
    /// Sizes or types that do not fit, a sequence without steps, or lengths outside `1..=t`.
    pub fn recurrent(
        &self,
        h0: &Tensor,
        c0: Option<&Tensor>,
        weights: &RecurrentWeights<&Tensor>,
        recurrence: &Recurrence,
    ) -> Result<RecurrentRun> {
        let sizes = check(self, h0, c0, weights, recurrence)?;
        dispatch_float!(self.dtype(), recurrence.cell.op(), T => {
            Ok(forward::<T>(self, h0, c0, weights, recurrence, sizes))
        })
    }
}

fn forward<T: Math>(
    x: &Tensor,
    h0: &Tensor,
    c0: Option<&Tensor>,
    weights: &RecurrentWeights<&Tensor>,
    recurrence: &Recurrence,
    sizes: Sizes,
) -> RecurrentRun {
    let Sizes { steps, batch, input, hidden, state, width, memory, projected } = sizes;
    let no_bias = vec![T::zero(); width];
    let bias = [weights.bias_ih, weights.bias_hh].map(|bias| bias.map_or(&no_bias[..], Tensor::slice_of::<T>));
    let both_biases: Vec<T> = bias[0].iter().zip(bias[1]).map(|(&a, &b)| a + b).collect();
    // The GRU's biases belong to different places.
    let onto = if recurrence.cell == Cell::Gru { Onto::Nothing } else { Onto::Row(&both_biases) };
    let mut gates = Tensor::build(Shape::from([steps, batch, width]), |out: &mut [T]| {
        let w = Matrix::new(weights.weight_ih.slice_of::<T>(), input, true);
        product([steps * batch, input, width], Matrix::new(x.slice_of(), input, false), w, out, onto);
    });
    let [first, last] = recurrence.ends(steps);
    let mut states = with_row::<T>([steps + 1, batch, state], first, h0);
    let no_cell = Tensor::zeros([batch, memory], T::DTYPE);
    let mut memories = with_row::<T>([steps + 1, batch, memory], first, c0.unwrap_or(&no_cell));
    let mut hiddens = Tensor::dirty::<T>(Shape::from([steps, batch, projected]));

    let is_gru = recurrence.cell == Cell::Gru;
    let parts = Parts::new(batch);
    let recur = parts.right::<T>(weights.weight_hh, true, steps);
    let project = weights.weight_hr.map(|weight| parts.right::<T>(weight, true, steps));
    let [all_gates, all_states, all_memories, all_hiddens] =
        [&mut gates, &mut states, &mut memories, &mut hiddens].map(|all| Shared::new(all.own_slice::<T>()));
    par::tasks(parts.count, sizes.cost(parts.rows), |task| {
        let part = parts.get(task);
        let mut inner = Tensor::dirty::<T>(Shape::from([part.rows, if is_gru { width } else { 0 }]));
        let inner = inner.own_slice::<T>();
        for step in recurrence.steps(steps) {
            let [before, after] = recurrence.place(step);
            // SAFETY: tasks have sequences of their own, and the places before and after a step differ.
            let [gates, h_before, h, m_before, m, to_project] = unsafe {
                [
                    part.of(&all_gates, step, width),
                    part.of(&all_states, before, state),
                    part.of(&all_states, after, state),
                    part.of(&all_memories, before, memory),
                    part.of(&all_memories, after, memory),
                    part.of(&all_hiddens, step, projected),
                ]
            };
            // The GRU needs the state's products by themselves, the others add them to the input's.
            let (products, onto) = if is_gru { (&mut *inner, Onto::Nothing) } else { (&mut *gates, Onto::Itself) };
            recur.multiply(part.rows, Matrix::new(h_before, state, false), products, onto);
            for i in 0..part.rows {
                let (m, m_before) = (row_mut(m, i, memory), row(m_before, i, memory));
                let out = if projected > 0 { row_mut(to_project, i, hidden) } else { row_mut(h, i, state) };
                if !recurrence.is_live(step, part.first + i) {
                    m.copy_from_slice(m_before);
                    out.fill(T::zero());
                    continue;
                }
                let gates = row_mut(gates, i, width);
                match recurrence.cell {
                    Cell::RnnTanh => cells::plain(gates, false, out),
                    Cell::RnnRelu => cells::plain(gates, true, out),
                    Cell::Lstm => cells::lstm(gates, m_before, m, out),
                    Cell::Gru => cells::gru(gates, row(inner, i, width), bias, row(h_before, i, state), m, out),
                }
            }
            if let Some(project) = &project {
                project.multiply(part.rows, Matrix::new(to_project, hidden, false), h, Onto::Nothing);
            }
            for i in (0..part.rows).filter(|i| !recurrence.is_live(step, part.first + i)) {
                row_mut(h, i, state).copy_from_slice(row(h_before, i, state));
            }
        }
    });

    let end = |all: &Tensor, size: usize| all.window(last * batch * size, Shape::from([batch, size]));
    let c_n = if recurrence.cell == Cell::Lstm { end(&memories, memory) } else { Tensor::zeros([0], T::DTYPE) };
    let [_, first_after] = recurrence.place(0);
    let output = states.window(first_after * batch * state, Shape::from([steps, batch, state]));
    let output = without_padding::<T>(output, recurrence);
    RecurrentRun { output, h_n: end(&states, state), c_n, sizes, gates, states, memories, hiddens }
}

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
    let recur = parts.right::<T>(weights.weight_hh, false, steps);
    let project = weights.weight_hr.map(|weight| parts.right::<T>(weight, false, steps));
    let [gates, states, memories] = [&run.gates, &run.states, &run.memories].map(Tensor::slice_of::<T>);
    let [all_dh, all_dc, all_gates, all_inner, all_states] =
        [&mut dh0, &mut dc0, &mut d_gates, &mut d_inner, &mut d_states].map(|all| Shared::new(all.own_slice::<T>()));
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
            let (dy, gates, h_before) =
                (part.at(dy.slice_of::<T>(), step, state), part.at(gates, step, width), part.at(states, before, state));
            let (m_before, m) = (part.at(memories, before, memory), part.at(memories, after, memory));
            let live = |i: &usize| recurrence.is_live(step, part.first + i);
            for i in 0..part.rows {
                let (dh, carry) = (row_mut(dh, i, state), row_mut(carry, i, state));
                dh.fill(T::zero());
                if live(&i) {
                    dh.iter_mut().zip(&*carry).zip(row(dy, i, state)).for_each(|((dh, &carry), &dy)| *dh = carry + dy);
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
    let sum = |wanted: bool, d: &Tensor| wanted.then(|| d.sum(0, false)).transpose();
    let db_ih = sum(want[5] || (want[6] && !is_gru), &d_gates)?;
    let db_hh = if is_gru { sum(want[6], &d_inner)? } else { db_ih.clone() };
    let hiddens = want[7].then(|| rows(&run.hiddens, hidden));
    let [d_hr] = weight_grads(&rows(&d_states, only(projected > 0, state)), [hiddens.as_ref()])?;
    let [dh0, dc0] = [(want[1], dh0), (want[2], dc0)].map(|(want, d)| want.then_some(d));
    Ok([dx, dh0, dc0, d_ih, d_hh, db_ih.filter(|_| want[5]), db_hh.filter(|_| want[6]), d_hr])
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

/// The batch cut into parts of some sequences, by its size alone.
#[derive(Clone, Copy)]
struct Parts {
    batch: usize,
    count: usize,
    /// Sequences in each but the last.
    rows: usize,
}

/// Some sequences of a batch.
#[derive(Clone, Copy)]
struct Part {
    batch: usize,
    first: usize,
    rows: usize,
}

impl Parts {
    /// Few enough rows that many cores share a batch, enough that each loaded weight is used several times.
    fn new(batch: usize) -> Self {
        let rows = (batch / 4).next_multiple_of(8).clamp(8, 32);
        Self { batch, count: batch.div_ceil(rows), rows }
    }

    /// A weight, or its transpose, that the parts' rows are multiplied with at each step.
    fn right<T: Float>(self, weight: &Tensor, transposed: bool, steps: usize) -> Right<'_, T> {
        let [rows, columns] = *weight.shape() else { unreachable!("a weight is a matrix") };
        let size = if transposed { [columns, rows] } else { [rows, columns] };
        Right::new(size, Matrix::new(weight.slice_of(), columns, transposed), steps * self.count, self.count == 1)
    }

    fn get(self, i: usize) -> Part {
        let first = i * self.rows;
        Part { batch: self.batch, first, rows: self.rows.min(self.batch - first) }
    }
}

impl Part {
    /// These sequences' rows of `width` elements at one step.
    fn at<T>(self, all: &[T], step: usize, width: usize) -> &[T] {
        &all[(step * self.batch + self.first) * width..][..self.rows * width]
    }

    /// As [`at`](Self::at), to be written.
    ///
    /// # Safety
    /// Nobody else touches them meanwhile.
    #[allow(clippy::mut_from_ref)]
    unsafe fn of<T>(self, all: &Shared<T>, step: usize, width: usize) -> &mut [T] {
        // SAFETY: promised by the caller.
        unsafe { all.slice((step * self.batch + self.first) * width, self.rows * width) }
    }
}

fn row<T>(rows: &[T], i: usize, width: usize) -> &[T] {
    &rows[i * width..][..width]
}

fn row_mut<T>(rows: &mut [T], i: usize, width: usize) -> &mut [T] {
    &mut rows[i * width..][..width]
}

/// A tensor to be written, apart from part `at` of axis 0, which is `x`.
fn with_row<T: Float>(shape: [usize; 3], at: usize, x: &Tensor) -> Tensor {
    let mut all = Tensor::dirty::<T>(Shape::from(shape));
    all.own_slice::<T>()[at * x.len()..][..x.len()].copy_from_slice(x.slice_of());
    all
}

/// All steps, `[t, n, size]`, with zeros beyond the sequences' lengths.
fn without_padding<T: Float>(mut steps: Tensor, recurrence: &Recurrence) -> Tensor {
    if recurrence.lengths.is_none() {
        return steps;
    }
    let [_, batch, size] = *steps.shape() else { unreachable!("steps are [t, n, size]") };
    par::rows(steps.own_slice::<T>(), size, size as f64 * 0.2, |first, rows| {
        for (i, row) in rows.chunks_mut(size).enumerate() {
            if !recurrence.is_live((first + i) / batch, (first + i) % batch) {
                row.fill(T::zero());
            }
        }
    });
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Rng};

    const CELLS: [Cell; 4] = [Cell::RnnTanh, Cell::RnnRelu, Cell::Lstm, Cell::Gru];

    fn weights(cell: Cell, [input, hidden, projection]: [usize; 3], dtype: DType) -> RecurrentWeights<Tensor> {
        let (width, state) = (cell.gates() * hidden, if projection > 0 { projection } else { hidden });
        let mut rng = Rng::new(5);
        let mut draw = |shape: &[usize]| Tensor::normal(Shape::of(shape), 0.0f64, 0.4, &mut rng).to_dtype(dtype);
        RecurrentWeights {
            weight_ih: draw(&[width, input]),
            weight_hh: draw(&[width, state]),
            bias_ih: Some(draw(&[width])),
            bias_hh: Some(draw(&[width])),
            weight_hr: (projection > 0).then(|| draw(&[projection, hidden])),
        }
    }

    fn along(cell: Cell, reverse: bool, lengths: Option<&[usize]>) -> Recurrence {
        Recurrence { cell, reverse, lengths: lengths.map(Into::into) }
    }

    fn draw(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
        Tensor::normal(Shape::of(shape), 0.0f64, 1.0, &mut Rng::new(seed)).to_dtype(dtype)
    }

    /// A sequence in a batch of longer ones has the numbers that it has alone, in either direction.
    #[test]
    fn padding_changes_nothing() {
        for (cell, projection) in CELLS.map(|cell| (cell, 0)).into_iter().chain([(Cell::Lstm, 2)]) {
            let weights = weights(cell, [3, 4, projection], DType::F64);
            let (weights, state) = (weights.map(|w| w), if projection > 0 { projection } else { 4 });
            let (x, lengths) = (draw(&[5, 3, 3], 1, DType::F64), [2, 5, 1]);
            let (h0, c0) = (draw(&[3, state], 2, DType::F64), draw(&[3, 4], 3, DType::F64));
            for reverse in [false, true] {
                let all = x
                    .recurrent(
                        &h0,
                        (cell == Cell::Lstm).then_some(&c0),
                        &weights,
                        &along(cell, reverse, Some(&lengths)),
                    )
                    .unwrap();
                for (i, &length) in lengths.iter().enumerate() {
                    let of = |x: &Tensor, axis: isize| x.slice(axis, i, i + 1).unwrap();
                    let alone = of(&x, 1).slice(0, 0, length).unwrap();
                    let (h0, c0) = (of(&h0, 0), (cell == Cell::Lstm).then(|| of(&c0, 0)));
                    let alone = alone.recurrent(&h0, c0.as_ref(), &weights, &along(cell, reverse, None)).unwrap();
                    let near = |a: &Tensor, b: &Tensor| {
                        assert!(a.sub(b).unwrap().squared_norm() < 1e-28, "{cell:?}, {reverse}, {length}");
                    };
                    near(&of(&all.output, 1).slice(0, 0, length).unwrap(), &alone.output);
                    near(&of(&all.h_n, 0), &alone.h_n);
                    assert_eq!(of(&all.output, 1).slice(0, length, 5).unwrap().squared_norm(), 0.0);
                    if cell == Cell::Lstm {
                        near(&of(&all.c_n, 0), &alone.c_n);
                    }
                }
            }
        }
    }

    #[test]
    fn what_lies_in_the_padding_does_not_count() {
        let weights = weights(Cell::Lstm, [3, 4, 2], DType::F64);
        let (weights, way) = (weights.map(|w| w), along(Cell::Lstm, true, Some(&[2, 1])));
        let (x, h0) = (draw(&[2, 2, 3], 1, DType::F64), draw(&[2, 2], 2, DType::F64));
        let all = |padding: f64| {
            let mut x = x.clone();
            x.own_slice::<f64>()[9..].fill(padding); // the second step of the second sequence
            let run = x.recurrent(&h0, None, &weights, &way).unwrap();
            let dys = [&run.output, &run.h_n, &run.c_n].map(Tensor::clone);
            let mut all = run.grad(&x, &weights, &way, dys, [true; 8]).unwrap().to_vec();
            all.push(Some(run.output));
            all
        };
        assert!(all(0.0) == all(f64::NAN));
    }

    #[test]
    fn weights_without_columns_have_gradients_without_elements() {
        for cell in CELLS {
            let weights = weights(cell, [0, 4, 0], DType::F64);
            let (weights, way) = (weights.map(|w| w), along(cell, false, None));
            let (x, h0) = (draw(&[3, 2, 0], 1, DType::F64), draw(&[2, 4], 2, DType::F64));
            let run = x.recurrent(&h0, None, &weights, &way).unwrap();
            let mut want = [false; 8];
            want[3] = true;
            let dys = [&run.output, &run.h_n, &run.c_n].map(Tensor::clone);
            let grads = run.grad(&x, &weights, &way, dys, want).unwrap();
            assert_eq!(grads[3].as_ref().map(Tensor::shape), Some(Shape::from([cell.gates() * 4, 0])), "{cell:?}");
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn bits_do_not_depend_on_the_number_of_threads() {
        for cell in CELLS {
            let weights = weights(cell, [20, 40, 0], DType::F32);
            let (x, h0, c0) =
                (draw(&[9, 70, 20], 1, DType::F32), draw(&[70, 40], 2, DType::F32), draw(&[70, 40], 3, DType::F32));
            let bits = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let (weights, way) = (weights.map(|w| w), along(cell, true, None));
                    let run = x.recurrent(&h0, (cell == Cell::Lstm).then_some(&c0), &weights, &way).unwrap();
                    let dys = [&run.output, &run.h_n, &run.c_n].map(Tensor::clone);
                    let mut all = run
                        .grad(&x, &weights, &way, dys, [true, true, true, true, true, true, true, false])
                        .unwrap()
                        .to_vec();
                    all.push(Some(run.output));
                    all
                })
            };
            assert!(bits(1) == bits(2) && bits(1) == bits(7), "{cell:?}");
        }
    }
}
