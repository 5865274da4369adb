//! Activations, softmax and its relatives, gated units, similarity and distance.

use crate::{Case, Entry, Result};
use maplet_nn_layers::{
    AdaptiveLogSoftmaxConfig, Celu, CosineSimilarity, Elu, GeGlu, Gelu, GeluTanh, Glu, Hardshrink, Hardsigmoid,
    Hardswish, Hardtanh, LeakyRelu, LogSigmoid, LogSoftmax, Mish, PairwiseDistance, Prelu, ReGlu, Relu, Relu6, Rrelu,
    Selu, Sigmoid, Silu, Softmax, Softmax2d, Softmin, Softplus, Softshrink, Softsign, SwiGlu, Tanh, Tanhshrink,
    Threshold,
};

pub(crate) fn entries() -> Vec<Entry> {
    [elementwise(), with_numbers(), along_axes(), of_pairs()].into_iter().flatten().collect()
}

fn elementwise() -> Vec<Entry> {
    vec![
        Entry::layer("Relu", |_| Ok(Relu)),
        Entry::layer("Sigmoid", |_| Ok(Sigmoid)),
        Entry::layer("Tanh", |_| Ok(Tanh)),
        Entry::layer("Silu", |_| Ok(Silu)),
        Entry::layer("Gelu", |_| Ok(Gelu)),
        Entry::layer("GeluTanh", |_| Ok(GeluTanh)),
        Entry::layer("Selu", |_| Ok(Selu)),
        Entry::layer("LogSigmoid", |_| Ok(LogSigmoid)),
        Entry::layer("Mish", |_| Ok(Mish)),
        Entry::layer("Softsign", |_| Ok(Softsign)).note("the gradient at infinity is its limit, 0, instead of NaN"),
        Entry::layer("Tanhshrink", |_| Ok(Tanhshrink)),
        Entry::layer("Relu6", |_| Ok(Relu6)),
        Entry::layer("Hardsigmoid", |_| Ok(Hardsigmoid))
            .note("compared with relu6(x + 3) / 6: PyTorch's gradient in float64 has 1/6 in float32"),
        Entry::layer("Hardswish", |_| Ok(Hardswish)),
    ]
}

fn with_numbers() -> Vec<Entry> {
    vec![
        Entry::layer("LeakyRelu", |case| Ok(LeakyRelu::new().slope(case.get_or("negative_slope", 0.01)?))),
        Entry::layer("Elu", |case| Ok(Elu::new().alpha(case.get_or("alpha", 1.0)?))),
        Entry::layer("Celu", |case| Ok(Celu::new().alpha(case.get_or("alpha", 1.0)?))),
        Entry::layer("Softplus", |case| {
            Ok(Softplus::new().beta(case.get_or("beta", 1.0)?).threshold(case.get_or("threshold", 20.0)?))
        }),
        Entry::layer("Hardtanh", |case| {
            Ok(Hardtanh::new().min(case.get_or("min_val", -1.0)?).max(case.get_or("max_val", 1.0)?))
        }),
        Entry::layer("Threshold", |case| {
            Ok(Threshold::new().threshold(case.get("threshold")?).value(case.get("value")?))
        }),
        Entry::layer("Hardshrink", |case| Ok(Hardshrink::new().lambda(case.get_or("lambd", 0.5)?))),
        Entry::layer("Softshrink", |case| Ok(Softshrink::new().lambda(case.get_or("lambd", 0.5)?))),
        Entry::layer("Rrelu", |case| {
            Ok(Rrelu::new().lower(case.get_or("lower", 1.0 / 8.0)?).upper(case.get_or("upper", 1.0 / 3.0)?))
        })
        .note("in evaluation: in training the slopes are random"),
        Entry::layer("Prelu", |case| Ok(Prelu::new(case.get("num_parameters")?)?.slope(case.get("init")?))),
    ]
}

fn along_axes() -> Vec<Entry> {
    vec![
        Entry::layer("Softmax", |case| Ok(Softmax::new(case.get("dim")?))),
        Entry::layer("Softmin", |case| Ok(Softmin::new(case.get("dim")?))),
        Entry::layer("LogSoftmax", |case| Ok(LogSoftmax::new(case.get("dim")?))),
        Entry::layer("Softmax2d", |_| Ok(Softmax2d)),
        Entry::layer_with(
            "AdaptiveLogSoftmaxWithLoss",
            |case| {
                let cutoffs: Vec<usize> = case.get("cutoffs")?;
                let config = AdaptiveLogSoftmaxConfig::new(case.get("in_features")?, case.get("n_classes")?, &cutoffs);
                let config = config.div_value(case.get_or("div_value", 4.0)?);
                Ok(config.head_bias(case.get_or("head_bias", false)?).build(&mut case.rng())?)
            },
            |layer, case, x| {
                let labels = case.arg("target", x[0].dtype()).ok_or("the case has no target")?;
                let (output, loss) = layer.forward(&x[0], &labels)?;
                Ok(vec![output, loss])
            },
        ),
        Entry::layer("Glu", |case| Ok(Glu::new().axis(case.get("dim")?))),
        Entry::layer("SwiGlu", |case| Ok(SwiGlu::new().axis(case.get("dim")?))).note(GATED),
        Entry::layer("GeGlu", |case| Ok(GeGlu::new().axis(case.get("dim")?))).note(GATED),
        Entry::layer("ReGlu", |case| Ok(ReGlu::new().axis(case.get("dim")?))).note(GATED),
    ]
}

const GATED: &str = "not in PyTorch: compared with its formula";

fn of_pairs() -> Vec<Entry> {
    vec![
        Entry::function("CosineSimilarity", |case, x| {
            let layer = CosineSimilarity::new().axis(case.get_or("dim", 1)?).eps(case.get_or("eps", 1e-8)?);
            Ok(vec![layer.forward(&x[0], &x[1])?])
        }),
        Entry::function("PairwiseDistance", |case, x| {
            let layer = PairwiseDistance::new().p(power(case)?).eps(case.get_or("eps", 1e-6)?);
            Ok(vec![layer.keepdims(case.get_or("keepdim", false)?).forward(&x[0], &x[1])?])
        }),
    ]
}

/// The norm, 2 unless it is given: as text, since JSON has no infinity.
fn power(case: &Case) -> Result<f64> {
    Ok(case.get_or("p", String::from("2"))?.parse()?)
}
