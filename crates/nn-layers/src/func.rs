//! [`Func`] and [`Identity`]: modules without parameters of their own.

use crate::freeze::{Graph, Value};
use crate::plan::{Draft, Plan};
use crate::step::Spec;
use crate::{Builder, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::Shape;

/// A closure as a module: for a step without parameters.
///
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{Module, func};
///
/// let double = func(|x: &Var| Ok(x.mul_scalar(2.0)));
/// assert_eq!(double.forward(&Var::from(Tensor::from([3.0f32])))?.item::<f32>()?, 6.0);
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[doc(alias = "Lambda")]
pub fn func<F: Fn(&Var) -> Result<Var> + Send + Sync>(function: F) -> Func<F> {
    Func { function }
}

/// A closure as a module, made by [`func`].
///
/// PyTorch: –; Keras: `Lambda`.
#[derive(Debug, Clone)]
#[doc(alias = "Lambda")]
pub struct Func<F> {
    function: F,
}
fields!([F] Func<F>: ; function);

impl<F: Fn(&Var) -> Result<Var> + Send + Sync> Module for Func<F> {
    fn forward(&self, x: &Var) -> Result<Var> {
        (self.function)(x)
    }
}

/// Returns what it is given: what stands where a layer was taken out.
///
/// PyTorch: `nn.Identity`; Keras: `Identity`.
///
/// # Shapes
/// - any; the output's is the input's
#[derive(Debug, Clone, Copy, Default)]
pub struct Identity;
fields!(Identity:);

impl Module for Identity {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.clone())
    }

    fn lower(&self, _: &mut Graph, x: Value) -> Result<Option<Value>> {
        Ok(Some(x))
    }
}

impl Spec for Identity {
    fn plan(&self, input: &Shape) -> Plan {
        Plan::new("Identity".into(), || Ok(Draft::new(*input, 0).view().fixed(Self)))
    }
}

impl Builder {
    /// [`Identity`]
    pub fn identity(self) -> Self {
        self.step(Identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};

    #[test]
    fn behave_as_modules() {
        let expect = Expect { input: &[3, 2], output: &[3, 2], ..Expect::default() };
        check_module(&mut Identity, &expect).unwrap();
        check_module(&mut func(|x| Ok(x.mul_scalar(2.0))), &expect).unwrap();
    }
}
