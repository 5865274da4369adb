//! Whole sequences through one direction of a recurrent layer.

use super::table::{Case, Run, other, sample};
use maplet_autograd::{Cell, Recurrence, RecurrentWeights, Tensor, Var};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |inputs: &[&Tensor], run: Run| cases.push(Case::many("recurrent", inputs, run));
    let (x, h0) = (sample(&[3, 2, 2]), sample(&[2, 2]));
    for (cell, lengths) in [(Cell::RnnTanh, None), (Cell::RnnRelu, Some(&[2, 3][..])), (Cell::Gru, Some(&[3, 1][..]))] {
        let width = cell.gates() * 2;
        let (w_ih, w_hh, b_ih, b_hh) = (sample(&[width, 2]), other(&[width, 2]), sample(&[width]), other(&[width]));
        let inputs = [&x, &h0, &w_ih, &w_hh, &b_ih, &b_hh];
        add(&inputs, run(cell, lengths.is_some(), lengths));
        add(&inputs[..4], run(cell, false, lengths));
    }
    let (w_ih, c0, b_ih, b_hh) = (sample(&[8, 2]), other(&[2, 2]), sample(&[8]), other(&[8]));
    add(&[&x, &h0, &c0, &w_ih, &other(&[8, 2]), &b_ih, &b_hh], run(Cell::Lstm, false, None));
    let (h0, w_hh, w_hr) = (sample(&[2, 1]), other(&[8, 1]), sample(&[1, 2]));
    add(&[&x, &h0, &c0, &w_ih, &w_hh, &b_ih, &b_hh, &w_hr], run(Cell::Lstm, true, Some(&[2, 3])));
    cases
}

/// On input, `h0`, an LSTM's `c0`, and the weights as far as they are there.
fn run(cell: Cell, reverse: bool, lengths: Option<&[usize]>) -> Run {
    let way = Recurrence { cell, reverse, lengths: lengths.map(Into::into), by_sequence: reverse };
    Box::new(move |x| {
        let states = if cell == Cell::Lstm { 2 } else { 1 };
        let weight = |i: usize| x.get(1 + states + i).cloned();
        let weights = RecurrentWeights {
            weight_ih: x[1 + states].clone(),
            weight_hh: x[2 + states].clone(),
            bias_ih: weight(2),
            bias_hh: weight(3),
            weight_hr: weight(4),
        };
        let mut outputs: Vec<Var> = x[0].recurrent(&x[1], x[2..=states].first(), &weights, &way)?.into();
        outputs.truncate(1 + states);
        Ok(outputs)
    })
}
