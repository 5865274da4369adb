//! [`Unfold`] and [`Fold`]: images as columns of patches, and back.

use crate::plan::{Draft, Plan, batched, expect_spatial, sizes_label, window_label};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{Shape, Sizes, Window2d};
use serde::{Deserialize, Serialize};

/// The patches under a window, each as a column. A convolution is a matrix product with them.
///
/// PyTorch: `nn.Unfold`; Keras: `ops.image.extract_patches`.
///
/// # Shapes
/// - input `[n, c, h, w]`, output `[n, c · kernel places, positions]`, with the positions of [`Window2d::output`]
///
/// # Example
/// ```
/// use maplet_autograd::Tensor;
/// use maplet_nn_layers::{Fold, Module, Unfold};
/// use maplet_tensor::Window2d;
///
/// let window = Window2d::new([1, 2]);
/// let x = Tensor::from([[[[1.0f32, 2.0, 3.0]]]]).into();
/// let y = Unfold::new(window)?.forward(&x)?;
/// assert_eq!(y.value(), &Tensor::from([[[1.0f32, 2.0], [2.0, 3.0]]]));
/// let back = Fold::new([1, 3], window)?.forward(&y)?;
/// assert_eq!(back.value(), &Tensor::from([[[[1.0f32, 4.0, 3.0]]]])); // 2 lies in two patches
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfold {
    window: Window2d,
}
fields!(Unfold: ; window);

/// Adds columns up in an image: where patches overlap, they are summed. The adjoint of [`Unfold`], not its inverse.
///
/// PyTorch: `nn.Fold`; Keras: –.
///
/// # Shapes
/// - input `[n, c · kernel places, positions]`, output `[n, c, h, w]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fold {
    output_size: [usize; 2],
    window: Window2d,
}
fields!(Fold: ; output_size, window);

impl Unfold {
    /// Kernel, stride, padding and dilation.
    ///
    /// # Errors
    /// A zero in the window, or groups.
    pub fn new(window: Window2d) -> Result<Self> {
        check("unfold", window)?;
        Ok(Self { window })
    }
}

impl Module for Unfold {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.unfold(self.window)?)
    }
}

impl Spec for Unfold {
    fn plan(&self, input: &Shape) -> Plan {
        Plan::new(format!("Unfold {}", window_label(&self.window, [1; 2])), || {
            let layer = Self::new(self.window)?;
            let (channels, sizes) = expect_spatial::<2>("unfold", input)?;
            let positions = self.window.output("unfold", sizes)?;
            let rows = self.window.kernel.iter().fold(channels, |rows, &size| rows.saturating_mul(size));
            Ok(Draft::new(Shape::new(&[rows, positions.iter().product()])?, 0).fixed(layer))
        })
    }
}

impl Fold {
    /// The image's height and width, and the window that its patches came from.
    ///
    /// # Errors
    /// A zero in the window, groups, or a window that does not fit the image.
    pub fn new(output_size: impl Into<Sizes<2>>, window: Window2d) -> Result<Self> {
        let Sizes(output_size) = output_size.into();
        check("fold", window)?;
        window.output("fold", output_size)?;
        Ok(Self { output_size, window })
    }
}

impl Module for Fold {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.fold(self.output_size, self.window)?)
    }
}

impl Spec for Fold {
    fn plan(&self, input: &Shape) -> Plan {
        let Self { output_size, window } = *self;
        let label = format!("Fold to {}, {}", sizes_label(&output_size), window_label(&window, [1; 2]));
        Plan::new(label, || {
            let layer = Self::new(output_size, window)?;
            let positions: usize = window.output("fold", output_size)?.iter().product();
            let places: usize = window.kernel.iter().product();
            match input.sizes() {
                &[rows, columns] if rows % places == 0 && columns == positions => {
                    let output = Shape::new(&[&[rows / places], &output_size[..]].concat())?;
                    Ok(Draft::new(output, input.elements() as u64).fixed(layer))
                }
                _ => {
                    let what = format!("expects [n, c · {places}, {positions}], got {}", batched(input));
                    Err(Error::new("fold", what, "put what unfold gives before it"))
                }
            }
        })
    }
}

impl Builder {
    /// [`Unfold`]: the patches under a window as columns.
    pub fn unfold(self, window: Window2d) -> Self {
        self.step(Unfold { window })
    }

    /// [`Fold`]: columns added up in an image.
    pub fn fold(self, output_size: impl Into<Sizes<2>>, window: Window2d) -> Self {
        self.step(Fold { output_size: output_size.into().0, window })
    }
}

fn check(op: &'static str, window: Window2d) -> Result<()> {
    window.check(op)?;
    match window.groups {
        1 => Ok(()),
        groups => Err(Error::new(op, format!("groups is {groups}"), "patches have no groups: use 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, check_module};
    use maplet_tensor::{DType, Tensor};

    #[test]
    fn behave_as_modules() {
        let window = Window2d::new([2, 3]).stride([1, 2]).padding(1);
        let expect = Expect { input: &[2, 2, 3, 4], output: &[2, 12, 8], ..Expect::default() };
        check_module(&mut Unfold::new(window).unwrap(), &expect).unwrap();
        let expect = Expect { input: &[2, 12, 8], output: &[2, 2, 3, 4], ..expect };
        check_module(&mut Fold::new([3, 4], window).unwrap(), &expect).unwrap();
    }

    #[test]
    fn are_steps() {
        let window = Window2d::new(2).stride(2);
        let model = Sequential::input([3, 4, 6]).unfold(window).fold([4, 6], window).build(1).unwrap();
        let rows: Vec<_> = model.rows().iter().map(|row| (&*row.label, row.output)).collect();
        let expected =
            [("Unfold 2×2, stride 2", Shape::from([12, 6])), ("Fold to 4×6, 2×2, stride 2", Shape::from([3, 4, 6]))];
        assert_eq!(rows, expected);
        let x = Tensor::arange(0.0f32, 72.0, 1.0).unwrap().reshape([1, 3, 4, 6]).unwrap();
        assert_eq!(model.forward(&x.clone().into()).unwrap().value(), &x); // patches that do not overlap
        let text = Sequential::input([12, 5]).fold([4, 6], window).build(1).err().unwrap().to_string();
        let expected = "layer 0 (Fold to 4×6, 2×2, stride 2): fold: expects [n, c · 4, 6], got [n, 12, 5]; \
                        help: put what unfold gives before it";
        assert_eq!(text, expected);
    }

    #[test]
    fn misfits_are_explained() {
        let text = Unfold::new(Window2d::new(2).groups(2)).err().unwrap().to_string();
        assert_eq!(text, "unfold: groups is 2; help: patches have no groups: use 1");
        let text = Fold::new(2, Window2d::new(3)).err().unwrap().to_string();
        let expected = "fold: the window spans 3 in height, the padded input has 2; \
                        help: use a smaller kernel or dilation, or more padding";
        assert_eq!(text, expected);
        let x = Tensor::zeros([1, 7, 4], DType::F32);
        let text = Fold::new(3, Window2d::new(2)).unwrap().forward(&x.into()).unwrap_err().to_string();
        let expected = "fold: input [1, 7, 4] has 7 rows, not a multiple of the kernel's 4 places; \
                        help: they must be channels · kernel places";
        assert_eq!(text, expected);
    }
}
