//! [`Bidirectional`]: any layer over sequences, both ways.

use crate::{Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{Shape, Tensor, check_lengths};

/// How the two ways become one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Merge {
    /// One after the other, on the last axis.
    #[default]
    Concat,
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// Their product.
    Mul,
}

/// Runs one layer over sequences and another over the reversed sequences, whose output is reversed again, and merges
/// both. The recurrent layers have this built in ([`RecurrentOptions::bidirectional`](crate::RecurrentOptions)), in
/// PyTorch's layout; the wrapper takes any layer that keeps the first two axes.
///
/// # Shapes
/// - input `[t, n, ..]`, or `[n, t, ..]` with [`batch_first`](Self::batch_first)
///
/// # Parameters
/// - those of the layers, as `forward_layer.…` and `backward_layer.…`
///
/// # Reference
/// Schuster & Paliwal (1997), "Bidirectional Recurrent Neural Networks".
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{Bidirectional, Gru, Merge, Module, RecurrentOptions};
/// use maplet_tensor::{DType, Rng};
///
/// let mut rng = Rng::new(42);
/// let mut gru = || Gru::new(8, 16, RecurrentOptions::new(), &mut rng);
/// let layer = Bidirectional::new(gru()?, gru()?).merge(Merge::Sum);
/// let y = layer.forward(&Var::from(Tensor::zeros([10, 2, 8], DType::F32)))?;
/// assert_eq!(y.shape(), [10, 2, 16].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
///
/// PyTorch: –; Keras: `Bidirectional`.
#[derive(Debug, Clone)]
pub struct Bidirectional<M> {
    /// The layer over the sequences.
    pub forward_layer: M,
    /// The layer over the reversed sequences.
    pub backward_layer: M,
    merge: Merge,
    batch_first: bool,
}
fields!([M: Module] Bidirectional<M>: forward_layer, backward_layer; merge, batch_first);

impl<M: Module> Bidirectional<M> {
    /// Both ways, with outputs one after the other.
    pub fn new(forward_layer: M, backward_layer: M) -> Self {
        Self { forward_layer, backward_layer, merge: Merge::Concat, batch_first: false }
    }

    /// With another way to merge the outputs.
    pub fn merge(self, merge: Merge) -> Self {
        Self { merge, ..self }
    }

    /// Time is the second axis, in the layers too.
    pub fn batch_first(self) -> Self {
        Self { batch_first: true, ..self }
    }

    /// As [`Module::forward`], with the numbers of steps of the sequences: each is reversed within its own length, and
    /// outputs beyond it are zeros. The layers see no lengths, so they must not look ahead.
    ///
    /// # Errors
    /// Those of the layers, a layer that does not keep the first two axes, and lengths that are not one of `1..=t` for
    /// each sequence.
    pub fn forward_with(&self, x: &Var, lengths: Option<&[usize]>) -> Result<Var> {
        let shape = x.shape();
        let &[first, second, ..] = shape.sizes() else {
            let what = format!("expects [t, n, ..], got {shape}");
            return Err(Error::new("bidirectional", what, "give it sequences"));
        };
        let sequences = Sequences { first, second, batch_first: self.batch_first, lengths };
        sequences.check()?;
        let a = sequences.without_padding(&sequences.kept(self.forward_layer.forward(x)?)?)?;
        let b = sequences.kept(self.backward_layer.forward(&sequences.reverse(x)?)?)?;
        let b = sequences.reverse(&b)?;
        let b = sequences.without_padding(&b)?;
        Ok(match self.merge {
            Merge::Concat => Var::concat(&[&a, &b], -1)?,
            Merge::Sum => a.add(&b)?,
            Merge::Mean => a.add(&b)?.mul_scalar(0.5),
            Merge::Mul => a.mul(&b)?,
        })
    }
}

impl<M: Module> Module for Bidirectional<M> {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.forward_with(x, None)
    }
}

/// The first two axes of sequences, and where each ends.
struct Sequences<'a> {
    first: usize,
    second: usize,
    batch_first: bool,
    lengths: Option<&'a [usize]>,
}

impl Sequences<'_> {
    fn check(&self) -> Result<()> {
        let (batch, steps) = if self.batch_first { (self.first, self.second) } else { (self.second, self.first) };
        self.lengths.map_or(Ok(()), |lengths| Ok(check_lengths("bidirectional", lengths, batch, steps)?))
    }

    /// What a layer made of the sequences, if they are still sequences.
    fn kept(&self, y: Var) -> Result<Var> {
        match y.shape().sizes() {
            [first, second, ..] if [first, second] == [&self.first, &self.second] => Ok(y),
            _ => {
                let what = format!("[{}, {}, ..] went into a layer, {} came out", self.first, self.second, y.shape());
                Err(Error::new("bidirectional", what, "keep the first two axes"))
            }
        }
    }

    /// `value(place, step, length)` of each step, with its place among all and its sequence's length.
    fn each<T>(&self, lengths: &[usize], value: impl Fn(usize, usize, usize) -> T) -> Vec<T> {
        let places = 0..self.first * self.second;
        let each = places.map(|place| {
            let (i, j) = (place / self.second, place % self.second);
            let (step, sequence) = if self.batch_first { (j, i) } else { (i, j) };
            value(place, step, lengths[sequence])
        });
        each.collect()
    }

    /// Each sequence in reverse order within its length; the padding stays.
    fn reverse(&self, x: &Var) -> Result<Var> {
        let Some(lengths) = self.lengths else { return Ok(x.flip(if self.batch_first { 1isize } else { 0 })?) };
        let stride = if self.batch_first { 1 } else { self.second };
        let from = self.each(lengths, |place, step, length| {
            let to = if step < length { length - 1 - step } else { step };
            (place - step * stride + to * stride) as i64
        });
        let (shape, count) = (x.shape(), from.len());
        let rows = x.reshape(Shape::new(&[&[count], &shape[2..]].concat())?)?;
        let ids = x.constant(Tensor::from_vec(from, [count])?);
        Ok(rows.select_rows(&ids)?.reshape(shape)?)
    }

    /// With zeros beyond the lengths.
    fn without_padding(&self, y: &Var) -> Result<Var> {
        let Some(lengths) = self.lengths else { return Ok(y.clone()) };
        let live = self.each(lengths, |_, step, length| u8::from(step < length));
        let mut shape = vec![1; y.rank()];
        shape[..2].copy_from_slice(&[self.first, self.second]);
        let mask = y.constant(Tensor::from_vec(live, Shape::new(&shape)?)?);
        Ok(mask.where_cond(y, &y.constant(Tensor::zeros([], y.dtype())))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Gru, RecurrentOptions, check_module, func};
    use maplet_tensor::Rng;

    fn gru(options: RecurrentOptions, seed: u64) -> Gru {
        Gru::new(2, 3, options, &mut Rng::new(seed)).unwrap()
    }

    #[test]
    fn behaves_as_a_module() {
        let options = RecurrentOptions::new().batch_first().without_bias();
        let mut layer = Bidirectional::new(gru(options.clone(), 1), gru(options, 2)).batch_first();
        let expect = Expect {
            input: &[2, 4, 2],
            output: &[2, 4, 6],
            parameters: &[
                ("forward_layer.weight_ih_l0", &[9, 2]),
                ("forward_layer.weight_hh_l0", &[9, 3]),
                ("backward_layer.weight_ih_l0", &[9, 2]),
                ("backward_layer.weight_hh_l0", &[9, 3]),
            ],
            refuses: &[(&[4], "bidirectional: expects [t, n, ..], got [4]; help: give it sequences")],
            ..Expect::default()
        };
        check_module(&mut layer, &expect).unwrap();
    }

    /// The wrapper around two layers is the layer that goes both ways.
    #[test]
    fn equals_the_layer_that_has_it_built_in() {
        for lengths in [None, Some(&[4, 1, 3][..])] {
            for batch_first in [false, true] {
                let options = if batch_first { RecurrentOptions::new().batch_first() } else { RecurrentOptions::new() };
                let both = gru(options.clone().bidirectional(), 1);
                let (mut a, mut b) = (gru(options.clone(), 2), gru(options, 3));
                a.weights = vec![both.weights[0].clone()];
                b.weights = vec![both.weights[1].clone()];
                let wrapper = Bidirectional::new(a, b);
                let wrapper = if batch_first { wrapper.batch_first() } else { wrapper };
                let shape = if batch_first { [3, 4, 2] } else { [4, 3, 2] };
                let x = Var::from(Tensor::normal(shape, 0.0f32, 1.0, &mut Rng::new(4)));
                let want = both.forward_with(&x, None, lengths).unwrap().0;
                let found = wrapper.forward_with(&x, lengths).unwrap();
                assert!(found.value().sub(want.value()).unwrap().squared_norm() < 1e-12, "{lengths:?} {batch_first}");
            }
        }
    }

    #[test]
    fn merges_and_refusals() {
        let sums: fn(&Var) -> Result<Var> = |x| Ok(x.cumsum(0)?);
        let layer = |merge| Bidirectional::new(func(sums), func(sums)).merge(merge);
        let x = Var::from(Tensor::from([[[1.0f32]], [[2.0]], [[4.0]]]));
        let run = |merge| layer(merge).forward(&x).unwrap().value().to_vec::<f32>().unwrap();
        // Sums from the front: 1, 3, 7; from the back: 7, 6, 4.
        assert_eq!(run(Merge::Concat), [1.0, 7.0, 3.0, 6.0, 7.0, 4.0]);
        assert_eq!(run(Merge::Sum), [8.0, 9.0, 11.0]);
        assert_eq!(run(Merge::Mean), [4.0, 4.5, 5.5]);
        assert_eq!(run(Merge::Mul), [7.0, 18.0, 28.0]);
        let text = layer(Merge::Sum).forward_with(&x, Some(&[4])).err().unwrap().to_string();
        assert_eq!(text, "bidirectional: length 4 of sequence 0, which has 3 steps; help: use 1 to 3");
        let loses: [fn(&Var) -> Result<Var>; 3] =
            [|x| Ok(x.sum(.., false)?), |x| Ok(x.sum(0, false)?.squeeze(0)?), |x| Ok(x.slice(0, 0, 1)?)];
        for (loses, came) in loses.into_iter().zip(["[]", "[1]", "[1, 1, 1]"]) {
            for lengths in [None, Some(&[2][..])] {
                for layer in [Bidirectional::new(func(loses), func(sums)), Bidirectional::new(func(sums), func(loses))]
                {
                    let text = layer.forward_with(&x, lengths).err().unwrap().to_string();
                    let expected = format!("bidirectional: [3, 1, ..] went into a layer, {came} came out");
                    assert_eq!(text, format!("{expected}; help: keep the first two axes"));
                }
            }
        }
    }
}
