//! Convolutions, their adjoints, and what is fused with them.

use super::table::{Case, other, sample};
use maplet_autograd::{Activation, Window2d};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let (x, w, b) = (sample(&[2, 2, 5, 4]), sample(&[4, 2, 3, 2]), sample(&[4]));
    let windows = [
        Window2d::new([3, 2]),
        Window2d::new([3, 2]).stride(2).padding(1),
        Window2d::new([3, 2]).padding([2, 0]).dilation([2, 1]).stride([1, 3]),
    ];
    for window in windows {
        cases.push(Case::new("conv2d", &[&x, &w], move |x| x[0].conv2d(&x[1], window)));
    }
    let grouped = Window2d::new([3, 2]).groups(2);
    let gw = sample(&[4, 1, 3, 2]);
    cases.push(Case::new("conv2d", &[&x, &gw], move |x| x[0].conv2d(&x[1], grouped)));
    cases.push(Case::new("conv2d", &[&sample(&[1, 1, 1, 1]), &other(&[1, 1, 1, 1])], |x| {
        x[0].conv2d(&x[1], Window2d::new(1))
    }));

    let window = Window2d::new([3, 2]).stride([1, 2]).padding(1);
    let dy = sample(&[2, 4, 5, 3]);
    cases
        .push(Case::new("conv2d_grad_input", &[&dy, &w], move |x| x[0].conv2d_grad_input(&x[1], [2, 2, 5, 4], window)));
    cases.push(Case::new("conv2d_grad_weight", &[&dy, &x], move |x| {
        x[0].conv2d_grad_weight(&x[1], [4, 2, 3, 2], window)
    }));
    for activation in [Activation::Identity, Activation::Relu] {
        cases.push(Case::new("conv2d_bias", &[&x, &w, &b], move |x| {
            x[0].conv2d_bias(&x[1], Some(&x[2]), window, activation)
        }));
        cases.push(Case::new("conv2d_bias", &[&x, &w], move |x| x[0].conv2d_bias(&x[1], None, window, activation)));
    }
    let pool = Window2d::pool(2);
    cases.push(Case::new("conv2d_relu_max_pool2d", &[&x, &w, &b], move |x| {
        x[0].conv2d_relu_max_pool2d(&x[1], Some(&x[2]), window, pool)
    }));
    cases.push(Case::new("conv2d_relu_max_pool2d", &[&x, &w], move |x| {
        x[0].conv2d_relu_max_pool2d(&x[1], None, window, pool)
    }));
    cases
}
