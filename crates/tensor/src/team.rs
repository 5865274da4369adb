//! Threads that stay awake between the loops they share.
//!
//! A training step is a chain of parallel loops of 20 to 500 µs with a few µs between them. rayon's threads fall asleep
//! in such gaps, and waking one takes 5 to 50 µs. So each thread of a pool that runs such loops has a *team*: other
//! threads of its pool join it as ordinary jobs of rayon, take part in its loops, and wait for the next one for a
//! while before they return to the pool. OpenMP's threads wait like this, too.
//!
//! Nobody ever waits for a thread that has not come: what an absent thread would have done, the others do. Whatever
//! else is given to the pool gets its turn: every [`STAY`], after the loop it is in, a helper does what else there is,
//! and so does the leader with its own queue and broadcasts, which only it can do, while it waits for helpers and now
//! and then between its loops. A thread that waits in `rayon::join` may be kept by a team for [`TERM`]. A leader that
//! waits does not help with loops inside its loop, which run as rayon's own.

use rayon::Yield;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A helper waits so long for the next loop.
const LINGER: Duration = Duration::from_micros(300);
/// A helper sees to the pool's other work so often.
const STAY: Duration = Duration::from_millis(5);
/// A helper leaves after so long, since it may be wanted where it waited before it came.
const TERM: Duration = Duration::from_millis(100);
/// When a call was in vain, nobody is called for so long: what came to the pool from outside is looked at after all
/// calls.
const REST: Duration = Duration::from_micros(20);
/// Jobs that a helper does in one go before it looks at its team again.
const OTHERS: usize = 1_000;
/// A leader sees to its own queue after so many loops.
const LOOPS: usize = 64;
/// A waiting thread offers its core to others after so many looks, some 4 µs.
const LOOKS: usize = 100;

/// A loop: `work(i)` for each `i` below `count`, drawn `at_once` at a time.
#[derive(Clone, Copy)]
struct Loop {
    count: usize,
    at_once: usize,
    work: *const (dyn Fn(usize) + Sync + 'static),
}

/// A number in a cache line of its own.
#[repr(align(128))]
struct Apart(AtomicUsize);

/// What a helper must see to come in, in one cache line: from one core to another it may take 3 µs.
#[repr(align(128))]
struct Door {
    /// [`OPEN`] while there may be work left in the loop, and [`INSIDE`] for each helper that is in it.
    state: AtomicUsize,
    current: UnsafeCell<Option<Loop>>,
}

/// The leader, the one thread whose loops these are, and its helpers.
struct Team {
    /// The leader's number in its pool.
    leader: usize,
    door: Door,
    /// How many helpers were called and have not left.
    helpers: Apart,
    born: Instant,
    /// Nanoseconds after `born` before which nobody is called.
    rest: AtomicU64,
    /// The next draw of each thread's own part, by the thread's number in its pool. The same thread so meets the same
    /// part of the data in one loop after another.
    next: Box<[Apart]>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

const OPEN: usize = 1;
const INSIDE: usize = 2;

// SAFETY: `current` is written by the leader alone, while `state` is 0, and read by helpers only between adding
// `INSIDE` to an open `state` and taking it off again; what it points to is `Sync`. All else is made for sharing.
unsafe impl Sync for Team {}
// SAFETY: as above: whichever thread drops a team, nobody is in its loop any more.
unsafe impl Send for Team {}

thread_local! {
    /// The team this thread leads.
    static OWN: Option<Arc<Team>> =
        rayon::current_thread_index().map(|leader| Arc::new(Team::new(leader, rayon::current_num_threads())));
    /// Whether this thread is in a loop, as leader or helper.
    static BUSY: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread is a helper, even while it does something else.
    static HELPS: Cell<bool> = const { Cell::new(false) };
    /// The loops this thread has led.
    static LED: Cell<usize> = const { Cell::new(0) };
}

/// Calls `work(i)` for every `i` below `count`, drawn `at_once` at a time.
///
/// `false`, and nothing done, if this thread has no team to call: it belongs to no pool, is in a loop already, or ends.
pub(crate) fn share(count: usize, at_once: usize, work: &(dyn Fn(usize) + Sync)) -> bool {
    let lead = |team: &Option<Arc<Team>>| {
        let Some(team) = team.as_ref().filter(|_| !BUSY.get()) else { return false };
        LED.set(LED.get().wrapping_add(1));
        if LED.get().is_multiple_of(LOOPS) {
            rayon::yield_local();
        }
        BUSY.set(true);
        let outcome = team.lead(count, at_once, work);
        BUSY.set(false);
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
        true
    };
    OWN.try_with(lead).unwrap_or(false)
}

impl Team {
    fn new(leader: usize, threads: usize) -> Self {
        let apart = || Apart(AtomicUsize::new(0));
        Self {
            leader,
            door: Door { state: AtomicUsize::new(0), current: UnsafeCell::new(None) },
            helpers: apart(),
            born: Instant::now(),
            rest: AtomicU64::new(0),
            next: (0..threads).map(|_| apart()).collect(),
            panic: Mutex::new(None),
        }
    }

    /// Runs a loop with all helpers that come; an error is the panic of this thread or of one of them.
    fn lead(self: &Arc<Self>, count: usize, at_once: usize, work: &(dyn Fn(usize) + Sync)) -> thread::Result<()> {
        let work = std::ptr::from_ref(work);
        // SAFETY: only the lifetime changes, of a pointer that is not used after this function: helpers use it while
        // they are inside, and the end waits until none is.
        let work =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync)>(work) };
        let this = Loop { count, at_once, work };
        // SAFETY: between loops the leader alone touches `current`.
        unsafe { *self.door.current.get() = Some(this) };
        for (part, next) in self.next.iter().enumerate() {
            next.0.store(this.part(part, self.next.len()).start, Relaxed);
        }
        self.door.state.store(OPEN, Release);
        self.call(this.draws().min(self.next.len()).saturating_sub(1));
        // SAFETY: this is the loop's own function.
        let own = catch_unwind(AssertUnwindSafe(|| unsafe { self.draw(this, self.leader) }));
        self.door.state.fetch_and(!OPEN, Relaxed);
        let ready = || self.door.state.load(Acquire) == 0;
        while !wait_for(ready, Duration::ZERO) {
            rayon::yield_local(); // a helper may be waiting for a broadcast
        }
        let theirs = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        own.and(theirs.map_or(Ok(()), Err))
    }

    /// Sees to it that there are `helpers`, or will be.
    fn call(self: &Arc<Self>, helpers: usize) {
        let missing = helpers.saturating_sub(self.helpers.0.load(Relaxed));
        if missing == 0 || self.age() < self.rest.load(Relaxed) {
            return;
        }
        for _ in 0..missing {
            self.helpers.0.fetch_add(1, Relaxed);
            let team = self.clone();
            rayon::spawn(move || {
                if !team.help() {
                    team.rest.store(team.age() + REST.as_nanos() as u64, Relaxed);
                }
                team.helpers.0.fetch_sub(1, Relaxed);
            });
        }
    }

    /// Nanoseconds since it was formed.
    fn age(&self) -> u64 {
        self.born.elapsed().as_nanos() as u64
    }

    /// Takes part in the leader's loops for a while; `false` if this thread cannot: it is the leader, or helps already,
    /// or is in a loop and only waits for one inside it.
    fn help(&self) -> bool {
        let free = |&me: &usize| me != self.leader && !BUSY.get() && !HELPS.get();
        let Some(me) = rayon::current_thread_index().filter(free) else { return false };
        HELPS.set(true);
        let came = Instant::now();
        let mut begin = came;
        while came.elapsed() < TERM && wait_for(|| self.come_in(), LINGER) {
            // SAFETY: this thread is inside, so the leader does not write.
            if let Some(this) = unsafe { *self.door.current.get() } {
                BUSY.set(true);
                // SAFETY: and so the loop's function lives.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| unsafe { self.draw(this, me) })) {
                    *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                }
                BUSY.set(false);
            }
            self.door.state.fetch_and(!OPEN, Relaxed);
            self.door.state.fetch_sub(INSIDE, Release);
            if begin.elapsed() > STAY {
                self.helpers.0.fetch_sub(1, Relaxed);
                let _ = (0..OTHERS).find(|_| rayon::yield_now() != Some(Yield::Executed));
                self.helpers.0.fetch_add(1, Relaxed);
                begin = Instant::now();
            }
        }
        HELPS.set(false);
        true
    }

    /// Whether there is a loop to take part in; then this thread is inside.
    fn come_in(&self) -> bool {
        let enter = |state| (state & OPEN != 0).then_some(state + INSIDE);
        self.door.state.fetch_update(Acquire, Relaxed, enter).is_ok()
    }

    /// Draws first from this thread's own part of the loop, then from the others'.
    ///
    /// # Safety
    /// The loop's function lives.
    unsafe fn draw(&self, this: Loop, me: usize) {
        // SAFETY: the caller's promise.
        let work = unsafe { &*this.work };
        let parts = self.next.len();
        for part in (me..parts).chain(0..me) {
            let (next, end) = (&self.next[part].0, this.part(part, parts).end);
            while next.load(Relaxed) < end {
                let draw = next.fetch_add(1, Relaxed);
                if draw < end {
                    let start = draw * this.at_once;
                    (start..(start + this.at_once).min(this.count)).for_each(work);
                }
            }
        }
    }
}

impl Loop {
    fn draws(self) -> usize {
        self.count.div_ceil(self.at_once)
    }

    /// The draws that are one of so many equal parts.
    fn part(self, part: usize, of: usize) -> std::ops::Range<usize> {
        self.draws() * part / of..self.draws() * (part + 1) / of
    }
}

/// Looks until it is `ready` without falling asleep, for so long at most; whether it is.
fn wait_for(ready: impl Fn() -> bool, limit: Duration) -> bool {
    let begin = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        thread::yield_now(); // others may need this core more
        if begin.elapsed() > limit {
            return false;
        }
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

    /// Repeats a loop of two draws, which wait for each other for a while, until `work` was called by two threads at
    /// once, and so has a helper.
    fn with_a_helper(work: impl Fn() + Sync) {
        let begin = Instant::now();
        loop {
            let here = AtomicUsize::new(0);
            let met = || {
                here.fetch_add(1, Relaxed);
                wait_for(|| here.load(Relaxed) >= 2, Duration::from_millis(50))
            };
            let met_all = AtomicBool::new(true);
            share(2, 1, &|_| match met() {
                true => work(),
                false => met_all.store(false, Relaxed),
            });
            if met_all.into_inner() {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "nobody came to help");
        }
    }

    #[test]
    fn helpers_come() {
        in_pool(2, || with_a_helper(|| ()));
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
            let leader = rayon::current_thread_index();
            for leads in [true, false] {
                let work = || assert_ne!(rayon::current_thread_index() == leader, leads, "the bad one");
                let outcome = catch_unwind(AssertUnwindSafe(|| with_a_helper(work)));
                let panic = outcome.expect_err("it panics");
                assert!(panic.downcast_ref::<String>().is_some_and(|text| text.contains("the bad one")));
                assert!(share(8, 1, &|_| ()));
            }
        });
    }

    /// Runs so many leaders in a pool, each with one loop after the other, long enough for helpers to come, until
    /// `work` is done beside them.
    fn beside_leaders(threads: usize, leaders: usize, work: impl FnOnce(&rayon::ThreadPool)) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (leading, done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let lead = || {
            leading.fetch_add(1, Relaxed);
            let begin = Instant::now();
            while !done.load(Relaxed) {
                assert!(begin.elapsed() < Duration::from_secs(60), "the work beside the leaders got no turn");
                assert!(share(20, 1, &|_| (0..2_000).for_each(|i| _ = std::hint::black_box(i))));
            }
        };
        thread::scope(|scope| {
            for _ in 0..leaders {
                scope.spawn(|| pool.install(lead));
            }
            assert!(wait_for(|| leading.load(Relaxed) == leaders, Duration::from_secs(60)));
            thread::sleep(Duration::from_millis(20)); // until their helpers have come
            work(&pool);
            done.store(true, Relaxed);
        });
    }

    #[test]
    fn work_from_outside_gets_its_turn() {
        beside_leaders(2, 1, |pool| (0..20).for_each(|_| pool.install(|| ())));
        beside_leaders(3, 2, |pool| (0..2_500).for_each(|_| pool.install(|| ())));
        beside_leaders(5, 2, |pool| (0..20).for_each(|_| pool.install(|| ())));
    }

    /// They need every thread, leaders too.
    #[test]
    fn broadcasts_get_their_turn() {
        beside_leaders(2, 1, |pool| assert_eq!(pool.broadcast(|_| 1).len(), 2));
        beside_leaders(3, 2, |pool| assert_eq!(pool.broadcast(|_| 1).len(), 3));
        in_pool(2, || {
            for _ in 0..20 {
                assert!(share(2, 1, &|i| {
                    if i == 1 {
                        thread::sleep(Duration::from_millis(1)); // the other one is done by then
                        rayon::broadcast(|_| ());
                    }
                }));
            }
        });
    }

    /// A value that is dropped at a thread's end may run loops, too.
    #[test]
    fn loops_run_at_a_threads_end() {
        struct Last;
        impl Drop for Last {
            fn drop(&mut self) {
                par::tasks(2, 1e6, |_| ());
            }
        }
        thread_local!(static LAST: Last = const { Last });
        for first in [true, false] {
            let work = move || {
                if first {
                    LAST.with(|_| ());
                }
                par::tasks(2, 1e6, |_| ());
                LAST.with(|_| ());
            };
            thread::spawn(work).join().unwrap();
        }
    }
}
