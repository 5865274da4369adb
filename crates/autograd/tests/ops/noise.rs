//! Random numbers, which come from the pass: dropout.

use super::table::{Case, sample};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("dropout", &[&sample(&[4, 5])], |x| x[0].dropout(0.4))]
}
