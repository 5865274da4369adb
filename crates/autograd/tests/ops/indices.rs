//! Elements picked and placed by index, and sorted; embeddings.

use super::table::{Case, sample};
use maplet_autograd::Tensor;

pub(crate) fn cases() -> Vec<Case> {
    let (x, ids) = (sample(&[3, 4]), Tensor::from([[2i64, 0], [2, 2]]));
    let (columns, rows) = (Tensor::from([[3i64, 0], [1, 1], [2, 3]]), Tensor::from([[2i64, 2, 0, 2], [1, 2, 0, 2]]));
    let (bags, weights) = (Tensor::from([2i64, 0, 1, 2, 2]), sample(&[5]));
    vec![
        Case::new("select_rows", &[&x, &ids], |x| x[0].select_rows(&x[1])),
        Case::new("scatter_add_rows", &[&sample(&[2, 2, 4]), &ids], |x| x[0].scatter_add_rows(&x[1], 3)),
        Case::new("embedding", &[&x, &ids], |x| x[0].embedding(&x[1], None, false)),
        Case::new("embedding", &[&x, &ids], |x| x[0].embedding(&x[1], Some(1), false)), // an id that does not occur
        Case::new("embedding_bag", &[&x, &bags, &weights], |x| x[0].embedding_bag(&x[1], &[0, 2, 2, 5], &x[2])),
        Case::new("embedding_bag_max", &[&x, &bags], |x| x[0].embedding_bag_max(&x[1], &[0, 2, 2, 5])),
        Case::new("embedding_bag_max", &[&x, &bags], |x| x[0].embedding_bag_max(&x[1], &[0, 4, 5])),
        Case::new("gather", &[&x, &columns], |x| x[0].gather(-1, &x[1])),
        Case::new("gather", &[&x, &rows], |x| x[0].gather(0, &x[1])),
        Case::new("scatter_add", &[&sample(&[2, 2]), &ids], |x| x[0].scatter_add(1, &x[1], 5)),
        Case::many("sort", &[&x], |x| x[0].sort(1, true).map(|(values, indices)| vec![values, indices])),
        Case::many("sort", &[&x], |x| x[0].sort(0, false).map(|(values, indices)| vec![values, indices])),
        Case::many("top_k", &[&x], |x| x[0].top_k(2, 1).map(|(values, indices)| vec![values, indices])),
    ]
}
