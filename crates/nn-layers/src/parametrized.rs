//! [`Parametrized`]: a layer whose weight is computed from other parameters.

use crate::{Conv, ConvTranspose, Embedding, Linear, Module, Result};
use maplet_autograd::{Item, ItemMut, Param, Path, Var, Visit};
use maplet_tensor::{Activation, Tensor};

/// A layer with a weight that another can stand in for.
pub trait Weighted: Module {
    /// Which axis of the weight counts the outputs: 0, but 1 in transposed convolutions.
    const OUTPUT_AXIS: usize = 0;

    /// The layer's own weight.
    fn weight(&self) -> &Param;

    /// The layer's own weight, to be changed.
    fn weight_mut(&mut self) -> &mut Param;

    /// As [`forward`](Module::forward), with another weight in the place of the layer's own.
    ///
    /// # Errors
    /// As [`forward`](Module::forward).
    fn forward_with(&self, x: &Var, weight: &Var) -> Result<Var>;
}

/// What a weight is computed from: the parameters that are trained in its place.
pub trait Parametrization: Visit + Send + Sync {
    /// The weight, for the pass of `x`.
    ///
    /// # Errors
    /// Those of the ops that it is made of.
    fn weight(&self, x: &Var) -> Result<Var>;
}

/// A layer whose weight is computed from other parameters at each forward pass: [`WeightNorm`](crate::WeightNorm),
/// [`SpectralNorm`](crate::SpectralNorm), or one of your own.
///
/// PyTorch: `nn.utils.parametrize.register_parametrization`; Keras: –.
///
/// # Parameters
/// - the layer's own but its weight; in that place, the parametrization's, under PyTorch's names
///   (`parametrizations.weight.…`)
///
/// # Example
/// ```
/// use maplet_autograd::{Param, Var, fields, params};
/// use maplet_nn_layers::{Linear, Module, Parametrization, Parametrized, Result};
/// use maplet_tensor::Rng;
///
/// /// A weight that is never negative.
/// struct Exponential {
///     original: Param,
/// }
/// fields!(Exponential: original);
///
/// impl Parametrization for Exponential {
///     fn weight(&self, x: &Var) -> Result<Var> {
///         Ok(self.original.on(x).exp())
///     }
/// }
///
/// let linear = Linear::new(2, 1, &mut Rng::new(42))?;
/// let layer = Parametrized::with(linear, |original| Ok(Exponential { original }))?;
/// assert_eq!(params(&layer)[1].0, "parametrizations.weight.original");
/// assert!(layer.into_layer()?.weight.value().as_slice::<f32>()?.iter().all(|&w| w > 0.0));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Parametrized<L, P> {
    /// Its own weight is empty.
    layer: L,
    parametrization: P,
}

impl<L: Weighted, P: Parametrization> Parametrized<L, P> {
    /// Takes the weight out of a layer; `parametrize` says what is to be trained in its place.
    ///
    /// # Errors
    /// Those of `parametrize`.
    pub fn with(mut layer: L, parametrize: impl FnOnce(Param) -> Result<P>) -> Result<Self> {
        let nothing = Param::new(Tensor::zeros(0, layer.weight().dtype()));
        let parametrization = parametrize(std::mem::replace(layer.weight_mut(), nothing))?;
        Ok(Self { layer, parametrization })
    }

    /// What the weight is computed from.
    pub fn parametrization(&self) -> &P {
        &self.parametrization
    }

    /// What the weight is computed from, to be changed.
    pub fn parametrization_mut(&mut self) -> &mut P {
        &mut self.parametrization
    }

    /// The layer, with the weight that it had last computed as its own: PyTorch's `remove_parametrizations`.
    ///
    /// # Errors
    /// Those of the ops that the weight is made of.
    pub fn into_layer(mut self) -> Result<L> {
        let nothing = Var::from(self.layer.weight().value());
        *self.layer.weight_mut() = Param::new(self.parametrization.weight(&nothing)?.into_value());
        Ok(self.layer)
    }
}

impl<L: Weighted, P: Parametrization> Module for Parametrized<L, P> {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.layer.forward_with(x, &self.parametrization.weight(x)?)
    }
}

impl<L: Weighted, P: Parametrization> Visit for Parametrized<L, P> {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        let hidden = self.layer.weight().id();
        self.layer.visit(path, &mut |path, item| match item {
            Item::Param(param) if param.id() == hidden => {}
            item => show(path, item),
        });
        self.parametrization.visit(&path.field("parametrizations").field("weight"), show);
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        let hidden = self.layer.weight().id();
        self.layer.visit_mut(path, &mut |path, item| match item {
            ItemMut::Param(param) if param.id() == hidden => {}
            item => show(path, item),
        });
        self.parametrization.visit_mut(&path.field("parametrizations").field("weight"), show);
    }
}

impl Weighted for Linear {
    fn weight(&self) -> &Param {
        &self.weight
    }

    fn weight_mut(&mut self) -> &mut Param {
        &mut self.weight
    }

    fn forward_with(&self, x: &Var, weight: &Var) -> Result<Var> {
        self.apply_with(x, weight, Activation::Identity)
    }
}

impl<const D: usize> Weighted for Conv<D> {
    fn weight(&self) -> &Param {
        &self.weight
    }

    fn weight_mut(&mut self) -> &mut Param {
        &mut self.weight
    }

    fn forward_with(&self, x: &Var, weight: &Var) -> Result<Var> {
        self.apply_with(x, weight, Activation::Identity)
    }
}

impl<const D: usize> Weighted for ConvTranspose<D> {
    const OUTPUT_AXIS: usize = 1;

    fn weight(&self) -> &Param {
        &self.weight
    }

    fn weight_mut(&mut self) -> &mut Param {
        &mut self.weight
    }

    fn forward_with(&self, x: &Var, weight: &Var) -> Result<Var> {
        self.apply_with(x, weight)
    }
}

impl Weighted for Embedding {
    fn weight(&self) -> &Param {
        &self.weight
    }

    fn weight_mut(&mut self) -> &mut Param {
        &mut self.weight
    }

    fn forward_with(&self, ids: &Var, weight: &Var) -> Result<Var> {
        self.look_up(ids, weight)
    }
}
