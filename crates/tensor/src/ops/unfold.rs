//! The patches of an image as columns, and the sum of columns back into an image: adjoints of each other.

use crate::dtype::dispatch_float;
use crate::ops::geometry::{Conv, area, spatial_dims};
use crate::{Error, Result, Shape, Sizes, Tensor, Window, par};
use num_traits::Zero;

/// Nanoseconds that one element takes.
const COST: f64 = 0.6;

impl Tensor {
    /// The patches under a window, each as a column (`im2col`).
    ///
    /// `y[n, (c, p, ..), (i, ..)] = x[n, c, i·stride + p·dilation − padding, ..]`
    ///
    /// # Shapes
    /// - `self: [n, c, ..size]`, output: `[n, c · kernel places, positions]`, with the positions of [`Window::output`]
    ///
    /// # Errors
    /// Another rank or type, groups, or a window that does not fit.
    ///
    /// # Example
    /// ```
    /// use maplet_tensor::{Tensor, Window1d};
    ///
    /// let y = Tensor::from([[[1.0f32, 2.0, 3.0]]]).unfold(Window1d::new(2))?;
    /// assert_eq!(y, Tensor::from([[[1.0f32, 2.0], [2.0, 3.0]]]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    #[doc(alias = "im2col")]
    pub fn unfold<const D: usize>(&self, window: Window<D>) -> Result<Tensor> {
        let conv = patches("unfold", self.shape(), window)?;
        conv.unfolded(self)
    }

    /// Adjoint of [`unfold`](Self::unfold): adds the columns up in an image of the given size (`col2im`).
    ///
    /// # Shapes
    /// - `self: [n, c · kernel places, positions]`, output: `[n, c, ..size]`
    ///
    /// # Errors
    /// Rows that are no multiple of the kernel, another number of positions than `size` has under the window.
    #[doc(alias = "col2im")]
    pub fn fold<const D: usize>(&self, size: impl Into<Sizes<D>>, window: Window<D>) -> Result<Tensor> {
        const OP: &str = "fold";
        window.check(OP)?;
        let Sizes(size) = size.into();
        let &[n, rows, columns] = self.shape().sizes() else {
            let what = format!("input {} has {} axes", self.shape(), self.rank());
            return Err(Error::shape(OP, what, "it must be [n, channels · kernel places, positions]"));
        };
        let kernel: usize = window.kernel.iter().product();
        if rows % kernel != 0 {
            let what =
                format!("input {} has {rows} rows, not a multiple of the kernel's {kernel} places", self.shape());
            return Err(Error::shape(OP, what, "they must be channels · kernel places"));
        }
        let shape = Shape::new(&[&[n, rows / kernel], &size[..]].concat())?;
        let conv = patches(OP, shape, window)?;
        if columns != area(conv.output) {
            let what = format!("input {} has {columns} positions, {size:?} has {}", self.shape(), area(conv.output));
            return Err(Error::shape(OP, what, "pass the size of the image that was unfolded"));
        }
        conv.folded(OP, self, kernel, shape)
    }
}

impl Conv {
    /// Compiled here once, not by each crate that names a `D`; so is its neighbor.
    fn unfolded(&self, x: &Tensor) -> Result<Tensor> {
        dispatch_float!(x.dtype(), "unfold", T => {
            let (volume, x) = self.padded::<T>(x);
            let (positions, taps) = (self.positions(volume), self.taps(volume));
            let [rows, columns] = [taps.len(), positions.len()];
            let x = x.slice_of::<T>();
            Ok(Tensor::build(Shape::new(&[self.n, rows, columns])?, |out: &mut [T]| {
                par::rows(out, columns, columns as f64 * COST, |first, lines| {
                    for (i, line) in lines.chunks_mut(columns).enumerate() {
                        let (n, tap) = ((first + i) / rows, (first + i) % rows);
                        let x = &x[n * self.c * area(volume) + taps[tap]..];
                        line.iter_mut().zip(&positions).for_each(|(out, &position)| *out = x[position]);
                    }
                });
            }))
        })
    }

    fn folded(&self, op: &'static str, x: &Tensor, kernel: usize, shape: Shape) -> Result<Tensor> {
        let volume = self.padded_volume();
        let padded = Shape::new(&[&[self.n, self.c], &volume[..]].concat())?;
        let (positions, taps) = (self.positions(volume), self.taps(volume));
        let padded = dispatch_float!(x.dtype(), op, T => Tensor::build(padded, |out: &mut [T]| {
            let columns = x.slice_of::<T>();
            par::rows(out, area(volume).max(1), (kernel * positions.len()) as f64 * COST, |first, planes| {
                planes.fill(T::zero());
                for (i, plane) in planes.chunks_mut(area(volume)).enumerate() {
                    let lines = columns[(first + i) * kernel * positions.len()..].chunks(positions.len());
                    for (line, tap) in lines.zip(&taps[..kernel]) {
                        line.iter().zip(&positions).for_each(|(&x, position)| plane[tap + position] += x);
                    }
                }
            });
        }));
        let cut = |x: Tensor, side: usize| {
            let padding = self.window.padding[side];
            x.slice(side as isize + 2, padding, padding + self.input[side])
        };
        (0..3).try_fold(padded, cut)?.reshape(shape)
    }
}

/// The geometry of patches: that of a convolution with one output.
fn patches<const D: usize>(op: &'static str, shape: Shape, window: Window<D>) -> Result<Conv> {
    let (_, c, _) = spatial_dims::<D>(op, "input", shape, "n, channels", "")?;
    if window.groups != 1 {
        return Err(Error::value(op, format!("groups is {}", window.groups), "patches have no groups: use 1"));
    }
    window.check(op)?;
    Conv::new(op, shape, Shape::new(&[&[1, c], &window.kernel[..]].concat())?, window)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{dot, draw};
    use crate::{DType, Window1d, Window2d, Window3d};

    /// A convolution is the product of its weight and the patches; folding is the adjoint of unfolding.
    fn check<const D: usize>(shape: &[usize], window: Window<D>) {
        let (x, size) = (draw(shape, 1), std::array::from_fn(|side| shape[2 + side]));
        let weight = draw(&[&[4, shape[1]], &window.kernel[..]].concat(), 2);
        let (y, columns) = (x.conv(&weight, window).unwrap(), x.unfold(window).unwrap());
        let product = weight.flatten(1).unwrap().matmul(&columns).unwrap();
        let product = product.reshape(y.shape()).unwrap();
        let pairs = y.as_slice::<f64>().unwrap().iter().zip(product.as_slice::<f64>().unwrap());
        assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-11), "{shape:?} {window:?}"); // tens of products below 50
        let dy = draw(&columns.shape(), 3);
        let dx = dy.fold(size, window).unwrap();
        assert_eq!(dx.shape(), x.shape());
        assert!((dot(&columns, &dy) - dot(&x, &dx)).abs() < 1e-9, "{shape:?} {window:?}"); // thousands of them
    }

    #[test]
    fn patches_make_a_convolution_a_product() {
        check(&[2, 3, 9], Window1d::new(3).stride(2).padding(1).dilation(2));
        check(&[2, 3, 7, 6], Window2d::new([3, 2]).stride([1, 2]).padding([2, 0]).dilation([2, 1]));
        check(&[1, 2, 4, 4], Window2d::new(2));
        check(&[1, 2, 3, 4, 5], Window3d::new([2, 1, 3]).padding([1, 0, 1]));
        check(&[0, 2, 4, 4], Window2d::new(2));
        check(&[1, 1, 1, 1], Window2d::new(3).padding(1).stride(2));
    }

    #[test]
    fn misfits_are_explained() {
        let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape).unwrap(), DType::F32);
        let unfold = |shape: &[usize], window: Window2d| zeros(shape).unfold(window).unwrap_err().to_string();
        let expected = "unfold: input [3, 4, 4] has 3 axes; help: it must be [n, channels, height, width]";
        assert_eq!(unfold(&[3, 4, 4], Window2d::new(2)), expected);
        let expected = "unfold: groups is 2; help: patches have no groups: use 1";
        assert_eq!(unfold(&[1, 2, 4, 4], Window2d::new(2).groups(2)), expected);
        let expected = "unfold: the window spans 5 in height, the padded input has 4; \
                        help: use a smaller kernel or dilation, or more padding";
        assert_eq!(unfold(&[1, 2, 4, 4], Window2d::new(5)), expected);
        let fold = |shape: &[usize]| zeros(shape).fold([4, 4], Window2d::new(2)).unwrap_err().to_string();
        let expected = "fold: input [8, 9] has 2 axes; help: it must be [n, channels · kernel places, positions]";
        assert_eq!(fold(&[8, 9]), expected);
        let expected = "fold: input [1, 7, 9] has 7 rows, not a multiple of the kernel's 4 places; \
                        help: they must be channels · kernel places";
        assert_eq!(fold(&[1, 7, 9]), expected);
        let expected = "fold: input [1, 8, 4] has 4 positions, [4, 4] has 9; \
                        help: pass the size of the image that was unfolded";
        assert_eq!(fold(&[1, 8, 4]), expected);
    }
}
