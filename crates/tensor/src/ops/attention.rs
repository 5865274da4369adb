//! Attention in one kernel, above its adjoint: memory linear in the number of positions, also in the backward pass.
//!
//! Here: what is asked and where the heads lie. The loops are in `kernel.rs` and `backward.rs` under `attention`.

mod kernel;
mod backward;
mod rows;
#[cfg(test)]
mod tests;

use super::dropout::Dropout;
use super::norm::check_same;
use crate::dtype::dispatch_float;
use crate::ops::matmul::batch_index;
use crate::{DType, Error, Result, Shape, Tensor};
use kernel::{Kernel, Mask};
use rows::AttentionMath;

const OP: &str = "scaled_dot_product_attention";

/// How the heads of attention lie in the tensors of queries, keys, values and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    /// As an axis: `[.., heads, t, d]`.
    Axis,
    /// Side by side in each row, so many heads of queries: `[n, t, heads · d]`.
    Joined(usize),
    /// As [`Joined`](Self::Joined), with queries, keys and values side by side in one tensor: `[n, t, 3 · heads · d]`.
    Packed(usize),
}

/// Who looks at whom, and how sharply.
#[derive(Debug, Clone, Default)]
pub struct Attend {
    /// Broadcasts to `[.., heads, t_q, t_k]`. Of type `u8`: a query looks at a key where it is not 0; of the queries'
    /// type: it is added to the scores.
    pub mask: Option<Tensor>,
    /// Query `i` looks at the keys up to `i` plus this number, which is 0 unless earlier keys come from a cache.
    pub causal: Option<usize>,
    /// What scores are multiplied by; `1 / √d` if nothing.
    pub scale: Option<f64>,
    /// The probability that a weight is dropped.
    pub dropout: f64,
    /// The first number of the generator of the dropout's mask: see [`Tensor::dropout_mask`].
    pub seed: u64,
}

/// Attention weighs values by how well their keys fit a query.
impl Tensor {
    /// `softmax(q · kᵀ · scale + mask) · v`, head by head, for `[q, k, v]`.
    ///
    /// Also returns `ln Σ exp(scores)` of each query, `[.., heads, t_q]`, for the adjoint. Memory beside the outputs: a
    /// block of scores for each thread.
    ///
    /// # Shapes
    /// - `q: [.., heads, t_q, d]`, `k: [.., kv_heads, t_k, d]`, `v: [.., kv_heads, t_k, d_v]`, output:
    ///   `[.., heads, t_q, d_v]`; with [`Heads::Joined`] `[n, t, heads · d]` in all four. Each head of keys serves
    ///   `heads / kv_heads` neighboring heads of queries. With [`Heads::Packed`] all three inputs are the same tensor.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float, a dropout outside `[0, 1)`.
    ///
    /// # Numerics
    /// A query that may look at no key gets zeros, and no gradient, as in PyTorch.
    ///
    /// # Reference
    /// Vaswani et al. (2017), "Attention Is All You Need", eq. 1. Milakov & Gimelshein (2018), "Online normalizer
    /// calculation for softmax"; Dao, Fu, Ermon, Rudra & Ré (2022), "FlashAttention: Fast and Memory-Efficient Exact
    /// Attention with IO-Awareness".
    pub fn attention(inputs: [&Tensor; 3], heads: Heads, attend: &Attend) -> Result<(Tensor, Tensor)> {
        let plan = Plan::new(inputs, heads, attend)?;
        dispatch_float!(inputs[0].dtype(), OP, T => Ok(Kernel::<T>::new(&plan, inputs, attend).forward()))
    }

    /// Adjoint of [`attention`](Self::attention); `outputs` are what it returned, `dy` is the gradient of the first.
    /// Gives the gradients of the inputs that `want` asks for; with [`Heads::Packed`] the first is that of the whole
    /// tensor.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    pub fn attention_grad(
        inputs: [&Tensor; 3],
        heads: Heads,
        attend: &Attend,
        [y, sums]: [&Tensor; 2],
        dy: &Tensor,
        want: [bool; 3],
    ) -> Result<[Option<Tensor>; 3]> {
        let plan = Plan::new(inputs, heads, attend)?;
        check_same("attention_grad", dy, y)?;
        y.same_dtype("attention_grad", inputs[0])?;
        sums.same_dtype("attention_grad", y)?;
        if y.shape() != plan.output || sums.shape() != plan.sums() {
            let what = format!("outputs {} and {} are not of these inputs", y.shape(), sums.shape());
            return Err(Error::shape("attention_grad", what, "they are what attention returned"));
        }
        let packed = matches!(heads, Heads::Packed(_));
        dispatch_float!(inputs[0].dtype(), OP, T => {
            let kernel = Kernel::<T>::new(&plan, inputs, attend);
            let want = if packed { [true; 3] } else { want };
            Ok(kernel.backward(y.slice_of(), sums.slice_of(), dy.slice_of(), want, inputs.map(Tensor::shape), packed))
        })
    }
}

/// Where the rows of the heads begin in a tensor.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    /// Elements from one sample, head and row to the next.
    sample: usize,
    head: usize,
    row: usize,
}

impl Place {
    fn axis(heads: usize, t: usize, d: usize) -> Self {
        Self { start: 0, sample: heads * t * d, head: t * d, row: d }
    }

    /// Heads of part `part` of `parts` that lie side by side in each row.
    fn joined(heads: usize, t: usize, d: usize, [part, parts]: [usize; 2]) -> Self {
        let row = heads * d;
        Self { start: part * row, sample: parts * t * row, head: d, row: parts * row }
    }

    fn of(&self, [sample, head, row]: [usize; 3]) -> usize {
        self.start + sample * self.sample + head * self.head + row * self.row
    }
}

/// The sizes of a problem, checked.
struct Plan {
    /// The axes of the batch, and the heads of queries.
    lead: Shape,
    heads: usize,
    /// Heads of queries for each head of keys.
    group: usize,
    t_q: usize,
    t_k: usize,
    d: usize,
    d_v: usize,
    /// Of queries, keys, values and output.
    places: [Place; 4],
    output: Shape,
}

impl Plan {
    fn new([q, k, v]: [&Tensor; 3], heads: Heads, attend: &Attend) -> Result<Self> {
        q.same_dtype(OP, k)?;
        q.same_dtype(OP, v)?;
        q.dtype().expect_float(OP)?;
        if !(0.0..1.0).contains(&attend.dropout) {
            let what = format!("the probability of dropout is {}", attend.dropout);
            return Err(Error::value(OP, what, "use 0 or more, and less than 1"));
        }
        let plan = match heads {
            Heads::Axis => Self::with_axis(q.shape(), k.shape(), v.shape())?,
            Heads::Joined(heads) => Self::joined(q.shape(), k.shape(), v.shape(), heads)?,
            Heads::Packed(heads) => Self::packed(q.shape(), heads)?,
        };
        if let Some(mask) = &attend.mask {
            plan.check_mask(mask, q)?;
        }
        Ok(plan)
    }

    fn with_axis(q: Shape, k: Shape, v: Shape) -> Result<Self> {
        let misfit = || {
            let help = "they are [.., heads, t_q, d], [.., heads, t_k, d] and [.., heads, t_k, d_v]";
            Error::shape(OP, format!("q {q}, k {k} and v {v} do not fit"), help)
        };
        let (&[ref lead @ .., t_q, d], &[ref k_lead @ .., t_k, k_d], &[ref v_lead @ .., v_t, d_v]) = (&*q, &*k, &*v)
        else {
            return Err(misfit());
        };
        let (heads, kv_heads) = (lead.last().copied().unwrap_or(1), k_lead.last().copied().unwrap_or(1));
        let batch = |lead: &[usize]| lead[..lead.len().saturating_sub(1)].to_vec();
        if d != k_d || t_k != v_t || k_lead != v_lead || lead.len() != k_lead.len() || batch(lead) != batch(k_lead) {
            return Err(misfit());
        }
        let places = [(heads, t_q, d), (kv_heads, t_k, d), (kv_heads, t_k, d_v), (heads, t_q, d_v)];
        Ok(Self {
            lead: Shape::new(lead)?,
            heads,
            group: group(heads, kv_heads)?,
            t_q,
            t_k,
            d,
            d_v,
            places: places.map(|(heads, t, d)| Place::axis(heads, t, d)),
            output: q.with_size(q.rank() - 1, d_v),
        })
    }

    fn joined(q: Shape, k: Shape, v: Shape, heads: usize) -> Result<Self> {
        let misfit = || {
            let help = "they are [n, t_q, heads · d], [n, t_k, heads · d] and [n, t_k, heads · d_v]";
            Error::shape(OP, format!("q {q}, k {k} and v {v} do not fit, with {heads} heads"), help)
        };
        let (&[n, t_q, q_row], &[k_n, t_k, k_row], &[v_n, v_t, v_row]) = (&*q, &*k, &*v) else {
            return Err(misfit());
        };
        let d = split_row(q_row, heads)?;
        let kv_heads = k_row.checked_div(d).unwrap_or(heads);
        let group = group(heads, kv_heads)?;
        if n != k_n || n != v_n || t_k != v_t || kv_heads * d != k_row || v_row % kv_heads != 0 {
            return Err(misfit());
        }
        let d_v = v_row / kv_heads;
        let places = [(heads, t_q, d), (kv_heads, t_k, d), (kv_heads, t_k, d_v), (heads, t_q, d_v)];
        Ok(Self {
            lead: Shape::new(&[n, heads])?,
            heads,
            group,
            t_q,
            t_k,
            d,
            d_v,
            places: places.map(|(heads, t, d)| Place::joined(heads, t, d, [0, 1])),
            output: Shape::new(&[n, t_q, heads * d_v])?,
        })
    }

    fn packed(qkv: Shape, heads: usize) -> Result<Self> {
        let &[n, t, row] = &*qkv else {
            return Err(Error::shape(OP, format!("expects [n, t, 3 · heads · d], got {qkv}"), ""));
        };
        let d = split_row(row, heads.saturating_mul(3))?;
        let place = |part, parts| Place::joined(heads, t, d, [part, parts]);
        Ok(Self {
            lead: Shape::new(&[n, heads])?,
            heads,
            group: 1,
            t_q: t,
            t_k: t,
            d,
            d_v: d,
            places: [place(0, 3), place(1, 3), place(2, 3), place(0, 1)],
            output: Shape::new(&[n, t, heads * d])?,
        })
    }

    /// The shape of all scores, which never exist at once.
    fn scores(&self) -> Result<Shape> {
        Shape::new(&[self.lead.sizes(), &[self.t_q, self.t_k]].concat())
    }

    /// The shape of the logarithms of sums.
    fn sums(&self) -> Shape {
        Shape::of(&[self.lead.sizes(), &[self.t_q]].concat())
    }

    fn check_mask(&self, mask: &Tensor, q: &Tensor) -> Result<()> {
        if mask.dtype() != DType::U8 && mask.dtype() != q.dtype() {
            let what = format!("the mask is {}, the queries are {}", mask.dtype(), q.dtype());
            return Err(Error::dtype(OP, what, format!("masks are u8, or {} to be added to the scores", q.dtype())));
        }
        let scores = self.scores()?;
        if mask.shape().broadcast(OP, &scores).is_ok_and(|shape| shape == scores) {
            return Ok(());
        }
        let what = format!("the mask {} does not broadcast to the scores {scores}", mask.shape());
        Err(Error::shape(OP, what, "a mask is [.., heads, t_q, t_k], where every axis may be 1"))
    }

    /// Where the mask's matrix of each head begins, and the elements between its rows and columns.
    fn mask_places(&self, mask: &Tensor) -> (Vec<usize>, [usize; 2]) {
        let shape = mask.shape();
        let from_end = |axis: usize| shape.iter().rev().nth(axis).copied().unwrap_or(1);
        let (rows, columns) = (from_end(1), from_end(0));
        let lead = Shape::of(&shape[..shape.rank().saturating_sub(2)]);
        let index = batch_index(&self.lead, &lead);
        let starts = (0..self.lead.elements()).map(|head| index(head) * rows * columns).collect();
        (starts, [if rows == 1 { 0 } else { columns }, usize::from(columns != 1)])
    }
}

/// The heads of queries that share one head of keys.
fn group(heads: usize, kv_heads: usize) -> Result<usize> {
    match (heads, kv_heads) {
        (0, 0) => Ok(1),
        (1.., 1..) if heads.is_multiple_of(kv_heads) => Ok(heads / kv_heads),
        _ => {
            let what = format!("{heads} heads of queries cannot share {kv_heads} heads of keys");
            Err(Error::shape(OP, what, "the heads of keys must divide those of queries"))
        }
    }
}

fn split_row(row: usize, heads: usize) -> Result<usize> {
    if heads > 0 && row.is_multiple_of(heads) {
        return Ok(row / heads);
    }
    let what = format!("rows of {row} numbers do not divide into {heads} heads");
    Err(Error::shape(OP, what, "the number of heads must divide the size of a row"))
}

impl<'a, T: AttentionMath> Kernel<'a, T> {
    fn new(plan: &'a Plan, [q, k, v]: [&'a Tensor; 3], attend: &'a Attend) -> Self {
        let mask = attend.mask.as_ref().map(|mask| {
            let (starts, [row, column]) = plan.mask_places(mask);
            match mask.dtype() {
                DType::U8 => Mask { may: mask.slice_of(), bias: &[], starts, row, column },
                _ => Mask { may: &[], bias: mask.slice_of(), starts, row, column },
            }
        });
        Self {
            plan,
            q: q.slice_of(),
            k: k.slice_of(),
            v: v.slice_of(),
            mask,
            causal: attend.causal.map(|first| first.min(plan.t_k)),
            scale: T::from_f64(attend.scale.unwrap_or(1.0 / (plan.d.max(1) as f64).sqrt())),
            drop: (attend.dropout > 0.0).then(|| Dropout::new(attend.dropout, attend.seed)),
        }
    }
}
