//! Elements go elsewhere: shapes, slices, padding, joins and splits.

use super::table::{Case, other, sample};
use maplet_autograd::{PadMode, Var};

pub(crate) fn cases() -> Vec<Case> {
    let x = sample(&[2, 3, 4]);
    vec![
        Case::new("reshape", &[&x], |x| x[0].reshape([4, 6])),
        Case::new("flatten", &[&x], |x| x[0].flatten(1)),
        Case::new("squeeze", &[&sample(&[2, 1])], |x| x[0].squeeze(1)),
        Case::new("unsqueeze", &[&x], |x| x[0].unsqueeze(-1)),
        Case::new("slice", &[&x], |x| x[0].slice(0, 1, 2)),
        Case::new("slice", &[&x], |x| x[0].slice(-1, 1, 3)),
        Case::new("slice", &[&x], |x| x[0].slice(1, 2, 2)),
        Case::new("permute", &[&x], |x| x[0].permute(&[2, 0, 1])),
        Case::new("transpose", &[&x], |x| x[0].transpose(0, -1)),
        Case::new("flip", &[&x], |x| x[0].flip([0, 2])),
        Case::new("pad", &[&x], |x| x[0].pad(&[(0, 0), (1, 2), (3, 0)], 0.5)),
        Case::new("pad_with", &[&x], |x| x[0].pad_with(&[(0, 0), (2, 1), (1, 3)], PadMode::Reflect)),
        Case::new("pad_with", &[&x], |x| x[0].pad_with(&[(1, 2), (0, 0), (1, 3)], PadMode::Replicate)),
        Case::new("pad_with", &[&x], |x| x[0].pad_with(&[(0, 0), (3, 1), (4, 3)], PadMode::Circular)),
        Case::new("pad_with", &[&x], |x| x[0].pad_with(&[(0, 1), (1, 0), (0, 0)], PadMode::Zeros)),
        Case::new("pad_with_grad", &[&x], |x| {
            x[0].pad_with_grad([2, 2, 4], &[(0, 0), (0, 1), (0, 0)], PadMode::Reflect)
        }),
        Case::new("broadcast_to", &[&sample(&[3, 1])], |x| x[0].broadcast_to([2, 3, 4])),
        Case::new("broadcast_to", &[&x], |x| x[0].broadcast_to(x[0].shape())),
        Case::new("sum_to", &[&x], |x| x[0].sum_to([3, 1])),
        Case::new("concat", &[&x, &sample(&[2, 1, 4]), &sample(&[2, 0, 4])], |x| {
            Var::concat(&[&x[0], &x[1], &x[2]], 1)
        }),
        Case::new("stack", &[&x, &other(&[2, 3, 4])], |x| Var::stack(&[&x[0], &x[1]], -1)),
        Case::new("register_hook", &[&x], |x| Ok(x[0].register_hook(Ok))),
        Case::many("split", &[&x], |x| x[0].split(2, 1)),
    ]
}
