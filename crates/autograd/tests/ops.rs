//! One battery for every op: an entry in the table below is checked for its derivatives (first and second order, by
//! finite differences), for belonging to the pass of any of its inputs, for recording nothing in inference, and for
//! refusing a loose parameter. An op that is missing from the table fails the last test.

use maplet_autograd::{
    Activation, DType, Error, Param, Pass, Result, Rng, Shape, Tensor, Trans, Var, Window2d, gradcheck,
};

type Run = Box<dyn Fn(&[Var]) -> Result<Vec<Var>>>;

/// An op on inputs: those of type `f64` are differentiated.
struct Case {
    name: &'static str,
    inputs: Vec<Tensor>,
    run: Run,
    /// No gradient flows through this op.
    cut: bool,
}

impl Case {
    fn new(name: &'static str, inputs: &[&Tensor], run: impl Fn(&[Var]) -> Result<Var> + 'static) -> Self {
        Self::many(name, inputs, move |x| Ok(vec![run(x)?]))
    }

    fn many(name: &'static str, inputs: &[&Tensor], run: impl Fn(&[Var]) -> Result<Vec<Var>> + 'static) -> Self {
        Self { name, inputs: inputs.iter().map(|x| (*x).clone()).collect(), run: Box::new(run), cut: false }
    }

    fn cut(self) -> Self {
        Self { cut: true, ..self }
    }
}

/// Numbers in (−2, 2), none nearer to 0 than 0.3, no two equal: away from every kink and tie.
fn sample(shape: &[usize]) -> Tensor {
    let shape = Shape::new(shape).unwrap();
    let mut rng = Rng::new(shape.elements() as u64);
    let order = rng.permutation(shape.elements());
    let step = 1.7 / shape.elements().max(1) as f64;
    let number = |i: usize| (0.3 + (i as f64 + 0.5) * step) * if rng.below(2) == 0 { 1.0 } else { -1.0 };
    Tensor::from_vec(order.into_iter().map(number).collect(), shape).unwrap()
}

fn positive(shape: &[usize]) -> Tensor {
    sample(shape).abs()
}

/// Other numbers than `sample` of that shape.
fn other(shape: &[usize]) -> Tensor {
    sample(shape).flip(..).unwrap().mul_scalar(-0.9)
}

fn cases() -> Vec<Case> {
    [arithmetic(), unary(), reductions(), movements(), indices(), products(), convolutions(), fused()]
        .into_iter()
        .flatten()
        .collect()
}

fn arithmetic() -> Vec<Case> {
    let mut cases = Vec::new();
    // The same shape, rows, both stretched, scalars, one element, nothing.
    let shapes: [[&[usize]; 2]; 6] =
        [[&[2, 3], &[2, 3]], [&[2, 3], &[3]], [&[2, 1, 3], &[4, 1]], [&[], &[2]], [&[1], &[1]], [&[0, 3], &[3]]];
    for [a, b] in shapes {
        let (a, b, base, exponent) = (sample(a), other(b), positive(a), other(b));
        cases.push(Case::new("add", &[&a, &b], |x| x[0].add(&x[1])));
        cases.push(Case::new("sub", &[&a, &b], |x| x[0].sub(&x[1])));
        cases.push(Case::new("mul", &[&a, &b], |x| x[0].mul(&x[1])));
        cases.push(Case::new("div", &[&a, &b], |x| x[0].div(&x[1])));
        cases.push(Case::new("pow", &[&base, &exponent], |x| x[0].pow(&x[1])));
        cases.push(Case::new("maximum", &[&a, &b], |x| x[0].maximum(&x[1])));
        cases.push(Case::new("minimum", &[&a, &b], |x| x[0].minimum(&x[1])));
        let mask = a.greater(&Tensor::scalar(0.0f64)).unwrap();
        cases.push(Case::new("where_cond", &[&mask, &a, &b], |x| x[0].where_cond(&x[1], &x[2])));
        cases.push(Case::new("equal", &[&a, &b], |x| x[0].equal(&x[1])).cut());
        cases.push(Case::new("not_equal", &[&a, &b], |x| x[0].not_equal(&x[1])).cut());
        cases.push(Case::new("less", &[&a, &b], |x| x[0].less(&x[1])).cut());
        cases.push(Case::new("less_equal", &[&a, &b], |x| x[0].less_equal(&x[1])).cut());
        cases.push(Case::new("greater", &[&a, &b], |x| x[0].greater(&x[1])).cut());
        cases.push(Case::new("greater_equal", &[&a, &b], |x| x[0].greater_equal(&x[1])).cut());
    }
    cases
}

fn unary() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in [&[2usize, 3][..], &[], &[1, 1], &[0]] {
        let (x, p) = (sample(shape), positive(shape));
        let mut plain =
            |name, x: &Tensor, op: fn(&Var) -> Var| cases.push(Case::new(name, &[x], move |x| Ok(op(&x[0]))));
        plain("add_scalar", &x, |x| x.add_scalar(1.5));
        plain("mul_scalar", &x, |x| x.mul_scalar(-1.5));
        plain("pow_scalar", &x, |x| x.pow_scalar(3.0));
        plain("pow_scalar", &x, |x| x.pow_scalar(0.0));
        plain("pow_scalar", &p, |x| x.pow_scalar(-0.5));
        plain("neg", &x, Var::neg);
        plain("abs", &x, Var::abs);
        plain("exp", &x, Var::exp);
        plain("log", &p, Var::log);
        plain("sqrt", &p, Var::sqrt);
        plain("recip", &x, Var::recip);
        plain("square", &x, Var::square);
        plain("sin", &x, Var::sin);
        plain("cos", &x, Var::cos);
        plain("clamp", &x, |x| x.clamp(-1.0001, 1.2501));
        plain("relu", &x, Var::relu);
        plain("leaky_relu", &x, |x| x.leaky_relu(0.1));
        plain("sigmoid", &x, Var::sigmoid);
        plain("tanh", &x, Var::tanh);
        plain("silu", &x, Var::silu);
        plain("gelu", &x, Var::gelu);
        plain("to_dtype", &x, |x| x.to_dtype(DType::F64));
        cases.push(Case::new("sign", &[&x], |x| Ok(x[0].sign())).cut());
        cases.push(Case::new("to_dtype", &[&x], |x| Ok(x[0].to_dtype(DType::I64))).cut());
    }
    cases
}

fn reductions() -> Vec<Case> {
    let (x, axes) = (sample(&[2, 3, 4]), [0isize, -1]);
    let mut cases = vec![
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
    ];
    for axis in [0, -1] {
        cases.push(Case::new("softmax", &[&x], move |x| x[0].softmax(axis)));
        cases.push(Case::new("log_softmax", &[&x], move |x| x[0].log_softmax(axis)));
        cases.push(Case::new("logsumexp", &[&x], move |x| x[0].logsumexp(axis, axis == 0)));
    }
    cases
}

fn movements() -> Vec<Case> {
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
        Case::new("broadcast_to", &[&sample(&[3, 1])], |x| x[0].broadcast_to([2, 3, 4])),
        Case::new("broadcast_to", &[&x], |x| x[0].broadcast_to(x[0].shape())),
        Case::new("sum_to", &[&x], |x| x[0].sum_to([3, 1])),
        Case::new("concat", &[&x, &sample(&[2, 1, 4]), &sample(&[2, 0, 4])], |x| {
            Var::concat(&[&x[0], &x[1], &x[2]], 1)
        }),
        Case::new("stack", &[&x, &other(&[2, 3, 4])], |x| Var::stack(&[&x[0], &x[1]], -1)),
        Case::many("split", &[&x], |x| x[0].split(2, 1)),
    ]
}

fn indices() -> Vec<Case> {
    let (x, ids) = (sample(&[3, 4]), Tensor::from([[2i64, 0], [2, 2]]));
    let (columns, rows) = (Tensor::from([[3i64, 0], [1, 1], [2, 3]]), Tensor::from([[2i64, 2, 0, 2], [1, 2, 0, 2]]));
    vec![
        Case::new("select_rows", &[&x, &ids], |x| x[0].select_rows(&x[1])),
        Case::new("scatter_add_rows", &[&sample(&[2, 2, 4]), &ids], |x| x[0].scatter_add_rows(&x[1], 3)),
        Case::new("gather", &[&x, &columns], |x| x[0].gather(-1, &x[1])),
        Case::new("gather", &[&x, &rows], |x| x[0].gather(0, &x[1])),
        Case::new("scatter_add", &[&sample(&[2, 2]), &ids], |x| x[0].scatter_add(1, &x[1], 5)),
        Case::many("sort", &[&x], |x| x[0].sort(1, true).map(|(values, indices)| vec![values, indices])),
        Case::many("sort", &[&x], |x| x[0].sort(0, false).map(|(values, indices)| vec![values, indices])),
        Case::many("top_k", &[&x], |x| x[0].top_k(2, 1).map(|(values, indices)| vec![values, indices])),
    ]
}

fn products() -> Vec<Case> {
    let mut cases = vec![
        Case::new("matmul", &[&sample(&[2, 3]), &sample(&[3, 4])], |x| x[0].matmul(&x[1])),
        Case::new("matmul", &[&sample(&[5, 1, 2, 3]), &sample(&[2, 3, 2])], |x| x[0].matmul(&x[1])),
        Case::new("matmul", &[&sample(&[2, 2, 3]), &sample(&[3, 2])], |x| x[0].matmul(&x[1])),
        Case::new("matmul", &[&sample(&[1, 1]), &other(&[1, 1])], |x| x[0].matmul(&x[1])),
        Case::new("matmul", &[&sample(&[2, 0]), &sample(&[0, 3])], |x| x[0].matmul(&x[1])),
    ];
    for (ta, tb) in [(false, true), (true, false), (true, true)] {
        let a: &[usize] = if ta { &[2, 3, 2] } else { &[2, 2, 3] };
        let b: &[usize] = if tb { &[4, 3] } else { &[3, 4] };
        let trans = Trans { a: ta, b: tb };
        cases.push(Case::new("matmul_with", &[&sample(a), &sample(b)], move |x| x[0].matmul_with(&x[1], trans)));
    }
    for activation in [Activation::Identity, Activation::Relu] {
        let (x, w, b) = (sample(&[2, 2, 3]), sample(&[4, 3]), sample(&[4]));
        cases.push(Case::new("linear", &[&x, &w, &b], move |x| x[0].linear(&x[1], Some(&x[2]), activation)));
        cases.push(Case::new("linear", &[&x, &w], move |x| x[0].linear(&x[1], None, activation)));
    }
    cases
}

fn convolutions() -> Vec<Case> {
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
    for window in [Window2d::pool(2), Window2d::new(3).stride(2).padding(1), Window2d::new([2, 1])] {
        cases.push(Case::new("max_pool2d", &[&x], move |x| x[0].max_pool2d(window)));
        cases.push(Case::new("avg_pool2d", &[&x], move |x| x[0].avg_pool2d(window)));
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

fn fused() -> Vec<Case> {
    let mut cases = Vec::new();
    let (w, b) = (positive(&[3]), other(&[3]));
    for shape in [&[4usize, 3][..], &[2, 2, 3], &[3]] {
        cases.push(Case::new("layer_norm", &[&sample(shape), &w, &b], |x| x[0].layer_norm(&x[1], &x[2], 0.1)));
    }
    for shape in [&[4usize, 3][..], &[2, 3, 2, 2]] {
        let x = sample(shape);
        cases.push(Case::new("batch_norm", &[&x, &w, &b], |x| Ok(x[0].batch_norm(&x[1], &x[2], 0.1)?.0)));
        let (mean, var) = (sample(&[3]), positive(&[3]));
        cases.push(Case::new("batch_norm_with", &[&x, &w, &b], move |x| {
            x[0].batch_norm_with(&mean, &var, &x[1], &x[2], 0.1)
        }));
    }
    cases.push(Case::new("dropout", &[&sample(&[4, 5])], |x| x[0].dropout(0.4)));
    let (logits, labels) = (sample(&[3, 4]), Tensor::from([2i64, 0, 2]));
    for (smoothing, weights) in [(0.0, None), (0.2, None), (0.0, Some(positive(&[4]))), (0.3, Some(positive(&[4])))] {
        let labels = labels.clone();
        cases.push(Case::new("softmax_cross_entropy", &[&logits], move |x| {
            x[0].softmax_cross_entropy(&labels, smoothing, weights.as_ref())
        }));
    }
    cases
}

fn differentiable(case: &Case) -> Vec<usize> {
    (0..case.inputs.len()).filter(|&i| case.inputs[i].dtype() == DType::F64).collect()
}

/// One test a family, so that they run in parallel and a failure says where.
fn check_derivatives(cases: Vec<Case>) {
    for case in cases.iter().filter(|case| !case.cut) {
        let floats = differentiable(case);
        let inputs: Vec<Tensor> = floats.iter().map(|&i| case.inputs[i].clone()).collect();
        let outputs = (case.run)(&case.inputs.iter().map(Var::from).collect::<Vec<_>>()).unwrap();
        for out in (0..outputs.len()).filter(|&out| outputs[out].dtype().is_float()) {
            let run = |x: &[Var]| {
                let mut all: Vec<Var> = case.inputs.iter().map(|input| x[0].constant(input)).collect();
                floats.iter().zip(x).for_each(|(&i, x)| all[i] = x.clone());
                Ok((case.run)(&all)?.swap_remove(out))
            };
            let shapes: Vec<Shape> = inputs.iter().map(Tensor::shape).collect();
            gradcheck(run, &inputs)
                .unwrap_or_else(|error| panic!("{} of {shapes:?}, output {out}: {error}", case.name));
        }
    }
}

#[test]
fn derivatives_of_arithmetic() {
    check_derivatives(arithmetic());
}

#[test]
fn derivatives_of_functions_of_one_value() {
    check_derivatives(unary());
}

#[test]
fn derivatives_of_reductions() {
    check_derivatives(reductions());
}

#[test]
fn derivatives_of_movements_and_picks() {
    check_derivatives(movements());
    check_derivatives(indices());
}

#[test]
fn derivatives_of_products() {
    check_derivatives(products());
}

#[test]
fn derivatives_of_convolutions() {
    check_derivatives(convolutions());
}

#[test]
fn derivatives_of_fused_ops() {
    check_derivatives(fused());
}

#[test]
fn any_input_in_a_pass_puts_the_output_in_it() {
    for case in cases() {
        for inside in 0..case.inputs.len() {
            let pass = Pass::train(1);
            let mut x: Vec<Var> = case.inputs.iter().map(Var::from).collect();
            x[inside] = pass.input(&case.inputs[inside]);
            for y in (case.run)(&x).unwrap() {
                assert!(y.is_training() && !y.is_recorded(), "{}: input {inside}", case.name);
            }
            if case.inputs[inside].dtype() == DType::F64 {
                x[inside] = pass.leaf(&case.inputs[inside]);
                for y in (case.run)(&x).unwrap() {
                    assert!(y.is_training(), "{}: leaf {inside}", case.name);
                    assert_eq!(y.is_recorded(), !case.cut && y.dtype().is_float(), "{}: leaf {inside}", case.name);
                }
            }
        }
    }
}

#[test]
fn outside_a_pass_nothing_is_recorded() {
    for case in cases() {
        let x: Vec<Var> = case.inputs.iter().map(Var::from).collect();
        assert!((case.run)(&x).unwrap().iter().all(|y| !y.is_recorded() && y.pass().is_none()), "{}", case.name);
    }
}

#[test]
fn a_parameter_that_met_data_outside_the_pass_is_refused() {
    for case in cases().iter().filter(|case| !case.cut && differentiable(case).len() > 1) {
        let floats = differentiable(case);
        let pass = Pass::train(1);
        let outside = Var::from(Tensor::scalar(0.0f64));
        let mut x: Vec<Var> = case.inputs.iter().map(Var::from).collect();
        x[floats[0]] = pass.leaf(&case.inputs[floats[0]]);
        x[floats[1]] = Param::new(case.inputs[floats[1]].clone()).on(&outside).mul_scalar(1.0);
        let error: Error = (case.run)(&x).unwrap_err();
        let text = "a parameter that met data outside any pass meets a recorded value: that parameter would never train; \
                    help: start from x.constant(..), or detach() it";
        assert!(error.to_string().ends_with(text), "{}: {error}", case.name);
    }
}

#[test]
fn every_public_op_is_in_the_table() {
    let sources = [
        include_str!("../src/ops/arithmetic.rs"),
        include_str!("../src/ops/activation.rs"),
        include_str!("../src/ops/reduce.rs"),
        include_str!("../src/ops/softmax.rs"),
        include_str!("../src/ops/shape.rs"),
        include_str!("../src/ops/index.rs"),
        include_str!("../src/ops/matmul.rs"),
        include_str!("../src/ops/conv.rs"),
        include_str!("../src/ops/pool.rs"),
        include_str!("../src/ops/norm.rs"),
        include_str!("../src/ops/loss.rs"),
    ];
    let in_table: Vec<&str> = cases().iter().map(|case| case.name).collect();
    let mut seen = 0;
    for line in sources.iter().flat_map(|source| source.lines()) {
        let Some(rest) = line.trim().strip_prefix("pub fn ") else { continue };
        let name = rest.split(['(', '<']).next().unwrap();
        // The comparisons' names are given to a macro: they are in the table by hand.
        assert!(name == "$name" || in_table.contains(&name), "`{name}` is not in the table");
        seen += 1;
    }
    assert!(seen > 60, "only {seen} ops found: has the layout of the sources changed?");
}
