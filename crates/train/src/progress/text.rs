//! The words of the progress display, apart from where they go.

use crate::Context;
use crate::history::Short;
use std::fmt;

/// What is shown of an epoch, running or finished.
pub(super) struct Epoch {
    epoch: usize,
    epochs: usize,
    step: usize,
    steps: usize,
    /// Of the epoch so far.
    seconds: f64,
    /// Of one step.
    step_seconds: f64,
    numbers: Vec<(String, f64)>,
}

impl Epoch {
    pub(super) fn running(context: &Context<'_>) -> Self {
        let mut numbers = vec![("loss".to_string(), context.loss)];
        numbers.extend(context.metrics());
        let (seconds, step) = (context.seconds(), context.step);
        let step_seconds = seconds / step.max(1) as f64;
        Self {
            epoch: context.epoch,
            epochs: context.epochs,
            step,
            steps: context.steps,
            seconds,
            step_seconds,
            numbers,
        }
    }

    pub(super) fn finished(context: &Context<'_>) -> Option<Self> {
        let log = context.log()?;
        Some(Self {
            epoch: log.epoch,
            epochs: context.epochs,
            step: log.steps,
            steps: log.steps,
            seconds: log.seconds,
            step_seconds: log.step_seconds,
            numbers: log.numbers(),
        })
    }

    /// ` 312/1875 [====>.........................] 0.4s 1.3ms/step - loss: 0.4021 - ETA 2.0s`
    pub(super) fn bar(&self) -> String {
        const WIDTH: usize = 30;
        let Self { step, steps, .. } = *self;
        let done = (WIDTH * step).checked_div(steps).unwrap_or(WIDTH);
        let head = if done < WIDTH { ">" } else { "" };
        let rest = ".".repeat(WIDTH - done - head.len());
        let digits = steps.to_string().len();
        let left = (steps - step) as f64 * self.step_seconds;
        let eta = if step < steps { format!(" - ETA {}", Seconds(left)) } else { String::new() };
        format!("{step:>digits$}/{steps} [{}{head}{rest}] {}{eta}", "=".repeat(done), self.numbers())
    }

    /// `Epoch 1/5 - 2.4s 1.3ms/step - loss: 0.1523 - accuracy: 0.9541`
    pub(super) fn line(&self) -> String {
        format!("Epoch {}/{} - {}", self.epoch, self.epochs, self.numbers())
    }

    fn numbers(&self) -> String {
        let mut text = format!("{} {}/step", Seconds(self.seconds), Seconds(self.step_seconds));
        for (name, value) in &self.numbers {
            text += &format!(" - {name}: {}", Short(*value));
        }
        text
    }
}

/// A time in the unit that people would use, with two or three digits.
struct Seconds(f64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.round() as u64;
        match self.0 {
            s if s < 0.9995e-3 => write!(f, "{:.0}us", 1e6 * s),
            s if s < 9.95e-3 => write!(f, "{:.1}ms", 1e3 * s),
            s if s < 0.0995 => write!(f, "{:.0}ms", 1e3 * s),
            s if s < 9.95 => write!(f, "{s:.1}s"),
            s if s < 59.5 => write!(f, "{s:.0}s"),
            s if s < 3599.5 => write!(f, "{}m{:02}s", whole / 60, whole % 60),
            _ => write!(f, "{}h{:02}m", whole / 3600, whole / 60 % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(step: usize) -> Epoch {
        let numbers = vec![("loss".to_string(), 0.40213), ("accuracy".to_string(), 0.87333)];
        Epoch { epoch: 1, epochs: 5, step, steps: 1875, seconds: 0.4056, step_seconds: 1.3e-3, numbers }
    }

    #[test]
    fn the_bar_reads_as_keras_draws_it() {
        // 30 · 312/1875 = 4.99…: four, then the head.
        let text =
            " 312/1875 [====>.........................] 0.4s 1.3ms/step - loss: 0.4021 - accuracy: 0.8733 - ETA 2.0s";
        assert_eq!(epoch(312).bar(), text);
        let text =
            "   1/1875 [>.............................] 0.4s 1.3ms/step - loss: 0.4021 - accuracy: 0.8733 - ETA 2.4s";
        assert_eq!(epoch(1).bar(), text);
        let text = "1875/1875 [==============================] 0.4s 1.3ms/step - loss: 0.4021 - accuracy: 0.8733";
        assert_eq!(epoch(1875).bar(), text);
        let text = "Epoch 1/5 - 0.4s 1.3ms/step - loss: 0.4021 - accuracy: 0.8733";
        assert_eq!(epoch(1875).line(), text);
    }

    #[test]
    fn times_are_in_units_of_people() {
        let texts = [0.0, 12.3e-6, 0.99951e-3, 9.94e-3, 0.0123, 0.15, 9.94, 59.4, 59.6, 3599.4, 3600.0, 86_399.0]
            .map(|seconds| Seconds(seconds).to_string());
        let expected =
            ["0us", "12us", "1.0ms", "9.9ms", "12ms", "0.1s", "9.9s", "59s", "1m00s", "59m59s", "1h00m", "23h59m"];
        assert_eq!(texts, expected);
    }
}
