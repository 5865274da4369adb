//! Convolution + bias + ReLU + max-pool in one operation: the first layers of every small image network.
//!
//! Only the pooled output leaves the cache, with one byte for each of its elements that says which position of the
//! window won, or that the ReLU cut it. The backward pass picks what the winners saw, or spreads `dy` to them, channels
//! innermost, and goes straight to the convolution's adjoints.

use crate::dtype::dispatch_float;
use crate::ops::gather::{DEPTH, NS_PER_MAC, gather_product};
use crate::ops::geometry::{Conv, Volume, area, in_windows};
use crate::ops::picked::{self, Image, Picked};
use crate::ops::winners::{CUT, keep, win};
use crate::par::{self, Shared};
use crate::pooled_tile::{PooledProduct, WINDOW};
use crate::turn::turn;
use crate::{Error, Result, Shape, Tensor, Window2d};
use num_traits::Zero;

/// For each pooled element, which position of its window won.
#[derive(Clone)]
pub struct Winners {
    /// `[n, pooled positions, o]`, `U8`
    places: Tensor,
}

impl Tensor {
    /// `max_pool2d(relu(conv2d(self, weight) + bias))`, and what its gradient needs.
    ///
    /// # Shapes
    /// - `self: [n, c, h, w]`, `weight: [o, c / groups, kh, kw]`, `bias: [o]`
    /// - output: `[n, o, ph, pw]`
    ///
    /// # Errors
    /// As the three operations; also a pool whose windows overlap, leave gaps or are padded (its stride must be its
    /// kernel), or that has more than 255 positions.
    pub fn conv2d_relu_max_pool2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        conv: Window2d,
        pool: Window2d,
    ) -> Result<(Tensor, Winners)> {
        const OP: &str = "conv2d_relu_max_pool2d";
        let fused = Fused::new(OP, self.shape(), weight.shape(), conv, pool)?;
        fused.conv.check_operands(OP, self, weight, bias)?;
        let (conv, window) = (&fused.conv, fused.window());
        let pooled = fused.pooled[0] * fused.pooled[1];
        dispatch_float!(self.dtype(), OP, T => {
            let (volume, x) = conv.padded::<T>(self);
            let weights = conv.packed_weights::<T>(weight);
            let bias = bias.map(Tensor::slice_of::<T>);
            let (positions, taps) = (fused.positions(volume), conv.taps(volume));
            let mut places = Tensor::dirty::<u8>(Shape::from([conv.n, pooled, conv.o]));
            let y = Tensor::build(fused.output(), |y: &mut [T]| {
                let places = Shared::new(places.own_slice::<u8>());
                let cost = (positions.len() * taps.len() * conv.o) as f64 * NS_PER_MAC;
                // Without registers for a window, some windows at a time: their sums stay in the first cache.
                let in_registers = window == WINDOW && taps.len() <= DEPTH;
                let fitting = 16384 / (window * conv.o_group * size_of::<T>()).max(1);
                let strip = if in_registers { pooled } else { fitting.min(pooled) }.max(1);
                par::rows(y, (pooled * conv.o).max(1), cost, |first, images| {
                    let kept = if in_registers { 0 } else { strip * window };
                    let mut sums = Tensor::dirty::<T>(Shape::from([kept, conv.o_group]));
                    let mut best = Tensor::dirty::<T>(Shape::from([pooled, conv.o_group]));
                    let (sums, best) = (sums.own_slice::<T>(), best.own_slice::<T>());
                    for (i, y) in images.chunks_mut(pooled * conv.o).enumerate() {
                        let n = first + i;
                        // SAFETY: each image is one task's alone.
                        let places = unsafe { places.slice(n * pooled * conv.o, pooled * conv.o) };
                        for part in 0..conv.groups {
                            let (columns, o0) = (conv.o_group, part * conv.o_group);
                            let x = &x.slice_of::<T>()[(n * conv.c + part * conv.c_group) * area(volume)..];
                            let (weights, bias) = (weights.part(part), bias.map(|bias| &bias[o0..][..columns]));
                            for p0 in (0..pooled).step_by(strip) {
                                let count = strip.min(pooled - p0);
                                let rows = &positions[p0 * window..][..count * window];
                                let best = &mut best[p0 * columns..][..count * columns];
                                let places = &mut places[p0 * conv.o + o0..];
                                if in_registers {
                                    let (steps, panels) = (&taps[..], weights.data());
                                    let product = PooledProduct { a: x, rows, steps, panels, columns, bias };
                                    product.winners(best, places, conv.o);
                                } else {
                                    let sums = &mut sums[..rows.len() * columns];
                                    gather_product(&[x], rows, &taps, weights, 0..columns, bias, sums);
                                    win(sums, window, columns, best, places, conv.o);
                                }
                            }
                            turn([pooled, columns], best, columns, &mut y[o0 * pooled..], pooled);
                        }
                    }
                });
            });
            Ok((y, Winners { places }))
        })
    }

    /// Adjoint of [`conv2d_relu_max_pool2d`](Self::conv2d_relu_max_pool2d); `self` is `dy`. Gradients of input, weight
    /// and bias, those that are wanted.
    ///
    /// # Errors
    /// Shapes that do not fit, or winners of another call.
    pub fn conv2d_relu_max_pool2d_grad(
        &self,
        winners: &Winners,
        x: &Tensor,
        weight: &Tensor,
        conv: Window2d,
        pool: Window2d,
        want: [bool; 3],
    ) -> Result<[Option<Tensor>; 3]> {
        const OP: &str = "conv2d_relu_max_pool2d_grad";
        let fused = Fused::new(OP, x.shape(), weight.shape(), conv, pool)?;
        fused.conv.check_operands(OP, x, weight, None)?;
        self.same_dtype(OP, x)?;
        let (sizes, window) = (&fused.conv, fused.window());
        let pooled = fused.pooled[0] * fused.pooled[1];
        if self.shape() != fused.output() || winners.places.shape() != Shape::from([sizes.n, pooled, sizes.o]) {
            let what = format!("dy is {}, the output was {}", self.shape(), fused.output());
            return Err(Error::shape(OP, what, "pass the gradient of the output and the winners of the same call"));
        }
        let winners = winners.places.slice_of::<u8>();
        dispatch_float!(self.dtype(), OP, T => {
            let dy = self.slice_of::<T>();
            let input = sizes.framed_input::<T>(x);
            let plane = area(sizes.output);
            let mut bias = Tensor::dirty::<T>(Shape::from([sizes.n, sizes.o]));
            let bias_sums = Shared::new(bias.own_slice::<T>());
            // Image n's dy of a group, as [pooled position, o]; its winners; and where its sum over the positions goes.
            let image = |n: usize, part: usize| {
                let (o0, mut turned) = (part * sizes.o_group, Tensor::dirty::<T>(Shape::from([pooled, sizes.o_group])));
                let dy = &dy[(n * sizes.o + o0) * pooled..];
                turn([sizes.o_group, pooled], dy, pooled, turned.own_slice(), sizes.o_group);
                // SAFETY: an image's group belongs to one task of each region.
                let sums = unsafe { bias_sums.slice(n * sizes.o + o0, sizes.o_group) };
                (turned, &winners[n * pooled * sizes.o + o0..], sums)
            };
            // Its dy before the pool, as [pooled position, position of the window, o].
            let spread = |n: usize, part: usize, out: &mut [T]| {
                let (dy, winners, sums) = image(n, part);
                keep(dy.slice_of::<T>(), winners, sizes.o, window, out, sums);
            };
            let dx = match want[0] {
                false => None,
                true => {
                    // The convolution's own adjoint wants dy in its planes.
                    let natural = fused.natural();
                    let dy = Tensor::build(sizes.y_shape, |out: &mut [T]| {
                        par::rows(out, (sizes.o * plane).max(1), (sizes.o * plane) as f64, |first, images| {
                            images.fill(T::zero());
                            let mut rows = Tensor::dirty::<T>(Shape::from([natural.len(), sizes.o_group]));
                            let rows = rows.own_slice::<T>();
                            for (i, image) in images.chunks_mut(sizes.o * plane).enumerate() {
                                for part in 0..sizes.groups {
                                    spread(first + i, part, rows);
                                    let image = &mut image[part * sizes.o_group * plane..];
                                    for (row, &at) in rows.chunks(sizes.o_group).zip(&natural) {
                                        row.iter().enumerate().for_each(|(o, &dy)| image[o * plane + at] = dy);
                                    }
                                }
                            }
                        });
                    });
                    Some(dy.conv_grad_input(weight, x.shape(), conv)?)
                }
            };
            // The bias's gradient falls off on the way to the weight's.
            let [dw, db] = match want[1] || want[2] {
                false => [None, None],
                true => {
                    let positions = fused.positions(input.volume);
                    let fits = sizes.c_group * sizes.o_group > 0 && !sizes.is_cut_by_taps(positions.len());
                    let picked = Picked::new::<T>(conv, fused.kernel).filter(|_| fits);
                    let dw = match picked {
                        None => sizes.grad_weight::<T>(input, &positions, spread),
                        Some(picked) => {
                            let windows: Vec<usize> = positions.iter().copied().step_by(window).collect();
                            let pitch = [area(input.volume), input.volume[2]];
                            let taps = sizes.c_group * area(sizes.window.kernel);
                            let cost = (pooled * taps * sizes.o_group) as f64 * picked::NS_PER_MAC;
                            sizes.by_images(&input, taps, cost, |n, part, x, out| {
                                let (dy, winners, sums) = image(n, part);
                                let dy = dy.slice_of();
                                let image = Image { x, pitch, windows: &windows, dy, winners, stride: sizes.o };
                                picked.add(&image, out, sums);
                            })
                        }
                    };
                    [want[1].then_some(dw), if want[2] { Some(bias.sum(0, false)?) } else { None }]
                }
            };
            Ok([dx, dw, db])
        })
    }
}

/// The sizes of one fused operation.
struct Fused {
    conv: Conv,
    kernel: [usize; 2],
    pooled: [usize; 2],
}

impl Fused {
    fn new(op: &'static str, x: Shape, weight: Shape, conv: Window2d, pool: Window2d) -> Result<Self> {
        let conv = Conv::new(op, x, weight, conv)?;
        let pooled = pool.output(op, [conv.output[1], conv.output[2]])?;
        if pool != Window2d::pool(pool.kernel) || pool.kernel[0] * pool.kernel[1] >= usize::from(CUT) {
            let what = format!("{pool:?} is not a plain pool");
            return Err(Error::value(op, what, "use Window2d::pool with a kernel of at most 254 positions"));
        }
        Ok(Self { conv, kernel: pool.kernel, pooled })
    }

    fn output(&self) -> Shape {
        Shape::from([self.conv.n, self.conv.o, self.pooled[0], self.pooled[1]])
    }

    /// Positions in a window of the pool.
    fn window(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The places in the convolution's output plane, window by window.
    fn natural(&self) -> Vec<usize> {
        let ([kh, kw], [ph, pw]) = (self.kernel, self.pooled);
        in_windows(self.conv.output, [1, kh, kw], [1, ph, pw])
    }

    /// The offsets of these places in the padded input.
    fn positions(&self, volume: Volume) -> Vec<usize> {
        let positions = self.conv.positions(volume);
        self.natural().into_iter().map(|at| positions[at]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, DType, Rng};

    /// Value and gradients against the three separate operations, whose sums run in another order.
    fn check_unfused([n, c, h, w, o]: [usize; 5], conv: Window2d, pool: usize, dtype: DType, bound: f64) {
        let mut rng = Rng::new(7);
        let mut draw =
            |shape: &[usize]| Tensor::uniform(Shape::new(shape).unwrap(), -1.0f64, 1.0, &mut rng).to_dtype(dtype);
        let pool = Window2d::pool(pool);
        let x = draw(&[n, c, h, w]);
        let weight = draw(&[o, c / conv.groups, conv.kernel[0], conv.kernel[1]]);
        let bias = draw(&[o]);
        let (y, winners) = x.conv2d_relu_max_pool2d(&weight, Some(&bias), conv, pool).unwrap();
        let relu = x.conv_bias(&weight, Some(&bias), conv, Activation::Relu).unwrap();
        let (plain, argmax) = relu.max_pool(pool).unwrap();
        let close = |a: &Tensor, b: &Tensor, what: &str| {
            assert_eq!(a.shape(), b.shape(), "{what}");
            let [a, b] = [a, b].map(|t| t.to_dtype(DType::F64).to_vec::<f64>().unwrap());
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= bound), "{what}: {n} {c} {h} {w} {o} {conv:?}");
        };
        close(&y, &plain, "y");
        let dy = draw(&y.shape());
        let dz = relu.relu_grad(&dy.max_pool_grad(&argmax, relu.shape()).unwrap()).unwrap();
        let grads = dy.conv2d_relu_max_pool2d_grad(&winners, &x, &weight, conv, pool, [true; 3]).unwrap();
        let [dx, dw, db] = grads.map(Option::unwrap);
        close(&dx, &dz.conv_grad_input(&weight, x.shape(), conv).unwrap(), "dx");
        close(&dw, &dz.conv_grad_weight(&x, weight.shape(), conv).unwrap(), "dw");
        close(&db, &dz.sum([0, 2, 3], false).unwrap(), "db");
        let none = dy.conv2d_relu_max_pool2d_grad(&winners, &x, &weight, conv, pool, [false; 3]).unwrap();
        assert!(none.iter().all(Option::is_none));
    }

    #[test]
    fn equals_the_three_operations() {
        // f64, so that rounding does not change who wins; 1e-11 is 100 ε √(number of terms) of the largest sums.
        let check = |sizes, conv, pool| check_unfused(sizes, conv, pool, DType::F64, 1e-11);
        check([2, 3, 9, 8, 5], Window2d::new(3).padding(1), 2);
        check([3, 4, 11, 11, 6], Window2d::new([2, 3]).stride(2).groups(2), 2);
        check([1, 2, 12, 12, 20], Window2d::new(3).dilation(2), 3);
        check([0, 2, 12, 12, 20], Window2d::new(3), 2);
        if !cfg!(miri) {
            check([5, 1, 28, 28, 32], Window2d::new(3), 2);
            // f32: a tie broken otherwise moves a gradient, so small integers would be needed for exactness; the seed
            // has no tie, and 2e-4 is 10 · ε · the 4,000 terms of the largest sum.
            check_unfused([5, 1, 28, 28, 32], Window2d::new(3), 2, DType::F32, 2e-4);
        }
    }

    #[test]
    fn what_the_relu_cuts_passes_nothing() {
        let x = Tensor::from([[[[-1.0f32, -2.0], [-3.0, -4.0]]]]);
        let weight = Tensor::full([1, 1, 1, 1], 1.0f32);
        let (conv, pool) = (Window2d::new(1), Window2d::pool(2));
        let (y, winners) = x.conv2d_relu_max_pool2d(&weight, None, conv, pool).unwrap();
        assert_eq!(y, Tensor::zeros([1, 1, 1, 1], DType::F32));
        let dy = Tensor::ones([1, 1, 1, 1], DType::F32);
        let [dx, dw, db] = dy.conv2d_relu_max_pool2d_grad(&winners, &x, &weight, conv, pool, [true; 3]).unwrap();
        assert_eq!((dx, dw, db), (Some(x.zeros_like()), Some(weight.zeros_like()), Some(Tensor::from([0.0f32]))));
    }

    #[test]
    fn the_bias_has_a_gradient_without_input_channels() {
        let (x, weight) = (Tensor::zeros([2, 0, 4, 4], DType::F32), Tensor::zeros([3, 0, 3, 3], DType::F32));
        let (conv, pool) = (Window2d::new(3), Window2d::pool(2));
        let (y, winners) = x.conv2d_relu_max_pool2d(&weight, Some(&Tensor::ones([3], DType::F32)), conv, pool).unwrap();
        let dy = Tensor::ones(y.shape(), DType::F32);
        let [_, _, db] =
            dy.conv2d_relu_max_pool2d_grad(&winners, &x, &weight, conv, pool, [false, true, true]).unwrap();
        assert_eq!(db, Some(Tensor::from([2.0f32; 3])));
    }

    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        let mut rng = Rng::new(2);
        let mut draw = |shape: &[usize]| Tensor::normal(Shape::of(shape), 0.0f32, 1.0, &mut rng);
        let (x, weight, bias) = (draw(&[40, 2, 14, 14]), draw(&[20, 2, 3, 3]), draw(&[20]));
        let (conv, pool) = (Window2d::new(3), Window2d::pool(2));
        let run = |threads| {
            let pool_of = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool_of.install(|| {
                let (y, winners) = x.conv2d_relu_max_pool2d(&weight, Some(&bias), conv, pool).unwrap();
                let grads = y.conv2d_relu_max_pool2d_grad(&winners, &x, &weight, conv, pool, [true; 3]).unwrap();
                (y, grads)
            })
        };
        assert!(run(1) == run(2) && run(1) == run(7));
    }

    #[test]
    fn other_pools_are_refused() {
        let x = Tensor::zeros([1, 1, 8, 8], DType::F32);
        let weight = Tensor::zeros([1, 1, 3, 3], DType::F32);
        let result = x.conv2d_relu_max_pool2d(&weight, None, Window2d::new(3), Window2d::new(2));
        let text = result.err().unwrap().to_string();
        let expected = "conv2d_relu_max_pool2d: Window { kernel: [2, 2], stride: [1, 1], padding: [0, 0], \
                        dilation: [1, 1], groups: 1 } is not a plain pool; \
                        help: use Window2d::pool with a kernel of at most 254 positions";
        assert_eq!(text, expected);
    }
}
