//! Runs the cases of a family and measures how far each result is from PyTorch's.

use crate::entry::Found;
use crate::{Case, Entry, Result};
use maplet_tensor::{DType, Tensor};
use std::collections::BTreeMap;

/// What came of one entry.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The number of its cases.
    pub cases: usize,
    /// The largest difference in F32, in units of the tolerance; `None` if it is not run in F32.
    pub single: Option<f64>,
    /// The same in F64.
    pub double: Option<f64>,
    /// Everything that is wrong, a line each.
    pub wrong: Vec<String>,
}

/// Runs all cases of one entry.
pub fn check(entry: &Entry, cases: &[Case]) -> Outcome {
    let mut outcome = Outcome::default();
    for case in cases.iter().filter(|case| case.entry == entry.name) {
        outcome.cases += 1;
        for &dtype in entry.dtypes {
            let (tolerance, worst) = match dtype {
                DType::F64 => (1e-10, &mut outcome.double),
                _ => (entry.tolerance, &mut outcome.single),
            };
            match (entry.run)(case, dtype).and_then(|found| compare(&found, &case.expected())) {
                Ok((difference, name)) => {
                    *worst = Some(worst.unwrap_or(0.0).max(difference / tolerance));
                    if difference > tolerance {
                        let line =
                            format!("{}/{} in {dtype}: {name} differs by {difference:.3e}", entry.name, case.name);
                        outcome.wrong.push(line);
                    }
                }
                Err(error) => outcome.wrong.push(format!("{}/{} in {dtype}: {error}", entry.name, case.name)),
            }
        }
    }
    if outcome.cases == 0 {
        outcome.wrong.push(format!("{} has no case", entry.name));
    }
    outcome
}

/// The largest difference, relative to the largest element of its tensor, and where it is.
fn compare(found: &Found, expected: &BTreeMap<&str, &Tensor>) -> Result<(f64, String)> {
    if expected.is_empty() {
        return Err("the reference file has nothing to compare with".into());
    }
    let mut worst = (0.0, String::new());
    if let Some((name, _)) = found.iter().find(|(name, _)| !expected.contains_key(name.as_str())) {
        return Err(format!("we make `{name}`, PyTorch does not").into());
    }
    for (&name, expected) in expected {
        let Some((_, found)) = found.iter().find(|(found, _)| found == name) else {
            return Err(format!("PyTorch makes `{name}`, we do not").into());
        };
        let difference = difference(found, expected).map_err(|what| format!("{name}: {what}"))?;
        if difference > worst.0 {
            worst = (difference, name.to_string());
        }
    }
    Ok(worst)
}

/// Relative to the largest finite element of `expected`, or absolute if that is 0; not-a-numbers and infinities must be
/// the same.
fn difference(found: &Tensor, expected: &Tensor) -> std::result::Result<f64, String> {
    if found.shape() != expected.shape() {
        return Err(format!("we make {}, PyTorch {}", found.shape(), expected.shape()));
    }
    if found.dtype().is_float() != expected.dtype().is_float() {
        return Err(format!("we make {}, PyTorch {}", found.dtype(), expected.dtype()));
    }
    let numbers = |tensor: &Tensor| tensor.to_dtype(DType::F64).to_vec::<f64>().map_err(|error| error.to_string());
    let (found, expected) = (numbers(found)?, numbers(expected)?);
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0f64, |most, x| most.max(x.abs()));
    let scale = if largest > 0.0 { largest } else { 1.0 };
    let mut worst = 0.0f64;
    for (at, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
        if expected.is_finite() && found.is_finite() {
            worst = worst.max((found - expected).abs() / scale);
        } else if found != expected && !(found.is_nan() && expected.is_nan()) {
            return Err(format!("element {at} is {found}, PyTorch's {expected}"));
        }
    }
    Ok(worst)
}

/// The test of a family: every entry has cases, every case an entry, and all are inside their tolerance.
#[cfg(test)]
pub(crate) fn assert_family(name: &str, entries: &[Entry]) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("references/{name}.safetensors"));
    let (cases, _) = Case::read(&file).unwrap();
    let mut wrong: Vec<String> = entries.iter().flat_map(|entry| check(entry, &cases).wrong).collect();
    for case in &cases {
        if !entries.iter().any(|entry| entry.name == case.entry) {
            wrong.push(format!("{}/{} has no entry", case.entry, case.name));
        }
    }
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
}

#[cfg(test)]
mod differences {
    use super::*;

    #[test]
    fn need_the_same_results_on_both_sides_and_one_at_least() {
        let (x, y) = (Tensor::from([1.0f64]), Tensor::from([2.0f64]));
        let run = |found: &[&str], expected: &[&'static str]| {
            let found: Found = found.iter().map(|name| (name.to_string(), x.clone())).collect();
            compare(&found, &expected.iter().map(|&name| (name, &y)).collect()).map_err(|error| error.to_string())
        };
        assert_eq!(run(&["out.0"], &["out.0"]), Ok((0.5, "out.0".into())));
        assert_eq!(run(&[], &[]), Err("the reference file has nothing to compare with".into()));
        assert_eq!(run(&[], &["out.0"]), Err("PyTorch makes `out.0`, we do not".into()));
        assert_eq!(run(&["out.0", "din.0"], &["out.0"]), Err("we make `din.0`, PyTorch does not".into()));
    }

    #[test]
    fn are_relative_to_the_largest_element() {
        let expected = Tensor::from([4.0f64, 0.0]);
        assert_eq!(difference(&Tensor::from([4.0f64, 1.0]), &expected), Ok(0.25));
        assert_eq!(difference(&Tensor::from([0.5f64]), &Tensor::from([0.0f64])), Ok(0.5));
        let (nan, infinity) = (f64::NAN, f64::INFINITY);
        assert_eq!(difference(&Tensor::from([nan, infinity]), &Tensor::from([nan, infinity])), Ok(0.0));
        for (found, expected) in [(nan, 1.0), (1.0, nan), (infinity, -infinity), (1.0, infinity)] {
            assert!(difference(&Tensor::from([found]), &Tensor::from([expected])).is_err());
        }
        assert!(difference(&Tensor::from([1.0f64]), &Tensor::from([[1.0f64]])).is_err());
        assert!(difference(&Tensor::from([1i64]), &Tensor::from([1.0f64])).is_err());
    }
}
