//! What embeddings need beyond [`Tensor::select_rows`]: sums over bags of rows, and rows of bounded length.
//!
//! Bag `b` has the ids `starts[b]..starts[b + 1]`. No row is copied out of the table, so the sums take memory for their
//! results alone.

use super::index::indices;
use super::moments::Dot;
use crate::dtype::dispatch_float;
use crate::lanes::Lanewise;
use crate::simd::vectorized;
use crate::{Element, Error, Float, Result, Shape, Tensor, par};

/// About the nanoseconds that one element takes.
const COST: f64 = 0.4;

impl Tensor {
    /// The sum over each bag of `coefficients[i] · self[ids[i]]`; zeros for an empty bag.
    ///
    /// # Shapes
    /// - `self: [rows, d]`, `ids: [count]`, `coefficients: [count]`, output: `[bags, d]`
    ///
    /// # Errors
    /// Shapes that do not fit, starts that do not rise from 0 to the number of ids, an id out of range, types that
    /// differ or are not float.
    pub fn embedding_bag(&self, ids: &Tensor, starts: &[usize], coefficients: &Tensor) -> Result<Tensor> {
        const OP: &str = "embedding_bag";
        let [rows, width] = self.dims(OP)?;
        let ids = bag_ids(OP, ids, starts, rows)?;
        check_coefficients(OP, self, coefficients, ids.len())?;
        let bags = starts.len() - 1;
        let cost = COST * width as f64 * (1.0 + ids.len() as f64 / bags.max(1) as f64);
        dispatch_float!(self.dtype(), OP, T => {
            let (x, by) = (self.slice_of::<T>(), coefficients.slice_of::<T>());
            Ok(Tensor::build(Shape::from([bags, width]), |out: &mut [T]| par::rows(out, width, cost, |first, out| {
                out.fill(T::default());
                for (bag, out) in out.chunks_mut(width).enumerate() {
                    for i in starts[first + bag]..starts[first + bag + 1] {
                        add_scaled(out, &x[ids[i] as usize * width..], by[i]);
                    }
                }
            })))
        })
    }

    /// Adjoint of [`embedding_bag`](Self::embedding_bag); `self` is `dy`. Gives the gradients of the table and the
    /// coefficients that `want` asks for.
    ///
    /// # Errors
    /// As [`embedding_bag`](Self::embedding_bag).
    pub fn embedding_bag_grad(
        &self,
        table: &Tensor,
        ids: &Tensor,
        starts: &[usize],
        coefficients: &Tensor,
        want: [bool; 2],
    ) -> Result<[Option<Tensor>; 2]> {
        const OP: &str = "embedding_bag_grad";
        let [rows, width] = table.dims(OP)?;
        let ids = bag_ids(OP, ids, starts, rows)?;
        check_coefficients(OP, self, coefficients, ids.len())?;
        self.same_dtype(OP, table)?;
        let bags = Shape::from([starts.len() - 1, width]);
        if self.shape() != bags {
            return Err(Error::shape(
                OP,
                format!("the gradient is {}, the bags {bags}", self.shape()),
                "give one row a bag",
            ));
        }
        let bag_of = bag_of(starts);
        dispatch_float!(self.dtype(), OP, T => {
            let (dy, x, by) = (self.slice_of::<T>(), table.slice_of::<T>(), coefficients.slice_of::<T>());
            let d_table = want[0].then(|| {
                // Sorted by id (and stably): each row of the table can be summed on its own.
                let mut order: Vec<usize> = (0..ids.len()).collect();
                order.sort_by_key(|&i| ids[i]);
                let cost = COST * width as f64 * (1.0 + ids.len() as f64 / rows.max(1) as f64);
                Tensor::build(table.shape(), |out: &mut [T]| par::rows(out, width, cost, |first, out| {
                    out.fill(T::default());
                    let (start, end) = (first, first + out.len() / width);
                    let from = order.partition_point(|&i| (ids[i] as usize) < start);
                    for &i in order[from..].iter().take_while(|&&i| (ids[i] as usize) < end) {
                        let out = &mut out[(ids[i] as usize - first) * width..][..width];
                        add_scaled(out, &dy[bag_of[i] * width..], by[i]);
                    }
                }))
            });
            let d_coefficients = want[1].then(|| {
                Tensor::build(coefficients.shape(), |out: &mut [T]| {
                    par::rows(out, 1, COST * width as f64, |first, out| for (i, out) in out.iter_mut().enumerate() {
                        let i = first + i;
                        let (x, dy) = (&x[ids[i] as usize * width..][..width], &dy[bag_of[i] * width..][..width]);
                        *out = T::from_f64(T::with_lanes(Dot(x, dy)));
                    });
                })
            });
            Ok([d_table, d_coefficients])
        })
    }

    /// For each bag and each column, the id of the row with the largest element; the first of equals, and −1 in an
    /// empty bag.
    ///
    /// # Shapes
    /// - `self: [rows, d]`, `ids: [count]`, output: `[bags, d]`, `i64`
    ///
    /// # Errors
    /// Shapes that do not fit, starts that do not rise from 0 to the number of ids, an id out of range, a type that is
    /// not float.
    pub fn embedding_bag_argmax(&self, ids: &Tensor, starts: &[usize]) -> Result<Tensor> {
        const OP: &str = "embedding_bag_argmax";
        let [rows, width] = self.dims(OP)?;
        let ids = bag_ids(OP, ids, starts, rows)?;
        let bags = starts.len() - 1;
        let cost = 1.0 + width as f64 * ids.len() as f64 / bags.max(1) as f64;
        dispatch_float!(self.dtype(), OP, T => {
            let x = self.slice_of::<T>();
            Ok(Tensor::build(Shape::from([bags, width]), |out: &mut [i64]| par::rows(out, width, cost, |first, out| {
                out.fill(-1);
                for (bag, out) in out.chunks_mut(width).enumerate() {
                    for &id in &ids[starts[first + bag]..starts[first + bag + 1]] {
                        for (j, best) in out.iter_mut().enumerate() {
                            if *best < 0 || x[id as usize * width + j] > x[*best as usize * width + j] {
                                *best = id;
                            }
                        }
                    }
                }
            })))
        })
    }

    /// With the rows that `ids` name scaled down to length `max_norm` where they are longer; the length is the
    /// `norm_type`-norm, and other rows stay. Without a longer row, the result shares the memory.
    ///
    /// # Numerics
    /// The factor is `max_norm / (length + 1e-7)`, PyTorch's.
    ///
    /// # Errors
    /// An id out of range, or a type that is not float.
    pub fn renorm_rows(&self, ids: &Tensor, norm_type: f64, max_norm: f64) -> Result<Tensor> {
        const OP: &str = "renorm_rows";
        let [rows, width] = self.dims(OP)?;
        let mut ids = indices(OP, ids, rows)?.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut y = self.clone();
        dispatch_float!(self.dtype(), OP, T => {
            let x = self.slice_of::<T>();
            for id in ids {
                let row = id as usize * width..(id as usize + 1) * width;
                let length = length(&x[row.clone()], norm_type);
                if length > max_norm {
                    let factor = T::from_f64(max_norm / (length + 1e-7));
                    y.own_slice::<T>()[row].iter_mut().for_each(|x| *x *= factor);
                }
            }
        });
        Ok(y)
    }
}

/// For each id, the bag that it is in.
fn bag_of(starts: &[usize]) -> Vec<usize> {
    let bags = starts.windows(2).enumerate();
    bags.flat_map(|(bag, ends)| std::iter::repeat_n(bag, ends[1] - ends[0])).collect()
}

fn bag_ids<'a>(op: &'static str, ids: &'a Tensor, starts: &[usize], rows: usize) -> Result<&'a [i64]> {
    let ids = indices(op, ids, rows)?;
    let rises = starts.is_sorted() && starts.first() == Some(&0) && starts.last() == Some(&ids.len());
    if rises {
        return Ok(ids);
    }
    let what = format!("the starts of the bags do not rise from 0 to {}", ids.len());
    Err(Error::value(op, what, "give the first place of each bag, and the number of ids"))
}

fn check_coefficients(op: &'static str, table: &Tensor, coefficients: &Tensor, count: usize) -> Result<()> {
    table.same_dtype(op, coefficients)?;
    if coefficients.shape() == Shape::from([count]) {
        return Ok(());
    }
    let what = format!("the coefficients are {}, and there are {count} ids", coefficients.shape());
    Err(Error::shape(op, what, "give one number for each id"))
}

vectorized! {
    fn add_scaled<T: Float>(out: &mut [T], x: &[T], by: T) {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out += x * by);
    }
}

/// The `p`-norm.
fn length<T: Float>(x: &[T], p: f64) -> f64 {
    let sizes = x.iter().map(|x| x.as_f64().abs());
    match p {
        f64::INFINITY => sizes.fold(0.0, f64::max),
        1.0 => sizes.sum(),
        2.0 => sizes.map(|x| x * x).sum::<f64>().sqrt(),
        p => sizes.map(|x| x.powf(p)).sum::<f64>().powf(1.0 / p),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_near, assert_same_on_any_threads, dot, draw, slope};

    const STARTS: [usize; 4] = [0, 2, 2, 5];

    fn ids() -> Tensor {
        Tensor::from([3i64, 0, 1, 3, 3])
    }

    #[test]
    fn bags_are_sums_of_rows() {
        let (table, by) = (draw(&[4, 3], 1), draw(&[5], 2));
        let (x, c) = (table.to_vec::<f64>().unwrap(), by.to_vec::<f64>().unwrap());
        let column = |bag: usize, j: usize| match bag {
            0 => c[0] * x[9 + j] + c[1] * x[j],
            1 => 0.0,
            _ => c[2] * x[3 + j] + c[3] * x[9 + j] + c[4] * x[9 + j],
        };
        let want: Vec<f64> = (0..9).map(|i| column(i / 3, i % 3)).collect();
        assert_near(&table.embedding_bag(&ids(), &STARTS, &by).unwrap(), &want);
    }

    #[test]
    fn the_adjoint_agrees_with_differences() {
        let (table, by, dy) = (draw(&[4, 3], 1), draw(&[5], 2), draw(&[3, 3], 3));
        let grads = dy.embedding_bag_grad(&table, &ids(), &STARTS, &by, [true; 2]).unwrap();
        let inputs = [table.clone(), by.clone(), by];
        for i in 0..2 {
            let direction = draw(&inputs[i].shape(), 8);
            let value = |p: &[Tensor; 3]| dot(&p[0].embedding_bag(&ids(), &STARTS, &p[1]).unwrap(), &dy);
            let difference = slope(value, &inputs, i, &direction);
            let found = dot(grads[i].as_ref().unwrap(), &direction);
            assert!((found - difference).abs() < 1e-6 * difference.abs().max(1.0), "{i}: {found} {difference}");
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        let (count, bag) = if cfg!(miri) { (60usize, 6) } else { (30_000, 30) };
        let ids = Tensor::from_vec((0..count as i64).map(|i| i * i % 97).collect(), [count]).unwrap();
        let starts: Vec<usize> = (0..=count).step_by(bag).collect();
        let single = |shape: &[usize], seed| draw(shape, seed).to_dtype(crate::DType::F32);
        let (table, by) = (single(&[97, 16], 1), single(&[count], 2));
        let dy = single(&[starts.len() - 1, 16], 3);
        assert_same_on_any_threads(|| {
            let y = table.embedding_bag(&ids, &starts, &by).unwrap();
            let grads = dy.embedding_bag_grad(&table, &ids, &starts, &by, [true; 2]).unwrap();
            (y, grads, table.embedding_bag_argmax(&ids, &starts).unwrap())
        });
    }

    #[test]
    fn the_largest_of_a_bag_is_its_first() {
        let table = Tensor::from([[1.0f32, 5.0], [2.0, 2.0], [2.0, 9.0]]);
        let found = table.embedding_bag_argmax(&Tensor::from([0i64, 1, 2, 2]), &[0, 3, 3, 4]).unwrap();
        assert_eq!(found, Tensor::from([[1i64, 2], [-1, -1], [2, 2]]));
    }

    #[test]
    fn long_rows_are_shortened_and_others_stay() {
        let table = Tensor::from([[3.0f64, 4.0], [30.0, 40.0], [0.3, 0.4], [6.0, -8.0]]);
        let ids = Tensor::from([[3i64, 2], [0, 3]]);
        let y = table.renorm_rows(&ids, 2.0, 5.0).unwrap();
        let half = 5.0 / (10.0 + 1e-7);
        assert_near(&y, &[3.0, 4.0, 30.0, 40.0, 0.3, 0.4, 6.0 * half, -8.0 * half]);
        assert_near(
            &table.renorm_rows(&ids, 1.0, 7.0).unwrap().slice(0, 3, 4).unwrap(),
            &[6.0 * 7.0 / (14.0 + 1e-7), -8.0 * 7.0 / (14.0 + 1e-7)],
        );
        let cubes = (216.0f64 + 512.0).cbrt();
        let y = table.renorm_rows(&ids, 3.0, 6.0).unwrap().slice(0, 3, 4).unwrap();
        assert_near(&y, &[6.0 * 6.0 / (cubes + 1e-7), -8.0 * 6.0 / (cubes + 1e-7)]);
        let y = table.renorm_rows(&ids, f64::INFINITY, 8.0).unwrap();
        assert_eq!(y, table);
        assert_eq!(y.as_slice::<f64>().unwrap().as_ptr(), table.as_slice::<f64>().unwrap().as_ptr());
    }

    #[test]
    fn misfits_are_explained() {
        let (table, by) = (draw(&[4, 3], 1), draw(&[5], 2));
        let text = |starts: &[usize], by: &Tensor| table.embedding_bag(&ids(), starts, by).unwrap_err().to_string();
        let want = "embedding_bag: the starts of the bags do not rise from 0 to 5; \
                    help: give the first place of each bag, and the number of ids";
        for starts in [&[0, 3, 2, 5][..], &[1, 5], &[0, 4], &[]] {
            assert_eq!(text(starts, &by), want);
        }
        let want = "embedding_bag: the coefficients are [3], and there are 5 ids; help: give one number for each id";
        assert_eq!(text(&STARTS, &draw(&[3], 1)), want);
    }
}
