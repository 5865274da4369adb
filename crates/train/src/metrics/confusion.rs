//! Which class is taken for which.

use super::classes::{best, each_sample, ratio};
use crate::{Error, Metric, Result};
use maplet_tensor::Tensor;
use std::fmt;

/// How often each class was taken for each: rows are the truth, columns the prediction.
///
/// The number of classes is that of the first batch. As a metric its one number is the accuracy; what it is for is the
/// table that `Display` draws, with the recall of each class at the end of its row.
///
/// # Example
/// ```
/// use maplet_tensor::Tensor;
/// use maplet_train::{ConfusionMatrix, Metric};
///
/// let mut matrix = ConfusionMatrix::new().class_names(["cat", "dog"]);
/// matrix.update(&Tensor::from([[2.0f32, 1.0], [3.0, 4.0], [1.0, 0.0]]), &Tensor::from([0i64, 1, 1]))?;
/// assert_eq!(matrix.count(1, 0), 1); // one dog was taken for a cat
/// println!("{matrix}");
/// # Ok::<(), maplet_train::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ConfusionMatrix {
    classes: usize,
    /// Row-major, `[truth, predicted]`.
    counts: Vec<u64>,
    names: Vec<String>,
}

impl ConfusionMatrix {
    /// Nothing counted yet; classes are shown by number.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows classes by these names; those beyond the last name stay numbers.
    #[must_use]
    pub fn class_names<S: ToString>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.names = names.into_iter().map(|name| name.to_string()).collect();
        self
    }

    /// The number of classes; 0 before the first batch.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How many samples of the class `truth` were taken for `predicted`; 0 for classes that are not there.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        if truth.max(predicted) < self.classes { self.counts[truth * self.classes + predicted] } else { 0 }
    }

    /// How many samples are of the class.
    pub fn actual(&self, class: usize) -> u64 {
        (0..self.classes).map(|predicted| self.count(class, predicted)).sum()
    }

    /// How many samples were taken for the class.
    pub fn predicted(&self, class: usize) -> u64 {
        (0..self.classes).map(|truth| self.count(truth, class)).sum()
    }

    /// The counting behind every metric that is made from this table.
    pub(super) fn add(&mut self, op: &'static str, logits: &Tensor, labels: &Tensor) -> Result<()> {
        let mut other = None;
        each_sample(op, logits, labels, |scores, class| {
            if self.classes == 0 {
                self.classes = scores.len();
                self.counts = vec![0; scores.len() * scores.len()];
            }
            match scores.len() == self.classes {
                true => self.counts[class * self.classes + best(scores)] += 1,
                false => other = Some(scores.len()),
            }
        })?;
        other.map_or(Ok(()), |other| {
            let what = format!("a batch has {other} classes, earlier ones had {}", self.classes);
            Err(Error::new(op, what, "reset the metric before it sees another model"))
        })
    }

    fn name_of(&self, class: usize) -> String {
        self.names.get(class).cloned().unwrap_or_else(|| class.to_string())
    }
}

impl Metric for ConfusionMatrix {
    fn name(&self) -> &str {
        "confusion_matrix"
    }

    fn reset(&mut self) {
        self.classes = 0;
        self.counts.clear();
    }

    fn update(&mut self, logits: &Tensor, labels: &Tensor) -> Result<()> {
        self.add("confusion_matrix", logits, labels)
    }

    /// The accuracy: the diagonal's share.
    fn result(&self) -> f64 {
        let hits = (0..self.classes).map(|class| self.count(class, class)).sum();
        ratio(hits, self.counts.iter().sum())
    }

    fn counts(&self) -> Vec<u64> {
        self.counts.clone()
    }

    fn set_counts(&mut self, counts: &[u64]) {
        let classes = counts.len().isqrt();
        if classes * classes == counts.len() {
            (self.classes, self.counts) = (classes, counts.to_vec());
        }
    }
}

/// A table with a row for each true class and a column for each predicted one.
impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CORNER: &str = "truth \\ predicted";
        let names: Vec<String> = (0..self.classes).map(|class| self.name_of(class)).collect();
        let longest = |texts: &mut dyn Iterator<Item = String>| texts.map(|text| text.chars().count()).max();
        let first = longest(&mut names.iter().cloned()).unwrap_or(0).max(CORNER.len());
        let counts = &mut self.counts.iter().map(u64::to_string);
        let width = longest(&mut names.iter().cloned().chain(counts)).unwrap_or(0);

        write!(f, "{CORNER:>first$}")?;
        names.iter().try_for_each(|name| write!(f, "  {name:>width$}"))?;
        write!(f, "  recall")?;
        for (truth, name) in names.iter().enumerate() {
            write!(f, "\n{name:>first$}")?;
            (0..self.classes).try_for_each(|predicted| write!(f, "  {:>width$}", self.count(truth, predicted)))?;
            write!(f, "  {:>5.1}%", 100.0 * ratio(self.count(truth, truth), self.actual(truth)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `y_true` and `y_pred` of `confusion_matrix` in scikit-learn's documentation (1.5).
    fn documented() -> ConfusionMatrix {
        let (truth, predicted) = ([2i64, 0, 2, 2, 0, 1], [0i64, 0, 2, 2, 0, 2]);
        let logits = Tensor::from(predicted).one_hot(3).unwrap();
        let mut matrix = ConfusionMatrix::new();
        matrix.update(&logits, &Tensor::from(truth)).unwrap();
        matrix
    }

    #[test]
    fn counts_are_those_of_scikit_learn() {
        let matrix = documented();
        assert_eq!(matrix.counts(), [2, 0, 0, 0, 0, 1, 1, 0, 2]);
        assert_eq!((matrix.actual(2), matrix.predicted(2), matrix.count(9, 0)), (3, 3, 0));
        assert_eq!(matrix.result(), 4.0 / 6.0);
        let mut again = ConfusionMatrix::new();
        again.set_counts(&matrix.counts());
        assert_eq!(again.to_string(), matrix.to_string());
    }

    #[test]
    fn the_table_reads_as_one() {
        let table = "\
truth \\ predicted   ant  bird     2  recall
              ant     2     0     0  100.0%
             bird     0     0     1    0.0%
                2     1     0     2   66.7%";
        assert_eq!(documented().class_names(["ant", "bird"]).to_string(), table);
        assert_eq!(ConfusionMatrix::new().to_string(), "truth \\ predicted  recall");
    }

    #[test]
    fn another_number_of_classes_is_an_error() {
        let mut matrix = documented();
        let error = matrix.update(&Tensor::from([[0.0f32, 1.0]]), &Tensor::from([1i64])).unwrap_err();
        let text = "confusion_matrix: a batch has 2 classes, earlier ones had 3; \
                    help: reset the metric before it sees another model";
        assert_eq!(error.to_string(), text);
        matrix.reset();
        assert!(matrix.update(&Tensor::from([[0.0f32, 1.0]]), &Tensor::from([1i64])).is_ok());
    }
}
