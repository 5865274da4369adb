//! [`AdaptiveLogSoftmaxWithLoss`]: a softmax over very many classes, most of which are rare.

use crate::{Error, Linear, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{DType, Rng, Tensor};

/// The log-probability of each label, and its mean as a loss: frequent classes are found by one softmax, the rare ones
/// in clusters behind it, each with a narrower inner layer.
///
/// Classes are sorted by how frequent they are, the most frequent first. A batch costs what its own labels need.
///
/// PyTorch: `nn.AdaptiveLogSoftmaxWithLoss`; Keras: –.
///
/// # Parameters
/// - `head.weight: [cutoffs[0] + clusters, in_features]`, and `head.bias` if asked for
/// - `tail.i.0.weight: [in_features / div_value^(i+1), in_features]` and `tail.i.1.weight: [cluster's classes, ..]`
///
/// # Reference
/// Grave, Joulin, Cissé, Grangier & Jégou (2017), "Efficient softmax approximation for GPUs".
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{AdaptiveLogSoftmaxConfig, Result};
/// use maplet_tensor::{DType, Rng};
///
/// let layer = AdaptiveLogSoftmaxConfig::new(64, 1000, &[20, 200]).build(&mut Rng::new(1))?;
/// let x = Var::from(Tensor::zeros([3, 64], DType::F32));
/// let (log_probs, loss) = layer.forward(&x, &Tensor::from([7i64, 150, 999]))?;
/// assert_eq!((log_probs.len(), loss.len()), (3, 1));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct AdaptiveLogSoftmaxWithLoss {
    /// Of the frequent classes and, behind them, of each cluster.
    pub head: Linear,
    /// Two layers for each cluster.
    pub tail: Vec<[Linear; 2]>,
    /// The first class of each cluster, and at the end the number of classes.
    borders: Vec<usize>,
}
fields!(AdaptiveLogSoftmaxWithLoss: head, tail; borders);

/// What an [`AdaptiveLogSoftmaxWithLoss`] is to be.
#[derive(Debug, Clone)]
pub struct AdaptiveLogSoftmaxConfig {
    in_features: usize,
    borders: Vec<usize>,
    div_value: f64,
    head_bias: bool,
}

impl AdaptiveLogSoftmaxConfig {
    /// For so many classes, cut before each of `cutoffs`, with PyTorch's defaults.
    pub fn new(in_features: usize, n_classes: usize, cutoffs: &[usize]) -> Self {
        Self { in_features, borders: [cutoffs, &[n_classes]].concat(), div_value: 4.0, head_bias: false }
    }

    /// By how much each cluster's inner layer is narrower than the one before, 4; above 0.
    pub fn div_value(self, div_value: f64) -> Self {
        Self { div_value, ..self }
    }

    /// Whether the head has a bias: not unless this is called.
    pub fn head_bias(self, head_bias: bool) -> Self {
        Self { head_bias, ..self }
    }

    /// The layer, with random weights.
    ///
    /// # Errors
    /// Cutoffs that do not rise from 1 to below the number of classes, a divisor that is not above 0, or a cluster
    /// whose inner layer has no features.
    pub fn build(&self, rng: &mut Rng) -> Result<AdaptiveLogSoftmaxWithLoss> {
        let (borders, clusters) = (&self.borders, self.borders.len() - 1);
        if clusters == 0 || borders[0] == 0 || !borders.is_sorted_by(|a, b| a < b) {
            let what = format!("cutoffs {:?} of {} classes", &borders[..clusters], borders[clusters]);
            return Err(Error::new(OP, what, "they must rise, from 1 or more to below the number of classes"));
        }
        let (in_features, div_value) = (self.in_features, self.div_value);
        if !(div_value > 0.0 && div_value.is_finite()) {
            return Err(Error::new(OP, format!("div_value is {div_value}"), "use a finite number above 0"));
        }
        let head = Linear::new(in_features, borders[0] + clusters, rng)?;
        let mut tail = Vec::new();
        for i in 0..clusters {
            let inner = (in_features as f64 / div_value.powi(i as i32 + 1)) as usize;
            if inner == 0 {
                let what = format!("in_features {in_features} / div_value {div_value}^{} is below 1", i + 1);
                return Err(Error::new(OP, what, "use fewer cutoffs or a smaller div_value"));
            }
            let narrow = Linear::new(in_features, inner, rng)?.without_bias();
            tail.push([narrow, Linear::new(inner, borders[i + 1] - borders[i], rng)?.without_bias()]);
        }
        let head = if self.head_bias { head } else { head.without_bias() };
        Ok(AdaptiveLogSoftmaxWithLoss { head, tail, borders: borders.clone() })
    }
}

const OP: &str = "adaptive_log_softmax";

impl AdaptiveLogSoftmaxWithLoss {
    /// The log-probability of each label, `[n]`, and minus their mean.
    ///
    /// # Shapes
    /// - `x: [n, in_features]`, labels (I64) `[n]`
    ///
    /// # Errors
    /// Other shapes or types, no samples, or a label that is no class.
    pub fn forward(&self, x: &Var, labels: &Tensor) -> Result<(Var, Var)> {
        let [n, _] = x.dims(OP)?;
        if labels.shape() != [n].into() || labels.dtype() != DType::I64 || n == 0 {
            let what = format!("labels are {} {} for a batch of {n}", labels.dtype(), labels.shape());
            return Err(Error::new(OP, what, "give one i64 label for each sample, of 1 or more"));
        }
        let classes = *self.borders.last().unwrap_or(&0) as i64;
        let (labels, first) = (labels.as_slice::<i64>()?, self.borders[0] as i64);
        if let Some(i) = labels.iter().position(|label| !(0..classes).contains(label)) {
            let what = format!("label {} of sample {i} is outside 0..{classes}", labels[i]);
            return Err(Error::new(OP, what, "labels count classes from 0"));
        }
        // Of a rare class: its cluster, counted from 0.
        let cluster = |label: i64| self.borders.partition_point(|&border| border as i64 <= label) - 1;
        let place = |&label: &i64| if label < first { label } else { first + cluster(label) as i64 };
        let places = Tensor::from_vec(labels.iter().map(place).collect::<Vec<_>>(), [n, 1])?;
        let mut output = self.head.forward(x)?.log_softmax(-1)?.gather(-1, &x.constant(places))?.squeeze(-1)?;
        for (i, tail) in self.tail.iter().enumerate() {
            let in_it = |row: &usize| labels[*row] >= first && cluster(labels[*row]) == i;
            let rows: Vec<usize> = (0..n).filter(in_it).collect();
            if rows.is_empty() {
                continue;
            }
            let within: Vec<i64> = rows.iter().map(|&row| labels[row] - self.borders[i] as i64).collect();
            let within = x.constant(Tensor::from_vec(within, [rows.len(), 1])?);
            let rows = Tensor::from_vec(rows.iter().map(|&row| row as i64).collect::<Vec<_>>(), [rows.len()])?;
            let rows = x.constant(rows);
            let found = Self::cluster(tail, &x.select_rows(&rows)?)?.gather(-1, &within)?.squeeze(-1)?;
            output = output.add(&found.scatter_add_rows(&rows, n)?)?;
        }
        let loss = output.mean(.., false)?.neg();
        Ok((output, loss))
    }

    /// The log-probabilities of all classes, `[n, n_classes]`.
    ///
    /// # Errors
    /// Another shape or type.
    pub fn log_prob(&self, x: &Var) -> Result<Var> {
        let head = self.head.forward(x)?.log_softmax(-1)?;
        let first = self.borders[0];
        let mut parts = vec![head.slice(-1, 0, first)?];
        for (i, tail) in self.tail.iter().enumerate() {
            parts.push(Self::cluster(tail, x)?.add(&head.slice(-1, first + i, first + i + 1)?)?);
        }
        Ok(Var::concat(&parts.iter().collect::<Vec<_>>(), -1)?)
    }

    /// The most probable class of each sample, `[n]`.
    ///
    /// # Errors
    /// Another shape or type.
    pub fn predict(&self, x: &Var) -> Result<Var> {
        Ok(self.log_prob(x)?.argmax(-1, false)?)
    }

    /// The log-probabilities within a cluster.
    fn cluster([narrow, wide]: &[Linear; 2], x: &Var) -> Result<Var> {
        Ok(wide.forward(&narrow.forward(x)?)?.log_softmax(-1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast;
    use maplet_autograd::{gradcheck, params};

    fn layer() -> AdaptiveLogSoftmaxWithLoss {
        let config = AdaptiveLogSoftmaxConfig::new(8, 20, &[5, 12]).div_value(2.0).head_bias(true);
        let mut layer = config.build(&mut Rng::new(1)).unwrap();
        cast(&mut layer, DType::F64).unwrap();
        layer
    }

    #[test]
    fn names_and_shapes_are_pytorchs() {
        let layer = layer();
        let found: Vec<(String, Vec<usize>)> =
            params(&layer).into_iter().map(|(name, param)| (name, param.shape().to_vec())).collect();
        let expected: [(&str, &[usize]); 6] = [
            ("head.weight", &[7, 8]),
            ("head.bias", &[7]),
            ("tail.0.0.weight", &[4, 8]),
            ("tail.0.1.weight", &[7, 4]),
            ("tail.1.0.weight", &[2, 8]),
            ("tail.1.1.weight", &[8, 2]),
        ];
        assert_eq!(found, expected.map(|(name, shape)| (name.to_string(), shape.to_vec())));
    }

    #[test]
    fn probabilities_sum_to_one_and_labels_pick_theirs() {
        let (layer, x) = (layer(), Tensor::normal([4, 8], 0.0f64, 2.0, &mut Rng::new(2)));
        let labels = Tensor::from([4i64, 19, 5, 12]);
        let all = layer.log_prob(&Var::from(&x)).unwrap().into_value();
        let sums = all.exp().sum(-1, false).unwrap().to_vec::<f64>().unwrap();
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-14), "{sums:?}");
        let (picked, loss) = layer.forward(&Var::from(&x), &labels).unwrap();
        let expected = all.gather(1, &labels.unsqueeze(1).unwrap()).unwrap().squeeze(1).unwrap();
        let error = picked.value().sub(&expected).unwrap().abs().max(.., false).unwrap().item::<f64>().unwrap();
        assert!(error < 1e-14);
        let mean = expected.mean(.., false).unwrap().item::<f64>().unwrap();
        assert!((loss.item::<f64>().unwrap() + mean).abs() < 1e-14);
        assert_eq!(layer.predict(&Var::from(&x)).unwrap().value(), &all.argmax(1, false).unwrap());
        gradcheck(|v| Ok(layer.forward(&v[0], &labels)?.1), std::slice::from_ref(&x)).unwrap();
    }

    #[test]
    fn misfits_are_explained() {
        for cutoffs in [&[][..], &[0, 3], &[5, 5], &[20]] {
            let found = AdaptiveLogSoftmaxConfig::new(8, 20, cutoffs).build(&mut Rng::new(1)).unwrap_err().to_string();
            let help = "help: they must rise, from 1 or more to below the number of classes";
            assert_eq!(found, format!("adaptive_log_softmax: cutoffs {cutoffs:?} of 20 classes; {help}"));
        }
        let text = |div_value| {
            let config = AdaptiveLogSoftmaxConfig::new(8, 20, &[5, 12]).div_value(div_value);
            config.build(&mut Rng::new(1)).unwrap_err().to_string()
        };
        for wrong in [0.0, -2.0, f64::NAN, f64::INFINITY] {
            let expected = format!("adaptive_log_softmax: div_value is {wrong}; help: use a finite number above 0");
            assert_eq!(text(wrong), expected);
        }
        let expected = "adaptive_log_softmax: in_features 8 / div_value 4^2 is below 1; \
                        help: use fewer cutoffs or a smaller div_value";
        assert_eq!(text(4.0), expected);
        let (layer, x) = (layer(), Var::from(Tensor::zeros([2, 8], DType::F64)));
        let found = layer.forward(&x, &Tensor::from([1i64, 20])).unwrap_err().to_string();
        let expected = "adaptive_log_softmax: label 20 of sample 1 is outside 0..20; help: labels count classes from 0";
        assert_eq!(found, expected);
        let found = layer.forward(&x, &Tensor::from([1i64])).unwrap_err().to_string();
        let expected = "adaptive_log_softmax: labels are i64 [1] for a batch of 2; \
                        help: give one i64 label for each sample, of 1 or more";
        assert_eq!(found, expected);
    }
}
