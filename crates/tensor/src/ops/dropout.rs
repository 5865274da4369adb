//! The random mask of dropout.

use crate::dtype::dispatch_float;
use crate::{DType, Error, Float, Result, Rng, Shape, Tensor, par};

impl Tensor {
    /// Each element is 0 with probability `drop`, else `1 / (1 − drop)`, so that its mean is 1; for `drop = 1` all are
    /// 0.
    ///
    /// One number is drawn from `rng`; element `i` is a hash of that number and `i`, so the mask does not depend on the
    /// number of threads.
    ///
    /// # Errors
    /// A probability outside `[0, 1]`, or a type that is not float.
    ///
    /// # Reference
    /// Srivastava et al. (2014), "Dropout: A Simple Way to Prevent Neural Networks from Overfitting". The hash: Steele,
    /// Lea & Flood (2014), "Fast Splittable Pseudorandom Number Generators".
    pub fn dropout_mask(shape: impl Into<Shape>, dtype: DType, drop: f64, rng: &mut Rng) -> Result<Tensor> {
        check_probability(drop)?;
        let (shape, seed) = (shape.into(), rng.next_u64());
        dispatch_float!(dtype, "dropout", T => Ok(Tensor::build(shape, |out: &mut [T]| {
            let dropout = Dropout::new(drop, seed);
            par::elements(out, 1.0, |start, out| mask(out, start as u64, dropout));
        })))
    }
}

pub(super) fn check_probability(drop: f64) -> Result<()> {
    match drop {
        0.0..=1.0 => Ok(()),
        _ => Err(Error::value("dropout", format!("the probability is {drop}"), "use a number from 0 to 1")),
    }
}

/// The mask of a dropout that is never stored.
#[derive(Clone, Copy)]
pub(super) struct Dropout<T> {
    seed: u64,
    /// Hashes whose upper half lies below this are dropped.
    below: u64,
    kept: T,
}

impl<T: Float> Dropout<T> {
    pub(super) fn new(probability: f64, seed: u64) -> Self {
        let below = (probability * (1u64 << 32) as f64) as u64;
        Self { seed, below, kept: T::from_f64(1.0 / (1.0 - probability)) }
    }

    /// What element `i` is multiplied by.
    #[inline(always)]
    pub(super) fn factor(&self, i: u64) -> T {
        if drops(self.seed.wrapping_add(i), self.below) { T::zero() } else { self.kept }
    }
}

/// Whether the element with this number, counted from the seed, is dropped.
#[inline(always)]
fn drops(number: u64, below: u64) -> bool {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 32 < below
}

crate::simd::vectorized! {
    fn mask<T: Float>(out: &mut [T], start: u64, dropout: Dropout<T>) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = dropout.factor(start + i as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_its_share_and_keeps_the_mean() {
        const N: usize = 100_000;
        let mask = Tensor::dropout_mask([N], DType::F32, 0.25, &mut Rng::new(1)).unwrap();
        let x = mask.as_slice::<f32>().unwrap();
        let dropped = x.iter().filter(|&&x| x == 0.0).count() as f64;
        // Five standard deviations of the binomial distribution.
        assert!((dropped - 0.25 * N as f64).abs() < 5.0 * (N as f64 * 0.25 * 0.75).sqrt());
        assert!(x.iter().all(|&x| x == 0.0 || x == 4.0 / 3.0));
        // Neighbours are independent: a pair is dropped with probability 1/16.
        let pairs = x.windows(2).filter(|pair| pair == &[0.0, 0.0]).count() as f64;
        assert!((pairs / N as f64 - 0.0625).abs() < 0.005);
    }

    #[test]
    fn depends_on_the_generator_alone() {
        let mask = |seed| Tensor::dropout_mask([1000], DType::F64, 0.5, &mut Rng::new(seed)).unwrap();
        assert!(mask(1) == mask(1) && mask(1) != mask(2));
        let all = Tensor::dropout_mask([100], DType::F32, 1.0, &mut Rng::new(0)).unwrap();
        assert!(all == Tensor::zeros([100], DType::F32));
        let text = Tensor::dropout_mask([1], DType::F32, 1.5, &mut Rng::new(0)).unwrap_err().to_string();
        assert_eq!(text, "dropout: the probability is 1.5; help: use a number from 0 to 1");
    }
}
