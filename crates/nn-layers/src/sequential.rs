//! [`Sequential`]: layers in a row, with shapes inferred and a table to look at.

use crate::builder::{Builder, fused_runs};
use crate::freeze::{Graph, Value};
use crate::fusion::Fused;
use crate::module::Layer;
use crate::plan::batched;
use crate::step::place;
use crate::{Error, Module, Result, SequentialConfig};
use maplet_autograd::{Item, ItemMut, Pass, Path, Var, Visit};
use maplet_tensor::Shape;

/// Layers that run one after the other.
///
/// PyTorch: `nn.Sequential`; Keras: `Sequential`.
///
/// No layer is told its input's size, and every misfit is found when the model is built:
///
/// ```
/// use maplet_autograd::{Tensor, Var, params};
/// use maplet_nn_layers::{Module, Sequential};
/// use maplet_tensor::DType;
///
/// let model = Sequential::input([1, 28, 28])
///     .conv2d(32, 3).relu()
///     .max_pool2d(2)
///     .flatten()
///     .linear(128).relu()
///     .linear(10)
///     .build(42)?;
/// let images = Tensor::zeros([8, 1, 28, 28], DType::F32);
/// assert_eq!(model.forward(&Var::from(images))?.shape(), [8, 10].into());
///
/// let names: Vec<String> = params(&model).into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["0.weight", "0.bias", "4.weight", "4.bias", "6.weight", "6.bias"]);
/// println!("{model}"); // a table: layer, output, parameters, FLOPs, activation
///
/// let error = Sequential::input([1, 28, 28]).conv2d(32, 3).linear(10).conv2d(8, 11).build(42).err().unwrap();
/// assert!(error.to_string().starts_with("layer 2 (Conv2d 32 → 8, 11×11): conv2d: the window spans 11 in width"));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
///
/// Some neighbors run as one op: convolution + ReLU + max-pool, and linear + ReLU. [`unfused`](Self::unfused) keeps the
/// plain run. A clone is a model of its own, with the same weights.
#[derive(Clone)]
pub struct Sequential {
    input: Shape,
    config: SequentialConfig,
    rows: Vec<Row>,
    layers: Vec<Box<dyn Layer>>,
    /// How many layers each op runs.
    runs: Vec<usize>,
}

/// What one layer is and costs, for one sample.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// `Linear 1600 → 10`
    pub label: String,
    /// The output's sizes, without the batch axis.
    pub output: Shape,
    /// The number of trained weights.
    pub parameters: u64,
    /// Floating-point operations of a forward pass, a multiply-add counted as two and any function of one element as
    /// one; not known for modules of the user's own.
    pub flops: Option<u64>,
    /// The output's bytes in F32: what training keeps for the backward pass. None for a mere change of shape.
    pub activation_bytes: u64,
}

impl Sequential {
    /// Begins a model for samples of this shape, without the batch axis.
    pub fn input(shape: impl Into<Shape>) -> Builder {
        Builder::new(shape.into())
    }

    /// The model that a configuration describes, with random weights.
    ///
    /// # Errors
    /// A step that does not fit, or that is code; before memory is taken.
    pub fn from_config(config: &SequentialConfig, seed: u64) -> Result<Self> {
        let builder = Builder::new(Shape::new(&config.input_shape)?);
        config.steps.iter().cloned().fold(builder, Builder::step).build(seed)
    }

    pub(crate) fn assemble(
        input: Shape,
        config: SequentialConfig,
        rows: Vec<Row>,
        layers: Vec<Box<dyn Layer>>,
    ) -> Self {
        let runs = fused_runs(&layers);
        Self { input, config, rows, layers, runs }
    }

    /// The same model, its layers run one by one.
    pub fn unfused(mut self) -> Self {
        self.runs = vec![1; self.layers.len()];
        self
    }

    /// The sizes of one sample, without the batch axis.
    pub fn input_shape(&self) -> Shape {
        self.input
    }

    /// The sizes of one sample's output, without the batch axis.
    pub fn output_shape(&self) -> Shape {
        self.rows.last().map_or(self.input, |row| row.output)
    }

    /// The architecture as data.
    pub fn config(&self) -> SequentialConfig {
        self.config.clone()
    }

    /// What each layer is and costs.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    #[cfg(test)]
    pub(crate) fn run_lengths(&self) -> &[usize] {
        &self.runs
    }

    fn check_input(&self, x: &Var) -> Result<()> {
        if x.shape().split_first().is_some_and(|(_, sample)| sample == self.input.sizes()) {
            return Ok(());
        }
        let what = format!("input {} does not fit a model of {}", x.shape(), batched(&self.input));
        Err(Error::new("sequential", what, "axis 0 is the batch; reshape or unsqueeze the input"))
    }

    /// Where an error in the layers `start..start + run` happened.
    fn place(&self, start: usize, run: usize) -> String {
        let labels: Vec<&str> = self.rows[start..start + run].iter().map(|row| row.label.as_str()).collect();
        place(start, &labels.join(" + "))
    }
}

/// The table of its `Display`.
impl std::fmt::Debug for Sequential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Module for Sequential {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.check_input(x)?;
        let mut y = x.clone();
        let mut start = 0;
        for &run in &self.runs {
            let fused = if run > 1 { Fused::of(&self.layers[start..]) } else { None };
            let result = match fused {
                Some(fused) => fused.forward(&y),
                None => self.layers[start].forward(&y),
            };
            // A watched pass tells which layer was the first to make a NaN.
            let watched = result.and_then(|y| y.pass().map_or(Ok(()), Pass::anomaly).map(|()| y).map_err(Error::from));
            y = watched.map_err(|error| error.at(self.place(start, run)))?;
            start += run;
        }
        Ok(y)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        if graph.shape(x) != self.input {
            return Ok(None);
        }
        let mut y = x;
        for (i, layer) in self.layers.iter().enumerate() {
            y = graph.layer(&**layer, y).map_err(|error| error.at(self.place(i, 1)))?;
        }
        Ok(Some(y))
    }
}

/// Parameters are named by their layer's number: `0.weight`, `4.bias`.
impl Visit for Sequential {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        self.layers.visit(path, show);
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        self.layers.visit_mut(path, show);
    }
}
