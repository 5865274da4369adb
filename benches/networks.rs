//! The networks that are timed, as training steps with Adam and as forward passes.

use maplet::models::{AlexNet, ResNet};
use maplet::nn::{
    self, AttentionMasks, Embedding, FeedForward, Gru, Lstm, RecurrentOptions, TransformerConfig, TransformerEncoder,
};
use maplet::prelude::*;

use crate::layers::{self, Layers};
use crate::{Result, Step};

/// Something to time.
pub struct Workload {
    /// `<network>_b<batch>` for a training step, `<network>_forward_<batch>` for a forward pass,
    /// `<network>_frozen_<batch>` for one of the frozen model.
    pub name: String,
    /// Floating-point operations of one step.
    pub flops: f64,
    network: &'static Network,
    batch: usize,
    mode: Mode,
}

impl Workload {
    /// The network, with a batch in memory.
    pub fn build(&self) -> Result<Step> {
        (self.network.build)(self.batch, self.mode)
    }
}

/// What is done with a network.
#[derive(Clone, Copy)]
enum Mode {
    Train,
    Forward,
    /// A forward pass of the frozen model.
    Frozen,
}

struct Network {
    name: &'static str,
    /// Batches to train on.
    train: &'static [usize],
    /// Batches of the forward pass.
    forward: &'static [usize],
    /// Whether the forward passes are timed frozen, too.
    freezes: bool,
    layers: fn(usize) -> Layers,
    build: fn(usize, Mode) -> Result<Step>,
}

/// All networks. A new one is one entry here.
static NETWORKS: [Network; 10] = [
    Network {
        name: "mnist_cnn",
        train: &[32, 128, 480],
        forward: &[1, 1000],
        freezes: true,
        layers: layers::mnist_cnn,
        build: |n, mode| classify(mnist_cnn(42)?, images([n, 1, 28, 28]), mode),
    },
    Network {
        name: "mlp",
        train: &[64],
        forward: &[64],
        freezes: true,
        layers: |n| layers::mlp(n, &[784, 512, 512, 10]),
        build: |n, mode| classify(mlp(&[784, 512, 512, 10], 42)?, images([n, 784]), mode),
    },
    Network {
        name: "tiny_mlp",
        train: &[32],
        forward: &[32],
        freezes: false,
        layers: |n| layers::mlp(n, &[10, 46, 10]),
        build: tiny_mlp,
    },
    Network {
        name: "lstm",
        train: &[64],
        forward: &[64],
        freezes: false,
        layers: |n| layers::recurrent(n, 4),
        build: |n, mode| classify(LastOfSequence::<Lstm>::new(Lstm::new)?, images([n, 28, 28]), mode),
    },
    Network {
        name: "gru",
        train: &[64],
        forward: &[64],
        freezes: false,
        layers: |n| layers::recurrent(n, 3),
        build: |n, mode| classify(LastOfSequence::<Gru>::new(Gru::new)?, images([n, 28, 28]), mode),
    },
    Network {
        name: "transformer_lm",
        train: &[16],
        forward: &[16],
        freezes: false,
        layers: layers::transformer_lm,
        build: transformer_lm,
    },
    Network {
        name: "resnet20",
        train: &[32],
        forward: &[32],
        freezes: true,
        layers: layers::resnet20,
        build: |n, mode| classify(ResNet::resnet20(10, 42)?, images([n, 3, 32, 32]), mode),
    },
    Network {
        name: "resnet18",
        train: &[4],
        forward: &[4],
        freezes: true,
        layers: |n| layers::resnet18(n, 10),
        build: |n, mode| classify(ResNet::resnet18(10, 42)?, images([n, 3, 224, 224]), mode),
    },
    Network {
        name: "alexnet",
        train: &[8],
        forward: &[8],
        freezes: true,
        layers: |n| layers::alexnet(n, 10),
        build: |n, mode| classify(AlexNet::new(10, 42)?, images([n, 3, 224, 224]), mode),
    },
    Network {
        name: "conv_128_256_k4",
        train: &[64],
        forward: &[64],
        freezes: false,
        layers: layers::large_conv,
        build: large_conv,
    },
];

/// Every training step, then every forward pass.
pub fn workloads() -> Vec<Workload> {
    let workload = |network: &'static Network, batch, mode| {
        let (layers, name) = ((network.layers)(batch), network.name);
        let (name, flops) = match mode {
            Mode::Train => (format!("{name}_b{batch}"), layers::training(&layers)),
            Mode::Forward => (format!("{name}_forward_{batch}"), layers::forward(&layers)),
            Mode::Frozen => (format!("{name}_frozen_{batch}"), layers::forward(&layers)),
        };
        Workload { name, flops, network, batch, mode }
    };
    let train =
        NETWORKS.iter().flat_map(|network| network.train.iter().map(move |&n| workload(network, n, Mode::Train)));
    let forward =
        NETWORKS.iter().flat_map(|network| network.forward.iter().map(move |&n| workload(network, n, Mode::Forward)));
    let frozen = NETWORKS.iter().filter(|network| network.freezes);
    let frozen = frozen.flat_map(|network| network.forward.iter().map(move |&n| workload(network, n, Mode::Frozen)));
    train.chain(forward).chain(frozen).collect()
}

/// Uniform random numbers.
fn images<const N: usize>(shape: [usize; N]) -> Tensor {
    Tensor::uniform(shape, 0.0f32, 1.0, &mut Rng::new(1))
}

/// Dense 10-46-10 with tanh and a squared error. Its arithmetic is nothing: it times the fixed costs.
fn tiny_mlp(n: usize, mode: Mode) -> Result<Step> {
    let model = Sequential::input([10]).linear(46).tanh().linear(10).build(42)?;
    step(model, mse, Batch { inputs: images([n, 10]), targets: images([n, 10]) }, mode)
}

/// A recurrent layer 28 → 128 over rows of an image, and a dense layer on its last output.
#[derive(Clone)]
struct LastOfSequence<R> {
    recurrent: R,
    head: Linear,
}
fields!([R: Visit] LastOfSequence<R>: recurrent, head);

impl<R> LastOfSequence<R> {
    fn new(make: fn(usize, usize, RecurrentOptions, &mut Rng) -> nn::Result<R>) -> Result<Self> {
        let rng = &mut Rng::new(42);
        Ok(Self {
            recurrent: make(28, 128, RecurrentOptions::new().batch_first(), rng)?,
            head: Linear::new(128, 10, rng)?,
        })
    }
}

impl<R: Module> Module for LastOfSequence<R> {
    fn forward(&self, x: &Var) -> nn::Result<Var> {
        let y = self.recurrent.forward(x)?;
        self.head.forward(&y.slice(1, 27, 28)?.squeeze(1)?)
    }
}

/// A causal transformer over characters: four layers of 128 features and four heads, pre-norm, GELU, learned positions.
#[derive(Clone)]
struct TransformerLm {
    embedding: Embedding,
    positions: Param,
    encoder: TransformerEncoder,
    head: Linear,
}
fields!(TransformerLm: embedding, positions, encoder, head);

impl Module for TransformerLm {
    fn forward(&self, x: &Var) -> nn::Result<Var> {
        let x = self.embedding.forward(x)?;
        let x = x.add(&self.positions.on(&x))?;
        self.head.forward(&self.encoder.forward_with(&x, &AttentionMasks::new().causal())?)
    }
}

fn transformer_lm(n: usize, mode: Mode) -> Result<Step> {
    let rng = &mut Rng::new(42);
    let config = TransformerConfig {
        num_encoder_layers: 4,
        dim_feedforward: 512,
        dropout: 0.0,
        activation: FeedForward::Gelu,
        norm_first: true,
        ..TransformerConfig::new(128, 4)
    };
    let model = TransformerLm {
        embedding: Embedding::new(65, 128, rng)?,
        positions: Param::new(Tensor::zeros([128, 128], DType::F32)),
        encoder: config.encoder(rng)?,
        head: Linear::new(128, 65, rng)?,
    };
    let count = n as i64 * 128;
    let ids = |first: i64| Tensor::from_vec((first..first + count).map(|i| i * 7 % 65).collect(), [n, 128]);
    step(model, cross_entropy, Batch { inputs: ids(0)?, targets: ids(1)? }, mode)
}

/// One large convolution, 128 → 256 with a kernel of 4 × 4.
fn large_conv(n: usize, mode: Mode) -> Result<Step> {
    let model = Sequential::input([128, 28, 28]).conv2d(256, 4).build(42)?;
    step(model, mse, Batch { inputs: images([n, 128, 28, 28]), targets: images([n, 256, 25, 25]) }, mode)
}

/// A classifier of ten classes on one batch.
fn classify(model: impl Module + Clone + 'static, inputs: Tensor, mode: Mode) -> Result<Step> {
    let labels: Vec<i64> = (0..inputs.shape()[0] as i64).map(|sample| sample % 10).collect();
    step(model, cross_entropy, Batch { targets: Tensor::from_slice(&labels, [labels.len()])?, inputs }, mode)
}

/// Steps with Adam on one batch, or forward passes outside of training.
fn step(model: impl Module + Clone + 'static, loss: impl Loss + 'static, batch: Batch, mode: Mode) -> Result<Step> {
    Ok(match mode {
        Mode::Train => {
            let mut trainer = model.compile(Adam::new(1e-3), loss, ());
            Box::new(move || Ok(trainer.step(&batch).map(drop)?))
        }
        Mode::Forward => {
            let inputs = Var::from(batch.inputs);
            Box::new(move || Ok(model.forward(&inputs).map(drop)?))
        }
        Mode::Frozen => {
            let mut session = Frozen::new(&model, batch.inputs.shape())?.session();
            Box::new(move || Ok(session.run(&batch.inputs).map(|_| ())?))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_takes_a_step() {
        for workload in workloads() {
            workload.build().and_then(|mut step| step()).unwrap_or_else(|error| panic!("{}: {error}", workload.name));
            assert!(workload.flops > 0.0, "{}", workload.name);
        }
    }

    #[test]
    fn names_are_those_of_the_peers() {
        let names: Vec<String> = workloads().into_iter().map(|workload| workload.name).collect();
        assert_eq!(names.len(), 29);
        for name in ["mnist_cnn_b32", "mnist_cnn_forward_1", "transformer_lm_b16", "conv_128_256_k4_forward_64"] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
    }
}
