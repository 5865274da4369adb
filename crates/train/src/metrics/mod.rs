//! Metrics: what is measured beside the loss, one batch at a time.

mod accuracy;
mod classes;
mod confusion;
mod precision;

pub use accuracy::{Accuracy, TopK};
pub use confusion::ConfusionMatrix;
pub use precision::{Average, F1, Precision, Recall};

use crate::Result;
use maplet_tensor::Tensor;

/// A number measured over many batches: reset, updated with each batch, then read.
///
/// Metrics see the model's raw output and the targets of the batch, and count; they are exact however the data is cut
/// into batches. During `fit` they count the outputs of the training steps themselves, so they cost no second forward
/// pass, and early batches of an epoch are judged with earlier weights, as in Keras.
///
/// # Example
/// ```
/// use maplet_tensor::Tensor;
/// use maplet_train::{Metric, Result};
///
/// /// Mean absolute error, in the unit of the targets.
/// #[derive(Default)]
/// struct MeanAbsoluteError { sum: f64, count: usize }
///
/// impl Metric for MeanAbsoluteError {
///     fn name(&self) -> &str {
///         "mae"
///     }
///     fn reset(&mut self) {
///         *self = Self::default();
///     }
///     fn update(&mut self, outputs: &Tensor, targets: &Tensor) -> Result<()> {
///         let (outputs, targets) = (outputs.as_slice::<f32>()?, targets.as_slice::<f32>()?);
///         self.sum += outputs.iter().zip(targets).map(|(y, t)| f64::from((y - t).abs())).sum::<f64>();
///         self.count += outputs.len();
///         Ok(())
///     }
///     fn result(&self) -> f64 {
///         self.sum / self.count.max(1) as f64
///     }
/// }
///
/// let mut metric = MeanAbsoluteError::default();
/// metric.update(&Tensor::from([1.0f32, 2.0]), &Tensor::from([1.0f32, 4.0]))?;
/// assert_eq!(metric.result(), 1.0);
/// # Ok::<(), maplet_train::Error>(())
/// ```
pub trait Metric: Send {
    /// The name in logs and histories; those of validation data get `val_` in front.
    fn name(&self) -> &str;

    /// Forgets every batch.
    fn reset(&mut self);

    /// Counts one batch.
    ///
    /// # Errors
    /// Shapes, types or labels that do not fit.
    fn update(&mut self, outputs: &Tensor, targets: &Tensor) -> Result<()>;

    /// The measure of all batches since the last reset; 0 if there were none.
    fn result(&self) -> f64;

    /// What was counted so far, so that a checkpoint in the middle of an epoch can hold it. A metric without counts
    /// measures only the rest of an epoch that is resumed in the middle.
    fn counts(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Goes on from [`counts`](Self::counts).
    fn set_counts(&mut self, counts: &[u64]) {
        let _ = counts;
    }
}

/// The metrics of a [`Trainer`](crate::Trainer): none `()`, one, a tuple of several kinds, or a vector of boxes.
#[derive(Default)]
pub struct Metrics(pub(crate) Vec<Box<dyn Metric>>);

impl From<()> for Metrics {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl<A: Metric + 'static> From<A> for Metrics {
    fn from(metric: A) -> Self {
        Self(vec![Box::new(metric)])
    }
}

impl<A: Metric + 'static, const N: usize> From<[A; N]> for Metrics {
    fn from(metrics: [A; N]) -> Self {
        Self(metrics.into_iter().map(|metric| Box::new(metric) as Box<dyn Metric>).collect())
    }
}

impl From<Vec<Box<dyn Metric>>> for Metrics {
    fn from(metrics: Vec<Box<dyn Metric>>) -> Self {
        Self(metrics)
    }
}

/// One `From` for each length of tuple.
macro_rules! tuples {
    ($($kind:ident)+) => {
        impl<$($kind: Metric + 'static),+> From<($($kind,)+)> for Metrics {
            #[allow(non_snake_case)]
            fn from(($($kind,)+): ($($kind,)+)) -> Self {
                Self(vec![$(Box::new($kind)),+])
            }
        }
    };
}
tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_metrics() {
        let names = |metrics: Metrics| metrics.0.iter().map(|it| it.name().to_string()).collect::<Vec<_>>();
        assert!(names(().into()).is_empty());
        assert_eq!(names(Accuracy::new().into()), ["accuracy"]);
        assert_eq!(names([TopK::new(2), TopK::new(3)].into()), ["top_2_accuracy", "top_3_accuracy"]);
        assert_eq!(names((Accuracy::new(), F1::new(Average::Macro)).into()), ["accuracy", "f1"]);
        assert_eq!(names(vec![Box::new(ConfusionMatrix::new()) as Box<dyn Metric>].into()), ["confusion_matrix"]);
    }
}
