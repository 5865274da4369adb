//! Optimizers, averages of weights, and the plateau.

use crate::{Case, Entry, Result};
use maplet_autograd::{Param, Pass, Var, container, fields};
use maplet_optim::{
    Adadelta, Adafactor, Adagrad, Adam, AdamRule, AdamW, Adamax, Asgd, Averaged, Averaging, Descent, Ema, Lamb, Lbfgs,
    LineSearch, Lion, Lookahead, Muon, MuonScale, Nadam, Optimizer, Radam, ReduceOnPlateau, Rmsprop, Rprop, Rule, Sam,
    Sgd, Swa,
};
use maplet_tensor::{DType, Tensor};

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        optimizer("Sgd", Sgd::new, |case, mut sgd| {
            sgd = sgd.momentum(case.get_or("momentum", 0.0)?).dampening(case.get_or("dampening", 0.0)?);
            Ok(if case.get_or("nesterov", false)? { sgd.nesterov() } else { sgd })
        }),
        optimizer("Adam", Adam::new, adam),
        optimizer("AdamW", AdamW::new, adam),
        optimizer("Adamax", Adamax::new, |case, adamax| {
            let (beta1, beta2) = case.get_or("betas", (0.9, 0.999))?;
            Ok(adamax.betas(beta1, beta2).eps(case.get_or("eps", 1e-8)?))
        }),
        optimizer("Nadam", Nadam::new, |case, nadam| {
            let (beta1, beta2) = case.get_or("betas", (0.9, 0.999))?;
            let nadam = nadam.betas(beta1, beta2).eps(case.get_or("eps", 1e-8)?);
            let nadam = nadam.momentum_decay(case.get_or("momentum_decay", 4e-3)?);
            Ok(if case.get_or("decoupled_weight_decay", false)? { nadam.decoupled() } else { nadam })
        }),
        optimizer("Radam", Radam::new, |case, radam| {
            let (beta1, beta2) = case.get_or("betas", (0.9, 0.999))?;
            let radam = radam.betas(beta1, beta2).eps(case.get_or("eps", 1e-8)?);
            Ok(if case.get_or("decoupled_weight_decay", false)? { radam.decoupled() } else { radam })
        }),
        optimizer("Rmsprop", Rmsprop::new, |case, rmsprop| {
            let rmsprop = rmsprop.alpha(case.get_or("alpha", 0.99)?).eps(case.get_or("eps", 1e-8)?);
            let rmsprop = rmsprop.momentum(case.get_or("momentum", 0.0)?);
            Ok(if case.get_or("centered", false)? { rmsprop.centered() } else { rmsprop })
        }),
        optimizer("Adagrad", Adagrad::new, |case, adagrad| {
            let adagrad = adagrad.lr_decay(case.get_or("lr_decay", 0.0)?).eps(case.get_or("eps", 1e-10)?);
            Ok(adagrad.initial_accumulator(case.get_or("initial_accumulator_value", 0.0)?))
        }),
        optimizer("Adadelta", Adadelta::new, |case, adadelta| {
            Ok(adadelta.rho(case.get_or("rho", 0.9)?).eps(case.get_or("eps", 1e-6)?))
        }),
        optimizer("Adafactor", Adafactor::new, |case, adafactor| {
            let adafactor = adafactor.beta2_decay(case.get_or("beta2_decay", -0.8)?).clip(case.get_or("d", 1.0)?);
            let eps: Option<(f64, f64)> = case.optional("eps")?;
            Ok(match eps {
                Some((eps1, eps2)) => adafactor.eps(eps1, eps2),
                None => adafactor,
            })
        }),
        optimizer("Rprop", Rprop::new, |case, rprop| {
            let ((minus, plus), (smallest, largest)) =
                (case.get_or("etas", (0.5, 1.2))?, case.get_or("step_sizes", (1e-6, 50.0))?);
            Ok(rprop.etas(minus, plus).step_sizes(smallest, largest))
        }),
        optimizer("Asgd", Asgd::new, |case, asgd| {
            let asgd = asgd.lambda(case.get_or("lambd", 1e-4)?).alpha(case.get_or("alpha", 0.75)?);
            Ok(asgd.t0(case.get_or("t0", 1e6)?))
        }),
        optimizer("Lion", Lion::new, |case, lion| {
            let (beta1, beta2) = case.get_or("betas", (0.9, 0.99))?;
            Ok(lion.betas(beta1, beta2))
        })
        .note("PyTorch has none: the paper's algorithm in PyTorch operations"),
        optimizer("Lamb", Lamb::new, |case, lamb| {
            let (beta1, beta2) = case.get_or("betas", (0.9, 0.999))?;
            Ok(lamb.betas(beta1, beta2).eps(case.get_or("eps", 1e-6)?))
        })
        .note("PyTorch has none: the paper's algorithm in PyTorch operations"),
        optimizer("Muon", Muon::new, muon)
            .note("PyTorch iterates in bfloat16, errors near 1 %; the reference is its code in the parameter's type"),
        Entry::optimizer("Lookahead", |case| {
            let rate = case.get("lr")?;
            let inner: Box<dyn Optimizer> = match case.get::<String>("inner")?.as_str() {
                "adam" => Box::new(Adam::new(rate)),
                _ => Box::new(Sgd::new(rate).momentum(0.5)),
            };
            let lookahead = Lookahead::new(inner);
            Ok(Box::new(lookahead.every(case.get_or("every", 5)?).part(case.get_or("part", 0.5)?)))
        })
        .note("PyTorch has none: the paper's algorithm in PyTorch operations"),
        Entry::values("Sam", sam).note("PyTorch has none: the papers' equations in PyTorch operations"),
        Entry::values("Lbfgs", lbfgs)
            .only(&[DType::F64])
            .note("not compared in F32: each branch of a line search magnifies rounding"),
        Entry::values("Ema", |case, dtype| averages(case, dtype, Ema::new(case.get("decay")?))),
        Entry::values("Swa", |case, dtype| averages(case, dtype, Swa::new())),
        Entry::values("ReduceOnPlateau", plateau).only(&[DType::F64]),
    ]
}

/// With the options that all of them have.
fn optimizer<R: Rule + 'static>(
    name: &'static str,
    new: fn(f64) -> Descent<R>,
    options: fn(&Case, Descent<R>) -> Result<Descent<R>>,
) -> Entry {
    Entry::optimizer(name, move |case| {
        let mut descent = options(case, new(case.get("lr")?))?;
        if let Some(weight_decay) = case.optional("weight_decay")? {
            descent = descent.weight_decay(weight_decay);
        }
        Ok(Box::new(if case.get_or("maximize", false)? { descent.maximize() } else { descent }))
    })
}

fn adam<const D: bool>(case: &Case, adam: Descent<AdamRule<D>>) -> Result<Descent<AdamRule<D>>> {
    let (beta1, beta2) = case.get_or("betas", (0.9, 0.999))?;
    let adam = adam.betas(beta1, beta2).eps(case.get_or("eps", 1e-8)?);
    Ok(if case.get_or("amsgrad", false)? { adam.amsgrad() } else { adam })
}

fn muon(case: &Case, muon: Muon) -> Result<Muon> {
    let coefficients = case.get_or("ns_coefficients", [3.4445, -4.7750, 2.0315])?;
    let muon = muon.momentum(case.get_or("momentum", 0.95)?).nesterov(case.get_or("nesterov", true)?);
    let muon = muon.newton_schulz(coefficients, case.get_or("ns_steps", 5)?).eps(case.get_or("eps", 1e-7)?);
    Ok(match case.get_or("adjust_lr_fn", String::new())?.as_str() {
        "match_rms_adamw" => muon.scale(MuonScale::MatchRmsAdamW),
        "spectral_unclamped" => muon.scale(MuonScale::SpectralUnclamped),
        _ => muon,
    })
}

struct Valley {
    x: Param,
    y: Param,
}
fields!(Valley: x, y);

impl Valley {
    fn of(case: &Case, dtype: DType) -> Result<Self> {
        let start = |name: &str| case.arg(name, dtype).map(Param::new).ok_or("no start");
        Ok(Self { x: start("x")?, y: start("y")? })
    }

    /// `sign · (10 · Σ (y − x²)² + Σ (1 − x)²)`
    fn loss(&self, sign: f64) -> maplet_optim::Result<Var> {
        let one = Pass::train(0).input(Tensor::zeros([1], self.x.dtype()));
        let (x, y) = (self.x.on(&one), self.y.on(&one));
        let off = y.reshape([4])?.sub(&x.square())?.square().sum(.., false)?.mul_scalar(10.0);
        Ok(off.add(&x.neg().add_scalar(1.0).square().sum(.., false)?)?.mul_scalar(sign))
    }

    /// What came of a step.
    fn after(&self, step: usize, loss: f64) -> [(String, Tensor); 3] {
        let [x, y] = [&self.x, &self.y].map(|param| param.value().clone());
        let named = |name: &str, value| (format!("out.{name}{step}"), value);
        [named("loss", Tensor::scalar(loss)), named("x", x), named("y", y)]
    }
}

fn sam(case: &Case, dtype: DType) -> Result<Vec<(String, Tensor)>> {
    let mut model = Valley::of(case, dtype)?;
    let sam = Sam::new(Sgd::new(case.get("lr")?).momentum(0.5), case.get("radius")?);
    let mut sam = if case.get("adaptive")? { sam.adaptive() } else { sam };
    let mut found = Vec::new();
    for step in 0..10 {
        let loss = sam.step(&mut model, |model| model.loss(1.0))?;
        found.extend(model.after(step, loss));
    }
    Ok(found)
}

fn lbfgs(case: &Case, dtype: DType) -> Result<Vec<(String, Tensor)>> {
    let mut model = Valley::of(case, dtype)?;
    let mut lbfgs = Lbfgs::new(case.get("lr")?).max_iterations(case.get("max_iter")?);
    lbfgs = lbfgs.history(case.get_or("history_size", 100)?);
    if case.optional::<String>("line_search_fn")?.is_some() {
        lbfgs = lbfgs.line_search(LineSearch::StrongWolfe);
    }
    if let Some(most) = case.optional("max_eval")? {
        lbfgs = lbfgs.max_evaluations(most);
    }
    let maximize: bool = case.get_or("maximize", false)?;
    let (mut lbfgs, sign) = if maximize { (lbfgs.maximize(), -1.0) } else { (lbfgs, 1.0) };
    let mut found = Vec::new();
    for step in 0..4 {
        let loss = lbfgs.step(&mut model, |model: &Valley| model.loss(sign))?;
        found.extend(model.after(step, loss));
    }
    found.push(("out.evaluations".into(), Tensor::scalar(lbfgs.evaluations() as i64)));
    Ok(found)
}

fn averages<R: Averaging>(case: &Case, dtype: DType, mut averages: Averaged<R>) -> Result<Vec<(String, Tensor)>> {
    let mut found = Vec::new();
    for step in 0.. {
        let Some(weight) = case.arg(&step.to_string(), dtype) else { break };
        let mut model = (Param::new(weight),);
        averages.update(&model)?;
        let own = averages.apply(&mut model)?;
        found.push((format!("out.{step}"), model.0.value().clone()));
        container::restore(&mut model, &own)?;
    }
    Ok(found)
}

fn plateau(case: &Case, _: DType) -> Result<Vec<(String, Tensor)>> {
    let highest = case.get_or("mode", "min".to_string())? == "max";
    let plateau = if highest { ReduceOnPlateau::highest() } else { ReduceOnPlateau::lowest() };
    let threshold = case.get_or("threshold", 1e-4)?;
    let absolute = case.get_or("threshold_mode", "rel".to_string())? == "abs";
    let plateau = if absolute { plateau.min_delta(threshold) } else { plateau.threshold(threshold) };
    let plateau = plateau.patience(case.get("patience")?).cooldown(case.get_or("cooldown", 0)?);
    let mut plateau = plateau.factor(case.get_or("factor", 0.1)?).minimum(case.get_or("min_lr", 0.0)?);
    let mut sgd = Sgd::new(case.get("lr")?);
    let mut rates = Vec::new();
    for metric in case.get::<Vec<f64>>("metrics")? {
        plateau.step(metric, &mut sgd)?;
        rates.push(sgd.learning_rate());
    }
    let steps = rates.len();
    Ok(vec![("out.rates".into(), Tensor::from_vec(rates, [steps])?)])
}
