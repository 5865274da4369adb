//! Weights that change nothing: identities.

use crate::{Error, Result};
use maplet_tensor::{Shape, Tensor};

/// The identity matrix, or as much of it as there is room for.
///
/// PyTorch: `nn.init.eye_`; Keras: `Identity`.
///
/// # Errors
/// A shape that has not two axes.
pub fn eye(shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    if shape.rank() != 2 {
        let what = format!("a weight of {shape} is no matrix");
        return Err(Error::new("eye", what, "it needs two axes: [rows, columns]"));
    }
    Ok(ones_at(shape, (0..shape[0].min(shape[1])).map(|i| i * shape[1] + i))?)
}

/// The convolution that passes as many channels through as it can, within each group: 1 in the middle of the kernel
/// where the output channel is the input channel, 0 elsewhere.
///
/// PyTorch: `nn.init.dirac_`; Keras: –.
///
/// # Shapes
/// - `[out, in / groups, ..kernel]`, with one to three kernel axes
///
/// # Errors
/// A shape of another rank, or groups that do not divide the first axis.
///
/// ```
/// use maplet_nn_layers::init::dirac;
/// use maplet_tensor::Tensor;
///
/// assert_eq!(dirac([2, 1, 3], 2)?, Tensor::from([[[0.0f32, 1.0, 0.0]], [[0.0, 1.0, 0.0]]]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
pub fn dirac(shape: impl Into<Shape>, groups: usize) -> Result<Tensor> {
    let shape = shape.into();
    let &[out, per_group, ref kernel @ ..] = shape.sizes() else { return Err(no_convolution(shape)) };
    if !(1..=3).contains(&kernel.len()) {
        return Err(no_convolution(shape));
    }
    if groups == 0 || !out.is_multiple_of(groups) {
        let what = format!("{shape} does not divide into {groups} groups");
        return Err(Error::new("dirac", what, "groups divide axis 0"));
    }
    let (area, out_per_group) = (kernel.iter().product::<usize>(), out / groups);
    if area == 0 {
        return Ok(super::zeros(shape));
    }
    let middle = kernel.iter().fold(0, |at, size| at * size + size / 2);
    let channels = (0..groups)
        .flat_map(|group| (0..out_per_group.min(per_group)).map(move |i| (group * out_per_group + i) * per_group + i));
    Ok(ones_at(shape, channels.map(|channel| channel * area + middle))?)
}

fn no_convolution(shape: Shape) -> Error {
    let what = format!("a weight of {shape} is none of a convolution");
    Error::new("dirac", what, "it needs three to five axes: [out, in / groups, ..kernel]")
}

/// Zeros, but for some elements of the row-major order.
fn ones_at(shape: Shape, places: impl Iterator<Item = usize>) -> maplet_tensor::Result<Tensor> {
    let mut elements = vec![0.0f32; shape.elements()];
    places.for_each(|place| elements[place] = 1.0);
    Tensor::from_vec(elements, shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use maplet_tensor::{DType, Window2d};

    #[test]
    fn eye_is_an_identity() {
        assert_eq!(eye([2, 3]).unwrap(), Tensor::from([[1.0f32, 0.0, 0.0], [0.0, 1.0, 0.0]]));
        assert_eq!(eye([2, 1]).unwrap(), Tensor::from([[1.0f32], [0.0]]));
        assert!(eye([0, 3]).unwrap().is_empty());
        let text = eye([3]).unwrap_err().to_string();
        assert_eq!(text, "eye: a weight of [3] is no matrix; help: it needs two axes: [rows, columns]");
    }

    #[test]
    fn dirac_passes_channels_through() {
        let x = Tensor::arange(0.0f32, 64.0, 1.0).unwrap().reshape([1, 4, 4, 4]).unwrap();
        let same = |groups: usize| {
            let weight = dirac([4, 4 / groups, 3, 3], groups).unwrap();
            x.conv(&weight, Window2d::new(3).padding(1).groups(groups)).unwrap()
        };
        assert_eq!(same(1), x);
        assert_eq!(same(2), x);
        assert_eq!(same(4), x);
        // More output channels than input channels: the rest are zeros.
        let wide = dirac([3, 1, 1], 1).unwrap();
        assert_eq!(wide, Tensor::from([[[1.0f32]], [[0.0]], [[0.0]]]));
        assert_eq!(dirac([2, 2, 0], 1).unwrap(), Tensor::zeros([2, 2, 0], DType::F32));
    }

    #[test]
    fn dirac_needs_a_convolution() {
        let text = |shape: &[usize], groups| dirac(Shape::new(shape).unwrap(), groups).unwrap_err().to_string();
        let none = "dirac: a weight of [4, 4] is none of a convolution; \
                    help: it needs three to five axes: [out, in / groups, ..kernel]";
        assert_eq!(text(&[4, 4], 1), none);
        let groups = "dirac: [4, 4, 3] does not divide into 3 groups; help: groups divide axis 0";
        assert_eq!(text(&[4, 4, 3], 3), groups);
    }
}
