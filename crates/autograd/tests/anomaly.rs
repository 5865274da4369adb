//! A watched pass names the op that first made a NaN or an infinity, forward and backward, and blames no other.

use maplet_autograd::{DType, Error, Grads, Param, Pass, Result, Tensor, Var, checkpoint, record_fused};

const FORWARD: &str = "help: keep the inputs where the op is finite, with clamp(..) or a small number added";
const BACKWARD: &str = "help: keep the input away from where the op has no finite slope, with clamp(..) or a small \
                        number added";
const ENTERED: &str = "help: look for the NaN in the data, or in the parameters before this step";

fn pass() -> Pass {
    Pass::train(0).detect_anomaly()
}

fn text<T>(result: Result<T>) -> String {
    result.err().expect("an anomaly").to_string()
}

/// The sum's gradients.
fn walk(y: &Var) -> Result<Grads> {
    y.sum(.., false)?.backward()
}

#[test]
fn the_first_op_is_named_forward() {
    let pass = pass();
    let x = pass.leaf(Tensor::from([[4.0f32, 1.0], [0.0, -0.5]]));
    assert!(pass.anomaly().is_ok());
    let y = x.log().exp().mul(&x).unwrap();
    let want = format!(
        "log: its output f32 [2, 2] is -inf at [1, 0], 2 of 4 elements NaN or infinite, from f32 [2, 2] within [-0.5, 4]; \
         {FORWARD}"
    );
    assert_eq!(text(pass.anomaly()), want);
    assert_eq!(text(walk(&y)), want);
    assert_eq!(text(y.sum(.., false).unwrap().backward_with_graph()), want);
}

#[test]
fn every_input_is_named() {
    let pass = pass();
    let (x, zero) = (pass.leaf(Tensor::from([1.0f64, 2.0])), Var::from(Tensor::from([0.0f64])));
    let y = zero.add(&x.div(&zero).unwrap()).unwrap();
    let want = format!(
        "div: its output f64 [2] is inf at [0], 2 of 2 elements NaN or infinite, from f64 [2] within [1, 2] and f64 [1] \
         within [0, 0]; {FORWARD}"
    );
    assert_eq!(text(walk(&y)), want);
}

#[test]
fn fused_ops_are_watched_too() {
    let pass = pass();
    let x = pass.input(Tensor::from([[1.0f32, 2.0]]));
    let huge = Param::new(Tensor::from([[3e38f32, 3e38]]));
    let y = x.linear(&huge.on(&x), None, Default::default()).unwrap();
    let want = format!(
        "linear: its output f32 [1, 1] is inf at [0, 0], 1 of 1 elements NaN or infinite, from f32 [1, 2] within [1, 2] \
         and f32 [1, 2] within [{0}, {0}]; {FORWARD}",
        3e38f32
    );
    assert_eq!(text(walk(&y)), want);
}

#[test]
fn the_first_rule_is_named_backward() {
    let x = pass().leaf(Tensor::from([4.0f32, 0.0, 1.0]));
    let y = x.mul_scalar(2.0).sqrt().exp();
    let want = format!(
        "sqrt: the gradient of its input f32 [3], made by `mul_scalar`, is inf at [1], 1 of 3 elements NaN or infinite; \
         {BACKWARD}"
    );
    assert_eq!(text(walk(&y)), want);
    let x = pass().leaf(Tensor::from([4.0f32, 0.0, 1.0]));
    let loss = x.mul_scalar(2.0).sqrt().sum(.., false).unwrap();
    assert_eq!(text(loss.backward_with_graph()), want);
}

#[test]
fn a_kernel_that_goes_wrong_is_named() {
    let x = pass().leaf(Tensor::from([1.0f32]));
    let kernel = |dy: Tensor, _: [bool; 1]| Ok([Some(dy.mul_scalar(f64::NAN))]);
    let y = record_fused("mine", x.value().clone(), [&x], kernel, |[x]| Ok(x.mul_scalar(1.0)));
    let want = format!(
        "mine: the gradient of its input f32 [1], made by `leaf`, is NaN at [0], 1 of 1 elements NaN or infinite; {BACKWARD}"
    );
    assert_eq!(text(walk(&y.unwrap())), want);
}

#[test]
fn a_nan_that_comes_in_is_no_ops_fault() {
    let pass = pass();
    let x = pass.input(Tensor::from([[1.0f32, f32::NAN]]));
    let want = format!(
        "input: what enters the pass as f32 [1, 2] is NaN at [0, 1], 1 of 2 elements NaN or infinite; {ENTERED}"
    );
    assert_eq!(text(pass.anomaly()), want);
    drop(x);
    let x = self::pass().input(Tensor::from([1.0f32]));
    let broken = Param::new(Tensor::from([f32::NAN]));
    let want =
        format!("leaf: what enters the pass as f32 [1] is NaN at [0], 1 of 1 elements NaN or infinite; {ENTERED}");
    assert_eq!(text(walk(&broken.on(&x).mul(&x).unwrap())), want);
}

#[test]
fn an_infinity_that_is_meant_is_handed_on() {
    let pass = pass();
    let x = pass.leaf(Tensor::from([[0.5f32, 1.0, 2.0]]));
    let mask = Var::from(Tensor::from([0.0f32, f32::NEG_INFINITY, 0.0]));
    let y = mask.add(&x).unwrap().add(&mask).unwrap().softmax(-1).unwrap().square();
    assert!(walk(&y).is_ok());
    // But what is made from it may be to blame.
    let y = x.add(&mask).unwrap();
    let y = y.sub(&y).unwrap();
    let want = format!(
        "sub: its output f32 [1, 3] is NaN at [0, 1], 1 of 3 elements NaN or infinite, from f32 [1, 3] within [-inf, 2] \
         and f32 [1, 3] within [-inf, 2]; {FORWARD}"
    );
    assert_eq!(text(walk(&y)), want);
}

#[test]
fn a_checkpointed_part_is_watched() {
    let x = pass().leaf(Tensor::from([0.0f32]));
    let y = checkpoint(&(), [&x], |_, [x]| Ok::<_, Error>(x.sqrt())).unwrap();
    assert!(text(walk(&y)).starts_with("sqrt: the gradient of its input f32 [1], made by `leaf`, is inf at [0]"));
    let x = pass().leaf(Tensor::from([0.0f32]));
    let y = checkpoint(&(), [&x], |_, [x]| Ok::<_, Error>(x.recip())).unwrap();
    assert!(text(walk(&y)).starts_with("recip: its output f32 [1] is inf at [0]"));
}

#[test]
fn a_pass_may_be_audited_and_watched() {
    for pass in [Pass::record().audited().detect_anomaly(), Pass::record().detect_anomaly().audited()] {
        let w = Param::new(Tensor::from([0.0f32]));
        let x = pass.input(Tensor::from([1.0f32]));
        let y = x.mul(&w.on(&x).detach()).unwrap().add(&pass.leaf(Tensor::from([1.0f32]))).unwrap();
        let missing = walk(&y).unwrap().missing(&w);
        assert_eq!(missing[0].to_string(), "`` has no gradient: `detach` cut it");
        let _ = y.sub(&y).unwrap().recip();
        assert!(pass.anomaly().is_err());
    }
}

#[test]
fn a_pass_that_is_not_watched_says_nothing() {
    let pass = Pass::train(0);
    let x = pass.leaf(Tensor::zeros([1], DType::F32));
    assert!(walk(&x.log().recip()).is_ok() && pass.anomaly().is_ok());
}
