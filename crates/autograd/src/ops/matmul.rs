//! Matrix products.

use crate::joint::record_biased;
use crate::{Result, Var, record};
use maplet_tensor::{Activation, Shape, Tensor, Trans};

impl Var {
    /// The matrix product over the last two axes; the axes before them are broadcast.
    ///
    /// # Shapes
    /// `[.., m, k] × [.., k, n] → [.., m, n]`
    ///
    /// # Errors
    /// Fewer than two axes, inner sizes that differ, or batch axes that do not broadcast.
    pub fn matmul(&self, other: &Var) -> Result<Var> {
        self.matmul_with(other, Trans::default())
    }

    /// As [`matmul`](Self::matmul), with the last two axes of either operand exchanged first.
    ///
    /// # Errors
    /// As [`matmul`](Self::matmul).
    pub fn matmul_with(&self, other: &Var, trans: Trans) -> Result<Var> {
        let y = self.value().matmul_with(other.value(), trans)?;
        let (a, b, a_shape, b_shape) = (self.clone(), other.clone(), self.shape(), other.shape());
        let Trans { a: ta, b: tb } = trans;
        record("matmul", y)
            .pull(self, move |dy| {
                let da = match ta {
                    false => dy.matmul_with(&b, Trans { a: false, b: !tb })?, // dA = dY Bᵀ
                    true => b.matmul_with(&dy, Trans { a: tb, b: true })?,    // of Aᵀ B: dA = B dYᵀ
                };
                da.sum_to(a_shape)
            })
            .pull(other, move |dy| {
                let db = match tb {
                    false => a.matmul_with(&dy, Trans { a: !ta, b: false })?, // dB = Aᵀ dY
                    true => dy.matmul_with(&a, Trans { a: true, b: ta })?,    // of A Bᵀ: dB = dYᵀ A
                };
                db.sum_to(b_shape)
            })
            .done()
    }

    /// `activation(self · weightᵀ + bias)` in one op.
    ///
    /// # Shapes
    /// `self: [.., in]`, `weight: [out, in]`, `bias: [out]` → `[.., out]`
    ///
    /// # Errors
    /// Sizes that do not fit.
    pub fn linear(&self, weight: &Var, bias: Option<&Var>, activation: Activation) -> Result<Var> {
        let y = self.value().linear(weight.value(), bias.map(Var::value), activation)?;
        let (x, w, output) = (self.value().clone(), weight.value().clone(), y.clone());
        let kernel = move |dy: Tensor, want: [bool; 3]| {
            let dz = output.activation_grad(&dy, activation)?.reshape(rows(output.shape()))?;
            let dx = want[0].then(|| dz.matmul(&w)?.reshape(x.shape())).transpose()?;
            let dw = want[1].then(|| dz.matmul_with(&x.reshape(rows(x.shape()))?, Trans { a: true, b: false }));
            let db = want[2].then(|| dz.sum(0, false)).transpose()?;
            Ok([dx, dw.transpose()?, db])
        };
        let twin = move |x: &Var, weight: &Var, bias: Option<&Var>| {
            let y = x.reshape(rows(x.shape()))?.matmul_with(weight, Trans { a: false, b: true })?;
            let y = if let Some(bias) = bias { y.add(bias)? } else { y };
            y.activated(activation)?.reshape(x.shape().with_size(x.rank() - 1, weight.shape()[0]))
        };
        record_biased("linear", y, [self, weight], bias, kernel, twin)
    }
}

/// `[.., k]` as the matrix `[rows, k]`.
fn rows(shape: Shape) -> [usize; 2] {
    let (last, before) = shape.split_last().expect("linear checked the rank");
    [before.iter().product(), *last]
}
