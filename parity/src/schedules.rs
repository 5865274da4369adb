//! Schedules. Ours are factors of the highest rate, which is the case's `lr`.

use crate::{Case, Entry, Result};
use maplet_optim::{
    Chained, Constant, Cosine, CosineRestarts, Cycle, Cyclic, ExponentialDecay, LinearRamp, MultiStepDecay, Noam,
    OneCycle, PolynomialDecay, Schedule, Sequence, StepDecay,
};
use maplet_tensor::{DType, Tensor};

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::schedule("Schedule", |_| Ok(Box::new(|step: u64| 0.95f64.powf(step as f64) / (step + 1) as f64))),
        Entry::schedule("StepDecay", |case| Ok(Box::new(StepDecay::new(case.get("step_size")?, case.get("gamma")?)))),
        Entry::schedule("MultiStepDecay", |case| {
            let milestones: Vec<u64> = case.get("milestones")?;
            Ok(Box::new(MultiStepDecay::new(milestones, case.get("gamma")?)))
        }),
        Entry::schedule("Constant", |case| {
            Ok(Box::new(Constant::first(case.get("factor")?, case.get("total_iters")?)))
        }),
        Entry::schedule("LinearRamp", |case| {
            let (start, end) = (case.get("start_factor")?, case.get("end_factor")?);
            Ok(Box::new(LinearRamp::new(start, end, case.get("total_iters")?)))
        }),
        Entry::schedule("ExponentialDecay", |case| Ok(Box::new(ExponentialDecay::new(case.get("gamma")?)))),
        Entry::schedule("PolynomialDecay", |case| {
            Ok(Box::new(PolynomialDecay::new(case.get("total_iters")?, case.get("power")?)))
        }),
        Entry::schedule("Noam", |case| Ok(Box::new(Noam::new(case.get("features")?, case.get("warm_up")?))))
            .note("PyTorch has none: the paper's formula"),
        Entry::schedule("WarmUp", |case| {
            Ok(Box::new(PolynomialDecay::new(case.get("total_iters")?, 2.0).warm_up(case.get("warm_up")?)))
        })
        .note("PyTorch has none: `LinearLR` from 1 / (steps + 1), then the schedule, by `SequentialLR`"),
        Entry::schedule("Cosine", |case| {
            let minimum = case.get::<f64>("eta_min")? / case.get::<f64>("lr")?;
            Ok(Box::new(Cosine::new(case.get("T_max")?).minimum(minimum)))
        })
        .note("stays at its minimum; PyTorch's climbs again after T_max steps"),
        Entry::schedule("CosineRestarts", |case| {
            let minimum = case.get::<f64>("eta_min")? / case.get::<f64>("lr")?;
            Ok(Box::new(CosineRestarts::new(case.get("T_0")?).multiplier(case.get("T_mult")?).minimum(minimum)))
        }),
        with_momentum("OneCycle", one_cycle),
        with_momentum("Cyclic", cyclic),
        Entry::schedule("Sequence", |_| {
            Ok(Box::new(Sequence::new(Constant::first(0.1, 10)).then(10, ExponentialDecay::new(0.9))))
        }),
        Entry::schedule("Chained", |_| {
            Ok(Box::new(Chained::new(Constant::first(0.1, 10)).with(ExponentialDecay::new(0.9))))
        })
        .note("the product of the factors"),
    ]
}

/// Rates and momenta; where the momentum is left alone, it is the optimizer's 0.5.
fn with_momentum<S: Schedule + 'static>(name: &'static str, build: fn(&Case) -> Result<S>) -> Entry {
    let run = move |case: &Case, _| {
        let schedule = build(case)?;
        schedule.check()?;
        let (rate, steps): (f64, u64) = (case.get("lr")?, 40);
        let rates: Vec<f64> = (0..steps).map(|step| rate * schedule.factor(step)).collect();
        let momenta: Vec<f64> = (0..steps).map(|step| schedule.momentum(step).unwrap_or(0.5)).collect();
        let tensor = |values: Vec<f64>| Tensor::from_vec(values, [steps as usize]);
        Ok(vec![("out.rates".into(), tensor(rates)?), ("out.momenta".into(), tensor(momenta)?)])
    };
    Entry::values(name, run).only(&[DType::F64])
}

fn one_cycle(case: &Case) -> Result<OneCycle> {
    let cycle = OneCycle::new(case.get("total_steps")?).rising(case.get_or("pct_start", 0.3)?);
    let cycle = cycle.divisors(case.get_or("div_factor", 25.0)?, case.get_or("final_div_factor", 1e4)?);
    let cycle = cycle.momentum_between(case.get_or("base_momentum", 0.85)?, case.get_or("max_momentum", 0.95)?);
    let cycle = if case.get_or("three_phase", false)? { cycle.three_phases() } else { cycle };
    Ok(if case.get_or("anneal_strategy", String::new())? == "linear" { cycle.linear() } else { cycle })
}

fn cyclic(case: &Case) -> Result<Cyclic> {
    let low = case.get::<f64>("base_lr")? / case.get::<f64>("lr")?;
    let up = case.get("step_size_up")?;
    let cyclic = Cyclic::new(low, up).down(case.get_or("step_size_down", up)?);
    let cyclic = cyclic.mode(match case.get_or("mode", String::new())?.as_str() {
        "triangular2" => Cycle::Triangular2,
        "exp_range" => Cycle::ExpRange(case.get("gamma")?),
        _ => Cycle::Triangular,
    });
    Ok(if case.get_or("cycle_momentum", true)? { cyclic.momentum_between(0.8, 0.9) } else { cyclic })
}
