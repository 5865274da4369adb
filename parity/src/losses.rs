//! Losses.

use crate::{Case, Entry, Result};
use maplet_autograd::{DType, Tensor, Var};
use maplet_nn_layers::{
    Bce, BceWithLogits, CosineEmbedding, CosineSimilarity, CrossEntropy, Ctc, Dice, GaussianNll, Hinge, HingeEmbedding,
    Huber, InfoNce, KlDiv, L1, LogCosh, Loss, MarginRanking, Mse, MultiLabelMargin, MultiLabelSoftMargin, MultiMargin,
    Nll, NtXent, PoissonNll, Reduction, SigmoidFocal, SmoothL1, SoftMargin, SoftmaxFocal, SquaredHinge, TripletMargin,
    Tversky,
};

pub(crate) fn entries() -> Vec<Entry> {
    [numbers(), weighted(), classes(), vectors()].into_iter().flatten().collect()
}

/// Where PyTorch has not-a-number, no case can be compared.
const EMPTY: &str = "the mean of nothing is an error instead of NaN";
const LABELS: &str = "classes on the last axis unless class_axis(1); the mean of nothing, or of labels that are all \
                      ignored, is an error instead of NaN";
const FORMULA: &str = "not in PyTorch: compared with its formula";

/// A loss of outputs and targets.
fn loss<L: Loss>(name: &'static str, build: impl Fn(&Case, DType) -> Result<L> + 'static) -> Entry {
    Entry::function(name, move |case, x| {
        let target = target(case, &x[0])?;
        Ok(vec![build(case, x[0].dtype())?.loss(&x[0], &target)?])
    })
    .note(EMPTY)
}

fn target(case: &Case, x: &Var) -> Result<Tensor> {
    case.arg("target", x.dtype()).ok_or_else(|| "the case has no target".into())
}

fn reduction(case: &Case) -> Result<Reduction> {
    Ok(match case.get_or("reduction", String::from("mean"))?.as_str() {
        "none" => Reduction::None,
        "mean" => Reduction::Mean,
        "sum" => Reduction::Sum,
        "batchmean" => Reduction::BatchMean,
        other => return Err(format!("reduction `{other}`").into()),
    })
}

fn numbers() -> Vec<Entry> {
    vec![
        loss("Mse", |case, _| Ok(Mse::new().reduction(reduction(case)?))),
        loss("L1", |case, _| Ok(L1::new().reduction(reduction(case)?))),
        loss("SmoothL1", |case, _| Ok(SmoothL1::new().beta(case.get_or("beta", 1.0)?).reduction(reduction(case)?))),
        loss("Huber", |case, _| Ok(Huber::new().delta(case.get_or("delta", 1.0)?).reduction(reduction(case)?))),
        loss("LogCosh", |case, _| Ok(LogCosh::new().reduction(reduction(case)?))).note(FORMULA),
        loss("KlDiv", |case, _| {
            Ok(KlDiv::new().log_target(case.get_or("log_target", false)?).reduction(reduction(case)?))
        }),
        loss("PoissonNll", |case, _| {
            let loss = PoissonNll::new().log_input(case.get_or("log_input", true)?).full(case.get_or("full", false)?);
            Ok(loss.eps(case.get_or("eps", 1e-8)?).reduction(reduction(case)?))
        }),
        Entry::function("GaussianNll", |case, x| {
            let loss = GaussianNll::new().full(case.get_or("full", false)?).eps(case.get_or("eps", 1e-6)?);
            Ok(vec![loss.reduction(reduction(case)?).loss(&x[0], &target(case, &x[0])?, &x[1])?])
        }),
        loss("SigmoidFocal", |case, _| {
            let loss = SigmoidFocal::new().alpha(case.get_or("alpha", 0.25)?).gamma(case.get_or("gamma", 2.0)?);
            Ok(loss.reduction(reduction(case)?))
        })
        .note("compared with torchvision's source"),
        loss("Dice", |case, _| Ok(Dice::new().smooth(case.get_or("smooth", 1.0)?).reduction(reduction(case)?)))
            .note(FORMULA),
        loss("Tversky", |case, _| {
            let loss = Tversky::new().alpha(case.get_or("alpha", 0.5)?).beta(case.get_or("beta", 0.5)?);
            Ok(loss.smooth(case.get_or("smooth", 1.0)?).reduction(reduction(case)?))
        })
        .note(FORMULA),
        loss("Hinge", |case, _| Ok(Hinge::new().reduction(reduction(case)?))).note(FORMULA),
        loss("SquaredHinge", |case, _| Ok(SquaredHinge::new().reduction(reduction(case)?))).note(FORMULA),
        loss("SoftMargin", |case, _| Ok(SoftMargin::new().reduction(reduction(case)?))),
        loss("HingeEmbedding", |case, _| {
            Ok(HingeEmbedding::new().margin(case.get_or("margin", 1.0)?).reduction(reduction(case)?))
        }),
    ]
}

/// Sets the weights that a case has.
macro_rules! weights {
    ($case:expr, $dtype:expr, $loss:expr, $($name:literal => $setter:ident),+) => {{
        let mut loss = $loss.reduction(reduction($case)?);
        $(if let Some(weight) = $case.arg($name, $dtype) {
            loss = loss.$setter(weight);
        })+
        loss
    }};
}

fn weighted() -> Vec<Entry> {
    vec![
        loss("Bce", |case, dtype| Ok(weights!(case, dtype, Bce::new(), "weight" => weight)))
            .note("at 0 and 1 the loss alone: PyTorch's divisor in float64 has 1e-12 in float32"),
        loss("BceWithLogits", |case, dtype| {
            Ok(weights!(case, dtype, BceWithLogits::new(), "weight" => weight, "pos_weight" => pos_weight))
        }),
        loss("MultiLabelSoftMargin", |case, dtype| {
            Ok(weights!(case, dtype, MultiLabelSoftMargin::new(), "weight" => weight))
        }),
        loss("MultiMargin", |case, dtype| {
            let loss = MultiMargin::new().p(case.get_or("p", 1)?).margin(case.get_or("margin", 1.0)?);
            Ok(weights!(case, dtype, loss, "weight" => weight))
        }),
        loss("MultiLabelMargin", |case, _| Ok(MultiLabelMargin::new().reduction(reduction(case)?))),
    ]
}

/// PyTorch's classes are on axis 1.
fn classes() -> Vec<Entry> {
    vec![
        loss("CrossEntropy", |case, dtype| {
            let loss = CrossEntropy::new().label_smoothing(case.get_or("label_smoothing", 0.0)?);
            let loss = loss.ignore_index(case.get_or("ignore_index", -100)?).class_axis(1);
            Ok(weights!(case, dtype, loss, "weight" => class_weights))
        })
        .note(LABELS),
        loss("Nll", |case, dtype| {
            let loss = Nll::new().ignore_index(case.get_or("ignore_index", -100)?).class_axis(1);
            Ok(weights!(case, dtype, loss, "weight" => class_weights))
        })
        .note(LABELS),
        loss("SoftmaxFocal", |case, dtype| {
            let loss = SoftmaxFocal::new().gamma(case.get_or("gamma", 2.0)?);
            let loss = loss.ignore_index(case.get_or("ignore_index", -100)?).class_axis(1);
            Ok(weights!(case, dtype, loss, "weight" => class_weights))
        })
        .note(FORMULA),
    ]
}

fn vectors() -> Vec<Entry> {
    vec![
        Entry::function("MarginRanking", |case, x| {
            let loss = MarginRanking::new().margin(case.get_or("margin", 0.0)?).reduction(reduction(case)?);
            Ok(vec![loss.loss(&x[0], &x[1], &target(case, &x[0])?)?])
        }),
        Entry::function("CosineEmbedding", |case, x| {
            let loss = CosineEmbedding::new().margin(case.get_or("margin", 0.0)?).reduction(reduction(case)?);
            Ok(vec![loss.loss(&x[0], &x[1], &target(case, &x[0])?)?])
        }),
        Entry::function("TripletMargin", |case, x| Ok(vec![triplets(case)?.loss(&x[0], &x[1], &x[2])?])),
        Entry::function("triplet_margin_with_distance", |case, x| {
            let distance = |a: &Var, b: &Var| Ok(CosineSimilarity::new().forward(a, b)?.neg().add_scalar(1.0));
            Ok(vec![triplets(case)?.loss_with(&x[0], &x[1], &x[2], distance)?])
        }),
        Entry::function("InfoNce", |case, x| {
            let loss = InfoNce::new().temperature(case.get_or("temperature", 0.07)?);
            let loss = loss.symmetric(case.get_or("symmetric", false)?).reduction(reduction(case)?);
            Ok(vec![loss.loss(&x[0], &x[1])?])
        })
        .note(FORMULA),
        Entry::function("NtXent", |case, x| {
            let loss = NtXent::new().temperature(case.get_or("temperature", 0.5)?).reduction(reduction(case)?);
            Ok(vec![loss.loss(&x[0], &x[1])?])
        })
        .note(FORMULA),
        Entry::function("Ctc", |case, x| {
            let loss = Ctc::new().blank(case.get_or("blank", 0)?).zero_infinity(case.get_or("zero_infinity", false)?);
            let (inputs, lengths): (Vec<usize>, Vec<usize>) = (case.get("input_lengths")?, case.get("target_lengths")?);
            let (log_probs, labels) = (x[0].log_softmax(-1)?, target(case, &x[0])?);
            Ok(vec![loss.reduction(reduction(case)?).loss(&log_probs, &labels, &inputs, &lengths)?])
        })
        .long()
        .note(
            "through log_softmax: without it the gradient here is the derivative, PyTorch's is not; PyTorch refuses an \
             empty batch, here its sum is 0",
        ),
    ]
}

fn triplets(case: &Case) -> Result<TripletMargin> {
    let loss = TripletMargin::new().margin(case.get_or("margin", 1.0)?).p(case.get_or("p", 2.0)?);
    Ok(loss.eps(case.get_or("eps", 1e-6)?).swap(case.get_or("swap", false)?).reduction(reduction(case)?))
}
