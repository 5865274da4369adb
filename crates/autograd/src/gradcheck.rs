//! [`gradcheck`]: is the gradient the derivative? Asked of finite differences, in double precision.

use crate::{Error, Leaf, Pass, Result, Var, Visit, Walk, params, params_mut};
use maplet_tensor::{DType, Rng, Tensor};
use std::cell::RefCell;

/// Checks first and second derivatives of `f` with respect to every element of every input.
///
/// A random cotangent `v` makes `f` a number, `<v, f(x)>`, whose gradient is compared with central differences. A
/// random direction `u` then makes the gradient a number, `<u, ∇<v, f(x)>>`, and *its* gradient, with respect to `x`
/// and to `v`, is compared with central differences of a plain walk: this is what finds a rule that captured a tensor
/// where it should have captured a `Var`, and a fused kernel that differs from its twin.
///
/// Inputs must keep away from kinks: at 0 a ReLU has no derivative to compare with.
///
/// ```
/// use maplet_autograd::{Tensor, gradcheck, gradcheck_first, record};
///
/// let x = Tensor::from([0.5f64, -2.0, 3.0]);
/// gradcheck(|v| v[0].square().mul(&v[0]), &[x.clone()])?;
///
/// let wrong = gradcheck_first(|v| record("half", v[0].value().mul_scalar(0.5)).pull(&v[0], Ok).done(), &[x]);
/// assert!(wrong.unwrap_err().to_string().starts_with("gradcheck: input 0, element 0 of [3]: the gradient is"));
/// # Ok::<(), maplet_autograd::Error>(())
/// ```
///
/// # Errors
/// The first element whose derivative differs by more than `1e-6` (relative, for derivatives above 1); an input that is
/// not `f64`; an error of `f`.
pub fn gradcheck(f: impl Fn(&[Var]) -> Result<Var>, inputs: &[Tensor]) -> Result<()> {
    let check = Check::of_function(&f, inputs)?;
    check.first_order()?;
    check.second_order()
}

/// As [`gradcheck`], for first derivatives alone.
///
/// # Errors
/// As [`gradcheck`].
pub fn gradcheck_first(f: impl Fn(&[Var]) -> Result<Var>, inputs: &[Tensor]) -> Result<()> {
    Check::of_function(&f, inputs)?.first_order()
}

/// As [`gradcheck`], with respect to every element of every input and to the trainable parameters of a model: of each
/// parameter, to all elements or to some 64, evenly spread. The model is as it was afterwards.
///
/// ```
/// use maplet_autograd::{Param, Tensor, fields, gradcheck_model};
///
/// struct Scale {
///     weight: Param,
/// }
/// fields!(Scale: weight);
///
/// let mut scale = Scale { weight: Param::new(Tensor::from([0.5f64, -2.0])) };
/// let x = [Tensor::from([0.3f64, 1.0])];
/// gradcheck_model(&mut scale, |scale, v| Ok(v[0].mul(&scale.weight.on(&v[0]))?.tanh()), &x)?;
///
/// let cut = gradcheck_model(&mut scale, |scale, v| v[0].mul(&scale.weight.on(&v[0]).detach()), &x).unwrap_err();
/// assert!(cut.to_string().starts_with("gradcheck: `weight`, element 0 of [2]: the gradient is 0, finite"));
/// # Ok::<(), maplet_autograd::Error>(())
/// ```
///
/// # Errors
/// As [`gradcheck`]; a trainable parameter that is not `f64`.
pub fn gradcheck_model<M: Visit + ?Sized>(
    model: &mut M,
    f: impl Fn(&M, &[Var]) -> Result<Var>,
    inputs: &[Tensor],
) -> Result<()> {
    let trained = params(model).into_iter().filter(|(_, param)| param.is_trainable());
    let trained: Vec<_> = trained.map(|(name, param)| (format!("`{name}`"), param.value().clone())).collect();
    let places = named(inputs).into_iter().chain(trained.iter().cloned()).collect();
    let model = RefCell::new(model);
    let set = |values: &[Tensor]| {
        let mut model = model.borrow_mut();
        let params = params_mut(&mut **model).into_iter().filter(|(_, param)| param.is_trainable());
        params.zip(values).try_for_each(|((_, param), value)| param.set_value(value.clone()))
    };
    let run: Run<'_> = Box::new(|values, enter| {
        let (values, weights) = values.split_at(inputs.len());
        set(weights)?;
        let (model, vars) = (model.borrow(), values.iter().map(enter).collect::<Vec<_>>());
        let weights = params(&**model).into_iter().filter(|(_, param)| param.is_trainable());
        let weights: Vec<_> = weights.map(|(_, param)| Box::new(param.handle()) as Box<dyn Leaf>).collect();
        Ok((f(&model, &vars)?, leaves(vars).chain(weights).collect()))
    });
    let result = Check::new(run, places, inputs.len()).and_then(|check| {
        check.first_order()?;
        check.second_order()
    });
    set(&trained.into_iter().map(|(_, value)| value).collect::<Vec<_>>())?;
    result
}

/// The step of the differences: the third root of the rounding error balances rounding and truncation.
const STEP: f64 = 6e-6;
/// Truncation is about `STEP² ≈ 4e-11` times a third derivative, rounding about `1e-16 / STEP` times the value.
const TOLERANCE: f64 = 1e-6;
/// At most so many elements of each parameter are compared with finite differences.
const ELEMENTS: usize = 64;
const SEED: u64 = 0x6d61_706c_6574;

/// Computes the output for some values of all places, where inputs enter as the second argument says; and gives what to
/// ask the gradients of.
type Run<'f> = Box<dyn Fn(&[Tensor], &dyn Fn(&Tensor) -> Var) -> Result<(Var, Vec<Box<dyn Leaf>>)> + 'f>;

struct Check<'f> {
    run: Run<'f>,
    /// `input 0`, or the name of a parameter.
    names: Vec<String>,
    places: Vec<Tensor>,
    /// The number of inputs: the other places are parameters.
    inputs: usize,
    /// The gradient that arrives at the output: `v`.
    cotangent: Tensor,
    /// One direction for each place: `u`.
    directions: Vec<Tensor>,
}

fn named(inputs: &[Tensor]) -> Vec<(String, Tensor)> {
    inputs.iter().enumerate().map(|(i, x)| (format!("input {i}"), x.clone())).collect()
}

fn leaves(vars: Vec<Var>) -> impl Iterator<Item = Box<dyn Leaf>> {
    vars.into_iter().map(|var| Box::new(var) as Box<dyn Leaf>)
}

impl<'f> Check<'f> {
    fn of_function(f: &'f impl Fn(&[Var]) -> Result<Var>, inputs: &[Tensor]) -> Result<Self> {
        let run: Run<'f> = Box::new(move |values, enter| {
            let vars: Vec<Var> = values.iter().map(enter).collect();
            Ok((f(&vars)?, leaves(vars).collect()))
        });
        Self::new(run, named(inputs), inputs.len())
    }

    fn new(run: Run<'f>, places: Vec<(String, Tensor)>, inputs: usize) -> Result<Self> {
        for (name, value) in &places {
            if value.dtype() != DType::F64 {
                let what = format!("{name} is {}", value.dtype());
                return Err(Error::new("gradcheck", what, "differences need f64: convert with to_dtype(DType::F64)"));
            }
        }
        let (names, places): (Vec<String>, Vec<Tensor>) = places.into_iter().unzip();
        let mut rng = Rng::new(SEED);
        let mut normal = |x: &Tensor| Tensor::normal(x.shape(), 0.0f64, 1.0, &mut rng);
        let pass = pass();
        let cotangent = normal(run(&places, &|x| pass.input(x))?.0.value());
        let directions = places.iter().map(normal).collect();
        Ok(Self { run, names, places, inputs, cotangent, directions })
    }

    fn stride(&self, place: usize) -> usize {
        if place < self.inputs { 1 } else { self.places[place].len().div_ceil(ELEMENTS).max(1) }
    }

    fn first_order(&self) -> Result<()> {
        let found = self.gradients(&self.places, &self.cotangent)?;
        for (i, dx) in found.iter().enumerate() {
            let value = |x: &Tensor| self.value(&replaced(&self.places, i, x));
            compare(&self.names[i], &self.places[i], dx, self.stride(i), value)?;
        }
        Ok(())
    }

    fn second_order(&self) -> Result<()> {
        let pass = pass();
        let (y, leaves) = (self.run)(&self.places, &|x| pass.leaf(x))?;
        let v = pass.leaf(&self.cotangent);
        let targets: Vec<&dyn Leaf> = leaves.iter().map(|leaf| &**leaf).collect();
        let grads = y.backward_from_to(v.clone(), &targets, Walk::WithGraph)?;

        let mut slope = pass.input(Tensor::scalar(0.0f64));
        for (leaf, u) in leaves.iter().zip(&self.directions) {
            if let Some(dx) = grads.var_of(&**leaf) {
                slope = slope.add(&dx.mul(&dx.constant(u))?.sum(.., false)?)?;
            }
        }
        let plain = self.slope(&self.places, &self.cotangent)?;
        if !close(slope.item()?, plain) {
            let what = format!("a recorded walk gives the slope {}, a plain walk {plain}", slope.item::<f64>()?);
            return Err(Error::new("gradcheck", what, "a kernel differs from its twin"));
        }
        // A function whose gradients are all constant has no second derivatives: zeros.
        let second = if slope.is_recorded() { slope.backward()? } else { Default::default() };
        for (i, (leaf, x)) in leaves.iter().zip(&self.places).enumerate() {
            let slope = |x: &Tensor| self.slope(&replaced(&self.places, i, x), &self.cotangent);
            let found = second.of(&**leaf).cloned().unwrap_or_else(|| x.zeros_like());
            compare(&format!("second order, {}", self.names[i]), x, &found, self.stride(i), slope)?;
        }
        let found = second.of(&v).cloned().unwrap_or_else(|| self.cotangent.zeros_like());
        compare("second order, dy", &self.cotangent, &found, 1, |v| self.slope(&self.places, v))
    }

    /// `<v, f(x)>`
    fn value(&self, places: &[Tensor]) -> Result<f64> {
        let pass = pass();
        dot((self.run)(places, &|x| pass.input(x))?.0.value(), &self.cotangent)
    }

    /// `<u, ∇<v, f(x)>>`, by a plain walk.
    fn slope(&self, places: &[Tensor], v: &Tensor) -> Result<f64> {
        let found = self.gradients(places, v)?;
        found.iter().zip(&self.directions).map(|(dx, u)| dot(dx, u)).sum()
    }

    /// `∇<v, f(x)>`, by a plain walk.
    fn gradients(&self, places: &[Tensor], v: &Tensor) -> Result<Vec<Tensor>> {
        let pass = pass();
        let (y, leaves) = (self.run)(places, &|x| pass.leaf(x))?;
        let grads = y.backward_from(v)?;
        Ok(leaves
            .iter()
            .zip(places)
            .map(|(leaf, x)| grads.of(&**leaf).cloned().unwrap_or_else(|| x.zeros_like()))
            .collect())
    }
}

/// Every evaluation draws the same random numbers, so that dropout can be checked.
fn pass() -> Pass {
    Pass::train(SEED)
}

fn replaced(inputs: &[Tensor], i: usize, x: &Tensor) -> Vec<Tensor> {
    let mut inputs = inputs.to_vec();
    inputs[i] = x.clone();
    inputs
}

fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok(a.as_slice::<f64>()?.iter().zip(b.as_slice::<f64>()?).map(|(a, b)| a * b).sum())
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * b.abs().max(1.0)
}

/// Compares `found` with the central differences of `value` at `x`, in every `stride`-th element.
fn compare(
    which: &str,
    x: &Tensor,
    found: &Tensor,
    stride: usize,
    value: impl Fn(&Tensor) -> Result<f64>,
) -> Result<()> {
    for (i, &found) in found.as_slice::<f64>()?.iter().enumerate().step_by(stride) {
        let mut x = x.clone();
        let middle = x.as_slice::<f64>()?[i];
        let step = STEP * middle.abs().max(1.0);
        x.as_mut_slice::<f64>()?[i] = middle + step;
        let above = value(&x)?;
        x.as_mut_slice::<f64>()?[i] = middle - step;
        let difference = (above - value(&x)?) / (2.0 * step);
        if !close(found, difference) {
            let what = format!(
                "{which}, element {i} of {}: the gradient is {found}, finite differences give {difference}",
                x.shape()
            );
            return Err(Error::new("gradcheck", what, "one of the rules on the way is wrong"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Param, record};

    /// `x · w²`, of which the rule for `w` takes `x` and `w` as they are: wrong from the second order on.
    fn shallow(w: &Param, v: &[Var]) -> Result<Var> {
        let (x, w) = (v[0].value().clone(), w.on(&v[0]));
        let y = x.mul(&w.value().square())?;
        let slope = x.mul(&w.value().mul_scalar(2.0))?;
        record("shallow", y).pull(&w, move |dy| dy.mul(&dy.constant(&slope))).done()
    }

    #[test]
    fn a_model_is_as_it_was_whatever_was_found() {
        let before = Tensor::from([0.5f64, -2.0]);
        let (mut weight, x) = (Param::new(before.clone()), [Tensor::from([3.0f64, 1.5])]);
        gradcheck_model(&mut weight, |w, v| v[0].mul(&w.on(&v[0]).square()), &x).unwrap();
        assert_eq!(weight.value(), &before);
        let shallow = |w: &Param, v: &[Var]| shallow(w, &[v[0].constant(&x[0])]);
        let text = gradcheck_model(&mut weight, shallow, &[Tensor::scalar(0.0f64)]).unwrap_err().to_string();
        assert!(text.starts_with("gradcheck: second order, ``, element 0 of [2]: the gradient is 0, finite"), "{text}");
        assert_eq!(weight.value(), &before);
    }

    #[test]
    fn frozen_parameters_are_left_out_and_others_must_be_f64() {
        let mut weight = Param::new(Tensor::from([0.5f32]));
        let x = [Tensor::from([3.0f64])];
        let text = gradcheck_model(&mut weight, |_, v| Ok(v[0].clone()), &x).unwrap_err().to_string();
        assert_eq!(text, "gradcheck: `` is f32; help: differences need f64: convert with to_dtype(DType::F64)");
        weight.set_trainable(false);
        gradcheck_model(&mut weight, |_, v| Ok(v[0].clone()), &x).unwrap();
    }
}
