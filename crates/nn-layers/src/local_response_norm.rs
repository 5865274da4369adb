//! [`LocalResponseNorm`]: each channel against its neighbors.

use crate::module::expect_float;
use crate::plan::{Draft, Plan, batched};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{Shape, Window2d};
use serde::{Deserialize, Serialize};

/// Divides each element by a power of the mean square of the elements at its place in `size` neighboring channels.
///
/// `y = x / (k + alpha · mean(x²))^beta`, the mean over channels `c − size/2 ..= c + (size − 1)/2`, those outside
/// counted as zeros.
///
/// PyTorch: `nn.LocalResponseNorm`; Keras: –.
///
/// # Shapes
/// - input and output: `[n, c, ..]`, of 3 axes or more
///
/// # Reference
/// Krizhevsky, Sutskever & Hinton (2012), "ImageNet Classification with Deep Convolutional Neural Networks", §3.3; as
/// in PyTorch, `alpha` is `size` times the paper's.
///
/// # Example
/// ```
/// use maplet_nn_layers::{LocalResponseNorm, Module};
/// use maplet_tensor::Tensor;
///
/// let layer = LocalResponseNorm::new(2)?.alpha(2.0).beta(1.0);
/// let y = layer.forward(&Tensor::from([[[1.0f32], [2.0]]]).into())?;
/// assert_eq!(y.value(), &Tensor::from([[[0.5f32], [1.0 / 3.0]]])); // 1 / (1 + 1), 2 / (1 + 1 + 4)
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalResponseNorm {
    size: usize,
    alpha: f64,
    beta: f64,
    k: f64,
}
fields!(LocalResponseNorm: ; size, alpha, beta, k);

const OP: &str = "local_response_norm";

impl LocalResponseNorm {
    /// A layer that looks at so many channels: `alpha` 1e-4, `beta` 0.75, `k` 1, as in PyTorch.
    ///
    /// # Errors
    /// No channels.
    pub fn new(size: usize) -> Result<Self> {
        let layer = Self::with_defaults(size);
        layer.check()?;
        Ok(layer)
    }

    /// The factor of the mean square.
    pub fn alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }

    /// The exponent.
    pub fn beta(self, beta: f64) -> Self {
        Self { beta, ..self }
    }

    /// What is added to the mean square.
    pub fn k(self, k: f64) -> Self {
        Self { k, ..self }
    }

    fn with_defaults(size: usize) -> Self {
        Self { size, alpha: 1e-4, beta: 0.75, k: 1.0 }
    }

    fn check(&self) -> Result<()> {
        if self.size == 0 {
            return Err(Error::new(OP, "size is 0", "use 1 or more"));
        }
        Ok(Window2d::new([self.size, 1]).check(OP)?)
    }
}

impl Module for LocalResponseNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        let shape = x.shape();
        let [n, c, inner @ ..] = shape.sizes() else { return Err(too_few(&shape.to_string())) };
        if inner.is_empty() {
            return Err(too_few(&shape.to_string()));
        }
        expect_float(OP, x)?;
        if x.is_empty() {
            return Ok(x.clone());
        }
        // Channels as the height of an image.
        let squares = x.square().reshape([*n, 1, *c, inner.iter().product()])?;
        let around = [(0, 0), (0, 0), (self.size / 2, (self.size - 1) / 2), (0, 0)];
        let means = squares.pad(&around, 0.0)?.avg_pool(Window2d::new([self.size, 1]))?.reshape(shape)?;
        Ok(x.div(&means.mul_scalar(self.alpha).add_scalar(self.k).pow_scalar(self.beta))?)
    }
}

fn too_few(shape: &str) -> Error {
    Error::new(OP, format!("expects [n, c, ..] of 3 axes or more, got {shape}"), "unsqueeze the input")
}

impl Spec for LocalResponseNorm {
    fn plan(&self, input: &Shape) -> Plan {
        let layer = self.clone();
        Plan::new(format!("LocalResponseNorm {}", layer.size), move || {
            layer.check()?;
            if input.rank() < 2 {
                return Err(too_few(&batched(input)));
            }
            let flops = input.elements() as u64 * (layer.size as u64 + 5);
            Ok(Draft::new(*input, flops).fixed(layer))
        })
    }
}

impl Builder {
    /// [`LocalResponseNorm`] over so many channels, with PyTorch's other numbers.
    pub fn local_response_norm(self, size: usize) -> Self {
        self.step(LocalResponseNorm::with_defaults(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};

    #[test]
    fn behaves_as_a_module() {
        let rank = "local_response_norm: expects [n, c, ..] of 3 axes or more, got [3, 4]; help: unsqueeze the input";
        let expect = Expect { input: &[2, 4, 3], output: &[2, 4, 3], refuses: &[(&[3, 4], rank)], ..Expect::default() };
        for size in [1, 2, 3, 9] {
            check_module(&mut LocalResponseNorm::new(size).unwrap().alpha(0.5), &expect).unwrap();
        }
        let none = LocalResponseNorm::new(0).err().unwrap().to_string();
        assert_eq!(none, "local_response_norm: size is 0; help: use 1 or more");
    }
}
