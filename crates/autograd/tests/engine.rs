//! What the engine promises: sums, orders of derivatives, users' own ops, and errors that say what to do.

use maplet_autograd::{
    Param, Pass, Result, Tensor, Var, Walk, gradcheck, record, record_all, record_all_outputs, record_fused,
    record_fused_outputs, record_kernel,
};

fn tensor(x: f32) -> Tensor {
    Tensor::from([x])
}

/// `x³ + x`, whose derivatives are `3x² + 1`, `6x`, `6`, `0`.
fn cubic(x: &Var) -> Result<Var> {
    x.square().mul(x)?.add(x)
}

mod derivatives {
    use super::*;

    #[test]
    fn gradients_of_a_value_used_twice_add_up() {
        let x = Pass::record().leaf(tensor(2.0));
        assert_eq!(cubic(&x).unwrap().backward().unwrap().of(&x), Some(&tensor(13.0)));
        let y = x.add(&x).unwrap().add(&x).unwrap();
        assert_eq!(y.backward().unwrap().of(&x), Some(&tensor(3.0)));
    }

    #[test]
    fn a_parameter_used_twice_is_one_leaf() {
        let w = Param::new(tensor(3.0));
        let x = Pass::train(0).input(tensor(1.0));
        let grads = w.on(&x).mul(&w.on(&x)).unwrap().backward().unwrap();
        assert_eq!((grads.len(), grads.of(&w)), (1, Some(&tensor(6.0))));
    }

    #[test]
    fn walks_can_be_recorded_again_and_again() {
        let x = Pass::record().leaf(tensor(2.0));
        let mut y = cubic(&x).unwrap();
        for want in [13.0, 12.0, 6.0] {
            y = y.backward_with_graph().unwrap().var_of(&x).unwrap().clone();
            assert_eq!(y.value(), &tensor(want));
        }
    }

    #[test]
    fn a_kept_graph_can_be_walked_again() {
        let x = Pass::record().leaf(tensor(2.0));
        let y = cubic(&x).unwrap();
        for _ in 0..3 {
            assert_eq!(y.backward_to(&[&x], Walk::Keep).unwrap().of(&x), Some(&tensor(13.0)));
        }
        assert_eq!(y.backward().unwrap().of(&x), Some(&tensor(13.0)));
    }

    #[test]
    fn targets_may_be_anywhere_and_below_each_other() {
        let pass = Pass::record();
        let (x, z) = (pass.leaf(tensor(3.0)), pass.leaf(tensor(1.0)));
        let w = Param::new(tensor(5.0));
        let middle = x.mul(&w.on(&x)).unwrap();
        let y = middle.square().mul(&z).unwrap();
        // y = (x w)² z: dy/dm = 2 m z = 30, dy/dx = 2 x w² z = 150, dy/dw = 2 x² w z = 90
        let grads = y.backward_to(&[&middle, &x, &w], Walk::Keep).unwrap();
        assert_eq!(grads.of(&middle), Some(&tensor(30.0)));
        assert_eq!((grads.of(&x), grads.of(&w), grads.of(&z)), (Some(&tensor(150.0)), Some(&tensor(90.0)), None));
        assert_eq!(y.backward_to(&[&y], Walk::Keep).unwrap().of(&y), Some(&tensor(1.0)));
        assert!(x.backward_to(&[&z], Walk::Keep).unwrap().is_empty());
        assert_eq!(y.backward_to(&[&z], Walk::Consume).unwrap().of(&z), Some(&tensor(225.0)));
    }

    #[test]
    fn only_the_ops_between_are_walked() {
        let pass = Pass::record();
        let (x, z) = (pass.leaf(tensor(3.0)), pass.leaf(tensor(1.0)));
        let broken = record("broken", z.value().clone()).pull(&z, |_| panic!("walked off the path")).done().unwrap();
        let y = x.square().mul(&broken).unwrap();
        assert_eq!(y.backward_to(&[&x], Walk::Keep).unwrap().of(&x), Some(&tensor(6.0)));
    }

    #[test]
    fn what_arrives_can_be_given() {
        let x = Pass::record().leaf(Tensor::from([1.0f32, 2.0]));
        let grads = x.square().backward_from(Tensor::from([10.0f32, 100.0])).unwrap();
        assert_eq!(grads.of(&x), Some(&Tensor::from([20.0f32, 400.0])));
    }

    #[test]
    fn gradients_of_a_plain_walk_can_be_computed_with() {
        let x = Pass::record().leaf(tensor(2.0));
        let grads = x.square().backward().unwrap();
        let dx = grads.var_of(&x).unwrap();
        assert!(!dx.is_recorded());
        assert!(dx.mul(&x).unwrap().is_recorded(), "the handle of the walk must not leak into what comes after");
    }

    #[test]
    fn detached_values_are_constants() {
        let x = Pass::record().leaf(tensor(2.0));
        let y = x.mul(&x.detach()).unwrap();
        assert_eq!(y.backward().unwrap().of(&x), Some(&tensor(2.0)));
    }
}

mod own_ops {
    use super::*;

    /// Sine and cosine at once: one node with two outputs.
    fn sin_cos(x: &Var) -> Result<[Var; 2]> {
        let (sin, cos) = (x.value().sin(), x.value().cos());
        let saved = [sin.clone(), cos.clone()];
        let kernel = move |[dsin, dcos]: [Tensor; 2], [_]: [bool; 1]| {
            Ok([Some(dsin.mul(&saved[1])?.sub(&dcos.mul(&saved[0])?)?)])
        };
        record_fused_outputs("sin_cos", [sin, cos], [x], kernel, |[x]| Ok([x.sin(), x.cos()]))
    }

    #[test]
    fn two_outputs_each_alone_and_both() {
        let x = Tensor::from([0.5f64, -1.0, 2.0]);
        gradcheck(|v| Ok(sin_cos(&v[0])?[0].clone()), std::slice::from_ref(&x)).unwrap();
        gradcheck(|v| Ok(sin_cos(&v[0])?[1].clone()), std::slice::from_ref(&x)).unwrap();
        gradcheck(|v| sin_cos(&v[0]).and_then(|[sin, cos]| sin.square().mul(&cos)), &[x]).unwrap();
    }

    #[test]
    fn an_output_in_the_middle_can_be_a_target() {
        let x = Pass::record().leaf(Tensor::from([0.0f64]));
        let [sin, cos] = sin_cos(&x).unwrap();
        let y = sin.mul_scalar(3.0).add(&cos.mul_scalar(5.0)).unwrap();
        let grads = y.backward_to(&[&cos, &x], Walk::WithGraph).unwrap();
        assert_eq!(grads.of(&cos), Some(&Tensor::from([5.0f64])));
        assert_eq!((grads.of(&sin), grads.of(&x)), (None, Some(&Tensor::from([3.0f64]))));
    }

    /// The same with a rule in place of the kernel.
    #[test]
    fn a_rule_for_several_outputs() {
        let sin_cos = |x: &Var| {
            let saved = x.clone();
            record_all_outputs("sin_cos", [x.value().sin(), x.value().cos()], [x], move |[dsin, dcos], [_]| {
                Ok([Some(dsin.mul(&saved.cos())?.sub(&dcos.mul(&saved.sin())?)?)])
            })
        };
        let x = Tensor::from([0.5f64, -1.0, 2.0]);
        gradcheck(|v| Ok(sin_cos(&v[0])?[0].clone()), std::slice::from_ref(&x)).unwrap();
        gradcheck(|v| Ok(sin_cos(&v[0])?[1].clone()), std::slice::from_ref(&x)).unwrap();
        gradcheck(|v| sin_cos(&v[0]).and_then(|[sin, cos]| sin.square().mul(&cos)), &[x]).unwrap();
    }

    fn product(a: &Var, b: &Var) -> Result<Var> {
        let (x, y) = (a.clone(), b.clone());
        record_all("product", a.value().mul(b.value())?, [a, b], move |dy, [a, b]| {
            let da = a.then(|| dy.mul(&y)).transpose()?;
            Ok([da, b.then(|| dy.mul(&x)).transpose()?])
        })
    }

    #[test]
    fn a_joint_rule_is_asked_for_what_is_wanted() {
        gradcheck(|v| product(&v[0], &v[1]), &[Tensor::from([2.0f64, 3.0]), Tensor::from([-1.0f64, 0.5])]).unwrap();
        let pass = Pass::record();
        let (a, b) = (pass.leaf(tensor(2.0)), pass.input(tensor(3.0)));
        let y = record_all("half", a.value().clone(), [&a, &b], |dy, want| {
            assert_eq!(want, [true, false]);
            Ok([Some(dy), None])
        });
        assert_eq!(y.unwrap().backward().unwrap().of(&a), Some(&tensor(1.0)));
    }

    #[test]
    fn one_value_may_be_several_inputs_of_a_fused_op() {
        let x = Tensor::from([0.5f64, -1.0, 2.0]);
        gradcheck(|v| v[0].layer_norm(&v[0], &v[0].square(), 0.1), &[x]).unwrap();
    }

    #[test]
    fn a_kernel_without_a_twin_says_so() {
        let x = Pass::record().leaf(tensor(2.0));
        let double =
            |x: &Var| record_kernel("double", x.value().mul_scalar(2.0), [x], |dy, _| Ok([Some(dy.mul_scalar(2.0))]));
        assert_eq!(double(&x).unwrap().backward().unwrap().of(&x), Some(&tensor(2.0)));
        let text = double(&x).unwrap().backward_with_graph().unwrap_err().to_string();
        let want = "double: its gradient is a kernel that cannot be differentiated again; \
                    help: write it with record_fused, whose twin can be differentiated, or walk with backward()";
        assert_eq!(text, want);
    }

    #[test]
    fn a_kernel_that_differs_from_its_twin_is_found() {
        let wrong = |v: &[Var]| {
            let kernel = |dy: Tensor, _: [bool; 1]| Ok([Some(dy.mul_scalar(2.0))]);
            record_fused("wrong", v[0].value().mul_scalar(2.0), [&v[0]], kernel, |[x]| Ok(x.mul_scalar(3.0)))
        };
        let text = gradcheck(wrong, &[Tensor::from([1.0f64])]).unwrap_err().to_string();
        assert!(text.ends_with("help: a kernel differs from its twin"), "{text}");
    }

    #[test]
    fn a_rule_that_captured_a_tensor_is_found() {
        let wrong = |v: &[Var]| {
            let x = v[0].value().clone(); // should be v[0].clone()
            record("cube", v[0].value().pow_scalar(3.0))
                .pull(&v[0], move |dy| dy.mul(&dy.constant(x.square().mul_scalar(3.0))))
                .done()
        };
        maplet_autograd::gradcheck_first(wrong, &[Tensor::from([1.0f64])]).unwrap();
        let text = gradcheck(wrong, &[Tensor::from([1.0f64])]).unwrap_err().to_string();
        assert!(
            text.starts_with("gradcheck: second order, input 0, element 0 of [1]: the gradient is 0, finite"),
            "{text}"
        );
    }
}

mod errors {
    use super::*;

    fn text<T>(result: Result<T>) -> String {
        result.err().expect("an error").to_string()
    }

    #[test]
    fn a_graph_is_used_up_by_its_first_walk() {
        let x = Pass::record().leaf(tensor(2.0));
        let y = x.square();
        y.backward().unwrap();
        let want = "backward: an earlier walk has used up this graph: what `square` had saved is freed; \
                    help: use backward_with_graph() for the first walk, or backward_to(.., Walk::Keep)";
        assert_eq!(text(y.backward()), want);
        assert_eq!(text(y.exp().backward()), want);
        assert_eq!(text(y.exp().backward_to(&[&x], Walk::Keep)), want);
    }

    #[test]
    fn values_that_were_never_recorded_have_no_gradient() {
        let never = "this [1] value was never recorded, so it has no gradient; \
                     help: bring the data in through Pass::train(seed).input(..) or .leaf(..)";
        assert_eq!(text(Var::from(tensor(1.0)).backward()), format!("backward: {never}"));
        let x = Pass::record().input(tensor(1.0));
        assert_eq!(text(x.exp().backward_with_graph()), format!("backward_with_graph: {never}"));
        let leaf = Pass::record().leaf(tensor(1.0));
        let want = "backward_to: a target was never recorded, so it has no gradient; \
                    help: ask for a parameter, a leaf, or a value made from one";
        assert_eq!(text(leaf.exp().backward_to(&[&x], Walk::Keep)), want);
        assert_eq!(leaf.exp().backward().unwrap().of(&x), None);
    }

    #[test]
    fn only_a_single_number_has_a_gradient_by_itself() {
        let x = Pass::record().leaf(Tensor::from([[1.0f32, 2.0]]));
        let want = "backward: the value is [1, 2], not a single number; \
                    help: reduce it with mean(..) or sum(..), or say what arrives with backward_from(dy)";
        assert_eq!(text(x.exp().backward()), want);
        let want = "backward_from: dy is f32 [1], the value f32 [1, 2]; \
                    help: a gradient has the shape and type of its value";
        assert_eq!(text(x.exp().backward_from(tensor(1.0))), want);
    }

    #[test]
    fn a_wrong_gradient_is_blamed_on_its_rule() {
        let x = Pass::record().leaf(tensor(1.0));
        let y = record("odd", tensor(1.0)).pull(&x, |dy| dy.reshape([1, 1])).done().unwrap();
        let want = "odd: the gradient is f32 [1, 1], the value f32 [1]; \
                    help: a rule returns a gradient of its input's shape and type";
        assert_eq!(text(y.backward()), want);
    }

    #[test]
    fn passes_do_not_mix() {
        let (x, y) = (Pass::record().leaf(tensor(1.0)), Pass::record().leaf(tensor(2.0)));
        let want = "its inputs belong to two passes; \
                    help: make all inputs of a step with one Pass, or bring a finished value in with pass.input(..)";
        assert_eq!(text(x.add(&y)), format!("add: {want}"));
        assert_eq!(text(Var::concat(&[&x, &y], 0)), format!("concat: {want}"));
        assert_eq!(text(x.layer_norm(&y, &y, 1e-5)), format!("layer_norm: {want}"));
        let dy = text(x.exp().backward_from(y));
        assert_eq!(dy, "backward_from: dy belongs to another pass; help: pass its value: dy.into_value()");
    }

    #[test]
    fn a_parameter_that_met_data_outside_a_pass_would_never_train() {
        let w = Param::new(tensor(2.0));
        let x = Pass::train(0).input(tensor(1.0));
        let outside = w.on(&Var::from(tensor(1.0))).exp();
        let want = "mul: a parameter that met data outside any pass meets a recorded value: that parameter would never \
                    train; help: start from x.constant(..), or detach() it";
        assert_eq!(text(x.mul(&outside)), want);
        assert!(x.mul(&outside.detach()).is_ok());
        let inside = w.on(&x.constant(tensor(1.0))).exp();
        assert!(x.mul(&inside).unwrap().is_recorded());
        // What comes out of an op without a gradient cannot train the parameter in any case.
        assert!(x.mul(&outside.greater(&outside).unwrap().to_dtype(x.dtype())).is_ok());
    }

    #[test]
    fn wrong_uses_of_gradcheck_are_named() {
        let want = "gradcheck: input 0 is f32; help: differences need f64: convert with to_dtype(DType::F64)";
        assert_eq!(text(gradcheck(|v| Ok(v[0].exp()), &[tensor(1.0)])), want);
    }

    #[test]
    fn operators_panic_with_the_errors_text() {
        let (x, y) = (Var::from(Tensor::from([1.0f32, 2.0])), Var::from(Tensor::from([1.0f32, 2.0, 3.0])));
        let panic = std::panic::catch_unwind(|| &x + &y).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>(), Some(&text(x.add(&y))));
        let z = &(&(&(&x * &x) - &x) / &x) + 1.0;
        assert_eq!(z.value(), x.value()); // (x² − x) / x + 1
        assert_eq!((&(&(-&z) * 2.0) / 4.0).value(), &Tensor::from([-0.5f32, -1.0]));
    }
}
