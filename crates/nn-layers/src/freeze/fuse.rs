//! Neighbors that become one op: a batch norm into the layer before it, an activation or a plain max-pool behind it.

use super::graph::{Graph, Node, Op, Weighted};
use crate::Result;
use crate::fusion::filters_minimally;
use maplet_tensor::frozen::Pointwise;
use maplet_tensor::{DType, Pool, Shape, Tensor, Window3d};

/// The most positions in the window of a pool that a convolution takes in.
const POOL: usize = 32;

impl Graph {
    /// Joins each op with the one before it, where there is a kernel for both and nobody else wants what is between.
    pub(super) fn fuse(&mut self) -> Result<()> {
        let mut uses = vec![0; self.nodes.len()];
        self.nodes.iter().flat_map(|node| &node.inputs).for_each(|&input| uses[input] += 1);
        for i in 1..self.nodes.len() {
            let (before, rest) = self.nodes.split_at_mut(i);
            let &[mut from] = &rest[0].inputs[..] else { continue };
            let mut is_alone = uses[from] == 1;
            while matches!(before[from].op, Op::Merged) {
                from = before[from].inputs[0];
                is_alone &= uses[from] == 1;
            }
            if is_alone && before[from].take_in(&rest[0])? {
                rest[0].op = Op::Merged;
            }
        }
        Ok(())
    }
}

impl Node {
    /// Does what `next` does as well, if it can.
    fn take_in(&mut self, next: &Node) -> Result<bool> {
        match (&mut self.op, &next.op) {
            (Op::Conv(weighted, _, [1, 1, 1]), Op::Scale(scale, shift, None)) if weighted.then.is_none() => {
                weighted.fold(scale, shift)?;
            }
            (Op::Linear(weighted), Op::Scale(scale, shift, None))
                if weighted.then.is_none() && self.shape.rank() == 1 =>
            {
                weighted.fold(scale, shift)?;
            }
            (Op::Conv(weighted, window, pooled @ [1, 1, 1]), Op::MaxPool(pool))
                if is_plain(pool)
                    && weighted.then.is_none_or(Pointwise::is_monotone)
                    && !filters_minimally(window, &weighted.weight.shape()) =>
            {
                *pooled = pool.window.kernel;
            }
            (
                Op::Conv(Weighted { then, .. }, ..)
                | Op::Linear(Weighted { then, .. })
                | Op::Scale(.., then)
                | Op::Add(then),
                Op::Pointwise(function),
            ) if then.is_none() => *then = Some(*function),
            _ => return Ok(false),
        }
        self.shape = next.shape;
        Ok(true)
    }
}

impl Weighted {
    /// `(w · x + b) · scale + shift = (w · scale) · x + (b · scale + shift)`, worked out in double precision.
    fn fold(&mut self, scale: &Tensor, shift: &Tensor) -> Result<()> {
        let mut column = vec![1; self.weight.rank()];
        column[0] = scale.len();
        let weight = self.weight.to_dtype(DType::F64).mul(&scale.reshape(Shape::new(&column)?)?)?;
        let bias = match &self.bias {
            Some(bias) => bias.to_dtype(DType::F64).mul(scale)?.add(shift)?,
            None => shift.clone(),
        };
        (self.weight, self.bias) = (weight.to_dtype(DType::F32), Some(bias.to_dtype(DType::F32)));
        Ok(())
    }
}

/// Whether windows lie side by side, and are small.
fn is_plain(pool: &Pool<3>) -> bool {
    let kernel = pool.window.kernel;
    *pool == Window3d::pool(kernel).into() && kernel.iter().product::<usize>() <= POOL
}
