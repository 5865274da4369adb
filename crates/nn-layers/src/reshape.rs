//! [`Flatten`], [`Unflatten`] and [`Reshape`]: the same numbers under another shape, for free.

use crate::freeze::{Graph, Value};
use crate::plan::{Draft, Plan};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// Each sample as one vector. For other axes than all but the batch there is [`FlattenAxes`].
///
/// PyTorch: `nn.Flatten`; Keras: `Flatten`.
///
/// # Shapes
/// - input `[n, ..]`, output `[n, product of the rest]`
#[derive(Debug, Clone)]
pub struct Flatten;
fields!(Flatten:);

/// The axes from one to another merged, both counted from the end if negative: `nn.Flatten(start_dim, end_dim)`.
///
/// PyTorch: `nn.Flatten`; Keras: –.
///
/// # Shapes
/// - input `[.., start, .., end, ..]`, output `[.., start · .. · end, ..]`; a scalar becomes `[1]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlattenAxes {
    start_axis: isize,
    end_axis: isize,
}
fields!(FlattenAxes: ; start_axis, end_axis);

/// One axis cut into several: the way back of [`FlattenAxes`].
///
/// PyTorch: `nn.Unflatten`; Keras: –.
///
/// # Shapes
/// - input `[.., axis, ..]`, output `[.., ..sizes, ..]`, where the sizes multiply to the axis's
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unflatten {
    axis: isize,
    sizes: Vec<usize>,
}
fields!(Unflatten: ; axis, sizes);

/// Each sample under another shape.
///
/// PyTorch: –; Keras: `Reshape`.
///
/// # Shapes
/// - input `[n, ..]`, output `[n, ..shape]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    shape: Shape,
}
fields!(Reshape: ; shape);

impl Module for Flatten {
    fn forward(&self, x: &Var) -> Result<Var> {
        let (n, sample) = batch("flatten", x)?;
        Ok(x.reshape([n, sample.iter().product()])?)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        Ok(graph.view(x, Shape::from([graph.shape(x).elements()])))
    }
}

impl Spec for Flatten {
    fn plan(&self, input: &Shape) -> Plan {
        let output = Shape::from([input.elements()]);
        Plan::new("Flatten".into(), || Ok(Draft::new(output, 0).view().fixed(Self)))
    }
}

impl FlattenAxes {
    /// From `start_axis` to `end_axis`, both included.
    pub fn new(start_axis: isize, end_axis: isize) -> Self {
        Self { start_axis, end_axis }
    }

    fn output(&self, x: &Shape) -> Result<Shape> {
        if x.rank() == 0 && [0, -1].contains(&self.start_axis) && [0, -1].contains(&self.end_axis) {
            return Ok(Shape::from([1]));
        }
        let [start, end] = [x.axis("flatten", self.start_axis)?, x.axis("flatten", self.end_axis)?];
        if start > end {
            let what = format!("axis {start} to axis {end} of {x}");
            return Err(Error::new("flatten", what, "begin with the earlier axis"));
        }
        Ok(Shape::new(&[&x[..start], &[x[start..=end].iter().product()], &x[end + 1..]].concat())?)
    }
}

impl Module for FlattenAxes {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.reshape(self.output(&x.shape())?)?)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        let output = sample_of("flatten", &graph.shape(x), |whole| self.output(whole));
        Ok(output.ok().and_then(|output| graph.view(x, output)))
    }
}

impl Spec for FlattenAxes {
    fn plan(&self, input: &Shape) -> Plan {
        Plan::new(format!("Flatten axes {} to {}", self.start_axis, self.end_axis), || {
            let output = sample_of("flatten", input, |whole| self.output(whole))?;
            Ok(Draft::new(output, 0).view().fixed(self.clone()))
        })
    }
}

impl Unflatten {
    /// The axis, counted from the end if negative, and the sizes that it is cut into.
    ///
    /// # Errors
    /// No sizes.
    pub fn new(axis: isize, sizes: impl Into<Vec<usize>>) -> Result<Self> {
        let layer = Self { axis, sizes: sizes.into() };
        layer.check()?;
        Ok(layer)
    }

    fn check(&self) -> Result<()> {
        match self.sizes.is_empty() {
            true => Err(Error::new("unflatten", "no sizes", "give one at least")),
            false => Ok(()),
        }
    }

    fn output(&self, x: &Shape) -> Result<Shape> {
        let Self { axis, sizes } = self;
        let axis = x.axis("unflatten", *axis)?;
        let output = Shape::new(&[&x[..axis], sizes, &x[axis + 1..]].concat())?;
        if sizes.iter().product::<usize>() != x[axis] {
            let what = format!("axis {axis} of {x} has size {}, which is not that of {sizes:?}", x[axis]);
            return Err(Error::new("unflatten", what, format!("the sizes must multiply to {}", x[axis])));
        }
        Ok(output)
    }
}

impl Module for Unflatten {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.reshape(self.output(&x.shape())?)?)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        let output = sample_of("unflatten", &graph.shape(x), |whole| self.output(whole));
        Ok(output.ok().and_then(|output| graph.view(x, output)))
    }
}

impl Spec for Unflatten {
    fn plan(&self, input: &Shape) -> Plan {
        Plan::new(format!("Unflatten axis {} to {:?}", self.axis, self.sizes), || {
            self.check()?;
            let output = sample_of("unflatten", input, |whole| self.output(whole))?;
            Ok(Draft::new(output, 0).view().fixed(self.clone()))
        })
    }
}

impl Reshape {
    /// The new sizes, without the batch axis.
    ///
    /// # Errors
    /// More than 7 axes.
    pub fn new(shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        with_batch(1, &shape)?;
        Ok(Self { shape })
    }
}

impl Module for Reshape {
    fn forward(&self, x: &Var) -> Result<Var> {
        let (n, _) = batch("reshape", x)?;
        Ok(x.reshape(with_batch(n, &self.shape)?)?)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        Ok(graph.view(x, self.shape))
    }
}

impl Spec for Reshape {
    fn plan(&self, input: &Shape) -> Plan {
        let shape = self.shape;
        Plan::new(format!("Reshape {shape}"), || {
            let layer = Self::new(shape)?;
            if shape.elements() != input.elements() {
                let what = format!("{input} has {} elements, {shape} needs {}", input.elements(), shape.elements());
                let help = format!("the sizes must multiply to {}", input.elements());
                return Err(Error::new("reshape", what, help));
            }
            Ok(Draft::new(shape, 0).view().fixed(layer))
        })
    }
}

impl Builder {
    /// [`Flatten`]: each sample as one vector.
    pub fn flatten(self) -> Self {
        self.step(Flatten)
    }

    /// [`FlattenAxes`]: the axes from one to another merged; axis 0 is the batch.
    pub fn flatten_axes(self, start_axis: isize, end_axis: isize) -> Self {
        self.step(FlattenAxes { start_axis, end_axis })
    }

    /// [`Unflatten`]: one axis cut into several; axis 0 is the batch.
    pub fn unflatten(self, axis: isize, sizes: impl Into<Vec<usize>>) -> Self {
        self.step(Unflatten { axis, sizes: sizes.into() })
    }

    /// [`Reshape`]: each sample under another shape.
    pub fn reshape(self, shape: impl Into<Vec<usize>>) -> Self {
        match Shape::new(&shape.into()) {
            Ok(shape) => self.step(Reshape { shape }),
            Err(error) => self.fail(error.into()),
        }
    }
}

/// The shape of a sample of the output, for a mapping that counts axes with the batch; or an error if it touches the
/// batch.
fn sample_of(op: &'static str, sample: &Shape, output: impl Fn(&Shape) -> Result<Shape>) -> Result<Shape> {
    // Of two numbers of samples, both must come out as they went in.
    let [two, three] = [output(&with_batch(2, sample)?), output(&with_batch(3, sample)?)];
    match (two?.split_first(), three) {
        (Some((2, rest)), Ok(three)) if three.first() == Some(&3) => Ok(Shape::new(rest)?),
        _ => Err(Error::new(op, "axis 0 is the batch", "begin at axis 1")),
    }
}

/// The number of samples, and the sizes of one.
pub(crate) fn batch(op: &'static str, x: &Var) -> Result<(usize, Shape)> {
    match x.shape().split_first() {
        Some((&n, sample)) => Ok((n, Shape::new(sample)?)),
        None => Err(Error::new(op, "expects [n, ..], got a scalar", "give it a batch axis with unsqueeze(0)")),
    }
}

/// The shape of `n` samples.
pub(crate) fn with_batch(n: usize, sample: &Shape) -> Result<Shape> {
    Ok(Shape::new(&[&[n], sample.sizes()].concat())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, check_module};
    use maplet_tensor::Tensor;

    #[test]
    fn behave_as_modules() {
        let scalar = "flatten: expects [n, ..], got a scalar; help: give it a batch axis with unsqueeze(0)";
        let expect = Expect { input: &[3, 2, 4], output: &[3, 8], refuses: &[(&[], scalar)], ..Expect::default() };
        check_module(&mut Flatten, &expect).unwrap();
        check_module(&mut Flatten, &Expect { input: &[3], output: &[3, 1], ..expect }).unwrap();
        let count = "reshape: [3, 7] has 21 elements, [3, 4, 2] needs 24; help: the sizes must multiply to 21";
        let expect = Expect { output: &[3, 4, 2], refuses: &[(&[3, 7], count)], ..expect };
        check_module(&mut Reshape::new([4, 2]).unwrap(), &expect).unwrap();
    }

    #[test]
    fn keep_the_order_of_elements() {
        let x = Tensor::from([[[1.0f32, 2.0], [3.0, 4.0]]]);
        let flat = Flatten.forward(&x.into()).unwrap();
        assert_eq!(flat.value(), &Tensor::from([[1.0f32, 2.0, 3.0, 4.0]]));
        let back = Reshape::new([2, 2]).unwrap().forward(&flat).unwrap();
        assert_eq!(back.value(), &Tensor::from([[[1.0f32, 2.0], [3.0, 4.0]]]));
    }

    #[test]
    fn axes_are_merged_and_cut() {
        let expect = Expect { input: &[2, 3, 4, 5], output: &[2, 12, 5], ..Expect::default() };
        check_module(&mut FlattenAxes::new(1, -2), &expect).unwrap();
        let expect = Expect { input: &[2, 12, 5], output: &[2, 3, 4, 5], ..expect };
        check_module(&mut Unflatten::new(-2, [3, 4]).unwrap(), &expect).unwrap();
        let model = Sequential::input([6, 2, 2]).flatten_axes(-2, -1).unflatten(1, [3, 2]).build(1).unwrap();
        let rows: Vec<_> = model.rows().iter().map(|row| (&*row.label, row.output)).collect();
        let expected =
            [("Flatten axes -2 to -1", Shape::from([6, 4])), ("Unflatten axis 1 to [3, 2]", Shape::from([3, 2, 4]))];
        assert_eq!(rows, expected);
        let x = Tensor::arange(0.0f32, 24.0, 1.0).unwrap();
        let y = model.forward(&x.reshape([1, 6, 2, 2]).unwrap().into()).unwrap();
        assert_eq!(y.value(), &x.reshape([1, 3, 2, 4]).unwrap());
        let scalar = FlattenAxes::new(0, -1).forward(&Tensor::scalar(3.0f32).into()).unwrap();
        assert_eq!(scalar.value(), &Tensor::from([3.0f32]));
    }

    #[test]
    fn axes_that_do_not_fit_are_explained() {
        let x = Var::from(Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]));
        let text = |layer: &dyn Module| layer.forward(&x).unwrap_err().to_string();
        let expected = "flatten: axis 1 to axis 0 of [2, 2]; help: begin with the earlier axis";
        assert_eq!(text(&FlattenAxes::new(1, 0)), expected);
        let expected = "flatten: [2, 2] has no axis 2; help: axes run from 0 to 1, or from -1 to -2";
        assert_eq!(text(&FlattenAxes::new(0, 2)), expected);
        let expected = "unflatten: axis 1 of [2, 2] has size 2, which is not that of [2, 3]; \
                        help: the sizes must multiply to 2";
        assert_eq!(text(&Unflatten::new(1, [2, 3]).unwrap()), expected);
        let none = Unflatten::new(1, []).err().unwrap().to_string();
        assert_eq!(none, "unflatten: no sizes; help: give one at least");
        let text = |builder: Builder| builder.build(1).err().unwrap().to_string();
        let expected = "layer 0 (Flatten axes 0 to 1): flatten: axis 0 is the batch; help: begin at axis 1";
        assert_eq!(text(Sequential::input([4]).flatten_axes(0, 1)), expected);
        let expected = "layer 0 (Unflatten axis 0 to [1, 2]): unflatten: axis 0 is the batch; help: begin at axis 1";
        assert_eq!(text(Sequential::input([4]).unflatten(0, [1, 2])), expected);
    }

    #[test]
    fn eight_axes_leave_none_for_the_batch() {
        let text = Reshape::new([1; 8]).err().unwrap().to_string();
        assert_eq!(text, "shape: [1, 1, 1, 1, 1, 1, 1, 1, 1] has 9 axes; help: a tensor has at most 8");
    }
}
