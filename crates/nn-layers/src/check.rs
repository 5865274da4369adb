//! [`check_module`]: what every layer must hold to, asked in one go. For the tests of layers, ours and yours.

use crate::{Error, Module, Result, cast, mse};
use maplet_autograd::container::{Container, restore, snapshot};
use maplet_autograd::{Grads, Param, Pass, Var, gradcheck, gradcheck_model, params, params_mut, states, states_mut};
use maplet_tensor::{DType, Rng, Shape, Tensor};

/// Names and shapes.
pub type Named<'a> = &'a [(&'a str, &'a [usize])];

/// What [`check_module`] is to find. Shapes are whole, with the batch as axis 0.
///
/// ```
/// use maplet_nn_layers::{Expect, Linear, check_module};
/// use maplet_tensor::Rng;
///
/// let mut layer = Linear::new(4, 3, &mut Rng::new(1))?;
/// let parameters: &[(&str, &[usize])] = &[("weight", &[3, 4]), ("bias", &[3])];
/// check_module(&mut layer, &Expect { input: &[5, 4], output: &[5, 3], parameters, ..Expect::default() })?;
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Expect<'a> {
    /// The shape to try, of two samples or more.
    pub input: &'a [usize],
    /// The output's shape for it.
    pub output: &'a [usize],
    /// Every parameter, in order.
    pub parameters: Named<'a>,
    /// Every state, in order.
    pub states: Named<'a>,
    /// Input shapes that must be refused, each with the whole text of the error.
    pub refuses: &'a [(&'a [usize], &'a str)],
    /// The input is ids below this number; 0 if it is floating-point numbers.
    pub ids: usize,
    /// The samples of a batch have to do with each other, in evaluation too: check 3 is left out.
    pub coupled: bool,
    /// The gradient treats as constant what depends on the parameters: second derivatives with respect to them are left
    /// out.
    pub first_order: bool,
}

impl Expect<'_> {
    /// The default, for constants.
    pub const NOTHING: Self = Self {
        input: &[],
        output: &[],
        parameters: &[],
        states: &[],
        refuses: &[],
        ids: 0,
        coupled: false,
        first_order: false,
    };

    fn draw(&self, shape: Shape, rng: &mut Rng) -> Result<Tensor> {
        match self.ids {
            0 => Ok(Tensor::normal(shape, 0.0f32, 1.0, rng)),
            ids => Ok(Tensor::from_vec((0..shape.elements()).map(|_| rng.below(ids) as i64).collect(), shape)?),
        }
    }

    fn input_type(&self) -> DType {
        if self.ids == 0 { DType::F32 } else { DType::I64 }
    }
}

const SEED: u64 = 0x6d6f_6475_6c65;
/// As in `gradcheck`: the step balances rounding and truncation, and both then stay well below the tolerance.
const STEP: f64 = 6e-6;
const TOLERANCE: f64 = 1e-6;
/// At most so many elements of each tensor are compared with finite differences.
const ELEMENTS: usize = 24;

/// Checks that a module
///
/// 1. has the expected parameters and states, and output shape;
/// 2. gives the same bits again, outside of training;
/// 3. then makes sample *i* of the output from sample *i* of the input alone;
/// 4. refuses wrong shapes with the exact text;
/// 5. gives the same bits after its weights went through a file;
/// 6. has the derivatives that finite differences say with respect to its input and every parameter, of first and
///    second order in training, and with respect to the parameters of first order in evaluation; and makes no NaN;
/// 7. comes closer to a random target by one step down its gradient, by as much as the gradient promises.
///
/// The module is as it was afterwards, in F32.
///
/// # Errors
/// The first of these that does not hold.
pub fn check_module<M: Module>(module: &mut M, expect: &Expect<'_>) -> Result<()> {
    check(module, expect)
}

/// [`check_module`], compiled once.
fn check(module: &mut dyn Module, expect: &Expect<'_>) -> Result<()> {
    if expect.input.first().is_none_or(|&samples| samples < 2) {
        let what = format!("the input {:?} has fewer than two samples", expect.input);
        return Err(Error::new("check_module", what, "axis 0 is the batch: make it 2 or more"));
    }
    let mut rng = Rng::new(SEED);
    let x = expect.draw(Shape::new(expect.input)?, &mut rng)?;
    names(module, expect)?;
    let y = module.forward(&Var::from(&x))?.into_value();
    if y.shape().sizes() != expect.output {
        return Err(wrong("output shape", &y.shape(), &Shape::new(expect.output)?));
    }
    same_bits("the same input again", &y, module.forward(&Var::from(&x))?.value())?;
    let rest = expect.draw(x.shape().with_size(0, x.shape()[0] - 1), &mut rng)?;
    samples_are_independent(module, &x, &y, &rest, expect.coupled)?;
    refusals(module, expect)?;
    file(module, &x, &y)?;

    let before = snapshot(module);
    cast(module, DType::F64)?;
    let x = if x.dtype().is_float() { x.to_dtype(DType::F64) } else { x };
    let result = derivatives(module, &x, &y.to_dtype(DType::F64), expect, &mut rng);
    cast(module, DType::F32)?;
    restore(module, &before)?;
    result
}

fn wrong(what: &str, found: &dyn std::fmt::Display, expected: &dyn std::fmt::Display) -> Error {
    Error::new("check_module", format!("{what}: found {found}, expected {expected}"), "")
}

fn names(module: &dyn Module, expect: &Expect<'_>) -> Result<()> {
    let list = |named: Vec<(String, Shape)>| {
        let each = named.into_iter().map(|(name, shape)| format!("{name} {shape}"));
        format!("({})", each.collect::<Vec<_>>().join(", "))
    };
    let expected = |named: Named<'_>| -> Result<String> {
        let each = named.iter().map(|(name, shape)| Ok((name.to_string(), Shape::new(shape)?)));
        Ok(list(each.collect::<Result<_>>()?))
    };
    let found = list(params(module).into_iter().map(|(name, param)| (name, param.shape())).collect());
    let wanted = expected(expect.parameters)?;
    if found != wanted {
        return Err(wrong("parameters", &found, &wanted));
    }
    let found = list(states(module).into_iter().map(|(name, state)| (name, state.value().shape())).collect());
    let wanted = expected(expect.states)?;
    if found != wanted { Err(wrong("states", &found, &wanted)) } else { Ok(()) }
}

fn same_bits(when: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    let bits = |x: &Tensor| x.to_vec::<f32>().map(|x| x.into_iter().map(f32::to_bits).collect::<Vec<_>>());
    if bits(a)? == bits(b)? {
        return Ok(());
    }
    Err(Error::new(
        "check_module",
        format!("{when} gives another output"),
        "nothing but the input and the weights may count",
    ))
}

/// Sample 0 stays, the others change: so must the outputs.
fn samples_are_independent(module: &dyn Module, x: &Tensor, y: &Tensor, rest: &Tensor, coupled: bool) -> Result<()> {
    let other = Tensor::concat(&[&x.slice(0, 0, 1)?, rest], 0)?;
    let other = module.forward(&Var::from(other))?.into_value();
    if !coupled {
        same_bits("another sample in the batch", &y.slice(0, 0, 1)?, &other.slice(0, 0, 1)?)?;
    }
    if y.slice(0, 1, 2)? == other.slice(0, 1, 2)? {
        return Err(Error::new(
            "check_module",
            "another input gives the same output",
            "the output must depend on the input",
        ));
    }
    Ok(())
}

fn refusals(module: &dyn Module, expect: &Expect<'_>) -> Result<()> {
    for (shape, text) in expect.refuses {
        let x = Tensor::zeros(Shape::new(shape)?, expect.input_type());
        let found = module.forward(&Var::from(x)).map_or_else(|error| error.to_string(), |_| "no error".into());
        if found != *text {
            return Err(wrong(&format!("error for an input of {shape:?}"), &found, text));
        }
    }
    Ok(())
}

/// Saves the weights, spoils them, and loads them again.
fn file(module: &mut dyn Module, x: &Tensor, y: &Tensor) -> Result<()> {
    let mut file = Vec::new();
    Container { kind: "model".into(), tensors: snapshot(module), ..Container::default() }.write_to(&mut file)?;
    for (_, param) in params_mut(module) {
        param.set_value(param.value().add_scalar(1.0))?;
    }
    for (_, state) in states_mut(module) {
        state.set_value(state.value().add_scalar(1.0))?;
    }
    restore(module, &Container::read_from(file.as_slice(), file.len() as u64)?.tensors)?;
    same_bits("a model saved and loaded", y, module.forward(&Var::from(x))?.value())
}

/// Checks 6 and 7, of a module in F64.
fn derivatives(module: &mut dyn Module, x: &Tensor, y: &Tensor, expect: &Expect<'_>, rng: &mut Rng) -> Result<()> {
    let cotangent = Tensor::normal(y.shape(), 0.0f64, 1.0, rng);
    for training in [true, false] {
        parameter_gradients(module, x, &cotangent, training)?;
    }
    // Ids have no derivative: a number that is not used joins them to the pass.
    let is_float = x.dtype().is_float();
    let input = if is_float { x.clone() } else { Tensor::scalar(0.0f64) };
    let enters = |v: &[Var]| if is_float { v[0].clone() } else { v[0].constant(x) };
    match expect.first_order {
        false => gradcheck_model(module, |module, v| Ok(module.forward(&enters(v))?), &[input])?,
        true => gradcheck(|v| Ok(module.forward(&enters(v))?), &[input])?,
    }
    if params(module).iter().any(|(_, param)| param.is_trainable()) {
        one_step_down(module, x, &Tensor::normal(y.shape(), 0.0f64, 1.0, rng))?;
    }
    Ok(())
}

/// The same random numbers in every evaluation, so that dropout can be compared with differences; and watched, so that
/// a NaN is blamed on the op that made it.
fn pass(training: bool) -> Pass {
    let pass = if training { Pass::train(SEED) } else { Pass::record() };
    pass.detect_anomaly()
}

fn parameter_gradients(module: &mut dyn Module, x: &Tensor, cotangent: &Tensor, training: bool) -> Result<()> {
    let value = |module: &dyn Module| -> Result<f64> {
        let y = module.forward(&pass(training).input(x))?;
        Ok(y.value().mul(cotangent)?.sum(.., false)?.item()?)
    };
    let leaf = pass(training).leaf(x);
    let grads = module.forward(&leaf)?.backward_from(cotangent)?;
    let names = params(module).into_iter().map(|(name, param)| (name, param.is_trainable()));
    let names: Vec<(String, bool)> = names.collect();
    for (i, (name, _)) in names.iter().enumerate().filter(|(_, (_, trainable))| *trainable) {
        let mode = if training { "training" } else { "evaluation" };
        let found = gradient(&grads, params(module)[i].1, name)?;
        let original = params(module)[i].1.value().clone();
        let stride = found.len().div_ceil(ELEMENTS).max(1);
        for (at, &found) in found.as_slice::<f64>()?.iter().enumerate().step_by(stride) {
            let mut nudged = |by: f64| -> Result<f64> {
                let mut value_there = original.clone();
                value_there.as_mut_slice::<f64>()?[at] += by;
                params_mut(module)[i].1.set_value(value_there)?;
                value(module)
            };
            let difference = (nudged(STEP)? - nudged(-STEP)?) / (2.0 * STEP);
            if !within(found, difference, TOLERANCE * difference.abs().max(1.0)) {
                let what = format!("gradient of `{name}`, element {at}, in {mode}");
                return Err(wrong(&what, &found, &difference));
            }
        }
        params_mut(module)[i].1.set_value(original)?;
    }
    Ok(())
}

/// False for NaN.
fn within(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance
}

fn gradient(grads: &Grads, param: &Param, name: &str) -> Result<Tensor> {
    let missing = || Error::new("check_module", format!("`{name}` has no gradient"), "use it with param.on(x)");
    grads.of(param).cloned().ok_or_else(missing)
}

/// A step that should lower the loss by a thousandth of itself must do so, within a tenth of that.
fn one_step_down(module: &mut dyn Module, x: &Tensor, target: &Tensor) -> Result<()> {
    let loss = |module: &dyn Module| mse(&module.forward(&pass(true).input(x))?, target);
    let before = loss(module)?;
    let (start, grads) = (before.item::<f64>()?, before.backward()?);
    let squared = grads.norm().powi(2);
    let promised = start * 1e-3;
    let rate = promised / squared;
    for (name, param) in params_mut(module).into_iter().filter(|(_, param)| param.is_trainable()) {
        let step = gradient(&grads, param, &name)?.mul_scalar(rate);
        param.set_value(param.value().sub(&step)?)?;
    }
    let gained = start - loss(module)?.item::<f64>()?;
    if !within(gained, promised, 0.1 * promised) {
        return Err(wrong("gain of one step of gradient descent", &gained, &promised));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::func;
    use maplet_autograd::{Item, ItemMut, Path, State, Visit, fields, record};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    const EXPECT: Expect<'_> = Expect { input: &[3, 2], output: &[3, 2], ..Expect::NOTHING };

    fn text(mut module: impl Module, expect: &Expect<'_>) -> String {
        check_module(&mut module, expect).unwrap_err().to_string()
    }

    struct Scale {
        weight: Param,
        offset: State,
        rule: fn(&Var, &Var) -> Result<Var>,
    }
    fields!(Scale: weight, offset; rule);

    impl Module for Scale {
        fn forward(&self, x: &Var) -> Result<Var> {
            let y = (self.rule)(x, &self.weight.on(x))?;
            Ok(y.add(&x.constant(self.offset.on(x)))?)
        }
    }

    fn scale(rule: fn(&Var, &Var) -> Result<Var>) -> Scale {
        let [weight, offset] = [[2.0f32, -1.0], [0.5, 0.0]].map(Tensor::from);
        Scale { weight: Param::new(weight), offset: State::new(offset), rule }
    }

    const SCALE: Expect<'_> = Expect { parameters: &[("weight", &[2])], states: &[("offset", &[2])], ..EXPECT };

    #[test]
    fn a_right_module_passes_and_is_unchanged() {
        let mut module = scale(|x, w| Ok(x.mul(w)?));
        check_module(&mut module, &SCALE).unwrap();
        assert_eq!(module.weight.value(), &Tensor::from([2.0f32, -1.0]));
    }

    #[test]
    fn each_lie_is_found() {
        let found = "found (weight [2]), expected ()";
        assert_eq!(text(scale(|x, w| Ok(x.mul(w)?)), &EXPECT), format!("check_module: parameters: {found}"));
        let stateless = Expect { states: &[], ..SCALE };
        let found = "check_module: states: found (offset [2]), expected ()";
        assert_eq!(text(scale(|x, w| Ok(x.mul(w)?)), &stateless), found);
        let output = Expect { output: &[2, 3], ..EXPECT };
        assert_eq!(text(func(|x| Ok(x.neg())), &output), "check_module: output shape: found [3, 2], expected [2, 3]");

        let single = Expect { input: &[1, 2], ..EXPECT };
        let found =
            "check_module: the input [1, 2] has fewer than two samples; help: axis 0 is the batch: make it 2 or more";
        assert_eq!(text(func(|x| Ok(x.neg())), &single), found);
        let calls = AtomicUsize::new(0);
        let moody = func(move |x: &Var| Ok(x.mul_scalar(calls.fetch_add(1, Relaxed) as f64)));
        assert!(text(moody, &EXPECT).contains("the same input again gives another output"));
        let mixed = func(|x: &Var| Ok(x.sub(&x.mean(0, true)?)?));
        assert!(text(mixed, &EXPECT).contains("another sample in the batch gives another output"));
        let deaf = func(|x: &Var| Ok(x.mul_scalar(0.0)));
        assert!(text(deaf, &EXPECT).contains("another input gives the same output"));
        let refuses = Expect { refuses: &[(&[3], "neg: no")], ..EXPECT };
        let found = "check_module: error for an input of [3]: found no error, expected neg: no";
        assert_eq!(text(func(|x| Ok(x.neg())), &refuses), found);

        let wrong_dx = func(|x: &Var| Ok(record("double", x.value().mul_scalar(2.0)).pull(x, Ok).done()?));
        assert!(text(wrong_dx, &EXPECT).starts_with("gradcheck: input 0, element 0"));
        let wrong_dw = scale(|x, w| {
            let y = x.value().mul(w.value())?;
            let by = w.clone();
            Ok(record("mul", y).pull(x, move |dy| dy.mul(&by)).pull(w, |dy| dy.sum(0, false)).done()?)
        });
        let found = text(wrong_dw, &SCALE);
        assert!(found.starts_with("check_module: gradient of `weight`, element 0, in training: found"), "{found}");
        let steep = scale(|x, w| Ok(x.mul(w)?.add(&w.sub(w)?.sqrt())?)); // √0
        let found = text(steep, &SCALE);
        assert!(found.starts_with("sqrt: the gradient of its input f64 [2], made by `sub`, is"), "{found}");
        let cut = scale(|x, w| Ok(x.mul(&w.detach())?));
        let help = "help: use it with param.on(x)";
        assert_eq!(text(cut, &SCALE), format!("check_module: `weight` has no gradient; {help}"));
    }

    /// Two parameters under one name: only one of them would come back from a file.
    struct Twins(Param, Param);

    impl Visit for Twins {
        fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
            [&self.0, &self.1].into_iter().for_each(|param| param.visit(&path.field("weight"), show));
        }

        fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
            [&mut self.0, &mut self.1].into_iter().for_each(|param| param.visit_mut(&path.field("weight"), show));
        }
    }

    impl Module for Twins {
        fn forward(&self, x: &Var) -> Result<Var> {
            Ok(x.mul(&self.0.on(x))?.add(&self.1.on(x))?)
        }
    }

    #[test]
    fn what_a_file_cannot_hold_is_found() {
        let twins = Twins(Param::new(Tensor::from([2.0f32, 1.0])), Param::new(Tensor::from([0.5f32, 3.0])));
        let found = text(twins, &Expect { parameters: &[("weight", &[2]), ("weight", &[2])], ..EXPECT });
        assert!(found.starts_with("save: ") && found.contains("weight"), "{found}");
    }

    /// Of 50 elements, every third is compared with differences: element 1 is not, but the step down stumbles over it.
    #[test]
    fn a_wrong_gradient_between_the_compared_elements_is_found() {
        let weight = Param::new(Tensor::arange(1.0f32, 51.0, 1.0).unwrap());
        let lie = |x: &Var, w: &Var| {
            let mut factor = Tensor::full([50], 1.0f64);
            factor.as_mut_slice::<f64>()?[1] = 100.0;
            let (input, by) = (x.clone(), w.clone());
            let dw = move |dy: Var| dy.mul(&input)?.sum(0, false)?.mul(&dy.constant(&factor));
            let y = x.value().mul(w.value())?;
            Ok(record("mul", y).pull(x, move |dy| dy.mul(&by)).pull(w, dw).done()?)
        };
        let scale = Scale { weight, offset: State::new(Tensor::from([0.0f32])), rule: lie };
        let (parameters, states): (Named<'_>, Named<'_>) = (&[("weight", &[50])], &[("offset", &[1])]);
        let expect = Expect { input: &[3, 50], output: &[3, 50], parameters, states, first_order: true, ..EXPECT };
        let found = text(scale, &expect);
        assert!(found.starts_with("check_module: gain of one step of gradient descent: found"), "{found}");
    }
}
