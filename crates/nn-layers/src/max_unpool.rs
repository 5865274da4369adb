//! [`MaxUnpool`]: what a max-pool made smaller, made larger again.

use crate::{Error, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{Pool, Sizes, Window};

/// Puts the maxima that a [`MaxPool`](crate::MaxPool) of the same window found back to their places, and zeros
/// elsewhere.
///
/// Where windows overlapped, one maximum may come several times; the last one stays.
///
/// # Shapes
/// - input and indices `[n, c, sizes..]` with `D` sizes, output `[n, c, sizes′..]`, where
///   `size′ = (size − 1) · stride − 2 · padding + kernel`
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{MaxPool1d, MaxUnpool1d};
/// use maplet_tensor::Window1d;
///
/// let x = Var::from(Tensor::from([[[1.0f32, 2.0, 5.0, 3.0]]]));
/// let (y, indices) = MaxPool1d::new(Window1d::pool(2))?.forward_with_indices(&x)?;
/// let x = MaxUnpool1d::new(Window1d::pool(2))?.forward(&y, &indices)?;
/// assert_eq!(x.value(), &Tensor::from([[[0.0f32, 2.0, 5.0, 0.0]]]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MaxUnpool<const D: usize> {
    window: Window<D>,
}
fields!([const D: usize] MaxUnpool<D>: ; window);

/// The maxima of a sequence put back to their places: [`MaxUnpool`].
///
/// PyTorch: `nn.MaxUnpool1d`; Keras: –.
pub type MaxUnpool1d = MaxUnpool<1>;
/// The maxima of an image put back to their places: [`MaxUnpool`].
///
/// PyTorch: `nn.MaxUnpool2d`; Keras: –.
pub type MaxUnpool2d = MaxUnpool<2>;
/// The maxima of a volume put back to their places: [`MaxUnpool`].
///
/// PyTorch: `nn.MaxUnpool3d`; Keras: –.
pub type MaxUnpool3d = MaxUnpool<3>;

const OP: [&str; 3] = ["max_unpool1d", "max_unpool2d", "max_unpool3d"];

impl<const D: usize> MaxUnpool<D> {
    /// The inverse of the max-pool with this window.
    ///
    /// # Errors
    /// A zero in the window, groups, or padding of more than half the kernel.
    pub fn new(window: Window<D>) -> Result<Self> {
        Pool::from(window).check(OP[D - 1])?;
        Ok(Self { window })
    }

    /// The planes with the elements of `x` at their indices.
    ///
    /// # Errors
    /// Another rank, shapes that differ, or an index outside the output.
    pub fn forward(&self, x: &Var, indices: &Var) -> Result<Var> {
        let sizes = self.usual_sizes(x)?;
        Ok(x.max_unpool(indices, sizes)?)
    }

    /// As [`forward`](Self::forward), with the sizes of the max-pool's input, of which several lead to one output.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and sizes a stride or more away from the usual ones.
    pub fn forward_to(&self, x: &Var, indices: &Var, sizes: impl Into<Sizes<D>>) -> Result<Var> {
        let (Sizes(sizes), usual) = (sizes.into(), self.usual_sizes(x)?);
        if (0..D).any(|side| sizes[side].abs_diff(usual[side]) >= self.window.stride[side]) {
            let what = format!("output sizes {sizes:?} are a stride or more away from {usual:?}");
            return Err(Error::new(OP[D - 1], what, "pass the sizes of the max-pool's input"));
        }
        Ok(x.max_unpool(indices, sizes)?)
    }

    fn usual_sizes(&self, x: &Var) -> Result<[usize; D]> {
        let (shape, Window { kernel, stride, padding, .. }) = (x.shape(), self.window);
        let sizes = shape.get(2..).and_then(|sizes| <[usize; D]>::try_from(sizes).ok());
        let usual = |sizes: [usize; D]| {
            std::array::from_fn(|side| {
                (sizes[side].max(1) - 1)
                    .saturating_mul(stride[side])
                    .saturating_add(kernel[side])
                    .saturating_sub(2 * padding[side])
            })
        };
        sizes.map(usual).ok_or_else(|| {
            let what = format!("input {shape} has {} axes", shape.rank());
            Error::new(OP[D - 1], what, format!("it must be [n, channels] and {D} spatial axes"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MaxPool2d;
    use maplet_autograd::{Pass, gradcheck};
    use maplet_tensor::{DType, Rng, Tensor, Window1d, Window2d};

    #[test]
    fn undoes_the_pool_but_for_what_it_lost() {
        let x = Var::from(Tensor::uniform([2, 3, 5, 7], 0.5f32, 1.0, &mut Rng::new(1)));
        let window = Window2d::pool([2, 3]);
        let pool = MaxPool2d::new(window).unwrap();
        let (y, indices) = pool.forward_with_indices(&x).unwrap();
        let unpool = MaxUnpool2d::new(window).unwrap();
        let back = unpool.forward_to(&y, &indices, [5, 7]).unwrap();
        let (kept, x) = (back.value().as_slice::<f32>().unwrap(), x.value().as_slice::<f32>().unwrap());
        assert!(kept.iter().zip(x).all(|(kept, x)| kept == x || *kept == 0.0));
        assert_eq!(kept.iter().filter(|&&kept| kept != 0.0).count(), y.len());
        assert_eq!(pool.forward_with_indices(&back).unwrap().0.value(), y.value());
    }

    #[test]
    fn gradients_come_back_from_the_places() {
        let indices = Tensor::from([[[3i64, 0]]]);
        let unpool = MaxUnpool1d::new(Window1d::pool(2)).unwrap();
        let run = |x: &[Var]| Ok(unpool.forward(&x[0], &x[0].constant(&indices))?);
        gradcheck(run, &[Tensor::from([[[1.0f64, 2.0]]])]).unwrap();
        let indices = Pass::train(1).input(indices);
        assert!(unpool.forward(&Tensor::from([[[1.0f32, 2.0]]]).into(), &indices).unwrap().is_training());
    }

    #[test]
    fn misfits_are_explained() {
        let (x, indices) = (Tensor::zeros([1, 1, 2], DType::F32).into(), Tensor::from([[[0i64, 4]]]).into());
        let unpool = MaxUnpool1d::new(Window1d::pool(2)).unwrap();
        let expected = "max_unpool1d: index 4 is outside a plane of 4; \
                        help: pass the second result of the max-pool that made the plane smaller";
        assert_eq!(unpool.forward(&x, &indices).unwrap_err().to_string(), expected);
        assert_eq!(unpool.forward_to(&x, &indices, 5).unwrap().len(), 5);
        let expected = "max_unpool1d: output sizes [6] are a stride or more away from [4]; \
                        help: pass the sizes of the max-pool's input";
        assert_eq!(unpool.forward_to(&x, &indices, 6).unwrap_err().to_string(), expected);
        let unpool = MaxUnpool2d::new(Window2d::pool(2)).unwrap();
        let expected = "max_unpool2d: input [1, 1, 2] has 3 axes; help: it must be [n, channels] and 2 spatial axes";
        assert_eq!(unpool.forward(&x, &indices).unwrap_err().to_string(), expected);
        let text = MaxUnpool2d::new(Window2d::pool(0)).unwrap_err().to_string();
        assert_eq!(text, "max_unpool2d: kernel is 0; help: use 1 to 1048576");
    }
}
