//! The dense layer on a weight that is packed once, or read as it is where there are few rows.

use super::{Pointwise, tasks};
use crate::ops::matmul::check_bias;
use crate::panels::{Panels, pack};
use crate::par::Shared;
use crate::product::{Matrix, Onto};
use crate::tile::{panel_width, tile_rows};
use crate::vector_product::{MOST_ROWS, dots};
use crate::{DType, Error, Result, Tensor};

/// `then(x · weightᵀ + bias)`.
pub struct FrozenLinear {
    weight: Tensor,
    /// Whether the weight is in panels of `[in, width]`, for many rows; else it is `[out, in]`.
    in_panels: bool,
    size: [usize; 2],
    bias: Option<Tensor>,
    then: Option<Pointwise>,
}

impl FrozenLinear {
    /// For at most so many rows at a call: few read the weight as it is and share its memory, many have it in panels.
    ///
    /// # Shapes
    /// - `weight: [out, in]`, `bias: [out]`
    ///
    /// # Errors
    /// Shapes that do not fit, or weights that are not `f32`.
    pub fn new(rows: usize, weight: &Tensor, bias: Option<&Tensor>, then: Option<Pointwise>) -> Result<Self> {
        const OP: &str = "frozen_linear";
        let [n, k] = weight.dims(OP)?;
        if let Some(bias) = bias {
            weight.same_dtype(OP, bias)?;
            check_bias(OP, bias, n)?;
        }
        if weight.dtype() != DType::F32 {
            return Err(Error::dtype(OP, format!("expects f32, got {}", weight.dtype()), "convert with to_dtype"));
        }
        let in_panels = rows > MOST_ROWS && n * k > 0;
        let weight = match in_panels {
            true => pack(k, n, Matrix::new(weight.slice_of::<f32>(), k, true)),
            false => weight.clone(),
        };
        Ok(Self { weight, in_panels, size: [k, n], bias: bias.cloned(), then })
    }

    /// The elements of a row of the input, and of the output.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Nanoseconds for a row, about, when there are many.
    pub fn cost(&self) -> f64 {
        (self.size[0] * self.size[1]) as f64 * 0.02
    }

    /// Writes the output of all rows in `x` to `y`.
    ///
    /// # Panics
    /// If the slices do not hold the same number of whole rows.
    pub fn run(&self, x: &[f32], y: &mut [f32], alone: bool) {
        let [k, n] = self.size;
        let m = y.len() / n.max(1);
        assert!(x.len() == m * k && y.len() == m * n, "whole rows");
        let onto = self.bias.as_ref().map_or(Onto::Nothing, |bias| Onto::Row(bias.slice_of::<f32>()));
        if self.in_panels {
            self.run_panels(m, x, onto, y, alone);
        } else {
            let (a, b) = (Matrix::new(x, k, false), Matrix::new(self.weight.slice_of::<f32>(), k, true));
            dots([m, k, n], a, b, onto, y, alone);
            if let Some(then) = self.then {
                then.apply(y);
            }
        }
    }

    fn run_panels(&self, m: usize, x: &[f32], onto: Onto<'_, f32>, y: &mut [f32], alone: bool) {
        let ([k, n], width) = (self.size, panel_width::<f32>());
        let panels = Panels::packed(self.weight.slice_of::<f32>(), k);
        // A task is about a million multiply-adds: first rows of one panel, then several panels.
        let rows = (1_000_000 / (k * width)).clamp(tile_rows::<f32>(), 256).next_multiple_of(tile_rows::<f32>()).min(m);
        let group = (1_000_000 / (k * width * rows).max(1)).clamp(1, n.div_ceil(width));
        let (rows, group) = if alone { (m, n.div_ceil(width)) } else { (rows, group) };
        let grid = [m.div_ceil(rows.max(1)), n.div_ceil(width).div_ceil(group)];
        let cost = self.cost() * (rows * group * width) as f64 / n as f64;
        let y = Shared::new(y);
        tasks(grid[0] * grid[1], cost, alone, |task| {
            let (i0, p0) = (task / grid[1] * rows, task % grid[1] * group);
            let (count, columns) = (rows.min(m - i0), p0 * width..n.min((p0 + group) * width));
            let a = Matrix::new(&x[i0 * k..], k, false);
            let c = y.start().wrapping_add(i0 * n);
            // SAFETY: x and the panels hold every element by the assertions, the task's columns of y are its alone.
            unsafe { panels.multiply(count, a, p0..p0 + group, 0..k, n, c, onto) };
            if let Some(then) = self.then {
                // SAFETY: each task has columns of its own in each of its rows.
                let part = |i: usize| unsafe { y.slice((i0 + i) * n + columns.start, columns.len()) };
                (0..count).for_each(|i| then.apply(part(i)));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, Rng};

    /// Against the op, whose sums run in another order: `k · ε` of numbers below 1.
    #[test]
    fn equals_the_op() {
        let mut rng = Rng::new(3);
        for [m, k, n] in [[1, 784, 10], [1, 5, 3], [8, 33, 40], [9, 33, 1], [40, 300, 70], [33, 1, 5], [100, 700, 33]] {
            let [x, weight, bias] =
                [[m, k], [n, k], [1, n]].map(|shape| Tensor::uniform(shape, -1.0f32, 1.0, &mut rng));
            let bias = bias.reshape([n]).unwrap();
            let want = x.linear(&weight, Some(&bias), Activation::Relu).unwrap();
            let frozen = FrozenLinear::new(m, &weight, Some(&bias), Some(Pointwise::Relu)).unwrap();
            for alone in [true, false] {
                let mut y = vec![9.0; m * n];
                frozen.run(x.slice_of(), &mut y, alone);
                for (y, want) in y.iter().zip(want.slice_of::<f32>()) {
                    assert!((y - want).abs() <= (k + 1) as f32 * f32::EPSILON, "{m} × {k} × {n}: {y} against {want}");
                }
            }
        }
    }

    #[test]
    fn misfits_are_explained() {
        let zeros = |dtype| Tensor::zeros([2, 3], dtype);
        let text = |weight: &Tensor, bias| FrozenLinear::new(1, weight, bias, None).err().unwrap().to_string();
        let wide = Tensor::zeros([3], DType::F32);
        let expected = "frozen_linear: bias is [3], the weight has 2 outputs; help: the bias must be [2]";
        assert_eq!(text(&zeros(DType::F32), Some(&wide)), expected);
        let expected = "frozen_linear: expects f32, got f64; help: convert with to_dtype";
        assert_eq!(text(&zeros(DType::F64), None), expected);
    }
}
