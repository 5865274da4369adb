//! What the machine can do at this minute: its peaks on one core and on several, how long a cache line takes from one
//! core to another, and how busy it is. Shared machines change in all of it.

use std::fs;
use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread::{self, available_parallelism, sleep};
use std::time::{Duration, Instant};

use maplet::tensor::peak::{multiply_add, triad};

/// The most that some threads, each on a core of its own, were seen to do.
pub struct Peak {
    /// How many.
    pub threads: usize,
    /// Arithmetic in registers, in `f32`: billions of operations a second.
    pub gflops: f64,
    /// The triad in each level of the memory, the nearest first.
    pub triads: Vec<Triad>,
}

/// How fast one level of the memory is.
pub struct Triad {
    /// Bytes that it holds for all these threads together; `None` for what holds everything.
    pub holds: Option<usize>,
    /// Billions of bytes a second that are read or written.
    pub gbs: f64,
}

/// Peaks of one core, of two, and of as many as the thread pool has, as far as there are so many.
pub fn peaks(pool: usize) -> Vec<Peak> {
    let cores = available_parallelism().map_or(1, usize::from);
    let mut counts = vec![1, 2.min(cores), pool.min(cores)];
    counts.sort();
    counts.dedup();
    counts.into_iter().map(peak).collect()
}

fn peak(threads: usize) -> Peak {
    // Half of a cache, so that nothing falls out of it; and four times the last one, so that little stays.
    let (l2, l3) = (cache(2).unwrap_or(512 << 10) * threads, cache(3).unwrap_or(16 << 20));
    let memory = (4 * l3).clamp(128 << 20, 1 << 30);
    let triads = [(Some(l2), l2 / 2), (Some(l3), l3 / 2), (None, memory)];
    Peak {
        threads,
        gflops: best_rate(threads, || (), |()| multiply_add(10_000)) / 1e9,
        triads: triads.map(|(holds, bytes)| Triad { holds, gbs: triad_gbs(threads, bytes) }).into(),
    }
}

/// The triad over three arrays that have so many bytes together, shared among the threads.
fn triad_gbs(threads: usize, bytes: usize) -> f64 {
    let len = bytes / threads / 3 / size_of::<f32>();
    let arrays = || [(); 3].map(|()| vec![1.0f32; len]);
    let once = |[a, b, c]: &mut [Vec<f32>; 3]| {
        triad(a, black_box(b), black_box(c), 0.5);
        3 * len * size_of::<f32>()
    };
    best_rate(threads, arrays, once) / 1e9
}

/// What `work` returns, per second, added over the threads, in the best of some rounds; each thread has its own data.
fn best_rate<D>(threads: usize, data: impl Fn() -> D + Sync, work: impl Fn(&mut D) -> usize + Sync) -> f64 {
    const ROUNDS: usize = 5;
    const LONG: Duration = Duration::from_millis(20);
    let start = Barrier::new(threads);
    let rates = |_| {
        let mut data = data();
        work(&mut data);
        let round = |_| {
            start.wait();
            let (begin, mut done) = (Instant::now(), 0);
            while begin.elapsed() < LONG || done == 0 {
                done += work(&mut data);
            }
            done as f64 / begin.elapsed().as_secs_f64()
        };
        (0..ROUNDS).map(round).collect::<Vec<f64>>()
    };
    let all: Vec<Vec<f64>> = thread::scope(|scope| {
        let rates = &rates;
        let others: Vec<_> = (1..threads).map(|i| scope.spawn(move || rates(i))).collect();
        [rates(0)].into_iter().chain(others.into_iter().filter_map(|other| other.join().ok())).collect()
    });
    let sums = (0..ROUNDS).map(|round| all.iter().map(|rates| rates[round]).sum());
    sums.fold(0.0, f64::max)
}

/// Bytes of the cache of this level that the first core uses; Linux tells.
fn cache(level: usize) -> Option<usize> {
    (0..8).find_map(|index| {
        let read = |name| fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}")).ok();
        let right = read("level")?.trim().parse() == Ok(level) && read("type")?.trim() != "Instruction";
        right.then(|| bytes(read("size")?.trim())).flatten()
    })
}

/// Of a text such as `1024K`.
fn bytes(text: &str) -> Option<usize> {
    let number = |letter, scale: usize| Some(text.strip_suffix(letter)?.parse::<usize>().ok()? * scale);
    number('K', 1 << 10).or_else(|| number('M', 1 << 20)).or_else(|| text.parse().ok())
}

/// How many processes wanted to run in the last minute, on average; Linux tells.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// How many cores others keep busy, while this process sleeps for a moment; Linux tells.
pub fn busy_cores() -> Option<f64> {
    let before = ticks(&fs::read_to_string("/proc/stat").ok()?)?;
    sleep(Duration::from_millis(300));
    let text = fs::read_to_string("/proc/stat").ok()?;
    let after = ticks(&text)?;
    let cores = text.lines().filter(|line| line.starts_with("cpu")).count() - 1; // the first line is of all cores
    let (busy, all) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    (all > 0).then(|| busy as f64 / all as f64 * cores as f64)
}

/// Ticks of all cores that the system has counted as busy, and in all: the first line of `/proc/stat`.
fn ticks(text: &str) -> Option<(u64, u64)> {
    let numbers: Vec<u64> = text.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    let all: u64 = numbers.iter().take(8).sum(); // what follows are guests, which are counted already
    Some((all - numbers.get(3)? - numbers.get(4)?, all))
}

/// Nanoseconds that a cache line needs from one thread to another and back, in the best of some rounds: in others the
/// two threads first had to be given a core each.
///
/// Shared machines differ in this from minute to minute, by a factor of five, and small parallel steps with it: a
/// figure without it says little. `None` on a single core.
pub fn round_trip_ns() -> Option<f64> {
    const TRIPS: u32 = 2_000;
    if available_parallelism().map_or(1, usize::from) < 2 {
        return None;
    }
    let round = |_| {
        let ball = AtomicU32::new(0);
        thread::scope(|scope| {
            scope.spawn(|| hit(&ball, 1, TRIPS));
            let start = Instant::now();
            hit(&ball, 0, TRIPS);
            start.elapsed().as_secs_f64() * 1e9 / f64::from(TRIPS)
        })
    };
    (0..5).map(round).min_by(f64::total_cmp)
}

/// Returns the ball whenever it shows `side`, modulo two, until it was returned `trips` times.
fn hit(ball: &AtomicU32, side: u32, trips: u32) {
    for trip in 0..trips {
        let mut spins = 0;
        while ball.load(SeqCst) != 2 * trip + side {
            match spins < 10_000 {
                true => spin_loop(),
                false => thread::yield_now(), // the other one has no core: the machine is overloaded
            }
            spins += 1;
        }
        ball.store(2 * trip + side + 1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ball_comes_back() {
        assert!(round_trip_ns().is_none_or(|nanoseconds| nanoseconds > 0.0));
    }

    #[test]
    fn rates_of_threads_add_up() {
        let rate = |threads| best_rate(threads, || (), |()| std::hint::black_box(1));
        assert!(rate(1) > 0.0 && rate(3) > 0.0);
        assert!(triad_gbs(1, 3 << 10) > 0.0);
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(
            [bytes("1024K"), bytes("32M"), bytes("7"), bytes("?")],
            [Some(1 << 20), Some(32 << 20), Some(7), None]
        );
    }

    #[test]
    fn the_load_is_a_number() {
        assert!(load().is_none_or(|load| load >= 0.0));
        assert!(busy_cores().is_none_or(|busy| busy >= 0.0));
        // user nice system idle iowait irq softirq steal guest guest_nice
        assert_eq!(ticks("cpu  10 1 2 70 7 3 4 3 5 0\ncpu0 …"), Some((23, 100)));
    }
}
