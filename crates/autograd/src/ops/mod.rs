//! The differentiable ops: each a method of [`Var`](crate::Var) with the name of its kernel in `maplet-tensor`, and its
//! rules right under the call of that kernel.

mod arithmetic;
mod elementwise;
mod activation;
mod activation_smooth;
mod activation_piecewise;
mod gated;
mod reduce;
mod softmax;
mod shape;
mod index;
mod embedding;
mod matmul;
pub(crate) mod attention;
mod conv;
mod pool;
mod resample;
mod norm;
mod noise;
mod loss;
mod ctc;
mod recurrent;
mod hook;
