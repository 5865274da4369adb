//! [`ModuleList`] and [`ModuleDict`]: modules by number and by name.

use crate::{Error, Module, Result};
use maplet_autograd::{Item, ItemMut, Path, Visit};

/// Modules by number, whose parameters are `0.weight`, `1.weight`, …: any `Vec` of modules is one.
///
/// PyTorch: `nn.ModuleList`; Keras: –.
///
/// ```
/// use maplet_autograd::{Tensor, Var, fields, params};
/// use maplet_nn_layers::{Linear, Module, ModuleList, Result};
/// use maplet_tensor::Rng;
///
/// struct Net {
///     layers: ModuleList<Linear>,
/// }
/// fields!(Net: layers);
///
/// impl Module for Net {
///     fn forward(&self, x: &Var) -> Result<Var> {
///         self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x))
///     }
/// }
///
/// let mut rng = Rng::new(42);
/// let layers = (0..3).map(|_| Linear::new(4, 4, &mut rng)).collect::<Result<_>>()?;
/// assert_eq!(params(&Net { layers })[2].0, "layers.1.weight");
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
pub type ModuleList<M = Box<dyn Module>> = Vec<M>;

/// Modules by name, in the order in which they came; their parameters are `name.weight`.
///
/// PyTorch: `nn.ModuleDict`; Keras: –.
///
/// ```
/// use maplet_autograd::{Tensor, params};
/// use maplet_nn_layers::{Linear, Module, ModuleDict, Relu};
/// use maplet_tensor::Rng;
///
/// let mut heads = ModuleDict::<Box<dyn Module>>::new();
/// heads.insert("score", Box::new(Linear::new(4, 1, &mut Rng::new(42))?))?;
/// heads.insert("plain", Box::new(Relu))?;
/// let y = heads["plain"].forward(&Tensor::from([[-1.0f32, 2.0]]).into())?;
/// assert_eq!(y.value(), &Tensor::from([[0.0f32, 2.0]]));
/// assert_eq!(params(&heads)[0].0, "score.weight");
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ModuleDict<M = Box<dyn Module>> {
    modules: Vec<(String, M)>,
}

impl<M> ModuleDict<M> {
    /// No modules yet.
    pub fn new() -> Self {
        Self { modules: Vec::new() }
    }

    /// Adds a module at the end, or puts it in the place of the one with that name, which is returned.
    ///
    /// # Errors
    /// A name that cannot be part of a path: an empty one, or one with a dot.
    pub fn insert(&mut self, name: impl Into<String>, module: M) -> Result<Option<M>> {
        let name = name.into();
        if name.is_empty() || name.contains('.') {
            let what = format!("`{name}` cannot be part of a parameter's name");
            return Err(Error::new("module_dict", what, "use a name without dots"));
        }
        match self.get_mut(&name) {
            Some(place) => Ok(Some(std::mem::replace(place, module))),
            None => {
                self.modules.push((name, module));
                Ok(None)
            }
        }
    }

    /// The module of that name.
    pub fn get(&self, name: &str) -> Option<&M> {
        self.iter().find(|(own, _)| *own == name).map(|(_, module)| module)
    }

    /// The module of that name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut M> {
        self.modules.iter_mut().find(|(own, _)| own == name).map(|(_, module)| module)
    }

    /// Takes the module of that name out.
    pub fn remove(&mut self, name: &str) -> Option<M> {
        let at = self.modules.iter().position(|(own, _)| own == name)?;
        Some(self.modules.remove(at).1)
    }

    /// Names and modules in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &M)> {
        self.modules.iter().map(|(name, module)| (name.as_str(), module))
    }

    /// How many modules there are.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }
}

impl<M> Default for ModuleDict<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> std::ops::Index<&str> for ModuleDict<M> {
    type Output = M;

    /// # Panics
    /// No module has that name.
    fn index(&self, name: &str) -> &M {
        self.get(name).unwrap_or_else(|| panic!("module_dict: there is no `{name}`"))
    }
}

impl<M: Visit> Visit for ModuleDict<M> {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        self.modules.iter().for_each(|(name, module)| module.visit(&path.field(name), show));
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        self.modules.iter_mut().for_each(|(name, module)| module.visit_mut(&path.field(name), show));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Linear;
    use maplet_autograd::{params, params_mut};
    use maplet_tensor::Rng;

    fn linear(out: usize) -> Linear {
        Linear::new(2, out, &mut Rng::new(1)).unwrap().without_bias()
    }

    #[test]
    fn names_keep_their_order_and_replaced_modules_their_place() {
        let mut dict = ModuleDict::new();
        for (name, out) in [("z", 1), ("a", 2), ("m", 3)] {
            assert!(dict.insert(name, linear(out)).unwrap().is_none());
        }
        assert_eq!(dict.insert("a", linear(5)).unwrap().unwrap().weight.shape(), [2, 2].into());
        let names = |dict: &ModuleDict<Linear>| dict.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&dict), ["z", "a", "m"]);
        let paths: Vec<String> = params(&dict).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["z.weight", "a.weight", "m.weight"]);
        assert_eq!(params_mut(&mut dict).len(), 3);
        assert_eq!(dict["a"].weight.shape(), [5, 2].into());
        assert!(dict.remove("z").is_some() && dict.remove("z").is_none() && dict.get("z").is_none());
        assert_eq!((names(&dict), dict.len(), dict.is_empty()), (vec!["a".into(), "m".into()], 2, false));
    }

    #[test]
    #[should_panic(expected = "module_dict: there is no `b`")]
    fn a_missing_name_is_named() {
        let mut dict = ModuleDict::new();
        dict.insert("a", linear(1)).unwrap();
        _ = &dict["b"];
    }

    #[test]
    fn names_that_cannot_be_part_of_a_path_are_refused() {
        let mut dict = ModuleDict::new();
        for name in ["", "a.b"] {
            let text = dict.insert(name, linear(1)).unwrap_err().to_string();
            let want =
                format!("module_dict: `{name}` cannot be part of a parameter's name; help: use a name without dots");
            assert_eq!(text, want);
        }
    }
}
