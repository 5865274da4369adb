//! Optimizers, schedules and gradient clipping.
//!
//! An optimizer updates a model in place by its gradients. [`Sgd`], [`Adam`] and [`AdamW`] are rules for one parameter;
//! groups, clipping, schedules and saving are the same for all and live in [`Descent`].
//!
//! ```
//! use maplet_autograd::{Param, Pass, Tensor};
//! use maplet_optim::{AdamW, Cosine, Group, Optimizer};
//!
//! let mut model = (Param::new(Tensor::from([1.0f32, -2.0])), Param::new(Tensor::from([0.5f32])));
//! let mut adamw = AdamW::new(0.05)
//!     .group(|path: &str| path == "1", Group::new().weight_decay(0.0))
//!     .clip_norm(1.0)
//!     .schedule(Cosine::new(300).warm_up(10));
//! for step in 0..300 {
//!     let x = Pass::train(step).input(Tensor::from([1.0f32, 1.0]));
//!     let y = model.0.on(&x).add(&model.1.on(&x))?;
//!     adamw.step(&mut model, &y.square().sum(.., false)?.backward()?)?;
//! }
//! let sum = model.0.value().add(model.1.value())?;
//! assert!(sum.as_slice::<f32>()?.iter().all(|y| y.abs() < 0.02)); // the smallest value of the loss
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate finds parameters through [`Visit`](maplet_autograd::Visit) and knows nothing of layers.

#![forbid(unsafe_code)]

mod optimizer;
mod error;
mod sgd;
mod adam;
mod descent;
mod group;
mod schedule;

pub use adam::{Adam, AdamRule, AdamW};
pub use descent::{Descent, Now, Rule};
pub use error::{Error, Result};
pub use group::Group;
pub use optimizer::{Optimizer, OptimizerState};
pub use schedule::{Constant, Cosine, Schedule, StepDecay};
pub use sgd::{Sgd, SgdRule};
