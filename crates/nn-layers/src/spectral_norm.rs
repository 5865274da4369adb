//! [`SpectralNorm`]: a weight divided by its largest singular value.

use crate::norm::check_eps;
use crate::{Error, Parametrization, Parametrized, Result, Weighted};
use maplet_autograd::{Item, ItemMut, Param, Path, State, Var, Visit};
use maplet_tensor::{Rng, Tensor, Trans};

/// A layer whose weight is divided by its largest singular value, so that it stretches nothing.
///
/// The singular value is `σ = uᵀ · W · v`, of the weight as a matrix with one row an output. `u` and `v` come closer to
/// its singular vectors by one power iteration at each forward pass in training; their new values travel with the pass.
/// They are constants to the gradient.
///
/// PyTorch: `nn.utils.parametrizations.spectral_norm`; Keras: `SpectralNormalization`.
///
/// # Shapes
/// - the layer's
///
/// # Parameters
/// - those of the layer, but for `weight`: `parametrizations.weight.original`, at first the layer's weight
/// - states: `parametrizations.weight.0._u: [rows]` and `parametrizations.weight.0._v: [columns]`, of length 1; random,
///   then 15 power iterations
///
/// # Reference
/// Miyato, Kataoka, Koyama & Yoshida (2018), "Spectral Normalization for Generative Adversarial Networks", algorithm 1.
///
/// # Example
/// ```
/// use maplet_autograd::Tensor;
/// use maplet_nn_layers::{Linear, Module, SpectralNorm};
/// use maplet_tensor::Rng;
///
/// let mut inner = Linear::new(2, 2, &mut Rng::new(42))?.without_bias();
/// inner.weight.set_value(Tensor::from([[4.0f32, 0.0], [0.0, 1.0]]))?;
/// let layer = SpectralNorm::new(inner, &mut Rng::new(1))?;
/// let y = layer.forward(&Tensor::from([[1.0f32, 1.0]]).into())?;
/// let y = y.value().as_slice::<f32>()?;
/// assert!((y[0] - 1.0).abs() < 1e-6 && (y[1] - 0.25).abs() < 1e-6);
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
pub type SpectralNorm<L> = Parametrized<L, Spectral>;

/// What [`SpectralNorm`] keeps in a weight's place.
#[derive(Debug, Clone)]
pub struct Spectral {
    /// The weight before the division.
    pub original: Param,
    /// The left and the right singular vector; none of a weight that is a vector.
    vectors: Option<[State; 2]>,
    axis: usize,
    iterations: usize,
    eps: f64,
}

impl<L: Weighted> SpectralNorm<L> {
    /// One power iteration a pass, lengths of at least 1e-12, as in PyTorch.
    ///
    /// # Errors
    /// A weight that is a scalar or empty.
    pub fn new(layer: L, rng: &mut Rng) -> Result<Self> {
        Self::of(layer, 1, 1e-12, rng)
    }

    /// With so many power iterations at each training pass; lengths are taken as `eps` where they are smaller.
    ///
    /// # Errors
    /// No iterations, a negative `eps`, a weight that is a scalar or empty.
    pub fn of(layer: L, iterations: usize, eps: f64, rng: &mut Rng) -> Result<Self> {
        const OP: &str = "spectral_norm";
        check_eps(OP, eps)?;
        if iterations == 0 {
            return Err(Error::new(OP, "iterations is 0", "use 1 or more"));
        }
        Self::with(layer, |original| {
            let shape = original.shape();
            if shape.rank() == 0 || shape.elements() == 0 {
                return Err(Error::new(
                    OP,
                    format!("a weight {shape} has no singular value"),
                    "wrap a layer that has one",
                ));
            }
            let mut spectral = Spectral { original, vectors: None, axis: L::OUTPUT_AXIS, iterations, eps };
            if shape.rank() > 1 {
                let matrix = spectral.matrix(&Var::from(spectral.original.value()))?.into_value();
                let [rows, columns] = matrix.dims(OP)?;
                let mut random = |size| {
                    let vector = Tensor::normal([size, 1], 0.0f64, 1.0, rng).to_dtype(matrix.dtype());
                    normalized(&vector, eps)
                };
                let vectors = iterate(&matrix, [random(rows), random(columns)], 15, eps)?;
                let [u, v] = vectors.map(|vector| vector.reshape(vector.len()));
                spectral.vectors = Some([State::new(u?), State::new(v?)]);
            }
            Ok(spectral)
        })
    }
}

impl Spectral {
    /// The weight as a matrix with one row an output.
    fn matrix(&self, weight: &Var) -> Result<Var> {
        let others = (0..weight.rank()).filter(|&axis| axis != self.axis);
        let order: Vec<usize> = std::iter::once(self.axis).chain(others).collect();
        let rows = if self.axis == 0 { weight.clone() } else { weight.permute(&order)? };
        let count = rows.shape()[0];
        Ok(rows.reshape([count, rows.len() / count])?)
    }
}

impl Parametrization for Spectral {
    fn weight(&self, x: &Var) -> Result<Var> {
        let weight = self.original.on(x);
        let Some([u_state, v_state]) = &self.vectors else {
            let length = weight.square().sum(.., false)?.sqrt();
            let least = length.constant(Tensor::full([], self.eps).to_dtype(weight.dtype()));
            return Ok(weight.div(&length.maximum(&least)?)?);
        };
        let matrix = self.matrix(&weight)?;
        let column = |state: &State| -> Result<Tensor> { Ok(state.on(x).reshape([state.value().len(), 1])?) };
        let mut vectors = [column(u_state)?, column(v_state)?];
        if x.is_training() {
            vectors = iterate(matrix.value(), vectors, self.iterations, self.eps)?;
            for (state, vector) in [u_state, v_state].into_iter().zip(&vectors) {
                state.update(x, vector.reshape(vector.len())?)?;
            }
        }
        let [u, v] = vectors.map(|vector| x.constant(vector));
        let sigma = matrix.matmul(&v)?.mul(&u)?.sum(.., false)?;
        Ok(weight.div(&sigma)?)
    }
}

/// Power iterations: `u = W v / ‖W v‖`, then `v = Wᵀ u / ‖Wᵀ u‖`.
fn iterate(matrix: &Tensor, [mut u, mut v]: [Tensor; 2], iterations: usize, eps: f64) -> Result<[Tensor; 2]> {
    for _ in 0..iterations {
        u = normalized(&matrix.matmul(&v)?, eps);
        v = normalized(&matrix.matmul_with(&u, Trans { a: true, b: false })?, eps);
    }
    Ok([u, v])
}

/// `x / ‖x‖`, lengths below `eps` taken as that.
fn normalized(x: &Tensor, eps: f64) -> Tensor {
    x.mul_scalar(1.0 / x.squared_norm().sqrt().max(eps))
}

/// PyTorch's names: `original`, `0._u`, `0._v`.
impl Visit for Spectral {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        self.original.visit(&path.field("original"), show);
        if let Some([u, v]) = &self.vectors {
            u.visit(&path.index(0).field("_u"), show);
            v.visit(&path.index(0).field("_v"), show);
        }
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        self.original.visit_mut(&path.field("original"), show);
        if let Some([u, v]) = &mut self.vectors {
            u.visit_mut(&path.index(0).field("_u"), show);
            v.visit_mut(&path.index(0).field("_v"), show);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Conv2d, Expect, Linear, Module, check_module};
    use maplet_autograd::Pass;
    use maplet_tensor::Window2d;

    const W: &str = "parametrizations.weight.original";
    const U: &str = "parametrizations.weight.0._u";
    const V: &str = "parametrizations.weight.0._v";

    /// Singular values 4 and 1 of the weight's transpose: power iterations gain a factor of 16 each.
    fn apart(mut layer: Linear) -> Linear {
        layer.weight.set_value(Tensor::from([[4.0f32, 0.0, 0.0], [0.0, 1.0, 0.5]])).unwrap();
        layer
    }

    /// 20 more iterations, so that what the nudge of a weight does to `u` and `v` is below the nudge itself: they are
    /// constants to the gradient, and at the singular vectors the singular value does not depend on them.
    #[test]
    fn behaves_as_a_module() {
        let linear = apart(Linear::new(3, 2, &mut Rng::new(1)).unwrap());
        let expect = Expect {
            input: &[4, 3],
            output: &[4, 2],
            parameters: &[("bias", &[2]), (W, &[2, 3])],
            states: &[(U, &[2]), (V, &[3])],
            first_order: true, // the singular vectors are constants to the gradient
            ..Expect::default()
        };
        check_module(&mut SpectralNorm::of(linear, 20, 1e-12, &mut Rng::new(2)).unwrap(), &expect).unwrap();
        let conv = Conv2d::new(2, 3, Window2d::new(2), &mut Rng::new(2)).unwrap();
        let expect = Expect {
            input: &[2, 2, 3, 3],
            output: &[2, 3, 2, 2],
            parameters: &[("bias", &[3]), (W, &[3, 2, 2, 2])],
            states: &[(U, &[3]), (V, &[8])],
            first_order: true, // the singular vectors are constants to the gradient
            ..Expect::default()
        };
        check_module(&mut SpectralNorm::of(conv, 200, 1e-12, &mut Rng::new(2)).unwrap(), &expect).unwrap();
    }

    /// A layer whose weight counts the outputs on axis 1, as transposed convolutions do.
    #[derive(Debug)]
    struct Turned {
        weight: Param,
    }
    maplet_autograd::fields!(Turned: weight);

    impl Module for Turned {
        fn forward(&self, x: &Var) -> Result<Var> {
            self.forward_with(x, &self.weight.on(x))
        }
    }

    impl Weighted for Turned {
        const OUTPUT_AXIS: usize = 1;

        fn weight(&self) -> &Param {
            &self.weight
        }

        fn weight_mut(&mut self) -> &mut Param {
            &mut self.weight
        }

        fn forward_with(&self, x: &Var, weight: &Var) -> Result<Var> {
            Ok(x.matmul(&weight.reshape([2, 6])?)?)
        }
    }

    /// The matrix has a row for each of 3 outputs and a column for 2 · 2 others. Of all ones, its singular value is
    /// `√12`.
    #[test]
    fn outputs_may_be_counted_on_another_axis() {
        let weight = Param::new(Tensor::ones([2, 3, 2], maplet_tensor::DType::F32));
        let layer = SpectralNorm::new(Turned { weight }, &mut Rng::new(2)).unwrap();
        let [u, v] = layer.parametrization().vectors.as_ref().unwrap();
        assert_eq!((u.value().shape(), v.value().shape()), ([3].into(), [4].into()));
        let y = layer.forward(&Tensor::from([[1.0f32, 0.0]]).into()).unwrap();
        assert!(y.value().as_slice::<f32>().unwrap().iter().all(|y| (y - 1.0 / 12f32.sqrt()).abs() < 1e-6));
    }

    #[test]
    fn vectors_move_in_training_and_travel_with_the_pass() {
        let linear = apart(Linear::new(3, 2, &mut Rng::new(1)).unwrap());
        let mut layer = SpectralNorm::new(linear, &mut Rng::new(2)).unwrap();
        let ones = State::new(Tensor::from([0.5f32.sqrt(), 0.5f32.sqrt()]));
        let right = State::new(Tensor::from([0.0f32, 1.0, 0.0]));
        layer.parametrization_mut().vectors = Some([ones, right]);
        let before = maplet_autograd::container::snapshot(&layer);
        let x = Tensor::from([[1.0f32, 0.0, 0.0]]);
        let y = layer.forward(&Pass::record().leaf(&x)).unwrap();
        assert!(maplet_autograd::container::snapshot(&layer) == before);
        drop(y);
        let y = layer.forward(&Pass::train(0).leaf(&x)).unwrap();
        assert!(maplet_autograd::container::snapshot(&layer) == before);
        y.sum(.., false).unwrap().backward().unwrap().apply_states(&mut layer).unwrap();
        let [u, v] = layer.parametrization().vectors.as_ref().unwrap();
        assert_eq!(u.value(), &Tensor::from([0.0f32, 1.0])); // W v = (0, 1)
        let (a, b) = (1.0 / 1.25f32.sqrt(), 0.5 / 1.25f32.sqrt()); // Wᵀ u = (0, 1, 0.5)
        let v = v.value().as_slice::<f32>().unwrap();
        assert!(v[0] == 0.0 && (v[1] - a).abs() < 1e-6 && (v[2] - b).abs() < 1e-6, "{v:?}");
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let text = |iterations, eps| {
            let linear = Linear::new(3, 2, &mut Rng::new(1)).unwrap();
            SpectralNorm::of(linear, iterations, eps, &mut Rng::new(2)).err().unwrap().to_string()
        };
        assert_eq!(text(0, 1e-12), "spectral_norm: iterations is 0; help: use 1 or more");
        assert_eq!(text(1, -1.0), "spectral_norm: eps is -1; help: use a small positive number");
        let scalar = Turned { weight: Param::new(Tensor::scalar(2.0f32)) };
        let found = SpectralNorm::new(scalar, &mut Rng::new(2)).err().unwrap().to_string();
        assert_eq!(found, "spectral_norm: a weight [] has no singular value; help: wrap a layer that has one");
    }
}
