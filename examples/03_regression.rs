//! Regression: a small network that predicts a number.
//!
//! Shows how to standardise inputs and targets on the training part alone, how to hold data back for validation, and
//! how to stop when that gets no better. The data are the California houses (Pace & Barry 1997) if the data folder has
//! them (`tabular/california-housing/housing.csv`), else a function of ten numbers with noise (Friedman 1991).
//! Expect: R² above 0.7 on the houses (of 1 at best); above 0.9 on the function. Some seconds with `--release`.
//!
//! `cargo run --release --example 03_regression`

use maplet::prelude::*;
use maplet_examples::{Result, data_folder};

fn main() -> Result<()> {
    let path = data_folder(None).join("tabular/california-housing/housing.csv");
    let (name, goal, data) = match std::fs::read_to_string(&path) {
        Ok(text) => ("California houses", 0.7, houses(&text)?),
        Err(_) => ("Friedman's function", 0.9, friedman(4000, 1)?),
    };
    let (train, test) = train_validation_split(data, 0.2, 42)?;

    // Means and deviations come from the training part; the test part is only ever transformed by them.
    let whole = train.batch(&(0..train.len()).collect::<Vec<_>>())?;
    let inputs = Normalizer::fit(&train)?;
    let targets = Normalizer::fit(&TensorDataset::new(whole.targets.clone(), whole.targets.clone())?)?;
    let train = TensorDataset::new(inputs.apply(&whole.inputs)?, targets.apply(&whole.targets)?)?;
    println!("{name}: {} to train, {} to test, {} inputs", train.len(), test.len(), train.inputs().size(1)?);

    let features = train.inputs().size(1)?;
    let model = mlp(&[features, 64, 64, 1], 42)?;
    let mut trainer = model.compile(AdamW::new(2e-3), mse, ());
    let patience = EarlyStopping::lowest("val_loss").patience(8).restore_best();
    let options = FitOptions::new().epochs(40).batch_size(64).seed(42).validation_split(0.1).callback(patience);
    trainer.fit(&train, options)?;

    // Predictions go back to the unit of the targets.
    let test = test.batch(&(0..test.len()).collect::<Vec<_>>())?;
    let predicted = targets.invert(&trainer.predict(&inputs.apply(&test.inputs)?)?)?;
    let error = predicted.sub(&test.targets)?.square().mean(.., false)?.item::<f32>()?;
    let spread = test.targets.var(.., false, 0)?.item::<f32>()?;
    let r2 = 1.0 - error / spread;
    println!("test: root mean squared error {:.4}, R² {r2:.3}", error.sqrt());
    assert!(r2 > goal, "R² {r2}");
    Ok(())
}

/// Eight numbers about each district and the median value of its houses, in 100,000 dollars. Districts with a gap are
/// left out, and so is the last column, which is text.
fn houses(csv: &str) -> Result<TensorDataset> {
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    for line in csv.lines().skip(1) {
        let fields: Vec<f32> = line.split(',').take(9).filter_map(|field| field.parse().ok()).collect();
        if let [features @ .., value] = &fields[..]
            && features.len() == 8
        {
            inputs.extend_from_slice(features);
            targets.push(value / 100_000.0);
        }
    }
    let n = targets.len();
    Ok(TensorDataset::new(Tensor::from_vec(inputs, [n, 8])?, Tensor::from_vec(targets, [n, 1])?)?)
}

/// `y = 10 sin(π x₁ x₂) + 20 (x₃ − ½)² + 10 x₄ + 5 x₅ + noise`; five more inputs mean nothing.
fn friedman(n: usize, seed: u64) -> Result<TensorDataset> {
    let mut rng = Rng::new(seed);
    let inputs = Tensor::uniform([n, 10], 0.0f32, 1.0, &mut rng);
    let signal = |x: &[f32]| {
        let wave = 10.0 * (std::f32::consts::PI * x[0] * x[1]).sin();
        wave + 20.0 * (x[2] - 0.5).powi(2) + 10.0 * x[3] + 5.0 * x[4]
    };
    let targets = inputs.as_slice::<f32>()?.chunks(10).map(|x| signal(x) + rng.normal() as f32).collect();
    Ok(TensorDataset::new(inputs, Tensor::from_vec(targets, [n, 1])?)?)
}
