//! Smooth activations beyond the everyday ones, as layers.

use crate::Result;
use crate::activation::{activation, expect_that};

activation! {
    /// `x` where positive, else `alpha · (exp(x) − 1)`.
    ///
    /// PyTorch: `nn.ELU`; Keras: `ELU`.
    ///
    /// # Reference
    /// Clevert, Unterthiner & Hochreiter (2016), "Fast and Accurate Deep Network Learning by Exponential Linear Units".
    pub struct Elu {
        /// Minus the value far below 0, 1.
        alpha = 1.0,
    }
    elu = |x| Ok(x.elu(alpha))
}

activation! {
    /// `1.0507… · elu(x)` with `alpha = 1.6732…`: mean 0 and variance 1 are a fixed point of deep networks with it.
    ///
    /// PyTorch: `nn.SELU`; Keras: `activations.selu`.
    ///
    /// # Reference
    /// Klambauer, Unterthiner, Mayr & Hochreiter (2017), "Self-Normalizing Neural Networks". Its weights begin as
    /// [`init`](crate::init)'s normal numbers of variance 1 / fan-in.
    pub struct Selu;
    selu = |x| Ok(x.selu())
}

activation! {
    /// `x` where positive, else `alpha · (exp(x / alpha) − 1)`: smooth for every `alpha`.
    ///
    /// PyTorch: `nn.CELU`; Keras: `activations.celu`.
    ///
    /// # Reference
    /// Barron (2017), "Continuously Differentiable Exponential Linear Units".
    pub struct Celu {
        /// Minus the value far below 0, 1; finite and not 0. If it is negative, the values fall without end.
        alpha = 1.0,
    }
    celu = |x| {
        expect_divisor("celu", "alpha", alpha)?;
        Ok(x.celu(alpha))
    }
}

activation! {
    /// `log(1 + exp(beta · x)) / beta`, a smooth ReLU.
    ///
    /// PyTorch: `nn.Softplus`; Keras: `activations.softplus`.
    ///
    /// # Reference
    /// Dugas, Bengio, Bélisle, Nadeau & Garcia (2001), "Incorporating Second-Order Functional Knowledge".
    ///
    /// # Example
    /// ```
    /// use maplet_autograd::{Tensor, Var};
    /// use maplet_nn_layers::{Module, Softplus};
    ///
    /// let y = Softplus::new().beta(2.0).forward(&Var::from(Tensor::from([0.0f64, 100.0])))?;
    /// assert_eq!(y.value(), &Tensor::from([2f64.ln() / 2.0, 100.0]));
    /// # Ok::<(), maplet_nn_layers::Error>(())
    /// ```
    pub struct Softplus {
        /// How sharp the bend is, 1; finite and not 0. If it is negative, the function is turned by half a circle.
        beta = 1.0,
        /// Where `beta · x` is above it the output is `x` itself, 20.
        threshold = 20.0,
    }
    softplus = |x| {
        expect_divisor("softplus", "beta", beta)?;
        Ok(x.softplus(beta, threshold))
    }
}

/// What the input is divided by. Negative numbers are none that one wants, but the formula holds, as in PyTorch.
fn expect_divisor(op: &'static str, name: &str, value: f64) -> Result<()> {
    let possible = value.is_finite() && value != 0.0;
    expect_that(possible, op, format!("{name} is {value}"), "use a finite number other than 0")
}

activation! {
    /// `log sigmoid(x)`, also where that is too small for a number.
    ///
    /// PyTorch: `nn.LogSigmoid`; Keras: `activations.log_sigmoid`.
    pub struct LogSigmoid;
    log_sigmoid = |x| Ok(x.log_sigmoid())
}

activation! {
    /// `x · tanh(softplus(x))`
    ///
    /// PyTorch: `nn.Mish`; Keras: `activations.mish`.
    ///
    /// # Reference
    /// Misra (2020), "Mish: A Self Regularized Non-Monotonic Activation Function".
    pub struct Mish;
    mish = |x| Ok(x.mish())
}

activation! {
    /// `x / (1 + |x|)`
    ///
    /// PyTorch: `nn.Softsign`; Keras: `activations.softsign`.
    ///
    /// # Reference
    /// Bergstra, Desjardins, Lamblin & Bengio (2009), "Quadratic Polynomials Learn Better Image Features".
    pub struct Softsign;
    softsign = |x| Ok(x.softsign())
}

activation! {
    /// `x − tanh(x)`
    ///
    /// PyTorch: `nn.Tanhshrink`; Keras: `activations.tanh_shrink`.
    pub struct Tanhshrink;
    tanhshrink = |x| Ok(x.tanhshrink())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::tests::check_formula;
    use crate::{Module, Sequential};

    #[test]
    fn elu_family() {
        check_formula(Elu::new(), "elu", |x| if x > 0.0 { x } else { x.exp() - 1.0 });
        check_formula(Elu::new().alpha(0.5), "elu", |x| if x > 0.0 { x } else { 0.5 * (x.exp() - 1.0) });
        check_formula(Celu::new().alpha(2.0), "celu", |x| if x > 0.0 { x } else { 2.0 * ((x / 2.0).exp() - 1.0) });
        check_formula(Selu, "selu", |x| {
            1.0507009873554805 * if x > 0.0 { x } else { 1.6732632423543772 * (x.exp() - 1.0) }
        });
    }

    #[test]
    fn softplus_and_what_is_made_of_it() {
        check_formula(Softplus::new(), "softplus", |x| (1.0 + x.exp()).ln());
        check_formula(Softplus::new().beta(3.0).threshold(1.0), "softplus", |x| {
            if 3.0 * x > 1.0 { x } else { (1.0 + (3.0 * x).exp()).ln() / 3.0 }
        });
        check_formula(LogSigmoid, "log_sigmoid", |x| -(1.0 + (-x).exp()).ln());
        check_formula(Mish, "mish", |x| x * (1.0 + x.exp()).ln().tanh());
    }

    #[test]
    fn softsign_and_tanhshrink() {
        check_formula(Softsign, "softsign", |x| x / (1.0 + x.abs()));
        check_formula(Tanhshrink, "tanhshrink", |x| x - x.tanh());
    }

    #[test]
    fn wrong_numbers_are_refused_when_a_model_is_built_and_when_it_runs() {
        let text = "celu: alpha is 0; help: use a finite number other than 0";
        let built = Sequential::input([2]).celu(0.0).build(1).err().unwrap().to_string();
        assert_eq!(built, format!("layer 0 (Celu 0): {text}"));
        let x = maplet_tensor::Tensor::from([1.0f32]).into();
        for wrong in [0.0, f64::NAN, f64::INFINITY] {
            let help = "help: use a finite number other than 0";
            let text = Celu::new().alpha(wrong).forward(&x).unwrap_err().to_string();
            assert_eq!(text, format!("celu: alpha is {wrong}; {help}"));
            let text = Softplus::new().beta(wrong).forward(&x).unwrap_err().to_string();
            assert_eq!(text, format!("softplus: beta is {wrong}; {help}"));
        }
    }
}
