//! [`Loader`]: a dataset in batches, shuffled or not, one epoch after another.

use crate::{Batch, Dataset, Error, Result};
use maplet_tensor::Rng;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::{iter, panic};

/// Hands out a dataset in batches.
///
/// The order of the samples is a pure function of the seed and the number of the epoch: the same with or without a
/// thread, on every machine, and when a training is taken up again in the middle.
///
/// Batches are gathered when they are asked for, on the caller's thread: from memory that takes some 20 µs, less
/// than handing them from one thread to another. Datasets that read or decode files gain by
/// [`prefetch`](Self::prefetch).
///
/// # Example
/// ```
/// use maplet_data::{Loader, digits};
///
/// let loader = Loader::new(digits(100, 1), 32)?.shuffle(42);
/// assert_eq!(loader.len(), 4); // 32 + 32 + 32 + 4
/// for batch in loader.epoch(0) {
///     let batch = batch?;
///     assert_eq!(batch.inputs.shape()[1..], [1, 28, 28]);
/// }
/// # Ok::<(), maplet_data::Error>(())
/// ```
#[derive(Clone)]
pub struct Loader {
    dataset: Arc<dyn Dataset>,
    batch_size: usize,
    shuffle: Option<u64>,
    drop_last: bool,
    prefetch: usize,
}

impl Loader {
    /// Batches of `batch_size` samples in the dataset's own order; the last one may be smaller. Also takes an
    /// `Arc<dyn Dataset>`, so that several loaders can share one dataset.
    ///
    /// # Errors
    /// A batch size of 0, or an empty dataset.
    pub fn new(dataset: impl Dataset + 'static, batch_size: usize) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::new("loader", "the batch size is 0", "use at least 1; 32 is usual"));
        }
        if dataset.is_empty() {
            return Err(Error::new("loader", "the dataset is empty", ""));
        }
        Ok(Self { dataset: Arc::new(dataset), batch_size, shuffle: None, drop_last: false, prefetch: 0 })
    }

    /// Another random order in each epoch, all of them determined by `seed`.
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.shuffle = Some(seed);
        self
    }

    /// Leaves out the last batch of an epoch if it is smaller than the others.
    pub fn drop_last(mut self) -> Self {
        self.drop_last = true;
        self
    }

    /// Gathers up to `batches` batches ahead in a background thread; 0, the default, means no thread.
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.prefetch = batches;
        self
    }

    /// The number of batches in an epoch.
    pub fn len(&self) -> usize {
        self.samples().div_ceil(self.batch_size)
    }

    /// Whether an epoch has no batch at all: [`drop_last`](Self::drop_last) with fewer samples than a batch needs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of samples in an epoch.
    pub fn samples(&self) -> usize {
        let all = self.dataset.len();
        if self.drop_last { all - all % self.batch_size } else { all }
    }

    /// The number of samples in a batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The samples behind the batches.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.dataset
    }

    /// The batches of epoch `epoch`, which is any number; 0 for a single pass.
    ///
    /// After an error there are no more batches. A panic in the dataset is a panic here, also when it happened in
    /// the background thread. Dropping the iterator half-way stops the thread and waits for its end.
    pub fn epoch(&self, epoch: u64) -> Batches {
        let mut order: Vec<usize> = match self.shuffle {
            Some(seed) => Rng::new(seed).fork(epoch).permutation(self.dataset.len()),
            None => (0..self.dataset.len()).collect(),
        };
        order.truncate(self.samples());
        let gather =
            Gather { dataset: self.dataset.clone(), order: order.into(), batch_size: self.batch_size, next: 0 };
        let thread = if self.prefetch > 0 { Thread::start(gather.clone(), self.prefetch) } else { None };
        Batches { source: thread.map_or(Source::Here(gather), Source::Thread), left: self.len() }
    }
}

/// The batches of one epoch; see [`Loader::epoch`].
pub struct Batches {
    source: Source,
    left: usize,
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let batch = match &mut self.source {
            Source::Here(gather) => gather.next(),
            Source::Thread(thread) => thread.next(),
        };
        if !matches!(batch, Some(Ok(_))) {
            self.left = 0;
        }
        batch
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Batches {}
impl iter::FusedIterator for Batches {}

/// Makes one batch after the other.
#[derive(Clone)]
struct Gather {
    dataset: Arc<dyn Dataset>,
    order: Arc<[usize]>,
    batch_size: usize,
    next: usize,
}

impl Gather {
    fn next(&mut self) -> Option<Result<Batch>> {
        let indices = self.order[self.next..].chunks(self.batch_size).next()?;
        self.next += indices.len();
        Some(self.dataset.batch(indices))
    }
}

enum Source {
    Here(Gather),
    Thread(Thread),
}

struct Thread {
    /// `None` once the thread shall stop.
    receiver: Option<Receiver<Result<Batch>>>,
    /// `None` once it has stopped.
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    /// `None` if the system has no thread to give.
    fn start(mut gather: Gather, ahead: usize) -> Option<Self> {
        // The batch that waits to be sent counts as one ahead.
        let (sender, receiver) = sync_channel(ahead - 1);
        let work = move || {
            while let Some(batch) = gather.next() {
                let failed = batch.is_err();
                let dropped = sender.send(batch).is_err();
                if failed || dropped {
                    break;
                }
            }
        };
        let handle = thread::Builder::new().name("maplet-loader".into()).spawn(work).ok()?;
        Some(Self { receiver: Some(receiver), handle: Some(handle) })
    }

    fn next(&mut self) -> Option<Result<Batch>> {
        match self.receiver.as_ref()?.recv() {
            Ok(batch) => Some(batch),
            Err(_) => {
                // It ended before its last batch, so it panicked: go on with that here.
                self.receiver = None;
                match self.handle.take()?.join() {
                    Ok(()) => None,
                    Err(cause) => panic::resume_unwind(cause),
                }
            }
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.receiver = None; // the thread's next send fails
        if let Some(handle) = self.handle.take() {
            let _ = handle.join(); // nobody waits for this batch any more: its panic is nobody's
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorDataset;
    use maplet_tensor::Tensor;
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// The numbers `0..n`, which count the batches made of them and fail at one of their samples.
    struct Numbers {
        n: usize,
        made: AtomicUsize,
        fail_at: Option<usize>,
        panic_at: Option<usize>,
    }

    impl Numbers {
        fn new(n: usize) -> Self {
            Self { n, made: AtomicUsize::new(0), fail_at: None, panic_at: None }
        }
    }

    impl Dataset for Numbers {
        fn len(&self) -> usize {
            self.n
        }
        fn item(&self, index: usize) -> Result<(Tensor, Tensor)> {
            if self.fail_at == Some(index) {
                return Err(Error::new("numbers", format!("sample {index} is bad"), ""));
            }
            assert!(self.panic_at != Some(index), "sample {index} is worse");
            Ok((Tensor::scalar(index as f32), Tensor::scalar(index as i64)))
        }
        fn batch(&self, indices: &[usize]) -> Result<Batch> {
            self.made.fetch_add(1, Ordering::SeqCst);
            let items: Vec<_> = indices.iter().map(|&i| self.item(i)).collect::<Result<_>>()?;
            let targets = items.iter().map(|(_, y)| y.item::<i64>().unwrap()).collect();
            let targets = Tensor::from_vec(targets, [indices.len()])?;
            Ok(Batch { inputs: targets.clone(), targets })
        }
    }

    fn epoch(loader: &Loader, epoch: u64) -> Vec<Vec<i64>> {
        loader.epoch(epoch).map(|batch| batch.unwrap().targets.to_vec().unwrap()).collect()
    }

    #[test]
    fn batches_in_order_with_or_without_the_last() {
        let loader = Loader::new(Numbers::new(7), 3).unwrap();
        assert_eq!((loader.len(), loader.samples(), loader.batch_size()), (3, 7, 3));
        assert_eq!(epoch(&loader, 0), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
        let loader = loader.drop_last();
        assert_eq!((loader.len(), loader.samples(), loader.is_empty()), (2, 6, false));
        assert_eq!(epoch(&loader, 5), [vec![0, 1, 2], vec![3, 4, 5]]);
        let none = Loader::new(Numbers::new(2), 3).unwrap().drop_last();
        assert!(none.is_empty() && none.epoch(0).next().is_none());
    }

    #[test]
    fn the_order_depends_on_the_seed_and_the_epoch_alone() {
        let loader = |seed| Loader::new(Numbers::new(100), 16).unwrap().shuffle(seed);
        let first = epoch(&loader(1), 3);
        assert_eq!(epoch(&loader(1), 3), first);
        assert_eq!(epoch(&loader(1).prefetch(2), 3), first);
        for other in [epoch(&loader(1), 4), epoch(&loader(2), 3)] {
            assert_ne!(other, first);
            let mut all = other.concat();
            all.sort_unstable();
            assert_eq!(all, (0..100).collect::<Vec<_>>(), "every sample once");
        }
        let dropped = epoch(&loader(1).drop_last(), 3);
        assert_eq!(dropped, first[..6], "the epoch's last samples are left out, others in each epoch");
    }

    #[test]
    fn the_iterator_knows_its_length() {
        for ahead in [0, 2] {
            let mut batches = Loader::new(Numbers::new(7), 3).unwrap().prefetch(ahead).epoch(0);
            for left in [3, 2, 1] {
                assert_eq!(batches.len(), left);
                assert!(batches.next().is_some());
            }
            assert!(batches.len() == 0 && batches.next().is_none() && batches.next().is_none());
        }
    }

    #[test]
    fn the_thread_is_never_further_ahead_than_asked() {
        for ahead in [1, 2, 5] {
            let data = Arc::new(Numbers::new(40));
            let loader = Loader::new(data.clone(), 2).unwrap().prefetch(ahead);
            for (taken, batch) in loader.epoch(0).enumerate() {
                batch.unwrap();
                assert!(data.made.load(Ordering::SeqCst) <= taken + 1 + ahead);
            }
            assert_eq!(data.made.load(Ordering::SeqCst), 20);
        }
    }

    #[test]
    fn dropping_the_iterator_ends_the_thread() {
        let data = Arc::new(Numbers::new(1000));
        let loader = Loader::new(data.clone(), 2).unwrap().prefetch(3);
        let mut batches = loader.epoch(0);
        batches.next().unwrap().unwrap();
        drop((batches, loader));
        assert_eq!(Arc::strong_count(&data), 1, "nobody else holds the dataset");
        assert!(data.made.load(Ordering::SeqCst) <= 4);
    }

    #[test]
    fn an_error_reaches_the_consumer_and_ends_the_epoch() {
        for ahead in [0, 1, 4] {
            let data = Numbers { fail_at: Some(5), ..Numbers::new(100) };
            let mut batches = Loader::new(data, 2).unwrap().prefetch(ahead).epoch(0);
            assert!(batches.next().unwrap().is_ok() && batches.next().unwrap().is_ok());
            assert_eq!(batches.next().unwrap().unwrap_err().to_string(), "numbers: sample 5 is bad");
            assert!(batches.next().is_none() && batches.len() == 0);
        }
    }

    #[test]
    fn a_panic_reaches_the_consumer() {
        for ahead in [0, 1, 4] {
            let data = Numbers { panic_at: Some(2), ..Numbers::new(100) };
            let mut batches = Loader::new(data, 2).unwrap().prefetch(ahead).epoch(0);
            assert!(batches.next().unwrap().is_ok());
            let cause = panic::catch_unwind(AssertUnwindSafe(|| batches.next())).unwrap_err();
            assert_eq!(cause.downcast_ref::<String>().unwrap(), "sample 2 is worse");
        }
    }

    #[test]
    fn nothing_to_load_is_an_error() {
        let text = |result: Result<Loader>| result.err().unwrap().to_string();
        let zero = text(Loader::new(Numbers::new(3), 0));
        assert_eq!(zero, "loader: the batch size is 0; help: use at least 1; 32 is usual");
        let empty = TensorDataset::new(Tensor::full([0, 2], 0.0f32), Tensor::full([0], 0i64)).unwrap();
        assert_eq!(text(Loader::new(empty, 4)), "loader: the dataset is empty");
    }
}
