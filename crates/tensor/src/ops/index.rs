//! Reading and writing at places that another tensor names, each op above its adjoint.

use super::elementwise::COPY;
use super::number::Number;
use crate::dtype::dispatch;
use crate::{DType, Error, Result, Shape, Tensor, par};

/// Indices are `i64`, from 0 up: a negative one is an error, since in labels and token ids it is almost always one.
impl Tensor {
    /// The rows (places along axis 0) that `ids` names: `[rows, ..]` and `ids: [a, b]` give `[a, b, ..]`. This is the
    /// lookup of an embedding.
    ///
    /// ```
    /// # use maplet_tensor::Tensor;
    /// let table = Tensor::from([[0.0f32, 0.5], [1.0, 1.5], [2.0, 2.5]]);
    /// assert_eq!(table.select_rows(&Tensor::from([2i64, 0]))?, Tensor::from([[2.0f32, 2.5], [0.0, 0.5]]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// `self` is a scalar, `ids` is not `i64`, or an id is out of range.
    pub fn select_rows(&self, ids: &Self) -> Result<Self> {
        const OP: &str = "select_rows";
        let shape = self.shape();
        let Some((&rows, row_sizes)) = shape.split_first() else {
            return Err(Error::shape(OP, "a scalar has no rows", "unsqueeze it first"));
        };
        let result = Shape::new(&[&ids.shape()[..], row_sizes].concat())?;
        let ids = indices(OP, ids, rows)?;
        let row = row_sizes.iter().product::<usize>();
        Ok(dispatch!(self.dtype(), T => {
            let x = self.slice_of::<T>();
            Tensor::build(result, |out| par::rows(out, row, row as f64 * COPY, |first, out| {
                for (out, &id) in out.chunks_mut(row).zip(&ids[first..]) {
                    out.copy_from_slice(&x[id as usize * row..][..row]);
                }
            }))
        }))
    }

    /// Adjoint of [`select_rows`](Self::select_rows): adds the rows of `self`, one for each id, into `rows` rows of
    /// zeros. `self: [a, b, ..]` and `ids: [a, b]` give `[rows, ..]`. Rows that meet are added in the order of the ids.
    ///
    /// # Errors
    /// The shape of `self` does not begin with that of `ids`, `ids` is not `i64`, or an id is out of range.
    pub fn scatter_add_rows(&self, ids: &Self, rows: usize) -> Result<Self> {
        const OP: &str = "scatter_add_rows";
        let shape = self.shape();
        let Some(row_sizes) = shape.strip_prefix(&ids.shape()[..]) else {
            let what = format!("{shape} does not begin with the shape of the ids, {}", ids.shape());
            return Err(Error::shape(OP, what, "give one row for each id"));
        };
        let result = Shape::new(&[&[rows], row_sizes].concat())?;
        let ids = indices(OP, ids, rows)?;
        let row = row_sizes.iter().product::<usize>();
        // Sorted by id (and stably), the rows for one place follow each other: each place can be summed on its own.
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&i| ids[i]);
        let cost = row as f64 * COPY * (1.0 + ids.len() as f64 / rows.max(1) as f64);
        Ok(dispatch!(self.dtype(), T => {
            let x = self.slice_of::<T>();
            Tensor::build(result, |out| par::rows(out, row, cost, |first, out| {
                out.fill(T::default());
                let start = order.partition_point(|&i| (ids[i] as usize) < first);
                let places = first + out.len() / row;
                for &i in order[start..].iter().take_while(|&&i| (ids[i] as usize) < places) {
                    let out = &mut out[(ids[i] as usize - first) * row..][..row];
                    out.iter_mut().zip(&x[i * row..][..row]).for_each(|(out, &x)| *out = out.plus(x));
                }
            }))
        }))
    }

    /// Along `axis`, the elements that `index` names: `y[i, j, k] = x[i, index[i, j, k], k]` for axis 1. The result has
    /// the shape of `index`, whose sizes on the other axes are those of `self`.
    ///
    /// ```
    /// # use maplet_tensor::Tensor;
    /// let logits = Tensor::from([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    /// let labels = Tensor::from([[2i64], [0]]);
    /// assert_eq!(logits.gather(1, &labels)?, Tensor::from([[3.0f32], [4.0]]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, shapes that differ on another axis, an `index` that is not `i64` or is out of range.
    pub fn gather(&self, axis: isize, index: &Self) -> Result<Self> {
        const OP: &str = "gather";
        let shape = self.shape();
        let at = shape.axis(OP, axis)?;
        check_beside(OP, &shape, &index.shape(), at)?;
        let ((_, size, inner), (_, count, _)) = (shape.around(at), index.shape().around(at));
        let places = indices(OP, index, size)?;
        let row = count * inner;
        Ok(dispatch!(self.dtype(), T => {
            let x = self.slice_of::<T>();
            Tensor::build(index.shape(), |out| par::elements(out, 1.0, |start, out| {
                for (i, out) in out.iter_mut().enumerate() {
                    let i = start + i;
                    *out = x[(i / row * size + places[i] as usize) * inner + i % inner];
                }
            }))
        }))
    }

    /// Adjoint of [`gather`](Self::gather): adds each element of `self` into zeros, at the place along `axis` that
    /// `index` names. The result has `size` places along `axis`. Elements that meet are added in row-major order.
    ///
    /// # Errors
    /// No such axis, another shape of `self` than of `index`, an `index` that is not `i64` or is out of range.
    pub fn scatter_add(&self, axis: isize, index: &Self, size: usize) -> Result<Self> {
        const OP: &str = "scatter_add";
        let shape = self.shape();
        let at = shape.axis(OP, axis)?;
        if shape != index.shape() {
            let what = format!("{shape} and the index {} differ", index.shape());
            return Err(Error::shape(OP, what, "give one place for each element"));
        }
        let mut result = shape.to_vec();
        result[at] = size;
        let result = Shape::new(&result)?;
        let (_, count, inner) = shape.around(at);
        let places = indices(OP, index, size)?;
        let (row, out_row) = (count * inner, size * inner);
        Ok(dispatch!(self.dtype(), T => {
            let x = self.slice_of::<T>();
            Tensor::build(result, |out| par::rows(out, out_row, row as f64, |first, out| {
                out.fill(T::default());
                for (o, out) in out.chunks_mut(out_row).enumerate() {
                    let from = (first + o) * row;
                    for (i, (&x, &place)) in x[from..][..row].iter().zip(&places[from..]).enumerate() {
                        let out = &mut out[place as usize * inner + i % inner];
                        *out = out.plus(x);
                    }
                }
            }))
        }))
    }

    /// `self` holds labels; each becomes a row of `classes` zeros with a 1 at the label's place: `f32` of shape
    /// `[.., classes]`.
    ///
    /// ```
    /// # use maplet_tensor::Tensor;
    /// let labels = Tensor::from([1i64, 0]);
    /// assert_eq!(labels.one_hot(3)?, Tensor::from([[0.0f32, 1.0, 0.0], [1.0, 0.0, 0.0]]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// `self` is not `i64`, or a label is out of range.
    pub fn one_hot(&self, classes: usize) -> Result<Self> {
        let labels = indices("one_hot", self, classes)?;
        let shape = Shape::new(&[&self.shape()[..], &[classes]].concat())?;
        Ok(Tensor::build(shape, |out: &mut [f32]| {
            out.fill(0.0);
            labels.iter().enumerate().for_each(|(row, &label)| out[row * classes + label as usize] = 1.0);
        }))
    }
}

/// The elements of an index tensor, each known to lie in `0..size`.
pub(super) fn indices<'a>(op: &'static str, index: &'a Tensor, size: usize) -> Result<&'a [i64]> {
    if index.dtype() != DType::I64 {
        let what = format!("the indices are {}", index.dtype());
        return Err(Error::dtype(op, what, "convert them with to_dtype(DType::I64)"));
    }
    let places = index.slice_of::<i64>();
    let outside = |&(_, &place): &(usize, &i64)| place < 0 || place as u64 >= size as u64;
    match places.iter().enumerate().find(outside) {
        None => Ok(places),
        Some((at, place)) => {
            let help = if size == 0 { "there is no place".into() } else { format!("use 0 to {}", size - 1) };
            let what = format!("index {place} (element {at} of {}) is outside a size of {size}", index.shape());
            Err(Error::index(op, what, help))
        }
    }
}

/// An error unless the shapes agree on every axis but `axis`.
fn check_beside(op: &'static str, x: &Shape, index: &Shape, axis: usize) -> Result<()> {
    if x.rank() == index.rank() && x.with_size(axis, 0) == index.with_size(axis, 0) {
        return Ok(());
    }
    let what = format!("{x} and the index {index} differ beyond axis {axis}");
    Err(Error::shape(op, what, "all other sizes must be equal"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn dot(a: &Tensor, b: &Tensor) -> f64 {
        a.mul(b).unwrap().sum(.., false).unwrap().item().unwrap()
    }

    fn places(shape: impl Into<Shape>, below: usize, rng: &mut Rng) -> Tensor {
        let shape = shape.into();
        Tensor::from_vec((0..shape.elements()).map(|_| rng.below(below) as i64).collect(), shape).unwrap()
    }

    fn whole_numbers(shape: impl Into<Shape>, rng: &mut Rng) -> Tensor {
        places(shape, 100, rng).to_dtype(DType::F64)
    }

    #[test]
    fn rows_are_selected_for_ids_of_any_shape() {
        let table = Tensor::from([[0i64, 1], [10, 11], [20, 21]]);
        let ids = Tensor::from([[2i64, 0], [1, 1]]);
        assert_eq!(table.select_rows(&ids).unwrap(), Tensor::from([[[20i64, 21], [0, 1]], [[10, 11], [10, 11]]]));
        assert_eq!(table.select_rows(&Tensor::scalar(1i64)).unwrap(), Tensor::from([10i64, 11]));
        let vector = Tensor::from([5u8, 6, 7]);
        assert_eq!(vector.select_rows(&Tensor::from([2i64, 0])).unwrap(), Tensor::from([7u8, 5]));
    }

    #[test]
    fn scattered_rows_are_added() {
        let dy = Tensor::from([[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]]);
        let expected = Tensor::from([[0.0f32, 0.0], [6.0, 8.0], [3.0, 4.0]]);
        assert_eq!(dy.scatter_add_rows(&Tensor::from([1i64, 2, 1]), 3).unwrap(), expected);
        assert_eq!(
            dy.slice(0, 0, 0).unwrap().scatter_add_rows(&Tensor::from([0i64; 0]), 2).unwrap(),
            Tensor::zeros([2, 2], DType::F32)
        );
    }

    #[test]
    fn gather_is_pytorchs() {
        // The example of torch.gather's documentation.
        let x = Tensor::from([[1i64, 2], [3, 4]]);
        assert_eq!(x.gather(1, &Tensor::from([[0i64, 0], [1, 0]])).unwrap(), Tensor::from([[1i64, 1], [4, 3]]));
        assert_eq!(x.gather(0, &Tensor::from([[1i64, 0]])).unwrap(), Tensor::from([[3i64, 2]]));
    }

    #[test]
    fn adjoints_keep_the_inner_product() {
        // ⟨gather(x), dy⟩ = ⟨x, scatter_add(dy)⟩, exactly, for whole numbers.
        let mut rng = Rng::new(5);
        let rows = if cfg!(miri) { 3 } else { 300 };
        for (axis, sizes) in [(0, [4, 5, 3]), (1, [rows, 5, 3]), (-1, [2, 5, 70])] {
            let x = whole_numbers(sizes, &mut rng);
            let size = x.size(axis).unwrap();
            let mut index_sizes = Shape::from(sizes);
            index_sizes = index_sizes.with_size(index_sizes.axis("test", axis).unwrap(), 9);
            let index = places(index_sizes, size, &mut rng);
            let dy = whole_numbers(index_sizes, &mut rng);
            let (y, dx) = (x.gather(axis, &index).unwrap(), dy.scatter_add(axis, &index, size).unwrap());
            assert_eq!(dx.shape(), x.shape());
            assert_eq!(dot(&y, &dy), dot(&x, &dx));
        }
        let (table, ids) = (whole_numbers([rows, 7], &mut rng), places([11, 13], rows, &mut rng));
        let dy = whole_numbers([11, 13, 7], &mut rng);
        let (y, dx) = (table.select_rows(&ids).unwrap(), dy.scatter_add_rows(&ids, rows).unwrap());
        assert_eq!(dot(&y, &dy), dot(&table, &dx));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let x = Tensor::from([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        let ids = Tensor::from([0i64, 2]);
        let range = "index 2 (element 1 of [2]) is outside a size of 2; help: use 0 to 1";
        let negative = "index -1 (element 0 of [1]) is outside a size of 3; help: use 0 to 2";
        let floats = "the indices are f32; help: convert them with to_dtype(DType::I64)";
        let minus = Tensor::from([-1i64]);
        for (result, text) in [
            (x.select_rows(&ids), format!("select_rows: {range}")),
            (x.select_rows(&x), format!("select_rows: {floats}")),
            (
                Tensor::scalar(1u8).select_rows(&ids),
                "select_rows: a scalar has no rows; help: unsqueeze it first".into(),
            ),
            (x.scatter_add_rows(&ids, 2), format!("scatter_add_rows: {range}")),
            (
                x.scatter_add_rows(&minus, 3),
                "scatter_add_rows: [2, 3] does not begin with the shape of the ids, [1]; \
                 help: give one row for each id"
                    .into(),
            ),
            (x.gather(1, &x), format!("gather: {floats}")),
            (
                x.gather(1, &Tensor::from([[0i64]])),
                "gather: [2, 3] and the index [1, 1] differ beyond axis 1; help: all other sizes must be equal".into(),
            ),
            (x.gather(2, &ids), "gather: [2, 3] has no axis 2; help: axes run from 0 to 1, or from -1 to -2".into()),
            (Tensor::from([1u8, 2, 3]).gather(0, &minus), format!("gather: {negative}")),
            (
                x.scatter_add(0, &ids, 2),
                "scatter_add: [2, 3] and the index [2] differ; help: give one place for each element".into(),
            ),
            (Tensor::from([1u8, 2]).scatter_add(0, &ids, 2), format!("scatter_add: {range}")),
            (minus.one_hot(3), format!("one_hot: {negative}")),
            (
                minus.one_hot(0),
                "one_hot: index -1 (element 0 of [1]) is outside a size of 0; help: there is no place".into(),
            ),
        ] {
            assert_eq!(result.unwrap_err().to_string(), text);
        }
    }
}
