//! [`Pass`]: one run of a model over one batch. It says whether values are recorded, draws the random numbers, and
//! carries what the forward computation would otherwise have to change in the model.

use crate::anomaly::Watch;
use crate::few::Few;
use crate::node::{Node, Parent, Rules};
use crate::part::Role;
use crate::{Error, Result, Var};
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
    /// What this handle is used for: it decides whether what it meets is recorded. It belongs to the handle and not to
    /// the pass, so that two threads that walk one pass do not disturb each other.
    pub(crate) role: Role,
}

struct Shared {
    id: u64,
    /// The seed of a training pass; a pass in evaluation mode draws nothing.
    seed: Option<u64>,
    nodes: AtomicU64,
    draws: AtomicU64,
    states: Mutex<BTreeMap<u64, Tensor>>,
    audit: Option<Mutex<Audit>>,
    watch: Option<Watch>,
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
        Self::new(Some(seed), false, false)
    }

    /// A recorded pass in evaluation mode: gradients, but nothing random and no batch statistics.
    pub fn record() -> Self {
        Self::new(None, false, false)
    }

    /// The same pass, newly begun, that also remembers what [`Grads::missing`](crate::Grads::missing) needs to
    /// name the op that cut a gradient. Costs a walk over the graph at each op without a gradient (`argmax`, …).
    pub fn audited(self) -> Self {
        Self::new(self.shared.seed, true, self.shared.watch.is_some())
    }

    /// The same pass, newly begun, that also looks for the op which first makes a NaN or an infinity, forward or
    /// backward: [`anomaly`](Self::anomaly) and the walks name it. Costs a look at every element of every op.
    ///
    /// An op that hands on what came in is not blamed: attention scores may be −∞ where a mask says so. Ops do not fail
    /// when they come upon something, since operators could only panic; the walk does, before it begins.
    ///
    /// PyTorch: `autograd.detect_anomaly`; Keras: –.
    ///
    /// ```
    /// use maplet_autograd::{Pass, Tensor};
    ///
    /// let x = Pass::train(0).detect_anomaly().leaf(Tensor::from([4.0f32, 0.0]));
    /// let error = x.mul_scalar(2.0).sqrt().sum(.., false)?.backward().unwrap_err();
    /// let want = "sqrt: the gradient of its input f32 [2], made by `mul_scalar`, is inf at [1]";
    /// assert!(error.to_string().starts_with(want));
    /// # Ok::<(), maplet_autograd::Error>(())
    /// ```
    pub fn detect_anomaly(self) -> Self {
        Self::new(self.shared.seed, self.shared.audit.is_some(), true)
    }

    /// Whether this pass has come upon a NaN or an infinity so far; always fine without
    /// [`detect_anomaly`](Self::detect_anomaly).
    ///
    /// # Errors
    /// The op that made the first one, with its inputs.
    pub fn anomaly(&self) -> Result<()> {
        match self.shared.watch.as_ref().and_then(Watch::first) {
            Some(message) => Err(Error::graph(message.op, message.what, message.help)),
            None => Ok(()),
        }
    }

    fn new(seed: Option<u64>, audited: bool, watched: bool) -> Self {
        let shared = Shared {
            id: fresh_id(),
            seed,
            nodes: AtomicU64::new(0),
            draws: AtomicU64::new(0),
            states: Mutex::default(),
            audit: audited.then(Mutex::default),
            watch: watched.then(Watch::default),
        };
        Self { shared: Arc::new(shared), role: Role::Record }
    }

    /// A value of this pass that wants no gradient: the batch.
    pub fn input(&self, value: impl Into<Tensor>) -> Var {
        let value = value.into();
        if let Some(watch) = &self.shared.watch {
            watch.entered("input", &value);
        }
        self.bare(value)
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
        let stream = self.role.draw(|| self.shared.draws.fetch_add(1, Relaxed));
        // A new seed, not a fork: the receiver may fork again, and forks of forks are not independent.
        self.shared.seed.map(|seed| Rng::new(Rng::new(seed).fork(stream).next_u64()))
    }
}

/// What the recording machinery asks of a pass.
impl Pass {
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// This pass, through a handle that is used for something else.
    pub(crate) fn with_role(&self, role: Role) -> Self {
        Self { shared: self.shared.clone(), role }
    }

    /// Whether what this handle meets is not recorded.
    pub(crate) fn is_quiet(&self) -> bool {
        self.role.is_quiet()
    }

    /// The parameter `id`, which has this value, on meeting a value of this pass.
    pub(crate) fn joined_by(&self, id: u64, value: Tensor) -> Var {
        match &self.role {
            Role::First(first) => {
                first.join(id, &value);
                self.bare(value)
            }
            role if role.is_quiet() => self.bare(value),
            _ => self.leaf_of(id, value),
        }
    }

    /// A value of this pass that was never recorded.
    fn bare(&self, value: Tensor) -> Var {
        Var { pass: Some(self.clone()), ..Var::from(value) }
    }

    /// A leaf for `value` that collects its gradient under `id`.
    pub(crate) fn leaf_of(&self, id: u64, value: Tensor) -> Var {
        if let Some(watch) = &self.shared.watch {
            watch.entered("leaf", &value);
        }
        if let Some(audit) = &self.shared.audit {
            lock(audit).joined.insert(id);
        }
        let node = self.node("leaf", Some(id), [&value], Rules::Edges(Few::new()));
        Var { node: Some(node), ..self.bare(value) }
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

    /// Whether an op with these parents is to be recorded. A checkpointed part takes note of them instead.
    pub(crate) fn records<'p, P: Iterator<Item = &'p Parent>>(&self, parents: impl FnOnce() -> P) -> bool {
        if let Role::First(first) = &self.role {
            first.capture(parents());
        }
        !self.is_quiet()
    }

    /// Looks for a NaN or an infinity in what an op made, if this pass is watched. In a walk the gradients are.
    pub(crate) fn look<'x, X: Iterator<Item = &'x Var>>(
        &self,
        op: &'static str,
        ys: &[Tensor],
        xs: impl FnOnce() -> X,
    ) {
        if let Some(watch) = self.watch().filter(|_| !self.role.is_walk()) {
            watch.made(op, ys, xs());
        }
    }

    /// How many streams of random numbers were begun.
    pub(crate) fn drawn(&self) -> u64 {
        self.shared.draws.load(Relaxed)
    }

    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.shared.watch.as_ref()
    }

    /// The states' latest values.
    pub(crate) fn states(&self) -> MutexGuard<'_, BTreeMap<u64, Tensor>> {
        self.role.states().unwrap_or_else(|| lock(&self.shared.states))
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
