//! The matrix product, batched, and the dense layer built on it.

use crate::dtype::dispatch_float;
use crate::par::{self, Shared};
use crate::product::{Finish, Matrix, Onto, finished_product, product};
use crate::simd::vectorized;
use crate::{Error, Float, Result, Shape, Tensor};
use serde::{Deserialize, Serialize};

/// Which operands of a matrix product are transposed (their last two axes swapped).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trans {
    /// The left one.
    pub a: bool,
    /// The right one.
    pub b: bool,
}

/// What a fused operation applies to its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// `max(x, 0)`
    Relu,
}

impl Tensor {
    /// Matrix product over the last two axes; the axes before them are a batch and broadcast.
    ///
    /// # Shapes
    /// - `self: [.., m, k]`, `other: [.., k, n]`, output: `[.., m, n]`
    ///
    /// # Errors
    /// Fewer than two axes, inner sizes or batch axes that do not fit, types that differ or are not float.
    ///
    /// # Numerics
    /// Sums run over at most 256 products at a time, or in as many partial sums as a vector has lanes, in an order that
    /// depends on the sizes alone.
    ///
    /// # Example
    /// ```
    /// use maplet_tensor::Tensor;
    ///
    /// let a = Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(a.matmul(&a)?, Tensor::from([[7.0f32, 10.0], [15.0, 22.0]]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        self.matmul_with(other, Trans::default())
    }

    /// [`matmul`](Self::matmul) of transposed operands, without moving them.
    ///
    /// # Errors
    /// As [`matmul`](Self::matmul).
    pub fn matmul_with(&self, other: &Tensor, trans: Trans) -> Result<Tensor> {
        self.same_dtype("matmul", other)?;
        let (a_batch, [m, k]) = matrix_axes(self, trans.a)?;
        let (b_batch, [k_other, n]) = matrix_axes(other, trans.b)?;
        if k != k_other {
            let turned = |trans| if trans { " transposed" } else { "" };
            let (a, b) = (turned(trans.a), turned(trans.b));
            let what = format!("inner sizes differ: {}{a} × {}{b}", self.shape(), other.shape());
            let rows = if trans.b { "columns" } else { "rows" };
            return Err(Error::shape("matmul", what, format!("the right operand needs {k} {rows}")));
        }
        let batch = a_batch.broadcast("matmul", &b_batch)?;
        let shape = Shape::new(&[batch.sizes(), &[m, n]].concat())?;
        dispatch_float!(self.dtype(), "matmul", T => Ok(Tensor::build(shape, |out: &mut [T]| {
            let (a, b) = (self.slice_of::<T>(), other.slice_of::<T>());
            let a_at = |i| Matrix::new(&a[i * m * k..][..m * k], if trans.a { m } else { k }, trans.a);
            let b_at = |i| Matrix::new(&b[i * k * n..][..k * n], if trans.b { k } else { n }, trans.b);
            if b_batch.elements() == 1 && batch == a_batch && !trans.a {
                let a = Matrix::new(a, k, false); // one tall product
                return product([batch.elements() * m, k, n], a, b_at(0), out, Onto::Nothing);
            }
            let (a_index, b_index) = (batch_index(&batch, &a_batch), batch_index(&batch, &b_batch));
            let shared = Shared::new(out);
            par::tasks(batch.elements(), 0.03 * (m * k * n) as f64, |i| {
                // SAFETY: each i has a matrix of its own.
                let out = unsafe { shared.slice(i * m * n, m * n) };
                product([m, k, n], a_at(a_index(i)), b_at(b_index(i)), out, Onto::Nothing);
            });
        })))
    }

    /// The dense layer in one operation: `activation(self · weightᵀ + bias)`.
    ///
    /// # Shapes
    /// - `self: [.., in]`, `weight: [out, in]`, `bias: [out]`, output: `[.., out]`
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
        let shape = self.linear_shape(weight, bias)?;
        dispatch_float!(self.dtype(), "linear", T => Ok(match activation {
            Activation::Identity => self.linear_with::<T>(shape, weight, bias, None),
            activation => {
                let work = |_, y: &mut [T]| finish(y, activation);
                self.linear_with(shape, weight, bias, Some(Finish { work: &work, cost: 0.1 }))
            }
        }))
    }

    /// The shape of the dense layer's output.
    pub(super) fn linear_shape(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Shape> {
        let [out_features, in_features] = weight.dims("linear")?;
        self.same_dtype("linear", weight)?;
        let shape = self.shape();
        if shape.last() != Some(&in_features) {
            let what = format!("input {shape} and weight {} differ in their last sizes", weight.shape());
            return Err(Error::shape("linear", what, format!("the input's last axis must be {in_features}")));
        }
        if let Some(bias) = bias {
            self.same_dtype("linear", bias)?;
            check_bias("linear", bias, out_features)?;
        }
        Ok(shape.with_size(shape.len() - 1, out_features))
    }

    /// The dense layer, with an output of this shape, and what is done to it. `T` is the type of `self`.
    pub(super) fn linear_with<T: Float>(
        &self,
        shape: Shape,
        weight: &Tensor,
        bias: Option<&Tensor>,
        finish: Option<Finish<'_, T>>,
    ) -> Tensor {
        let (x, weight) = (self.slice_of::<T>(), weight.slice_of::<T>());
        let (in_features, out_features) = (self.shape()[shape.rank() - 1], shape[shape.rank() - 1]);
        let rows = shape[..shape.rank() - 1].iter().product();
        Tensor::build(shape, |out: &mut [T]| {
            let (x, weight) = (Matrix::new(x, in_features, false), Matrix::new(weight, in_features, true));
            let onto = bias.map_or(Onto::Nothing, |bias| Onto::Row(bias.slice_of()));
            finished_product([rows, in_features, out_features], x, weight, out, onto, finish);
        })
    }

    /// The gradient before the activation of a fused operation, from its output (`self`) and `dy`.
    ///
    /// # Errors
    /// Shapes or types that differ.
    pub fn activation_grad(&self, dy: &Tensor, activation: Activation) -> Result<Tensor> {
        match activation {
            Activation::Identity => Ok(dy.clone()),
            Activation::Relu => self.relu_grad(dy),
        }
    }
}

/// The batch axes and the last two sizes, swapped if `transposed`.
fn matrix_axes(x: &Tensor, transposed: bool) -> Result<(Shape, [usize; 2])> {
    let shape = x.shape();
    match *shape.sizes() {
        [ref batch @ .., rows, columns] => {
            Ok((Shape::new(batch)?, if transposed { [columns, rows] } else { [rows, columns] }))
        }
        _ => Err(Error::shape("matmul", format!("{shape} is not a matrix"), "both operands need at least 2 axes")),
    }
}

/// Which matrix of an operand belongs to matrix `i` of the result.
pub(super) fn batch_index<'a>(batch: &'a Shape, operand: &'a Shape) -> impl Fn(usize) -> usize + 'a {
    let (sizes, strides, skipped) = (batch.strides(), operand.strides(), batch.rank() - operand.rank());
    move |i| {
        let place = |axis: usize| i / sizes[axis + skipped] % batch[axis + skipped];
        (0..operand.rank()).filter(|&axis| operand[axis] > 1).map(|axis| place(axis) * strides[axis]).sum()
    }
}

/// An error unless `bias` is `[size]`.
pub(crate) fn check_bias(op: &'static str, bias: &Tensor, size: usize) -> Result<()> {
    if bias.shape() == Shape::from([size]) {
        return Ok(());
    }
    let what = format!("bias is {}, the weight has {size} outputs", bias.shape());
    Err(Error::shape(op, what, format!("the bias must be [{size}]")))
}

vectorized! {
    /// Applies the activation in place.
    pub(crate) fn finish<T: Float>(x: &mut [T], activation: Activation) {
        if activation == Activation::Relu {
            // Written so that NaN stays NaN.
            x.iter_mut().for_each(|x| *x = if *x < T::zero() { T::zero() } else { *x });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    /// `[.., m, k] × [.., k, n]` by the definition, in f64.
    fn naive(a: &Tensor, b: &Tensor, index: impl Fn(usize) -> (usize, usize), batch: usize) -> Vec<f64> {
        let (&[.., m, k], &[.., n]) = (&*a.shape(), &*b.shape()) else { unreachable!() };
        let (a, b) = (a.as_slice::<f64>().unwrap(), b.as_slice::<f64>().unwrap());
        let mut out = vec![0.0; batch * m * n];
        for (i, out) in out.chunks_mut(m * n).enumerate() {
            let (ia, ib) = index(i);
            for (at, out) in out.iter_mut().enumerate() {
                *out = (0..k).map(|t| a[ia * m * k + at / n * k + t] * b[ib * k * n + t * n + at % n]).sum();
            }
        }
        out
    }

    #[test]
    fn batches_broadcast() {
        let mut rng = Rng::new(1);
        let mut draw = |shape: &[usize]| Tensor::uniform(Shape::new(shape).unwrap(), -1.0f64, 1.0, &mut rng);
        type Case = (&'static [usize], &'static [usize], &'static [usize], fn(usize) -> (usize, usize));
        let cases: [Case; 5] = [
            (&[2, 3], &[3, 4], &[2, 4], |_| (0, 0)),
            (&[5, 2, 3], &[3, 4], &[5, 2, 4], |i| (i, 0)),
            (&[2, 3], &[5, 3, 4], &[5, 2, 4], |i| (0, i)),
            (&[6, 1, 2, 3], &[5, 3, 4], &[6, 5, 2, 4], |i| (i / 5, i % 5)),
            (&[0, 2, 3], &[3, 4], &[0, 2, 4], |_| (0, 0)),
        ];
        for (a, b, shape, index) in cases {
            let (a, b) = (draw(a), draw(b));
            let y = a.matmul(&b).unwrap();
            assert_eq!(y.shape().sizes(), shape);
            let batch = shape[..shape.len() - 2].iter().product();
            for (y, e) in y.as_slice::<f64>().unwrap().iter().zip(naive(&a, &b, index, batch)) {
                assert!((y - e).abs() < 4.0 * f64::EPSILON);
            }
            let turned = |x: &Tensor| x.transpose(-1, -2).unwrap();
            let other = turned(&a).matmul_with(&turned(&b), Trans { a: true, b: true }).unwrap();
            let error = other.sub(&y).unwrap().abs();
            assert!(y.is_empty() || error.max(.., false).unwrap().item::<f64>().unwrap() < 4.0 * f64::EPSILON);
        }
    }

    #[test]
    fn linear_is_matmul_plus_bias_and_activation() {
        let x = Tensor::from([[[1.0f32, 2.0], [3.0, -4.0]]]);
        let (w, b) = (Tensor::from([[1.0f32, 1.0], [0.0, -1.0], [2.0, 0.0]]), Tensor::from([0.5f32, 0.0, -3.0]));
        // By hand.
        let y = Tensor::from([[[3.5f32, -2.0, -1.0], [-0.5, 4.0, 3.0]]]);
        assert_eq!(x.linear(&w, Some(&b), Activation::Identity).unwrap(), y);
        let relu = Tensor::from([[[3.5f32, 0.0, 0.0], [0.0, 4.0, 3.0]]]);
        assert_eq!(x.linear(&w, Some(&b), Activation::Relu).unwrap(), relu);
        let dy = Tensor::from([[[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]]);
        assert_eq!(y.activation_grad(&dy, Activation::Identity).unwrap(), dy);
        let passed = Tensor::from([[[1.0f32, 0.0, 0.0], [0.0, 5.0, 6.0]]]);
        assert_eq!(relu.activation_grad(&dy, Activation::Relu).unwrap(), passed);
        let empty = Tensor::zeros([3, 0], crate::DType::F32);
        let y = empty.linear(&Tensor::zeros([2, 0], crate::DType::F32), None, Activation::Identity).unwrap();
        assert_eq!(y, Tensor::zeros([3, 2], crate::DType::F32));
    }

    #[test]
    fn misfits_are_explained() {
        let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape).unwrap(), crate::DType::F32);
        let text = |a: &[usize], b: &[usize]| zeros(a).matmul(&zeros(b)).unwrap_err().to_string();
        let inner = "matmul: inner sizes differ: [128, 1600] × [1024, 10]; help: the right operand needs 1600 rows";
        assert_eq!(text(&[128, 1600], &[1024, 10]), inner);
        assert_eq!(text(&[3], &[3, 2]), "matmul: [3] is not a matrix; help: both operands need at least 2 axes");
        let batch = "matmul: [2] and [3] do not broadcast: axis 0 is 2 against 3; help: one of them must be 1";
        assert_eq!(text(&[2, 1, 1], &[3, 1, 1]), batch);
        let error = zeros(&[1, 1]).matmul(&Tensor::zeros([1, 1], crate::DType::F64)).unwrap_err().to_string();
        let types = "matmul: element types differ: f32 and f64; help: convert one of them with to_dtype";
        assert_eq!(error, types);
        let ints = Tensor::zeros([1, 1], crate::DType::I64);
        let error = ints.matmul(&ints).unwrap_err().to_string();
        assert_eq!(error, "matmul: expects f32 or f64, got i64; help: convert with to_dtype(DType::F32)");
        let linear = |x: &[usize], b: &[usize]| {
            zeros(x).linear(&zeros(&[10, 128]), Some(&zeros(b)), Activation::Identity).unwrap_err().to_string()
        };
        let text = "linear: input [32, 5] and weight [10, 128] differ in their last sizes; \
                    help: the input's last axis must be 128";
        assert_eq!(linear(&[32, 5], &[10]), text);
        let text = "linear: bias is [1], the weight has 10 outputs; help: the bias must be [10]";
        assert_eq!(linear(&[32, 128], &[1]), text);
    }

    /// The bias is added to the products, not the products one by one to the bias.
    #[test]
    #[cfg(not(miri))]
    fn a_large_bias_costs_no_digits() {
        let mut rng = Rng::new(1);
        for (rows, k) in [(2, 400), (64, 400), (2000, 400), (2000, 700), (20, 3000)] {
            let x = Tensor::uniform([rows, k], 0.0f32, 1.0, &mut rng);
            let w = Tensor::uniform([64, k], 0.0f32, 0.02, &mut rng);
            let bias = Tensor::full([64], 1000.0f32);
            let y = x.linear(&w, Some(&bias), Activation::Identity).unwrap().to_dtype(crate::DType::F64);
            let products =
                x.to_dtype(crate::DType::F64).matmul_with(&w.to_dtype(crate::DType::F64), Trans { a: false, b: true });
            let (y, products) = (y.to_vec::<f64>().unwrap(), products.unwrap().to_vec::<f64>().unwrap());
            for (y, product) in y.iter().zip(products) {
                let bound = f64::from(f32::EPSILON) * (1000.0 + k as f64 * product);
                assert!((y - 1000.0 - product).abs() <= bound, "{rows} × {k}: {y} against {product}");
            }
        }
    }
}
