//! Interpolation in all modes, by sizes and by factors.

use crate::{Entry, Result};
use maplet_nn_layers::Upsample;
use maplet_tensor::Resize;

pub(crate) fn entries() -> Vec<Entry> {
    vec![entry::<1>("Upsample1d"), entry::<2>("Upsample2d"), entry::<3>("Upsample3d")]
}

fn entry<const D: usize>(name: &'static str) -> Entry {
    Entry::layer(name, |case| {
        let factors: Option<Vec<f64>> = case.optional("scale_factor")?;
        let to = match factors {
            Some(factors) => Resize::Scale(axes::<f64, D>(factors)?),
            None => Resize::Size(axes(case.get("size")?)?),
        };
        Ok(Upsample::new(to, case.get("mode")?)?.align_corners(case.get("align_corners")?))
    })
    .note(
        "Where a factor leaves a size as it is or just doubles it, PyTorch's forward and backward of `nearest` disagree; \
         ours are its backward's",
    )
}

fn axes<T, const D: usize>(numbers: Vec<T>) -> Result<[T; D]> {
    numbers.try_into().map_err(|numbers: Vec<T>| format!("{} numbers for {D} axes", numbers.len()).into())
}
