//! [`gradcheck`]: is the gradient the derivative? Asked of finite differences, in double precision.

use crate::{Error, Pass, Result, Var, Walk};
use maplet_tensor::{DType, Rng, Tensor};

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
    let check = Check::new(&f, inputs)?;
    check.first_order()?;
    check.second_order()
}

/// As [`gradcheck`], for first derivatives alone.
///
/// # Errors
/// As [`gradcheck`].
pub fn gradcheck_first(f: impl Fn(&[Var]) -> Result<Var>, inputs: &[Tensor]) -> Result<()> {
    Check::new(&f, inputs)?.first_order()
}

/// The step of the differences: the third root of the rounding error balances rounding and truncation.
const STEP: f64 = 6e-6;
/// Truncation is about `STEP² ≈ 4e-11` times a third derivative, rounding about `1e-16 / STEP` times the value.
const TOLERANCE: f64 = 1e-6;
const SEED: u64 = 0x6d61_706c_6574;

struct Check<'f> {
    f: &'f dyn Fn(&[Var]) -> Result<Var>,
    inputs: &'f [Tensor],
    /// The gradient that arrives at the output: `v`.
    cotangent: Tensor,
    /// One direction for each input: `u`.
    directions: Vec<Tensor>,
}

impl<'f> Check<'f> {
    fn new(f: &'f dyn Fn(&[Var]) -> Result<Var>, inputs: &'f [Tensor]) -> Result<Self> {
        for (i, input) in inputs.iter().enumerate() {
            if input.dtype() != DType::F64 {
                let what = format!("input {i} is {}", input.dtype());
                return Err(Error::new("gradcheck", what, "differences need f64: convert with to_dtype(DType::F64)"));
            }
        }
        let mut rng = Rng::new(SEED);
        let mut normal = |x: &Tensor| Tensor::normal(x.shape(), 0.0f64, 1.0, &mut rng);
        let pass = pass();
        let output = f(&inputs.iter().map(|x| pass.input(x)).collect::<Vec<_>>())?;
        let cotangent = normal(output.value());
        Ok(Self { f, inputs, cotangent, directions: inputs.iter().map(normal).collect() })
    }

    fn first_order(&self) -> Result<()> {
        let found = self.gradients(self.inputs, &self.cotangent)?;
        for (i, dx) in found.iter().enumerate() {
            let value = |x: &Tensor| self.value(&replaced(self.inputs, i, x));
            compare(&format!("input {i}"), &self.inputs[i], dx, value)?;
        }
        Ok(())
    }

    fn second_order(&self) -> Result<()> {
        let pass = pass();
        let leaves: Vec<Var> = self.inputs.iter().map(|x| pass.leaf(x)).collect();
        let v = pass.leaf(&self.cotangent);
        let targets: Vec<&dyn crate::Leaf> = leaves.iter().map(|leaf| leaf as _).collect();
        let grads = (self.f)(&leaves)?.backward_from_to(v.clone(), &targets, Walk::WithGraph)?;

        let mut slope = pass.input(Tensor::scalar(0.0f64));
        for (leaf, u) in leaves.iter().zip(&self.directions) {
            if let Some(dx) = grads.var_of(leaf) {
                slope = slope.add(&dx.mul(&dx.constant(u))?.sum(.., false)?)?;
            }
        }
        let plain = self.slope(self.inputs, &self.cotangent)?;
        if !close(slope.item()?, plain) {
            let what = format!("a recorded walk gives the slope {}, a plain walk {plain}", slope.item::<f64>()?);
            return Err(Error::new("gradcheck", what, "a kernel differs from its twin"));
        }
        // A function whose gradients are all constant has no second derivatives: zeros.
        let second = if slope.is_recorded() { slope.backward()? } else { Default::default() };
        let found = |leaf: &Var| second.of(leaf).cloned().unwrap_or_else(|| leaf.value().zeros_like());
        for (i, leaf) in leaves.iter().enumerate() {
            let slope = |x: &Tensor| self.slope(&replaced(self.inputs, i, x), &self.cotangent);
            compare(&format!("second order, input {i}"), &self.inputs[i], &found(leaf), slope)?;
        }
        compare("second order, dy", &self.cotangent, &found(&v), |v| self.slope(self.inputs, v))
    }

    /// `<v, f(x)>`
    fn value(&self, inputs: &[Tensor]) -> Result<f64> {
        let pass = pass();
        let inputs: Vec<Var> = inputs.iter().map(|x| pass.input(x)).collect();
        dot((self.f)(&inputs)?.value(), &self.cotangent)
    }

    /// `<u, ∇<v, f(x)>>`, by a plain walk.
    fn slope(&self, inputs: &[Tensor], v: &Tensor) -> Result<f64> {
        let found = self.gradients(inputs, v)?;
        found.iter().zip(&self.directions).map(|(dx, u)| dot(dx, u)).sum()
    }

    /// `∇<v, f(x)>`, by a plain walk.
    fn gradients(&self, inputs: &[Tensor], v: &Tensor) -> Result<Vec<Tensor>> {
        let pass = pass();
        let leaves: Vec<Var> = inputs.iter().map(|x| pass.leaf(x)).collect();
        let grads = (self.f)(&leaves)?.backward_from(v)?;
        Ok(leaves.iter().map(|leaf| grads.of(leaf).cloned().unwrap_or_else(|| leaf.value().zeros_like())).collect())
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

/// Compares `found` with the central differences of `value` at `x`.
fn compare(which: &str, x: &Tensor, found: &Tensor, value: impl Fn(&Tensor) -> Result<f64>) -> Result<()> {
    for (i, &found) in found.as_slice::<f64>()?.iter().enumerate() {
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
