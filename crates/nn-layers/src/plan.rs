//! What a step will be, worked out from shapes alone, before any memory is taken for it.

use crate::module::Layer;
use crate::reshape::with_batch;
use crate::{Error, Result};
use maplet_tensor::{Rng, Shape, Window};

/// The most weights that one model can have (16 GiB of them).
pub const MAX_PARAMETERS: u64 = 1 << 32;
/// The most numbers that one sample can be anywhere in a [`Sequential`](crate::Sequential) (4 GiB of them).
pub const MAX_ACTIVATION: u64 = 1 << 30;

/// Makes the layer.
pub(crate) type Make = Box<dyn FnOnce(&mut Rng) -> Result<Box<dyn Layer>>>;

/// A step with its input's shape: its name, and what it will be if it can be.
pub(crate) struct Plan {
    /// `Linear 1600 → 10`
    pub(crate) label: String,
    pub(crate) body: Result<Body>,
}

/// A step that can be built. Shapes are those of one sample, without the batch axis.
pub(crate) struct Body {
    pub(crate) output: Shape,
    pub(crate) parameters: u64,
    /// Of one sample; not known for modules of the user's own.
    pub(crate) flops: Option<u64>,
    /// Whether the output is the input's memory under another shape.
    pub(crate) is_view: bool,
    pub(crate) make: Make,
}

impl Plan {
    pub(crate) fn new(label: String, body: impl FnOnce() -> Result<Body>) -> Self {
        Self { label, body: body() }
    }
}

/// A [`Body`] that does not know yet how to make its layer.
pub(crate) struct Draft {
    output: Shape,
    flops: u64,
    is_view: bool,
}

impl Draft {
    /// A step with this output for each sample, and so many operations.
    pub(crate) fn new(output: Shape, flops: u64) -> Self {
        Self { output, flops, is_view: false }
    }

    /// The output shares the input's memory.
    pub(crate) fn view(self) -> Self {
        Self { is_view: true, ..self }
    }

    /// With trained parameters.
    pub(crate) fn trained<M: Layer + 'static>(
        self,
        parameters: u64,
        make: impl FnOnce(&mut Rng) -> Result<M> + 'static,
    ) -> Body {
        let Self { output, flops, is_view } = self;
        let make: Make = Box::new(|rng| Ok(Box::new(make(rng)?)));
        Body { output, parameters, flops: Some(flops), is_view, make }
    }

    /// Without parameters.
    pub(crate) fn fixed(self, layer: impl Layer + 'static) -> Body {
        self.trained(0, move |_| Ok(layer))
    }
}

/// The shape of a weight, if each of its named sizes is there and they are not too many together.
pub(crate) fn weight_shape(op: &'static str, sizes: &[(&str, usize)]) -> Result<Shape> {
    if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
        return Err(Error::new(op, format!("{name} is 0"), "use 1 or more"));
    }
    let product = sizes.iter().try_fold(1u64, |product, (_, size)| product.checked_mul(*size as u64));
    if product.is_none_or(|product| product >= MAX_PARAMETERS) {
        let named: Vec<String> = sizes.iter().map(|(name, size)| format!("{name} {size}")).collect();
        let what = format!("{} is more weights than a model can have", named.join(" × "));
        return Err(Error::new(op, what, format!("stay below {MAX_PARAMETERS}")));
    }
    Ok(Shape::new(&sizes.iter().map(|(_, size)| *size).collect::<Vec<_>>())?)
}

/// The axes of one sample with channels and `d` spatial axes.
pub(crate) fn sample_axes(d: usize) -> &'static str {
    match d {
        1 => "c, l",
        2 => "c, h, w",
        _ => "c, d, h, w",
    }
}

/// The channels and the `D` spatial sizes of one sample.
pub(crate) fn expect_spatial<const D: usize>(op: &'static str, sample: &Shape) -> Result<(usize, [usize; D])> {
    let sizes = sample.split_first().and_then(|(&channels, sizes)| Some((channels, sizes.try_into().ok()?)));
    sizes.ok_or_else(|| {
        let axes = sample_axes(D);
        let what = format!("expects [n, {axes}], got {}", batched(sample));
        Error::new(op, what, format!("put reshape([{axes}]) before it"))
    })
}

/// `[n, 1, 28, 28]`, for samples of `[1, 28, 28]`.
pub(crate) fn batched(sample: &Shape) -> String {
    let sizes = sample.iter().map(|size| format!(", {size}"));
    format!("[n{}]", sizes.collect::<String>())
}

/// `3×3, stride 2, padding 1`: the kernel, and whatever is not as usual.
pub(crate) fn window_label<const D: usize>(window: &Window<D>, usual_stride: [usize; D]) -> String {
    let mut label = sizes_label(&window.kernel);
    for (name, value, usual) in [
        ("stride", window.stride, usual_stride),
        ("padding", window.padding, [0; D]),
        ("dilation", window.dilation, [1; D]),
    ] {
        if value != usual {
            let all_equal = value.iter().all(|&size| size == value[0]);
            label += &format!(", {name} {}", sizes_label(if all_equal { &value[..1] } else { &value }));
        }
    }
    if window.groups != 1 {
        label += &format!(", groups {}", window.groups);
    }
    label
}

/// `3×3`
pub(crate) fn sizes_label(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// An error if a sample is larger than memory should be asked for, or has so many axes that none is left for the batch.
pub(crate) fn check_activation(op: &'static str, sample: &Shape) -> Result<()> {
    with_batch(1, sample)?;
    if sample.elements() as u64 > MAX_ACTIVATION {
        let what = format!("one sample of {sample} has {} numbers", sample.elements());
        return Err(Error::new(op, what, format!("stay at or below {MAX_ACTIVATION}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use maplet_tensor::{Window1d, Window2d, Window3d};

    #[test]
    fn labels_say_what_is_unusual() {
        assert_eq!(window_label(&Window2d::new(3), [1, 1]), "3×3");
        assert_eq!(window_label(&Window2d::pool([2, 3]), [2, 3]), "2×3");
        let window = Window2d::new(5).stride([2, 1]).padding(2).dilation(3).groups(4);
        assert_eq!(window_label(&window, [1, 1]), "5×5, stride 2×1, padding 2, dilation 3, groups 4");
        assert_eq!(window_label(&Window1d::new(3).stride(2), [1]), "3, stride 2");
        assert_eq!(window_label(&Window3d::new([3, 3, 1]).padding([1, 1, 0]), [1; 3]), "3×3×1, padding 1×1×0");
    }

    #[test]
    fn samples_of_another_rank_are_refused() {
        assert_eq!(expect_spatial("conv2d", &Shape::from([3, 5, 4])).unwrap(), (3, [5, 4]));
        let text = |sample: Shape| expect_spatial::<3>("conv3d", &sample).unwrap_err().to_string();
        let expected = "conv3d: expects [n, c, d, h, w], got [n, 3, 5]; help: put reshape([c, d, h, w]) before it";
        assert_eq!(text(Shape::from([3, 5])), expected);
        let expected = "conv1d: expects [n, c, l], got [n]; help: put reshape([c, l]) before it";
        assert_eq!(expect_spatial::<1>("conv1d", &Shape::from([])).unwrap_err().to_string(), expected);
    }
}
