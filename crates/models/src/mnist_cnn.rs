//! The first convolutional network.

use crate::Result;
use maplet_nn_layers::Sequential;

/// A small convolutional network for 28 × 28 gray images of ten classes: 693,962 parameters, 98.5 % to 98.9 % on MNIST.
///
/// | step | layer | output | parameters |
/// |---|---|---|---|
/// | 0 | 3 × 3 convolution, 32 channels | `[32, 26, 26]` | 320 |
/// | 1, 2 | ReLU, 2 × 2 max-pool | `[32, 13, 13]` | |
/// | 3, 4 | flatten, linear | `[128]` | 692,352 |
/// | 5, 6 | ReLU, linear | `[10]` | 1,290 |
///
/// It gives logits: take [`cross_entropy`](maplet_nn_layers::cross_entropy) as its loss. Its parameters have the names
/// and shapes that the same `torch.nn.Sequential` has: `0.weight`, `0.bias`, `4.weight`, …
///
/// # Shapes
/// - input: `[n, 1, 28, 28]`; output: `[n, 10]`
///
/// # Errors
/// None in practice; they are those of [`Sequential`]'s builder.
///
/// # Reference
/// The shortest form of LeCun, Bottou, Bengio & Haffner (1998), "Gradient-Based Learning Applied to Document
/// Recognition".
///
/// # Example
/// ```
/// use maplet_autograd::Var;
/// use maplet_models::mnist_cnn;
/// use maplet_nn_layers::Module;
/// use maplet_tensor::{DType, Tensor};
///
/// let model = mnist_cnn(42)?;
/// let logits = model.forward(&Var::from(Tensor::zeros([5, 1, 28, 28], DType::F32)))?;
/// assert_eq!(logits.shape().to_string(), "[5, 10]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn mnist_cnn(seed: u64) -> Result<Sequential> {
    let model = Sequential::input([1, 28, 28])
        .conv2d(32, 3)
        .relu()
        .max_pool2d(2)
        .flatten()
        .linear(128)
        .relu()
        .linear(10)
        .build(seed)?;
    Ok(model)
}
