//! [`Visit`]: how everything that walks over a model (optimizers, files, tables) finds its parameters.

use crate::{Param, State};
use std::collections::BTreeMap;
use std::fmt;

/// A part of a model: it shows its parameters and states, each with its name.
///
/// Structs of parts get it from [`fields!`](crate::fields). Names are the path of fields, joined with dots, and items
/// of a list count from 0: `encoder.0.weight`. The trait can be made into an object.
pub trait Visit {
    /// Shows each parameter and state, in the order of the fields.
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>));

    /// Shows each parameter and state to be changed. The borrows are the model's own, so they can be kept, sorted and
    /// updated in parallel.
    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>));
}

/// What [`Visit::visit`] shows.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// A trained tensor.
    Param(&'a Param),
    /// A remembered tensor.
    State(&'a State),
}

/// What [`Visit::visit_mut`] shows.
#[derive(Debug)]
pub enum ItemMut<'a> {
    /// A trained tensor.
    Param(&'a mut Param),
    /// A remembered tensor.
    State(&'a mut State),
}

/// The name of a part of a model, linked through its owners; nothing is allocated until it is displayed.
///
/// ```
/// use maplet_autograd::Path;
///
/// let root = Path::root();
/// let encoder = root.field("encoder");
/// let first = encoder.index(0);
/// assert_eq!(first.field("weight").to_string(), "encoder.0.weight");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Path<'p> {
    owner: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Root,
    Field(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    /// The whole model, whose name is empty.
    pub fn root() -> Self {
        Self { owner: None, step: Step::Root }
    }

    /// A field of this part.
    pub fn field<'q>(&'q self, name: &'q str) -> Path<'q> {
        Path { owner: Some(self), step: Step::Field(name) }
    }

    /// An item of this list.
    pub fn index(&self, index: usize) -> Path<'_> {
        Path { owner: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(owner) = self.owner {
            owner.fmt(f)?;
            if !matches!(owner.step, Step::Root) {
                f.write_str(".")?;
            }
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "{index}"),
        }
    }
}

/// Every parameter with its name, in the order of the fields.
pub fn params<M: Visit + ?Sized>(model: &M) -> Vec<(String, &Param)> {
    let mut found = Vec::new();
    model.visit(&Path::root(), &mut |path, item| {
        if let Item::Param(param) = item {
            found.push((path.to_string(), param));
        }
    });
    found
}

/// Every parameter with its name, to be changed.
pub fn params_mut<M: Visit + ?Sized>(model: &mut M) -> Vec<(String, &mut Param)> {
    let mut found = Vec::new();
    model.visit_mut(&Path::root(), &mut |path, item| {
        if let ItemMut::Param(param) = item {
            found.push((path.to_string(), param));
        }
    });
    found
}

/// Every state with its name, in the order of the fields.
pub fn states<M: Visit + ?Sized>(model: &M) -> Vec<(String, &State)> {
    let mut found = Vec::new();
    model.visit(&Path::root(), &mut |path, item| {
        if let Item::State(state) = item {
            found.push((path.to_string(), state));
        }
    });
    found
}

/// Every state with its name, to be changed.
pub fn states_mut<M: Visit + ?Sized>(model: &mut M) -> Vec<(String, &mut State)> {
    let mut found = Vec::new();
    model.visit_mut(&Path::root(), &mut |path, item| {
        if let ItemMut::State(state) = item {
            found.push((path.to_string(), state));
        }
    });
    found
}

/// Implements [`Visit`] for a struct: first the fields with parameters, in the order in which they are to be listed,
/// then, after a semicolon, the fields without.
///
/// Every field must be named: a forgotten one does not compile, so no parameter is left untrained or unsaved by
/// accident.
///
/// ```
/// use maplet_autograd::{Param, Tensor, Visit, fields, params};
///
/// struct Affine { weight: Param, bias: Option<Param>, name: String }
/// fields!(Affine: weight, bias; name);
///
/// struct Residual<M> { inner: M, scale: f64 }
/// fields!([M: Visit] Residual<M>: inner; scale);
///
/// let one = || Param::new(Tensor::from([1.0f32]));
/// let affine = Affine { weight: one(), bias: Some(one()), name: "a".into() };
/// let model = Residual { inner: affine, scale: 0.5 };
/// let names: Vec<String> = params(&model).into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["inner.weight", "inner.bias"]);
/// ```
///
/// ```compile_fail,E0027
/// use maplet_autograd::{Param, fields};
///
/// struct Affine { weight: Param, bias: Param }
/// fields!(Affine: weight); // error: `bias` is missing
/// ```
#[macro_export]
macro_rules! fields {
    (@ [$($generics:tt)*] $type:ty: $($part:ident),* $(,)? $(; $($plain:ident),* $(,)?)?) => {
        impl<$($generics)*> $crate::Visit for $type {
            #[allow(unused_variables)]
            fn visit<'a>(
                &'a self,
                path: &$crate::Path<'_>,
                show: &mut dyn FnMut(&$crate::Path<'_>, $crate::Item<'a>),
            ) {
                let Self { $($part,)* $($($plain: _,)*)? } = self;
                $($crate::Visit::visit($part, &path.field(stringify!($part)), show);)*
            }

            #[allow(unused_variables)]
            fn visit_mut<'a>(
                &'a mut self,
                path: &$crate::Path<'_>,
                show: &mut dyn FnMut(&$crate::Path<'_>, $crate::ItemMut<'a>),
            ) {
                let Self { $($part,)* $($($plain: _,)*)? } = self;
                $($crate::Visit::visit_mut($part, &path.field(stringify!($part)), show);)*
            }
        }
    };
    // Before the arm for plain types, as `[..]` also begins a slice type.
    ([$($generics:tt)*] $($rest:tt)*) => {
        $crate::fields!(@ [$($generics)*] $($rest)*);
    };
    ($type:ty: $($rest:tt)*) => {
        $crate::fields!(@ [] $type: $($rest)*);
    };
}

impl Visit for Param {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        show(path, Item::Param(self));
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        show(path, ItemMut::Param(self));
    }
}

impl Visit for State {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        show(path, Item::State(self));
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        show(path, ItemMut::State(self));
    }
}

impl<T: Visit + ?Sized> Visit for Box<T> {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        (**self).visit(path, show);
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        (**self).visit_mut(path, show);
    }
}

impl<T: Visit> Visit for Option<T> {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        self.iter().for_each(|part| part.visit(path, show));
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        self.iter_mut().for_each(|part| part.visit_mut(path, show));
    }
}

impl<T: Visit> Visit for [T] {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        self.iter().enumerate().for_each(|(i, part)| part.visit(&path.index(i), show));
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        self.iter_mut().enumerate().for_each(|(i, part)| part.visit_mut(&path.index(i), show));
    }
}

/// Containers whose items are visited as a slice's, or as a tuple's: by number.
macro_rules! visit_as_slice {
    ($([$($generics:tt)*] $type:ty),*) => {$(
        impl<T: Visit $($generics)*> Visit for $type {
            fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
                self.as_slice().visit(path, show);
            }

            fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
                self.as_mut_slice().visit_mut(path, show);
            }
        }
    )*};
}
visit_as_slice!([] Vec<T>, [, const N: usize] [T; N]);

macro_rules! visit_tuple {
    ($($T:ident $i:tt),*) => {
        impl<$($T: Visit),*> Visit for ($($T,)*) {
            #[allow(unused_variables)] // of ()
            fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
                $(self.$i.visit(&path.index($i), show);)*
            }

            #[allow(unused_variables)]
            fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
                $(self.$i.visit_mut(&path.index($i), show);)*
            }
        }
    };
}
visit_tuple!();
visit_tuple!(A 0);
visit_tuple!(A 0, B 1);
visit_tuple!(A 0, B 1, C 2);
visit_tuple!(A 0, B 1, C 2, D 3);
visit_tuple!(A 0, B 1, C 2, D 3, E 4);
visit_tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
visit_tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
visit_tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

/// By the key's text: names of parts that are not known when the program is written.
impl<K: AsRef<str>, T: Visit> Visit for BTreeMap<K, T> {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        self.iter().for_each(|(name, part)| part.visit(&path.field(name.as_ref()), show));
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        self.iter_mut().for_each(|(name, part)| part.visit_mut(&path.field(name.as_ref()), show));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maplet_tensor::{DType, Tensor};

    fn param() -> Param {
        Param::new(Tensor::zeros([1], DType::F32))
    }

    struct Norm {
        weight: Param,
        running_mean: State,
        _eps: f64,
    }
    fields!(Norm: weight, running_mean; _eps);

    struct Relu;
    fields!(Relu:);

    struct Model {
        stem: (Param, Norm),
        blocks: Vec<Box<dyn Visit>>,
        bias: Option<Param>,
        nothing: (),
        heads: [Param; 2],
        experts: BTreeMap<String, Option<Param>>,
    }
    fields!(Model: stem, blocks, bias, nothing, heads, experts);

    fn model() -> Model {
        let norm = || Norm { weight: param(), running_mean: State::new(Tensor::zeros([1], DType::F32)), _eps: 0.1 };
        Model {
            stem: (param(), norm()),
            blocks: vec![Box::new(Relu), Box::new(norm())],
            bias: None,
            nothing: (),
            heads: [param(), param()],
            experts: [("second", Some(param())), ("third", None), ("first", Some(param()))]
                .map(|(name, expert)| (name.to_string(), expert))
                .into(),
        }
    }

    #[test]
    fn names_are_paths_in_the_order_of_the_fields() {
        let mut model = model();
        let want =
            ["stem.0", "stem.1.weight", "blocks.1.weight", "heads.0", "heads.1", "experts.first", "experts.second"];
        let names: Vec<String> = params(&model).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, want);
        let names: Vec<String> = params_mut(&mut model).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, want);
        let want = ["stem.1.running_mean", "blocks.1.running_mean"];
        let names: Vec<String> = states(&model).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, want);
        let names: Vec<String> = states_mut(&mut model).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, want);
        let Item::Param(first) = Item::Param(&model.stem.0) else { unreachable!() };
        assert_eq!(params(&model as &dyn Visit)[0].1.id(), first.id());
    }

    #[test]
    fn borrows_outlive_the_visit_and_can_be_used_in_parallel() {
        let mut model = model();
        let mut all = params_mut(&mut model);
        all.sort_by(|a, b| b.0.cmp(&a.0));
        std::thread::scope(|scope| {
            for (_, param) in &mut all {
                scope.spawn(|| param.value_mut().as_mut_slice::<f32>().unwrap()[0] = 3.0);
            }
        });
        assert!(params(&model).iter().all(|(_, param)| param.value() == &Tensor::from([3.0f32])));
    }
}
