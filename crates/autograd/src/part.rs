//! [`Role`]: what a handle on a pass is used for. Most record, and those of a walk may not. A checkpointed part is run
//! twice: by a handle that notes what the second run will need, and by one that replays it.

use crate::node::{Key, Parent};
use crate::pass::lock;
use crate::{Pass, Var};
use maplet_tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Clone)]
pub(crate) enum Role {
    /// Whatever it meets is recorded.
    Record,
    /// The first run of a checkpointed part: nothing is recorded.
    First(Arc<First>),
    /// The second run: everything is recorded, random numbers come again, and new states are thrown away.
    Again(Arc<Again>),
    /// A backward walk. What a quiet one meets is not recorded.
    Walk { quiet: bool },
}

/// What the first run of a part notes.
pub(crate) struct First {
    outer: Pass,
    /// What the part depends on: its inputs, the parameters that it met, and recorded values from elsewhere.
    parents: Mutex<BTreeMap<Key, Parent>>,
    /// The streams of random numbers that it drew.
    draws: Mutex<Vec<u64>>,
}

/// What the second run of a part replays.
pub(crate) struct Again {
    depth: usize,
    draws: Vec<u64>,
    drawn: AtomicUsize,
    /// As they were when the first run began, and from there on its own.
    states: Mutex<BTreeMap<u64, Tensor>>,
}

impl Role {
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self, Self::First(_) | Self::Walk { quiet: true })
    }

    pub(crate) fn is_walk(&self) -> bool {
        matches!(self, Self::Walk { .. })
    }

    /// The role of what two values make together: a walk's before a part's, an inner part's before an outer one's.
    pub(crate) fn meet(&mut self, other: &Self) {
        if !matches!(other, Self::Record) && other.rank() > self.rank() {
            *self = other.clone();
        }
    }

    fn rank(&self) -> usize {
        match self {
            Self::Record => 0,
            Self::First(first) => first.outer.role.rank() + 1,
            Self::Again(again) => again.depth,
            Self::Walk { quiet } => usize::MAX - usize::from(!quiet),
        }
    }

    /// The number of the next stream of random numbers; `fresh` makes a new one.
    pub(crate) fn draw(&self, fresh: impl FnOnce() -> u64) -> u64 {
        match self {
            Self::Record | Self::Walk { .. } => fresh(),
            Self::First(first) => {
                let stream = first.outer.role.draw(fresh);
                lock(&first.draws).push(stream);
                stream
            }
            Self::Again(again) => again.draws.get(again.drawn.fetch_add(1, Relaxed)).copied().unwrap_or_else(fresh),
        }
    }

    /// The states that this handle reads and writes, unless they are the pass's own.
    pub(crate) fn states(&self) -> Option<MutexGuard<'_, BTreeMap<u64, Tensor>>> {
        match self {
            Self::Record | Self::Walk { .. } => None,
            Self::First(first) => Some(first.outer.states()),
            Self::Again(again) => Some(lock(&again.states)),
        }
    }
}

impl First {
    pub(crate) fn new(outer: Pass, inputs: &[&Var]) -> Self {
        let parents = inputs.iter().filter_map(|x| x.parent()).map(|parent| (parent.key(), parent));
        let parents = Mutex::new(parents.collect());
        Self { outer, parents, draws: Mutex::default() }
    }

    /// The part met the parameter `id`, which has this value.
    pub(crate) fn join(&self, id: u64, value: &Tensor) {
        let leaf = || self.outer.leaf_of(id, value.clone()).parent().expect("a leaf has a node");
        lock(&self.parents).entry(Key::Leaf(id)).or_insert_with(leaf);
    }

    /// The part met a value that was recorded elsewhere.
    pub(crate) fn capture<'p>(&self, parents: impl Iterator<Item = &'p Parent>) {
        lock(&self.parents).extend(parents.map(|parent| (parent.key(), parent.clone())));
    }

    /// What was noted: the parents, and the streams.
    pub(crate) fn take(&self) -> (Vec<Parent>, Vec<u64>) {
        let (mut parents, mut draws) = (lock(&self.parents), lock(&self.draws));
        (std::mem::take(&mut *parents).into_values().collect(), std::mem::take(&mut *draws))
    }
}

impl Again {
    pub(crate) fn new(outer: &Role, draws: Vec<u64>, states: BTreeMap<u64, Tensor>) -> Self {
        Self { depth: outer.rank() + 1, draws, drawn: AtomicUsize::new(0), states: Mutex::new(states) }
    }

    /// How many streams of random numbers the first run drew, and how many this one.
    pub(crate) fn draws(&self) -> [usize; 2] {
        [self.draws.len(), self.drawn.load(Relaxed)]
    }
}
