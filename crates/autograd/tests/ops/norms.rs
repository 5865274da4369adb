//! Normalizations.

use super::table::{Case, other, positive, sample};
use maplet_tensor::Activation;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let (w, b) = (positive(&[3]), other(&[3]));
    for shape in [&[4usize, 3][..], &[2, 2, 3], &[3]] {
        cases.push(Case::new("layer_norm", &[&sample(shape), &w, &b], |x| x[0].layer_norm(&x[1], &x[2], 0.1)));
        cases.push(Case::new("rms_norm", &[&sample(shape), &w], |x| x[0].rms_norm(&x[1], 0.1)));
    }
    let (gw, gb) = (positive(&[4]), other(&[4]));
    for (shape, groups) in [(&[3usize, 4][..], 2), (&[2, 4, 2, 2], 2), (&[2, 4, 3], 1), (&[1, 4, 3], 4)] {
        cases.push(Case::new("group_norm", &[&sample(shape), &gw, &gb], move |x| {
            x[0].group_norm(groups, &x[1], &x[2], 0.1)
        }));
    }
    for (shape, activation) in [
        (&[4usize, 3][..], Activation::Identity),
        (&[2, 3, 2, 2], Activation::Identity),
        (&[2, 3, 2, 2], Activation::Relu),
    ] {
        let x = sample(shape);
        cases.push(Case::new("batch_norm", &[&x, &w, &b], move |x| {
            Ok(x[0].batch_norm(&x[1], &x[2], 0.1, activation)?.0)
        }));
        let (mean, var) = (sample(&[3]), positive(&[3]));
        cases.push(Case::new("batch_norm_with", &[&x, &w, &b], move |x| {
            x[0].batch_norm_with(&mean, &var, &x[1], &x[2], 0.1, activation)
        }));
    }
    cases
}
