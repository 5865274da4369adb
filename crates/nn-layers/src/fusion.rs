//! The table of neighbors that [`Sequential`](crate::Sequential) runs as one op.
//!
//! A fused op's value and gradient are those of the plain run (up to rounding): the tests below hold it to that.

use crate::module::Layer;
use crate::{Conv2d, Linear, MaxPool2d, Module, Result};
use maplet_autograd::Var;
use maplet_tensor::{Activation, Window, Window2d};

/// What a layer is, as far as the table is concerned.
#[doc(hidden)]
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Part<'a> {
    Conv2d(&'a Conv2d),
    Linear(&'a Linear),
    MaxPool2d(&'a MaxPool2d),
    BatchNorm(&'a dyn Activates),
    Relu,
    Other,
}

/// A layer whose op can do the activation behind it as well.
#[doc(hidden)]
pub trait Activates {
    fn activated(&self, x: &Var, activation: Activation) -> Result<Var>;
}

/// Neighbors that run as one op.
pub(crate) enum Fused<'a> {
    ConvReluPool(&'a Conv2d, &'a MaxPool2d),
    ConvRelu(&'a Conv2d),
    LinearRelu(&'a Linear),
    BatchNormRelu(&'a dyn Activates),
}

impl<'a> Fused<'a> {
    /// The table: the longest run of layers, from the first on, that one op can replace.
    pub(crate) fn of(layers: &'a [Box<dyn Layer>]) -> Option<Self> {
        let part = |i: usize| layers.get(i).map_or(Part::Other, |layer| layer.part());
        match [part(0), part(1), part(2)] {
            [Part::Conv2d(conv), Part::Relu, Part::MaxPool2d(pool)] if is_plain(pool) && !is_faster_alone(conv) => {
                Some(Self::ConvReluPool(conv, pool))
            }
            [Part::Conv2d(conv), Part::Relu, _] => Some(Self::ConvRelu(conv)),
            [Part::Linear(linear), Part::Relu, _] => Some(Self::LinearRelu(linear)),
            [Part::BatchNorm(norm), Part::Relu, _] => Some(Self::BatchNormRelu(norm)),
            _ => None,
        }
    }

    /// How many layers it replaces.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::ConvReluPool(..) => 3,
            Self::ConvRelu(..) | Self::LinearRelu(..) | Self::BatchNormRelu(..) => 2,
        }
    }

    pub(crate) fn forward(&self, x: &Var) -> Result<Var> {
        match self {
            Self::ConvReluPool(conv, pool) => {
                let bias = conv.bias.as_ref().map(|bias| bias.on(x));
                let (weight, x) = (conv.weight.on(x), conv.padded(x)?);
                Ok(x.conv2d_relu_max_pool2d(&weight, bias.as_ref(), conv.window(), pool.pool().window)?)
            }
            Self::ConvRelu(conv) => conv.apply(x, Activation::Relu),
            Self::LinearRelu(linear) => linear.apply(x, Activation::Relu),
            Self::BatchNormRelu(norm) => norm.activated(x, Activation::Relu),
        }
    }
}

/// Whether the convolution is of those that minimal filtering makes two to three times faster: more than is gained by
/// pooling its output while it is in the cache.
fn is_faster_alone(conv: &Conv2d) -> bool {
    filters_minimally(&conv.window(), &conv.weight.shape())
}

/// As the convolution's kernel decides, but for the sizes of the input, its type, and what the machine can do.
pub(crate) fn filters_minimally<const D: usize>(window: &Window<D>, weight: &[usize]) -> bool {
    let Window { kernel, stride, padding, dilation, groups } = window;
    let whole = |count: usize| count > 0 && count.is_multiple_of(16);
    kernel.ends_with(&[3, 3])
        && kernel.iter().rev().skip(2).all(|&size| size == 1)
        && (stride, dilation) == (&[1; D], &[1; D])
        && padding.iter().all(|&padding| padding <= 2)
        && whole(weight[0] / groups)
        && whole(weight[1])
        && weight[1] <= 512
}

/// Whether the pool is one that the fused kernel takes: it keeps each window's winner in a byte, two values reserved.
fn is_plain(pool: &MaxPool2d) -> bool {
    let window = pool.pool().window;
    pool.pool() == Window2d::pool(window.kernel).into() && window.kernel[0].saturating_mul(window.kernel[1]) <= 254
}

#[cfg(test)]
mod tests {
    use crate::{Builder, Module, Sequential, cast};
    use maplet_autograd::{Pass, params};
    use maplet_tensor::{DType, Rng, Tensor, Window2d};

    /// Value and every gradient of the fused run against the plain run with the same weights, in double precision.
    fn check(builder: impl Fn() -> Builder, batch: usize, groups: usize) {
        let (mut fused, mut plain) = (builder().build(7).unwrap(), builder().unfused().build(7).unwrap());
        assert_eq!((fused.run_lengths().len(), plain.run_lengths().len()), (groups, plain.rows().len()));
        cast(&mut fused, DType::F64).unwrap();
        cast(&mut plain, DType::F64).unwrap();
        let mut rng = Rng::new(8);
        let shape = [&[batch], fused.input_shape().sizes()].concat();
        let x = Tensor::normal(maplet_tensor::Shape::new(&shape).unwrap(), 0.0f64, 1.0, &mut rng);
        let run = |model: &Sequential| {
            let x = Pass::record().leaf(x.clone());
            let y = model.forward(&x).unwrap();
            let cotangent = Tensor::normal(y.shape(), 0.0f64, 1.0, &mut Rng::new(9));
            let grads = y.backward_from(cotangent).unwrap();
            let mut all = vec![y.value().clone(), grads.of(&x).unwrap().clone()];
            all.extend(params(model).iter().map(|(_, param)| grads.of(*param).unwrap().clone()));
            all
        };
        for (i, (fused, plain)) in run(&fused).iter().zip(run(&plain)).enumerate() {
            assert_eq!(fused.shape(), plain.shape());
            let largest = plain.as_slice::<f64>().unwrap().iter().fold(1.0, |most: f64, y| y.abs().max(most));
            let pairs = fused.as_slice::<f64>().unwrap().iter().zip(plain.as_slice::<f64>().unwrap());
            // Sums of some hundred products in another order: ε · √k · the largest term, with room.
            assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-13 * largest), "{i}");
        }
    }

    #[test]
    fn convolution_relu_pool() {
        check(|| Sequential::input([1, 8, 8]).conv2d(3, 3).relu().max_pool2d(2), 3, 1);
        let strided = Window2d::new(3).padding(1).stride(2);
        check(|| Sequential::input([2, 11, 9]).conv(4, strided).relu().max_pool2d([1, 3]), 2, 1);
        check(|| Sequential::input([2, 6, 6]).conv(4, Window2d::new(3).groups(2)).relu().max_pool2d(2), 2, 1);
        check(|| Sequential::input([2, 6, 6]).conv2d(4, 3).no_bias().relu().max_pool2d(2), 2, 1);
    }

    #[test]
    fn convolution_relu() {
        let padded = Window2d::new(3).stride(2).padding(1);
        check(|| Sequential::input([1, 8, 8]).conv2d(3, 3).relu().max_pool(padded), 3, 2);
        check(|| Sequential::input([1, 20, 20]).conv2d(1, 2).relu().max_pool2d([17, 15]), 2, 2);
        check(|| Sequential::input([2, 7, 6]).conv2d(3, 3).relu().conv2d(2, 2).no_bias().relu(), 3, 2);
    }

    #[test]
    fn convolutions_that_are_faster_alone_are_not_pooled_on_the_way() {
        check(|| Sequential::input([16, 8, 8]).conv2d(16, 3).relu().max_pool2d(2), 2, 2);
        // These are not.
        let dilated = Window2d::new(3).dilation(2);
        check(|| Sequential::input([16, 9, 9]).conv(16, dilated).relu().max_pool2d(2), 2, 1);
        check(|| Sequential::input([32, 6, 6]).conv(16, Window2d::new(3).groups(2)).relu().max_pool2d(2), 2, 1);
    }

    #[test]
    fn batch_norm_relu() {
        check(|| Sequential::input([2, 7, 6]).conv2d(3, 3).no_bias().batch_norm2d().relu(), 3, 2);
        check(|| Sequential::input([5]).linear(4).batch_norm1d().relu(), 6, 2);
    }

    #[test]
    fn linear_relu() {
        check(|| Sequential::input([6]).linear(5).relu().linear(4), 3, 2);
        check(|| Sequential::input([2, 6]).linear(5).no_bias().relu(), 3, 1);
    }

    #[test]
    fn the_mnist_cnn_takes_four_ops() {
        let model = Sequential::input([1, 28, 28]).conv2d(32, 3).relu().max_pool2d(2).flatten().linear(128).relu();
        let model = model.linear(10).build(1).unwrap();
        assert_eq!(model.run_lengths(), [3, 1, 2, 1]);
        assert_eq!(model.unfused().run_lengths(), [1; 7]);
    }
}
