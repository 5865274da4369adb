//! Residual networks.

use crate::{Error, Result};
use maplet_autograd::{Var, fields};
use maplet_nn_layers::{BatchNorm2d, Conv2d, GlobalAvgPool, Graph, Linear, MaxPool2d, Module, Relu, Value, init};
use maplet_tensor::{Activation, Rng, Window2d};

/// A residual network of basic blocks.
///
/// Names and shapes of its parameters are torchvision's: `conv1.weight`, `bn1.weight`, `layer1.0.conv1.weight`, …,
/// `layer2.0.downsample.0.weight`, …, `fc.bias`. Convolutions begin as in the paper: normal, by their fan-out.
///
/// # Shapes
/// - input `[n, 3, h, w]`, output `[n, classes]`: logits
///
/// # Reference
/// He, Zhang, Ren & Sun (2016), "Deep Residual Learning for Image Recognition", table 1 and §4.2.
///
/// # Example
/// ```
/// use maplet_autograd::Var;
/// use maplet_models::ResNet;
/// use maplet_nn_layers::Module;
/// use maplet_tensor::{DType, Tensor};
///
/// let model = ResNet::resnet20(10, 42)?;
/// let logits = model.forward(&Var::from(Tensor::zeros([2, 3, 32, 32], DType::F32)))?;
/// assert_eq!(logits.shape(), [2, 10].into());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    /// Of the max-pool after the first convolution, if there is one.
    pool: Option<Window2d>,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    /// Empty in the networks for small images.
    layer4: Vec<BasicBlock>,
    fc: Linear,
}
fields!(ResNet: conv1, bn1, layer1, layer2, layer3, layer4, fc; pool);

/// Two 3 × 3 convolutions, each with a batch norm, around which the input runs on: `relu(f(x) + shortcut(x))`.
///
/// The shortcut is the identity, or where the sizes change a 1 × 1 convolution with a batch norm (option B of the
/// paper).
#[derive(Debug, Clone)]
pub struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    downsample: Option<(Conv2d, BatchNorm2d)>,
}
fields!(BasicBlock: conv1, bn1, conv2, bn2, downsample);

impl ResNet {
    /// ResNet-18, for images of about 224 × 224: 11.2 million parameters.
    ///
    /// # Errors
    /// No classes.
    pub fn resnet18(classes: usize, seed: u64) -> Result<Self> {
        Self::new([2; 4], classes, seed)
    }

    /// ResNet-34: 21.3 million parameters.
    ///
    /// # Errors
    /// No classes.
    pub fn resnet34(classes: usize, seed: u64) -> Result<Self> {
        Self::new([3, 4, 6, 3], classes, seed)
    }

    /// ResNet-20, for small images as those of CIFAR-10: 0.27 million parameters.
    ///
    /// # Errors
    /// No classes.
    pub fn resnet20(classes: usize, seed: u64) -> Result<Self> {
        Self::cifar(20, classes, seed)
    }

    /// A network of `blocks` in its four stages of 64, 128, 256 and 512 channels.
    ///
    /// # Errors
    /// No classes, or a stage without a block.
    pub fn new(blocks: [usize; 4], classes: usize, seed: u64) -> Result<Self> {
        if blocks.contains(&0) {
            return Err(Error::new("resnet", format!("stages of {blocks:?} blocks"), "give every stage a block"));
        }
        let stem = Window2d::new(7).stride(2).padding(3);
        Self::build(stem, Some(Window2d::new(3).stride(2).padding(1)), 64, &blocks, classes, seed)
    }

    /// A network for 32 × 32 images of `depth = 6n + 2` layers: three stages of 16, 32 and 64 channels (§4.2).
    ///
    /// # Errors
    /// No classes, or another depth.
    pub fn cifar(depth: usize, classes: usize, seed: u64) -> Result<Self> {
        if depth < 8 || depth % 6 != 2 {
            return Err(Error::new("resnet", format!("depth is {depth}"), "use 6n + 2: 20, 32, 44, 56, 110"));
        }
        Self::build(Window2d::new(3).padding(1), None, 16, &[(depth - 2) / 6; 3], classes, seed)
    }

    fn build(
        stem: Window2d,
        pool: Option<Window2d>,
        width: usize,
        blocks: &[usize],
        classes: usize,
        seed: u64,
    ) -> Result<Self> {
        let rng = &mut Rng::new(seed);
        let (conv1, bn1) = normed(3, width, stem, rng)?;
        let mut channels = width;
        let mut stage = |i: usize| -> Result<Vec<BasicBlock>> {
            let (width, blocks) = (width << i, blocks.get(i).copied().unwrap_or(0));
            let block = |j| {
                let stride = if i > 0 && j == 0 { 2 } else { 1 };
                BasicBlock::new(std::mem::replace(&mut channels, width), width, stride, rng)
            };
            (0..blocks).map(block).collect()
        };
        let (layer1, layer2, layer3, layer4) = (stage(0)?, stage(1)?, stage(2)?, stage(3)?);
        let fc = Linear::new(channels, classes, rng)?;
        Ok(Self { conv1, bn1, pool, layer1, layer2, layer3, layer4, fc })
    }
}

impl BasicBlock {
    /// From `in_channels` to `out_channels`, with this stride in its first convolution.
    ///
    /// # Errors
    /// No channels, or a stride of 0.
    pub fn new(in_channels: usize, out_channels: usize, stride: usize, rng: &mut Rng) -> Result<Self> {
        let (conv1, bn1) = normed(in_channels, out_channels, Window2d::new(3).stride(stride).padding(1), rng)?;
        let (conv2, bn2) = normed(out_channels, out_channels, Window2d::new(3).padding(1), rng)?;
        let changes = stride != 1 || in_channels != out_channels;
        let shortcut = Window2d::new(1).stride(stride);
        let downsample = changes.then(|| normed(in_channels, out_channels, shortcut, rng)).transpose()?;
        Ok(Self { conv1, bn1, conv2, bn2, downsample })
    }
}

/// A convolution without a bias, and the batch norm behind it.
fn normed(in_channels: usize, out_channels: usize, window: Window2d, rng: &mut Rng) -> Result<(Conv2d, BatchNorm2d)> {
    let mut conv = Conv2d::new(in_channels, out_channels, window, rng)?.without_bias();
    let weight = init::kaiming_normal(conv.weight.shape(), 1, init::Fan::Out, init::Gain::Relu, rng)?;
    conv.weight.set_value(weight)?;
    Ok((conv, BatchNorm2d::new(out_channels)?))
}

impl Module for BasicBlock {
    fn forward(&self, x: &Var) -> maplet_nn_layers::Result<Var> {
        let y = self.bn1.forward_with(&self.conv1.forward(x)?, Activation::Relu)?;
        let y = self.bn2.forward(&self.conv2.forward(&y)?)?;
        let shortcut = match &self.downsample {
            Some((conv, norm)) => norm.forward(&conv.forward(x)?)?,
            None => x.clone(),
        };
        Ok(shortcut.add_to(y)?.relu())
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> maplet_nn_layers::Result<Option<Value>> {
        let shortcut = match &self.downsample {
            Some((conv, norm)) => graph.chain(&[conv, norm], x)?,
            None => Some(x),
        };
        let y = graph.chain(&[&self.conv1, &self.bn1, &Relu, &self.conv2, &self.bn2], x)?;
        let (Some(y), Some(shortcut)) = (y, shortcut) else { return Ok(None) };
        let Some(sum) = graph.add(y, shortcut) else { return Ok(None) };
        graph.chain(&[&Relu], sum)
    }
}

impl Module for ResNet {
    fn forward(&self, x: &Var) -> maplet_nn_layers::Result<Var> {
        let mut x = self.bn1.forward_with(&self.conv1.forward(x)?, Activation::Relu)?;
        if let Some(pool) = self.pool {
            x = x.max_pool(pool)?;
        }
        for block in [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().flatten() {
            x = block.forward(&x)?;
        }
        self.fc.forward(&x.mean([2, 3], false)?)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> maplet_nn_layers::Result<Option<Value>> {
        let pool = self.pool.map(MaxPool2d::new).transpose()?;
        let mean = GlobalAvgPool::new();
        let mut modules: Vec<&dyn Module> = vec![&self.conv1, &self.bn1, &Relu];
        modules.extend(pool.as_ref().map(|pool| pool as &dyn Module));
        for block in [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().flatten() {
            modules.push(block);
        }
        modules.extend([&mean as &dyn Module, &self.fc]);
        graph.chain(&modules, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maplet_autograd::{params, states};
    use maplet_nn_layers::{Expect, check_module};

    fn parameters(model: &ResNet) -> usize {
        params(model).iter().map(|(_, param)| param.value().len()).sum()
    }

    /// torchvision's `resnet18` with 1,000 classes has 11,689,512 parameters (its documentation of the weights); the
    /// paper's table 6 gives ResNet-20 0.27 M with option A.
    #[test]
    fn sizes_are_the_published_ones() {
        assert_eq!(parameters(&ResNet::resnet18(1000, 1).unwrap()), 11_689_512);
        let projections = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64);
        let option_a = parameters(&ResNet::resnet20(10, 1).unwrap()) - projections;
        assert_eq!((option_a as f64 / 1e4).round(), 27.0);
    }

    #[test]
    fn names_are_torchvisions() {
        let model = ResNet::resnet18(10, 1).unwrap();
        let names: Vec<String> = params(&model).into_iter().map(|(name, _)| name).collect();
        for name in
            ["conv1.weight", "layer1.0.bn2.bias", "layer2.0.downsample.0.weight", "layer4.1.conv2.weight", "fc.bias"]
        {
            assert!(names.iter().any(|has| has == name), "{name}");
        }
        assert!(states(&model).iter().any(|(name, _)| name == "layer2.0.downsample.1.running_var"));
    }

    #[test]
    fn a_block_behaves_as_a_module() {
        let mut block = BasicBlock::new(2, 3, 2, &mut Rng::new(1)).unwrap();
        let names = ["conv1", "bn1", "conv2", "bn2", "downsample.0", "downsample.1"];
        let states: Vec<(String, &[usize])> = ["bn1", "bn2", "downsample.1"]
            .iter()
            .flat_map(|norm| ["running_mean", "running_var"].map(|state| (format!("{norm}.{state}"), &[3usize][..])))
            .collect();
        let shapes: [&[&[usize]]; 6] =
            [&[&[3, 2, 3, 3]], &[&[3], &[3]], &[&[3, 3, 3, 3]], &[&[3], &[3]], &[&[3, 2, 1, 1]], &[&[3], &[3]]];
        let parameters: Vec<(String, &[usize])> = names
            .iter()
            .zip(shapes)
            .flat_map(|(name, shapes)| {
                shapes.iter().zip(["weight", "bias"]).map(move |(shape, part)| (format!("{name}.{part}"), *shape))
            })
            .collect();
        let parameters: Vec<(&str, &[usize])> =
            parameters.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
        let states: Vec<(&str, &[usize])> = states.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
        let expect = Expect {
            input: &[3, 2, 6, 6],
            output: &[3, 3, 3, 3],
            parameters: &parameters,
            states: &states,
            ..Expect::default()
        };
        check_module(&mut block, &expect).unwrap();
    }

    #[test]
    fn impossible_depths_are_explained() {
        let text = ResNet::cifar(21, 10, 1).unwrap_err().to_string();
        assert_eq!(text, "resnet: depth is 21; help: use 6n + 2: 20, 32, 44, 56, 110");
        let text = ResNet::new([2, 0, 2, 2], 10, 1).unwrap_err().to_string();
        assert_eq!(text, "resnet: stages of [2, 0, 2, 2] blocks; help: give every stage a block");
    }
}
