//! `cargo xtask fetch-mnist`: the library's fetch with a progress bar.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use maplet_data::fetch::{FASHION_MNIST, Fetch, MNIST, Progress};

use crate::{Result, project};

#[derive(Args)]
#[command(after_help = "Without a network: copy the four .gz files from anywhere and name their folder with --from, \
                        or put them into DIR/mnist (DIR/fashion-mnist) yourself.")]
pub(crate) struct Options {
    /// Which dataset.
    #[arg(long, value_enum, default_value = "mnist")]
    dataset: Dataset,
    /// The data folder; the files go to DIR/mnist or DIR/fashion-mnist [default: data, in the project's folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A folder or http(s) address of your own that has the four .gz files [default: the public mirrors]
    #[arg(long, value_name = "URL|DIR")]
    from: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dataset {
    Mnist,
    FashionMnist,
}

pub(crate) fn run(options: Options) -> Result<()> {
    let set = match options.dataset {
        Dataset::Mnist => MNIST,
        Dataset::FashionMnist => FASHION_MNIST,
    };
    let out = options.out.unwrap_or_else(|| project::root().join("data"));
    let bar = ProgressBar::no_length().with_style(
        ProgressStyle::with_template("  {msg}  [{bar:30}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta}")?
            .progress_chars("=> "),
    );
    let mut present = 0;
    let mut fetch = Fetch::new(&set).on_progress(|event| {
        present += usize::from(matches!(event, Progress::Present { .. }));
        show(&bar, event);
    });
    if let Some(place) = options.from {
        fetch = fetch.from(place);
    }
    let fetched = fetch.run(out);
    bar.finish_and_clear();
    let folder = fetched.map_err(|error| format!("{error}\nsee also: cargo xtask fetch-mnist --from URL|DIR"))?;
    let what = if present == set.files.len() { "was there already" } else { "is there" };
    println!("{} {what}, every checksum right: {}", set.name, folder.display());
    Ok(())
}

/// Tells the event by the bar or in a line above it.
fn show(bar: &ProgressBar, event: Progress<'_>) {
    let say = |line: String| bar.suspend(|| println!("{line}"));
    match event {
        Progress::Damaged { file } => say(format!("  {file}: not the published file, fetched again")),
        Progress::Waiting => say("  waiting: another process is fetching into this folder".into()),
        Progress::Started { file, source, done, total } => {
            say(match done {
                0 => format!("  {source}"),
                _ => format!("  {source} (going on at byte {done})"),
            });
            bar.set_message(file.to_owned());
            bar.set_length(total);
            bar.set_position(done);
            bar.reset_eta();
        }
        Progress::Advanced { done, .. } => bar.set_position(done),
        Progress::Failed { source, reason, .. } => say(format!("  {source}: {reason}")),
        _ => {}
    }
}
