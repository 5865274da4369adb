//! Gated linear units: one half of an axis, times an activation of the other.

use crate::{Error, Result, Var};

/// All halve the axis: the first half `a` is the value, the second half `b` the gate, as in PyTorch's `glu`.
///
/// # Errors
/// No such axis, or one of odd size.
///
/// # Reference
/// Dauphin, Fan, Auli & Grangier (2017), "Language Modeling with Gated Convolutional Networks"; Shazeer (2020), "GLU
/// Variants Improve Transformer".
impl Var {
    /// `a · sigmoid(b)`
    pub fn glu(&self, axis: isize) -> Result<Var> {
        self.gated("glu", axis, Var::sigmoid)
    }

    /// `a · silu(b)`
    pub fn swiglu(&self, axis: isize) -> Result<Var> {
        self.gated("swiglu", axis, Var::silu)
    }

    /// `a · gelu(b)`
    pub fn geglu(&self, axis: isize) -> Result<Var> {
        self.gated("geglu", axis, Var::gelu)
    }

    /// `a · relu(b)`
    pub fn reglu(&self, axis: isize) -> Result<Var> {
        self.gated("reglu", axis, Var::relu)
    }

    fn gated(&self, op: &'static str, axis: isize, activation: fn(&Var) -> Var) -> Result<Var> {
        let size = self.shape()[self.shape().axis(op, axis)?];
        if size % 2 == 1 {
            let what = format!("axis {axis} of {} has {size} elements", self.shape());
            return Err(Error::new(op, what, "two halves need an even number"));
        }
        let (value, gate) = (self.slice(axis, 0, size / 2)?, self.slice(axis, size / 2, size)?);
        value.mul(&activation(&gate))
    }
}
