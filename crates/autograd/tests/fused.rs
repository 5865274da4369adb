//! Every fused op equals the composition of plain ops that it stands for, in value and gradient, in both float types.

use maplet_autograd::{
    Activation, AttentionOptions, Bend, Cell, DType, LabelOptions, Pass, Recurrence, RecurrentWeights, Result, Rng,
    Shape, Tensor, Trans, Var, Window2d,
};

fn normal(shape: &[usize], seed: u64) -> Tensor {
    Tensor::normal(Shape::new(shape).unwrap(), 0.0f64, 1.0, &mut Rng::new(seed))
}

/// Compares values and gradients. Both sides round some `terms` numbers of size 1 or so, each in its own order; eight
/// times the square root of that many roundings leaves room for the largest of some thousand elements.
fn same(terms: usize, inputs: &[Tensor], fused: impl Fn(&[Var]) -> Result<Var>, plain: impl Fn(&[Var]) -> Result<Var>) {
    for (dtype, eps) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
        let run = |f: &dyn Fn(&[Var]) -> Result<Var>| {
            let pass = Pass::train(3);
            let leaves: Vec<Var> = inputs.iter().map(|x| pass.leaf(x.to_dtype(dtype))).collect();
            let y = f(&leaves).unwrap();
            let dy = normal(&y.shape(), 99).to_dtype(dtype);
            let grads = y.backward_from(dy).unwrap();
            let mut found = vec![y.value().clone()];
            found.extend(leaves.iter().map(|leaf| grads.of(leaf).unwrap().clone()));
            found
        };
        for (i, (a, b)) in run(&fused).iter().zip(run(&plain)).enumerate() {
            assert_eq!((a.shape(), a.dtype()), (b.shape(), b.dtype()));
            let (a, b) = (a.to_dtype(DType::F64), b.to_dtype(DType::F64));
            let size = b.abs().max(.., false).unwrap().item::<f64>().unwrap();
            let error = a.sub(&b).unwrap().abs().max(.., false).unwrap().item::<f64>().unwrap();
            let bound = 8.0 * eps * (terms as f64).sqrt() * size.max(1.0);
            assert!(error <= bound, "{dtype}, result {i}: off by {error:e}, at most {bound:e}");
        }
    }
}

fn channels(bias: &Var) -> Result<Var> {
    bias.reshape([bias.len(), 1, 1])
}

#[test]
fn linear() {
    for shape in [&[7usize, 33][..], &[2, 5, 33]] {
        let inputs = [normal(shape, 1), normal(&[20, 33], 2), normal(&[20], 3)];
        let plain = |x: &[Var]| {
            let rows = x[0].reshape([x[0].len() / 33, 33])?;
            let y = rows.matmul_with(&x[1], Trans { a: false, b: true })?.add(&x[2])?;
            y.reshape(x[0].shape().with_size(x[0].rank() - 1, 20))
        };
        same(33, &inputs, |x| x[0].linear(&x[1], Some(&x[2]), Activation::Identity), plain);
        same(33, &inputs, |x| x[0].linear(&x[1], Some(&x[2]), Activation::Relu), |x| Ok(plain(x)?.relu()));
        let plain = |x: &[Var]| x[0].matmul_with(&x[1], Trans { a: false, b: true });
        same(33, &inputs[..2], |x| x[0].linear(&x[1], None, Activation::Identity), plain);
    }
}

#[test]
fn feed_forward() {
    let shapes: [&[usize]; 5] = [&[3, 50, 33], &[70, 33], &[40, 70], &[70], &[40]];
    let inputs: Vec<Tensor> = shapes.into_iter().zip(1..).map(|(shape, seed)| normal(shape, seed)).collect();
    for bend in [Bend::Relu, Bend::Gelu] {
        let plain = move |x: &[Var], biases: [Option<&Var>; 2]| {
            let z = x[0].linear(&x[1], biases[0], Activation::Identity)?;
            let hidden = if bend == Bend::Gelu { z.gelu() } else { z.relu() };
            hidden.linear(&x[2], biases[1], Activation::Identity)
        };
        let with = |x: &[Var]| x[0].feed_forward([&x[1], &x[2]], [Some(&x[3]), Some(&x[4])], bend, 0.0);
        same(70 * 150, &inputs, with, |x| plain(x, [Some(&x[3]), Some(&x[4])]));
        same(
            70 * 150,
            &inputs[..3],
            |x| x[0].feed_forward([&x[1], &x[2]], [None; 2], bend, 0.0),
            |x| plain(x, [None; 2]),
        );
        let dropped = move |x: &[Var]| {
            let z = x[0].linear(&x[1], Some(&x[3]), Activation::Identity)?;
            let hidden = if bend == Bend::Gelu { z.gelu() } else { z.relu() };
            hidden.dropout(0.3)?.linear(&x[2], Some(&x[4]), Activation::Identity)
        };
        let drops = |x: &[Var]| x[0].feed_forward([&x[1], &x[2]], [Some(&x[3]), Some(&x[4])], bend, 0.3);
        same(70 * 150, &inputs, drops, dropped);
        // Whatever is asked for comes out the same.
        for asked in 1..1 << inputs.len() {
            let grads = |f: &dyn Fn(&[Var]) -> Result<Var>| {
                let pass = Pass::record();
                let var = |(i, x): (usize, &Tensor)| if asked >> i & 1 == 1 { pass.leaf(x.clone()) } else { x.into() };
                let x: Vec<Var> = inputs.iter().enumerate().map(var).collect();
                let y = f(&x).unwrap();
                let grads = y.backward_from(normal(&y.shape(), 9)).unwrap();
                x.iter().map(|x| x.is_recorded().then(|| grads.of(x).unwrap().clone())).collect::<Vec<_>>()
            };
            let both = grads(&with).into_iter().zip(grads(&|x| plain(x, [Some(&x[3]), Some(&x[4])])));
            for (found, want) in both.filter_map(|(found, want)| Some((found?, want?))) {
                assert!(found.sub(&want).unwrap().abs().max(.., false).unwrap().item::<f64>().unwrap() < 1e-11);
            }
        }
        // Outside of a pass nothing is kept, and nothing else is computed.
        let x: Vec<Var> = inputs.iter().map(Var::from).collect();
        assert_eq!(with(&x).unwrap().value(), plain(&x, [Some(&x[3]), Some(&x[4])]).unwrap().value());
    }
}

#[test]
fn a_sum_takes_the_memory_of_a_value_that_nobody_needs() {
    let pass = Pass::record();
    let x = pass.leaf(normal(&[5, 6], 1));
    let (a, b) = (x.square(), x.exp());
    let (sum, address) = (a.value().add(b.value()).unwrap(), b.value().as_slice::<f64>().unwrap().as_ptr());
    let kept = x.neg();
    let y = a.add_to(kept.clone()).unwrap();
    assert_ne!(y.value(), kept.value(), "somebody else has it");
    let y = a.add_to(x.square().add(&b).unwrap()).unwrap();
    assert_eq!(y.value(), &a.value().add(&a.value().add(b.value()).unwrap()).unwrap());
    drop(y);
    let scaled = x.mul_scalar(3.0);
    let address_of = |x: &Var| x.value().as_slice::<f64>().unwrap().as_ptr();
    let own = address_of(&scaled);
    let y = a.add_to(scaled).unwrap();
    assert_eq!(address_of(&y), own);
    assert_eq!(b.value().as_slice::<f64>().unwrap().as_ptr(), address);
    assert_eq!(a.value().add(b.value()).unwrap(), sum);
    let grad = y.sum(.., false).unwrap().backward().unwrap().of(&x).unwrap().clone();
    assert_eq!(grad, x.value().mul_scalar(2.0).add_scalar(3.0));
    // The rule of `exp` keeps its output.
    let y = x.add_to(x.exp()).unwrap();
    let grad = y.sum(.., false).unwrap().backward().unwrap().of(&x).unwrap().clone();
    assert_eq!(grad, b.value().add_scalar(1.0));
}

#[test]
fn convolution_with_bias_relu_and_pool() {
    let inputs = [normal(&[3, 4, 13, 12], 1), normal(&[6, 4, 3, 3], 2), normal(&[6], 3)];
    for window in [Window2d::new(3), Window2d::new(3).padding(1).stride([1, 2])] {
        let plain = |x: &[Var]| x[0].conv(&x[1], window)?.add(&channels(&x[2])?);
        // A weight's gradient adds up the whole batch.
        let terms = 3 * 13 * 12;
        let (identity, relu) = (Activation::Identity, Activation::Relu);
        same(terms, &inputs, |x| x[0].conv_bias(&x[1], Some(&x[2]), window, identity), plain);
        same(terms, &inputs, |x| x[0].conv_bias(&x[1], Some(&x[2]), window, relu), |x| Ok(plain(x)?.relu()));
        let pool = Window2d::pool(2);
        let fused = |x: &[Var]| x[0].conv2d_relu_max_pool2d(&x[1], Some(&x[2]), window, pool);
        same(terms, &inputs, fused, |x| plain(x)?.relu().max_pool(pool));
        let fused = |x: &[Var]| x[0].conv2d_relu_max_pool2d(&x[1], None, window, pool);
        same(terms, &inputs[..2], fused, |x| x[0].conv(&x[1], window)?.relu().max_pool(pool));
    }
}

#[test]
fn activations() {
    let x = [normal(&[100, 37], 1)];
    same(4, &x, |x| Ok(x[0].silu()), |x| x[0].div(&x[0].neg().exp().add_scalar(1.0)));
    same(4, &x, |x| Ok(x[0].sigmoid()), |x| Ok(x[0].neg().exp().add_scalar(1.0).recip()));
    same(
        16,
        &x,
        |x| Ok(x[0].tanh()),
        |x| {
            let square = x[0].mul_scalar(2.0).exp();
            square.add_scalar(-1.0).div(&square.add_scalar(1.0))
        },
    );
}

#[test]
fn softmax_family() {
    let x = [normal(&[6, 50, 4], 1)];
    for axis in [0isize, 1, -1] {
        let plain = move |x: &[Var]| x[0].exp().div(&x[0].exp().sum(axis, true)?);
        same(50, &x, |x| x[0].softmax(axis), plain);
        same(50, &x, |x| x[0].log_softmax(axis), move |x| Ok(plain(x)?.log()));
        same(50, &x, |x| x[0].logsumexp(axis, true), |x| Ok(x[0].exp().sum(axis, true)?.log()));
    }
}

#[test]
fn layer_norm() {
    let inputs = [normal(&[40, 3, 65], 1), normal(&[65], 2), normal(&[65], 3)];
    let plain = |x: &[Var]| {
        let centered = x[0].sub(&x[0].mean(-1, true)?)?;
        let deviation = centered.square().mean(-1, true)?.add_scalar(1e-3).sqrt();
        centered.div(&deviation)?.mul(&x[1])?.add(&x[2])
    };
    same(120, &inputs, |x| x[0].layer_norm(&x[1], &x[2], 1e-3), plain);
}

#[test]
fn rms_norm() {
    let inputs = [normal(&[40, 3, 65], 1), normal(&[65], 2)];
    let plain = |x: &[Var]| x[0].div(&x[0].square().mean(-1, true)?.add_scalar(1e-3).sqrt())?.mul(&x[1]);
    same(120, &inputs, |x| x[0].rms_norm(&x[1], 1e-3), plain);
}

#[test]
fn group_norm() {
    let inputs = [normal(&[8, 6, 7, 5], 1), normal(&[6], 2), normal(&[6], 3)];
    let plain = |x: &[Var]| {
        let groups = x[0].reshape([8, 3, 70])?;
        let centered = groups.sub(&groups.mean(-1, true)?)?;
        let deviation = centered.square().mean(-1, true)?.add_scalar(1e-3).sqrt();
        let normal = centered.div(&deviation)?.reshape([8, 6, 7, 5])?;
        normal.mul(&channels(&x[1])?)?.add(&channels(&x[2])?)
    };
    same(8 * 35, &inputs, |x| x[0].group_norm(3, &x[1], &x[2], 1e-3), plain);
}

#[test]
fn embedding_bag() {
    let (count, starts) = (60usize, [0, 0, 20, 33, 60]);
    let ids = Tensor::from_vec((0..count as i64).map(|i| i * i % 13).collect(), [count]).unwrap();
    let bags: Vec<i64> = (0..count).map(|i| if i < 20 { 1 } else { 2 + i64::from(i >= 33) }).collect();
    let bags = Tensor::from_slice(&bags, [bags.len()]).unwrap();
    let inputs = [normal(&[13, 5], 1), normal(&[count], 2)];
    let fused = |x: &[Var]| x[0].embedding_bag(&x[0].constant(&ids), &starts, &x[1]);
    let plain = |x: &[Var]| {
        let rows = x[0].select_rows(&x[0].constant(&ids))?.mul(&x[1].unsqueeze(-1)?)?;
        rows.scatter_add_rows(&x[0].constant(&bags), 4)
    };
    same(60, &inputs, fused, plain);
}

#[test]
fn batch_norm() {
    let inputs = [normal(&[8, 5, 7, 6], 1), normal(&[5], 2), normal(&[5], 3)];
    let plain = |x: &[Var]| {
        let centered = x[0].sub(&x[0].mean([0, 2, 3], true)?)?;
        let deviation = centered.square().mean([0, 2, 3], true)?.add_scalar(1e-3).sqrt();
        centered.div(&deviation)?.mul(&channels(&x[1])?)?.add(&channels(&x[2])?)
    };
    let fused = |activation| move |x: &[Var]| Ok(x[0].batch_norm(&x[1], &x[2], 1e-3, activation)?.0);
    same(8 * 42, &inputs, fused(Activation::Identity), plain);
    same(8 * 42, &inputs, fused(Activation::Relu), |x| Ok(plain(x)?.relu()));

    let (mean, var) = (normal(&[5], 4), normal(&[5], 5).square());
    let column = |x: &Var, stat: &Tensor| x.constant(stat.to_dtype(x.dtype()).reshape([5, 1, 1]).unwrap());
    let fused = |activation| {
        let (mean, var) = (&mean, &var);
        move |x: &[Var]| {
            let (mean, var) = (mean.to_dtype(x[0].dtype()), var.to_dtype(x[0].dtype()));
            x[0].batch_norm_with(&mean, &var, &x[1], &x[2], 0.1, activation)
        }
    };
    let plain = |x: &[Var]| {
        let centered = x[0].sub(&column(&x[0], &mean))?;
        let scaled = centered.div(&column(&x[0], &var).add_scalar(0.1).sqrt())?;
        scaled.mul(&channels(&x[1])?)?.add(&channels(&x[2])?)
    };
    same(8 * 42, &inputs, fused(Activation::Identity), plain);
    same(8 * 42, &inputs, fused(Activation::Relu), |x| Ok(plain(x)?.relu()));

    let x = Pass::train(0).input(Tensor::ones([1, 5], DType::F32));
    let one = x.constant(Tensor::ones([5], DType::F32));
    let text = x.batch_norm(&one, &one, 0.1, Activation::Identity).unwrap_err().to_string();
    assert_eq!(text, "batch_norm: [1, 5] has 1 elements in a channel; help: train with batches of at least 2");
}

#[test]
fn cross_entropy() {
    let (n, k) = (30, 11);
    let labels = Tensor::from_vec((0..n as i64).map(|i| i * 7 % k).collect(), [n]).unwrap();
    let one_hot = labels.one_hot(k as usize).unwrap().to_dtype(DType::F64);
    let weights = normal(&[k as usize], 2).square();
    for (smoothing, weights) in [(0.0, None), (0.1, None), (0.1, Some(&weights))] {
        let all_equal = Tensor::ones([k as usize], DType::F64);
        // The target distribution, times the weights.
        let q = one_hot.mul_scalar(1.0 - smoothing).add_scalar(smoothing / k as f64);
        let q = q.mul(weights.unwrap_or(&all_equal)).unwrap();
        let plain = |x: &[Var]| {
            let q = x[0].constant(q.to_dtype(x[0].dtype()));
            Ok(x[0].log_softmax(-1)?.mul(&q)?.sum(-1, false)?.neg())
        };
        let fused = |x: &[Var]| {
            let class_weights = weights.map(|weights| weights.to_dtype(x[0].dtype()));
            let options = LabelOptions { label_smoothing: smoothing, class_weights, ..Default::default() };
            x[0].softmax_cross_entropy(&labels, &options)
        };
        same(n * k as usize, &[normal(&[n, k as usize], 1)], fused, plain);
    }
}

/// Softmax of products, by the plain ops; what is hidden gets a score of −10⁹, far below rounding.
#[test]
fn attention() {
    let (n, heads, t_q, t_k, d) = (2, 3, 37, 150, 8);
    let inputs = [normal(&[n, heads, t_q, d], 1), normal(&[n, heads, t_k, d], 2), normal(&[n, heads, t_k, 5], 3)];
    let zero = Tensor::scalar(0.0f64);
    let may = normal(&[n, 1, t_q, t_k], 4).greater(&zero).unwrap();
    let below = Tensor::arange(0, t_k as i64, 1).unwrap();
    let below = below.less_equal(&Tensor::arange(9, 9 + t_q as i64, 1).unwrap().reshape([t_q, 1]).unwrap()).unwrap();
    let both = may.mul(&below).unwrap();
    let options = AttentionOptions::new;
    for (options, may) in [
        (options(), None),
        (options().mask(may.clone()), Some(&may)),
        (options().causal_from(9), Some(&below)),
        (options().mask(may.clone()).causal_from(9), Some(&both)),
    ] {
        let fused = |x: &[Var]| x[0].scaled_dot_product_attention(&x[1], &x[2], &options);
        let plain = |x: &[Var]| {
            let scores = x[0].matmul_with(&x[1], Trans { a: false, b: true })?.mul_scalar(1.0 / (d as f64).sqrt());
            let hidden = may.map(|may| may.equal(&Tensor::scalar(0u8)).unwrap().to_dtype(x[0].dtype()));
            let scores = match hidden {
                Some(hidden) => scores.add(&scores.constant(hidden.mul_scalar(-1e9)))?,
                None => scores,
            };
            scores.softmax(-1)?.matmul(&x[2])
        };
        same(t_k, &inputs, fused, plain);
    }
    // A learned mask: its gradient comes from the composition, the others' must be the same.
    let inputs = [&inputs[..], &[normal(&[heads, t_q, 1], 5)]].concat();
    let fused = |x: &[Var]| x[0].scaled_dot_product_attention(&x[1], &x[2], &options().mask(x[3].clone()));
    let plain = |x: &[Var]| {
        let scores = x[0].matmul_with(&x[1], Trans { a: false, b: true })?.mul_scalar(1.0 / (d as f64).sqrt());
        scores.add(&x[3])?.softmax(-1)?.matmul(&x[2])
    };
    same(t_k, &inputs, fused, plain);
}

/// Dropout is drawn once a call: the same pass gives the same output in every layout, and evaluation drops nothing.
#[test]
fn attention_drops_in_training_only() {
    let x = normal(&[2, 5, 12], 1);
    let with = AttentionOptions::new().dropout(0.5);
    let run = |pass: Pass| pass.input(x.clone()).packed_attention(2, &with).unwrap().into_value();
    assert_eq!(run(Pass::train(1)), run(Pass::train(1)));
    assert_ne!(run(Pass::train(1)), run(Pass::train(2)));
    assert_eq!(run(Pass::record()), Var::from(&x).packed_attention(2, &AttentionOptions::new()).unwrap().into_value());
    // A mask that wants a gradient takes the composition of plain ops, which must drop the same weights.
    let zeros = Tensor::zeros([5, 5], DType::F64);
    let fused = |pass: Pass| pass.input(x.clone()).packed_attention(2, &with.clone().mask(zeros.clone())).unwrap();
    let plain = |pass: Pass| pass.input(x.clone()).packed_attention(2, &with.clone().mask(pass.leaf(&zeros))).unwrap();
    let apart = fused(Pass::train(1)).value().sub(plain(Pass::train(1)).value()).unwrap();
    assert!(apart.abs().max(.., false).unwrap().item::<f64>().unwrap() < 1e-15 * 60.0); // a row of 5, a few roundings
    let text = Var::from(&x).packed_attention(2, &AttentionOptions::new().dropout(1.0)).unwrap_err().to_string();
    let want = "scaled_dot_product_attention: the probability of dropout is 1; help: use 0 or more, and less than 1";
    assert_eq!(text, want);
}

/// Step by step, by the formulas of PyTorch's documentation, over the whole sequence in one direction.
fn recurrence(cell: Cell, reverse: bool, x: &[Var]) -> Result<Var> {
    let [x, h0, c0, w_ih, w_hh, b_ih, b_hh] = x else { unreachable!() };
    let (mut h, mut c, hidden) = (h0.clone(), c0.clone(), h0.shape()[1]);
    let mut outputs = Vec::new();
    let mut steps = x.split(1, 0)?;
    if reverse {
        steps.reverse();
    }
    for x in steps {
        let product = |x: &Var, w: &Var, b: &Var| x.matmul_with(w, Trans { a: false, b: true })?.add(b);
        let (a, b) =
            (product(&x.squeeze(0)?, w_ih, b_ih)?.split(hidden, 1)?, product(&h, w_hh, b_hh)?.split(hidden, 1)?);
        let sum = |i: usize| a[i].add(&b[i]);
        h = match cell {
            Cell::RnnTanh => sum(0)?.tanh(),
            Cell::RnnRelu => sum(0)?.relu(),
            Cell::Lstm => {
                c = sum(1)?.sigmoid().mul(&c)?.add(&sum(0)?.sigmoid().mul(&sum(2)?.tanh())?)?;
                sum(3)?.sigmoid().mul(&c.tanh())?
            }
            Cell::Gru => {
                let (r, z) = (sum(0)?.sigmoid(), sum(1)?.sigmoid());
                let n = a[2].add(&r.mul(&b[2])?)?.tanh();
                z.neg().add_scalar(1.0).mul(&n)?.add(&z.mul(&h)?)?
            }
        };
        outputs.push(h.clone());
    }
    if reverse {
        outputs.reverse();
    }
    // The last states take part as further steps, so that their gradients are compared as well.
    let last = if cell == Cell::Lstm { h.add(&c)? } else { h.add(&c0.mul_scalar(0.0))? };
    outputs.push(last);
    Var::stack(&outputs.iter().collect::<Vec<_>>(), 0)
}

#[test]
fn recurrent_layers() {
    let (t, n, input, hidden) = (7, 19, 5, 11);
    for cell in [Cell::RnnTanh, Cell::RnnRelu, Cell::Lstm, Cell::Gru] {
        let width = cell.gates() * hidden;
        let small = |shape: &[usize], seed| normal(shape, seed).mul_scalar(0.3);
        let inputs = [
            normal(&[t, n, input], 1),
            normal(&[n, hidden], 2),
            normal(&[n, hidden], 3),
            small(&[width, input], 4),
            small(&[width, hidden], 5),
            small(&[width], 6),
            small(&[width], 7),
        ];
        for reverse in [false, true] {
            let fused = |x: &[Var]| {
                let [x, h0, c0, weight_ih, weight_hh, b_ih, b_hh] = x else { unreachable!() };
                let (weight_ih, weight_hh) = (weight_ih.clone(), weight_hh.clone());
                let (bias_ih, bias_hh) = (Some(b_ih.clone()), Some(b_hh.clone()));
                let weights = RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr: None };
                let cell0 = (cell == Cell::Lstm).then_some(c0);
                let [y, h, c] = x.recurrent(
                    h0,
                    cell0,
                    &weights,
                    &Recurrence { cell, reverse, lengths: None, by_sequence: reverse },
                )?;
                let y = if reverse { y.transpose(0, 1)? } else { y };
                let last = if cell == Cell::Lstm { h.add(&c)? } else { h.add(&c0.mul_scalar(0.0))? };
                Var::concat(&[&y, &last.unsqueeze(0)?], 0)
            };
            // A weight's gradient adds up all steps of all sequences; errors grow along the steps.
            same(t * n * t, &inputs, fused, |x| recurrence(cell, reverse, x));
        }
    }
}
