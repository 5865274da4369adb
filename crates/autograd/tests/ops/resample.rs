//! Interpolation, sampling on grids, folding.

use super::table::{Case, sample};
use maplet_autograd::{Interpolation, Resize, Taps};

pub(crate) fn cases() -> Vec<Case> {
    let taps = Taps::new(3, [(1, vec![2.0, -1.0]), (0, vec![0.5, 0.25, 3.0]), (3, vec![])]).unwrap();
    let mut cases = vec![];
    for axis in [1, -1] {
        let taps = taps.clone();
        cases.push(Case::new("resample", &[&sample(&[2, 3, 3])], move |x| x[0].resample(axis, &taps)));
    }
    let (x, volume) = (sample(&[2, 1, 3, 4]), sample(&[1, 2, 2, 3, 2]));
    for mode in [Interpolation::Nearest, Interpolation::NearestExact, Interpolation::Area] {
        cases.push(Case::new("interpolate", &[&x], move |x| x[0].interpolate([5, 2], mode, false)));
    }
    for mode in [Interpolation::Linear, Interpolation::Cubic] {
        for corners in [false, true] {
            cases.push(Case::new("interpolate", &[&x], move |x| x[0].interpolate([7, 3], mode, corners)));
            let by = Resize::Scale([1.5, 2.0, 1.0]);
            cases.push(Case::new("interpolate", &[&volume], move |x| x[0].interpolate(by, mode, corners)));
        }
    }
    cases.push(Case::new("interpolate", &[&sample(&[1, 2, 3])], |x| {
        x[0].interpolate([2.5], Interpolation::Linear, false)
    }));
    cases
}
