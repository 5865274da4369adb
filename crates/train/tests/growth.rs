//! A training that goes on takes no more memory. Alone in its process: it counts bytes.

use cap::Cap;
use maplet_autograd::{Var, fields};
use maplet_data::Batch;
use maplet_nn_layers::{
    self as nn, FeedForward, Linear, Lstm, Module, RecurrentOptions, Sequential, TransformerConfig, TransformerEncoder,
    cross_entropy,
};
use maplet_optim::Adam;
use maplet_tensor::{Rng, Shape, Tensor};
use maplet_train::{Accuracy, Compile, Trainer};
use std::alloc::System;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// What a step may take besides tensors, and gives back: nodes, closures, lists of gradients and of offsets. (Tensors
/// are not given back: what they take is seen in what is held.)
const BOOKKEEPING: usize = 128 << 10;

/// What lists may grow that are kept from step to step.
const LIST: usize = 64 << 10;

const CLASSES: usize = 10;

/// A classifier of sequences: some layers, and a dense one on the last output.
struct Last<M> {
    body: M,
    head: Linear,
}
fields!([M: Module] Last<M>: body, head);

impl<M: Module> Module for Last<M> {
    fn forward(&self, x: &Var) -> nn::Result<Var> {
        let y = self.body.forward(x)?;
        let t = y.shape()[1];
        self.head.forward(&y.slice(1, t - 1, t)?.squeeze(1)?)
    }
}

/// A small convolutional network, without padding, so that any larger image fits too.
fn cnn(size: usize, channels: usize) -> impl Module {
    let layers = Sequential::input([1, size, size]).conv2d(channels, 3).relu().max_pool2d(2).flatten();
    layers.linear(64).relu().linear(CLASSES).build(42).unwrap()
}

fn lstm(features: usize) -> Last<Lstm> {
    let rng = &mut Rng::new(42);
    let body = Lstm::new(features, features, RecurrentOptions::new().batch_first(), rng).unwrap();
    Last { body, head: Linear::new(features, CLASSES, rng).unwrap() }
}

fn transformer(features: usize) -> Last<TransformerEncoder> {
    let rng = &mut Rng::new(42);
    let config = TransformerConfig {
        num_encoder_layers: 2,
        dim_feedforward: 2 * features,
        activation: FeedForward::Gelu,
        ..TransformerConfig::new(features, 4)
    };
    Last { body: config.encoder(rng).unwrap(), head: Linear::new(features, CLASSES, rng).unwrap() }
}

/// Shapes of the batches, `[samples, …]`, by the number of the step.
type Sizes = Box<dyn Fn(usize) -> Shape>;

/// A part of `most`, at least a quarter of it: all of it in the first two steps, then in no order.
fn part(most: usize, step: usize) -> usize {
    if step < 2 { most } else { most - step.wrapping_mul(2654435761) % (most - most / 4 + 1) }
}

fn images(samples: usize, size: usize) -> Sizes {
    Box::new(move |step| [part(samples, step), 1, size, size].into())
}

/// Other numbers of samples and other lengths, not always together.
fn sequences(samples: usize, length: usize, features: usize) -> Sizes {
    Box::new(move |step| [part(samples, step), part(length, step / 3), features].into())
}

fn step(trainer: &mut Trainer<impl Module>, shape: Shape, rng: &mut Rng) {
    let labels = (0..shape[0] as i64).map(|sample| sample % CLASSES as i64).collect();
    let targets = Tensor::from_vec(labels, [shape[0]]).unwrap();
    trainer.step(&Batch { inputs: Tensor::normal(shape, 0.0f32, 1.0, rng), targets }).unwrap();
}

/// The bytes that each step takes from the system, given back or not, and those that are held after it.
fn taken(model: impl Module, sizes: &Sizes, steps: usize) -> Vec<(usize, usize)> {
    let (mut trainer, mut rng) = (model.compile(Adam::new(1e-3), cross_entropy, Accuracy::new()), Rng::new(1));
    let one = |i| {
        let before = MEMORY.total_allocated();
        step(&mut trainer, sizes(i), &mut rng);
        (MEMORY.total_allocated() - before, MEMORY.allocated())
    };
    (0..steps).map(one).collect()
}

/// Resident memory in bytes, where the system tells.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024 * line.split_whitespace().next()?.parse::<usize>().ok()?)
}

/// Trains for 10,000 steps; memory after a tenth of them and at the end is the same.
fn stays_flat(name: &str, model: impl Module, sizes: &Sizes) {
    const STEPS: usize = 10_000;
    let (mut trainer, mut rng) = (model.compile(Adam::new(1e-3), cross_entropy, Accuracy::new()), Rng::new(1));
    let mut run = |steps: std::ops::Range<usize>| {
        steps.for_each(|i| step(&mut trainer, sizes(i), &mut rng));
        (MEMORY.allocated(), resident())
    };
    let (early, late) = (run(0..STEPS / 10), run(STEPS / 10..STEPS));
    // A leak of seven bytes a step would be more than this.
    assert!(late.0 <= early.0 + LIST, "{name}: {} bytes in use, then {}", early.0, late.0);
    // The system counts in pages and its allocator keeps some: a megabyte is a hundred bytes a step.
    if let (Some(early), Some(late)) = (early.1, late.1) {
        assert!(late <= early + (1 << 20), "{name}: {early} bytes resident, then {late}");
    }
}

/// One test, since another one beside it would be counted too. On one thread: on several, the scratch of tasks that
/// first meet by chance in a later step is taken only then.
#[test]
fn a_training_that_goes_on_takes_nothing_more() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(all);
}

fn all() {
    settles("cnn", || cnn(28, 32), images(32, 28));
    settles("lstm", || lstm(128), sequences(32, 64, 128));
    settles("transformer", || transformer(128), sequences(16, 64, 128));
    stays_flat("cnn", cnn(8, 4), &images(8, 8));
    stays_flat("lstm", lstm(8), &sequences(6, 12, 8));
    stays_flat("transformer", transformer(8), &sequences(4, 12, 8));
}

/// With always the same shapes, nothing of a tensor's size is taken from the third step on. With other ones in each
/// step, they find room in what the largest left.
fn settles<M: Module>(name: &str, model: impl Fn() -> M, sizes: Sizes) {
    let largest = sizes(0);
    let same = taken(model(), &(Box::new(move |_| largest) as Sizes), 40);
    assert!(same[0].0 > 16 * BOOKKEEPING, "{name}: nothing to see: {} bytes at first", same[0].0);
    let held = same[1].1;
    for (i, &(bytes, holds)) in same.iter().enumerate().skip(2) {
        assert!(bytes <= BOOKKEEPING, "{name}: step {} takes {bytes} bytes", i + 1);
        assert!(holds <= held + LIST, "{name}: {held} bytes are held after two steps, {holds} after {}", i + 1);
    }
    let others = taken(model(), &sizes, 120);
    let holds = others[119].1;
    assert!(holds <= held + held / 2, "{name}: {held} bytes are held with the largest shapes, {holds} with others");
}
