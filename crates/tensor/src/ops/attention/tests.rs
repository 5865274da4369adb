//! Attention against its definition, in plain loops.

use super::*;
use crate::Rng;
use crate::ops::testing::{dot, slope};
use proptest::prelude::*;

fn normal(shape: &[usize], seed: u64) -> Tensor {
    Tensor::normal(Shape::new(shape).unwrap(), 0.0f64, 1.0, &mut Rng::new(seed))
}

/// The dropout's, of every test with a definition.
fn generator() -> Rng {
    Rng::new(5)
}

/// `[n, heads, t_q, d]` with `[n, kv_heads, t_k, ..]` by the definition, in `f64`.
fn naive([q, k, v]: [&Tensor; 3], attend: &Attend) -> Vec<f64> {
    let [n, heads, t_q, d] = q.dims("").unwrap();
    let ([_, kv_heads, t_k, _], [.., d_v]) = (k.dims("").unwrap(), v.dims::<4>("").unwrap());
    let scores = Shape::from([n, heads, t_q, t_k]);
    let factor = |drop: f64| match drop {
        0.0 => Tensor::ones(scores, DType::F64),
        _ => Tensor::dropout_mask(scores, DType::F64, drop, &mut generator()).unwrap(),
    };
    let bias = attend.mask.as_ref().map(|mask| {
        let bias = match mask.dtype() {
            DType::U8 => mask.to_dtype(DType::F64).log(),
            _ => mask.to_dtype(DType::F64),
        };
        bias.broadcast_to(scores).unwrap().to_vec::<f64>().unwrap()
    });
    let factor = factor(attend.dropout).to_vec::<f64>().unwrap();
    let (q, k, v) = (q.as_slice::<f64>().unwrap(), k.as_slice::<f64>().unwrap(), v.as_slice::<f64>().unwrap());
    let mut out = Vec::new();
    for row in 0..n * heads * t_q {
        let (head, i) = (row / t_q, row % t_q);
        let kv_head = head / heads * kv_heads + head % heads * kv_heads / heads;
        let score = |j: usize| {
            let product: f64 = (0..d).map(|f| q[row * d + f] * k[(kv_head * t_k + j) * d + f]).sum();
            let hidden = attend.causal.is_some_and(|first| j > first.saturating_add(i));
            let bias = bias.as_ref().map_or(0.0, |bias| bias[row * t_k + j]);
            if hidden { f64::NEG_INFINITY } else { product * attend.scale.unwrap_or(1.0 / (d as f64).sqrt()) + bias }
        };
        let exps: Vec<f64> = (0..t_k).map(|j| score(j).exp()).collect();
        let total: f64 = exps.iter().sum();
        for f in 0..d_v {
            let term = |j: usize| exps[j] / total * factor[row * t_k + j] * v[(kv_head * t_k + j) * d_v + f];
            out.push(if total == 0.0 { 0.0 } else { (0..t_k).map(term).sum() });
        }
    }
    out
}

fn check(sizes: [usize; 7], attend: &Attend) {
    let [n, heads, kv_heads, t_q, t_k, d, d_v] = sizes;
    let inputs =
        [normal(&[n, heads, t_q, d], 1), normal(&[n, kv_heads, t_k, d], 2), normal(&[n, kv_heads, t_k, d_v], 3)];
    let want = naive(inputs.each_ref(), attend);
    for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-5)] {
        let inputs = inputs.each_ref().map(|x| x.to_dtype(dtype));
        let mask = attend.mask.as_ref().map(|m| if m.dtype() == DType::U8 { m.clone() } else { m.to_dtype(dtype) });
        let attend = Attend { mask, ..attend.clone() };
        let (y, sums) = Tensor::attention(inputs.each_ref(), Heads::Axis, &attend).unwrap();
        assert_eq!((y.shape(), sums.shape()), ([n, heads, t_q, d_v].into(), [n, heads, t_q].into()));
        for (y, want) in y.to_dtype(DType::F64).as_slice::<f64>().unwrap().iter().zip(&want) {
            // Averages of some hundred numbers near 1.
            assert!((y - want).abs() <= tolerance, "{sizes:?} {attend:?}: {y} against {want}");
        }
    }
}

/// A mask of zeros and ones, and one of numbers, some of them −∞.
fn masks(shape: &[usize]) -> [Tensor; 2] {
    let bias = normal(shape, 4);
    let may = bias.greater(&Tensor::scalar(-0.5f64)).unwrap();
    let some = may.where_cond(&bias, &Tensor::scalar(f64::NEG_INFINITY)).unwrap();
    [may, some]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 40 }))]
    #[test]
    fn equals_its_definition(
        n in 0usize..3, group in 1usize..3, kv_heads in 1usize..3, t_q in 0usize..40, t_k in 0usize..50,
        d in 1usize..20, d_v in 0usize..20, causal in prop::option::of(0usize..9), mask in 0usize..10, dropout: bool,
    ) {
        let heads = group * kv_heads;
        let shapes: [&[usize]; 5] =
            [&[n, heads, t_q, t_k], &[t_q, t_k], &[n, 1, 1, t_k], &[heads, t_q, 1], &[t_k]];
        let mask = Some(masks(shapes[mask / 2])[mask % 2].clone());
        let dropout = if dropout { 0.3 } else { 0.0 };
        let attend = Attend { mask, causal, scale: None, dropout, seed: generator().next_u64() };
        check([n, heads, kv_heads, t_q, t_k, d, d_v], &attend);
        check([n, heads, kv_heads, t_q, t_k, d, d_v], &Attend { mask: None, ..attend });
    }
}

#[test]
#[cfg(not(miri))]
fn several_blocks_equal_the_definition() {
    for causal in [None, Some(0), Some(130), Some(usize::MAX)] {
        let attend = Attend { causal, scale: Some(0.7), ..Attend::default() };
        check([1, 2, 1, 70, 300, 33, 40], &attend);
        check([1, 1, 1, 1, 260, 8, 8], &attend);
        for mask in masks(&[2, 70, 300]) {
            check([1, 2, 2, 70, 300, 5, 3], &Attend { mask: Some(mask), ..attend.clone() });
        }
    }
}

fn grads(inputs: [&Tensor; 3], heads: Heads, attend: &Attend, dy: &Tensor) -> [Option<Tensor>; 3] {
    let (y, sums) = Tensor::attention(inputs, heads, attend).unwrap();
    Tensor::attention_grad(inputs, heads, attend, [&y, &sums], dy, [true; 3]).unwrap()
}

#[test]
#[cfg(not(miri))]
fn the_adjoint_agrees_with_differences() {
    let t_k = 290; // three blocks of keys, in parts: one head has fewer tasks than wanted
    for (sizes, mask) in [
        ([1, 1, 1, 40], None),
        ([1, 1, 1, 40], Some(masks(&[40, t_k])[0].clone())),
        ([3, 4, 2, 20], Some(masks(&[4, 20, t_k])[1].clone())),
        ([2, 5, 5, 3], Some(masks(&[2, 1, 1, t_k])[0].clone())),
    ] {
        let [n, heads, kv_heads, t_q] = sizes;
        let inputs =
            [normal(&[n, heads, t_q, 6], 1), normal(&[n, kv_heads, t_k, 6], 2), normal(&[n, kv_heads, t_k, 7], 3)];
        let dy = normal(&[n, heads, t_q, 7], 6);
        for (causal, dropout) in [(None, 0.0), (Some(4), 0.0), (Some(100), 0.0), (None, 0.4), (Some(200), 0.4)] {
            let attend = Attend { mask: mask.clone(), causal, scale: None, dropout, seed: 77 };
            let grads = grads(inputs.each_ref(), Heads::Axis, &attend, &dy);
            for (i, grad) in grads.iter().enumerate() {
                let direction = normal(&inputs[i].shape(), 8);
                let value =
                    |x: &[Tensor; 3]| dot(&Tensor::attention(x.each_ref(), Heads::Axis, &attend).unwrap().0, &dy);
                let difference = slope(value, &inputs, i, &direction);
                let found = dot(grad.as_ref().unwrap(), &direction);
                let error = (found - difference).abs();
                assert!(
                    error < 1e-6 * difference.abs().max(1.0),
                    "{sizes:?} {causal:?} {dropout}, {i}: {found} {difference}"
                );
            }
        }
    }
}

#[test]
fn every_layout_gives_the_same_bits() {
    same_in_every_layout([2, 3, 35, 5]);
    #[cfg(not(miri))]
    same_in_every_layout([1, 2, 300, 4]); // few heads, whose keys are cut into parts
}

fn same_in_every_layout([n, heads, t, d]: [usize; 4]) {
    let parts = [1, 2, 3].map(|seed| normal(&[n, t, heads * d], seed).to_dtype(DType::F32));
    let packed = Tensor::concat(&parts.each_ref(), -1).unwrap();
    let axis = |x: &Tensor| x.reshape([n, t, heads, d]).unwrap().permute(&[0, 2, 1, 3]).unwrap();
    let joined = |x: &Tensor| x.permute(&[0, 2, 1, 3]).unwrap().reshape([n, t, heads * d]).unwrap();
    let split = parts.each_ref().map(axis);
    let attend = Attend { causal: Some(0), dropout: 0.2, seed: 3, ..Attend::default() };

    let y = Tensor::attention(split.each_ref(), Heads::Axis, &attend).unwrap().0;
    let dy = normal(&[n, heads, t, d], 9).to_dtype(DType::F32);
    let want = grads(split.each_ref(), Heads::Axis, &attend, &dy).map(|grad| joined(&grad.unwrap()));
    for (inputs, layout) in [(parts.each_ref(), Heads::Joined(heads)), ([&packed; 3], Heads::Packed(heads))] {
        assert_eq!(Tensor::attention(inputs, layout, &attend).unwrap().0, joined(&y));
        let found = grads(inputs, layout, &attend, &joined(&dy));
        let found = match layout {
            Heads::Packed(_) => {
                assert!(found[1].is_none() && found[2].is_none());
                found[0].as_ref().unwrap().split(heads * d, -1).unwrap()
            }
            _ => found.into_iter().flatten().collect(),
        };
        assert_eq!(found, want);
    }
}

#[test]
fn a_query_that_sees_nothing_gets_zeros_and_no_gradient() {
    let x = normal(&[1, 1, 3, 4], 1);
    let may = Tensor::from([[1u8, 0, 1], [0, 0, 0], [1, 1, 1]]);
    let attend = Attend { mask: Some(may), ..Attend::default() };
    let y = Tensor::attention([&x; 3], Heads::Axis, &attend).unwrap().0;
    let row = |y: &Tensor| y.as_slice::<f64>().unwrap()[4..8].to_vec();
    assert_eq!(row(&y), [0.0; 4]);
    let [dq, dk, dv] = grads([&x; 3], Heads::Axis, &attend, &normal(&[1, 1, 3, 4], 2)).map(Option::unwrap);
    assert_eq!(row(&dq), [0.0; 4]);
    assert!([dk, dv].iter().all(|grad| grad.as_slice::<f64>().unwrap().iter().all(|x| x.is_finite())));
}

#[test]
#[cfg(not(miri))]
fn bits_do_not_depend_on_the_number_of_threads() {
    let inputs = [1, 2, 3].map(|seed| normal(&[1, 2, 400, 16], seed).to_dtype(DType::F32));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| grads(inputs.each_ref(), Heads::Axis, &Attend::default(), &inputs[0]))
    };
    assert!(run(1) == run(2) && run(1) == run(7));
}

#[test]
fn misfits_are_explained() {
    let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape).unwrap(), DType::F32);
    let text = |shapes: [&[usize]; 3], heads, attend: &Attend| {
        let inputs = shapes.map(zeros);
        let error = Tensor::attention(inputs.each_ref(), heads, attend).unwrap_err().to_string();
        error.strip_prefix("scaled_dot_product_attention: ").unwrap().to_string()
    };
    let plain = Attend::default();
    let help = "help: they are [.., heads, t_q, d], [.., heads, t_k, d] and [.., heads, t_k, d_v]";
    for shapes in
        [[&[2usize, 3, 4][..], &[2, 3, 5], &[2, 3, 4]], [&[2, 3, 4], &[2, 3, 4], &[2, 5, 4]], [&[4], &[4], &[4]]]
    {
        let [q, k, v] = shapes.map(|shape| format!("{shape:?}"));
        assert_eq!(text(shapes, Heads::Axis, &plain), format!("q {q}, k {k} and v {v} do not fit; {help}"));
    }
    let x: &[usize] = &[2, 3, 4];
    let found = text([x; 3], Heads::Joined(3), &plain);
    let divide = "help: the number of heads must divide the size of a row";
    assert_eq!(found, format!("rows of 4 numbers do not divide into 3 heads; {divide}"));
    assert_eq!(
        text([x; 3], Heads::Packed(2), &plain),
        format!("rows of 4 numbers do not divide into 6 heads; {divide}")
    );
    let found = text([x, &[2, 3, 4], &[2, 2, 4]], Heads::Joined(2), &plain);
    let help = "help: they are [n, t_q, heads · d], [n, t_k, heads · d] and [n, t_k, heads · d_v]";
    assert_eq!(found, format!("q [2, 3, 4], k [2, 3, 4] and v [2, 2, 4] do not fit, with 2 heads; {help}"));
    let found = text([&[1, 3, 2, 4], &[1, 2, 2, 4], &[1, 2, 2, 4]], Heads::Axis, &plain);
    assert_eq!(
        found,
        "3 heads of queries cannot share 2 heads of keys; help: the heads of keys must divide those of queries"
    );

    let masked = |mask| Attend { mask: Some(mask), ..Attend::default() };
    let found = text([x; 3], Heads::Axis, &masked(zeros(&[3, 4])));
    let help = "help: a mask is [.., heads, t_q, t_k], where every axis may be 1";
    assert_eq!(found, format!("the mask [3, 4] does not broadcast to the scores [2, 3, 3]; {help}"));
    let found = text([x; 3], Heads::Axis, &masked(Tensor::zeros([3, 3], DType::I64)));
    assert_eq!(found, "the mask is i64, the queries are f32; help: masks are u8, or f32 to be added to the scores");
    for dropout in [1.0, -0.1] {
        let found = text([x; 3], Heads::Axis, &Attend { dropout, ..Attend::default() });
        assert_eq!(found, format!("the probability of dropout is {dropout}; help: use 0 or more, and less than 1"));
    }
    let [x, y] = [zeros(x), zeros(&[2, 3, 5])];
    let error = Tensor::attention_grad([&x; 3], Heads::Axis, &plain, [&y, &y], &y, [true; 3]).unwrap_err().to_string();
    let help = "help: they are what attention returned";
    assert_eq!(error, format!("attention_grad: outputs [2, 3, 5] and [2, 3, 5] are not of these inputs; {help}"));
}
