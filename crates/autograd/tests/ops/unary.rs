//! Elementary functions of one value.

use super::table::{Case, positive, sample};
use maplet_autograd::{DType, Tensor, Var};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in [&[2usize, 3][..], &[], &[1, 1], &[0]] {
        let (x, p) = (sample(shape), positive(shape));
        let mut plain =
            |name, x: &Tensor, op: fn(&Var) -> Var| cases.push(Case::new(name, &[x], move |x| Ok(op(&x[0]))));
        plain("add_scalar", &x, |x| x.add_scalar(1.5));
        plain("mul_scalar", &x, |x| x.mul_scalar(-1.5));
        plain("pow_scalar", &x, |x| x.pow_scalar(3.0));
        plain("pow_scalar", &x, |x| x.pow_scalar(0.0));
        plain("pow_scalar", &p, |x| x.pow_scalar(-0.5));
        plain("neg", &x, Var::neg);
        plain("abs", &x, Var::abs);
        plain("exp", &x, Var::exp);
        plain("log", &p, Var::log);
        plain("sqrt", &p, Var::sqrt);
        plain("recip", &x, Var::recip);
        plain("square", &x, Var::square);
        plain("sin", &x, Var::sin);
        plain("cos", &x, Var::cos);
        plain("clamp", &x, |x| x.clamp(-1.0001, 1.2501));
        plain("to_dtype", &x, |x| x.to_dtype(DType::F64));
        cases.push(Case::new("sign", &[&x], |x| Ok(x[0].sign())).cut());
        cases.push(Case::new("to_dtype", &[&x], |x| Ok(x[0].to_dtype(DType::I64))).cut());
    }
    cases
}
