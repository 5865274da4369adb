//! Matrix products and linear maps.

use super::table::{Case, other, sample};
use maplet_autograd::{Activation, Bend, Trans};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("matmul", &[&sample(&[2, 3]), &sample(&[3, 4])], |x| x[0].matmul(&x[1])),
        Case::new("matmul", &[&sample(&[5, 1, 2, 3]), &sample(&[2, 3, 2])], |x| x[0].matmul(&x[1])),
        Case::new("matmul", &[&sample(&[2, 2, 3]), &sample(&[3, 2])], |x| x[0].matmul(&x[1])),
        Case::new("matmul", &[&sample(&[1, 1]), &other(&[1, 1])], |x| x[0].matmul(&x[1])),
        Case::new("matmul", &[&sample(&[2, 0]), &sample(&[0, 3])], |x| x[0].matmul(&x[1])),
    ];
    for (ta, tb) in [(false, true), (true, false), (true, true)] {
        let a: &[usize] = if ta { &[2, 3, 2] } else { &[2, 2, 3] };
        let b: &[usize] = if tb { &[4, 3] } else { &[3, 4] };
        let trans = Trans { a: ta, b: tb };
        cases.push(Case::new("matmul_with", &[&sample(a), &sample(b)], move |x| x[0].matmul_with(&x[1], trans)));
    }
    for activation in [Activation::Identity, Activation::Relu] {
        let (x, w, b) = (sample(&[2, 2, 3]), sample(&[4, 3]), sample(&[4]));
        cases.push(Case::new("linear", &[&x, &w, &b], move |x| x[0].linear(&x[1], Some(&x[2]), activation)));
        cases.push(Case::new("linear", &[&x, &w], move |x| x[0].linear(&x[1], None, activation)));
    }
    for bend in [Bend::Relu, Bend::Gelu] {
        let (x, first, second) = (sample(&[2, 2, 3]), sample(&[4, 3]), sample(&[2, 4]));
        let (first_bias, second_bias) = (sample(&[4]), other(&[2]));
        cases.push(Case::new("feed_forward", &[&x, &first, &second], move |x| {
            x[0].feed_forward([&x[1], &x[2]], [None; 2], bend, 0.0)
        }));
        cases.push(Case::new("feed_forward", &[&x, &first, &second, &first_bias, &second_bias], move |x| {
            x[0].feed_forward([&x[1], &x[2]], [Some(&x[3]), Some(&x[4])], bend, 0.0)
        }));
    }
    cases
}
