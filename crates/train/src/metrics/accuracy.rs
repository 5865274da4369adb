//! How often the best class, or one of the best, is the true one.

use super::classes::{best, each_sample, ratio};
use crate::{Metric, Result};
use maplet_tensor::Tensor;

/// The share of samples whose highest score is the true class: `accuracy` in logs.
///
/// # Shapes
/// - outputs `[.., k]` with whole labels `[..]`; or, for two classes, one logit for each 0 or 1
///
/// # Numerics
/// Of equal scores the first wins, as in NumPy's `argmax`. Exact: samples are counted.
///
/// # Example
/// ```
/// use maplet_tensor::Tensor;
/// use maplet_train::{Accuracy, Metric};
///
/// let mut accuracy = Accuracy::new();
/// accuracy.update(&Tensor::from([[2.0f32, 1.0], [3.0, 4.0]]), &Tensor::from([0i64, 0]))?;
/// assert_eq!(accuracy.result(), 0.5);
/// # Ok::<(), maplet_train::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Accuracy {
    hits: u64,
    samples: u64,
}

impl Accuracy {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Metric for Accuracy {
    fn name(&self) -> &str {
        "accuracy"
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn update(&mut self, logits: &Tensor, labels: &Tensor) -> Result<()> {
        each_sample("accuracy", logits, labels, |scores, class| {
            self.hits += u64::from(best(scores) == class);
            self.samples += 1;
        })
    }

    fn result(&self) -> f64 {
        ratio(self.hits, self.samples)
    }

    fn counts(&self) -> Vec<u64> {
        vec![self.hits, self.samples]
    }

    fn set_counts(&mut self, counts: &[u64]) {
        if let &[hits, samples] = counts {
            *self = Self { hits, samples };
        }
    }
}

/// The share of samples whose true class is among the `k` highest scores: `top_5_accuracy` in logs, for `k = 5`.
///
/// # Shapes
/// - outputs `[.., classes]` with whole labels `[..]`
///
/// # Numerics
/// The true class is in if fewer than `k` scores are higher; classes that tie at the border are all in, as in
/// TensorFlow's `in_top_k`. A true class with the score NaN is out.
#[derive(Debug, Clone)]
pub struct TopK {
    k: usize,
    name: String,
    hits: u64,
    samples: u64,
}

impl TopK {
    /// Nothing counted yet. With `k = 0` nothing ever hits.
    pub fn new(k: usize) -> Self {
        Self { k, name: format!("top_{k}_accuracy"), hits: 0, samples: 0 }
    }
}

impl Metric for TopK {
    fn name(&self) -> &str {
        &self.name
    }

    fn reset(&mut self) {
        (self.hits, self.samples) = (0, 0);
    }

    fn update(&mut self, logits: &Tensor, labels: &Tensor) -> Result<()> {
        let k = self.k;
        each_sample("top_k", logits, labels, |scores, class| {
            let own = scores[class];
            let higher = scores.iter().filter(|&&score| score > own).count();
            self.hits += u64::from(higher < k && !own.is_nan());
            self.samples += 1;
        })
    }

    fn result(&self) -> f64 {
        ratio(self.hits, self.samples)
    }

    fn counts(&self) -> Vec<u64> {
        vec![self.hits, self.samples]
    }

    fn set_counts(&mut self, counts: &[u64]) {
        if let &[hits, samples] = counts {
            (self.hits, self.samples) = (hits, samples);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `top_k_accuracy_score` of scikit-learn's documentation (1.5): k = 2 gives 0.75.
    #[test]
    fn top_k_is_that_of_scikit_learn_and_streams() {
        let scores = [[0.5f32, 0.2, 0.2], [0.3, 0.4, 0.2], [0.2, 0.4, 0.3], [0.7, 0.2, 0.1]];
        let labels = [0i64, 1, 2, 2];
        let mut top = TopK::new(2);
        for i in [0, 2] {
            let half = Tensor::from([scores[i], scores[i + 1]]);
            top.update(&half, &Tensor::from([labels[i], labels[i + 1]])).unwrap();
        }
        assert_eq!((top.result(), top.name()), (0.75, "top_2_accuracy"));
        let mut again = TopK::new(2);
        again.set_counts(&top.counts());
        assert_eq!(again.result(), 0.75);
        top.reset();
        assert_eq!(top.result(), 0.0);
    }

    #[test]
    fn ties_are_in_and_nan_is_out() {
        let mut top = TopK::new(1);
        top.update(&Tensor::from([[1.0f32, 1.0], [1.0, f32::NAN]]), &Tensor::from([1i64, 1])).unwrap();
        assert_eq!(top.counts(), [1, 2]);
        let mut none = TopK::new(0);
        none.update(&Tensor::from([[1.0f32, 0.0]]), &Tensor::from([0i64])).unwrap();
        assert_eq!(none.counts(), [0, 1]);
    }

    #[test]
    fn accuracy_streams_and_resumes() {
        let mut whole = Accuracy::new();
        whole.update(&Tensor::from([[1.0f32, 0.0], [1.0, 0.0]]), &Tensor::from([0i64, 1])).unwrap();
        let mut resumed = Accuracy::new();
        resumed.set_counts(&whole.counts());
        resumed.update(&Tensor::from([[0.0f32, 1.0]]), &Tensor::from([1i64])).unwrap();
        assert_eq!((resumed.result(), whole.result()), (2.0 / 3.0, 0.5));
        whole.reset();
        assert_eq!(whole.result(), 0.0);
    }
}
