//! Softmax and its relatives, along an axis.

use super::table::{Case, sample};

pub(crate) fn cases() -> Vec<Case> {
    let x = sample(&[2, 3, 4]);
    let mut cases = Vec::new();
    for axis in [0, -1] {
        cases.push(Case::new("softmax", &[&x], move |x| x[0].softmax(axis)));
        cases.push(Case::new("softmin", &[&x], move |x| x[0].softmin(axis)));
        cases.push(Case::new("log_softmax", &[&x], move |x| x[0].log_softmax(axis)));
        cases.push(Case::new("logsumexp", &[&x], move |x| x[0].logsumexp(axis, axis == 0)));
    }
    cases
}
