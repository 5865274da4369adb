//! Sums, means, extremes and running sums over axes.

use super::table::{Case, sample};

pub(crate) fn cases() -> Vec<Case> {
    let (x, axes) = (sample(&[2, 3, 4]), [0isize, -1]);
    vec![
        Case::new("sum", &[&x], |x| x[0].sum(.., false)),
        Case::new("sum", &[&x], move |x| x[0].sum(axes, true)),
        Case::new("sum", &[&sample(&[0, 3])], |x| x[0].sum(0, false)),
        Case::new("mean", &[&x], |x| x[0].mean(1, false)),
        Case::new("mean", &[&x], move |x| x[0].mean(axes, true)),
        Case::new("var", &[&x], |x| x[0].var(.., false, 1)),
        Case::new("var", &[&x], move |x| x[0].var(axes, true, 0)),
        Case::new("max", &[&x], |x| x[0].max(1, false)),
        Case::new("max", &[&x], move |x| x[0].max(axes, true)),
        Case::new("min", &[&x], |x| x[0].min(.., false)),
        Case::new("min", &[&sample(&[1, 3])], |x| x[0].min(0, true)),
        Case::new("cumsum", &[&x], |x| x[0].cumsum(1)),
        Case::new("cumsum", &[&sample(&[1])], |x| x[0].cumsum(-1)),
        Case::new("argmax", &[&x], |x| x[0].argmax(1, false)).cut(),
        Case::new("argmin", &[&x], |x| x[0].argmin(-1, true)).cut(),
    ]
}
