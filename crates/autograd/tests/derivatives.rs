//! Jacobians and Hessians against closed forms and finite differences.

use maplet_autograd::{
    DType, Error, Param, Pass, Result, Tensor, Var, Walk, hessian, hessian_vector_product, jacobian,
    jacobian_vector_product, record_kernel, vector_jacobian_product,
};

fn x() -> Tensor {
    Tensor::from([0.5f64, -1.0, 2.0])
}

/// A symmetric matrix.
fn a() -> Tensor {
    Tensor::from([[2.0f64, -1.0, 0.5], [-1.0, 3.0, 0.25], [0.5, 0.25, 1.0]])
}

fn dot(a: &Tensor, b: &Tensor) -> Tensor {
    a.reshape([a.len() / b.len(), b.len()]).unwrap().matmul(&b.reshape([b.len(), 1]).unwrap()).unwrap()
}

/// `½ xᵀA x`, whose gradient is `A x` and whose Hessian is `A`.
fn quadratic(x: &Var) -> Result<Var> {
    let row = x.reshape([1, 3])?;
    row.matmul(&x.constant(a()))?.mul(&row)?.sum(.., false).map(|y| y.mul_scalar(0.5))
}

/// `(x₀ x₁, sin x₂)`
fn pair(x: &Var) -> Result<Var> {
    let at = |i: usize| x.slice(0, i, i + 1);
    Var::concat(&[&at(0)?.mul(&at(1)?)?, &at(2)?.sin()], 0)
}

fn close(found: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(found.shape(), want.shape());
    let far = found.sub(want).unwrap().abs().max(.., false).unwrap().item::<f64>().unwrap();
    assert!(far <= tolerance, "{found} is not {want}");
}

/// A few roundings.
const EXACT: f64 = 1e-14;

#[test]
fn jacobians_of_known_functions() {
    assert_eq!(jacobian(pair, &x()).unwrap(), Tensor::from([[-1.0, 0.5, 0.0], [0.0, 0.0, 2.0f64.cos()]]));
    // y = x Aᵀ for two rows: the derivative of y[n, i] with respect to x[m, j] is A[i, j] where n = m.
    let rows = Tensor::from([[1.0f64, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let j = jacobian(|x| x.linear(&x.constant(a()), None, Default::default()), &rows).unwrap();
    assert_eq!(j.shape(), [2, 3, 2, 3].into());
    let block = |n: usize, m: usize| j.slice(0, n, n + 1).unwrap().slice(2, m, m + 1).unwrap().reshape([3, 3]).unwrap();
    assert_eq!([block(0, 0), block(1, 1)], [a(), a()]);
    assert_eq!([block(0, 1), block(1, 0)], [a().zeros_like(), a().zeros_like()]);
}

#[test]
fn a_softmaxs_jacobian_is_diagonal_minus_outer_product() {
    let j = jacobian(|x| x.softmax(0), &x()).unwrap();
    let y = x().softmax(0).unwrap();
    let (column, row) = (y.reshape([3, 1]).unwrap(), y.reshape([1, 3]).unwrap());
    let eye = Tensor::from([[1.0f64, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
    close(&j, &eye.mul(&column).unwrap().sub(&column.matmul(&row).unwrap()).unwrap(), EXACT);
}

#[test]
fn hessians_of_known_functions() {
    assert_eq!(hessian(quadratic, &x()).unwrap(), a());
    let h = hessian(|x| x.exp().sum(.., false), &x()).unwrap();
    let diagonal = [[0.5f64.exp(), 0.0, 0.0], [0.0, (-1.0f64).exp(), 0.0], [0.0, 0.0, 2.0f64.exp()]];
    close(&h, &Tensor::from(diagonal), EXACT);
    // Through a fused op with a twin: logsumexp has the softmax as gradient, whose Jacobian is tested above.
    let h = hessian(|x| x.logsumexp(0, false), &x()).unwrap();
    close(&h, &jacobian(|x| x.softmax(0), &x()).unwrap(), EXACT);
}

#[test]
fn products_are_those_with_the_matrices() {
    let (v, u) = (Tensor::from([3.0f64, -2.0, 0.5]), Tensor::from([1.5f64, -4.0]));
    let j = jacobian(pair, &x()).unwrap();
    let (y, change) = jacobian_vector_product(pair, &x(), &v).unwrap();
    assert_eq!(y, Tensor::from([-0.5, 2.0f64.sin()]));
    close(&change, &dot(&j, &v).reshape([2]).unwrap(), EXACT);
    let (y_again, back) = vector_jacobian_product(pair, &x(), &u).unwrap();
    assert_eq!(y_again, y);
    close(&back, &dot(&j.transpose(0, 1).unwrap(), &u).reshape([3]).unwrap(), EXACT);
    let (y, product) = hessian_vector_product(quadratic, &x(), &v).unwrap();
    assert_eq!(y, quadratic(&Var::from(x())).unwrap().into_value());
    close(&product, &dot(&a(), &v).reshape([3]).unwrap(), EXACT);
}

/// Differences of the plain function, and of its plain gradient.
#[test]
fn a_small_network_agrees_with_differences() {
    let w = Tensor::from([[0.3f64, -0.8, 0.5], [1.1, 0.2, -0.6]]);
    let net = |x: &Var| x.reshape([1, 3])?.linear(&x.constant(&w), None, Default::default())?.gelu().softmax(-1);
    let loss = |x: &Var| net(x)?.square().sum(.., false);
    let plain = |x: &Tensor| net(&Var::from(x)).unwrap().into_value();
    let grad = |x: &Tensor| {
        let x = Pass::record().leaf(x);
        loss(&x).unwrap().backward().unwrap().of(&x).unwrap().clone()
    };
    let (j, h) = (jacobian(net, &x()).unwrap(), hessian(loss, &x()).unwrap());
    let step = 6e-6; // the third root of the rounding error
    for i in 0..3 {
        let nudged = |by: f64| {
            let mut x = x();
            x.as_mut_slice::<f64>().unwrap()[i] += by;
            x
        };
        let slope =
            |f: &dyn Fn(&Tensor) -> Tensor| f(&nudged(step)).sub(&f(&nudged(-step))).unwrap().mul_scalar(0.5 / step);
        close(&j.slice(-1, i, i + 1).unwrap().reshape([1, 2]).unwrap(), &slope(&plain), 1e-9);
        close(&h.slice(-1, i, i + 1).unwrap().reshape([3]).unwrap(), &slope(&grad), 1e-9);
    }
    assert_eq!(h.shape(), [3, 3].into());
    close(&h, &h.transpose(0, 1).unwrap(), EXACT);
}

mod targets {
    use super::*;

    /// `w² b + b`, elementwise summed: blocks `2b`, `2w`, `2w`, `0` on the diagonals.
    #[test]
    fn parameters_in_blocks() {
        let (w, b) = (Param::new(Tensor::from([3.0f64, 4.0])), Param::new(Tensor::from([5.0f64, 6.0])));
        let x = Pass::train(0).input(Tensor::from([1.0f64]));
        let y = w.on(&x).square().mul(&b.on(&x)).unwrap().add(&b.on(&x)).unwrap();
        let diagonal = |a: f64, b: f64| Tensor::from([[a, 0.0], [0.0, b]]);
        assert_eq!(y.jacobian(&[&w, &b]).unwrap(), [diagonal(30.0, 48.0), diagonal(10.0, 17.0)]);

        let loss = y.sum(.., false).unwrap();
        let blocks = [[diagonal(10.0, 12.0), diagonal(6.0, 8.0)], [diagonal(6.0, 8.0), diagonal(0.0, 0.0)]];
        assert_eq!(loss.hessian(&[&w, &b]).unwrap(), blocks);

        let v = [Tensor::from([1.0f64, 2.0]), Tensor::from([-1.0f64, 3.0])];
        let want = [Tensor::from([10.0 - 6.0, 24.0 + 24.0]), Tensor::from([6.0, 16.0])];
        assert_eq!(loss.hessian_vector_product(&[&w, &b], &v).unwrap(), want);
        let want = Tensor::from([30.0 - 10.0, 96.0 + 51.0]);
        assert_eq!(y.jacobian_vector_product(&[&w, &b], &v).unwrap(), want);
        assert!(loss.backward().is_ok(), "the graph is kept");
    }

    #[test]
    fn values_in_between_and_values_without_influence() {
        let pass = Pass::record();
        let (x, z) = (pass.leaf(x()), pass.leaf(Tensor::from([[1.0f64]])));
        let middle = x.square();
        let y = middle.mul_scalar(3.0);
        let found = y.jacobian(&[&middle, &z]).unwrap();
        assert_eq!(found[0], Tensor::from([[3.0f64, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]]));
        assert_eq!(found[1], Tensor::zeros([3, 1, 1], DType::F64));
        let loss = y.sum(.., false).unwrap();
        assert_eq!(loss.hessian(&[&middle, &z]).unwrap()[1][0], Tensor::zeros([1, 1, 3], DType::F64));
        let v = [Tensor::ones([3], DType::F64), Tensor::ones([1, 1], DType::F64)];
        let products = loss.hessian_vector_product(&[&middle, &z], &v).unwrap();
        assert_eq!(products, [Tensor::zeros([3], DType::F64), Tensor::zeros([1, 1], DType::F64)]);
        assert_eq!(loss.backward_to(&[&x], Walk::Keep).unwrap().of(&x).unwrap(), &super::x().mul_scalar(6.0));
    }

    #[test]
    fn constants_and_empty_values_have_zeros() {
        let fixed = |_: &Var| Ok(Var::from(Tensor::from([1.0f64, 2.0])));
        assert_eq!(jacobian(fixed, &x()).unwrap(), Tensor::zeros([2, 3], DType::F64));
        let one = |_: &Var| Ok(Var::from(Tensor::from([1.0f64])));
        assert_eq!(hessian(one, &x()).unwrap(), Tensor::zeros([3, 3], DType::F64));
        assert_eq!(hessian_vector_product(one, &x(), &x()).unwrap().1, Tensor::zeros([3], DType::F64));
        assert_eq!(jacobian_vector_product(fixed, &x(), &x()).unwrap().1, Tensor::zeros([2], DType::F64));
        let u = Tensor::from([1.0f64, 2.0]);
        assert_eq!(vector_jacobian_product(fixed, &x(), &u).unwrap().1, Tensor::zeros([3], DType::F64));
        assert_eq!(jacobian(|x| x.slice(0, 0, 0), &x()).unwrap(), Tensor::zeros([0, 3], DType::F64));
    }
}

mod errors {
    use super::*;

    fn text<T>(result: Result<T>) -> String {
        result.err().expect("an error").to_string()
    }

    #[test]
    fn vectors_must_fit() {
        let short = Tensor::from([1.0f64]);
        let help = "help: a vector has the shape and type of its target";
        let want = format!("hessian_vector_product: the vector is f64 [1], its target f64 [3]; {help}");
        assert_eq!(text(hessian_vector_product(quadratic, &x(), &short)), want);
        let want = format!("jacobian_vector_product: the vector is f64 [1], its target f64 [3]; {help}");
        assert_eq!(text(jacobian_vector_product(quadratic, &x(), &short)), want);
        let want =
            "backward_to: dy is f64 [1], the value f64 [2]; help: a gradient has the shape and type of its value";
        assert_eq!(text(vector_jacobian_product(pair, &x(), &short)), want);
        let leaf = Pass::record().leaf(x());
        let want = "hessian_vector_product: 0 vectors for 1 targets; help: give one for each";
        assert_eq!(text(quadratic(&leaf).unwrap().hessian_vector_product(&[&leaf], &[])), want);
    }

    #[test]
    fn a_hessian_is_of_one_number_and_of_ops_with_two_derivatives() {
        let want = "backward_to: the value is [2], not a single number; \
                    help: reduce it with mean(..) or sum(..), or say what arrives with backward_from(dy)";
        assert_eq!(text(hessian(pair, &x())), want);
        let once = |x: &Var| {
            let kernel = |dy: Tensor, _: [bool; 1]| Ok([Some(dy)]);
            record_kernel("once", x.value().clone(), [x], kernel)?.sum(.., false)
        };
        assert!(jacobian(once, &x()).is_ok());
        assert!(text(hessian(once, &x())).starts_with("once: its gradient is a kernel that cannot be differentiated"));
        let many = Tensor::zeros([1, 1, 1, 1, 1], DType::F64);
        let error: Error = jacobian(|x| Ok(x.exp()), &many).unwrap_err();
        let want = "shape: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1] has 10 axes; help: a tensor has at most 8";
        assert_eq!(error.to_string(), want);
    }
}
