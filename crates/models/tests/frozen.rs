//! The known networks can be frozen whole: every layer of them has a kernel.

use maplet_autograd::{State, Var, states_mut};
use maplet_models::{AlexNet, ResNet, mlp, mnist_cnn};
use maplet_nn_layers::{Frozen, Module};
use maplet_tensor::{Rng, Shape, Tensor};

fn check<M: Module + Clone + 'static>(mut model: M, input: &[usize], kernels: usize) {
    let rng = &mut Rng::new(5);
    for (_, state) in states_mut(&mut model) {
        let shape = state.value().shape();
        *state = State::new(Tensor::uniform(shape, 0.5f32, 1.5, rng));
    }
    let x = Tensor::normal(Shape::new(input).unwrap(), 0.0f32, 1.0, rng);
    let frozen = Frozen::new(&model, x.shape()).unwrap();
    let steps = frozen.steps();
    assert!(steps.len() == kernels && !steps.iter().any(|step| step.starts_with("layer")), "{frozen:?}");
    let want = model.forward(&Var::from(&x)).unwrap().into_value();
    let mut session = frozen.session();
    let error = session.run(&x).unwrap().sub(&want).unwrap().abs().max(.., false).unwrap().item::<f32>().unwrap();
    let largest = want.abs().max(.., false).unwrap().item::<f32>().unwrap();
    // Some twenty layers, each of which errs by a few roundings of its largest value.
    assert!(error <= 1e-4 * largest, "{error} of {largest}");
}

#[test]
fn whole_networks_have_kernels() {
    check(mnist_cnn(1).unwrap(), &[5, 1, 28, 28], 3);
    check(mlp(&[20, 30, 10], 1).unwrap(), &[5, 20], 2);
    // 19 convolutions, 2 projections, 9 sums, the mean and the classifier.
    check(ResNet::resnet20(10, 1).unwrap(), &[2, 3, 32, 32], 19 + 2 + 9 + 2);
    // 5 convolutions, 3 pools and the adaptive one, 3 dense layers.
    check(AlexNet::new(10, 1).unwrap(), &[1, 3, 224, 224], 5 + 4 + 3);
}
