//! One direction of one recurrent layer over whole sequences; its adjoint is in `recurrent/backward.rs`. What happens
//! to one sequence at one step is in `cells.rs`.
//!
//! Sequences do not depend on each other, so a task takes some of them through all steps, with weights packed once.
//! The gradients of the weights are products over all steps, at the end.

mod backward;

use super::cells;
use super::recurrence::{Cell, Recurrence, RecurrentWeights, Sizes, check};
use crate::dtype::dispatch_float;
use crate::math::Math;
use crate::par::{self, Shared};
use crate::product::{Matrix, Onto, product};
use crate::right::Right;
use crate::{Float, Result, Shape, Tensor};

/// What a recurrent layer made of its sequences, and what its adjoint needs.
#[derive(Clone)]
pub struct RecurrentRun {
    /// `[t, n, h]`, or `[n, t, h]` if it is asked for: the state after each step, zeros in the padding.
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

    // Sequence by sequence the output is written as it comes; step by step it lies among the states.
    let mut output = Tensor::dirty::<T>(Shape::from([batch, steps, if recurrence.by_sequence { state } else { 0 }]));

    let is_gru = recurrence.cell == Cell::Gru;
    let parts = Parts::new(batch);
    let recur = parts.right::<T>(weights.weight_hh, true, steps);
    let project = weights.weight_hr.map(|weight| parts.right::<T>(weight, true, steps));
    let [all_gates, all_states, all_memories, all_hiddens, all_output] =
        [&mut gates, &mut states, &mut memories, &mut hiddens, &mut output]
            .map(|all| Shared::new(all.own_slice::<T>()));
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
            for i in 0..part.rows {
                let (sequence, h) = (part.first + i, row_mut(h, i, state));
                let live = recurrence.is_live(step, sequence);
                if recurrence.by_sequence {
                    let at = recurrence.output_row([steps, batch], step, sequence);
                    // SAFETY: as above.
                    let output = unsafe { all_output.slice(at * state, state) };
                    if live { output.copy_from_slice(h) } else { output.fill(T::zero()) }
                }
                if !live {
                    h.copy_from_slice(row(h_before, i, state));
                }
            }
        }
    });

    let end = |all: &Tensor, size: usize| all.window(last * batch * size, Shape::from([batch, size]));
    let c_n = if recurrence.cell == Cell::Lstm { end(&memories, memory) } else { Tensor::zeros([0], T::DTYPE) };
    if !recurrence.by_sequence {
        let [_, first_after] = recurrence.place(0);
        let among_states = states.window(first_after * batch * state, Shape::from([steps, batch, state]));
        output = without_padding::<T>(among_states, recurrence);
    }
    RecurrentRun { output, h_n: end(&states, state), c_n, sizes, gates, states, memories, hiddens }
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
        Recurrence { cell, reverse, lengths: lengths.map(Into::into), by_sequence: false }
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
    fn by_sequence_the_output_is_turned() {
        for (cell, projection) in CELLS.map(|cell| (cell, 0)).into_iter().chain([(Cell::Lstm, 2)]) {
            let weights = weights(cell, [3, 4, projection], DType::F32);
            let (weights, state) = (weights.map(|w| w), if projection > 0 { projection } else { 4 });
            let (x, h0) = (draw(&[5, 3, 3], 1, DType::F32), draw(&[3, state], 2, DType::F32));
            for (reverse, lengths) in [(false, None), (true, Some(&[2, 5, 1][..]))] {
                let by_step = along(cell, reverse, lengths);
                let by_sequence = Recurrence { by_sequence: true, ..by_step.clone() };
                let [a, b] = [&by_step, &by_sequence].map(|way| x.recurrent(&h0, None, &weights, way).unwrap());
                assert_eq!(a.output.transpose(0, 1).unwrap(), b.output);
                let (dy, ends) = (draw(&[5, 3, state], 3, DType::F32), [&a.h_n, &a.c_n].map(Tensor::clone));
                let grads = |run: &RecurrentRun, way, dy| {
                    let [h_n, c_n] = ends.clone();
                    let want = [true, true, true, true, true, true, true, projection > 0];
                    run.grad(&x, &weights, way, [dy, h_n, c_n], want).unwrap()
                };
                assert!(grads(&a, &by_step, dy.clone()) == grads(&b, &by_sequence, dy.transpose(0, 1).unwrap()));
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
