//! Seeded random numbers: the only source of chance in the framework.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// A seeded generator (ChaCha with 8 rounds): the same numbers on every machine, for every thread count.
///
/// ```
/// use maplet_tensor::Rng;
///
/// let (mut a, mut b) = (Rng::new(42), Rng::new(42));
/// assert_eq!(a.next_u64(), b.next_u64());
/// assert!((0.0..1.0).contains(&a.uniform()));
/// ```
///
/// # Reference
/// Bernstein (2008), "ChaCha, a variant of Salsa20".
#[derive(Debug, Clone)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// A generator of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// An independent generator for the same seed and another `stream`; what `self` drew already does not matter.
    ///
    /// So sample `i` of an augmentation draws the same numbers whichever thread makes it.
    pub fn fork(&self, stream: u64) -> Self {
        let mut source = ChaCha8Rng::from_seed(self.0.get_seed());
        source.set_stream(stream.wrapping_add(1)); // stream 0 is `new`'s own
        let mut seed = [0; 32]; // a seed of its own, so that forks of forks differ too
        source.fill_bytes(&mut seed);
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `[0, 1)`, a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Normal with mean 0 and variance 1.
    ///
    /// # Reference
    /// Box & Muller (1958), "A Note on the Generation of Random Normal Deviates".
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt(); // 1 − u is never 0
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform in `0..n`, without bias; 0 for `n = 0`.
    ///
    /// # Reference
    /// Lemire (2019), "Fast Random Integer Generation in an Interval".
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if n == 0 || product as u64 >= n.wrapping_neg() % n {
                return (product >> 64) as usize;
            }
        }
    }

    /// Puts the elements in random order (Fisher & Yates).
    pub fn shuffle<T>(&mut self, elements: &mut [T]) {
        for last in (1..elements.len()).rev() {
            elements.swap(last, self.below(last + 1));
        }
    }

    /// The numbers `0..n` in random order.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distributions() {
        const N: usize = 200_000;
        let mut rng = Rng::new(1);
        let draws = |draw: &mut dyn FnMut() -> f64| {
            let x: Vec<f64> = (0..N).map(|_| draw()).collect();
            let mean = x.iter().sum::<f64>() / N as f64;
            (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / N as f64)
        };
        // Five standard errors of the mean: σ/√N.
        let (mean, var) = draws(&mut || rng.uniform());
        assert!((mean - 0.5).abs() < 5.0 * (1.0f64 / 12.0 / N as f64).sqrt() && (var - 1.0 / 12.0).abs() < 1e-3);
        let (mean, var) = draws(&mut || rng.normal());
        assert!(mean.abs() < 5.0 / (N as f64).sqrt() && (var - 1.0).abs() < 0.02);
    }

    #[test]
    fn forks_differ_from_each_other_and_do_not_depend_on_use() {
        let mut rng = Rng::new(3);
        let (mut before, mut other) = (rng.fork(0), rng.fork(1));
        let first = rng.next_u64();
        assert_eq!(before.next_u64(), rng.fork(0).next_u64());
        assert!(first != other.next_u64() && other.next_u64() != before.next_u64());
        let nested: Vec<u64> = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(a, b)| rng.fork(a).fork(b).next_u64()).into();
        assert!((0..4).all(|i| (0..i).all(|j| nested[i] != nested[j])), "{nested:?}");
    }

    #[test]
    fn below_is_in_range_and_permutation_is_one() {
        let mut rng = Rng::new(5);
        assert!((0..1000).all(|_| rng.below(7) < 7) && rng.below(1) == 0 && rng.below(0) == 0);
        let mut order = rng.permutation(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
