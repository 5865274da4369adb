//! What a training leaves behind: one entry for each epoch.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What `fit` measured, epoch by epoch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// One entry for each whole epoch.
    pub epochs: Vec<EpochLog>,
    /// Why the training ended before its last epoch, if it did.
    pub stopped: Option<String>,
}

/// One epoch's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochLog {
    /// Counted from 1.
    pub epoch: usize,
    /// Steps of the optimizer in this epoch.
    pub steps: usize,
    /// Mean of the training loss over the epoch's samples, while the weights changed.
    pub loss: f64,
    /// The metrics of the same forward passes, by name.
    pub metrics: Vec<(String, f64)>,
    /// Loss and metrics of the validation data, with the weights of the end of the epoch.
    pub validation: Option<Evaluation>,
    /// Wall-clock time, in seconds, with validation.
    pub seconds: f64,
    /// Mean wall-clock time of a step, in seconds, without validation.
    pub step_seconds: f64,
    /// The learning rate that the schedule has come to at the end of the epoch.
    pub learning_rate: f64,
}

/// Loss and metrics over a whole data set, with fixed weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean over the samples of the batches' losses.
    pub loss: f64,
    /// The metrics, by name.
    pub metrics: Vec<(String, f64)>,
}

impl History {
    /// The last whole epoch.
    pub fn last(&self) -> Option<&EpochLog> {
        self.epochs.last()
    }

    /// One number over the epochs, by the names of [`EpochLog::get`]; epochs without it are left out.
    pub fn get(&self, name: &str) -> Vec<f64> {
        self.epochs.iter().filter_map(|log| log.get(name)).collect()
    }
}

impl EpochLog {
    /// A number by Keras's names: `loss`, `accuracy`, `val_loss`, `val_accuracy`, `learning_rate`, `seconds`.
    pub fn get(&self, name: &str) -> Option<f64> {
        match name {
            "loss" => Some(self.loss),
            "learning_rate" => Some(self.learning_rate),
            "seconds" => Some(self.seconds),
            _ => find(&self.metrics, name).or_else(|| self.validation.as_ref()?.get(name.strip_prefix("val_")?)),
        }
    }

    /// Loss and metrics, then those of the validation data, under their names in logs.
    pub fn numbers(&self) -> Vec<(String, f64)> {
        let mut numbers = vec![("loss".to_string(), self.loss)];
        numbers.extend(self.metrics.iter().cloned());
        if let Some(validation) = &self.validation {
            numbers.push(("val_loss".into(), validation.loss));
            numbers.extend(validation.metrics.iter().map(|(name, value)| (format!("val_{name}"), *value)));
        }
        numbers
    }
}

impl Evaluation {
    /// `loss`, or a metric by its name.
    pub fn get(&self, name: &str) -> Option<f64> {
        if name == "loss" { Some(self.loss) } else { find(&self.metrics, name) }
    }
}

fn find(metrics: &[(String, f64)], name: &str) -> Option<f64> {
    metrics.iter().find(|(it, _)| it == name).map(|(_, value)| *value)
}

/// `loss: 0.0312 - accuracy: 0.9891`
impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss: {}", Short(self.loss))?;
        self.metrics.iter().try_for_each(|(name, value)| write!(f, " - {name}: {}", Short(*value)))
    }
}

/// A number of a log: four decimals, or an exponent where they would show nothing.
pub(crate) struct Short(pub(crate) f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            x if x == 0.0 || (1e-3..1e5).contains(&x) => write!(f, "{:.4}", self.0),
            _ => write!(f, "{:.4e}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_by_keras_names() {
        let log = EpochLog {
            epoch: 1,
            steps: 7,
            loss: 0.5,
            metrics: vec![("accuracy".into(), 0.8)],
            validation: Some(Evaluation { loss: 0.25, metrics: vec![("accuracy".into(), 0.9)] }),
            seconds: 2.0,
            step_seconds: 0.25,
            learning_rate: 1e-3,
        };
        let names = ["loss", "accuracy", "val_loss", "val_accuracy", "seconds", "learning_rate"];
        assert_eq!(names.map(|name| log.get(name).unwrap()), [0.5, 0.8, 0.25, 0.9, 2.0, 1e-3]);
        assert_eq!((log.get("val_f1"), log.get("f1")), (None, None));
        let names: Vec<String> = log.numbers().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["loss", "accuracy", "val_loss", "val_accuracy"]);
        let history = History { epochs: vec![log.clone(), EpochLog { validation: None, ..log }], stopped: None };
        assert_eq!((history.get("loss"), history.get("val_loss")), (vec![0.5, 0.5], vec![0.25]));
    }

    #[test]
    fn numbers_are_short_but_never_lost() {
        let text = |x: f64| Short(x).to_string();
        assert_eq!([0.98765, 0.0, 0.001, 0.00012345].map(text), ["0.9877", "0.0000", "0.0010", "1.2345e-4"]);
        assert_eq!([f64::NAN, f64::INFINITY, -123456.0, -2.5].map(text), ["NaN", "inf", "-1.2346e5", "-2.5000"]);
        let evaluation = Evaluation { loss: 0.03124, metrics: vec![("accuracy".into(), 0.98906)] };
        assert_eq!(evaluation.to_string(), "loss: 0.0312 - accuracy: 0.9891");
    }
}
