//! The engine, on one page: nodes, and the walk that turns one gradient into all of them.
//!
//! A [`Node`] is one recorded op. It knows its parents, never its children, so a graph is freed with its last handle.
//! Rules *return* gradients; only [`walk`] adds them up.

use crate::few::Few;
use crate::part::Role;
use crate::pass::{Pass, lock};
use crate::{Error, Result, Var, Walk};
use maplet_tensor::{DType, Shape};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// One recorded op.
pub(crate) struct Node {
    /// Rises with every node of a pass: parents always have lower numbers than their children.
    seq: u64,
    op: &'static str,
    pass: u64,
    /// Set on leaves, where gradients are collected.
    leaf: Option<u64>,
    /// Shape and type of each output, and so of each gradient that may arrive.
    outputs: Few<(Shape, DType)>,
    rules: Mutex<Rules>,
    /// The gradients of the outputs are to be kept though this is no leaf.
    retained: AtomicBool,
}

/// How a node passes its gradients on. The closures hold what the forward computation saved.
#[derive(Clone)]
pub(crate) enum Rules {
    /// One rule for each parent, for a node with one output. A leaf has no edges.
    Edges(Few<Edge>),
    /// One rule for all parents, for ops whose gradients share work or that have several outputs.
    Joint(Vec<Option<Parent>>, Arc<JointRule>),
    /// A checkpointed part: what it depends on, and the outputs again, recorded this time.
    Part(Vec<Parent>, Arc<PartRule>),
    /// Used up by an earlier walk.
    Walked,
}

/// The value that an op was applied to: output `out` of `node`.
#[derive(Clone)]
pub(crate) struct Parent {
    pub(crate) node: Arc<Node>,
    pub(crate) out: u32,
}

impl Parent {
    /// What the gradient of this value is stored under.
    pub(crate) fn key(&self) -> Key {
        self.node.key(self.out)
    }
}

#[derive(Clone)]
pub(crate) struct Edge {
    pub(crate) parent: Parent,
    pub(crate) rule: Arc<EdgeRule>,
}

/// From the gradient of the output, and the op's own node, to the gradient of one input.
pub(crate) type EdgeRule = dyn Fn(Var, &Arc<Node>) -> Result<Var> + Send + Sync;
/// From the gradients of the outputs (those that have one), and which inputs want one, to the gradients of the inputs.
pub(crate) type JointRule = dyn Fn(Vec<Option<Var>>, &[bool]) -> Result<Vec<Option<Var>>> + Send + Sync;
/// Runs a part again, and records it.
pub(crate) type PartRule = dyn Fn() -> Result<Vec<Var>> + Send + Sync;

/// What a gradient is stored under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A parameter, or a leaf made by [`Pass::leaf`]: the number is its own.
    Leaf(u64),
    /// Any other recorded value: pass, node, output.
    Value(u64, u64, u32),
}

/// Carries the gradients in `seeds` from the outputs to the leaves, or to the targets of `only`.
///
/// Nodes wait in an ordered map. The latest is popped, its rules give one gradient for each parent, and those are added
/// to what the parents have already; since parents are older than their children, a node's gradient is complete when
/// its turn comes.
pub(crate) fn walk(
    op: &'static str,
    seeds: Vec<(Parent, Var)>,
    pass: &Pass,
    mode: Walk,
    only: Option<Only>,
) -> Result<Found> {
    let pass = pass.with_role(Role::Walk { quiet: mode != Walk::WithGraph });
    let mut front = Front { pass, only, pending: BTreeMap::new(), found: Found::default() };
    for (output, dy) in seeds {
        front.give(op, output, dy)?;
    }
    while let Some((_, (node, mut dys))) = front.pending.pop_last() {
        front.keep(&node, &dys);
        if front.only.as_ref().is_some_and(|only| !only.goes_below(&node)) {
            continue;
        }
        match node.take_rules(mode == Walk::Consume) {
            Rules::Edges(mut edges) => {
                edges.retain(|edge| front.wants(&edge.parent));
                let (Some(last), Some(Some(dy))) = (edges.pop(), dys.pop()) else { continue };
                for Edge { parent, rule } in edges {
                    front.pulled(node.op, parent, rule(dy.clone(), &node)?)?;
                }
                front.pulled(node.op, last.parent, (last.rule)(dy, &node)?)?;
            }
            Rules::Joint(parents, rule) => {
                let want = |parent: &Option<Parent>| parent.as_ref().is_some_and(|parent| front.wants(parent));
                let want: Vec<bool> = parents.iter().map(want).collect();
                for (parent, dx) in parents.into_iter().zip(rule(dys.into_iter().collect(), &want)?) {
                    if let (Some(parent), Some(dx)) = (parent, dx) {
                        front.pulled(node.op, parent, dx)?;
                    }
                }
            }
            // The new nodes are the latest: they are walked next, in the order in which they would have been anyway.
            Rules::Part(_, again) => {
                let ys = again()?;
                if let Some(only) = &mut front.only {
                    only.look(ys.iter().filter_map(|y| y.node.clone()).collect(), node.seq + 1)?;
                }
                for (y, dy) in ys.into_iter().zip(dys) {
                    if let (Some(output), Some(dy)) = (y.parent(), dy) {
                        front.give(node.op, output, dy)?;
                    }
                }
            }
            Rules::Walked => return Err(walked(node.op)),
        }
    }
    Ok(front.found)
}

/// How far a walk has come.
struct Front {
    pass: Pass,
    only: Option<Only>,
    /// Nodes to be walked, by number, with the gradient of each output so far.
    pending: BTreeMap<u64, (Arc<Node>, Few<Option<Var>>)>,
    found: Found,
}

/// Gradients, by what they belong to.
#[derive(Default)]
pub(crate) struct Found {
    /// Of the leaves, or of the targets.
    pub(crate) grads: BTreeMap<Key, Option<Var>>,
    /// Of other values that were to be kept.
    pub(crate) retained: BTreeMap<Key, Var>,
}

impl Front {
    /// As [`give`](Self::give), for what a rule of `op` returned: the place where a watched pass looks.
    fn pulled(&mut self, op: &'static str, parent: Parent, dx: Var) -> Result<()> {
        if let Some(watch) = self.pass.watch() {
            watch.pulled(op, &parent.node, &dx)?;
        }
        self.give(op, parent, dx)
    }

    /// Adds `dx` to the gradient that waits at `parent`, if it is of use there; at a leaf it has arrived.
    fn give(&mut self, op: &'static str, parent: Parent, dx: Var) -> Result<()> {
        if !self.wants(&parent) {
            return Ok(());
        }
        let (shape, dtype) = parent.node.outputs.get(parent.out as usize).expect("an output that the node made");
        if (dx.shape(), dx.dtype()) != (*shape, *dtype) {
            let what = format!("the gradient is {} {}, the value {dtype} {shape}", dx.dtype(), dx.shape());
            return Err(Error::graph(op, what, "a rule returns a gradient of its input's shape and type"));
        }
        let slot = match parent.node.leaf {
            Some(id) => self.found.grads.entry(Key::Leaf(id)).or_default(),
            None => {
                let waiting = self.pending.entry(parent.node.seq).or_insert_with(|| (parent.node, Few::new()));
                waiting.1.slot(parent.out as usize)
            }
        };
        // Gradients add up: the first is moved in, the others are added.
        let dx = dx.settled(&self.pass);
        *slot = Some(match slot.take() {
            Some(sum) => sum.accumulate(dx)?,
            None => dx,
        });
        Ok(())
    }

    fn wants(&self, parent: &Parent) -> bool {
        self.only.as_ref().is_none_or(|only| only.wants(parent))
    }

    /// Keeps the gradients of a target, and those that were asked for beforehand.
    fn keep(&mut self, node: &Node, dys: &Few<Option<Var>>) {
        let retained = node.retained.load(Relaxed);
        if self.only.is_none() && !retained {
            return;
        }
        for (out, dy) in dys.iter().enumerate() {
            let key = node.key(out as u32);
            if self.only.as_ref().is_some_and(|only| only.targets.contains(&key)) {
                self.found.grads.insert(key, dy.clone());
            } else if let (true, Some(dy)) = (retained, dy) {
                self.found.retained.insert(key, dy.clone());
            }
        }
    }
}

/// The values that a walk is asked for, and the nodes that lead to them.
pub(crate) struct Only {
    targets: BTreeSet<Key>,
    /// Every node worth a gradient, by number; the flag tells those with a target below them from mere targets.
    useful: BTreeMap<u64, bool>,
}

impl Only {
    /// Looks from the outputs down for nodes with a path to a target.
    pub(crate) fn new(targets: BTreeSet<Key>, outputs: Vec<Arc<Node>>) -> Result<Self> {
        // Nothing older than the oldest target leads to one; a parameter's leaves may be anywhere.
        let floor = |key: &Key| if let Key::Value(_, seq, _) = key { *seq } else { 0 };
        let oldest = targets.iter().map(floor).min().unwrap_or(u64::MAX);
        let mut only = Self { targets, useful: BTreeMap::new() };
        only.look(outputs, oldest)?;
        Ok(only)
    }

    /// Looks at the nodes from `oldest` on; those before have been looked at, or are of no use.
    fn look(&mut self, mut stack: Vec<Arc<Node>>, oldest: u64) -> Result<()> {
        let mut below = BTreeMap::new();
        while let Some(node) = stack.pop() {
            if node.seq < oldest || below.contains_key(&node.seq) {
                continue;
            }
            let parents = node.parents().ok_or_else(|| walked(node.op))?;
            let (first, last) = (node.key(0), node.key(u32::MAX));
            let is_target = self.targets.range(first..=last).next().is_some();
            below.insert(node.seq, (is_target, parents.iter().map(|parent| parent.seq).collect::<Vec<_>>()));
            stack.extend(parents);
        }
        for (seq, (is_target, parents)) in below {
            let goes_on = parents.iter().any(|parent| self.useful.contains_key(parent));
            if is_target || goes_on {
                self.useful.insert(seq, goes_on);
            }
        }
        Ok(())
    }

    /// Whether there is something to be found below `node`.
    fn goes_below(&self, node: &Node) -> bool {
        self.useful.get(&node.seq) == Some(&true)
    }

    /// Whether a gradient at `parent` is of use.
    fn wants(&self, parent: &Parent) -> bool {
        self.useful.contains_key(&parent.node.seq)
    }
}

impl Node {
    pub(crate) fn new(
        (pass, seq): (u64, u64),
        op: &'static str,
        leaf: Option<u64>,
        outputs: Few<(Shape, DType)>,
        rules: Rules,
    ) -> Self {
        Self { seq, op, pass, leaf, outputs, rules: Mutex::new(rules), retained: AtomicBool::new(false) }
    }

    pub(crate) fn op(&self) -> &'static str {
        self.op
    }

    /// What the gradient of output `out` is stored under.
    pub(crate) fn key(&self, out: u32) -> Key {
        self.leaf.map_or(Key::Value(self.pass, self.seq, out), Key::Leaf)
    }

    /// Has walks keep the gradients of the outputs.
    pub(crate) fn retain(&self) {
        self.retained.store(true, Relaxed);
    }

    /// The rules: moved out, so that what they saved is freed, or copied.
    fn take_rules(&self, consume: bool) -> Rules {
        let mut rules = lock(&self.rules);
        if consume { std::mem::replace(&mut rules, Rules::Walked) } else { rules.clone() }
    }

    /// The nodes directly below, or nothing if a walk has used them up.
    fn parents(&self) -> Option<Vec<Arc<Node>>> {
        match &*lock(&self.rules) {
            Rules::Edges(edges) => Some(edges.iter().map(|edge| edge.parent.node.clone()).collect()),
            Rules::Joint(parents, _) => Some(parents.iter().flatten().map(|parent| parent.node.clone()).collect()),
            Rules::Part(parents, _) => Some(parents.iter().map(|parent| parent.node.clone()).collect()),
            Rules::Walked => None,
        }
    }

    /// The leaves that `self` depends on, as far as the graph still stands.
    pub(crate) fn leaves_below(self: &Arc<Self>) -> BTreeSet<u64> {
        let (mut leaves, mut seen, mut stack) = (BTreeSet::new(), BTreeSet::new(), vec![self.clone()]);
        while let Some(node) = stack.pop() {
            if seen.insert(node.seq) {
                leaves.extend(node.leaf);
                stack.extend(node.parents().unwrap_or_default());
            }
        }
        leaves
    }
}

fn walked(op: &'static str) -> Error {
    let what = format!("an earlier walk has used up this graph: what `{op}` had saved is freed");
    Error::graph("backward", what, "use backward_with_graph() for the first walk, or backward_to(.., Walk::Keep)")
}

/// Frees a graph without recursion: one that is 3,000 ops deep would overflow the stack of a thread.
impl Drop for Node {
    fn drop(&mut self) {
        thread_local! {
            static BUSY: Cell<bool> = const { Cell::new(false) };
            static DEAD: RefCell<Vec<Rules>> = const { RefCell::new(Vec::new()) };
        }
        let rules = std::mem::replace(self.rules.get_mut().unwrap_or_else(PoisonError::into_inner), Rules::Walked);
        if matches!(&rules, Rules::Walked) || matches!(&rules, Rules::Edges(edges) if edges.is_empty()) {
            return;
        }
        // While a thread ends its locals are gone; what is freed then is freed by plain recursion.
        let queued = DEAD.try_with(|dead| dead.borrow_mut().push(rules)).is_ok();
        if queued && !BUSY.replace(true) {
            while let Some(rules) = DEAD.with(|dead| dead.borrow_mut().pop()) {
                drop(rules); // drops nodes, which come back here and only queue their rules
            }
            BUSY.set(false);
        }
    }
}
