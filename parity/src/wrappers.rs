//! Parametrized weights, containers, changes of shape.

use crate::{Case, Entry, Result};
use maplet_autograd::{Param, Var, fields};
use maplet_nn_layers::{
    Conv2d, ConvTranspose2d, Flatten, Linear, Module, ModuleDict, ModuleList, Parallel, Parametrization, Parametrized,
    Relu, Reshape, Residual, Sequential, SpectralNorm, WeightNorm,
};
use maplet_tensor::Shape;

/// The case's layer, inside a wrapper. A macro, as each kind of layer is another type.
macro_rules! around {
    ($case:ident, |$layer:ident| $wrapper:expr) => {{
        let (rng, channels) = (&mut $case.rng(), |of: &str| $case.get::<usize>(&format!("{of}_channels")));
        let wrapped: Box<dyn Module> = match $case.get::<String>("layer")?.as_str() {
            "Linear" => {
                let $layer = Linear::new($case.get("in_features")?, $case.get("out_features")?, rng)?;
                Box::new($wrapper)
            }
            "Conv2d" => {
                let $layer = Conv2d::new(channels("in")?, channels("out")?, $case.window()?, rng)?;
                Box::new($wrapper)
            }
            _ => {
                let $layer = ConvTranspose2d::new(channels("in")?, channels("out")?, $case.window()?, rng)?;
                Box::new($wrapper)
            }
        };
        Ok(wrapped)
    }};
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::layer("WeightNorm", |case| {
            let axis = if case.name.contains("_dim_") { case.optional("dim")? } else { Some(0) };
            around!(case, |layer| WeightNorm::along(layer, axis)?)
        }),
        Entry::layer("SpectralNorm", |case| {
            let (iterations, eps) = (case.get_or("n_power_iterations", 1)?, case.get_or("eps", 1e-12)?);
            around!(case, |layer| SpectralNorm::of(layer, iterations, eps, &mut case.rng())?)
        }),
        Entry::layer("Parametrized", |case| {
            around!(case, |layer| Parametrized::with(layer, |original| Ok(Square { original }))?)
        }),
        Entry::layer_with("ModuleList", linears, |layers: &ModuleList<Linear>, _, x| chain(layers.iter(), &x[0])),
        Entry::layer_with("ModuleDict", named_linears, |layers: &ModuleDict<Linear>, _, x| {
            chain(layers.iter().map(|(_, layer)| layer), &x[0])
        }),
        Entry::layer("Sequential", |case| {
            let sizes: Vec<usize> = case.get("sizes")?;
            let first = Sequential::input([sizes[0]]).linear(sizes[1]).relu();
            Ok(sizes[2..].iter().fold(first, |model, &size| model.linear(size)).build(1)?)
        }),
        Entry::layer("Residual", |case| {
            let [from, to] = case.sizes("sizes", [0; 2])?;
            let linear = || Linear::new(from, to, &mut case.rng());
            let plain = Residual::new(linear()?);
            let layer: Box<dyn Module> =
                if case.get("projection")? { Box::new(plain.projection(linear()?)) } else { Box::new(plain) };
            Ok(layer)
        })
        .note("not in PyTorch: compared with a sum of `nn.Linear`"),
        Entry::layer("Parallel", |case| {
            let sizes: Vec<usize> = case.get("sizes")?;
            let join = case.optional("axis")?.map_or_else(Parallel::add, Parallel::concat);
            let linear = |&size: &usize| Linear::new(sizes[0], size, &mut case.rng());
            let linears = sizes[1..].iter().map(linear).collect::<maplet_nn_layers::Result<Vec<_>>>()?;
            Ok(linears.into_iter().fold(join, Parallel::branch).branch(Relu))
        })
        .note("not in PyTorch: compared with `nn.Linear` and a ReLU, joined"),
        Entry::layer("Flatten", |_| Ok(Flatten)),
        Entry::layer("Reshape", |case| Ok(Reshape::new(Shape::new(&case.get::<Vec<usize>>("sizes")?)?)?)),
    ]
}

/// A parametrization of one's own.
struct Square {
    original: Param,
}
fields!(Square: original);

impl Parametrization for Square {
    fn weight(&self, x: &Var) -> maplet_nn_layers::Result<Var> {
        Ok(self.original.on(x).square())
    }
}

fn linears(case: &Case) -> Result<ModuleList<Linear>> {
    let sizes: Vec<usize> = case.get("sizes")?;
    sizes.windows(2).map(|pair| Ok(Linear::new(pair[0], pair[1], &mut case.rng())?)).collect()
}

fn named_linears(case: &Case) -> Result<ModuleDict<Linear>> {
    let names: Vec<String> = case.get("names")?;
    let mut dict = ModuleDict::new();
    for (name, layer) in names.into_iter().zip(linears(case)?) {
        dict.insert(name, layer)?;
    }
    Ok(dict)
}

fn chain<'a>(mut layers: impl Iterator<Item = &'a Linear>, x: &Var) -> Result<Vec<Var>> {
    Ok(vec![layers.try_fold(x.clone(), |x, layer| layer.forward(&x))?])
}
