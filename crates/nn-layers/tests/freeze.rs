//! A frozen model does what the model does, whatever the layers, the batch and the number of threads.

use maplet_autograd::{State, Var, states_mut};
use maplet_nn_layers::{
    BatchNorm2d, Builder, Conv2d, Dropout, Frozen, Identity, Linear, Module, Parallel, Relu, Residual, Sequential,
    cast, func,
};
use maplet_tensor::{DType, PadMode, Pool, Rng, Shape, Tensor, Window1d, Window2d, Window3d};

/// The model with running statistics of its own.
fn build(builder: Builder) -> Sequential {
    let mut model = builder.build(7).unwrap();
    let mut rng = Rng::new(8);
    for (_, state) in states_mut(&mut model) {
        let shape = state.value().shape();
        *state = State::new(Tensor::uniform(shape, 0.5f32, 2.0, &mut rng));
    }
    model
}

fn draw(shape: &[usize]) -> Tensor {
    Tensor::normal(Shape::new(shape).unwrap(), 0.0f32, 1.0, &mut Rng::new(9))
}

/// The frozen model against the model, for batches of one block, of a part of one and of several; the same bits with
/// one thread, with two, with seven, and alone.
fn check(builder: Builder, steps: &[&str]) {
    let model = build(builder);
    for batch in [1, 3, 130] {
        let frozen = model.freeze(batch).unwrap();
        assert_eq!(frozen.steps(), steps);
        let x = draw(&[&[batch], model.input_shape().sizes()].concat());
        let want = model.forward(&Var::from(&x)).unwrap().into_value();
        let mut first = None;
        for threads in [1, 2, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (shared, alone) = pool.install(|| {
                let run = |mut session: maplet_nn_layers::Session| {
                    session.run(&draw(&frozen.input_shape())).unwrap();
                    session.run(&x).unwrap().clone()
                };
                (run(frozen.session()), run(frozen.session_alone()))
            });
            let bits = first.get_or_insert_with(|| shared.clone());
            assert!(*bits == shared && *bits == alone, "{threads} threads, batch {batch}: {steps:?}");
        }
        let y = first.unwrap();
        assert_eq!((y.shape(), frozen.output_shape()), (want.shape(), want.shape()));
        let pairs = y.as_slice::<f32>().unwrap().iter().zip(want.as_slice::<f32>().unwrap());
        let largest = pairs.clone().fold(1.0, |most: f32, (_, want)| want.abs().max(most));
        // Sums of some hundred products in another order, and norms that were multiplied into weights before.
        assert!(pairs.clone().all(|(y, want)| (y - want).abs() <= 2e-5 * largest), "batch {batch}: {steps:?}");
    }
}

#[test]
fn the_mnist_cnn_has_three_kernels() {
    let model = Sequential::input([1, 28, 28]).conv2d(32, 3).relu().max_pool2d(2).flatten().linear(128).relu();
    let steps =
        ["conv [1, 28, 28] → [32, 13, 13], max_pool 2×2, relu", "linear [5408] → [128], relu", "linear [128] → [10]"];
    check(model.linear(10), &steps);
}

#[test]
fn batch_norms_are_folded_into_what_is_before_them() {
    let model = Sequential::input([2, 9, 8]).batch_norm2d().relu().conv2d(4, 3).batch_norm2d().max_pool2d(2).tanh();
    let model = model.conv2d(3, 2).no_bias().batch_norm2d().gelu().max_pool2d(2).flatten().linear(5).batch_norm1d();
    let steps = [
        "scale [2, 9, 8] → [2, 9, 8], relu",
        "conv [2, 9, 8] → [4, 3, 3], max_pool 2×2, tanh",
        "conv [4, 3, 3] → [3, 2, 2], gelu",
        "max_pool [3, 2, 2] → [3, 1, 1]",
        "linear [3] → [5]",
    ];
    check(model, &steps);
}

#[test]
fn sequences_and_volumes() {
    let model = Sequential::input([4, 30]).conv(6, Window1d::new(3).groups(2).padding(1)).leaky_relu(0.2).max_pool1d(3);
    let model = model.conv(5, Window1d::new(2).stride(2).dilation(2)).avg_pool1d(2).global_avg_pool();
    let steps = [
        "conv [4, 30] → [6, 10], max_pool 3, leaky_relu",
        "conv [6, 10] → [5, 4]",
        "avg_pool [5, 4] → [5, 2]",
        "adaptive_avg_pool [5, 2] → [5, 1]",
    ];
    check(model, &steps);
    let model = Sequential::input([2, 6, 7, 8]).conv(3, Window3d::new(3).padding(1)).batch_norm3d().relu6();
    let model = model.max_pool(Window3d::new(2).padding(1)).conv3d(2, 2).silu().adaptive_avg_pool([1, 2, 2]);
    let steps = [
        "conv [2, 6, 7, 8] → [3, 6, 7, 8], hardtanh",
        "max_pool [3, 6, 7, 8] → [3, 7, 8, 9]",
        "conv [3, 7, 8, 9] → [2, 6, 7, 8], silu",
        "adaptive_avg_pool [2, 6, 7, 8] → [2, 1, 2, 2]",
    ];
    check(model, &steps);
}

#[test]
fn images_with_all_kinds_of_windows() {
    let same = Window2d::new(5).padding(2).stride([2, 1]);
    let pool = Pool::from(Window2d::new(3).stride(2)).ceil_mode(true);
    let model = Sequential::input([3, 20, 20]).conv(40, same).hardtanh(-1.0, 0.5).max_pool(pool);
    let model = model.conv2d(140, 1).sigmoid().avg_pool(pool.count_include_pad(false)).dropout(0.5);
    let steps = [
        "conv [3, 20, 20] → [40, 10, 20], hardtanh",
        "max_pool [40, 10, 20] → [40, 5, 10]",
        "conv [40, 5, 10] → [140, 5, 10], sigmoid",
        "avg_pool [140, 5, 10] → [140, 2, 5]",
    ];
    check(model, &steps);
}

#[test]
fn shapes_cost_nothing() {
    let model = Sequential::input([6, 4]).identity().linear(5).dropout(0.3).unflatten(1, [2, 3]).flatten_axes(1, 2);
    check(model.reshape([30]).relu(), &["linear [6, 4] → [6, 5]", "relu [30]"]);
    check(Sequential::input([2, 3]).flatten(), &["concat [6] → [6]"]);
    check(Sequential::input([2, 3]).dropout(0.5), &["concat [6] → [6]"]);
    check(Sequential::input([2, 3]).tanh(), &["tanh [2, 3]"]);
}

/// A residual block, and one whose shortcut must not be changed by what the branch begins with.
#[test]
fn branches() {
    let rng = &mut Rng::new(3);
    let mut conv = |c, o| Conv2d::new(c, o, Window2d::new(3).padding(1), rng).unwrap();
    let inner = Sequential::input([4, 6, 6]).batch_norm2d().relu().add(conv(4, 4));
    let block = Residual::new(build(inner));
    let wider = Residual::new(conv(4, 6)).projection(conv(4, 6));
    let joined = Parallel::concat(1).branch(Identity).branch(Relu).branch(conv(6, 2));
    let sum = Parallel::add().branch(Dropout::new(0.5).unwrap()).branch(conv(14, 14)).branch(Relu);
    let model = Sequential::input([1, 6, 6]).add(conv(1, 4)).add(block).add(wider).relu().add(joined).add(sum);
    let steps = [
        "conv [1, 6, 6] → [4, 6, 6]",
        "scale [4, 6, 6] → [4, 6, 6], relu",
        "conv [4, 6, 6] → [4, 6, 6]",
        "add [4, 6, 6] + [4, 6, 6] → [4, 6, 6]",
        "conv [4, 6, 6] → [6, 6, 6]",
        "conv [4, 6, 6] → [6, 6, 6]",
        "add [6, 6, 6] + [6, 6, 6] → [6, 6, 6], relu",
        "relu [6, 6, 6]",
        "conv [6, 6, 6] → [2, 6, 6]",
        "concat [6, 6, 6] + [6, 6, 6] + [2, 6, 6] → [14, 6, 6]",
        "conv [14, 6, 6] → [14, 6, 6]",
        "relu [14, 6, 6]",
        "add [14, 6, 6] + [14, 6, 6] → [14, 6, 6]",
        "add [14, 6, 6] + [14, 6, 6] → [14, 6, 6]",
    ];
    check(model, &steps);
}

/// What has no kernel, and what looks at several samples.
#[test]
fn other_layers_run_by_their_forward_pass() {
    let reflect = Conv2d::new(1, 2, Window2d::new(3).padding(1), &mut Rng::new(1)).unwrap();
    let model = Sequential::input([1, 4, 4]).add(reflect.padding_mode(PadMode::Reflect)).mish().flatten().linear(6);
    let steps = ["layer [1, 4, 4] → [2, 4, 4]", "layer [2, 4, 4] → [2, 4, 4]", "linear [32] → [6]", "layer [6] → [6]"];
    check(model.layer_norm(), &steps);
    let batch = BatchNorm2d::new(1).unwrap().without_running_stats();
    let model = Sequential::input([1, 4, 4]).add(batch).relu().add(func(|x: &Var| Ok(x.sub(&x.mean(0, true)?)?)));
    check(model, &["layer [1, 4, 4] → [1, 4, 4]", "relu [1, 4, 4]", "layer [1, 4, 4] → [1, 4, 4]"]);
}

#[test]
fn a_single_layer_and_its_display() {
    let layer = Linear::new(3, 2, &mut Rng::new(1)).unwrap();
    let frozen = Frozen::new(&layer, [4, 3]).unwrap();
    assert_eq!(format!("{frozen:?}"), "frozen [4, 3] → [4, 2]\nlinear [3] → [2]");
}

#[test]
fn threads_share_a_frozen_model() {
    let model = build(Sequential::input([1, 12, 12]).conv2d(8, 3).relu().max_pool2d(2).flatten().linear(10));
    let frozen = model.freeze(2).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (frozen, model) = (&frozen, &model);
            scope.spawn(move || {
                let mut session = frozen.session_alone();
                for i in 0..20 {
                    let x = Tensor::normal([2, 1, 12, 12], 0.0f32, 1.0, &mut Rng::new(100 * seed + i));
                    let want = model.forward(&Var::from(&x)).unwrap().into_value();
                    let error = session.run(&x).unwrap().sub(&want).unwrap().abs().max(.., false).unwrap();
                    assert!(error.item::<f32>().unwrap() < 1e-5);
                }
            });
        }
    });
}

#[test]
fn what_does_not_fit_is_said() {
    let mut model = build(Sequential::input([1, 4, 4]).flatten().linear(3));
    let frozen = model.freeze(2).unwrap();
    let text = |x: Tensor| frozen.session().run(&x).unwrap_err().to_string();
    let expected = "frozen: input [3, 1, 4, 4] does not fit a model frozen for [2, 1, 4, 4]; \
                    help: freeze the model for this shape too";
    assert_eq!(text(draw(&[3, 1, 4, 4])), expected);
    let expected = "frozen: expects f32, got f64; help: convert the input with to_dtype(DType::F32)";
    assert_eq!(text(Tensor::zeros([2, 1, 4, 4], DType::F64)), expected);
    let text = model.freeze(0).unwrap_err().to_string();
    let expected = "freeze: input [0, 1, 4, 4] has no elements; \
                    help: name the shape that will come, with the batch as axis 0";
    assert_eq!(text, expected);
    let text = Frozen::new(&model, [2, 1, 5, 4]).unwrap_err().to_string();
    let expected = "sequential: input [2, 1, 5, 4] does not fit a model of [n, 1, 4, 4]; \
                    help: axis 0 is the batch; reshape or unsqueeze the input";
    assert_eq!(text, expected);
    let lost = Sequential::input([3]).linear(2).add(func(|x: &Var| match x.shape()[0] {
        1 => Ok(x.clone()),
        _ => Ok(x.sum(0, true)?),
    }));
    let text = lost.build(1).unwrap().freeze(2).unwrap_err().to_string();
    assert!(text.ends_with("freeze: 2 samples went in, [1, 2] came out; help: keep the batch as axis 0"), "{text}");
    let ids = func(|x: &Var| Ok(Var::from(x.value().to_dtype(DType::I64))));
    let text = Sequential::input([3]).add(ids).build(1).unwrap().freeze(2).unwrap_err().to_string();
    assert!(text.ends_with("freeze: a layer gives i64; help: convert its output to F32"), "{text}");
    cast(&mut model, DType::F64).unwrap();
    let text = model.freeze(1).unwrap_err().to_string();
    assert_eq!(text, "freeze: `1.weight` is f64; help: cast the model to F32 first");
}

/// The plan is of the weights as they were.
#[test]
fn later_training_does_not_reach_a_frozen_model() {
    let mut model = build(Sequential::input([3]).linear(2));
    let frozen = model.freeze(1).unwrap();
    let x = draw(&[1, 3]);
    let before = frozen.session().run(&x).unwrap().clone();
    for (_, param) in maplet_autograd::params_mut(&mut model) {
        param.value_mut().as_mut_slice::<f32>().unwrap().fill(5.0);
    }
    assert_eq!(frozen.session().run(&x).unwrap(), &before);
}

#[test]
fn what_a_layer_refuses_is_not_frozen() {
    let turned = maplet_nn_layers::Hardtanh::new().min(1.0).max(-1.0);
    let text = Frozen::new(&turned, [1, 3]).err().unwrap().to_string();
    assert!(text.ends_with("hardtanh: from 1 to -1; help: put the lower first"), "{text}");
}
