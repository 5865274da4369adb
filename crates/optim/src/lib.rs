//! Optimizers, schedules and gradient clipping.
//!
//! An optimizer updates a model in place by its gradients. [`Sgd`], [`Adam`] and most others are rules for one
//! parameter; groups, clipping, schedules and saving are the same for all and live in [`Descent`]. [`Accumulate`],
//! [`Lookahead`] and [`Partition`] wrap any of them. [`Lbfgs`] and [`Sam`] need the loss more than once a step: they
//! take a closure, or a trainer's [`Objective`]. [`Ema`] and [`Swa`] stand beside a model and average its weights.
//!
//! ```
//! use maplet_autograd::{Param, Pass, Tensor};
//! use maplet_optim::{AdamW, Cosine, Group, Optimizer, Schedule};
//!
//! let mut model = (Param::new(Tensor::from([1.0f32, -2.0])), Param::new(Tensor::from([0.5f32])));
//! let mut adamw = AdamW::new(0.05)
//!     .group(|path: &str| path == "1", Group::new().weight_decay(0.0))
//!     .clip_norm(1.0)
//!     .schedule(Cosine::new(290).warm_up(10));
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
mod objective;
mod error;
mod sgd;
mod adam;
mod descent;
mod moments;
mod group;
mod adamax;
mod nadam;
mod radam;
mod rmsprop;
mod adagrad;
mod adadelta;
mod adafactor;
mod lamb;
mod lion;
mod muon;
mod rprop;
mod asgd;
mod lbfgs;
mod wolfe;
mod wrapper;
mod accumulate;
mod lookahead;
mod partition;
mod sam;
mod average;
mod schedule;
mod plateau;

pub use accumulate::Accumulate;
pub use adadelta::Adadelta;
pub use adafactor::{Adafactor, AdafactorRule};
pub use adagrad::Adagrad;
pub use adam::{Adam, AdamW};
pub use adamax::Adamax;
pub use asgd::{Asgd, AsgdRule};
pub use average::{Averaged, Averaging, Ema, EmaRule, Swa, SwaRule};
pub use descent::{Descent, Rule};
pub use error::{Error, Result};
pub use group::Group;
pub use lamb::{Lamb, LambRule};
pub use lbfgs::{Lbfgs, LineSearch};
pub use lion::Lion;
pub use lookahead::Lookahead;
pub use maplet_tensor::optim::{
    AdadeltaRule, AdagradRule, AdamRule, AdamaxRule, LionRule, Now, OnePass, RadamRule, RmspropRule, RpropRule, SgdRule,
};
pub use moments::Moments;
pub use muon::{Muon, MuonRule, MuonScale};
pub use nadam::{Nadam, NadamRule};
pub use objective::{Objective, step_closure};
pub use optimizer::{Optimizer, OptimizerState};
pub use partition::Partition;
pub use plateau::{PlateauState, ReduceOnPlateau};
pub use radam::Radam;
pub use rmsprop::Rmsprop;
pub use rprop::Rprop;
pub use sam::Sam;
pub use schedule::{
    Chained, Constant, Cosine, CosineRestarts, Cycle, Cyclic, ExponentialDecay, LinearRamp, MultiStepDecay, Noam,
    OneCycle, PolynomialDecay, Schedule, Sequence, StepDecay, WarmUp,
};
pub use sgd::Sgd;
