//! What a line of the table is, the numbers it is tried on, and the check of its derivatives.

use maplet_autograd::{DType, Result, Rng, Shape, Tensor, Var, gradcheck};

pub(crate) type Run = Box<dyn Fn(&[Var]) -> Result<Vec<Var>> + Send + Sync>;

/// An op on inputs: those of type `f64` are differentiated.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) run: Run,
    /// No gradient flows through this op.
    pub(crate) cut: bool,
}

impl Case {
    pub(crate) fn new(
        name: &'static str,
        inputs: &[&Tensor],
        run: impl Fn(&[Var]) -> Result<Var> + Send + Sync + 'static,
    ) -> Self {
        Self::many(name, inputs, move |x| Ok(vec![run(x)?]))
    }

    pub(crate) fn many(
        name: &'static str,
        inputs: &[&Tensor],
        run: impl Fn(&[Var]) -> Result<Vec<Var>> + Send + Sync + 'static,
    ) -> Self {
        Self { name, inputs: inputs.iter().map(|x| (*x).clone()).collect(), run: Box::new(run), cut: false }
    }

    pub(crate) fn cut(self) -> Self {
        Self { cut: true, ..self }
    }

    /// The inputs of type `f64`.
    pub(crate) fn differentiable(&self) -> Vec<usize> {
        (0..self.inputs.len()).filter(|&i| self.inputs[i].dtype() == DType::F64).collect()
    }
}

/// Numbers in (−2, 2), none nearer to 0 than 0.3, no two equal: away from every kink and tie.
pub(crate) fn sample(shape: &[usize]) -> Tensor {
    let shape = Shape::new(shape).unwrap();
    let mut rng = Rng::new(shape.elements() as u64);
    let order = rng.permutation(shape.elements());
    let step = 1.7 / shape.elements().max(1) as f64;
    let number = |i: usize| (0.3 + (i as f64 + 0.5) * step) * if rng.below(2) == 0 { 1.0 } else { -1.0 };
    Tensor::from_vec(order.into_iter().map(number).collect(), shape).unwrap()
}

pub(crate) fn positive(shape: &[usize]) -> Tensor {
    sample(shape).abs()
}

/// Other numbers than `sample` of that shape.
pub(crate) fn other(shape: &[usize]) -> Tensor {
    sample(shape).flip(..).unwrap().mul_scalar(-0.9)
}

/// One test a family, so that they run in parallel and a failure says where.
pub(crate) fn check_derivatives(cases: Vec<Case>) {
    for case in cases.iter().filter(|case| !case.cut) {
        let floats = case.differentiable();
        let inputs: Vec<Tensor> = floats.iter().map(|&i| case.inputs[i].clone()).collect();
        let outputs = (case.run)(&case.inputs.iter().map(Var::from).collect::<Vec<_>>()).unwrap();
        for out in (0..outputs.len()).filter(|&out| outputs[out].dtype().is_float()) {
            let run = |x: &[Var]| {
                let mut all: Vec<Var> = case.inputs.iter().map(|input| x[0].constant(input)).collect();
                floats.iter().zip(x).for_each(|(&i, x)| all[i] = x.clone());
                Ok((case.run)(&all)?.swap_remove(out))
            };
            let shapes: Vec<Shape> = inputs.iter().map(Tensor::shape).collect();
            gradcheck(run, &inputs)
                .unwrap_or_else(|error| panic!("{} of {shapes:?}, output {out}: {error}", case.name));
        }
    }
}
