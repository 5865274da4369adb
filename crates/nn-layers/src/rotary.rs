//! [`RotaryEmbedding`]: positions as rotations of queries and keys.

use crate::module::expect_float;
use crate::plan::weight_shape;
use crate::positions::{angles, check_reach};
use crate::{Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{Shape, Tensor};

/// Which features are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RotaryPairs {
    /// Neighbors, `(0, 1), (2, 3), …`: the paper's; also GPT-J's and torchtune's.
    #[default]
    Interleaved,
    /// Feature `i` with feature `i + d/2`: GPT-NeoX's; also that of Llama in Hugging Face's files.
    HalfSplit,
}

/// Rotates pairs of features by an angle that grows with the position, so that products of queries and keys depend on
/// their distance alone. For the queries and keys of each head, before attention.
///
/// `(a, b) ↦ (a cos φ − b sin φ, a sin φ + b cos φ)` with `φ = t · base^(−2i/d)` for pair `i` at position `t`.
///
/// PyTorch: –; Keras: `keras_hub.layers.RotaryEmbedding`.
///
/// # Shapes
/// - input and output `[.., t, d]`; [`rotate_rows`](Self::rotate_rows): `[.., t, heads · d]`
///
/// # Reference
/// Su, Lu, Pan, Murtadha, Wen & Liu (2021), "RoFormer: Enhanced Transformer with Rotary Position Embedding", eq. 34.
///
/// # Example
/// ```
/// use maplet_autograd::{AttentionOptions, Tensor, Var};
/// use maplet_nn_layers::{Module, RotaryEmbedding};
/// use maplet_tensor::DType;
///
/// let rotary = RotaryEmbedding::new(1024, 8)?;
/// let [q, k, v] = [1.0f32, 2.0, 3.0].map(|x| Var::from(Tensor::full([2, 4, 6, 8], x))); // [n, heads, t, d]
/// let (q, k) = (rotary.forward(&q)?, rotary.forward(&k)?);
/// let y = q.scaled_dot_product_attention(&k, &v, &AttentionOptions::new().causal())?;
/// assert_eq!(y.shape(), [2, 4, 6, 8].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RotaryEmbedding {
    /// `φ`, `[max_len, d/2]`
    angles: Tensor,
    pairs: RotaryPairs,
}
fields!(RotaryEmbedding: ; angles, pairs);

impl RotaryEmbedding {
    /// Angles for `max_len` positions of heads with `d` features, base 10000, neighbors as pairs.
    ///
    /// # Errors
    /// A size of zero or too large, or an odd `d`.
    pub fn new(max_len: usize, d: usize) -> Result<Self> {
        Self::with_base(max_len, d, 10000.0)
    }

    /// As [`new`](Self::new), with another base: longer wavelengths for longer sequences.
    ///
    /// # Errors
    /// As [`new`](Self::new), or a base that is not positive.
    pub fn with_base(max_len: usize, d: usize, base: f64) -> Result<Self> {
        weight_shape("rotary_embedding", &[("max_len", max_len), ("d", d)])?;
        if d % 2 == 1 {
            return Err(Error::new(
                "rotary_embedding",
                format!("d is {d}"),
                "features come in pairs: use an even number",
            ));
        }
        if !(base > 0.0 && base.is_finite()) {
            return Err(Error::new("rotary_embedding", format!("the base is {base}"), "use a positive number"));
        }
        Ok(Self { angles: angles(max_len, d, base)?, pairs: RotaryPairs::default() })
    }

    /// Which features are rotated together.
    pub fn pairs(mut self, pairs: RotaryPairs) -> Self {
        self.pairs = pairs;
        self
    }

    /// `x: [.., t, d]`, whose first position is `first`.
    ///
    /// # Errors
    /// Another number of features, or positions beyond the table.
    pub fn rotate(&self, x: &Var, first: usize) -> Result<Var> {
        let shape = x.shape();
        match *shape {
            [ref lead @ .., t, d] if d == self.features() => self.rotated(x, lead, t, 1, first),
            _ => Err(self.misfit(x, "d")),
        }
    }

    /// `x: [.., t, heads · d]`, whose first position is `first`: each head's features in each row.
    ///
    /// # Errors
    /// Rows that are no heads of these features, or positions beyond the table.
    pub fn rotate_rows(&self, x: &Var, first: usize) -> Result<Var> {
        let shape = x.shape();
        match *shape {
            [ref lead @ .., t, row] if row % self.features() == 0 => {
                self.rotated(x, lead, t, row / self.features(), first)
            }
            _ => Err(self.misfit(x, "heads · d")),
        }
    }

    fn rotated(&self, x: &Var, lead: &[usize], t: usize, heads: usize, first: usize) -> Result<Var> {
        expect_float("rotary_embedding", x)?;
        check_reach("rotary_embedding", first, t, self.angles.shape()[0])?;
        // The two of a pair lie along `axis` of size 2.
        let half = self.features() / 2;
        let (pair, axis) = match self.pairs {
            RotaryPairs::Interleaved => ([half, 2], -1),
            RotaryPairs::HalfSplit => ([2, half], -2),
        };
        let angles = self.angles.slice(0, first, first + t)?.unsqueeze(1)?.unsqueeze(axis)?;
        let [cos, sin] = [angles.cos(), angles.sin()].map(|table| x.constant(table.to_dtype(x.dtype())));
        let apart = x.reshape(Shape::new(&[lead, &[t, heads], &pair].concat())?)?;
        let [a, b] = [apart.slice(axis, 0, 1)?, apart.slice(axis, 1, 2)?];
        let turned = [a.mul(&cos)?.sub(&b.mul(&sin)?)?, a.mul(&sin)?.add(&b.mul(&cos)?)?];
        Ok(Var::concat(&turned.each_ref(), axis)?.reshape(x.shape())?)
    }

    fn features(&self) -> usize {
        2 * self.angles.shape()[1]
    }

    fn misfit(&self, x: &Var, row: &str) -> Error {
        let what = format!("expects [.., t, {row}] with d = {}, got {}", self.features(), x.shape());
        Error::new("rotary_embedding", what, "make it with the number of features of one head")
    }
}

/// From position 0 on.
impl Module for RotaryEmbedding {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.rotate(x, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};
    use maplet_tensor::{DType, Rng};

    #[test]
    fn rotates_pairs_by_the_formula() {
        let (t, d, first) = (4, 6, 30);
        let x = Tensor::normal([2, t, d], 0.0f64, 1.0, &mut Rng::new(1));
        let values = x.as_slice::<f64>().unwrap();
        for pairs in [RotaryPairs::Interleaved, RotaryPairs::HalfSplit] {
            let layer = RotaryEmbedding::with_base(40, d, 500.0).unwrap().pairs(pairs);
            let y = layer.rotate(&Var::from(&x), first).unwrap();
            for (at, &y) in y.value().as_slice::<f64>().unwrap().iter().enumerate() {
                let (row, f) = (at / d, at % d);
                let (pair, second) = match pairs {
                    RotaryPairs::Interleaved => (f / 2, f % 2 == 1),
                    RotaryPairs::HalfSplit => (f % 3, f >= 3),
                };
                let places =
                    if pairs == RotaryPairs::Interleaved { [2 * pair, 2 * pair + 1] } else { [pair, pair + 3] };
                let [a, b] = places.map(|place| values[row * d + place]);
                let angle = (first + row % t) as f64 * 500f64.powf(-2.0 * pair as f64 / d as f64);
                let (sin, cos) = angle.sin_cos();
                let want = if second { a * sin + b * cos } else { a * cos - b * sin };
                assert!((y - want).abs() < 1e-13, "{pairs:?} {at}: {y} {want}"); // sines of angles below 40
            }
            let rows = x.reshape([1, 2 * t, d]).unwrap().split(t, 1).unwrap();
            let rows = Tensor::concat(&[&rows[0], &rows[1]], -1).unwrap(); // two heads side by side
            let joined = layer.rotate_rows(&Var::from(rows), first).unwrap();
            let apart = y.value().split(1, 0).unwrap();
            assert_eq!(joined.value(), &Tensor::concat(&[&apart[0], &apart[1]], -1).unwrap());
        }
    }

    /// What it is for: the product of a query and a key depends on their distance alone.
    #[test]
    fn products_depend_on_distance_alone() {
        let rotary = RotaryEmbedding::new(200, 8).unwrap();
        let [q, k] = [1, 2].map(|seed| Var::from(Tensor::normal([1, 8], 0.0f64, 1.0, &mut Rng::new(seed))));
        let product = |i, j| {
            let y = rotary.rotate(&q, i).unwrap().mul(&rotary.rotate(&k, j).unwrap()).unwrap();
            y.sum(.., false).unwrap().item::<f64>().unwrap()
        };
        assert!((product(7, 3) - product(107, 103)).abs() < 1e-12);
        assert!((product(7, 3) - product(7, 4)).abs() > 1e-3);
    }

    #[test]
    fn behaves_as_a_module_and_refuses_what_does_not_fit() {
        let beyond = "rotary_embedding: position 7 is beyond the table of 7; \
                      help: make max_len larger or the sequence shorter";
        let features = "rotary_embedding: expects [.., t, d] with d = 4, got [2, 3, 6]; \
                        help: make it with the number of features of one head";
        let refuses: &[(&[usize], &str)] = &[(&[2, 8, 4], beyond), (&[2, 3, 6], features)];
        let expect = Expect { input: &[2, 3, 5, 4], output: &[2, 3, 5, 4], refuses, ..Expect::default() };
        check_module(&mut RotaryEmbedding::new(7, 4).unwrap(), &expect).unwrap();
        let text = |max_len, d, base| RotaryEmbedding::with_base(max_len, d, base).err().unwrap().to_string();
        let odd = "rotary_embedding: d is 3; help: features come in pairs: use an even number";
        assert_eq!(text(5, 3, 1e4), odd);
        assert_eq!(text(0, 4, 1e4), "rotary_embedding: max_len is 0; help: use 1 or more");
        assert_eq!(text(5, 4, -1.0), "rotary_embedding: the base is -1; help: use a positive number");
        let rotary = RotaryEmbedding::new(7, 4).unwrap();
        let text = rotary.rotate_rows(&Tensor::zeros([2, 6], DType::F32).into(), 0).unwrap_err().to_string();
        let rows = "rotary_embedding: expects [.., t, heads · d] with d = 4, got [2, 6]; \
                    help: make it with the number of features of one head";
        assert_eq!(text, rows);
    }
}
