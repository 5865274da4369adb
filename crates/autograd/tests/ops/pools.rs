//! Pooling windows.

use super::table::{Case, sample};
use maplet_autograd::Window2d;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let x = sample(&[2, 2, 5, 4]);
    for window in [Window2d::pool(2), Window2d::new(3).stride(2).padding(1), Window2d::new([2, 1])] {
        cases.push(Case::new("max_pool2d", &[&x], move |x| x[0].max_pool2d(window)));
        cases.push(Case::new("avg_pool2d", &[&x], move |x| x[0].avg_pool2d(window)));
    }
    cases
}
