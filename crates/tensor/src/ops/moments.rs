//! Sums over many elements, lane by lane, that several ops share.

use crate::lanes::{Job, Lanes, sums};
use crate::{Element, Float};

/// How many numbers there are, their mean, and the sum of their squared distances from it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moments {
    pub(crate) count: f64,
    pub(crate) mean: f64,
    pub(crate) squares: f64,
}

/// Of numbers that fit in the first cache, which are read twice.
///
/// # Safety
/// The instructions of `L` exist.
#[inline(always)]
pub(crate) unsafe fn moments<L: Lanes>(x: &[L::Item]) -> Moments {
    // SAFETY: promised by the caller.
    unsafe {
        let [sum] = sums::<L, 1, 1>(
            [x],
            #[inline(always)]
            |x| x,
        );
        let (count, mean) = (x.len() as f64, sum / x.len() as f64);
        let middle = L::splat(L::Item::from_f64(mean));
        let [squares] = sums(
            [x],
            #[inline(always)]
            |[x]: [L; 1]| {
                let apart = x.sub(middle);
                [apart.mul(apart)]
            },
        );
        Moments { count, mean, squares }
    }
}

impl Moments {
    /// Those of all numbers of both.
    ///
    /// # Reference
    /// Chan, Golub & LeVeque (1979), "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances".
    pub(crate) fn join(self, other: Self) -> Self {
        let count = self.count + other.count;
        let (apart, share) = (other.mean - self.mean, other.count / count);
        Self {
            count,
            mean: self.mean + apart * share,
            squares: self.squares + other.squares + apart * apart * self.count * share,
        }
    }
}

/// [`moments`] of all that there is, as a job.
pub(crate) struct OfMoments<'a, T>(pub(crate) &'a [T]);

impl<T: Float> Job<T> for OfMoments<'_, T> {
    type Output = Moments;

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = T>>(self) -> Moments {
        // SAFETY: promised by the caller.
        unsafe { moments::<L>(self.0) }
    }
}

/// The sum of all elements.
pub(crate) struct Sum<'a, T>(pub(crate) &'a [T]);

impl<T: Float> Job<T> for Sum<'_, T> {
    type Output = f64;

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = T>>(self) -> f64 {
        // SAFETY: promised by the caller.
        let [sum] = unsafe {
            sums::<L, 1, 1>(
                [self.0],
                #[inline(always)]
                |x| x,
            )
        };
        sum
    }
}

/// `Σ a · b`
pub(crate) struct Dot<'a, T>(pub(crate) &'a [T], pub(crate) &'a [T]);

impl<T: Float> Job<T> for Dot<'_, T> {
    type Output = f64;

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = T>>(self) -> f64 {
        // SAFETY: promised by the caller.
        let [sum] = unsafe {
            sums::<L, 2, 1>(
                [self.0, self.1],
                #[inline(always)]
                |[a, b]| [a.mul(b)],
            )
        };
        sum
    }
}
