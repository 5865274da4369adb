//! Progress: how a training shows that it lives.

mod bar;
mod text;

use crate::{Callback, Context, Result};
use bar::Bar;
use std::io::{IsTerminal, Write, stderr};
use text::Epoch;

/// The built-in displays of a training's progress.
///
/// A display is a [`Callback`] like any other, so [`FitOptions::progress`](crate::FitOptions::progress) takes the
/// caller's own as well. This is the only thing in the library that writes where people read. It is no printing behind
/// the caller's back: `fit` is asked for a display, by default [`auto`](Self::auto), and says everything, warnings
/// included, through it and nowhere else. It writes to standard error, so standard output stays the program's own, and
/// [`none`](Self::none) switches it off. What cannot be written is dropped: a training does not die with its terminal.
///
/// ```
/// use maplet_train::{FitOptions, Progress};
///
/// let options = FitOptions::new().progress(Progress::none());
/// let to_file = FitOptions::new().progress(Progress::lines(Vec::new()));
/// # let _ = (options, to_file);
/// ```
pub struct Progress(Display);

enum Display {
    None,
    Bar(Bar),
    Lines(Box<dyn Write + Send>),
}

impl Progress {
    /// Nothing at all.
    pub fn none() -> Self {
        Self(Display::None)
    }

    /// On a terminal a live bar, as Keras draws it; elsewhere one line an epoch. Both to standard error.
    ///
    /// ```text
    /// Epoch 1/5
    ///  312/1875 [====>.........................] 0.4s 1.3ms/step - loss: 0.4021 - accuracy: 0.8733 - ETA 2.0s
    /// ```
    pub fn auto() -> Self {
        match stderr().is_terminal().then(Bar::on_stderr).flatten() {
            Some(bar) => Self(Display::Bar(bar)),
            None => Self::lines(stderr()),
        }
    }

    /// One line an epoch, to any writer.
    ///
    /// ```text
    /// Epoch 1/5 - 2.4s 1.3ms/step - loss: 0.1523 - accuracy: 0.9541 - val_loss: 0.0630 - val_accuracy: 0.9800
    /// ```
    pub fn lines(writer: impl Write + Send + 'static) -> Self {
        Self(Display::Lines(Box::new(writer)))
    }
}

impl Callback for Progress {
    fn on_epoch_begin(&mut self, context: &mut Context<'_>) -> Result<()> {
        if let Display::Bar(bar) = &mut self.0 {
            bar.say(&format!("Epoch {}/{}", context.epoch, context.epochs));
        }
        Ok(())
    }

    fn on_batch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        if let Display::Bar(bar) = &mut self.0 {
            bar.show(|| Epoch::running(context).bar());
        }
        Ok(())
    }

    fn on_epoch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        let Some(epoch) = Epoch::finished(context) else { return Ok(()) };
        match &mut self.0 {
            Display::None => {}
            Display::Bar(bar) => bar.say(&epoch.bar()),
            Display::Lines(writer) => _ = writeln!(writer, "{}", epoch.line()),
        }
        Ok(())
    }

    fn on_train_end(&mut self, _: &mut Context<'_>) -> Result<()> {
        if let Display::Bar(bar) = &mut self.0 {
            bar.end();
        }
        Ok(())
    }

    fn on_note(&mut self, text: &str) {
        match &mut self.0 {
            Display::None => {}
            Display::Bar(bar) => bar.say(text),
            Display::Lines(writer) => _ = writeln!(writer, "{text}"),
        }
    }
}
