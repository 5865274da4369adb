//! [`Plan`]: a graph as kernels over memory that is laid out, and [`Memory`], the memory.

use super::graph::{Graph, Node, Op, as_volume};
use crate::module::Layer;
use crate::reshape::with_batch;
use crate::{Error, Result};
use maplet_autograd::Var;
use maplet_tensor::frozen::{FrozenConv, FrozenLinear, FrozenPool, FrozenScale, Pointwise, add, place_columns};
use maplet_tensor::{DType, Shape, Tensor, par};

/// The bytes that the values around one kernel should take at most, for a block of samples: most of a second cache.
const BLOCK_BYTES: usize = 768 << 10;
/// The most samples of a block: with as many, reading weights from a farther cache is hidden behind the arithmetic.
const BLOCK: usize = 64;
/// Nanoseconds of a call below which entering the thread pool from outside does not pay.
const SMALL: f64 = 100_000.0;

/// Kernels in order, each with the places of what it reads and writes.
pub(super) struct Plan {
    /// With the batch.
    pub(super) input: Shape,
    pub(super) output: Shape,
    /// Samples that go through all kernels together.
    pub(super) block: usize,
    steps: Vec<Step>,
    /// Elements for a sample.
    slots: Vec<usize>,
    scratch: usize,
    /// Nanoseconds of a call on one thread, about.
    cost: f64,
}

struct Step {
    label: String,
    kernel: Kernel,
    inputs: Vec<Place>,
    output: Place,
    /// Elements of the output, for a sample.
    len: usize,
}

/// Where a value is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Input,
    Slot(usize),
    Output,
}

enum Kernel {
    Conv(Box<FrozenConv>),
    Linear(FrozenLinear),
    Scale(FrozenScale),
    Pointwise(Pointwise),
    Pool(FrozenPool),
    Add(Option<Pointwise>),
    /// The widths of the inputs' rows.
    Concat(Vec<usize>),
    Layer(Box<dyn Layer>, Shape),
}

/// What one block of samples needs on its way.
pub(super) struct Memory {
    /// `None` while a kernel writes to it.
    slots: Vec<Option<Tensor>>,
    scratch: Tensor,
    error: Option<Error>,
}

impl Memory {
    /// With scratch for so many samples.
    pub(super) fn new(plan: &Plan, at_once: usize) -> Self {
        let zeros = |len: usize| Tensor::zeros([len], DType::F32);
        let slots = plan.slots.iter().map(|len| Some(zeros(len * plan.block))).collect();
        Self { slots, scratch: zeros(plan.scratch * at_once), error: None }
    }
}

impl Plan {
    pub(super) fn new(mut graph: Graph) -> Result<Self> {
        graph.end_in_an_op()?;
        let Graph { batch, is_coupled, .. } = graph;
        let block = graph.block();
        let (input, output) = (graph.nodes[0].shape, graph.nodes[graph.nodes.len() - 1].shape);
        let (places, slots) = graph.places();
        let sources: Vec<Vec<usize>> =
            graph.nodes.iter().map(|node| node.inputs.iter().map(|&input| graph.source(input)).collect()).collect();
        let shapes: Vec<Shape> = graph.nodes.iter().map(|node| node.shape).collect();
        let inputs: Vec<Vec<Shape>> =
            graph.nodes.iter().map(|node| node.inputs.iter().map(|&input| shapes[input]).collect()).collect();
        let (mut steps, mut scratch, mut cost) = (Vec::new(), 0, 0.0);
        for (i, node) in graph.nodes.into_iter().enumerate() {
            let Some(output) = places[i] else { continue };
            let (label, len) = (label(&node, &inputs[i]), shapes[i].elements());
            let kernel = Kernel::new(node, &inputs[i], if is_coupled { batch } else { block })?;
            let sample = match &kernel {
                Kernel::Conv(conv) => conv.cost(),
                Kernel::Linear(linear) => {
                    linear.cost() * inputs[i][0][..inputs[i][0].rank() - 1].iter().product::<usize>() as f64
                }
                _ => len as f64 * 0.5,
            };
            cost += sample * batch as f64;
            if let Kernel::Conv(conv) = &kernel {
                scratch = scratch.max(conv.scratch());
            }
            let inputs = sources[i].iter().map(|&source| places[source].unwrap_or(Place::Input)).collect();
            steps.push(Step { label, kernel, inputs, output, len });
        }
        let (input, output) = (with_batch(batch, &input)?, with_batch(batch, &output)?);
        Ok(Self { input, output, block, steps, slots, scratch, cost })
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.label.as_str())
    }

    /// How many blocks should be under way at a time; with one, kernels share out their own work.
    pub(super) fn lanes(&self, threads: usize) -> usize {
        let blocks = self.input[0].div_ceil(self.block);
        if blocks >= threads { threads } else { 1 }
    }

    pub(super) fn is_small(&self) -> bool {
        self.cost < SMALL
    }

    /// Runs all blocks of samples, as many at a time as there are memories.
    pub(super) fn run(&self, memories: &mut [Memory], x: &[f32], y: &mut [f32], alone: bool) -> Result<()> {
        let [from, to] = [&self.input, &self.output].map(|shape| shape[1..].iter().product::<usize>() * self.block);
        if let [memory] = memories {
            let blocks = x.chunks(from.max(1)).zip(y.chunks_mut(to.max(1)));
            return blocks.into_iter().try_for_each(|(x, y)| self.run_block(memory, x, y, alone));
        }
        par::lanes(memories, y, to, |memory, i, y| {
            let x = &x[i * from..x.len().min((i + 1) * from)];
            if let Err(error) = self.run_block(memory, x, y, true) {
                memory.error = Some(error);
            }
        });
        memories.iter_mut().find_map(|memory| memory.error.take()).map_or(Ok(()), Err)
    }

    fn run_block(&self, memory: &mut Memory, x: &[f32], y: &mut [f32], alone: bool) -> Result<()> {
        let n = x.len() / self.input[1..].iter().product::<usize>();
        for step in &self.steps {
            let Memory { slots, scratch, .. } = memory;
            let scratch = scratch.as_mut_slice::<f32>()?;
            match step.output {
                Place::Slot(i) => {
                    let Some(mut out) = slots[i].take() else { unreachable!("a slot is written by one step") };
                    let done = out
                        .as_mut_slice::<f32>()
                        .map_err(Error::from)
                        .and_then(|out| step.run(n, x, slots, &mut out[..n * step.len], scratch, alone));
                    slots[i] = Some(out);
                    done?;
                }
                _ => step.run(n, x, slots, &mut y[..n * step.len], scratch, alone)?,
            }
        }
        Ok(())
    }
}

impl Step {
    fn run(
        &self,
        n: usize,
        x: &[f32],
        slots: &[Option<Tensor>],
        y: &mut [f32],
        scratch: &mut [f32],
        alone: bool,
    ) -> Result<()> {
        let input = |i: usize, len: usize| match self.inputs[i] {
            Place::Slot(slot) => match &slots[slot] {
                Some(values) => Ok(&values.as_slice::<f32>()?[..len]),
                None => unreachable!("a step writes to another slot than it reads"),
            },
            _ => Ok::<_, Error>(&x[..len]),
        };
        match &self.kernel {
            Kernel::Conv(conv) => conv.run(input(0, n * conv.input())?, y, scratch, alone),
            Kernel::Linear(linear) => linear.run(input(0, y.len() / linear.size()[1] * linear.size()[0])?, y, alone),
            Kernel::Scale(scale) => scale.run(input(0, y.len())?, y, alone),
            Kernel::Pointwise(function) => {
                y.copy_from_slice(input(0, y.len())?);
                function.run(y, alone);
            }
            Kernel::Pool(pool) => pool.run(input(0, n * pool.input())?, y, alone),
            Kernel::Add(then) => add(input(0, y.len())?, input(1, y.len())?, y, *then, alone),
            Kernel::Concat(widths) => {
                let (stride, mut at) = (widths.iter().sum::<usize>(), 0);
                for (i, &width) in widths.iter().enumerate() {
                    place_columns(input(i, y.len() / stride * width)?, width, y, stride, at);
                    at += width;
                }
            }
            Kernel::Layer(layer, sample) => {
                let x = Tensor::from_slice(input(0, n * sample.elements())?, with_batch(n, sample)?)?;
                y.copy_from_slice(layer.forward(&Var::from(x))?.value().as_slice::<f32>()?);
            }
        }
        Ok(())
    }
}

impl Kernel {
    /// For at most `block` samples at a time.
    fn new(node: Node, inputs: &[Shape], block: usize) -> Result<Self> {
        let sample = || as_volume(&inputs[0]);
        Ok(match node.op {
            Op::Conv(w, window, pool) => {
                Self::Conv(Box::new(FrozenConv::new(sample(), &w.weight, w.bias.as_ref(), window, pool, w.then)?))
            }
            Op::Linear(w) => {
                let rows = block * inputs[0][..inputs[0].rank() - 1].iter().product::<usize>();
                Self::Linear(FrozenLinear::new(rows, &w.weight, w.bias.as_ref(), w.then)?)
            }
            Op::Scale(scale, shift, then) => {
                let [scale, shift] = [scale, shift].map(|numbers| numbers.to_dtype(DType::F32));
                Self::Scale(FrozenScale::new(&scale, &shift, inputs[0][1..].iter().product(), then)?)
            }
            Op::Pointwise(function) => Self::Pointwise(function),
            Op::MaxPool(pool) => Self::Pool(FrozenPool::max(sample(), &pool)?),
            Op::AvgPool(pool) => Self::Pool(FrozenPool::mean(sample(), &pool)?),
            Op::AdaptiveAvgPool(to) => Self::Pool(FrozenPool::adaptive_mean(sample(), to)?),
            Op::Add(then) => Self::Add(then),
            Op::Concat(axis) => Self::Concat(inputs.iter().map(|shape| shape[axis..].iter().product()).collect()),
            Op::Layer(layer) => Self::Layer(layer, inputs[0]),
            Op::Input | Op::View | Op::Merged => unreachable!("has no kernel"),
        })
    }
}

/// Laying out.
impl Graph {
    /// The node whose memory holds this one's value.
    fn source(&self, mut node: usize) -> usize {
        while matches!(self.nodes[node].op, Op::View | Op::Merged) {
            node = self.nodes[node].inputs[0];
        }
        node
    }

    fn is_op(&self, node: usize) -> bool {
        !matches!(self.nodes[node].op, Op::Input | Op::View | Op::Merged)
    }

    /// Sees to it that the last value is written by an op, and read by none: by a copy, if need be.
    fn end_in_an_op(&mut self) -> Result<()> {
        let last = self.nodes.len() - 1;
        let source = self.source(last);
        let is_read = |node: &Node| {
            !matches!(node.op, Op::View | Op::Merged) && node.inputs.iter().any(|&input| self.source(input) == source)
        };
        if self.is_op(source) && !self.nodes.iter().any(is_read) {
            return Ok(());
        }
        // A scalar sample gets an axis to be copied along.
        let shape = self.nodes[last].shape;
        let flat = Shape::new(&[shape.elements()])?;
        self.nodes.push(Node { op: Op::View, inputs: vec![last], shape: flat });
        self.nodes.push(Node { op: Op::Concat(0), inputs: vec![last + 1], shape: flat });
        self.nodes.push(Node { op: Op::View, inputs: vec![last + 2], shape });
        Ok(())
    }

    /// How many samples go through all kernels together. Depends on sizes alone.
    fn block(&self) -> usize {
        if self.is_coupled {
            return self.batch;
        }
        let elements = |node: usize| self.nodes[node].shape.elements();
        let around = |i: usize| elements(i) + self.nodes[i].inputs.iter().map(|&input| elements(input)).sum::<usize>();
        let widest = (0..self.nodes.len()).filter(|&i| self.is_op(i)).map(around).max().unwrap_or(1);
        let most = (BLOCK_BYTES / (4 * widest.max(1))).clamp(1, BLOCK);
        // Weights are read once a block: while they weigh more than what the samples leave behind, take more samples.
        let all: usize = (0..self.nodes.len()).filter(|&i| self.is_op(i)).map(elements).sum();
        let most = most.max((self.weights() / all.max(1)).min(BLOCK / 2));
        let most = if most > 8 { most / 8 * 8 } else { most };
        let even = self.batch.div_ceil(self.batch.div_ceil(most));
        if even > 8 { even.next_multiple_of(8) } else { even }
    }

    /// The elements of all weights.
    fn weights(&self) -> usize {
        let weights = self.nodes.iter().map(|node| match &node.op {
            Op::Conv(weighted, ..) | Op::Linear(weighted) => weighted.weight.len(),
            _ => 0,
        });
        weights.sum()
    }

    /// Where the value of each node with a kernel is, and the slots' sizes for a sample. A slot is used again once
    /// nobody reads its value any more.
    fn places(&self) -> (Vec<Option<Place>>, Vec<usize>) {
        let mut last_read = vec![0; self.nodes.len()];
        for i in (0..self.nodes.len()).filter(|&i| self.is_op(i)) {
            self.nodes[i].inputs.iter().for_each(|&input| last_read[self.source(input)] = i);
        }
        let result = self.source(self.nodes.len() - 1);
        let (mut places, mut slots) = (vec![None; self.nodes.len()], Vec::<usize>::new());
        let mut free: Vec<usize> = Vec::new();
        for i in (0..self.nodes.len()).filter(|&i| self.is_op(i)) {
            let len = self.nodes[i].shape.elements();
            places[i] = Some(if i == result {
                Place::Output
            } else {
                // The smallest that is large enough, else the largest.
                let best = free.iter().enumerate().min_by_key(|(_, slot)| {
                    let size = slots[**slot];
                    if size >= len { (0, size) } else { (1, usize::MAX - size) }
                });
                let slot = match best.map(|(at, _)| at) {
                    Some(at) => free.swap_remove(at),
                    None => {
                        slots.push(0);
                        slots.len() - 1
                    }
                };
                slots[slot] = slots[slot].max(len);
                Place::Slot(slot)
            });
            let mut read: Vec<usize> = self.nodes[i].inputs.iter().map(|&input| self.source(input)).collect();
            read.sort_unstable();
            read.dedup();
            for source in read {
                if let (Some(Place::Slot(slot)), true) = (places[source], last_read[source] == i) {
                    free.push(slot);
                }
            }
        }
        (places, slots)
    }
}

/// `conv [1, 28, 28] → [32, 13, 13], max_pool 2×2, relu`
fn label(node: &Node, inputs: &[Shape]) -> String {
    let (name, pool, then) = match &node.op {
        Op::Conv(weighted, _, pool) => ("conv", *pool, weighted.then),
        Op::Linear(weighted) => ("linear", [1; 3], weighted.then),
        Op::Scale(.., then) => ("scale", [1; 3], *then),
        Op::Pointwise(function) => return format!("{} {}", function.name(), node.shape),
        Op::MaxPool(_) => ("max_pool", [1; 3], None),
        Op::AvgPool(_) => ("avg_pool", [1; 3], None),
        Op::AdaptiveAvgPool(_) => ("adaptive_avg_pool", [1; 3], None),
        Op::Add(then) => ("add", [1; 3], *then),
        Op::Concat(_) => ("concat", [1; 3], None),
        Op::Layer(_) => ("layer", [1; 3], None),
        Op::Input | Op::View | Op::Merged => unreachable!("has no kernel"),
    };
    let from: Vec<String> = inputs.iter().map(Shape::to_string).collect();
    let mut label = format!("{name} {} → {}", from.join(" + "), node.shape);
    if pool != [1; 3] {
        let skip = pool.iter().take_while(|&&size| size == 1).count().min(3 - (node.shape.rank() - 1));
        let sizes: Vec<String> = pool[skip..].iter().map(usize::to_string).collect();
        label += &format!(", max_pool {}", sizes.join("×"));
    }
    if let Some(then) = then {
        label += &format!(", {}", then.name());
    }
    label
}
