//! `Sequential`: shapes, names, seeds, the table, and every misfit with its text.

use maplet_autograd::{DType, Param, Pass, Shape, Tensor, Var, fields, params, params_mut, states};
use maplet_nn_layers::{Builder, Checkpoint, Custom, Expect, Linear, Module, Result, Sequential, check_module, func};
use maplet_tensor::{Rng, Window2d};

fn mnist_cnn() -> Builder {
    Sequential::input([1, 28, 28]).conv2d(32, 3).relu().max_pool2d(2).flatten().linear(128).relu().linear(10)
}

fn refused(builder: Builder) -> String {
    builder.build(1).err().unwrap().to_string()
}

fn bits(model: &Sequential) -> Vec<Vec<u32>> {
    let values = params(model).into_iter().map(|(_, param)| param.value().to_vec::<f32>().unwrap());
    values.map(|values| values.into_iter().map(f32::to_bits).collect()).collect()
}

/// Worked out by hand: 9 · 32 + 32 weights; 26² · 32 outputs of 9 multiply-adds and a bias; 13² · 32 maxima of 4; …
#[test]
fn the_table_shows_what_each_layer_is_and_costs() {
    let expected = [
        "   layer               output           parameters      FLOPs  activation",
        "0  Conv2d 1 → 32, 3×3  [n, 32, 26, 26]         320    411,008    86,528 B",
        "1  Relu                [n, 32, 26, 26]           0     21,632    86,528 B",
        "2  MaxPool2d 2×2       [n, 32, 13, 13]           0     21,632    21,632 B",
        "3  Flatten             [n, 5408]                 0          0         0 B",
        "4  Linear 5408 → 128   [n, 128]            692,352  1,384,576       512 B",
        "5  Relu                [n, 128]                  0        128       512 B",
        "6  Linear 128 → 10     [n, 10]               1,290      2,570        40 B",
        "input [n, 1, 28, 28], total 693,962 parameters, 1,841,546 FLOPs and 195,752 B of activations per sample",
    ]
    .join("\n");
    assert_eq!(mnist_cnn().build(42).unwrap().to_string(), expected);

    let own = Sequential::input([2]).add(func(|x: &Var| Ok(x.square()))).linear(1).build(1).unwrap();
    let expected = [
        "   layer         output  parameters  FLOPs  activation",
        "0  Func          [n, 2]           0      ?         8 B",
        "1  Linear 2 → 1  [n, 1]           3      5         4 B",
        "input [n, 2], total 3 parameters, at least 5 FLOPs and 12 B of activations per sample",
    ]
    .join("\n");
    assert_eq!(own.to_string(), expected);
}

#[test]
fn names_are_those_of_pytorchs_sequential() {
    let model = Sequential::input([3, 4, 4]).batch_norm2d().conv2d(2, 3).no_bias().flatten().layer_norm().linear(5);
    let model = model.linear(3).no_bias().build(1).unwrap();
    let names: Vec<String> = params(&model).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["0.weight", "0.bias", "1.weight", "3.weight", "3.bias", "4.weight", "4.bias", "5.weight"]);
    let found = params(&model).iter().map(|(_, param)| param.value().len() as u64).sum::<u64>();
    assert_eq!(found, model.rows().iter().map(|row| row.parameters).sum::<u64>());
    let names: Vec<String> = states(&model).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["0.running_mean", "0.running_var"]);
}

#[test]
fn every_step_finds_its_shape() {
    let tall = Window2d::new([3, 2]).stride([2, 1]).padding([1, 0]);
    let model = Sequential::input([2, 9, 9]).conv(4, tall).batch_norm2d().silu().avg_pool(tall);
    let model = model.max_pool(Window2d::new(2)).leaky_relu(0.1).dropout(0.5).reshape([4, 12]).layer_norm();
    let model = model.gelu().linear(6).tanh().sigmoid().avg_pool2d(1);
    assert!(refused(model).starts_with("layer 13 (AvgPool2d 1×1): avg_pool2d: expects [n, c, h, w], got [n, 4, 6]"));

    let model = Sequential::input([2, 9, 9]).conv(4, tall).max_pool2d(2).reshape([2, 2, 8]).softmax(-1);
    let model = model.build(1).unwrap();
    let shapes: Vec<Shape> = model.rows().iter().map(|row| row.output).collect();
    assert_eq!(shapes, [[4, 5, 8].into(), [4, 2, 4].into(), [2, 2, 8].into(), Shape::from([2, 2, 8])]);
    assert_eq!((model.input_shape(), model.output_shape()), ([2, 9, 9].into(), [2, 2, 8].into()));
    let y = model.forward(&Tensor::zeros([3, 2, 9, 9], DType::F32).into()).unwrap();
    assert_eq!(y.shape(), [3, 2, 2, 8].into());
    let empty = Sequential::input([7]).build(1).unwrap();
    assert_eq!((empty.output_shape(), empty.rows().len()), ([7].into(), 0));
}

#[test]
fn behaves_as_a_module() {
    let mut model = Sequential::input([1, 6, 6]).conv2d(2, 3).relu().max_pool2d(2).flatten().linear(4).relu().linear(3);
    let wrong = "sequential: input [2, 1, 5, 6] does not fit a model of [n, 1, 6, 6]; \
                 help: axis 0 is the batch; reshape or unsqueeze the input";
    let unbatched = "sequential: input [1, 6, 6] does not fit a model of [n, 1, 6, 6]; \
                     help: axis 0 is the batch; reshape or unsqueeze the input";
    let expect = Expect {
        input: &[3, 1, 6, 6],
        output: &[3, 3],
        parameters: &[
            ("0.weight", &[2, 1, 3, 3]),
            ("0.bias", &[2]),
            ("4.weight", &[4, 8]),
            ("4.bias", &[4]),
            ("6.weight", &[3, 4]),
            ("6.bias", &[3]),
        ],
        refuses: &[(&[2, 1, 5, 6], wrong), (&[1, 6, 6], unbatched)],
        ..Expect::default()
    };
    for unfused in [false, true] {
        model = if unfused { model.unfused() } else { model };
        let mut built = model.build(5).unwrap();
        check_module(&mut built, &expect).unwrap();
        model = Sequential::input([1, 6, 6]).conv2d(2, 3).relu().max_pool2d(2).flatten().linear(4).relu().linear(3);
    }
}

#[test]
fn the_seed_decides_each_layer_by_itself() {
    let (model, again) = (mnist_cnn().build(1).unwrap(), mnist_cnn().build(1).unwrap());
    assert_eq!(bits(&model), bits(&again));
    assert_ne!(bits(&model), bits(&mnist_cnn().build(2).unwrap()));
    let longer = bits(&mnist_cnn().relu().linear(4).build(1).unwrap());
    assert_eq!(bits(&model), longer[..6]);
    let twins = bits(&Sequential::input([4]).linear(4).linear(4).build(1).unwrap());
    assert_ne!(twins[0], twins[2]);
    let from_config = Sequential::from_config(&model.config(), 1).unwrap();
    assert_eq!(bits(&model), bits(&from_config));
}

/// PyTorch's default: uniform in ±1/√fan_in for weight and bias.
#[test]
fn weights_begin_as_in_pytorch() {
    let model = mnist_cnn().build(3).unwrap();
    for (fan_in, layer) in [(9.0f64, "0"), (5408.0, "4"), (128.0, "6")] {
        let bound = 1.0 / fan_in.sqrt();
        for (name, param) in params(&model).into_iter().filter(|(name, _)| name.starts_with(layer)) {
            let values = param.value().as_slice::<f32>().unwrap();
            let most = values.iter().fold(0.0f32, |most, value| value.abs().max(most));
            assert!(f64::from(most) <= bound * 1.000_001, "{name}: {most} {bound}");
            // The chance that none of n values comes within 40 % of the bound is 0.6ⁿ.
            assert!(values.len() < 30 || f64::from(most) > bound * 0.6, "{name}: {most} {bound}");
        }
    }
}

#[derive(Clone)]
struct Residual {
    inner: Linear,
    scale: Param,
}
fields!(Residual: inner, scale);

impl Module for Residual {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(self.inner.forward(x)?.mul(&self.scale.on(x))?.add(x)?)
    }
}

fn residual() -> Residual {
    let scale = Param::new(Tensor::from([0.5f32]));
    Residual { inner: Linear::new(4, 4, &mut Rng::new(1)).unwrap(), scale }
}

#[test]
fn modules_of_ones_own_take_their_place() {
    let model = Sequential::input([3]).linear(4).add(residual()).relu().linear(2).build(1).unwrap();
    let names: Vec<String> = params(&model).into_iter().map(|(name, _)| name).collect();
    let expected =
        ["0.weight", "0.bias", "1.inner.weight", "1.inner.bias", "1.scale", "3.weight", "3.bias"].map(String::from);
    assert_eq!(names, expected);
    let row = &model.rows()[1];
    let found = (row.label.as_str(), row.output, row.parameters, row.flops);
    assert_eq!(found, ("Residual", [4].into(), 4 * 4 + 4 + 1, None));
    assert_eq!(model.config().steps[1], Custom { name: "Residual".into() }.into());

    let x = Pass::train(0).input(Tensor::zeros([2, 3], DType::F32));
    let loss = model.forward(&x).unwrap().square().mean(.., false).unwrap();
    assert!(loss.backward().unwrap().missing(&model).is_empty());

    let misfit = "layer 1 (Residual): linear: input [1, 5] and weight [4, 4] differ in their last sizes; \
                  help: the input's last axis must be 4";
    assert_eq!(refused(Sequential::input([3]).linear(5).add(residual())), misfit);
    let no_batch = "layer 0 (Func): sequential: one sample went in, [] came out; help: keep the batch as axis 0";
    assert_eq!(refused(Sequential::input([3]).add(func(|x: &Var| Ok(x.sum(.., false)?)))), no_batch);
}

#[test]
fn a_clone_is_a_model_of_its_own() {
    let model = Sequential::input([3]).linear(4).add(residual()).relu().linear(2).build(1).unwrap();
    let mut copy = model.clone();
    assert_eq!((bits(&copy), copy.to_string(), copy.config()), (bits(&model), model.to_string(), model.config()));
    let x = Pass::train(0).input(Tensor::ones([2, 3], DType::F32));
    let grads = model.forward(&x).unwrap().sum(.., false).unwrap().backward().unwrap();
    assert_eq!((grads.missing(&model).len(), grads.missing(&copy).len()), (0, 7));
    let bias = params_mut(&mut copy).pop().unwrap().1;
    bias.set_value(Tensor::from([5.0f32, 5.0])).unwrap();
    assert_ne!(bits(&copy), bits(&model));
}

/// As PyTorch's `checkpoint_sequential`: some layers of a model together.
#[test]
fn a_part_of_a_model_can_be_checkpointed() {
    let part = || Sequential::input([4]).linear(8).relu().dropout(0.5).linear(4).build(2).unwrap();
    let model = |checkpointed: bool| {
        let builder = Sequential::input([3]).linear(4);
        let builder = if checkpointed { builder.add(Checkpoint::new(part())) } else { builder.add(part()) };
        builder.dropout(0.5).linear(2).build(1).unwrap()
    };
    let step = |model: &Sequential| {
        let x = Pass::train(7).leaf(Tensor::ones([5, 3], DType::F32));
        let grads = model.forward(&x).unwrap().square().sum(.., false).unwrap().backward().unwrap();
        let mut found = vec![grads.of(&x).unwrap().clone()];
        found.extend(params(model).into_iter().map(|(_, param)| grads.of(param).unwrap().clone()));
        found
    };
    let (plain, parted) = (model(false), model(true));
    assert_eq!(step(&plain), step(&parted));
    let names = |model: &Sequential| params(model).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&plain), names(&parted));
}

#[test]
fn a_watched_pass_names_the_layer() {
    let model = Sequential::input([2]).relu().add(func(|x: &Var| Ok(x.log()))).linear(1).build(1).unwrap();
    let x = Pass::train(0).detect_anomaly().input(Tensor::from([[1.0f32, -1.0]]));
    let want = "layer 1 (Func): log: its output f32 [1, 2] is -inf at [0, 1], 1 of 2 elements NaN or infinite, from f32 \
                [1, 2] within [0, 1]; help: keep the inputs where the op is finite, with clamp(..) or a small number added";
    assert_eq!(model.forward(&x).unwrap_err().to_string(), want);
}

#[test]
fn misfits_are_found_at_build() {
    let image = "layer 0 (Conv2d ? → 8, 3×3): conv2d: expects [n, c, h, w], got [n, 784]; \
                 help: put reshape([c, h, w]) before it";
    assert_eq!(refused(Sequential::input([784]).conv2d(8, 3)), image);
    let large = "layer 2 (Conv2d 8 → 8, 5×5): conv2d: the window spans 5 in height, the padded input has 2; \
                 help: use a smaller kernel or dilation, or more padding";
    assert_eq!(refused(Sequential::input([1, 6, 6]).conv2d(8, 3).max_pool2d(2).conv2d(8, 5)), large);
    let none = "layer 0 (Linear 3 → 0): linear: out_features is 0; help: use 1 or more";
    assert_eq!(refused(Sequential::input([3]).linear(0)), none);
    let count = "layer 0 (Reshape [4, 2]): reshape: [3] has 3 elements, [4, 2] needs 8; \
                 help: the sizes must multiply to 3";
    assert_eq!(refused(Sequential::input([3]).reshape([4, 2])), count);
    let p = "layer 1 (Dropout 1.5): dropout: p is 1.5; help: use a probability from 0 to 1";
    assert_eq!(refused(Sequential::input([3]).relu().dropout(1.5)), p);
    let axis = "layer 0 (Softmax axis 2): softmax: [1, 3] has no axis 2; help: axes run from 0 to 1, or from -1 to -2";
    assert_eq!(refused(Sequential::input([3]).softmax(2)), axis);
    let bias = "no_bias: step 1 has no bias to leave out; help: call it right after a layer that has one";
    assert_eq!(refused(Sequential::input([3]).linear(4).relu().no_bias().linear(0)), bias);
    let groups = "layer 0 (Conv2d 3 → 4, 1×1, groups 2): conv2d: 3 input channels do not divide into 2 groups; \
                  help: use a number of groups that divides both";
    assert_eq!(refused(Sequential::input([3, 2, 2]).conv(4, Window2d::new(1).groups(2))), groups);
    let scalar = "layer 0 (Linear ? → 2): linear: expects [n, .., features], got [n]; help: put reshape([1]) before it";
    assert_eq!(refused(Sequential::input([]).linear(2)), scalar);
    let axes = "shape: [1, 1, 1, 1, 1, 1, 1, 1, 1] has 9 axes; help: a tensor has at most 8";
    assert_eq!(refused(Sequential::input([1; 8])), axes);
}

#[test]
fn errors_of_a_forward_pass_name_the_layer() {
    let mut model = Sequential::input([4]).linear(3).relu().linear(2).build(1).unwrap();
    let x = Var::from(Tensor::zeros([5, 4], DType::F32));
    for (name, param) in params_mut(&mut model) {
        if name == "2.weight" {
            *param.value_mut() = Tensor::zeros([2, 7], DType::F32);
        }
    }
    let expected = "layer 2 (Linear 3 → 2): linear: input [5, 3] and weight [2, 7] differ in their last sizes; \
                    help: the input's last axis must be 7";
    assert_eq!(model.forward(&x).unwrap_err().to_string(), expected);
    let whole = Var::from(Tensor::zeros([5, 4], DType::I64));
    let text = model.forward(&whole).unwrap_err().to_string();
    assert_eq!(
        text,
        "layer 0 (Linear 4 → 3 + Relu): linear: element types differ: i64 and f32; \
                    help: convert one of them with to_dtype"
    );
}
