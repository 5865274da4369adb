//! The live line at the bottom of a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use std::time::{Duration, Instant};

/// The line is composed and drawn at most this often: composing it at every step would cost as much as a small step.
const EVERY: Duration = Duration::from_millis(100);

pub(super) struct Bar {
    line: ProgressBar,
    shown: Option<Instant>,
}

impl Bar {
    /// `None` on a terminal that cannot move its cursor.
    pub(super) fn on_stderr() -> Option<Self> {
        let bar = Self::new(ProgressDrawTarget::stderr_with_hz(20));
        (!bar.line.is_hidden()).then_some(bar)
    }

    fn new(target: ProgressDrawTarget) -> Self {
        // indicatif knows the terminal (width, cursor, rate); the words are ours: see `text`.
        let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let line = ProgressBar::with_draw_target(None, target).with_style(style).with_finish(ProgressFinish::Abandon);
        Self { line, shown: None }
    }

    /// Replaces the live line, if it is time to.
    pub(super) fn show(&mut self, text: impl FnOnce() -> String) {
        if self.shown.is_none_or(|shown| shown.elapsed() >= EVERY) {
            self.line.set_message(text());
            self.shown = Some(Instant::now());
        }
    }

    /// Writes a line that stays, above the live one, which is emptied.
    pub(super) fn say(&mut self, text: &str) {
        self.line.set_message("");
        self.line.println(text);
        self.shown = None;
    }

    /// Takes the live line away.
    pub(super) fn end(&mut self) {
        self.line.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// A terminal that remembers what was written to it.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            40
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.write_str("<clear>")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn is_composed_at_most_ten_times_a_second_and_leaves_what_it_says() {
        let screen = Screen::default();
        let mut bar = Bar::new(ProgressDrawTarget::term_like(Box::new(screen.clone())));
        bar.say("Epoch 1/5");
        let started = Instant::now();
        let mut composed = 0;
        for step in 0..1000 {
            bar.show(|| {
                composed += 1;
                format!("step {step}")
            });
        }
        let most = 1 + started.elapsed().as_millis() / EVERY.as_millis();
        assert!(composed >= 1 && composed <= most, "{composed} of at most {most}");
        bar.say("done");
        bar.end();
        let written = screen.0.lock().unwrap().clone();
        let place = |text: &str| written.find(text).unwrap_or_else(|| panic!("no {text:?} in {written:?}"));
        assert!(place("Epoch 1/5") < place("step 0") && place("step 0") < place("done"));
    }

    #[test]
    fn a_long_line_is_cut_at_the_terminal_width() {
        let screen = Screen::default();
        let mut bar = Bar::new(ProgressDrawTarget::term_like(Box::new(screen.clone())));
        bar.show(|| "x".repeat(100));
        let longest = screen.0.lock().unwrap().split(|c| c != 'x').map(str::len).max();
        assert!(longest.is_some_and(|len| (1..=40).contains(&len)), "{longest:?}");
    }
}
