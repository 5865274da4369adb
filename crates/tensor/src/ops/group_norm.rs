//! Group norm above its adjoint: every group of channels of every sample has statistics of its own. The formulas are in
//! `norm.rs`.

use super::batch_norm::{DotAndSum, Planes, combine, scale_and_shift};
use super::norm::{COST, RowStats, check_same, sum_rows};
use crate::dtype::dispatch_float;
use crate::lanes::Lanewise;
use crate::{Element, Error, Float, Result, Shape, Tensor, par};

impl Tensor {
    /// `(x − mean) / √(var + eps) · weight + bias`, with the mean and the biased variance of each group of
    /// `c / groups` neighboring channels in each sample.
    ///
    /// Also returns the mean and `1 / √(var + eps)` of each group, `[n · groups, 2]`, for the adjoint.
    ///
    /// # Shapes
    /// - `self: [n, c, ..]`, `weight: [c]`, `bias: [c]`, output: as `self`
    ///
    /// # Errors
    /// Shapes that do not fit, groups that do not divide the channels, types that differ or are not float.
    ///
    /// # Reference
    /// Wu & He (2018), "Group Normalization", eqs. 1–7.
    pub fn group_norm(&self, groups: usize, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
        let at = Groups::new("group_norm", self, groups)?;
        self.check_features("group_norm", Some(1), weight, bias)?;
        dispatch_float!(self.dtype(), "group_norm", T => {
            let x = self.slice_of::<T>();
            let stats = Tensor::build(Shape::from([at.count, 2]), |out: &mut [T]| {
                par::rows(out, 2, at.width as f64 * COST, |first, out| {
                    T::with_lanes(RowStats { out, x: &x[first * at.width..], width: at.width, eps });
                });
            });
            let st = stats.slice_of::<T>();
            let of = |x: &Tensor, channel: usize| x.slice_of::<T>()[channel].as_f64();
            let y = at.planes.build::<T>(self.shape(), |channel, start, out| {
                let [mean, scale] = at.stats(st, start / at.planes.plane);
                let factor = scale * of(weight, channel);
                let shift = of(bias, channel) - mean * factor;
                scale_and_shift(out, &x[start..], T::from_f64(factor), T::from_f64(shift));
            });
            Ok((y, stats))
        })
    }

    /// Adjoint of [`group_norm`](Self::group_norm); `self` is `dy`, `stats` its second output. Gives the gradients of
    /// input, weight and bias that `want` asks for.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    pub fn group_norm_grad(
        &self,
        x: &Tensor,
        groups: usize,
        weight: &Tensor,
        stats: &Tensor,
        want: [bool; 3],
    ) -> Result<[Option<Tensor>; 3]> {
        let at = Groups::new("group_norm_grad", self, groups)?;
        self.check_features("group_norm_grad", Some(1), weight, weight)?;
        check_same("group_norm_grad", self, x)?;
        x.same_dtype("group_norm_grad", stats)?;
        dispatch_float!(self.dtype(), "group_norm_grad", T => {
            let (dy, x) = (self.slice_of::<T>(), x.slice_of::<T>());
            let (w, st) = (weight.slice_of::<T>(), stats.slice_of::<T>());
            let (channels, plane) = (at.planes.channels, at.planes.plane);
            // Of each plane, Σ dy x̂ and Σ dy: all three gradients are made of these.
            let mut sums = vec![[0.0; 2]; at.planes.images * channels];
            par::rows(&mut sums, 1, 2.0 * plane as f64 * COST, |first, sums| {
                for (i, sums) in sums.iter_mut().enumerate() {
                    let (dy, x) = (&dy[(first + i) * plane..][..plane], &x[(first + i) * plane..][..plane]);
                    let [mean, scale] = at.stats(st, first + i);
                    let [along, sum] = T::with_lanes(DotAndSum { dy, x, middle: T::from_f64(mean), relu: None });
                    *sums = [along * scale, sum];
                }
            });
            let dx = want[0].then(|| {
                let weighted = |(plane, [along, level]): (usize, &[f64; 2])| {
                    let w = w[plane % channels].as_f64() / at.width as f64;
                    [along * w, level * w]
                };
                let weighted: Vec<[f64; 2]> = sums.iter().enumerate().map(weighted).collect();
                let add = |[a, b]: [f64; 2], [c, d]: &[f64; 2]| [a + c, b + d];
                let means = weighted.chunks(at.members).map(|group| group.iter().fold([0.0; 2], add));
                let means: Vec<[f64; 2]> = means.collect();
                at.planes.build::<T>(self.shape(), |channel, start, out| {
                    let [mean, scale] = at.stats(st, start / plane);
                    let [along, level] = means[start / plane / at.members];
                    let by_x = -along * scale * scale;
                    let shift = -level * scale - by_x * mean;
                    let by_dy = w[channel].as_f64() * scale;
                    combine(out, &dy[start..], &x[start..], [by_dy, by_x, shift].map(T::from_f64));
                })
            });
            let sum = |part: usize| -> Result<Option<Tensor>> {
                if !want[1 + part] {
                    return Ok(None);
                }
                let total = sum_rows(at.planes.images, channels, channels as f64, |out: &mut [T], from, to| {
                    for image in sums.chunks(channels.max(1)).take(to).skip(from) {
                        out.iter_mut().zip(image).for_each(|(out, sums)| *out += T::from_f64(sums[part]));
                    }
                });
                total.map(Some)
            };
            Ok([dx, sum(0)?, sum(1)?])
        })
    }
}

/// `[n, c, ..]` as `n · groups` rows of `members` planes.
struct Groups {
    planes: Planes,
    /// Channels in a group.
    members: usize,
    /// Groups in all.
    count: usize,
    /// Elements in a group.
    width: usize,
}

impl Groups {
    fn new(op: &'static str, x: &Tensor, groups: usize) -> Result<Self> {
        let planes = Planes::new(op, x)?;
        if groups == 0 || planes.channels % groups != 0 {
            let what = format!("the {} channels of {} do not divide into {groups} groups", planes.channels, x.shape());
            return Err(Error::value(op, what, "use a number of groups that divides the channels"));
        }
        let members = planes.channels / groups;
        Ok(Self { members: members.max(1), count: planes.images * groups, width: members * planes.plane, planes })
    }

    /// Mean and scale of the group that a plane belongs to.
    fn stats<T: Float>(&self, stats: &[T], plane: usize) -> [f64; 2] {
        let group = plane / self.members;
        [stats[2 * group].as_f64(), stats[2 * group + 1].as_f64()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_near, dot, draw, moments, slope};

    #[test]
    fn group_norm_is_its_definition() {
        for (shape, groups) in
            [(&[2usize, 6, 5, 7][..], 3), (&[3, 4], 2), (&[2, 3, 40], 1), (&[2, 3, 4], 3), (&[0, 4, 2], 2)]
        {
            let (x, c) = (draw(shape, 1), shape[1]);
            let (w, b) = (draw(&[c], 2), draw(&[c], 3));
            let (y, stats) = x.group_norm(groups, &w, &b, 0.1).unwrap();
            assert_eq!((y.shape(), stats.shape()), (x.shape(), Shape::from([shape[0] * groups, 2])));
            let (w, b) = (w.to_vec::<f64>().unwrap(), b.to_vec::<f64>().unwrap());
            let plane: usize = shape[2..].iter().product();
            let mut want = Vec::new();
            for (i, row) in x.as_slice::<f64>().unwrap().chunks(c / groups * plane).enumerate() {
                let (mean, var) = moments(row);
                for (j, x) in row.iter().enumerate() {
                    let channel = i % groups * (c / groups) + j / plane;
                    want.push((x - mean) / (var + 0.1).sqrt() * w[channel] + b[channel]);
                }
            }
            assert_near(&y, &want);
        }
    }

    #[test]
    fn the_adjoint_agrees_with_differences() {
        for shape in [&[3usize, 4, 2, 3][..], &[5, 4]] {
            let (x, w, b, dy) = (draw(shape, 1), draw(&[4], 2), draw(&[4], 3), draw(shape, 4));
            let stats = x.group_norm(2, &w, &b, 0.1).unwrap().1;
            let grads = dy.group_norm_grad(&x, 2, &w, &stats, [true; 3]).unwrap();
            let inputs = [x.clone(), w.clone(), b];
            for i in 0..3 {
                let direction = draw(&inputs[i].shape(), 8);
                let value = |p: &[Tensor; 3]| dot(&p[0].group_norm(2, &p[1], &p[2], 0.1).unwrap().0, &dy);
                let difference = slope(value, &inputs, i, &direction);
                let found = dot(grads[i].as_ref().unwrap(), &direction);
                assert!((found - difference).abs() < 1e-6 * difference.abs().max(1.0), "{i}: {found} {difference}");
            }
            let [dx, dw, db] = dy.group_norm_grad(&x, 2, &w, &stats, [false, true, false]).unwrap();
            assert!(dx.is_none() && dw.is_some() && db.is_none());
        }
    }

    #[test]
    fn groups_must_divide_the_channels() {
        let (x, w) = (draw(&[2, 4, 3], 1), draw(&[4], 2));
        for groups in [0, 3] {
            let text = x.group_norm(groups, &w, &w, 0.1).unwrap_err().to_string();
            let want = format!(
                "group_norm: the 4 channels of [2, 4, 3] do not divide into {groups} groups; \
                 help: use a number of groups that divides the channels"
            );
            assert_eq!(text, want);
        }
    }
}
