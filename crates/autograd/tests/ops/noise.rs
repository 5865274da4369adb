//! Random numbers, which come from the pass: dropout and its relatives.

use super::table::{Case, sample};

pub(crate) fn cases() -> Vec<Case> {
    let (x, images) = (sample(&[4, 5]), sample(&[2, 3, 2]));
    vec![
        Case::new("dropout", &[&x], |x| x[0].dropout(0.4)),
        Case::new("dropout", &[&x], |x| x[0].dropout(1.0)),
        Case::new("dropout_leading", &[&images], |x| x[0].dropout_leading(0.4, 2)),
        Case::new("dropout_leading", &[&images], |x| x[0].dropout_leading(0.4, 0)),
        Case::new("alpha_dropout", &[&x], |x| x[0].alpha_dropout(0.4, 2)),
        Case::new("alpha_dropout", &[&images], |x| x[0].alpha_dropout(0.4, 1)),
        Case::new("gaussian_noise", &[&x], |x| x[0].gaussian_noise(0.5)),
        Case::new("gaussian_dropout", &[&x], |x| x[0].gaussian_dropout(0.3)),
    ]
}
