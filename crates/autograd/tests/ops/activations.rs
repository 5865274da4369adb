//! Activations. Their kinks lie between the samples.

use super::table::{Case, other, sample};
use maplet_autograd::{Tensor, Var};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in [&[2usize, 3][..], &[], &[1, 1], &[0]] {
        let x = sample(shape);
        let mut plain =
            |name, x: &Tensor, op: fn(&Var) -> Var| cases.push(Case::new(name, &[x], move |x| Ok(op(&x[0]))));
        plain("relu", &x, Var::relu);
        plain("leaky_relu", &x, |x| x.leaky_relu(0.1));
        plain("sigmoid", &x, Var::sigmoid);
        plain("tanh", &x, Var::tanh);
        plain("silu", &x, Var::silu);
        plain("gelu", &x, Var::gelu);
        plain("gelu_tanh", &x, Var::gelu_tanh);
        plain("elu", &x, |x| x.elu(0.7));
        plain("selu", &x, Var::selu);
        plain("celu", &x, |x| x.celu(0.7));
        plain("softplus", &x, |x| x.softplus(2.0, 1.1)); // on both sides of the threshold
        plain("log_sigmoid", &x, Var::log_sigmoid);
        plain("mish", &x, Var::mish);
        plain("softsign", &x, Var::softsign);
        plain("tanhshrink", &x, Var::tanhshrink);
        plain("relu6", &x, |x| x.mul_scalar(5.0).relu6());
        plain("hardtanh", &x, |x| x.hardtanh(-1.0001, 1.2501));
        plain("hardsigmoid", &x, |x| x.mul_scalar(3.0).hardsigmoid());
        plain("hardswish", &x, |x| x.mul_scalar(3.0).hardswish());
        plain("threshold", &x, |x| x.threshold(0.5001, -2.0));
        plain("hardshrink", &x, |x| x.hardshrink(0.5001));
        plain("softshrink", &x, |x| x.softshrink(0.5001));
        cases.push(Case::new("rrelu", &[&x], |x| x[0].rrelu(0.1, 0.4)));
    }
    for (shape, weight) in [(&[2usize, 3, 2][..], &[3usize][..]), (&[2, 3], &[1]), (&[4], &[1]), (&[2, 3], &[])] {
        cases.push(Case::new("prelu", &[&sample(shape), &other(weight)], |x| x[0].prelu(&x[1])));
    }
    let x = sample(&[2, 4, 3]);
    cases.push(Case::new("glu", &[&x], |x| x[0].glu(1)));
    cases.push(Case::new("swiglu", &[&x], |x| x[0].swiglu(-2)));
    cases.push(Case::new("geglu", &[&x], |x| x[0].geglu(0)));
    cases.push(Case::new("reglu", &[&x], |x| x[0].reglu(1)));
    cases
}
