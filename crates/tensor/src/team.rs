//! Threads that stay awake between the loops they share.
//!
//! A training step is a chain of parallel loops of 20 to 500 µs with a few µs between them. rayon's threads fall asleep
//! in such gaps, and waking one takes 5 to 50 µs. So each thread of a pool that runs such loops has a *team*: other
//! threads of its pool join it as ordinary jobs of rayon, take part in its loops, and wait for the next one for a
//! while before they return to the pool. OpenMP's threads wait like this, too.
//!
//! Nobody ever waits for a thread that has not come: what an absent thread would have done, the others do. A helper
//! returns to the pool after [`STAY`] at the latest, so that whatever else was given to the pool gets its turn, and is
//! called again by the next loop.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A helper waits so long for the next loop.
const LINGER: Duration = Duration::from_micros(300);
/// A helper looks after other work of its pool so often.
const STAY: Duration = Duration::from_millis(5);
/// A waiting thread offers its core to others after so many looks, some 4 µs.
const LOOKS: usize = 100;

/// A loop: `work(i)` for each `i` below `count`, drawn `at_once` at a time.
#[derive(Clone, Copy)]
struct Loop {
    count: usize,
    at_once: usize,
    work: &'static (dyn Fn(usize) + Sync),
}

/// A number in a cache line of its own.
#[repr(align(128))]
struct Apart(AtomicUsize);

/// The leader, the one thread whose loops these are, and its helpers.
struct Team {
    /// The leader's number in its pool.
    leader: usize,
    /// [`OPEN`] while there may be work left in the loop, and [`INSIDE`] for each helper that is in it.
    state: Apart,
    /// How many helpers were called and have not left.
    helpers: Apart,
    /// The next draw of each thread's own share, by the thread's number in its pool. The same thread so meets the same
    /// part of the data in one loop after another.
    next: Box<[Apart]>,
    current: UnsafeCell<Option<Loop>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

const OPEN: usize = 1;
const INSIDE: usize = 2;

// SAFETY: `current` is written by the leader alone, while `state` is 0, and read by helpers only between adding
// `INSIDE` to an open `state` and taking it off again. All else is made for sharing.
unsafe impl Sync for Team {}

thread_local! {
    /// The team this thread leads.
    static OWN: Option<Arc<Team>> =
        rayon::current_thread_index().map(|leader| Arc::new(Team::new(leader, rayon::current_num_threads())));
    /// Whether this thread is in a loop, as leader or helper.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Calls `work(i)` for every `i` below `count`, at least `at_once` of them on one thread.
///
/// `false`, and nothing done, if this thread has no team to call: it belongs to no pool, or is in a loop already.
pub(crate) fn share(count: usize, at_once: usize, work: &(dyn Fn(usize) + Sync)) -> bool {
    OWN.with(|team| {
        let Some(team) = team.as_ref().filter(|_| !BUSY.get()) else { return false };
        BUSY.set(true);
        let outcome = team.lead(count, at_once, work);
        BUSY.set(false);
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
        true
    })
}

impl Team {
    fn new(leader: usize, threads: usize) -> Self {
        let apart = || Apart(AtomicUsize::new(0));
        Self {
            leader,
            state: apart(),
            helpers: apart(),
            next: (0..threads).map(|_| apart()).collect(),
            current: UnsafeCell::new(None),
            panic: Mutex::new(None),
        }
    }

    /// Runs a loop with all helpers that come; an error is the panic of one of them.
    fn lead(self: &Arc<Self>, count: usize, at_once: usize, work: &(dyn Fn(usize) + Sync)) -> thread::Result<()> {
        // SAFETY: only the lifetime changes. Nobody calls `work` after this function has returned: helpers do so while
        // they are inside, and the last lines wait until none is.
        let work: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(work) };
        let this = Loop { count, at_once, work };
        // SAFETY: between loops the leader alone touches `current`.
        unsafe { *self.current.get() = Some(this) };
        for (share, next) in self.next.iter().enumerate() {
            next.0.store(this.share(share, self.next.len()).start, Relaxed);
        }
        self.state.0.store(OPEN, Release);
        self.call(this.draws().min(self.next.len()).saturating_sub(1));
        let own = catch_unwind(AssertUnwindSafe(|| self.draw(this, self.leader)));
        self.state.0.fetch_and(!OPEN, Relaxed);
        wait_for(|| self.state.0.load(Acquire) == 0, Duration::MAX);
        let theirs = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        own.and(theirs.map_or(Ok(()), Err))
    }

    /// Sees to it that there are `helpers`, or will be.
    fn call(self: &Arc<Self>, helpers: usize) {
        while self.helpers.0.load(Relaxed) < helpers {
            self.helpers.0.fetch_add(1, Relaxed);
            let team = self.clone();
            rayon::spawn(move || {
                team.help();
                team.helpers.0.fetch_sub(1, Relaxed);
            });
        }
    }

    /// Takes part in the leader's loops, until none has come for a while or other work should get its turn.
    fn help(&self) {
        // The leader's own thread, or one that is in a loop and only waits for a loop inside it, has no time for this.
        let Some(me) = rayon::current_thread_index().filter(|&me| me != self.leader && !BUSY.get()) else { return };
        let begin = Instant::now();
        while begin.elapsed() < STAY && wait_for(|| self.come_in(), LINGER) {
            // SAFETY: this thread is inside, so the leader does not write.
            if let Some(this) = unsafe { *self.current.get() } {
                BUSY.set(true);
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.draw(this, me))) {
                    *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                }
                BUSY.set(false);
            }
            self.state.0.fetch_and(!OPEN, Relaxed);
            self.state.0.fetch_sub(INSIDE, Release);
        }
    }

    /// Whether there is a loop to take part in; then this thread is inside.
    fn come_in(&self) -> bool {
        let enter = |state| (state & OPEN != 0).then_some(state + INSIDE);
        self.state.0.fetch_update(Acquire, Relaxed, enter).is_ok()
    }

    /// Draws first from this thread's own share of the loop, then from the others'.
    fn draw(&self, this: Loop, me: usize) {
        let shares = self.next.len();
        for share in (me..shares).chain(0..me) {
            let (next, end) = (&self.next[share].0, this.share(share, shares).end);
            while next.load(Relaxed) < end {
                let draw = next.fetch_add(1, Relaxed);
                if draw < end {
                    let start = draw * this.at_once;
                    (start..(start + this.at_once).min(this.count)).for_each(this.work);
                }
            }
        }
    }
}

impl Loop {
    fn draws(self) -> usize {
        self.count.div_ceil(self.at_once)
    }

    /// The draws that are one of `shares` equal shares.
    fn share(self, share: usize, shares: usize) -> std::ops::Range<usize> {
        self.draws() * share / shares..self.draws() * (share + 1) / shares
    }
}

/// Looks until it is `ready` without falling asleep, for so long at most; whether it is.
fn wait_for(mut ready: impl FnMut() -> bool, limit: Duration) -> bool {
    let begin = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        if begin.elapsed() > limit {
            return false;
        }
        thread::yield_now(); // others may need this core more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::par;
    use std::sync::atomic::AtomicBool;

    fn in_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    /// Loops of all lengths, one right after the other: each index is visited once, and before the loop ends.
    #[test]
    fn every_index_is_visited_once() {
        for threads in [1, 2, 7] {
            in_pool(threads, || {
                for round in 0..if cfg!(miri) { 20 } else { 2_000 } {
                    let (count, at_once) = (round % 50, 1 + round % 3);
                    let visits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                    assert!(share(count, at_once, &|i| {
                        visits[i].fetch_add(1, Relaxed);
                    }));
                    assert!(visits.iter().all(|visits| visits.load(Relaxed) == 1), "{count} by {at_once}");
                }
            });
        }
    }

    /// A loop ends only if two threads are in it at the same time.
    #[test]
    fn helpers_come() {
        in_pool(2, || {
            let here = AtomicUsize::new(0);
            let met = || {
                here.fetch_add(1, Relaxed);
                wait_for(|| here.load(Relaxed) >= 2, Duration::from_secs(60))
            };
            share(2, 1, &|_| assert!(met(), "nobody came to help"));
        });
    }

    #[test]
    fn loops_inside_loops_run() {
        assert!(!share(1, 1, &|_| ()), "this thread belongs to no pool");
        in_pool(3, || {
            let total = AtomicUsize::new(0);
            share(10, 1, &|_| par::tasks(100, 1e6, |_| _ = total.fetch_add(1, Relaxed)));
            assert_eq!(total.into_inner(), 1_000);
        });
    }

    /// A panic reaches the leader, whoever met it, and the team goes on.
    #[test]
    fn panics_reach_the_leader() {
        in_pool(2, || {
            for bad in [0, 3, 7] {
                let work = |i| assert_ne!(i, bad, "the bad one");
                let outcome = catch_unwind(AssertUnwindSafe(|| share(8, 1, &work)));
                let panic = outcome.expect_err("it panics");
                assert!(panic.downcast_ref::<String>().is_some_and(|text| text.contains("the bad one")));
                assert!(share(8, 1, &|_| ()));
            }
        });
    }

    /// Whatever else is given to the pool gets its turn while a leader runs one loop after the other.
    #[test]
    fn helpers_return_to_other_work() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let done = AtomicBool::new(false);
        pool.in_place_scope(|scope| {
            scope.spawn(|scope| {
                share(2, 1, &|_| ());
                scope.spawn(|_| done.store(true, Relaxed)); // for the other thread: this one is in its loops
                let begin = Instant::now();
                while !done.load(Relaxed) {
                    assert!(begin.elapsed() < Duration::from_secs(60), "the helper never left");
                    share(100, 1, &|_| std::hint::black_box(()));
                }
            });
        });
    }

    /// Several leaders in one pool do not wait for one another's ends.
    #[test]
    fn leaders_do_not_block_each_other() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let running = AtomicUsize::new(3);
        pool.in_place_scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|_| {
                    (0..200).for_each(|_| assert!(share(20, 1, &|_| thread::yield_now())));
                    running.fetch_sub(1, Relaxed);
                });
            }
        });
        assert_eq!(running.into_inner(), 0);
    }
}
