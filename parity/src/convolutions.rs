//! Convolutions, the way back of them, padding, patches and shuffles.

use crate::{Case, Entry, Result};
use maplet_nn_layers::*;
use maplet_tensor::{PadMode, Window};

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::layer("Conv1d", conv::<1>),
        Entry::layer("Conv2d", conv::<2>),
        Entry::layer("Conv3d", conv::<3>),
        Entry::layer("ConvTranspose1d", conv_transpose::<1>),
        Entry::layer("ConvTranspose2d", conv_transpose::<2>),
        Entry::layer("ConvTranspose3d", conv_transpose::<3>),
        Entry::layer("SeparableConv1d", separable::<1>).note(CONVS),
        Entry::layer("SeparableConv2d", separable::<2>).note(CONVS),
        Entry::layer("SeparableConv3d", separable::<3>).note(CONVS),
        Entry::layer("Cropping1d", |case| Ok(Cropping1d::new(around(case)?))).note(SLICES),
        Entry::layer("Cropping2d", |case| Ok(Cropping2d::new(around(case)?))).note(SLICES),
        Entry::layer("Cropping3d", |case| Ok(Cropping3d::new(around(case)?))).note(SLICES),
        Entry::layer("ZeroPad1d", |case| Ok(ZeroPad1d::new(around(case)?))),
        Entry::layer("ZeroPad2d", |case| Ok(ZeroPad2d::new(around(case)?))),
        Entry::layer("ZeroPad3d", |case| Ok(ZeroPad3d::new(around(case)?))),
        Entry::layer("ConstantPad1d", |case| Ok(ConstantPad1d::new(around(case)?, case.get("value")?))),
        Entry::layer("ConstantPad2d", |case| Ok(ConstantPad2d::new(around(case)?, case.get("value")?))),
        Entry::layer("ConstantPad3d", |case| Ok(ConstantPad3d::new(around(case)?, case.get("value")?))),
        Entry::layer("ReflectionPad1d", |case| Ok(ReflectionPad1d::new(around(case)?))),
        Entry::layer("ReflectionPad2d", |case| Ok(ReflectionPad2d::new(around(case)?))),
        Entry::layer("ReflectionPad3d", |case| Ok(ReflectionPad3d::new(around(case)?))),
        Entry::layer("ReplicationPad1d", |case| Ok(ReplicationPad1d::new(around(case)?))),
        Entry::layer("ReplicationPad2d", |case| Ok(ReplicationPad2d::new(around(case)?))),
        Entry::layer("ReplicationPad3d", |case| Ok(ReplicationPad3d::new(around(case)?))),
        Entry::layer("CircularPad1d", |case| Ok(CircularPad1d::new(around(case)?))),
        Entry::layer("CircularPad2d", |case| Ok(CircularPad2d::new(around(case)?))),
        Entry::layer("CircularPad3d", |case| Ok(CircularPad3d::new(around(case)?))),
        Entry::layer("Unfold", |case| Ok(Unfold::new(case.window()?)?)),
        Entry::layer("Fold", |case| Ok(Fold::new(case.sizes("output_size", [0; 2])?, case.window()?)?)),
        Entry::layer("PixelShuffle", |case| Ok(PixelShuffle::new(case.get("upscale_factor")?)?)),
        Entry::layer("PixelUnshuffle", |case| Ok(PixelUnshuffle::new(case.get("downscale_factor")?)?))
            .note("PyTorch returns an empty batch as it is; here it gets its new shape"),
        Entry::layer("ChannelShuffle", |case| Ok(ChannelShuffle::new(case.get("groups")?)?)),
        Entry::layer("FlattenAxes", |case| Ok(FlattenAxes::new(case.get("start_dim")?, case.get("end_dim")?))),
        Entry::layer("Unflatten", |case| {
            Ok(Unflatten::new(case.get("dim")?, case.get::<Vec<usize>>("unflattened_size")?)?)
        }),
    ]
}

const CONVS: &str = "not in PyTorch: compared with two `nn.Conv`, one of them with a group for each channel";
const SLICES: &str = "not in PyTorch: compared with slices";

fn conv<const D: usize>(case: &Case) -> Result<Conv<D>> {
    let [inputs, outputs] = [case.get("in_channels")?, case.get("out_channels")?];
    // PyTorch's padding is numbers or a word.
    let layer = match case.get::<String>("padding") {
        Err(_) => Conv::new(inputs, outputs, case.window()?, &mut case.rng())?,
        Ok(word) => {
            let window = Window::new(case.sizes("kernel_size", [1; D])?).dilation(case.sizes("dilation", [1; D])?);
            let layer = Conv::new(inputs, outputs, window, &mut case.rng())?;
            if word == "same" { layer.same()? } else { layer }
        }
    };
    let layer = layer.padding_mode(case.get_or("padding_mode", PadMode::Zeros)?);
    Ok(if case.get_or("bias", true)? { layer } else { layer.without_bias() })
}

fn conv_transpose<const D: usize>(case: &Case) -> Result<ConvTranspose<D>> {
    let [inputs, outputs] = [case.get("in_channels")?, case.get("out_channels")?];
    let layer = ConvTranspose::new(inputs, outputs, case.window()?, &mut case.rng())?;
    let layer = layer.output_padding(case.sizes("output_padding", [0; D])?)?;
    Ok(if case.get_or("bias", true)? { layer } else { layer.without_bias() })
}

fn separable<const D: usize>(case: &Case) -> Result<SeparableConv<D>> {
    let [inputs, outputs, multiplier] =
        [case.get("in_channels")?, case.get("out_channels")?, case.get_or("multiplier", 1)?];
    let layer = SeparableConv::with_multiplier(inputs, outputs, multiplier, case.window()?, &mut case.rng())?;
    Ok(if case.get_or("bias", true)? { layer } else { layer.without_bias() })
}

/// `(before, after)` for each axis, the first axis first.
fn around<const D: usize>(case: &Case) -> Result<Around<D>> {
    let pairs: Vec<(usize, usize)> = case.get("around")?;
    Ok(Around(pairs.try_into().map_err(|pairs| format!("{pairs:?} are not {D} pairs"))?))
}
