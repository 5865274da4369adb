//! Pooling windows.

use super::table::{Case, positive, sample};
use maplet_autograd::{OutputSize, Pool, Tensor, Window, Window1d, Window2d, Window3d};

fn shape<const D: usize>(sizes: [usize; D]) -> Vec<usize> {
    [&[2, 2], &sizes[..]].concat()
}

fn windows<const D: usize>(cases: &mut Vec<Case>, sizes: [usize; D], windows: &[Window<D>]) {
    let x = sample(&shape(sizes));
    for &window in windows {
        for pool in [Pool::from(window), Pool::from(window).ceil_mode(true).count_include_pad(false)] {
            cases.push(Case::new("max_pool", &[&x], move |x| x[0].max_pool(pool)));
            cases.push(Case::many("max_pool_with_indices", &[&x], move |x| {
                let (y, indices) = x[0].max_pool_with_indices(pool)?;
                Ok(vec![y, indices])
            }));
            cases.push(Case::new("avg_pool", &[&x], move |x| x[0].avg_pool(pool)));
            // Of positive numbers, whose norm has no kink.
            cases.push(Case::new("lp_pool", &[&positive(&shape(sizes))], move |x| x[0].lp_pool(3.0, pool)));
        }
        cases.push(Case::new("avg_pool", &[&x], move |x| x[0].avg_pool(Pool::from(window).divisor_override(3))));
    }
}

fn adaptive<const D: usize>(cases: &mut Vec<Case>, sizes: [usize; D], outputs: &[[usize; D]]) {
    let x = sample(&shape(sizes));
    for &output in outputs {
        let output = OutputSize::from(output);
        cases.push(Case::new("adaptive_max_pool", &[&x], move |x| x[0].adaptive_max_pool(output)));
        cases.push(Case::many("adaptive_max_pool_with_indices", &[&x], move |x| {
            let (y, indices) = x[0].adaptive_max_pool_with_indices(output)?;
            Ok(vec![y, indices])
        }));
        cases.push(Case::new("adaptive_avg_pool", &[&x], move |x| x[0].adaptive_avg_pool(output)));
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    windows(&mut cases, [7], &[Window1d::pool(2), Window1d::new(3).padding(1).dilation(2)]);
    let padded = Window2d::new(3).stride(2).padding(1);
    windows(&mut cases, [5, 4], &[Window2d::pool(2), padded, Window2d::new([2, 1])]);
    windows(&mut cases, [3, 2, 4], &[Window3d::pool([2, 1, 2]), Window3d::new(2).padding(1).stride([2, 1, 3])]);
    adaptive(&mut cases, [5], &[[1], [3], [7]]);
    adaptive(&mut cases, [5, 4], &[[3, 3], [1, 4]]);
    adaptive(&mut cases, [3, 2, 4], &[[2, 1, 3]]);
    cases.push(Case::new("fractional_max_pool", &[&sample(&[2, 2, 5, 6])], |x| x[0].fractional_max_pool(2, [3, 4])));
    cases.push(Case::many("fractional_max_pool_with_indices", &[&sample(&[1, 2, 4, 5, 3])], |x| {
        let (y, indices) = x[0].fractional_max_pool_with_indices([2, 2, 1], [0.6, 0.7, 1.0], None)?;
        Ok(vec![y, indices])
    }));
    let places = Tensor::from([[[[7i64, 0], [5, 2]]]]);
    cases.push(Case::new("max_unpool", &[&sample(&[1, 1, 2, 2]), &places], |x| x[0].max_unpool(&x[1], [3, 3])));
    cases
}
