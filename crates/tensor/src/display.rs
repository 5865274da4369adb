//! How tensors are written out: as NumPy writes arrays.

use crate::dtype::dispatch;
use crate::{DType, Shape, Tensor};
use std::fmt;

/// Tensors with more elements are elided.
const LIMIT: usize = 1000;
/// Places that stay at each end of an elided axis.
const EDGE: usize = 3;
/// Columns of a line.
const WIDTH: usize = 75;
/// Digits after the point, at most.
const PRECISION: usize = 8;

/// The values in nested brackets, aligned; the element type follows if it is not `f32`.
///
/// ```
/// # use maplet_tensor::Tensor;
/// let x = Tensor::from([[1.0f32, -2.5], [0.125, 3.0]]);
/// assert_eq!(x.to_string(), "[[ 1.    -2.5  ]\n [ 0.125  3.   ]]");
/// assert_eq!(Tensor::from([7i64, 12]).to_string(), "[ 7 12] i64");
/// ```
impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&values(self))?;
        if self.dtype() == DType::F32 { Ok(()) } else { write!(f, " {}", self.dtype()) }
    }
}

/// Element type, shape and values: `Tensor(f32 [2] [1. 2.])`.
impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = values(self);
        let gap = if values.contains('\n') { '\n' } else { ' ' };
        write!(f, "Tensor({} {}{gap}{values})", self.dtype(), self.shape())
    }
}

fn values(x: &Tensor) -> String {
    if x.is_empty() {
        return "[]".into();
    }
    if x.rank() == 0 {
        return dispatch!(x.dtype(), T => format!("{:?}", x.slice_of::<T>()[0]));
    }
    let mut places = Vec::new();
    let page = Page { shape: x.shape(), elided: x.len() > LIMIT };
    page.places(0, 0, &mut places);
    let words = dispatch!(x.dtype(), T => {
        let elements = x.slice_of::<T>();
        let texts = places.iter().map(|&at| (format!("{}", elements[at]), format!("{:e}", elements[at])));
        match x.dtype().is_float() {
            true => align(float_words(texts.collect())),
            false => align(texts.map(|text| text.0).collect()),
        }
    });
    let mut text = String::new();
    page.write(0, &mut words.into_iter(), &mut text);
    text
}

/// What of a shape is shown.
struct Page {
    shape: Shape,
    elided: bool,
}

impl Page {
    /// The places of an axis that are shown; `None` stands for dots.
    fn shown(&self, axis: usize) -> Vec<Option<usize>> {
        let size = self.shape[axis];
        if self.elided && size > 2 * EDGE {
            (0..EDGE).map(Some).chain([None]).chain((size - EDGE..size).map(Some)).collect()
        } else {
            (0..size).map(Some).collect()
        }
    }

    /// The elements that are shown, in order, as places in the row-major order.
    fn places(&self, axis: usize, start: usize, places: &mut Vec<usize>) {
        if axis == self.shape.rank() {
            return places.push(start);
        }
        let stride: usize = self.shape[axis + 1..].iter().product();
        self.shown(axis).into_iter().flatten().for_each(|i| self.places(axis + 1, start + i * stride, places));
    }

    /// The elements' words in brackets.
    fn write(&self, axis: usize, words: &mut impl Iterator<Item = String>, text: &mut String) {
        if axis == self.shape.rank() {
            return text.extend(words.next());
        }
        text.push('[');
        let innermost = axis + 1 == self.shape.rank();
        for (i, place) in self.shown(axis).into_iter().enumerate() {
            let word = match place {
                None => Some("...".to_string()),
                Some(_) if innermost => words.next(),
                Some(_) => None,
            };
            if i > 0 {
                // A line for each innermost row, a blank line more for each axis further out.
                let column = text.chars().rev().take_while(|&c| c != '\n').count();
                let breaks = match (innermost, &word) {
                    (true, Some(word)) => usize::from(column + 1 + word.len() >= WIDTH),
                    _ => self.shape.rank() - 1 - axis,
                };
                match breaks {
                    0 => text.push(' '),
                    _ => text.extend(["\n".repeat(breaks), " ".repeat(axis + 1)]),
                }
            }
            match word {
                Some(word) => text.push_str(&word),
                None => self.write(axis + 1, words, text),
            }
        }
        text.push(']');
    }
}

/// Floats with the fewest digits that tell them apart, at most [`PRECISION`] after the point, points below each other.
/// In scientific notation where ordinary notation would be long, by NumPy's rule.
fn float_words(texts: Vec<(String, String)>) -> Vec<String> {
    let sizes = || {
        texts.iter().filter_map(|text| text.1.parse::<f64>().ok()).map(f64::abs).filter(|x| *x > 0.0 && x.is_finite())
    };
    let (greatest, least) = (sizes().fold(0.0, f64::max), sizes().fold(f64::INFINITY, f64::min));
    let scientific = greatest >= 1e8 || least < 1e-4 || greatest / least > 1000.0;
    let parts: Vec<_> = texts.iter().map(|text| Parts::new(if scientific { &text.1 } else { &text.0 })).collect();
    let digits = parts.iter().map(|parts| parts.fraction.len()).max().unwrap_or(0);
    let word = |parts: &Parts| match (&parts.exponent, parts.finite) {
        (_, false) => parts.whole.clone(),
        (None, _) => format!("{}.{:<digits$}", parts.whole, parts.fraction),
        (Some(exponent), _) => format!("{}.{:0<digits$}e{exponent}", parts.whole, parts.fraction),
    };
    parts.iter().map(word).collect()
}

/// A number's text, taken apart.
struct Parts {
    whole: String,
    fraction: String,
    exponent: Option<String>,
    finite: bool,
}

impl Parts {
    fn new(text: &str) -> Self {
        if !text.ends_with(|last: char| last.is_ascii_digit()) {
            return Self { whole: text.to_lowercase(), fraction: String::new(), exponent: None, finite: false };
        }
        let (number, exponent) = text.split_once('e').map_or((text, None), |(number, e)| (number, Some(e)));
        let fraction =
            |number: &str| number.split_once('.').map_or(String::new(), |(_, fraction)| fraction.to_string());
        let mut number = number.to_string();
        if fraction(&number).len() > PRECISION {
            let value: f64 = number.parse().expect("a number's own text");
            number = format!("{value:.PRECISION$}").trim_end_matches('0').to_string();
        }
        let exponent = exponent.map(|e| {
            let e: i32 = e.parse().expect("an exponent is an integer");
            format!("{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
        });
        let fraction = fraction(&number);
        let whole = number.split('.').next().unwrap_or_default().to_string();
        Self { whole, fraction, exponent, finite: true }
    }
}

/// All words as wide as the widest, flush right.
fn align(words: Vec<String>) -> Vec<String> {
    let width = words.iter().map(String::len).max().unwrap_or(0);
    words.into_iter().map(|word| format!("{word:>width$}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected texts are those of NumPy 2 for the same values.

    #[test]
    fn numbers_look_as_in_numpy() {
        let text = |x: &[f32]| Tensor::from_slice(x, [x.len()]).unwrap().to_string();
        assert_eq!(text(&[1.0, 2.0]), "[1. 2.]");
        assert_eq!(text(&[1.5, 2.25]), "[1.5  2.25]");
        assert_eq!(text(&[-1.0, 10.5]), "[-1.  10.5]");
        assert_eq!(text(&[0.1, 1.0 / 3.0]), "[0.1        0.33333334]");
        assert_eq!(text(&[1e-5, 1.0]), "[1.e-05 1.e+00]");
        assert_eq!(text(&[1.5e-5, 1.0]), "[1.5e-05 1.0e+00]");
        assert_eq!(text(&[1e8, 1.0]), "[1.e+08 1.e+00]");
        assert_eq!(text(&[0.0, 12345.0]), "[    0. 12345.]");
        assert_eq!(text(&[f32::NAN, 1.5, f32::NEG_INFINITY]), "[ nan  1.5 -inf]");
        assert_eq!(text(&[f32::NAN, 1e-5]), "[   nan 1.e-05]");
        assert_eq!(text(&[123456.79, 100000.0]), "[123456.79 100000.  ]");
        assert_eq!(text(&[1.17e-38, 0.0]), "[1.17e-38 0.00e+00]");
        assert_eq!(text(&[]), "[]");
        assert_eq!(Tensor::from([1.0f64 / 3.0]).to_string(), "[0.33333333] f64");
    }

    #[test]
    fn axes_become_brackets() {
        assert_eq!(Tensor::scalar(2.5f32).to_string(), "2.5");
        assert_eq!(Tensor::scalar(3.0f32).to_string(), "3.0");
        assert_eq!(Tensor::zeros([2, 0], DType::F32).to_string(), "[]");
        assert_eq!(Tensor::from([[1i64, 2], [30, 4]]).to_string(), "[[ 1  2]\n [30  4]] i64");
        let x = Tensor::arange(0u8, 8, 1).unwrap().reshape([2, 2, 2]).unwrap();
        assert_eq!(x.to_string(), "[[[0 1]\n  [2 3]]\n\n [[4 5]\n  [6 7]]] u8");
    }

    #[test]
    fn large_tensors_are_elided_and_long_rows_broken() {
        let x = Tensor::arange(0i64, 1001, 1).unwrap();
        assert_eq!(x.to_string(), "[   0    1    2 ...  998  999 1000] i64");
        let x = Tensor::arange(0i64, 2000, 1).unwrap().reshape([1000, 2]).unwrap();
        let text = "[[   0    1]\n [   2    3]\n [   4    5]\n ...\n [1994 1995]\n [1996 1997]\n [1998 1999]] i64";
        assert_eq!(x.to_string(), text);
        let text = Tensor::arange(0i64, 40, 1).unwrap().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "[ 0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18 19 20 21 22 23");
        assert_eq!(lines[1], " 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39] i64");
    }

    #[test]
    fn debug_adds_type_and_shape() {
        assert_eq!(format!("{:?}", Tensor::from([1.0f32, 2.0])), "Tensor(f32 [2] [1. 2.])");
        assert_eq!(format!("{:?}", Tensor::from([[1u8], [2]])), "Tensor(u8 [2, 1]\n[[1]\n [2]])");
    }
}
