//! AlexNet.

use crate::Result;
use maplet_autograd::{Var, fields};
use maplet_nn_layers::{AdaptiveAvgPool2d, Flatten, Graph, Module, Sequential, Value};
use maplet_tensor::Window2d;

/// The network that began the rush: five convolutions and three dense layers with dropout, for color images.
///
/// Names and shapes of its parameters are torchvision's: `features.0.weight`, …, `classifier.6.bias`. It is built for
/// images of 224 × 224; those of other sizes, from 63 × 63, are pooled to the same 6 × 6.
///
/// # Shapes
/// - input `[n, 3, h, w]`, output `[n, classes]`: logits
///
/// # Reference
/// Krizhevsky (2014), "One weird trick for parallelizing convolutional neural networks": the form of Krizhevsky,
/// Sutskever & Hinton (2012), "ImageNet Classification with Deep Convolutional Neural Networks", that torchvision has.
///
/// # Example
/// ```
/// use maplet_autograd::params;
/// use maplet_models::AlexNet;
///
/// let model = AlexNet::new(10, 42)?;
/// assert_eq!(params(&model)[0].0, "features.0.weight");
/// # Ok::<(), maplet_models::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct AlexNet {
    /// Convolutions and pools, to `[n, 256, 6, 6]`.
    pub features: Sequential,
    /// Dense layers.
    pub classifier: Sequential,
}
fields!(AlexNet: features, classifier);

impl AlexNet {
    /// Untrained.
    ///
    /// # Errors
    /// No classes.
    pub fn new(classes: usize, seed: u64) -> Result<Self> {
        let pool = Window2d::new(3).stride(2);
        let features = Sequential::input([3, 224, 224])
            .conv(64, Window2d::new(11).stride(4).padding(2))
            .relu()
            .max_pool(pool)
            .conv(192, Window2d::new(5).padding(2))
            .relu()
            .max_pool(pool)
            .conv(384, Window2d::new(3).padding(1))
            .relu()
            .conv(256, Window2d::new(3).padding(1))
            .relu()
            .conv(256, Window2d::new(3).padding(1))
            .relu()
            .max_pool(pool)
            .build(seed)?;
        let classifier = Sequential::input([256 * 6 * 6])
            .dropout(0.5)
            .linear(4096)
            .relu()
            .dropout(0.5)
            .linear(4096)
            .relu()
            .linear(classes)
            .build(seed.wrapping_add(1))?;
        Ok(Self { features, classifier })
    }
}

impl Module for AlexNet {
    fn forward(&self, x: &Var) -> maplet_nn_layers::Result<Var> {
        let x = self.features.forward(x)?.adaptive_avg_pool([6, 6])?;
        self.classifier.forward(&x.flatten(1)?)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> maplet_nn_layers::Result<Option<Value>> {
        let pool = AdaptiveAvgPool2d::new([6, 6])?;
        graph.chain(&[&self.features, &pool, &Flatten, &self.classifier], x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maplet_autograd::params;

    /// The shapes of torchvision's `alexnet(num_classes=2)`, from its source.
    #[test]
    fn names_and_shapes_are_torchvisions() {
        let model = AlexNet::new(2, 1).unwrap();
        let found: Vec<String> = params(&model)
            .into_iter()
            .filter(|(name, _)| name.ends_with("weight"))
            .map(|(name, param)| format!("{name} {}", param.shape()))
            .collect();
        let expected = [
            "features.0.weight [64, 3, 11, 11]",
            "features.3.weight [192, 64, 5, 5]",
            "features.6.weight [384, 192, 3, 3]",
            "features.8.weight [256, 384, 3, 3]",
            "features.10.weight [256, 256, 3, 3]",
            "classifier.1.weight [4096, 9216]",
            "classifier.4.weight [4096, 4096]",
            "classifier.6.weight [2, 4096]",
        ];
        assert_eq!(found, expected);
    }
}
