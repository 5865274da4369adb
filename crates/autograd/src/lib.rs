//! Reverse-mode differentiation: values that remember how they were made.
//!
//! ```
//! use maplet_autograd::{Pass, Tensor};
//!
//! let pass = Pass::record();
//! let x = pass.leaf(Tensor::from([3.0f32]));
//! let y = x.square().sum(.., false)?; // y = x²
//! let grads = y.backward()?;
//! assert_eq!(grads.of(&x), Some(&Tensor::from([6.0f32]))); // dy/dx = 2x
//! # Ok::<(), maplet_autograd::Error>(())
//! ```
//!
//! # How it works
//!
//! **A [`Var`] is a tensor, plus its place in a graph while it is recorded.** A value is recorded if it was made from
//! one that came in through a [`Pass`]; a `Var` made from a plain tensor is not, and that is all there is to inference.
//! In the example `square` computes 9 and leaves a *node* behind: "made from `x`, and to pull a gradient `dy` back to
//! `x`, multiply it by `2x`". Such a *rule* is a closure right under the op's forward computation:
//!
//! ```text
//! let x = self.clone();
//! record("square", self.value().square()).pull(self, move |dy| Ok(dy.mul(&x)?.mul_scalar(2.0))).done()
//! ```
//!
//! **[`Var::backward`] walks the nodes from the latest to the oldest.** It begins with the gradient of `y` by itself,
//! 1, and asks each node's rules what that means for the node's inputs. A value that was used twice gets two gradients,
//! and they are added. What arrives at a leaf is a result, in [`Grads`]. The walk is one page, in `node.rs`.
//!
//! **Rules are written in the same `Var` ops,** so a walk can itself be recorded
//! ([`backward_with_graph`](Var::backward_with_graph)) and gradients differentiated again. A fused kernel, which is no
//! composition of ops, brings a *twin* that is: see [`record_fused`].
//!
//! **Nothing is changed behind your back.** Gradients are a value, so there is nothing to set to zero; new running
//! statistics ([`State`]) travel with the pass; random numbers come from the pass's seed. A [`Param`] joins the pass of
//! the data that it meets, so threads can share one model, each with a pass of its own.
//!
//! # What else is here
//!
//! **Ops of your own** are written with the functions that this crate's ops are written with: [`record`] with one rule
//! an input, [`record_all`] with one rule for all, [`record_fused`] with a kernel and its twin, [`record_kernel`] with
//! a kernel alone. What a rule needs it captures. The example `05_custom_op` shows them, and [`gradcheck`] asks finite
//! differences whether a gradient is right.
//!
//! **[`jacobian`], [`hessian`]** and their products with vectors; [`checkpoint()`], which computes a part twice instead
//! of keeping its inner values; [`Pass::detect_anomaly`], which names the op of the first NaN;
//! [`Var::register_hook`] and [`Var::retain_grad`], to look at gradients on their way.
//!
//! [`Visit`] and [`fields!`] let optimizers and files find a model's parameters by name; [`container`] is the file
//! format under models and checkpoints. Layers, losses and optimizers are in the crates above.

#![forbid(unsafe_code)]

mod var;
mod pass;
mod part;
mod anomaly;
mod node;
mod few;
mod backward;
mod record;
mod joint;
mod checkpoint;
mod grads;
mod param;
mod visit;
mod ops;
mod derivatives;
mod gradcheck;
pub mod container;
mod error;

pub use backward::{Leaf, Walk};
pub use checkpoint::{checkpoint, checkpoint_outputs};
pub use derivatives::{hessian, hessian_vector_product, jacobian, jacobian_vector_product, vector_jacobian_product};
pub use error::{Error, ErrorKind, Message, Result};
pub use gradcheck::{gradcheck, gradcheck_first, gradcheck_model};
pub use grads::{Grads, Missing, Why};
pub use joint::{record_all, record_all_outputs, record_fused, record_fused_outputs, record_kernel};
pub use ops::attention::AttentionOptions;
pub use param::{Param, State};
pub use pass::Pass;
pub use record::{Record, record};
pub use var::Var;
pub use visit::{Item, ItemMut, Path, Visit, params, params_mut, states, states_mut};

// What the signatures above need.
pub use maplet_tensor::{
    Activation, Axes, Bend, Cell, CtcTargets, DType, Element, Interpolation, LabelOptions, OutputSize, PadMode, Pool,
    Recurrence, RecurrentWeights, Resize, Rng, Shape, Sizes, Taps, Tensor, Trans, Window, Window1d, Window2d, Window3d,
};
