//! Which images to train on, and where they are: in a folder, on a mirror, or drawn by the program.

use crate::Result;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use maplet::data::ErrorKind;
use maplet::data::fetch::{self, Fetch, FileSet};
use maplet::prelude::*;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The arguments that choose the images.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// Which images [default: mnist]
    #[arg(long, value_enum, default_value_t = Which::Mnist, hide_default_value = true)]
    dataset: Which,
    /// Folder of the data; what is missing is fetched into it [default: the variable MAPLET_DATA, else data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Only the first so many training images, and a fifth as many test images
    #[arg(long, value_name = "N", hide = true)]
    samples: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Handwritten digits
    Mnist,
    /// Clothes
    FashionMnist,
    /// Handwritten-looking digits, drawn by the program
    Digits,
}

/// The folder of the data: `chosen`, else the variable `MAPLET_DATA`, else `data`.
pub fn data_folder(chosen: Option<PathBuf>) -> PathBuf {
    chosen.or_else(|| std::env::var_os("MAPLET_DATA").map(PathBuf::from)).unwrap_or_else(|| "data".into())
}

impl DataArgs {
    /// The training and the test images; says in one line what they are.
    ///
    /// Published files that are not there are fetched. If they cannot be had, the digits take their place.
    ///
    /// # Errors
    /// Files that are not what they should be, or a folder that cannot be written.
    pub fn open(&self) -> Result<(ImageDataset, ImageDataset)> {
        let folder = data_folder(self.data.clone());
        let (name, open): (_, fn(&Path, Split) -> maplet::data::Result<ImageDataset>) = match self.dataset {
            Which::Mnist => ("MNIST", |folder, split| Mnist::open(folder, split)),
            Which::FashionMnist => ("Fashion-MNIST", |folder, split| FashionMnist::open(folder, split)),
            Which::Digits => return self.drawn(),
        };
        let open = || Ok::<_, maplet::data::Error>((open(&folder, Split::Train)?, open(&folder, Split::Test)?));
        let (train, test) = match open() {
            Ok(parts) => parts,
            Err(_) if self.fetch(&folder)? => open()?,
            Err(error) if matches!(error.kind(), ErrorKind::File { .. } | ErrorKind::Io { .. }) => {
                return Err(error.into());
            }
            Err(_) => {
                println!(
                    "{name} is not in {} and cannot be fetched: generated digits take its place.",
                    folder.display()
                );
                return self.drawn();
            }
        };
        println!("{name} from {}: {} training and {} test images", folder.display(), train.len(), test.len());
        self.cut(train, test)
    }

    fn drawn(&self) -> Result<(ImageDataset, ImageDataset)> {
        let count = self.samples.unwrap_or(60_000).max(10);
        let (train, test) = (digits(count, 1), digits(count.div_ceil(5).min(10_000), 2));
        println!("generated digits: {} training and {} test images", train.len(), test.len());
        Ok((train, test))
    }

    /// The first samples of both parts, if only some are wanted.
    fn cut(&self, train: ImageDataset, test: ImageDataset) -> Result<(ImageDataset, ImageDataset)> {
        let Some(count) = self.samples else { return Ok((train, test)) };
        let first = |data: ImageDataset, count: usize| -> Result<ImageDataset> {
            let count = count.min(data.len());
            let (images, labels) = (data.images().slice(0, 0, count)?, data.labels().slice(0, 0, count)?);
            Ok(ImageDataset::new(images, labels, data.class_names())?)
        };
        Ok((first(train, count)?, first(test, count.div_ceil(5))?))
    }

    /// Fetches the published files, with a progress bar; `false` if no mirror gave them.
    fn fetch(&self, folder: &Path) -> Result<bool> {
        let set = match self.dataset {
            Which::FashionMnist => fetch::FASHION_MNIST,
            _ => fetch::MNIST,
        };
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes}  {eta}")?;
        let bar = ProgressBar::no_length().with_style(style.progress_chars("=> "));
        let mut refused = false;
        let result = run(&set, folder, |event| {
            refused = matches!(event, fetch::Progress::Failed { .. });
            match event {
                fetch::Progress::Started { file, total, .. } => {
                    bar.set_message(format!("fetching {file}"));
                    bar.set_length(total);
                }
                fetch::Progress::Advanced { done, .. } => bar.set_position(done),
                _ => {}
            }
        });
        bar.finish_and_clear();
        match result {
            Ok(_) => Ok(true),
            Err(_) if refused => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn run(set: &FileSet<'_>, folder: &Path, report: impl FnMut(fetch::Progress<'_>)) -> maplet::data::Result<PathBuf> {
    Fetch::new(set).timeout(Duration::from_secs(10)).on_progress(report).run(folder)
}
