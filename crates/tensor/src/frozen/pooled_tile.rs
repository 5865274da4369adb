//! The tile of a convolution under a 2 × 2 max-pool: the four positions of a window stay in registers, and only the
//! greatest leaves them.

use crate::lanes::{Lanes, Plain};
use crate::{Simd, simd};
use std::array::from_fn;

/// Positions in a window.
pub(super) const WINDOW: usize = 4;

/// `best[w, j] = bias[j] + max_p Σ_t a[rows[4w + p] + steps[t]] · B[t, j]` for one panel of `B`.
pub(super) struct PooledTile<'a> {
    pub(super) a: &'a [f32],
    /// The positions, window by window.
    pub(super) rows: &'a [usize],
    pub(super) steps: &'a [usize],
    /// `[steps, width]`, with the width of [`panel_width`](crate::tile::panel_width).
    pub(super) panel: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    /// How many columns there are, at most the width.
    pub(super) columns: usize,
    /// Elements from one window to the next in `best`.
    pub(super) stride: usize,
}

impl PooledTile<'_> {
    /// Writes the columns of all windows.
    ///
    /// # Panics
    /// If the panel, the bias or `best` is shorter than it must be.
    ///
    /// # Safety
    /// Every row's every step lies in `a`.
    pub(super) unsafe fn run(&self, best: &mut [f32]) {
        let windows = self.rows.len() / WINDOW;
        assert!(windows == 0 || (windows - 1) * self.stride + self.columns <= best.len());
        assert!(self.bias.is_none_or(|bias| self.columns <= bias.len()));
        // SAFETY: the instructions exist; the rest is asserted here and in `panel`, or the caller's promise.
        unsafe {
            match simd() {
                #[cfg(target_arch = "x86_64")]
                Simd::Avx512 => x86::avx512(self, best),
                #[cfg(target_arch = "x86_64")]
                Simd::Avx2 => x86::avx2(self, best),
                _ => panel::<Plain<f32>, 1, 1>(self, best),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{PooledTile, panel};
    use crate::lanes::{Avx2, Avx512};

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    pub(super) unsafe fn avx512(tile: &PooledTile<'_>, best: &mut [f32]) {
        // SAFETY: the features are enabled here; the rest is the caller's promise.
        unsafe { panel::<Avx512, 2, 2>(tile, best) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(tile: &PooledTile<'_>, best: &mut [f32]) {
        // SAFETY: as above.
        unsafe { panel::<Avx2, 1, 2>(tile, best) }
    }
}

/// All windows of a panel of `V` vectors, `WINDOWS` at a time.
#[inline(always)]
unsafe fn panel<L: Lanes<Item = f32>, const WINDOWS: usize, const V: usize>(tile: &PooledTile<'_>, best: &mut [f32]) {
    assert!(tile.steps.len() * V * L::WIDTH <= tile.panel.len() && tile.columns <= V * L::WIDTH);
    let lanes = |v: usize| tile.columns.saturating_sub(v * L::WIDTH).min(L::WIDTH);
    // SAFETY: the panel is whole, masked vectors touch `lanes(v)` elements of `best` and the bias, both long enough by
    // the assertions; what is read of `a` is the caller's promise.
    unsafe {
        let start: [L; V] = match tile.bias {
            Some(bias) => from_fn(|v| L::load_first(bias.as_ptr().wrapping_add(v * L::WIDTH), lanes(v))),
            None => [L::splat(0.0); V],
        };
        let windows = tile.rows.len() / WINDOW;
        for w in (0..windows).step_by(WINDOWS) {
            // Windows beyond the last repeat it.
            let a: [[*const f32; WINDOW]; WINDOWS] = from_fn(|i| {
                let rows = &tile.rows[(w + i).min(windows - 1) * WINDOW..];
                from_fn(|p| tile.a.as_ptr().wrapping_add(rows[p]))
            });
            let mut sums = [[start; WINDOW]; WINDOWS];
            let mut b = tile.panel.as_ptr();
            for &at in tile.steps {
                let row: [L; V] = from_fn(|v| L::load(b.add(v * L::WIDTH)));
                for i in 0..WINDOWS {
                    for p in 0..WINDOW {
                        let x = L::splat(*a[i][p].wrapping_add(at));
                        for v in 0..V {
                            sums[i][p][v] = x.mul_add(row[v], sums[i][p][v]);
                        }
                    }
                }
                b = b.add(V * L::WIDTH);
            }
            for (i, sums) in sums.iter().enumerate().take(windows - w) {
                for v in 0..V {
                    let top = sums[0][v].greater(sums[1][v]).greater(sums[2][v].greater(sums[3][v]));
                    let to = best.as_mut_ptr().wrapping_add((w + i) * tile.stride + v * L::WIDTH);
                    if lanes(v) == L::WIDTH { top.store(to) } else { top.store_first(to, lanes(v)) }
                }
            }
        }
    }
}
