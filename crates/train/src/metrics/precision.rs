//! Precision, recall and their mean, for each class or over all.

use super::classes::ratio;
use super::confusion::ConfusionMatrix;
use crate::{Metric, Result};
use maplet_tensor::Tensor;

/// How the values of the classes become one number, in scikit-learn's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Average {
    /// The plain mean over all classes, however rare.
    Macro,
    /// One count over all samples; for single-label problems this equals the accuracy.
    Micro,
    /// The value of one class alone.
    Class(usize),
}

/// The counts of one class, or of all together: `hits` of `predicted` and of `actual` samples.
struct Tally {
    hits: u64,
    predicted: u64,
    actual: u64,
}

fn tally(matrix: &ConfusionMatrix, class: usize) -> Tally {
    Tally { hits: matrix.count(class, class), predicted: matrix.predicted(class), actual: matrix.actual(class) }
}

fn averaged(matrix: &ConfusionMatrix, average: Average, value: impl Fn(Tally) -> f64) -> f64 {
    let classes = 0..matrix.classes();
    match average {
        Average::Class(class) => value(tally(matrix, class)),
        Average::Macro => {
            let count = classes.len().max(1) as f64;
            classes.map(|class| value(tally(matrix, class))).sum::<f64>() / count
        }
        Average::Micro => {
            let sum = |sum: Tally, class| {
                let one = tally(matrix, class);
                let (hits, predicted) = (sum.hits + one.hits, sum.predicted + one.predicted);
                Tally { hits, predicted, actual: sum.actual + one.actual }
            };
            value(classes.fold(Tally { hits: 0, predicted: 0, actual: 0 }, sum))
        }
    }
}

/// The three metrics differ in their name, their documentation and one formula: the reason for a macro.
macro_rules! class_metric {
    ($(#[$doc:meta])* $Name:ident, $name:literal, $value:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $Name {
            average: Average,
            matrix: ConfusionMatrix,
        }

        impl $Name {
            /// Nothing counted yet.
            pub fn new(average: Average) -> Self {
                Self { average, matrix: ConfusionMatrix::new() }
            }

            /// The value of each class.
            pub fn per_class(&self) -> Vec<f64> {
                (0..self.matrix.classes()).map(|class| $value(tally(&self.matrix, class))).collect()
            }
        }

        impl Metric for $Name {
            fn name(&self) -> &str {
                $name
            }

            fn reset(&mut self) {
                self.matrix.reset();
            }

            fn update(&mut self, logits: &Tensor, labels: &Tensor) -> Result<()> {
                self.matrix.add($name, logits, labels)
            }

            fn result(&self) -> f64 {
                averaged(&self.matrix, self.average, $value)
            }

            fn counts(&self) -> Vec<u64> {
                self.matrix.counts()
            }

            fn set_counts(&mut self, counts: &[u64]) {
                self.matrix.set_counts(counts);
            }
        }
    };
}

class_metric!(
    /// Of the samples taken for a class, the share that is of it: `precision` in logs.
    ///
    /// `precision = hits / predicted`, and 0 for a class that was never predicted (scikit-learn's `zero_division=0`).
    /// The macro average runs over all classes of the output, as with scikit-learn's `labels=range(k)`.
    ///
    /// # Shapes
    /// - outputs `[.., k]` with whole labels `[..]`; or, for two classes, one logit for each 0 or 1
    Precision, "precision", |tally: Tally| ratio(tally.hits, tally.predicted)
);

class_metric!(
    /// Of the samples of a class, the share that is found: `recall` in logs.
    ///
    /// `recall = hits / actual`, and 0 for a class without samples (scikit-learn's `zero_division=0`). The macro
    /// average runs over all classes of the output, as with scikit-learn's `labels=range(k)`.
    ///
    /// # Shapes
    /// - outputs `[.., k]` with whole labels `[..]`; or, for two classes, one logit for each 0 or 1
    Recall, "recall", |tally: Tally| ratio(tally.hits, tally.actual)
);

class_metric!(
    /// The harmonic mean of precision and recall: `f1` in logs.
    ///
    /// `f1 = 2 · hits / (predicted + actual)`, and 0 for a class that was neither there nor predicted (scikit-learn's
    /// `zero_division=0`). The macro average is the mean of the classes' F1, over all classes of the output, as with
    /// scikit-learn's `labels=range(k)`.
    ///
    /// # Shapes
    /// - outputs `[.., k]` with whole labels `[..]`; or, for two classes, one logit for each 0 or 1
    ///
    /// # Example
    /// ```
    /// use maplet_tensor::Tensor;
    /// use maplet_train::{Average, F1, Metric};
    ///
    /// let mut f1 = F1::new(Average::Class(1));
    /// f1.update(&Tensor::from([[0.0f32, 1.0], [0.0, 1.0]]), &Tensor::from([1i64, 0]))?;
    /// assert_eq!(f1.result(), 2.0 / 3.0); // precision 1/2, recall 1
    /// # Ok::<(), maplet_train::Error>(())
    /// ```
    F1, "f1", |tally: Tally| ratio(2 * tally.hits, tally.predicted + tally.actual)
);

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of `precision_score`, `recall_score` and `f1_score` in scikit-learn's documentation (1.5).
    fn documented(metric: &mut dyn Metric) -> f64 {
        let (truth, predicted) = ([0i64, 1, 2, 0, 1, 2], [0i64, 2, 1, 0, 0, 1]);
        let logits = Tensor::from(predicted).one_hot(3).unwrap();
        metric.reset();
        metric.update(&logits, &Tensor::from(truth)).unwrap();
        metric.result()
    }

    #[test]
    fn averages_are_those_of_scikit_learn() {
        let close = |value: f64, documented: f64| assert!((value - documented).abs() < 1e-15, "{value}");
        close(documented(&mut Precision::new(Average::Macro)), 2.0 / 9.0); // 0.22…
        close(documented(&mut Precision::new(Average::Micro)), 1.0 / 3.0); // 0.33…
        close(documented(&mut Recall::new(Average::Macro)), 1.0 / 3.0); // 0.33…
        close(documented(&mut Recall::new(Average::Micro)), 1.0 / 3.0); // 0.33…
        close(documented(&mut F1::new(Average::Macro)), 0.8 / 3.0); // 0.26…
        close(documented(&mut F1::new(Average::Micro)), 1.0 / 3.0); // 0.33…
        close(documented(&mut F1::new(Average::Class(0))), 0.8);
        close(documented(&mut F1::new(Average::Class(7))), 0.0); // no such class
    }

    #[test]
    fn classes_are_those_of_scikit_learn() {
        let (mut precision, mut recall, mut f1) =
            (Precision::new(Average::Macro), Recall::new(Average::Macro), F1::new(Average::Macro));
        for metric in [&mut precision as &mut dyn Metric, &mut recall, &mut f1] {
            documented(metric);
        }
        assert_eq!(precision.per_class(), [2.0 / 3.0, 0.0, 0.0]); // 0.66…, 0, 0
        assert_eq!(recall.per_class(), [1.0, 0.0, 0.0]);
        assert_eq!(f1.per_class(), [0.8, 0.0, 0.0]);
    }

    #[test]
    fn a_class_without_samples_counts_as_zero() {
        // Two of four classes never occur and are never predicted: a quarter each for the two perfect ones.
        let mut recall = Recall::new(Average::Macro);
        recall.update(&Tensor::from([0i64, 1]).one_hot(4).unwrap(), &Tensor::from([0i64, 1])).unwrap();
        assert_eq!((recall.result(), Recall::new(Average::Macro).result()), (0.5, 0.0));
        let mut again = Recall::new(Average::Macro);
        again.set_counts(&recall.counts());
        assert_eq!(again.per_class(), [1.0, 1.0, 0.0, 0.0]);
    }
}
