//! Convolutions, their adjoints, and what is fused with them.

use super::table::{Case, other, sample};
use maplet_autograd::{Activation, Window, Window1d, Window2d, Window3d};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    convolution(&mut cases, 2, [5, 4], Window2d::new([3, 2]));
    convolution(&mut cases, 2, [5, 4], Window2d::new([3, 2]).stride(2).padding(1));
    convolution(&mut cases, 2, [5, 4], Window2d::new([3, 2]).padding([2, 0]).dilation([2, 1]).stride([1, 3]));
    convolution(&mut cases, 2, [5, 4], Window2d::new([3, 2]).groups(2));
    convolution(&mut cases, 1, [1, 1], Window2d::new(1));
    convolution(&mut cases, 2, [7], Window1d::new(3).stride(2).padding(1).dilation(2).groups(2));
    convolution(&mut cases, 2, [3, 2, 3], Window3d::new([2, 1, 2]).stride([1, 1, 2]).padding([1, 0, 1]));

    transposed(&mut cases, [4], Window1d::new(3).stride(2).padding(1), [1]);
    transposed(&mut cases, [3, 2], Window2d::new([2, 3]).stride([2, 1]).groups(2), [1, 0]);
    transposed(&mut cases, [3, 2], Window2d::new(2).dilation(3).padding([1, 0]), [2, 1]); // beyond the stride
    transposed(&mut cases, [2, 1, 2], Window3d::new([1, 2, 2]).stride([1, 3, 2]), [0, 2, 1]);

    let window = Window2d::new([3, 2]).stride([1, 2]).padding(1).dilation([2, 1]);
    cases.push(Case::new("unfold", &[&sample(&[2, 2, 5, 4])], move |x| x[0].unfold(window)));
    cases.push(Case::new("unfold", &[&sample(&[1, 2, 5])], |x| x[0].unfold(Window1d::new(2))));
    cases.push(Case::new("fold", &[&sample(&[2, 12, 9])], move |x| x[0].fold([5, 4], window)));

    let (x, w, b) = (sample(&[2, 2, 5, 4]), sample(&[4, 2, 3, 2]), sample(&[4]));
    let window = Window2d::new([3, 2]).stride([1, 2]).padding(1);
    let pool = Window2d::pool(2);
    cases.push(Case::new("conv2d_relu_max_pool2d", &[&x, &w, &b], move |x| {
        x[0].conv2d_relu_max_pool2d(&x[1], Some(&x[2]), window, pool)
    }));
    cases.push(Case::new("conv2d_relu_max_pool2d", &[&x, &w], move |x| {
        x[0].conv2d_relu_max_pool2d(&x[1], None, window, pool)
    }));
    cases
}

/// A convolution in all its forms: plain, with bias and activation, and its two adjoints.
fn convolution<const D: usize>(cases: &mut Vec<Case>, n: usize, size: [usize; D], window: Window<D>) {
    let x = sample(&[&[n, 2], &size[..]].concat());
    let w = other(&[&[4, 2 / window.groups], &window.kernel[..]].concat());
    let dy = sample(&[&[n, 4], &window.output("conv", size).unwrap()[..]].concat());
    let (b, x_shape, w_shape) = (sample(&[4]), x.shape(), w.shape());
    cases.push(Case::new("conv", &[&x, &w], move |x| x[0].conv(&x[1], window)));
    cases.push(Case::new("conv_grad_input", &[&dy, &w], move |x| x[0].conv_grad_input(&x[1], x_shape, window)));
    cases.push(Case::new("conv_grad_weight", &[&dy, &x], move |x| x[0].conv_grad_weight(&x[1], w_shape, window)));
    for activation in [Activation::Identity, Activation::Relu] {
        cases.push(Case::new("conv_bias", &[&x, &w, &b], move |x| {
            x[0].conv_bias(&x[1], Some(&x[2]), window, activation)
        }));
        cases.push(Case::new("conv_bias", &[&x, &w], move |x| x[0].conv_bias(&x[1], None, window, activation)));
    }
}

fn transposed<const D: usize>(cases: &mut Vec<Case>, size: [usize; D], window: Window<D>, more: [usize; D]) {
    let x = sample(&[&[2, 2], &size[..]].concat());
    let w = other(&[&[2, 4 / window.groups], &window.kernel[..]].concat());
    cases.push(Case::new("conv_transpose", &[&x, &w, &sample(&[4])], move |x| {
        x[0].conv_transpose(&x[1], Some(&x[2]), window, more)
    }));
    cases.push(Case::new("conv_transpose", &[&x, &w], move |x| x[0].conv_transpose(&x[1], None, window, more)));
}
