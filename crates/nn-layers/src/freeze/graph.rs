//! [`Graph`]: what a model does at inference, op by op. Shapes are those of one sample, without the batch.

use crate::module::Layer;
use crate::reshape::with_batch;
use crate::{Error, Module, Result};
use maplet_autograd::Var;
use maplet_tensor::frozen::Pointwise;
use maplet_tensor::{DType, OutputSize, Pool, Shape, Tensor, Window, Window3d};
use std::array::from_fn;

/// A value of a [`Graph`].
#[derive(Debug, Clone, Copy)]
pub struct Value(pub(super) usize);

impl Value {
    pub(super) const INPUT: Self = Self(0);
}

/// What a model does at inference. Layers add their ops to it; one that cannot say what it does, for a shape or at all,
/// adds none.
pub struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) batch: usize,
    /// Whether an op may look at several samples at once, so that the batch must not be cut.
    pub(super) is_coupled: bool,
}

pub(super) struct Node {
    pub(super) op: Op,
    pub(super) inputs: Vec<usize>,
    /// The output's, of one sample.
    pub(super) shape: Shape,
}

pub(super) enum Op {
    Input,
    /// The input under another shape.
    View,
    /// Was joined with the op before it.
    Merged,
    Conv(Weighted, Window3d, [usize; 3]),
    Linear(Weighted),
    /// Factors and shifts of the channels, in `F64`.
    Scale(Tensor, Tensor, Option<Pointwise>),
    Pointwise(Pointwise),
    MaxPool(Pool<3>),
    AvgPool(Pool<3>),
    AdaptiveAvgPool(OutputSize<3>),
    Add(Option<Pointwise>),
    /// Along this axis of a sample.
    Concat(usize),
    Layer(Box<dyn Layer>),
}

/// A weight with what is added, and what is applied afterwards.
pub(super) struct Weighted {
    /// The output's channels or features on axis 0.
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    pub(super) then: Option<Pointwise>,
}

impl Graph {
    pub(super) fn new(batch: usize, sample: Shape) -> Self {
        let input = Node { op: Op::Input, inputs: Vec::new(), shape: sample };
        Self { nodes: vec![input], batch, is_coupled: false }
    }

    /// Makes a value the last one, which is the output.
    pub(super) fn end_with(&mut self, output: Value) {
        if output.0 + 1 < self.nodes.len() {
            self.push(Op::View, &[output], self.shape(output));
        }
    }

    /// The shape of one sample.
    pub fn shape(&self, x: Value) -> Shape {
        self.nodes[x.0].shape
    }

    fn push(&mut self, op: Op, inputs: &[Value], shape: Shape) -> Value {
        self.nodes.push(Node { op, inputs: inputs.iter().map(|x| x.0).collect(), shape });
        Value(self.nodes.len() - 1)
    }

    /// A layer's ops, or the layer itself as one.
    pub(crate) fn layer(&mut self, layer: &dyn Layer, x: Value) -> Result<Value> {
        let before = self.nodes.len();
        if let Some(y) = layer.lower(self, x)? {
            return Ok(y);
        }
        self.nodes.truncate(before); // what was added before it gave up
        let zeros = Tensor::zeros(with_batch(self.batch, &self.shape(x))?, DType::F32);
        let y = layer.forward(&Var::from(zeros))?;
        let shape = y.shape();
        let Some((_, sample)) = shape.split_first().filter(|(n, _)| **n == self.batch) else {
            let what = format!("{} samples went in, {shape} came out", self.batch);
            return Err(Error::new("freeze", what, "keep the batch as axis 0"));
        };
        if y.dtype() != DType::F32 {
            return Err(Error::new("freeze", format!("a layer gives {}", y.dtype()), "convert its output to F32"));
        }
        self.is_coupled = true;
        Ok(self.push(Op::Layer(layer.copied()), &[x], Shape::new(sample)?))
    }

    /// What modules do one after another, if all of them can say it.
    pub fn chain(&mut self, modules: &[&dyn Module], x: Value) -> Result<Option<Value>> {
        let mut y = x;
        for module in modules {
            match module.lower(self, y)? {
                Some(next) => y = next,
                None => return Ok(None),
            }
        }
        Ok(Some(y))
    }

    /// Convolution with `weight: [o, c / groups, ..kernel]`, and a bias for each output channel.
    pub fn conv<const D: usize>(
        &mut self,
        x: Value,
        weight: &Tensor,
        bias: Option<&Tensor>,
        window: Window<D>,
    ) -> Result<Option<Value>> {
        let (Some((c, sizes)), Some((o, rest))) = (self.spatial::<D>(x), weight.shape().split_first().map(owned))
        else {
            return Ok(None);
        };
        let Ok(output) = window.output("freeze", sizes) else { return Ok(None) };
        let fits = rest == [&[c / window.groups], &window.kernel[..]].concat() && c.is_multiple_of(window.groups);
        if !fits || bias.is_some_and(|bias| bias.shape() != Shape::from([o])) {
            return Ok(None);
        }
        let [kernel, stride, dilation] = [window.kernel, window.stride, window.dilation].map(|a| volume(a, 1));
        let volumes = Window { kernel, stride, padding: volume(window.padding, 0), dilation, groups: window.groups };
        let weight = weight.reshape(Shape::new(&[&[o, rest[0]], &kernel[..]].concat())?)?;
        let shape = Shape::new(&[&[o], &output[..]].concat())?;
        let weighted = Weighted { weight, bias: bias.cloned(), then: None };
        Ok(Some(self.push(Op::Conv(weighted, volumes, [1; 3]), &[x], shape)))
    }

    /// The dense layer with `weight: [out, in]`, along the last axis.
    pub fn linear(&mut self, x: Value, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Value>> {
        let shape = self.shape(x);
        let (Some((&features, rows)), &[out, within]) = (shape.split_last(), weight.shape().sizes()) else {
            return Ok(None);
        };
        if features != within || bias.is_some_and(|bias| bias.shape() != Shape::from([out])) {
            return Ok(None);
        }
        let shape = Shape::new(&[rows, &[out]].concat())?;
        let weighted = Weighted { weight: weight.clone(), bias: bias.cloned(), then: None };
        Ok(Some(self.push(Op::Linear(weighted), &[x], shape)))
    }

    /// A factor and a shift for each channel (axis 0 of a sample), in `F64`.
    pub fn scale(&mut self, x: Value, scale: Tensor, shift: Tensor) -> Option<Value> {
        let channels = Shape::from([*self.shape(x).first()?]);
        let fits = scale.shape() == channels && shift.shape() == channels;
        fits.then(|| self.push(Op::Scale(scale, shift, None), &[x], self.shape(x)))
    }

    /// A function of each element.
    pub fn pointwise(&mut self, x: Value, function: Pointwise) -> Value {
        self.push(Op::Pointwise(function), &[x], self.shape(x))
    }

    /// The greatest of each window.
    pub fn max_pool<const D: usize>(&mut self, x: Value, pool: Pool<D>) -> Result<Option<Value>> {
        self.pool(x, pool, Op::MaxPool)
    }

    /// The mean of each window.
    pub fn avg_pool<const D: usize>(&mut self, x: Value, pool: Pool<D>) -> Result<Option<Value>> {
        self.pool(x, pool, Op::AvgPool)
    }

    fn pool<const D: usize>(&mut self, x: Value, pool: Pool<D>, op: fn(Pool<3>) -> Op) -> Result<Option<Value>> {
        let Some((c, sizes)) = self.spatial::<D>(x) else { return Ok(None) };
        let Ok(output) = pool.output("freeze", sizes) else { return Ok(None) };
        let [kernel, stride, dilation] =
            [pool.window.kernel, pool.window.stride, pool.window.dilation].map(|a| volume(a, 1));
        let window = Window { kernel, stride, padding: volume(pool.window.padding, 0), dilation, groups: 1 };
        let volumes = Pool::from(window).ceil_mode(pool.ceil_mode).count_include_pad(pool.count_include_pad);
        let volumes = Pool { divisor_override: pool.divisor_override, ..volumes };
        let shape = Shape::new(&[&[c], &output[..]].concat())?;
        Ok(Some(self.push(op(volumes), &[x], shape)))
    }

    /// The means of windows that share the input out evenly.
    pub fn adaptive_avg_pool<const D: usize>(&mut self, x: Value, to: OutputSize<D>) -> Result<Option<Value>> {
        let Some((c, sizes)) = self.spatial::<D>(x) else { return Ok(None) };
        let Ok(output) = to.output("freeze", sizes) else { return Ok(None) };
        let shape = Shape::new(&[&[c], &output[..]].concat())?;
        Ok(Some(self.push(Op::AdaptiveAvgPool(OutputSize(volume(output, 1).map(Some))), &[x], shape)))
    }

    /// The same elements under another shape.
    pub fn view(&mut self, x: Value, shape: Shape) -> Option<Value> {
        (shape.elements() == self.shape(x).elements()).then(|| self.push(Op::View, &[x], shape))
    }

    /// The sum of two values of one shape.
    pub fn add(&mut self, a: Value, b: Value) -> Option<Value> {
        (self.shape(a) == self.shape(b)).then(|| self.push(Op::Add(None), &[a, b], self.shape(a)))
    }

    /// Values side by side, along an axis of a sample.
    pub fn concat(&mut self, values: &[Value], axis: usize) -> Result<Option<Value>> {
        let Some(&first) = values.first() else { return Ok(None) };
        let mut sizes = self.shape(first).to_vec();
        let without = |shape: Shape| shape.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, s)| *s).collect();
        let rest: Vec<usize> = without(self.shape(first));
        let fits = |x: &Value| self.shape(*x).rank() == sizes.len() && without(self.shape(*x)) == rest;
        if axis >= sizes.len() || !values.iter().all(fits) {
            return Ok(None);
        }
        sizes[axis] = values.iter().map(|x| self.shape(*x)[axis]).sum();
        Ok(Some(self.push(Op::Concat(axis), values, Shape::new(&sizes)?)))
    }

    /// The channels and the `D` sizes behind them, if there are so many.
    fn spatial<const D: usize>(&self, x: Value) -> Option<(usize, [usize; D])> {
        let shape = self.shape(x);
        let (&channels, sizes) = shape.split_first()?;
        Some((channels, sizes.try_into().ok()?))
    }
}

fn owned((first, rest): (&usize, &[usize])) -> (usize, Vec<usize>) {
    (*first, rest.to_vec())
}

/// `D` sizes as those of a volume.
fn volume<const D: usize>(sizes: [usize; D], missing: usize) -> [usize; 3] {
    from_fn(|axis| if axis + D < 3 { missing } else { sizes[axis + D - 3] })
}

/// The sizes `[c, d, h, w]` of a sample with up to three axes behind its channels.
pub(super) fn as_volume(sample: &Shape) -> [usize; 4] {
    let spatial = sample.rank() - 1;
    from_fn(|axis| match axis {
        0 => sample[0],
        _ if axis + spatial < 4 => 1,
        _ => sample[axis + spatial - 3],
    })
}
