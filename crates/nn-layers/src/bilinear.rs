//! [`Bilinear`]: a product of two inputs.

use crate::plan::weight_shape;
use crate::{Error, Result, init};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::{Activation, Rng};

/// Maps a pair of vectors to the products that a weight takes of them: `y[k] = x1ᵀ · weight[k] · x2 + bias[k]`.
///
/// PyTorch: `nn.Bilinear`; Keras: –.
///
/// # Shapes
/// - inputs `[.., in1_features]` and `[.., in2_features]`, output `[.., out_features]`
///
/// # Parameters
/// - `weight: [out_features, in1_features, in2_features]` and `bias: [out_features]`, both uniform in
///   `±1/√in1_features` (PyTorch's default)
///
/// # Example
/// ```
/// use maplet_autograd::Tensor;
/// use maplet_nn_layers::Bilinear;
/// use maplet_tensor::Rng;
///
/// let mut layer = Bilinear::new(1, 2, 1, &mut Rng::new(42))?.without_bias();
/// layer.weight.set_value(Tensor::from([[[10.0f32, 1.0]]]))?;
/// let y = layer.forward(&Tensor::from([[2.0f32]]).into(), &Tensor::from([[3.0f32, 4.0]]).into())?;
/// assert_eq!(y.value(), &Tensor::from([[68.0f32]])); // 2 · (10 · 3 + 4)
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bilinear {
    /// `[out_features, in1_features, in2_features]`
    pub weight: Param,
    /// `[out_features]`
    pub bias: Option<Param>,
}
fields!(Bilinear: weight, bias);

impl Bilinear {
    /// A layer with random weights.
    ///
    /// # Errors
    /// A size of zero, or more weights than a model can have.
    pub fn new(in1_features: usize, in2_features: usize, out_features: usize, rng: &mut Rng) -> Result<Self> {
        let sizes = [("out_features", out_features), ("in1_features", in1_features), ("in2_features", in2_features)];
        let shape = weight_shape("bilinear", &sizes)?;
        let bound = 1.0 / (in1_features as f64).sqrt();
        let weight = Param::new(init::uniform(shape, -bound, bound, rng));
        Ok(Self { weight, bias: Some(Param::new(init::uniform([out_features], -bound, bound, rng))) })
    }

    /// The layer without its bias.
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    /// The output for two inputs.
    ///
    /// Takes memory for the outer products, `in1_features · in2_features` numbers a row.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, x1: &Var, x2: &Var) -> Result<Var> {
        let weight = self.weight.on(x1);
        let (weight_shape, a, b) = (weight.shape(), x1.shape(), x2.shape());
        let [out_features, in1_features, in2_features] = weight.dims("bilinear")?;
        let outer = a.strip_suffix(&[in1_features]).zip(b.strip_suffix(&[in2_features]));
        let Some((outer, _)) = outer.filter(|(outer1, outer2)| outer1 == outer2) else {
            let what = format!("inputs {a} and {b} do not fit a weight {weight_shape}");
            let help =
                format!("they must be [.., {in1_features}] and [.., {in2_features}], equal before the last axis");
            return Err(Error::new("bilinear", what, help));
        };
        let features = in1_features * in2_features;
        let shape = maplet_tensor::Shape::new(&[outer, &[features]].concat())?;
        let products = x1.unsqueeze(-1)?.mul(&x2.unsqueeze(-2)?)?.reshape(shape)?;
        let weight = weight.reshape([out_features, features])?;
        let bias = self.bias.as_ref().map(|bias| bias.on(x1));
        Ok(products.linear(&weight, bias.as_ref(), Activation::Identity)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Module, check_module};
    use maplet_tensor::Tensor;

    /// The two halves of a vector as the two inputs.
    struct Halves {
        layer: Bilinear,
    }
    fields!(Halves: layer);

    impl Module for Halves {
        fn forward(&self, x: &Var) -> Result<Var> {
            self.layer.forward(&x.slice(-1, 0, 2)?, &x.slice(-1, 2, 5)?)
        }
    }

    #[test]
    fn behaves_as_a_module() {
        let layer = Bilinear::new(2, 3, 4, &mut Rng::new(1)).unwrap();
        let (weight, bias): ((&str, &[usize]), _) = (("layer.weight", &[4, 2, 3]), ("layer.bias", &[4][..]));
        let expect = Expect { input: &[2, 3, 5], output: &[2, 3, 4], parameters: &[weight, bias], ..Expect::default() };
        check_module(&mut Halves { layer: layer.clone() }, &expect).unwrap();
        let expect = Expect { parameters: &[weight], ..expect };
        check_module(&mut Halves { layer: layer.without_bias() }, &expect).unwrap();
    }

    #[test]
    fn misfits_are_explained() {
        let layer = Bilinear::new(2, 3, 4, &mut Rng::new(1)).unwrap();
        let x = |shape: &[usize]| Var::from(init::zeros(maplet_tensor::Shape::new(shape).unwrap()));
        let cases: [(&[usize], &[usize]); 3] = [(&[5, 3], &[5, 3]), (&[5, 2], &[4, 3]), (&[], &[3])];
        for (a, b) in cases {
            let text = layer.forward(&x(a), &x(b)).err().unwrap().to_string();
            let want = format!(
                "bilinear: inputs {a:?} and {b:?} do not fit a weight [4, 2, 3]; \
                 help: they must be [.., 2] and [.., 3], equal before the last axis"
            );
            assert_eq!(text, want);
        }
        let empty = layer.forward(&x(&[0, 2]), &x(&[0, 3])).unwrap();
        assert_eq!(empty.value(), &Tensor::zeros([0, 4], maplet_tensor::DType::F32));
        let text = Bilinear::new(2, 0, 4, &mut Rng::new(1)).err().unwrap().to_string();
        assert_eq!(text, "bilinear: in2_features is 0; help: use 1 or more");
    }
}
