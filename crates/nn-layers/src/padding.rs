//! Layers that put something around the spatial axes, or cut it off.

use crate::plan::{Draft, Plan, batched, expect_spatial};
use crate::step::{Spec, Step};
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{PadMode, Shape, Window};
use serde::{Deserialize, Serialize};

/// How many places come in front of and behind each of `D` spatial axes. One number means everywhere, one for each axis
/// both sides of it.
///
/// PyTorch begins with the last axis (`left, right, top, bottom`); here, as in Keras, axes come in their order:
/// `[(top, bottom), (left, right)]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(serialize = "[(usize, usize); D]: Serialize", deserialize = "[(usize, usize); D]: Deserialize<'de>"))]
#[serde(transparent)]
pub struct Around<const D: usize>(pub [(usize, usize); D]);

impl<const D: usize> From<usize> for Around<D> {
    fn from(places: usize) -> Self {
        Self([(places, places); D])
    }
}

impl<const D: usize> From<[usize; D]> for Around<D> {
    fn from(places: [usize; D]) -> Self {
        Self(places.map(|places| (places, places)))
    }
}

impl<const D: usize> From<[(usize, usize); D]> for Around<D> {
    fn from(places: [(usize, usize); D]) -> Self {
        Self(places)
    }
}

impl<const D: usize> Around<D> {
    /// `1`, or `1+2×0+3`
    fn label(&self) -> String {
        let first = self.0[0];
        match self.0.iter().all(|&pair| pair == (first.0, first.0)) {
            true => first.0.to_string(),
            false => self.0.map(|(before, after)| format!("{before}+{after}")).join("×"),
        }
    }

    /// The pairs of all axes, of which `leading` are not spatial.
    fn pairs(&self, leading: usize) -> Vec<(usize, usize)> {
        [&vec![(0, 0); leading][..], &self.0].concat()
    }

    /// An error unless `x` is `[n, c, ..size]`.
    fn expect(op: &'static str, x: &Var) -> Result<()> {
        match x.shape().split_first() {
            Some((_, sample)) => expect_spatial::<D>(op, &Shape::new(sample)?).map(drop),
            None => Err(Error::new(op, "expects [n, ..], got a scalar", "give it a batch axis with unsqueeze(0)")),
        }
    }

    fn plan(
        &self,
        names: [&'static str; 2],
        mode: PadMode,
        input: &Shape,
        layer: impl Module + Clone + 'static,
    ) -> Plan {
        let [name, op] = names;
        Plan::new(format!("{name} {}", self.label()), || {
            expect_spatial::<D>(op, input)?;
            Ok(Draft::new(mode.padded(op, input, &self.pairs(1))?, 0).fixed(layer))
        })
    }
}

/// Makes a layer that pads in one mode. A macro, because four layers differ in nothing but the mode and their names.
macro_rules! pads {
    (
        $(#[$doc:meta])*
        pub struct $Layer:ident;
        $method:ident = $mode:ident, [$($name:literal, $op:literal;)*]
        $($(#[$about:meta])* pub type $Alias:ident = $d:literal;)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(bound(
            serialize = "[(usize, usize); D]: Serialize",
            deserialize = "[(usize, usize); D]: Deserialize<'de>"
        ))]
        #[serde(deny_unknown_fields)]
        pub struct $Layer<const D: usize> {
            around: Around<D>,
        }
        fields!([const D: usize] $Layer<D>: ; around);

        $($(#[$about])* pub type $Alias = $Layer<$d>;)*

        impl<const D: usize> $Layer<D> {
            /// With so many places around.
            pub fn new(around: impl Into<Around<D>>) -> Self {
                Self { around: around.into() }
            }
        }

        impl<const D: usize> Module for $Layer<D> {
            fn forward(&self, x: &Var) -> Result<Var> {
                Around::<D>::expect(Window::<D>::name([$($op),*]), x)?;
                Ok(x.pad_with(&self.around.pairs(2), PadMode::$mode)?)
            }
        }

        impl<const D: usize> Spec for $Layer<D> {
            fn plan(&self, input: &Shape) -> Plan {
                let names = [Window::<D>::name([$($name),*]), Window::<D>::name([$($op),*])];
                self.around.plan(names, PadMode::$mode, input, self.clone())
            }
        }

        impl Builder {
            #[doc = concat!("[`", stringify!($Layer), "`](crate::", stringify!($Layer), ") on one, two or three axes.")]
            pub fn $method<const D: usize>(self, around: impl Into<Around<D>>) -> Self
            where
                $Layer<D>: Into<Step>,
            {
                self.step($Layer::new(around))
            }
        }
    };
}

pads! {
    /// Puts zeros around the spatial axes.
    ///
    /// # Shapes
    /// - input `[n, c, ..size]`, output `[n, c, ..size + before + after]`
    ///
    /// # Example
    /// ```
    /// use maplet_autograd::Tensor;
    /// use maplet_nn_layers::{Module, ReflectionPad1d, ZeroPad1d};
    ///
    /// let x = Tensor::from([[[1.0f32, 2.0, 3.0]]]).into();
    /// let y = ZeroPad1d::new([(1, 2)]).forward(&x)?;
    /// assert_eq!(y.value(), &Tensor::from([[[0.0f32, 1.0, 2.0, 3.0, 0.0, 0.0]]]));
    /// let y = ReflectionPad1d::new(1).forward(&x)?;
    /// assert_eq!(y.value(), &Tensor::from([[[2.0f32, 1.0, 2.0, 3.0, 2.0]]]));
    /// # Ok::<(), maplet_nn_layers::Error>(())
    /// ```
    pub struct ZeroPad;
    zero_pad = Zeros, ["ZeroPad1d", "zero_pad1d"; "ZeroPad2d", "zero_pad2d"; "ZeroPad3d", "zero_pad3d";]
    /// Puts zeros around a sequence.
    ///
    /// PyTorch: `nn.ZeroPad1d`; Keras: `ZeroPadding1D`.
    pub type ZeroPad1d = 1;
    /// Puts zeros around an image.
    ///
    /// PyTorch: `nn.ZeroPad2d`; Keras: `ZeroPadding2D`.
    pub type ZeroPad2d = 2;
    /// Puts zeros around a volume.
    ///
    /// PyTorch: `nn.ZeroPad3d`; Keras: `ZeroPadding3D`.
    pub type ZeroPad3d = 3;
}

pads! {
    /// Continues the spatial axes with their mirror image, in which the edge itself is not repeated: `c b` before
    /// `a b c d`.
    ///
    /// # Shapes
    /// - input `[n, c, ..size]`, output `[n, c, ..size + before + after]`; less than the size on each side
    pub struct ReflectionPad;
    reflection_pad = Reflect, [
        "ReflectionPad1d", "reflection_pad1d";
        "ReflectionPad2d", "reflection_pad2d";
        "ReflectionPad3d", "reflection_pad3d";
    ]
    /// Continues a sequence with its mirror image.
    ///
    /// PyTorch: `nn.ReflectionPad1d`; Keras: –.
    pub type ReflectionPad1d = 1;
    /// Continues an image with its mirror image.
    ///
    /// PyTorch: `nn.ReflectionPad2d`; Keras: –.
    pub type ReflectionPad2d = 2;
    /// Continues a volume with its mirror image.
    ///
    /// PyTorch: `nn.ReflectionPad3d`; Keras: –.
    pub type ReflectionPad3d = 3;
}

pads! {
    /// Continues the spatial axes with what stands at their edge.
    ///
    /// # Shapes
    /// - input `[n, c, ..size]`, output `[n, c, ..size + before + after]`
    pub struct ReplicationPad;
    replication_pad = Replicate, [
        "ReplicationPad1d", "replication_pad1d";
        "ReplicationPad2d", "replication_pad2d";
        "ReplicationPad3d", "replication_pad3d";
    ]
    /// Continues a sequence with its ends.
    ///
    /// PyTorch: `nn.ReplicationPad1d`; Keras: –.
    pub type ReplicationPad1d = 1;
    /// Continues an image with its edges.
    ///
    /// PyTorch: `nn.ReplicationPad2d`; Keras: –.
    pub type ReplicationPad2d = 2;
    /// Continues a volume with its faces.
    ///
    /// PyTorch: `nn.ReplicationPad3d`; Keras: –.
    pub type ReplicationPad3d = 3;
}

pads! {
    /// Continues the spatial axes from their other end, as on a circle or a torus.
    ///
    /// # Shapes
    /// - input `[n, c, ..size]`, output `[n, c, ..size + before + after]`; at most the size on each side
    pub struct CircularPad;
    circular_pad = Circular, [
        "CircularPad1d", "circular_pad1d";
        "CircularPad2d", "circular_pad2d";
        "CircularPad3d", "circular_pad3d";
    ]
    /// Continues a sequence from its other end.
    ///
    /// PyTorch: `nn.CircularPad1d`; Keras: –.
    pub type CircularPad1d = 1;
    /// Continues an image from its opposite edges.
    ///
    /// PyTorch: `nn.CircularPad2d`; Keras: –.
    pub type CircularPad2d = 2;
    /// Continues a volume from its opposite faces.
    ///
    /// PyTorch: `nn.CircularPad3d`; Keras: –.
    pub type CircularPad3d = 3;
}

/// Puts a constant around the spatial axes.
///
/// # Shapes
/// - input `[n, c, ..size]`, output `[n, c, ..size + before + after]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "[(usize, usize); D]: Serialize", deserialize = "[(usize, usize); D]: Deserialize<'de>"))]
#[serde(deny_unknown_fields)]
pub struct ConstantPad<const D: usize> {
    around: Around<D>,
    value: f64,
}
fields!([const D: usize] ConstantPad<D>: ; around, value);

/// Puts a constant around a sequence.
///
/// PyTorch: `nn.ConstantPad1d`; Keras: –.
pub type ConstantPad1d = ConstantPad<1>;
/// Puts a constant around an image.
///
/// PyTorch: `nn.ConstantPad2d`; Keras: –.
pub type ConstantPad2d = ConstantPad<2>;
/// Puts a constant around a volume.
///
/// PyTorch: `nn.ConstantPad3d`; Keras: –.
pub type ConstantPad3d = ConstantPad<3>;

impl<const D: usize> ConstantPad<D> {
    const OP: &'static str = Window::<D>::name(["constant_pad1d", "constant_pad2d", "constant_pad3d"]);

    /// With so many places around, all of this value.
    pub fn new(around: impl Into<Around<D>>, value: f64) -> Self {
        Self { around: around.into(), value }
    }
}

impl<const D: usize> Module for ConstantPad<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        Around::<D>::expect(Self::OP, x)?;
        Ok(x.pad(&self.around.pairs(2), self.value)?)
    }
}

impl<const D: usize> Spec for ConstantPad<D> {
    fn plan(&self, input: &Shape) -> Plan {
        let name = Window::<D>::name(["ConstantPad1d", "ConstantPad2d", "ConstantPad3d"]);
        self.around.plan([name, Self::OP], PadMode::Zeros, input, self.clone())
    }
}

/// Cuts places off the spatial axes.
///
/// # Shapes
/// - input `[n, c, ..size]`, output `[n, c, ..size − before − after]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "[(usize, usize); D]: Serialize", deserialize = "[(usize, usize); D]: Deserialize<'de>"))]
#[serde(deny_unknown_fields)]
pub struct Cropping<const D: usize> {
    around: Around<D>,
}
fields!([const D: usize] Cropping<D>: ; around);

/// Cuts the ends off a sequence.
///
/// PyTorch: –; Keras: `Cropping1D`.
pub type Cropping1d = Cropping<1>;
/// Cuts the edges off an image.
///
/// PyTorch: –; Keras: `Cropping2D`.
pub type Cropping2d = Cropping<2>;
/// Cuts the faces off a volume.
///
/// PyTorch: –; Keras: `Cropping3D`.
pub type Cropping3d = Cropping<3>;

impl<const D: usize> Cropping<D> {
    const OP: &'static str = Window::<D>::name(["cropping1d", "cropping2d", "cropping3d"]);

    /// Cuts so many places off.
    pub fn new(around: impl Into<Around<D>>) -> Self {
        Self { around: around.into() }
    }

    /// What is left of each spatial axis.
    fn left(&self, sample: &Shape) -> Result<[usize; D]> {
        let (_, mut sizes) = expect_spatial::<D>(Self::OP, sample)?;
        for (side, &(before, after)) in self.around.0.iter().enumerate() {
            let cut = before.saturating_add(after);
            if cut >= sizes[side] {
                let what = format!("{cut} places are to be cut off axis {} of {}", side + 2, batched(sample));
                return Err(Error::new(Self::OP, what, format!("it has {}: leave one at least", sizes[side])));
            }
            sizes[side] -= cut;
        }
        Ok(sizes)
    }
}

impl<const D: usize> Module for Cropping<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        Around::<D>::expect(Self::OP, x)?;
        let left = self.left(&Shape::new(&x.shape()[1..])?)?;
        let mut y = x.clone();
        for (side, (before, _)) in self.around.0.into_iter().enumerate() {
            y = y.slice(side as isize + 2, before, before + left[side])?;
        }
        Ok(y)
    }
}

impl<const D: usize> Spec for Cropping<D> {
    fn plan(&self, input: &Shape) -> Plan {
        let name = Window::<D>::name(["Cropping1d", "Cropping2d", "Cropping3d"]);
        Plan::new(format!("{name} {}", self.around.label()), || {
            let left = self.left(input)?;
            Ok(Draft::new(Shape::new(&[&input[..1], &left].concat())?, 0).fixed(self.clone()))
        })
    }
}

impl Builder {
    /// [`ConstantPad`] on one, two or three axes.
    pub fn constant_pad<const D: usize>(self, around: impl Into<Around<D>>, value: f64) -> Self
    where
        ConstantPad<D>: Into<Step>,
    {
        self.step(ConstantPad::new(around, value))
    }

    /// [`Cropping`] on one, two or three axes.
    pub fn cropping<const D: usize>(self, around: impl Into<Around<D>>) -> Self
    where
        Cropping<D>: Into<Step>,
    {
        self.step(Cropping::new(around))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, check_module};
    use maplet_tensor::{DType, Tensor};

    #[test]
    fn behave_as_modules() {
        let image = Expect { input: &[2, 2, 3, 4], output: &[2, 2, 6, 6], ..Expect::default() };
        let around = [(2, 1), (0, 2)];
        check_module(&mut ZeroPad2d::new(around), &image).unwrap();
        check_module(&mut ReflectionPad2d::new(around), &image).unwrap();
        check_module(&mut ReplicationPad2d::new(around), &image).unwrap();
        check_module(&mut CircularPad2d::new(around), &image).unwrap();
        check_module(&mut ConstantPad2d::new(around, 0.5), &image).unwrap();
        let cut = Expect { input: &[2, 2, 6, 6], output: &[2, 2, 3, 4], ..image };
        check_module(&mut Cropping2d::new(around), &cut).unwrap();
        let line = Expect { input: &[2, 2, 4], output: &[2, 2, 6], ..image };
        check_module(&mut ReflectionPad1d::new(1), &line).unwrap();
        check_module(&mut Cropping1d::new(1), &Expect { input: &[2, 2, 4], output: &[2, 2, 2], ..image }).unwrap();
        let volume = Expect { input: &[2, 1, 1, 2, 3], output: &[2, 1, 3, 2, 5], ..image };
        check_module(&mut ReplicationPad3d::new([1, 0, 1]), &volume).unwrap();
    }

    #[test]
    fn first_comes_the_first_axis() {
        let x = Tensor::from([[[[1.0f32, 2.0]]]]).into();
        let y = ConstantPad2d::new([(0, 1), (2, 0)], 7.0).forward(&x).unwrap();
        assert_eq!(y.value(), &Tensor::from([[[[7.0f32, 7.0, 1.0, 2.0], [7.0, 7.0, 7.0, 7.0]]]]));
        assert_eq!(Cropping2d::new([(0, 1), (2, 0)]).forward(&y).unwrap().value(), x.value());
    }

    #[test]
    fn are_steps() {
        let model = Sequential::input([2, 5, 4]).zero_pad([1, 2]).reflection_pad([(1, 0), (3, 2)]).circular_pad::<2>(1);
        let model =
            model.replication_pad::<2>(1).constant_pad::<2>(2, 1.0).cropping([(1, 2), (3, 4)]).build(1).unwrap();
        let rows: Vec<_> = model.rows().iter().map(|row| (&*row.label, row.output[1], row.output[2])).collect();
        let expected = [
            ("ZeroPad2d 1+1×2+2", 7, 8),
            ("ReflectionPad2d 1+0×3+2", 8, 13),
            ("CircularPad2d 1", 10, 15),
            ("ReplicationPad2d 1", 12, 17),
            ("ConstantPad2d 2", 16, 21),
            ("Cropping2d 1+2×3+4", 13, 14),
        ];
        assert_eq!(rows, expected);
        let y = model.forward(&Tensor::zeros([3, 2, 5, 4], DType::F32).into()).unwrap();
        assert_eq!(y.shape(), Shape::from([3, 2, 13, 14]));
        let json = serde_json::to_string(&model.config().steps[1]).unwrap();
        assert_eq!(json, r#"{"reflection_pad2d":{"around":[[1,0],[3,2]]}}"#);
    }

    #[test]
    fn misfits_are_explained() {
        let x = Var::from(Tensor::zeros([1, 2, 3], DType::F32));
        let text = |layer: &dyn Module| layer.forward(&x).unwrap_err().to_string();
        let expected = "pad_with: axis 2 of [1, 2, 3] cannot be reflected by 3; help: pad it by at most 2";
        assert_eq!(text(&ReflectionPad1d::new(3)), expected);
        let expected = "reflection_pad2d: expects [n, c, h, w], got [n, 2, 3]; help: put reshape([c, h, w]) before it";
        assert_eq!(text(&ReflectionPad2d::new(1)), expected);
        let expected = "cropping1d: 3 places are to be cut off axis 2 of [n, 2, 3]; help: it has 3: leave one at least";
        assert_eq!(text(&Cropping1d::new([(2, 1)])), expected);
        let refused = Sequential::input([2, 3]).reflection_pad::<1>(3).build(1).err().unwrap().to_string();
        let expected = "layer 0 (ReflectionPad1d 3): reflection_pad1d: axis 1 of [2, 3] cannot be reflected by 3; \
                        help: pad it by at most 2";
        assert_eq!(refused, expected);
    }
}
