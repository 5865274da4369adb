//! Looking rows up in a table: embeddings, and sums and maxima over bags of them.

use crate::{Result, Var, record, record_fused};
use maplet_tensor::{Shape, Tensor};

/// # Errors
/// All return the error of the kernel with the same name: an id out of range, shapes that do not fit, ids that are not
/// `i64`.
impl Var {
    /// Row `ids[..]` of this table for each id. The row of `padding_idx` is looked up as any other, and gets no
    /// gradient. With `scale_grad_by_freq` each row's gradient is divided by the number of times that it was looked up.
    ///
    /// # Shapes
    /// `self: [rows, d]`, `ids: [ids..]` → `[ids.., d]`
    pub fn embedding(&self, ids: &Var, padding_idx: Option<usize>, scale_grad_by_freq: bool) -> Result<Var> {
        if padding_idx.is_none() && !scale_grad_by_freq {
            return self.select_rows(ids);
        }
        let (y, rows) = (self.value().select_rows(ids.value())?, self.shape()[0]);
        let numbers = ids.value().as_slice::<i64>()?;
        let mut counts = vec![0.0; rows];
        numbers.iter().for_each(|&id| counts[id as usize] += 1.0);
        let share = |&id: &i64| match id as usize {
            id if Some(id) == padding_idx => 0.0,
            id if scale_grad_by_freq => 1.0 / counts[id],
            _ => 1.0,
        };
        let column = Shape::new(&[ids.shape().sizes(), &vec![1; self.rank() - 1]].concat())?;
        let shares = Tensor::from_vec(numbers.iter().map(share).collect::<Vec<f64>>(), column)?.to_dtype(self.dtype());
        let (shares, index) = (ids.constant(shares), ids.clone());
        record("embedding", y).pull(self, move |dy| dy.mul(&shares)?.scatter_add_rows(&index, rows)).cut(ids).done()
    }

    /// The sum over each bag of `coefficients[i] · self[ids[i]]`; bag `b` has the ids `starts[b]..starts[b + 1]`, and
    /// an empty one is 0. Takes memory for the sums alone.
    ///
    /// # Shapes
    /// `self: [rows, d]`, `ids: [count]`, `coefficients: [count]`, `starts`: of length `bags + 1` → `[bags, d]`
    pub fn embedding_bag(&self, ids: &Var, starts: &[usize], coefficients: &Var) -> Result<Var> {
        let y = self.value().embedding_bag(ids.value(), starts, coefficients.value())?;
        let (table, index, by, ends) =
            (self.value().clone(), ids.value().clone(), coefficients.value().clone(), starts.to_vec());
        let kernel = move |dy: Tensor, [table_wanted, _, by_wanted]: [bool; 3]| {
            let [d_table, d_by] = dy.embedding_bag_grad(&table, &index, &ends, &by, [table_wanted, by_wanted])?;
            Ok([d_table, None, d_by])
        };
        let bags = starts.windows(2).enumerate();
        let bags: Vec<i64> = bags.flat_map(|(bag, ends)| vec![bag as i64; ends[1] - ends[0]]).collect();
        let (bags, count) = (Tensor::from_slice(&bags, [bags.len()])?, starts.len() - 1);
        let twin = move |[table, ids, by]: [Var; 3]| {
            let rows = table.select_rows(&ids)?.mul(&by.unsqueeze(-1)?)?;
            rows.scatter_add_rows(&by.constant(&bags), count)
        };
        record_fused("embedding_bag", y, [self, ids, coefficients], kernel, twin)
    }

    /// The largest element of each column over each bag, the first of equals; an empty bag is 0. Bags are as in
    /// [`embedding_bag`](Self::embedding_bag).
    ///
    /// # Shapes
    /// `self: [rows, d]`, `ids: [count]`, `starts`: of length `bags + 1` → `[bags, d]`
    pub fn embedding_bag_max(&self, ids: &Var, starts: &[usize]) -> Result<Var> {
        let winners = self.value().embedding_bag_argmax(ids.value(), starts)?;
        let none = Tensor::scalar(0i64);
        if starts.windows(2).all(|ends| ends[0] < ends[1]) {
            return self.gather(0, &ids.constant(winners));
        }
        let full = ids.constant(winners.greater_equal(&none)?);
        let rows = self.gather(0, &ids.constant(winners.maximum(&none)?))?;
        full.where_cond(&rows, &rows.constant(Tensor::zeros([], self.dtype())))
    }
}
