//! Averages and steps of weights: a sum of two tensors, in place.

use super::OnePass;
use crate::{Float, Result, Tensor};

/// `scale · p + other_scale · g`
#[derive(Clone, Copy)]
struct Blend {
    scales: [f64; 2],
}

impl OnePass<0, 2> for Blend {
    const NAME: &'static str = "blend";

    fn numbers(&self, _: super::Now) -> [f64; 2] {
        self.scales
    }

    #[inline(always)]
    fn each<T: Float>(self, [scale, other_scale]: [T; 2], p: T, g: T, []: [T; 0]) -> (T, [T; 0]) {
        (scale * p + other_scale * g, [])
    }
}

impl Tensor {
    /// Makes this tensor `scale · self + other_scale · other`, in place.
    ///
    /// ```
    /// use maplet_tensor::Tensor;
    ///
    /// let mut mean = Tensor::from([1.0f32, 2.0]);
    /// mean.blend(0.75, &Tensor::from([5.0f32, 2.0]), 0.25)?;
    /// assert_eq!(mean, Tensor::from([2.0f32, 2.0]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes or types that differ, or are not float.
    pub fn blend(&mut self, scale: f64, other: &Tensor, other_scale: f64) -> Result<()> {
        let scales = [scale, other_scale];
        self.pass(other, [], Blend { scales }, scales)
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Tensor};

    #[test]
    fn blend_is_a_weighted_sum_in_place() {
        for dtype in [DType::F32, DType::F64] {
            let mut p = Tensor::from([1.0f32, -2.0, 0.5]).to_dtype(dtype);
            p.blend(0.5, &Tensor::from([4.0f32, 1.0, 0.0]).to_dtype(dtype), -0.25).unwrap();
            assert_eq!(p.to_dtype(DType::F32), Tensor::from([-0.5f32, -1.25, 0.25]));
        }
        let error = Tensor::from([1.0f32]).blend(1.0, &Tensor::from([1.0f32, 2.0]), 1.0).unwrap_err();
        assert!(error.to_string().starts_with("blend: "), "{error}");
    }
}
