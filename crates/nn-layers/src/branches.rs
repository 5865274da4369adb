//! [`Residual`] and [`Parallel`]: several ways from one input, joined again.

use crate::freeze::{Graph, Value};
use crate::module::Layer;
use crate::{Error, Identity, Module, Result};
use maplet_autograd::{Item, ItemMut, Path, Var, Visit, fields};

/// Adds what a module makes of its input to that input: `y = inner(x) + projection(x)`, where the projection is the
/// identity unless one is given.
///
/// PyTorch: –; Keras: –.
///
/// # Shapes
/// - as `inner`; `projection` must give the same
///
/// # Reference
/// He, Zhang, Ren & Sun (2016), "Deep Residual Learning for Image Recognition", eqs. 1 and 2.
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, params};
/// use maplet_nn_layers::{Linear, Module, Residual, func};
/// use maplet_tensor::Rng;
///
/// let same = Residual::new(func(|x| Ok(x.square())));
/// assert_eq!(same.forward(&Tensor::from([[3.0f32]]).into())?.value(), &Tensor::from([[12.0f32]]));
///
/// let mut rng = Rng::new(42);
/// let wider = Residual::new(Linear::new(4, 8, &mut rng)?).projection(Linear::new(4, 8, &mut rng)?.without_bias());
/// let names: Vec<String> = params(&wider).into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["inner.weight", "inner.bias", "projection.weight"]);
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Residual<M, P = Identity> {
    /// What is added to the shortcut.
    pub inner: M,
    /// The shortcut.
    pub projection: P,
}
fields!([M: Visit, P: Visit] Residual<M, P>: inner, projection);

impl<M: Module> Residual<M> {
    /// A module with a shortcut around it.
    pub fn new(inner: M) -> Self {
        Self { inner, projection: Identity }
    }

    /// Brings the input into the output's shape on the shortcut.
    pub fn projection<P: Module>(self, projection: P) -> Residual<M, P> {
        Residual { inner: self.inner, projection }
    }
}

impl<M: Module, P: Module> Module for Residual<M, P> {
    fn forward(&self, x: &Var) -> Result<Var> {
        let shortcut = self.projection.forward(x).map_err(|error| error.at("projection"))?;
        sum("residual", self.inner.forward(x).map_err(|error| error.at("inner"))?, &shortcut)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        let Some(shortcut) = self.projection.lower(graph, x)? else { return Ok(None) };
        let Some(inner) = self.inner.lower(graph, x)? else { return Ok(None) };
        Ok(graph.add(inner, shortcut))
    }
}

/// Several modules on one input, whose outputs are concatenated or added.
///
/// PyTorch: –; Keras: `Concatenate`, `Add`.
///
/// # Shapes
/// - the branches' outputs must agree: in all sizes to be added, in all but one to be concatenated
///
/// # Parameters
/// - those of the branches, `0.weight`, `1.weight`, …
///
/// # Example
/// ```
/// use maplet_autograd::Tensor;
/// use maplet_nn_layers::{Identity, Module, Parallel, Relu};
///
/// let both = Parallel::concat(-1).branch(Identity).branch(Relu);
/// let y = both.forward(&Tensor::from([[-1.0f32, 2.0]]).into())?;
/// assert_eq!(y.value(), &Tensor::from([[-1.0f32, 2.0, 0.0, 2.0]]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Clone)]
pub struct Parallel {
    branches: Vec<Box<dyn Layer>>,
    join: Join,
}

#[derive(Clone, Copy)]
enum Join {
    Concat(isize),
    Add,
}

impl Parallel {
    /// Puts the outputs side by side along an axis.
    pub fn concat(axis: isize) -> Self {
        Self { branches: Vec::new(), join: Join::Concat(axis) }
    }

    /// Adds the outputs.
    #[allow(clippy::should_implement_trait)] // it takes nothing to add
    pub fn add() -> Self {
        Self { branches: Vec::new(), join: Join::Add }
    }

    /// One more branch.
    pub fn branch(mut self, module: impl Module + Clone + 'static) -> Self {
        self.branches.push(Box::new(module));
        self
    }
}

impl Module for Parallel {
    fn forward(&self, x: &Var) -> Result<Var> {
        let mut outputs = Vec::with_capacity(self.branches.len());
        for (i, branch) in self.branches.iter().enumerate() {
            outputs.push(branch.forward(x).map_err(|error| error.at(format!("branch {i}")))?);
        }
        let joined = match self.join {
            _ if outputs.is_empty() => None,
            Join::Concat(axis) => Some(Ok(Var::concat(&outputs.iter().collect::<Vec<_>>(), axis)?)),
            Join::Add => outputs.into_iter().map(Ok).reduce(|total, y| sum("parallel", total?, &y?)),
        };
        joined.unwrap_or_else(|| Err(Error::new("parallel", "there are no branches", "add one with branch(..)")))
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        let mut outputs = Vec::with_capacity(self.branches.len());
        for (i, branch) in self.branches.iter().enumerate() {
            outputs.push(graph.layer(&**branch, x).map_err(|error| error.at(format!("branch {i}")))?);
        }
        let Some((first, others)) = outputs.split_first() else { return Ok(None) };
        match self.join {
            Join::Add => Ok(others.iter().try_fold(*first, |total, y| graph.add(total, *y))),
            Join::Concat(axis) => {
                let rank = graph.shape(*first).rank() as isize + 1; // with the batch, as the axis is counted
                match if axis < 0 { axis + rank } else { axis } {
                    axis @ 1.. => graph.concat(&outputs, axis as usize - 1),
                    _ => Ok(None),
                }
            }
        }
    }
}

/// The branches by number.
impl Visit for Parallel {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        self.branches.visit(path, show);
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        self.branches.visit_mut(path, show);
    }
}

/// `a + b` of one shape: broadcasting here would hide a mistake.
fn sum(op: &'static str, a: Var, b: &Var) -> Result<Var> {
    if a.shape() == b.shape() {
        return Ok(b.add_to(a)?);
    }
    let what = format!("{} and {} cannot be added", a.shape(), b.shape());
    Err(Error::new(op, what, "make both of one shape, for instance with a projection"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Linear, Relu, check_module};
    use maplet_tensor::Rng;

    fn linear(from: usize, to: usize) -> Linear {
        Linear::new(from, to, &mut Rng::new(1)).unwrap()
    }

    #[test]
    fn the_sum_of_branches_lies_where_the_first_lay() {
        let at = |x: &Var| x.value().as_slice::<f32>().unwrap().as_ptr();
        let first = std::sync::Arc::new(std::sync::Mutex::new(0));
        let seen = first.clone();
        let branch = crate::func(move |x: &Var| {
            let y = x.mul_scalar(2.0);
            *seen.lock().unwrap() = at(&y) as usize;
            Ok(y)
        });
        let ones = maplet_tensor::Tensor::ones([2, 3], maplet_tensor::DType::F32);
        let y = Parallel::add().branch(branch).branch(linear(3, 3)).forward(&ones.into());
        assert_eq!(at(&y.unwrap()) as usize, *first.lock().unwrap());
    }

    #[test]
    fn residual_behaves_as_a_module() {
        let inner: crate::Named<'_> = &[("inner.weight", &[3, 3]), ("inner.bias", &[3])];
        let expect = Expect { input: &[2, 3], output: &[2, 3], parameters: inner, ..Expect::default() };
        check_module(&mut Residual::new(linear(3, 3)), &expect).unwrap();
        let wider = Expect {
            output: &[2, 4],
            parameters: &[
                ("inner.weight", &[4, 3]),
                ("inner.bias", &[4]),
                ("projection.weight", &[4, 3]),
                ("projection.bias", &[4]),
            ],
            refuses: &[(
                &[2, 5],
                "projection: linear: input [2, 5] and weight [4, 3] differ in their last sizes; \
                 help: the input's last axis must be 3",
            )],
            ..expect
        };
        check_module(&mut Residual::new(linear(3, 4)).projection(linear(3, 4)), &wider).unwrap();
    }

    #[test]
    fn parallel_behaves_as_a_module() {
        let parameters: crate::Named<'_> = &[("0.weight", &[3, 3]), ("0.bias", &[3])];
        let expect = Expect { input: &[2, 3], output: &[2, 6], parameters, ..Expect::default() };
        check_module(&mut Parallel::concat(1).branch(linear(3, 3)).branch(Relu), &expect).unwrap();
        check_module(&mut Parallel::add().branch(linear(3, 3)).branch(Relu), &Expect { output: &[2, 3], ..expect })
            .unwrap();
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let x = Var::from(crate::init::zeros([2, 1]));
        let text = |module: &dyn Module| module.forward(&x).err().unwrap().to_string();
        let differ = "[2, 4] and [2, 1] cannot be added; help: make both of one shape, for instance with a projection";
        assert_eq!(text(&Residual::new(linear(1, 4))), format!("residual: {differ}"));
        assert_eq!(text(&Parallel::add().branch(linear(1, 4)).branch(Relu)), format!("parallel: {differ}"));
        assert_eq!(text(&Parallel::add()), "parallel: there are no branches; help: add one with branch(..)");
        let inner = "branch 1: linear: input [2, 1] and weight [4, 3] differ in their last sizes; \
                     help: the input's last axis must be 3";
        assert_eq!(text(&Parallel::add().branch(Relu).branch(linear(3, 4))), inner);
    }
}
