//! Two operands, broadcast: arithmetic, comparisons, choice.

use super::table::{Case, other, positive, sample};
use maplet_autograd::Tensor;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // The same shape, rows, both stretched, scalars, one element, nothing.
    let shapes: [[&[usize]; 2]; 6] =
        [[&[2, 3], &[2, 3]], [&[2, 3], &[3]], [&[2, 1, 3], &[4, 1]], [&[], &[2]], [&[1], &[1]], [&[0, 3], &[3]]];
    for [a, b] in shapes {
        let (a, b, base, exponent) = (sample(a), other(b), positive(a), other(b));
        cases.push(Case::new("add", &[&a, &b], |x| x[0].add(&x[1])));
        cases.push(Case::new("add_to", &[&a, &b], |x| x[0].add_to(x[1].mul_scalar(2.0))));
        cases.push(Case::new("sub", &[&a, &b], |x| x[0].sub(&x[1])));
        cases.push(Case::new("mul", &[&a, &b], |x| x[0].mul(&x[1])));
        cases.push(Case::new("div", &[&a, &b], |x| x[0].div(&x[1])));
        cases.push(Case::new("pow", &[&base, &exponent], |x| x[0].pow(&x[1])));
        cases.push(Case::new("maximum", &[&a, &b], |x| x[0].maximum(&x[1])));
        cases.push(Case::new("minimum", &[&a, &b], |x| x[0].minimum(&x[1])));
        let mask = a.greater(&Tensor::scalar(0.0f64)).unwrap();
        cases.push(Case::new("where_cond", &[&mask, &a, &b], |x| x[0].where_cond(&x[1], &x[2])));
        cases.push(Case::new("equal", &[&a, &b], |x| x[0].equal(&x[1])).cut());
        cases.push(Case::new("not_equal", &[&a, &b], |x| x[0].not_equal(&x[1])).cut());
        cases.push(Case::new("less", &[&a, &b], |x| x[0].less(&x[1])).cut());
        cases.push(Case::new("less_equal", &[&a, &b], |x| x[0].less_equal(&x[1])).cut());
        cases.push(Case::new("greater", &[&a, &b], |x| x[0].greater(&x[1])).cut());
        cases.push(Case::new("greater_equal", &[&a, &b], |x| x[0].greater_equal(&x[1])).cut());
    }
    cases
}
