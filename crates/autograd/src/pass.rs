//! [`Pass`]: one run of a model over one batch. It says whether values are recorded, draws the random numbers, and
//! carries what the forward computation would otherwise have to change in the model.

use crate::Var;
use crate::few::Few;
use crate::node::{Node, Rules};
use maplet_tensor::{Rng, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A number that no other parameter, state or pass of this process has.
pub(crate) fn fresh_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Relaxed)
}

/// One recorded run of a model over one batch.
///
/// A value that enters through a pass is recorded from there on; a value that does not, is not. So there is no
/// global switch to forget. A pass is cheap: make a new one for every step, or one for every thread.
///
/// ```
/// use maplet_autograd::{Pass, Tensor};
///
/// let pass = Pass::train(7); // the seed of this step's random numbers
/// let x = pass.leaf(Tensor::from([3.0f32]));
/// let grads = x.square().sum(.., false)?.backward()?;
/// assert_eq!(grads.of(&x), Some(&Tensor::from([6.0f32])));
/// # Ok::<(), maplet_autograd::Error>(())
/// ```
#[derive(Clone)]
pub struct Pass {
    shared: Arc<Shared>,
    /// Set on the handles that travel through a plain backward walk: what they meet is not recorded. A bit of the
    /// handle, not of the pass, so that two threads that walk one pass do not disturb each other.
    pub(crate) quiet: bool,
}

struct Shared {
    id: u64,
    /// The seed of a training pass; a pass in evaluation mode draws nothing.
    seed: Option<u64>,
    nodes: AtomicU64,
    draws: AtomicU64,
    states: Mutex<BTreeMap<u64, Tensor>>,
    audit: Option<Mutex<Audit>>,
}

/// What an audited pass remembers, so that a missing gradient can be explained.
#[derive(Clone, Default)]
pub(crate) struct Audit {
    /// The parameters that met the data.
    pub(crate) joined: BTreeSet<u64>,
    /// Each op that let no gradient through, with the leaves that its input depended on.
    pub(crate) cuts: Vec<(&'static str, BTreeSet<u64>)>,
}

/// Locks even after a panic elsewhere: every value behind these locks is whole at all times.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pass {
    /// A recorded pass in training mode: dropout drops, batch norm uses the batch's own statistics. The same seed
    /// draws the same random numbers.
    pub fn train(seed: u64) -> Self {
        Self::new(Some(seed), false)
    }

    /// A recorded pass in evaluation mode: gradients, but nothing random and no batch statistics.
    pub fn record() -> Self {
        Self::new(None, false)
    }

    /// The same pass, newly begun, that also remembers what [`Grads::missing`](crate::Grads::missing) needs to
    /// name the op that cut a gradient. Costs a walk over the graph at each op without a gradient (`argmax`, …).
    pub fn audited(self) -> Self {
        Self::new(self.shared.seed, true)
    }

    fn new(seed: Option<u64>, audited: bool) -> Self {
        let shared = Shared {
            id: fresh_id(),
            seed,
            nodes: AtomicU64::new(0),
            draws: AtomicU64::new(0),
            states: Mutex::default(),
            audit: audited.then(Mutex::default),
        };
        Self { shared: Arc::new(shared), quiet: false }
    }

    /// A value of this pass that wants no gradient: the batch.
    pub fn input(&self, value: impl Into<Tensor>) -> Var {
        Var { pass: Some(self.clone()), ..Var::from(value.into()) }
    }

    /// A value of this pass that wants a gradient.
    pub fn leaf(&self, value: impl Into<Tensor>) -> Var {
        self.leaf_of(fresh_id(), value.into())
    }

    /// Whether layers should behave as in training.
    pub fn is_training(&self) -> bool {
        self.shared.seed.is_some()
    }

    /// The next generator of random numbers, a new one at each call; none in evaluation mode.
    pub fn rng(&self) -> Option<Rng> {
        let stream = self.shared.draws.fetch_add(1, Relaxed);
        // A new seed, not a fork: the receiver may fork again, and forks of forks are not independent.
        self.shared.seed.map(|seed| Rng::new(Rng::new(seed).fork(stream).next_u64()))
    }
}

/// What the recording machinery asks of a pass.
impl Pass {
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// This pass, through a handle that records or that does not.
    pub(crate) fn with_quiet(&self, quiet: bool) -> Self {
        Self { quiet, ..self.clone() }
    }

    /// A leaf for `value` that collects its gradient under `id`.
    pub(crate) fn leaf_of(&self, id: u64, value: Tensor) -> Var {
        if let Some(audit) = &self.shared.audit {
            lock(audit).joined.insert(id);
        }
        let node = self.node("leaf", Some(id), [&value], Rules::Edges(Few::new()));
        Var { node: Some(node), ..self.input(value) }
    }

    /// The next node: its number is higher than that of every node made before, on any thread.
    pub(crate) fn node<'y>(
        &self,
        op: &'static str,
        leaf: Option<u64>,
        outputs: impl IntoIterator<Item = &'y Tensor>,
        rules: Rules,
    ) -> Arc<Node> {
        let place = (self.shared.id, self.shared.nodes.fetch_add(1, Relaxed));
        let outputs = outputs.into_iter().map(|y| (y.shape(), y.dtype())).collect();
        Arc::new(Node::new(place, op, leaf, outputs, rules))
    }

    /// Remembers, if audited, that `op` lets no gradient through to `x`.
    pub(crate) fn note_cut(&self, op: &'static str, x: &Arc<Node>) {
        if let Some(audit) = &self.shared.audit {
            let leaves = x.leaves_below();
            lock(audit).cuts.push((op, leaves));
        }
    }

    pub(crate) fn audit(&self) -> Option<Audit> {
        self.shared.audit.as_ref().map(|audit| lock(audit).clone())
    }

    pub(crate) fn states(&self) -> MutexGuard<'_, BTreeMap<u64, Tensor>> {
        lock(&self.shared.states)
    }
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.shared.seed {
            Some(seed) => write!(f, "Pass::train({seed})"),
            None => write!(f, "Pass::record()"),
        }
    }
}
