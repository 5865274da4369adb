//! Whole matrices of derivatives, and their products with vectors: Jacobians and Hessians.
//!
//! The methods of [`Var`] take any targets: parameters, leaves, values in between. The functions of the same names are
//! for a function of one tensor. All walk backward; what the targets do not reach is 0.

use crate::{Error, Grads, Leaf, Pass, Result, Var, Walk};
use maplet_tensor::{Shape, Tensor};

/// Derivatives of a recorded value. The graph is kept, for other walks.
impl Var {
    /// The derivative of every element of `self` with respect to every element of each target. One walk for each
    /// element of `self`.
    ///
    /// ```
    /// use maplet_autograd::{Param, Pass, Tensor};
    ///
    /// let weight = Param::new(Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]));
    /// let x = Pass::record().leaf(Tensor::from([[5.0f32, 6.0]]));
    /// let y = x.linear(&weight.on(&x), None, Default::default())?;
    /// let both = y.jacobian(&[&x, &weight])?;
    /// assert_eq!(both[0].reshape([2, 2])?, *weight.value());
    /// assert_eq!(both[1].shape(), [1, 2, 2, 2].into());
    /// # Ok::<(), maplet_autograd::Error>(())
    /// ```
    ///
    /// # Shapes
    /// `[self.., target..]` for each target
    ///
    /// # Errors
    /// A value or a target that was never recorded; a graph that was walked before; more than eight axes.
    pub fn jacobian(&self, targets: &[&dyn Leaf]) -> Result<Vec<Tensor>> {
        let mut rows: Vec<Vec<Tensor>> = targets.iter().map(|_| Vec::with_capacity(self.len())).collect();
        for i in 0..self.len() {
            let grads = self.backward_from_to(one_hot(self, i)?, targets, Walk::Keep)?;
            for (rows, &target) in rows.iter_mut().zip(targets) {
                let row = grads.of(target).cloned().unwrap_or_else(|| zeros(target));
                rows.push(row.reshape([1, row.len()])?);
            }
        }
        let whole = |(rows, &target): (Vec<Tensor>, &&dyn Leaf)| {
            let (shape, dtype) = target.kind();
            let shape = Shape::new(&[self.shape().sizes(), shape.sizes()].concat())?;
            match rows.is_empty() {
                true => Ok(Tensor::zeros(shape, dtype)),
                false => Ok(Tensor::concat(&rows.iter().collect::<Vec<_>>(), 0)?.reshape(shape)?),
            }
        };
        rows.into_iter().zip(targets).map(whole).collect()
    }

    /// The second derivatives of this single number with respect to all pairs of targets: block `[i][j]` holds those
    /// with respect to target `i` and then target `j`. One walk for each element of the targets, and one more.
    ///
    /// # Shapes
    /// `[target i.., target j..]`
    ///
    /// # Errors
    /// As [`jacobian`](Self::jacobian); more than one element; an op whose gradient cannot be differentiated again.
    pub fn hessian(&self, targets: &[&dyn Leaf]) -> Result<Vec<Vec<Tensor>>> {
        let grads = self.backward_to(targets, Walk::WithGraph)?;
        let blocks = |&one: &&dyn Leaf| match grads.var_of(one).filter(|dx| dx.is_recorded()) {
            Some(dx) => dx.jacobian(targets),
            None => targets.iter().map(|&other| zero_block(one, other)).collect(),
        };
        targets.iter().map(blocks).collect()
    }

    /// `Σ v · ∂self/∂target` over all targets, each with its vector: how `self` changes when the targets move along the
    /// vectors. Two walks.
    ///
    /// # Shapes
    /// each vector has its target's; the product has that of `self`
    ///
    /// # Errors
    /// As [`jacobian`](Self::jacobian); vectors that do not fit; an op whose gradient cannot be differentiated again.
    pub fn jacobian_vector_product(&self, targets: &[&dyn Leaf], vectors: &[Tensor]) -> Result<Tensor> {
        // The product of the Jacobian with any v from the left is linear in v: its own derivative is the Jacobian.
        let zeros = self.value().zeros_like();
        let from = self.pass().map_or_else(|| Var::from(&zeros), |pass| pass.leaf(&zeros));
        let along = along(
            "jacobian_vector_product",
            self.backward_from_to(from.clone(), targets, Walk::WithGraph)?,
            targets,
            vectors,
        )?;
        let Some(along) = along.filter(Var::is_recorded) else { return Ok(zeros) };
        Ok(along.backward_to(&[&from], Walk::Keep)?.of(&from).cloned().unwrap_or(zeros))
    }

    /// The product of the [`hessian`](Self::hessian) with one vector for each target, without the matrix. Two walks.
    ///
    /// # Shapes
    /// each vector, and each product, has its target's
    ///
    /// # Errors
    /// As [`hessian`](Self::hessian); vectors that do not fit.
    pub fn hessian_vector_product(&self, targets: &[&dyn Leaf], vectors: &[Tensor]) -> Result<Vec<Tensor>> {
        let along = along("hessian_vector_product", self.backward_to(targets, Walk::WithGraph)?, targets, vectors)?;
        let grads = match along.filter(Var::is_recorded) {
            Some(along) => along.backward_to(targets, Walk::Keep)?,
            None => Default::default(),
        };
        Ok(targets.iter().map(|&target| grads.of(target).cloned().unwrap_or_else(|| zeros(target))).collect())
    }
}

/// The Jacobian of `f` at `x`: element `[i.., j..]` is the derivative of element `i` of `f(x)` with respect to element
/// `j` of `x`. One walk for each element of `f(x)`. For several inputs, or parameters, see [`Var::jacobian`].
///
/// PyTorch: `autograd.functional.jacobian`; Keras: –.
///
/// ```
/// use maplet_autograd::{Tensor, jacobian};
///
/// // Polar coordinates: ∂(r cos φ, r sin φ) / ∂(r, φ)
/// let polar = Tensor::from([2.0f64, 0.0]);
/// let j = jacobian(|x| {
///     let [r, phi] = [x.slice(0, 0, 1)?, x.slice(0, 1, 2)?];
///     maplet_autograd::Var::concat(&[&r.mul(&phi.cos())?, &r.mul(&phi.sin())?], 0)
/// }, &polar)?;
/// assert_eq!(j, Tensor::from([[1.0f64, 0.0], [0.0, 2.0]]));
/// # Ok::<(), maplet_autograd::Error>(())
/// ```
///
/// # Errors
/// Those of `f`; more than eight axes.
pub fn jacobian(f: impl Fn(&Var) -> Result<Var>, x: &Tensor) -> Result<Tensor> {
    let (x, y) = recorded(f, x)?;
    match y.is_recorded() {
        true => only(y.jacobian(&[&x])?),
        false => zero_block(&y, &x),
    }
}

/// The Hessian of `f`, which returns a single number, at `x`: its second derivatives. For several inputs, or
/// parameters, see [`Var::hessian`].
///
/// PyTorch: `autograd.functional.hessian`; Keras: –.
///
/// # Errors
/// Those of `f`; more than one element; an op whose gradient cannot be differentiated again.
pub fn hessian(f: impl Fn(&Var) -> Result<Var>, x: &Tensor) -> Result<Tensor> {
    let (x, y) = recorded(f, x)?;
    match y.is_recorded() {
        true => only(only(y.hessian(&[&x])?)?),
        false => zero_block(&x, &x),
    }
}

/// `f(x)`, and the product `vᵀJ` of a vector with the Jacobian of `f`: the gradient of `x` if `v` arrives at `f(x)`.
///
/// PyTorch: `autograd.functional.vjp`; Keras: –.
///
/// # Errors
/// Those of `f`; a `v` that has not the shape and type of `f(x)`.
pub fn vector_jacobian_product(f: impl Fn(&Var) -> Result<Var>, x: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
    let (x, y) = recorded(f, x)?;
    let dx = match y.is_recorded() {
        true => y.backward_from_to(v, &[&x], Walk::Consume)?.of(&x).cloned(),
        false => None,
    };
    Ok((y.into_value(), dx.unwrap_or_else(|| zeros(&x))))
}

/// `f(x)`, and the product `J v` of its Jacobian with a vector: how `f(x)` changes when `x` moves along `v`.
///
/// PyTorch: `autograd.functional.jvp`; Keras: –.
///
/// # Errors
/// Those of `f`; a `v` that has not the shape and type of `x`; an op whose gradient cannot be differentiated again.
pub fn jacobian_vector_product(f: impl Fn(&Var) -> Result<Var>, x: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
    let (x, y) = recorded(f, x)?;
    let change = match y.is_recorded() {
        true => y.jacobian_vector_product(&[&x], std::slice::from_ref(v))?,
        false => y.value().zeros_like(),
    };
    Ok((y.into_value(), change))
}

/// `f(x)`, a single number, and the product `H v` of its Hessian with a vector, without the matrix.
///
/// PyTorch: `autograd.functional.hvp`; Keras: –.
///
/// # Errors
/// As [`hessian`]; a `v` that has not the shape and type of `x`.
///
/// # Reference
/// Pearlmutter (1994), "Fast Exact Multiplication by the Hessian".
pub fn hessian_vector_product(f: impl Fn(&Var) -> Result<Var>, x: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
    let (x, y) = recorded(f, x)?;
    let product = match y.is_recorded() {
        true => only(y.hessian_vector_product(&[&x], std::slice::from_ref(v))?)?,
        false => zeros(&x),
    };
    Ok((y.into_value(), product))
}

fn recorded(f: impl Fn(&Var) -> Result<Var>, x: &Tensor) -> Result<(Var, Var)> {
    let x = Pass::record().leaf(x);
    let y = f(&x)?;
    Ok((x, y))
}

/// The item of a list that is known to have one.
fn only<T>(mut items: Vec<T>) -> Result<T> {
    items.pop().ok_or_else(|| Error::new("jacobian", "there is no target", ""))
}

/// `Σ v · dx` over all targets that have a gradient.
fn along(op: &'static str, grads: Grads, targets: &[&dyn Leaf], vectors: &[Tensor]) -> Result<Option<Var>> {
    if vectors.len() != targets.len() {
        let what = format!("{} vectors for {} targets", vectors.len(), targets.len());
        return Err(Error::new(op, what, "give one for each"));
    }
    let mut sum: Option<Var> = None;
    for (&target, v) in targets.iter().zip(vectors) {
        let (shape, dtype) = target.kind();
        if (v.shape(), v.dtype()) != (shape, dtype) {
            let what = format!("the vector is {} {}, its target {dtype} {shape}", v.dtype(), v.shape());
            return Err(Error::new(op, what, "a vector has the shape and type of its target"));
        }
        let Some(dx) = grads.var_of(target) else { continue };
        let part = dx.mul(&dx.constant(v))?.sum(.., false)?;
        sum = Some(match sum {
            Some(sum) => sum.add(&part)?,
            None => part,
        });
    }
    Ok(sum)
}

fn zeros(target: &dyn Leaf) -> Tensor {
    let (shape, dtype) = target.kind();
    Tensor::zeros(shape, dtype)
}

fn zero_block(one: &dyn Leaf, other: &dyn Leaf) -> Result<Tensor> {
    let ((one, _), (other, dtype)) = (one.kind(), other.kind());
    Ok(Tensor::zeros(Shape::new(&[one.sizes(), other.sizes()].concat())?, dtype))
}

/// 1 at element `i`, else 0.
fn one_hot(y: &Var, i: usize) -> Result<Tensor> {
    let place = Tensor::arange(0i64, y.len() as i64, 1)?.equal(&Tensor::scalar(i as i64))?;
    Ok(place.to_dtype(y.dtype()).reshape(y.shape())?)
}
