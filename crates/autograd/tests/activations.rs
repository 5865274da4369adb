//! Activations far out, where a naive formula overflows: slopes by a plain walk, slopes and curvatures by a recorded
//! one, against limits of closed forms. And what their arguments must be.

use maplet_autograd::{DType, Pass, Tensor, Var};

/// The slope by each walk, and the curvature.
fn derivatives(f: fn(&Var) -> Var, x: f64) -> [f64; 3] {
    let pass = Pass::record();
    let leaf = pass.leaf(Tensor::scalar(x));
    let plain = f(&leaf).backward().unwrap().of(&leaf).unwrap().item::<f64>().unwrap();
    let grads = f(&leaf).backward_with_graph().unwrap();
    let slope = grads.var_of(&leaf).unwrap();
    let curvature = if slope.is_recorded() { slope.backward().unwrap().of(&leaf).cloned() } else { None };
    [plain, slope.item().unwrap(), curvature.map_or(0.0, |y| y.item().unwrap())]
}

#[test]
fn derivatives_far_out_are_their_limits() {
    type Row = (&'static str, fn(&Var) -> Var, [f64; 4], [f64; 4]);
    let e = (-100f64).exp();
    // Slopes and curvatures at −1000, −100, 100 and 1000.
    let rows: [Row; 13] = [
        ("elu", |x| x.elu(0.7), [0.0, 0.7 * e, 1.0, 1.0], [0.0, 0.7 * e, 0.0, 0.0]),
        ("celu", |x| x.celu(2.0), [(-500f64).exp(), (-50f64).exp(), 1.0, 1.0], [0.0, (-50f64).exp() / 2.0, 0.0, 0.0]),
        ("softplus", |x| x.softplus(1.0, 20.0), [0.0, e, 1.0, 1.0], [0.0, e, 0.0, 0.0]),
        ("softplus", |x| x.softplus(1.0, f64::INFINITY), [0.0, e, 1.0, 1.0], [0.0, e, 0.0, 0.0]),
        ("log_sigmoid", Var::log_sigmoid, [1.0, 1.0, e, 0.0], [0.0, 0.0, -e, 0.0]),
        ("mish", Var::mish, [0.0, -99.0 * e, 1.0, 1.0], [0.0, -98.0 * e, 0.0, 0.0]),
        ("silu", Var::silu, [0.0, -99.0 * e, 1.0, 1.0], [0.0, -98.0 * e, 0.0, 0.0]),
        ("gelu", Var::gelu, [0.0, 0.0, 1.0, 1.0], [0.0; 4]),
        ("gelu_tanh", Var::gelu_tanh, [0.0, 0.0, 1.0, 1.0], [0.0; 4]),
        ("tanhshrink", Var::tanhshrink, [1.0; 4], [0.0; 4]),
        ("hardswish", Var::hardswish, [0.0, 0.0, 1.0, 1.0], [0.0; 4]),
        ("sigmoid", Var::sigmoid, [0.0, e, e, 0.0], [0.0, e, -e, 0.0]),
        ("tanh", Var::tanh, [0.0; 4], [0.0; 4]),
    ];
    for (name, f, slopes, curvatures) in rows {
        for (i, x) in [-1000.0, -100.0, 100.0, 1000.0].into_iter().enumerate() {
            let found = derivatives(f, x);
            for (found, expected) in found.into_iter().zip([slopes[i], slopes[i], curvatures[i]]) {
                // A tiny derivative may drown in the rounding of a sum that cancels: 1 − tanh² and the like.
                let close = (found - expected).abs() <= 1e-12 * expected.abs() + 1e-40;
                assert!(close, "{name} at {x}: {found:e}, not {expected:e}");
            }
        }
    }
}

#[test]
fn wrong_arguments_are_explained() {
    let x = Var::from(Tensor::zeros([2, 3], DType::F32));
    let weight = Var::from(Tensor::zeros([2], DType::F32));
    let text = "prelu: the input is [2, 3], the weight [2]; help: use one weight, or one for each channel on axis 1";
    assert_eq!(x.prelu(&weight).unwrap_err().to_string(), text);
    let text = "rrelu: slopes from 0.5 to 0.1; help: put the lower first";
    assert_eq!(x.rrelu(0.5, 0.1).unwrap_err().to_string(), text);
    for (op, found) in [("glu", x.glu(1)), ("swiglu", x.swiglu(1)), ("geglu", x.geglu(1)), ("reglu", x.reglu(1))] {
        let text = format!("{op}: axis 1 of [2, 3] has 3 elements; help: two halves need an even number");
        assert_eq!(found.unwrap_err().to_string(), text);
    }
    assert!(x.glu(2).unwrap_err().to_string().starts_with("glu: [2, 3] has no axis 2"));
}

#[test]
fn rrelu_draws_in_training_only() {
    let x = Tensor::full([1000], -1.0f64);
    assert_eq!(Pass::record().input(&x).rrelu(0.25, 0.75).unwrap().value(), &x.mul_scalar(0.5));
    let y = Pass::train(3).input(&x).rrelu(0.25, 0.75).unwrap();
    let slopes: Vec<f64> = y.value().to_vec::<f64>().unwrap().into_iter().map(|y| -y).collect();
    assert!(slopes.iter().all(|slope| (0.25..0.75).contains(slope)));
    let mean = slopes.iter().sum::<f64>() / 1000.0;
    assert!((mean - 0.5).abs() < 5.0 * 0.5 / (12.0f64 * 1000.0).sqrt(), "{mean}"); // five standard errors
}
