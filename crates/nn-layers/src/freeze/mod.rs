//! [`Frozen`]: a model that was made ready for inference on one shape of input.
//!
//! A layer says in its own file what it does at inference (`Module::lower`), as ops of a [`Graph`]. `fuse.rs` joins
//! neighbors, `plan.rs` packs weights and lays out the memory, and a [`Session`] runs the result.

mod graph;
mod fuse;
mod plan;

pub use graph::{Graph, Value};

use crate::{Error, Module, Result, Sequential};
use maplet_autograd::{params, states};
use maplet_tensor::{DType, Shape, Tensor, par};
use plan::{Memory, Plan};
use std::fmt;
use std::sync::Arc;

/// A model for inference alone, on input of one shape: batch norms are folded into the layers before them, dropout is
/// gone, neighbors run as one kernel, weights are packed, and the memory of all values is laid out.
///
/// It is a handle: clones share the weights, and threads share it by reference. What a call needs for itself is in a
/// [`Session`], of which each thread has one.
///
/// The model is left as it was; what it learns later does not reach this. Results are those of its `forward` outside of
/// any pass, but for rounding; infinities and NaN may reach further where a convolution is filtered minimally, as
/// [`Tensor::conv`](maplet_tensor::Tensor::conv) says. Input is `F32`: a model that begins with ids cannot be frozen.
///
/// Convolutions, linear layers, pools, batch norms, the common activations, changes of shape, dropout,
/// [`Residual`](crate::Residual) and [`Parallel`](crate::Parallel) have kernels. Whatever else is among the layers runs
/// by its own `forward`, which takes memory from the pool of tensors; [`steps`](Self::steps) says which. Convolutions
/// keep scratch for each thread: one outside of the pool takes it with its first call.
///
/// # Example
/// ```
/// use maplet_autograd::Var;
/// use maplet_nn_layers::{Module, Sequential};
/// use maplet_tensor::{DType, Tensor};
///
/// let model = Sequential::input([1, 8, 8]).conv2d(4, 3).batch_norm2d().relu().max_pool2d(2).flatten().linear(10);
/// let model = model.build(42)?;
/// let frozen = model.freeze(1)?; // for batches of one
/// assert_eq!(frozen.steps().len(), 2);
///
/// let image = Tensor::ones([1, 1, 8, 8], DType::F32);
/// let mut session = frozen.session();
/// let logits = session.run(&image)?; // allocates nothing, takes no lock
/// let error = logits.sub(model.forward(&Var::from(&image))?.value())?.abs().max(.., false)?;
/// assert!(error.item::<f32>()? < 1e-5);
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Clone)]
pub struct Frozen {
    plan: Arc<Plan>,
}

impl Frozen {
    /// Any model, for input of this shape, whose axis 0 is the batch.
    ///
    /// # Errors
    /// A shape that the model does not take or that has no elements, parameters that are not `F32`, an output that is
    /// not.
    pub fn new<M: Module + Clone + 'static>(model: &M, input: impl Into<Shape>) -> Result<Self> {
        let input = input.into();
        let Some((&batch, sample)) = input.split_first().filter(|_| !input.contains(&0)) else {
            let what = format!("input {input} has no elements");
            return Err(Error::new("freeze", what, "name the shape that will come, with the batch as axis 0"));
        };
        let dtypes = params(model).into_iter().map(|(name, param)| (name, param.dtype()));
        let dtypes = dtypes.chain(states(model).into_iter().map(|(name, state)| (name, state.value().dtype())));
        if let Some((name, dtype)) = dtypes.into_iter().find(|(_, dtype)| dtype.is_float() && *dtype != DType::F32) {
            return Err(Error::new("freeze", format!("`{name}` is {dtype}"), "cast the model to F32 first"));
        }
        let mut graph = Graph::new(batch, Shape::new(sample)?);
        let output = graph.layer(model, Value::INPUT)?;
        graph.end_with(output);
        graph.fuse()?;
        Ok(Self { plan: Arc::new(Plan::new(graph)?) })
    }

    /// The memory for calls from one thread. They share what is worth it with the thread pool: make the calls inside
    /// [`par::enter`] if there are many of them, as entering it takes longer than a small model.
    pub fn session(&self) -> Session {
        Session::new(self.plan.clone(), false)
    }

    /// As [`session`](Self::session), but calls stay in the thread that makes them: for many threads that each have
    /// requests of their own.
    pub fn session_alone(&self) -> Session {
        Session::new(self.plan.clone(), true)
    }

    /// The shape that it takes.
    pub fn input_shape(&self) -> Shape {
        self.plan.input
    }

    /// The shape of its output.
    pub fn output_shape(&self) -> Shape {
        self.plan.output
    }

    /// What it does, a line for each kernel: `conv [1, 28, 28] → [32, 13, 13], max_pool 2×2, relu`. A `layer` runs by
    /// its own forward pass.
    pub fn steps(&self) -> Vec<&str> {
        self.plan.labels().collect()
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frozen {} → {}", self.input_shape(), self.output_shape())?;
        self.steps().into_iter().try_for_each(|step| write!(f, "\n{step}"))
    }
}

impl Sequential {
    /// The model for inference alone, on so many samples at a time.
    ///
    /// # Errors
    /// A batch of 0, parameters that are not `F32`.
    pub fn freeze(&self, batch: usize) -> Result<Frozen> {
        Frozen::new(self, Shape::new(&[&[batch], self.input_shape().sizes()].concat())?)
    }
}

/// One thread's memory for calls of a [`Frozen`] model.
pub struct Session {
    plan: Arc<Plan>,
    /// One for each block of samples that may be under way.
    memories: Vec<Memory>,
    output: Tensor,
    alone: bool,
}

impl Session {
    fn new(plan: Arc<Plan>, alone: bool) -> Self {
        let lanes = if alone { 1 } else { plan.lanes(par::threads()) };
        let at_once = if alone || lanes > 1 { 1 } else { plan.block };
        let memories = (0..lanes).map(|_| Memory::new(&plan, at_once)).collect();
        Self { memories, output: Tensor::zeros(plan.output, DType::F32), plan, alone }
    }

    /// The output for `x`; it stays here until the next call.
    ///
    /// Allocates nothing and takes no lock, unless the caller keeps a clone of the last output or a step is a `layer`.
    /// Waking a sleeping thread of the pool is the pool's affair.
    ///
    /// # Errors
    /// Another shape or element type than the model was frozen for.
    pub fn run(&mut self, x: &Tensor) -> Result<&Tensor> {
        let Self { plan, memories, output, alone } = self;
        if x.shape() != plan.input {
            let what = format!("input {} does not fit a model frozen for {}", x.shape(), plan.input);
            return Err(Error::new("frozen", what, "freeze the model for this shape too"));
        }
        if x.dtype() != DType::F32 {
            let what = format!("expects f32, got {}", x.dtype());
            return Err(Error::new("frozen", what, "convert the input with to_dtype(DType::F32)"));
        }
        let (x, y) = (x.as_slice::<f32>()?, output.as_mut_slice::<f32>()?);
        match *alone || plan.is_small() {
            true => plan.run(memories, x, y, *alone)?,
            false => par::enter(|| plan.run(memories, x, y, false))?,
        }
        Ok(output)
    }
}
