//! Matrix products.

use super::noise::check_probability;
use crate::joint::record_biased;
use crate::{Result, Var, record, record_fused};
use maplet_tensor::{Activation, Bend, Hidden, Shape, Tensor, Trans};

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
        let (x, w, shape) = (self.value().clone(), weight.value().clone(), y.shape());
        let bent = (activation != Activation::Identity).then(|| y.clone());
        let kernel = move |dy: Tensor, want: [bool; 3]| {
            let dz = if let Some(y) = &bent { y.activation_grad(&dy, activation)? } else { dy };
            let dz = dz.reshape(rows(shape))?;
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

    /// A transformer's two dense layers in one op: `linear(dropout(bend(linear(self))))`. What comes between them, and
    /// its slope, are computed as the first product ends, and the gradient is multiplied by the slope as the second's
    /// does.
    ///
    /// `weights` and `biases` are those of the first layer and of the second.
    ///
    /// # Shapes
    /// `self: [.., in]`, weights `[hidden, in]` and `[out, hidden]`, biases `[hidden]` and `[out]` → `[.., out]`
    ///
    /// # Errors
    /// Sizes that do not fit, or a probability of dropout outside `[0, 1]`.
    pub fn feed_forward(&self, weights: [&Var; 2], biases: [Option<&Var>; 2], bend: Bend, dropout: f64) -> Result<Var> {
        let none = Var::from(Tensor::zeros([0], self.dtype()));
        let inputs = [self, weights[0], weights[1], biases[0].unwrap_or(&none), biases[1].unwrap_or(&none)];
        let given = biases.map(|bias| bias.is_some());
        check_probability("dropout", dropout)?;
        let mut rng = if dropout > 0.0 { inputs.iter().find_map(|x| x.rng()) } else { None };
        let again = rng.clone(); // draws the same mask
        let twin = move |[x, first, second, first_bias, second_bias]: [Var; 5]| {
            let layer = |activation| x.linear(&first, given[0].then_some(&first_bias), activation);
            let hidden = match bend {
                Bend::Relu => layer(Activation::Relu)?,
                Bend::Gelu => layer(Activation::Identity)?.gelu(),
            };
            let hidden = match again.clone() {
                Some(mut rng) => {
                    let mask = Tensor::dropout_mask(hidden.shape(), hidden.dtype(), dropout, &mut rng)?;
                    hidden.mul(&hidden.constant(mask))?
                }
                None => hidden,
            };
            hidden.linear(&second, given[1].then_some(&second_bias), Activation::Identity)
        };
        if ![self, weights[0], inputs[3]].iter().any(|x| x.is_recorded()) {
            return twin(inputs.map(Var::clone)); // nobody will ask for slopes
        }
        let [x, first, second, first_bias, second_bias] = inputs.map(|x| x.value().clone());
        let dropout = rng.as_mut().map(|rng| (dropout, rng));
        let hidden = Hidden::new(&x, &first, given[0].then_some(&first_bias), bend, dropout)?;
        let y = hidden.output.linear(&second, given[1].then_some(&second_bias), Activation::Identity)?;
        let kernel = move |dy: Tensor, want: [bool; 5]| {
            let matrix = |x: &Tensor| x.reshape(rows(x.shape()));
            let product = |dy: &Tensor, x: &Tensor| dy.matmul_with(&matrix(x)?, Trans { a: true, b: false });
            let dz = (want[0] || want[1] || want[3]).then(|| matrix(&hidden.grad(&dy, &second)?)).transpose()?;
            let dy = matrix(&dy)?;
            let of_dz = |wanted: bool, grad: &dyn Fn(&Tensor) -> maplet_tensor::Result<Tensor>| {
                dz.as_ref().filter(|_| wanted).map(grad).transpose()
            };
            Ok([
                of_dz(want[0], &|dz| dz.matmul(&first)?.reshape(x.shape()))?,
                of_dz(want[1], &|dz| product(dz, &x))?,
                want[2].then(|| product(&dy, &hidden.output)).transpose()?,
                of_dz(want[3], &|dz| dz.sum(0, false))?,
                want[4].then(|| dy.sum(0, false)).transpose()?,
            ])
        };
        record_fused("feed_forward", y, inputs, kernel, twin)
    }
}

/// `[.., k]` as the matrix `[rows, k]`.
fn rows(shape: Shape) -> [usize; 2] {
    let (last, before) = shape.split_last().expect("linear checked the rank");
    [before.iter().product(), *last]
}
