//! Losses of a margin between the scores of classes.

use super::{expect_that, loss};
use crate::{Error, Result};
use maplet_autograd::Var;
use maplet_tensor::{DType, LabelOptions, Tensor};

loss! {
    /// `Σ max(0, margin − x_label + x_c)^p / k` over the classes `c` other than the label.
    ///
    /// PyTorch: `nn.MultiMarginLoss`; Keras: –.
    ///
    /// # Shapes
    /// - scores `[.., k]`, labels (I64) `[..]`; numbers `[..]` before the reduction
    ///
    /// # Errors
    /// A label outside `0..k`; a `p` that is not 1 or 2; other shapes or types.
    ///
    /// # Reference
    /// Crammer & Singer (2001), "On the Algorithmic Implementation of Multiclass Kernel-Based Vector Machines".
    pub struct MultiMargin {
        /// The power, 1 or 2; 1 unless this is called.
        p: u8 = 1,
        /// By how much the label's score should be the largest, 1.
        margin: f64 = 1.0,
    }
    weights {
        /// How much each class counts as a label. The mean is still divided by the number of samples.
        weight
    }
    fn multi_margin
}

impl MultiMargin {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        let op = "multi_margin";
        expect_that(matches!(self.p, 1 | 2), op, format!("p is {}", self.p), "use 1 or 2")?;
        let options =
            LabelOptions { class_weights: self.weight.clone(), ignore_index: i64::MIN, ..LabelOptions::default() };
        let (labels, weights) = options.weigh(op, targets, output.value(), "scores")?;
        let classes = output.size(-1)?;
        let others = labels.one_hot(classes)?.to_dtype(output.dtype()).neg().add_scalar(1.0);
        let of_label = output.gather(-1, &output.constant(labels.unsqueeze(-1)?))?;
        let lack = output.sub(&of_label)?.add_scalar(self.margin).relu().mul(&output.constant(others))?;
        let lack = if self.p == 2 { lack.square() } else { lack };
        let each = lack.sum(-1, false)?.mul(&output.constant(weights))?.mul_scalar(1.0 / classes as f64);
        self.reduction.of(op, &each)
    }
}

loss! {
    /// `Σ max(0, 1 − x_label + x_c) / k` over all labels of a sample and all classes `c` that are none of them.
    ///
    /// Memory: O(n · labels · k), for the largest number of labels that a sample has.
    ///
    /// PyTorch: `nn.MultiLabelMarginLoss`; Keras: –.
    ///
    /// # Shapes
    /// - scores `[n, k]` or `[k]`, labels (I64) of the same shape: a sample's labels come first, and what stands behind
    ///   a −1 does not count; numbers `[n]` or one before the reduction
    ///
    /// # Errors
    /// A label outside `0..k`; other shapes or types.
    pub struct MultiLabelMargin {}
    fn multi_label_margin
}

impl MultiLabelMargin {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        let op = "multi_label_margin";
        crate::module::expect_float(op, output)?;
        super::expect_shape(op, output, targets)?;
        if targets.dtype() != DType::I64 || !(1..=2).contains(&targets.rank()) {
            let what = format!("the targets are {} {}", targets.dtype(), targets.shape());
            return Err(Error::new(op, what, "they must be i64, [n, classes] or [classes]"));
        }
        let classes = output.size(-1)?;
        let n = output.len() / classes.max(1);
        let lists = labels(op, targets.as_slice::<i64>()?, classes)?;
        let most = lists.iter().map(Vec::len).max().unwrap_or(0).max(1);
        // Which label stands at each place, and which pairs of place and class count.
        let (mut ids, mut pairs) = (vec![0i64; n * most], vec![0u8; n * most * classes]);
        for (i, list) in lists.iter().enumerate() {
            for (at, &label) in list.iter().enumerate() {
                ids[i * most + at] = label as i64;
                let row = &mut pairs[(i * most + at) * classes..][..classes];
                row.fill(1);
                list.iter().for_each(|&label| row[label] = 0);
            }
        }
        let pairs = Tensor::from_vec(pairs, [n, most, classes])?.to_dtype(output.dtype());
        let x = output.reshape([n, classes])?;
        let of_labels = x.gather(1, &x.constant(Tensor::from_vec(ids, [n, most])?))?.unsqueeze(2)?;
        let lack = x.unsqueeze(1)?.sub(&of_labels)?.add_scalar(1.0).relu().mul(&x.constant(pairs))?;
        let each = lack.sum([1isize, 2], false)?.mul_scalar(1.0 / classes as f64);
        self.reduction.of(op, &each.reshape(output.shape().without(output.rank() - 1))?)
    }
}

/// The labels of each sample, up to the first −1.
fn labels(op: &'static str, targets: &[i64], classes: usize) -> Result<Vec<Vec<usize>>> {
    let mut lists = Vec::new();
    for (i, row) in targets.chunks(classes.max(1)).enumerate() {
        let list: Vec<i64> = row.iter().copied().take_while(|&label| label != -1).collect();
        if let Some(label) = list.iter().find(|label| !(0..classes as i64).contains(label)) {
            let what = format!("label {label} of sample {i} is outside 0..{classes}");
            return Err(Error::new(op, what, "labels count classes from 0, and -1 ends them"));
        }
        lists.push(list.into_iter().map(|label| label as usize).collect());
    }
    Ok(lists)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_near, check_gradient, near, random, text, value, values};
    use super::*;
    use crate::{Loss, Reduction};

    #[test]
    fn multi_margin_by_its_formula() {
        let (x, labels) = (Var::from(Tensor::from([[0.1f64, 0.2, 0.75], [3.0, 1.0, 0.0]])), Tensor::from([1i64, 0]));
        let loss = MultiMargin::new().reduction(Reduction::None);
        all_near(&values(loss.clone().loss(&x, &labels)), &[(0.9 + 1.55) / 3.0, 0.0]);
        let squares = 0.9 * 0.9 + 1.55 * 1.55;
        all_near(&values(loss.clone().p(2).loss(&x, &labels)), &[squares / 3.0, 0.0]);
        let weighted = loss.p(2).weight(Tensor::from([2.0f64, 10.0, 1.0])).margin(2.5);
        let squares = 2.4 * 2.4 + 3.05 * 3.05;
        all_near(&values(weighted.clone().loss(&x, &labels)), &[10.0 * squares / 3.0, 0.5 * 0.5 * 2.0 / 3.0]);
        near(value(multi_margin(&Tensor::from([0.1f64, 0.2]).into(), &Tensor::scalar(0i64))), 1.1 / 2.0);
        check_gradient(&weighted, &random([4, 3], -2.0, 2.0), &Tensor::from([0i64, 2, 2, 1]));
        check_gradient(&multi_margin, &random([4, 3], -2.0, 2.0), &Tensor::from([0i64, 2, 2, 1]));
    }

    #[test]
    fn multi_label_margin_by_its_formula() {
        // PyTorch's own example: 0.25 · ((1 − (0.1 − 0.2)) + (1 − (0.1 − 0.4)) + (1 − (0.8 − 0.2)) + (1 − (0.8 − 0.4)))
        let x = Tensor::from([[0.1f64, 0.2, 0.4, 0.8], [1.0, 2.0, 3.0, 4.0]]);
        let labels = Tensor::from([[3i64, 0, -1, 1], [-1, 0, 1, 2]]);
        let loss = MultiLabelMargin::new().reduction(Reduction::None);
        all_near(&values(loss.loss(&x.clone().into(), &labels)), &[0.25 * (1.1 + 1.3 + 0.4 + 0.6), 0.0]);
        near(value(multi_label_margin(&x.clone().into(), &labels)), 0.85 / 2.0);
        let (one, row) = (x.slice(0, 0, 1).unwrap(), labels.slice(0, 0, 1).unwrap());
        let one = loss.loss(&one.reshape([4]).unwrap().into(), &row.reshape([4]).unwrap()).unwrap();
        assert!(one.shape().is_empty());
        near(one.item::<f64>().unwrap(), 0.85);
        check_gradient(&multi_label_margin, &x, &labels);
        check_gradient(&multi_label_margin, &x, &Tensor::full([2, 4], -1i64)); // no labels at all
    }

    #[test]
    fn misfits_are_explained() {
        let x = Var::from(Tensor::zeros([2, 3], DType::F32));
        let found = text(multi_margin(&x, &Tensor::from([0i64, 3])));
        let expected = "multi_margin: label 3 of row 1 (of 2) is outside 0..3; \
                        help: labels count classes from 0; the model must have one output for each";
        assert_eq!(found, expected);
        let found = text(MultiMargin::new().p(3).loss(&x, &Tensor::from([0i64, 1])));
        assert_eq!(found, "multi_margin: p is 3; help: use 1 or 2");
        let found = text(multi_label_margin(&x, &Tensor::from([[0i64, -1, -1], [3, -1, -1]])));
        let expected = "multi_label_margin: label 3 of sample 1 is outside 0..3; \
                        help: labels count classes from 0, and -1 ends them";
        assert_eq!(found, expected);
        let found = text(multi_label_margin(&x, &Tensor::zeros([2, 3], DType::F32)));
        let expected =
            "multi_label_margin: the targets are f32 [2, 3]; help: they must be i64, [n, classes] or [classes]";
        assert_eq!(found, expected);
        let found = text(multi_label_margin(&x, &Tensor::zeros([2], DType::I64)));
        let expected = "multi_label_margin: the output is [2, 3], the targets [2]; \
                        help: reshape one of them: nothing broadcasts in a loss";
        assert_eq!(found, expected);
    }
}
