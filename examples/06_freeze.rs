//! Freezing: a trained network made ready for inference alone.
//!
//! Shows what `freeze` does (the batch norm is gone, neighbors are one kernel), a session of one thread, sessions of
//! many threads on one model, and what it all saves.
//! Expect: the same logits but for rounding, several times sooner. About five seconds with `--release`.
//!
//! `cargo run --release --example 06_freeze`

use std::thread;
use std::time::Instant;

use maplet::prelude::*;
use maplet_examples::Result;

/// Microseconds of one call, the best of many: what else runs on the machine only adds to it.
fn time(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..500 {
        let start = Instant::now();
        call()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(best)
}

fn main() -> Result<()> {
    // Trained briefly, so that the batch norm has statistics to fold.
    let model = Sequential::input([1, 28, 28]).conv2d(16, 3).batch_norm2d().relu().max_pool2d(2).dropout(0.2);
    let model = model.flatten().linear(64).relu().linear(10).build(42)?;
    let mut trainer = model.compile(Adam::new(1e-3), cross_entropy, ());
    trainer.fit(&digits(1000, 1), FitOptions::new().epochs(1).seed(42))?;
    let model = trainer.into_model();

    // For one shape of input: here one image at a time.
    let frozen = model.freeze(1)?;
    println!("{} layers became {} kernels:\n{}", model.rows().len(), frozen.steps().len(), frozen.steps().join("\n"));

    // A session is the memory of one thread's calls; the output stays in it until the next call.
    let image = digits(1, 2).item(0)?.0.reshape([1, 1, 28, 28])?;
    let mut session = frozen.session();
    let logits = model.forward(&Var::from(&image))?.into_value();
    let error = session.run(&image)?.sub(&logits)?.abs().max(.., false)?.item::<f32>()?;
    println!("largest difference of the logits {error:e}");
    assert!(error < 1e-4);

    let plain = time(|| Ok(model.forward(&Var::from(&image)).map(drop)?))?;
    let ready = time(|| Ok(session.run(&image).map(|_| ())?))?;
    println!("one image: {plain:.0} µs by forward, {ready:.0} µs frozen");

    // Threads share the model and its packed weights; each has a session that keeps to its thread.
    let expected = session.run(&image)?.argmax(-1, false)?;
    thread::scope(|scope| {
        let work = || -> maplet::nn::Result<Tensor> { Ok(frozen.session_alone().run(&image)?.argmax(-1, false)?) };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        let agree = threads.into_iter().all(|thread| thread.join().is_ok_and(|y| y.is_ok_and(|y| y == expected)));
        assert!(agree);
    });
    println!("4 threads agree on a {expected}");
    Ok(())
}
