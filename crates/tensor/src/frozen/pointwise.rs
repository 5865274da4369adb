//! What happens to each element by itself, in place: activations, a factor and a shift for each channel, sums.

use super::tasks;
use crate::math::Math;
use crate::par::Shared;
use crate::simd::vectorized;
use crate::{DType, Element, Error, Result, Tensor};

/// A function of one element, as the op of that name of [`Tensor`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Pointwise {
    /// [`Tensor::relu`]
    Relu,
    /// [`Tensor::leaky_relu`], with its slope.
    LeakyRelu(f32),
    /// [`Tensor::hardtanh`], between two numbers.
    Hardtanh(f32, f32),
    /// [`Tensor::sigmoid`]
    Sigmoid,
    /// [`Tensor::tanh`]
    Tanh,
    /// [`Tensor::gelu`]
    Gelu,
    /// [`Tensor::silu`]
    Silu,
}

/// Replaces each element by one of the functions of [`Math`]; the constant `FUSED` is there for it.
macro_rules! math {
    ($to:expr, |$x:ident| $body:expr) => {{
        #[inline(always)]
        fn f<const FUSED: bool>($x: f32) -> f32 {
            $body
        }
        map($to, &|x, fused| if fused { f::<true>(x) } else { f::<false>(x) })
    }};
}

impl Pointwise {
    /// Whether it keeps the order of any two numbers, so that it may stand on either side of a max-pool.
    pub fn is_monotone(self) -> bool {
        match self {
            Self::Relu | Self::Hardtanh(..) | Self::Sigmoid | Self::Tanh => true,
            Self::LeakyRelu(slope) => slope >= 0.0,
            Self::Gelu | Self::Silu => false,
        }
    }

    /// The op's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::LeakyRelu(_) => "leaky_relu",
            Self::Hardtanh(..) => "hardtanh",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
        }
    }

    /// Replaces each element by its value.
    pub fn apply(self, x: &mut [f32]) {
        match self {
            Self::Relu => map(x, &|x, _| if x < 0.0 { 0.0 } else { x }), // NaN stays NaN
            Self::LeakyRelu(slope) => map(x, &|x, _| if x > 0.0 { x } else { slope * x }),
            Self::Hardtanh(low, high) => map(x, &|x, _| {
                let x = if x < low { low } else { x };
                if x > high { high } else { x }
            }),
            Self::Sigmoid => math!(x, |x| x.sigmoid::<FUSED>()),
            Self::Tanh => math!(x, |x| x.fast_tanh::<FUSED>()),
            Self::Gelu => math!(x, |x| x * x.normal_distribution::<FUSED>().0),
            Self::Silu => math!(x, |x| x * x.sigmoid::<FUSED>()),
        }
    }

    /// As [`apply`](Self::apply), shared out among threads unless `alone`.
    pub fn run(self, x: &mut [f32], alone: bool) {
        const PIECE: usize = 1 << 13;
        let (len, shared) = (x.len(), Shared::new(x));
        tasks(len.div_ceil(PIECE), PIECE as f64 * 0.5, alone, |i| {
            // SAFETY: pieces do not overlap.
            self.apply(unsafe { shared.slice(i * PIECE, PIECE.min(len - i * PIECE)) });
        });
    }
}

vectorized! {
    fn map<T: Element, F: Fn(T, bool) -> T>(x: &mut [T], f: &F) {
        for x in x {
            *x = f(*x, FUSED);
        }
    }
}

/// `then(x · scale + shift)`, with numbers of each channel.
pub struct FrozenScale {
    scale: Tensor,
    shift: Tensor,
    plane: usize,
    then: Option<Pointwise>,
}

impl FrozenScale {
    /// For samples of as many channels as there are numbers, each of `plane` elements.
    ///
    /// # Errors
    /// Not as many shifts as factors, or numbers that are not `f32`.
    pub fn new(scale: &Tensor, shift: &Tensor, plane: usize, then: Option<Pointwise>) -> Result<Self> {
        const OP: &str = "frozen_scale";
        scale.same_dtype(OP, shift)?;
        if scale.dtype() != DType::F32 {
            return Err(Error::dtype(OP, format!("expects f32, got {}", scale.dtype()), "convert with to_dtype"));
        }
        if scale.shape() != shift.shape() {
            let what = format!("factors are {}, shifts {}", scale.shape(), shift.shape());
            return Err(Error::shape(OP, what, "give each channel one of both"));
        }
        Ok(Self { scale: scale.clone(), shift: shift.clone(), plane, then })
    }

    /// Writes the output of all samples in `x` to `y`.
    ///
    /// # Panics
    /// If the slices do not hold the same number of whole samples.
    pub fn run(&self, x: &[f32], y: &mut [f32], alone: bool) {
        let (scale, shift, plane) = (self.scale.slice_of::<f32>(), self.shift.slice_of::<f32>(), self.plane);
        assert!(x.len() == y.len() && x.len().is_multiple_of((scale.len() * plane).max(1)), "whole samples");
        let y = Shared::new(y);
        tasks(x.len() / plane.max(1), plane as f64 * 0.2, alone, |i| {
            // SAFETY: planes do not overlap.
            let y = unsafe { y.slice(i * plane, plane) };
            let (scale, shift) = (scale[i % scale.len()], shift[i % scale.len()]);
            combine(y, &x[i * plane..], &x[i * plane..], &|x, _| x * scale + shift);
            if let Some(then) = self.then {
                then.apply(y);
            }
        });
    }
}

vectorized! {
    fn combine<T: Element, F: Fn(T, T) -> T>(y: &mut [T], a: &[T], b: &[T], f: &F) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = f(a, b);
        }
    }
}

/// `y = then(a + b)`
///
/// # Panics
/// If the slices differ in their lengths.
pub fn add(a: &[f32], b: &[f32], y: &mut [f32], then: Option<Pointwise>, alone: bool) {
    const PIECE: usize = 1 << 13;
    assert!(a.len() == y.len() && b.len() == y.len(), "operands of one length");
    let (len, y) = (y.len(), Shared::new(y));
    tasks(len.div_ceil(PIECE), PIECE as f64 * 0.3, alone, |i| {
        let start = i * PIECE;
        // SAFETY: pieces do not overlap.
        let y = unsafe { y.slice(start, PIECE.min(len - start)) };
        combine(y, &a[start..], &b[start..], &|a, b| a + b);
        if let Some(then) = then {
            then.apply(y);
        }
    });
}

/// Copies `x: [.., width]` to the columns `at..at + width` of `y: [.., stride]`.
///
/// # Panics
/// If the columns are not there, or there are not as many rows.
pub fn place_columns(x: &[f32], width: usize, y: &mut [f32], stride: usize, at: usize) {
    assert!(x.len() / width.max(1) == y.len() / stride.max(1), "as many rows");
    for (x, y) in x.chunks_exact(width.max(1)).zip(y.chunks_exact_mut(stride.max(1))) {
        y[at..at + width].copy_from_slice(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn functions_are_the_ops_of_their_names() {
        type Op = fn(&Tensor) -> Tensor;
        let ops: [(Pointwise, Op); 7] = [
            (Pointwise::Relu, |x| x.relu()),
            (Pointwise::LeakyRelu(0.1), |x| x.leaky_relu(0.1)),
            (Pointwise::Hardtanh(-0.5, 1.5), |x| x.hardtanh(-0.5, 1.5)),
            (Pointwise::Sigmoid, Tensor::sigmoid),
            (Pointwise::Tanh, Tensor::tanh),
            (Pointwise::Gelu, Tensor::gelu),
            (Pointwise::Silu, Tensor::silu),
        ];
        let x = Tensor::normal([20_001], 0.0f32, 3.0, &mut Rng::new(1));
        for (function, op) in ops {
            let (mut y, want) = (x.clone(), op(&x));
            function.run(y.own_slice(), false);
            assert_eq!(y, want, "{function:?}");
            // Monotone on a grid, or not.
            let grid = op(&Tensor::arange(-6.0f32, 6.0, 0.01).unwrap());
            let ordered = grid.slice_of::<f32>().windows(2).all(|pair| pair[0] <= pair[1] + 1e-6);
            assert_eq!(function.is_monotone(), ordered, "{function:?}");
        }
    }

    #[test]
    fn channels_have_their_numbers() {
        let (scale, shift) = (Tensor::from([2.0f32, -1.0]), Tensor::from([0.5f32, 1.0]));
        let layer = FrozenScale::new(&scale, &shift, 2, Some(Pointwise::Relu)).unwrap();
        let mut y = [0.0; 8];
        layer.run(&[1.0, 2.0, 3.0, -4.0, -1.0, 0.0, 0.0, 1.0], &mut y, true);
        assert_eq!(y, [2.5, 4.5, 0.0, 5.0, 0.0, 0.5, 1.0, 0.0]);
        let text = FrozenScale::new(&scale, &Tensor::from([1.0f32]), 2, None).err().unwrap().to_string();
        assert_eq!(text, "frozen_scale: factors are [2], shifts [1]; help: give each channel one of both");
        let double = scale.to_dtype(DType::F64);
        let text = FrozenScale::new(&double, &double, 2, None).err().unwrap().to_string();
        assert_eq!(text, "frozen_scale: expects f32, got f64; help: convert with to_dtype");
    }

    #[test]
    fn sums_and_columns() {
        let mut y = [0.0; 4];
        add(&[1.0, 2.0, 3.0, 4.0], &[-2.0, 2.0, -2.0, 2.0], &mut y, Some(Pointwise::Relu), true);
        assert_eq!(y, [0.0, 4.0, 1.0, 6.0]);
        let mut y = [0.0; 6];
        place_columns(&[1.0, 2.0, 3.0, 4.0], 2, &mut y, 3, 1);
        place_columns(&[5.0, 6.0], 1, &mut y, 3, 0);
        assert_eq!(y, [5.0, 1.0, 2.0, 6.0, 3.0, 4.0]);
    }
}
