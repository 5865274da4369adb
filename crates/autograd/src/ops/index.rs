//! Picking elements by index, and sorting. Gathering and scatter-adding are each other's adjoints.
//!
//! Indices are `Var`s of type `i64`, so that they carry the pass as everything else does.

use crate::{Result, Var, record};
use maplet_tensor::Tensor;

/// # Errors
/// All return the error of the kernel with the same name: an index out of range, shapes that do not fit, indices that
/// are not `i64`.
impl Var {
    /// Row `ids[..]` of axis 0 for each index: the embedding lookup.
    ///
    /// # Shapes
    /// `self: [rows, row..]`, `ids: [ids..]` → `[ids.., row..]`
    pub fn select_rows(&self, ids: &Var) -> Result<Var> {
        let (index, rows) = (ids.clone(), self.shape().first().copied().unwrap_or(0));
        record("select_rows", self.value().select_rows(ids.value())?)
            .pull(self, move |dy| dy.scatter_add_rows(&index, rows))
            .cut(ids)
            .done()
    }

    /// The adjoint of [`select_rows`](Self::select_rows): adds each row to row `ids[..]` of a zero tensor of `rows`
    /// rows.
    ///
    /// # Shapes
    /// `self: [ids.., row..]`, `ids: [ids..]` → `[rows, row..]`
    pub fn scatter_add_rows(&self, ids: &Var, rows: usize) -> Result<Var> {
        let index = ids.clone();
        record("scatter_add_rows", self.value().scatter_add_rows(ids.value(), rows)?)
            .pull(self, move |dy| dy.select_rows(&index))
            .cut(ids)
            .done()
    }

    /// The element at `index[..]` along an axis: on axis 1 of a matrix, `y[i][j] = x[i][index[i][j]]`.
    ///
    /// # Shapes
    /// `index` has the shape of `self`, with any size on `axis`; it is the shape of the output.
    pub fn gather(&self, axis: isize, index: &Var) -> Result<Var> {
        let (y, at, size) = (self.value().gather(axis, index.value())?, index.clone(), self.size(axis)?);
        record("gather", y).pull(self, move |dy| dy.scatter_add(axis, &at, size)).cut(index).done()
    }

    /// The adjoint of [`gather`](Self::gather): on axis 1 of a matrix, `y[i][index[i][j]] += x[i][j]`, where the axis
    /// has `size` elements in the output.
    pub fn scatter_add(&self, axis: isize, index: &Var, size: usize) -> Result<Var> {
        let at = index.clone();
        record("scatter_add", self.value().scatter_add(axis, index.value(), size)?)
            .pull(self, move |dy| dy.gather(axis, &at))
            .cut(index)
            .done()
    }

    /// The elements in order along an axis, and where each came from.
    pub fn sort(&self, axis: isize, descending: bool) -> Result<(Var, Var)> {
        let (values, indices) = self.value().sort(axis, descending)?;
        self.picked("sort", values, indices, axis)
    }

    /// The `k` largest elements along an axis, largest first, and where each came from.
    pub fn top_k(&self, k: usize, axis: isize) -> Result<(Var, Var)> {
        let (values, indices) = self.value().top_k(k, axis)?;
        self.picked("top_k", values, indices, axis)
    }

    fn picked(&self, op: &'static str, values: Tensor, indices: Tensor, axis: isize) -> Result<(Var, Var)> {
        let (indices, size) = (self.constant(indices), self.size(axis)?);
        let at = indices.clone();
        let values = record(op, values).pull(self, move |dy| dy.scatter_add(axis, &at, size)).done()?;
        Ok((values, indices))
    }
}
