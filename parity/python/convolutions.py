"""Convolutions, the way back of them, padding, patches and shuffles."""

from functools import partial
from itertools import product

from torch import nn

from reference import Const, rand


class Separable(nn.Module):
    """A convolution of each channel by itself, then one of size 1 over the channels."""

    def __init__(self, d, in_channels, out_channels, multiplier=1, bias=True, **window):
        super().__init__()
        conv, between = getattr(nn, f"Conv{d}d"), in_channels * multiplier
        self.depthwise = conv(in_channels, between, groups=in_channels, bias=False, **window)
        self.pointwise = conv(between, out_channels, 1, bias=bias)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


SIDES = {1: (7,), 2: (6, 5), 3: (3, 4, 3)}
SMALL = {1: (4,), 2: (3, 4), 3: (2, 2, 2)}
ONES = {1: (1,), 2: (1, 1), 3: (1, 1, 1)}


def cases(family):
    def layer(entry, case, module, shape, config):
        family.seed(entry, case)
        family.layer(entry, case, module(**config), rand(*shape), config=config)

    for d, name in product((1, 2, 3), ("Conv", "ConvTranspose")):
        entry, module = f"{name}{d}d", getattr(nn, f"{name}{d}d")
        size = (SIDES if name == "Conv" else SMALL)[d]
        uneven, width = (3, 2, 1)[:d], 4 if d < 3 else 2
        for case, n, sides, config in [
            ("plain", 2, size, dict(kernel_size=3 if name == "ConvTranspose" else 2)),
            ("stride_padding", 2, size, dict(kernel_size=3, stride=2, padding=1)),
            ("no_bias", 2, size, dict(kernel_size=2, bias=False)),
            ("dilation", 2, size, dict(kernel_size=2, dilation=2)),
            ("groups", 2, size, dict(kernel_size=2, groups=2)),
            ("depthwise", 2, size, dict(kernel_size=3, padding=1, groups=width)),
            ("uneven", 2, size, dict(kernel_size=uneven, stride=(1, 2, 1)[:d], padding=(1, 1, 0)[:d])),
            ("size_1", 2, ONES[d], dict(kernel_size=1)),
            ("padding_alone", 1, ONES[d], dict(kernel_size=3, padding=1) if name == "Conv" else dict(kernel_size=3)),
            ("wide_stride", 1, size, dict(kernel_size=2, stride=3)),
            ("empty_batch", 0, size, dict(kernel_size=2)),
        ]:
            channels = dict(in_channels=width, out_channels=2 * width)
            layer(entry, case, module, (n, width, *sides), dict(**config, **channels))

    for d in (1, 2, 3):
        entry, module = f"Conv{d}d", getattr(nn, f"Conv{d}d")
        shape = (2, 2, *SIDES[d])
        channels = dict(in_channels=2, out_channels=3)
        layer(entry, "valid", module, shape, dict(kernel_size=2, padding="valid", **channels))
        for kernel, dilation in ((3, 1), (2, 1), (2, 3), (4, 1)):
            config = dict(kernel_size=kernel, dilation=dilation, padding="same", **channels)
            layer(entry, f"same_{kernel}_{dilation}", module, shape, config)
        for mode in ("reflect", "replicate", "circular"):
            layer(entry, mode, module, shape, dict(kernel_size=3, padding=2, padding_mode=mode, **channels))
            config = dict(kernel_size=2, padding="same", padding_mode=mode, **channels)
            layer(entry, f"same_{mode}", module, shape, config)

        entry, module = f"ConvTranspose{d}d", getattr(nn, f"ConvTranspose{d}d")
        shape, channels = (2, 4, *SMALL[d]), dict(in_channels=4, out_channels=2)
        for case, config in [
            ("output_padding", dict(kernel_size=3, stride=2, padding=1, output_padding=1)),
            ("output_padding_of_a_stride", dict(kernel_size=2, dilation=3, output_padding=2)),
            ("output_padding_groups", dict(kernel_size=2, stride=3, output_padding=(2, 0, 1)[:d], groups=2)),
        ]:
            layer(entry, case, module, shape, dict(**config, **channels))

        entry, shape = f"SeparableConv{d}d", (2, 2, *SIDES[d])
        channels = dict(in_channels=2, out_channels=3)
        for case, n, config in [
            ("plain", 2, dict(kernel_size=2)),
            ("multiplier", 2, dict(kernel_size=2, multiplier=3)),
            ("no_bias", 2, dict(kernel_size=2, bias=False)),
            ("stride_padding", 2, dict(kernel_size=3, stride=2, padding=1)),
            ("uneven", 2, dict(kernel_size=(3, 2, 1)[:d], stride=(1, 2, 1)[:d], padding=(1, 1, 0)[:d], multiplier=2)),
            ("dilation", 2, dict(kernel_size=2, dilation=2)),
            ("empty_batch", 0, dict(kernel_size=2)),
        ]:
            layer(entry, case, partial(Separable, d), (n, *shape[1:]), dict(**config, **channels))

        entry = f"Cropping{d}d"
        for case, n, cut in [
            ("around", 2, [(1, 0), (0, 2), (1, 1)][:d]),
            ("everywhere", 2, [(1, 1)] * d),
            ("nothing", 2, [(0, 0)] * d),
            ("to_size_1", 1, [(side - 1, 0) for side in SIDES[d]]),
            ("empty_batch", 0, [(1, 1)] * d),
        ]:
            family.seed(entry, case)
            kept = tuple(slice(before, side - after) for (before, after), side in zip(cut, SIDES[d]))
            crop = lambda x: x[(..., *kept)]
            family.function(entry, case, crop, rand(n, 2, *SIDES[d]), config=dict(around=cut))

        around = {1: (2, 1), 2: (1, 2, 0, 3), 3: (1, 0, 2, 1, 0, 2)}[d]
        pads = dict(around=[around[i : i + 2] for i in range(0, 2 * d, 2)][::-1])  # first axis first
        for name in ("ZeroPad", "ReflectionPad", "ReplicationPad", "CircularPad", "ConstantPad"):
            entry, module = f"{name}{d}d", getattr(nn, f"{name}{d}d")
            sides = tuple(size + 1 for size in SMALL[d])
            value = dict(value=-1.5) if name == "ConstantPad" else {}
            for case, n, padding, config in [
                ("around", 2, around, pads),
                ("everywhere", 2, 1, dict(around=[[1, 1]] * d)),
                ("nothing", 2, 0, dict(around=[[0, 0]] * d)),
                ("empty_batch", 0, 1, dict(around=[[1, 1]] * d)),
            ]:
                family.seed(entry, case)
                made = module(padding, **value)
                family.layer(entry, case, made, rand(n, 2, *sides), config=dict(**config, **value))
        family.seed(f"ReplicationPad{d}d", "size_1")
        made = getattr(nn, f"ReplicationPad{d}d")(2)
        family.layer(f"ReplicationPad{d}d", "size_1", made, rand(2, 1, *ONES[d]), config=dict(around=[[2, 2]] * d))

    for case, config in [
        ("plain", dict(kernel_size=2)),
        ("all", dict(kernel_size=(3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1))),
        ("apart", dict(kernel_size=1, stride=3)),
    ]:
        layer("Unfold", case, nn.Unfold, (2, 3, 6, 5), config)
        family.seed("Fold", case)
        columns = nn.Unfold(**config)(rand(2, 3, 6, 5))
        layer("Fold", case, nn.Fold, columns.shape, dict(output_size=(6, 5), **config))
    layer("Unfold", "empty_batch", nn.Unfold, (0, 3, 6, 5), dict(kernel_size=2))
    layer("Fold", "empty_batch", nn.Fold, (0, 12, 20), dict(output_size=(6, 5), kernel_size=2))

    for case, factor, channels in (("two", 2, 8), ("three", 3, 9), ("one", 1, 2)):
        layer("PixelShuffle", case, nn.PixelShuffle, (2, channels, 2, 3), dict(upscale_factor=factor))
        shape = (2, 2, 2 * factor, 3 * factor)
        layer("PixelUnshuffle", case, nn.PixelUnshuffle, shape, dict(downscale_factor=factor))
    family.seed("PixelShuffle", "empty_batch")  # without a gradient: PyTorch's has a wrong shape, and is refused
    empty = Const(rand(0, 8, 2, 3))
    family.layer("PixelShuffle", "empty_batch", nn.PixelShuffle(2), empty, config=dict(upscale_factor=2))
    layer("PixelShuffle", "size_1", nn.PixelShuffle, (1, 4, 1, 1), dict(upscale_factor=2))
    for case, groups, shape in [
        ("image", 2, (2, 6, 2, 3)),
        ("sequence", 3, (2, 6, 4)),
        ("alone", 1, (2, 3, 2, 2)),
        ("empty_batch", 2, (0, 6, 2, 3)),
    ]:
        layer("ChannelShuffle", case, nn.ChannelShuffle, shape, dict(groups=groups))

    for case, start, end in (("middle", 1, 2), ("from_the_end", -3, -2), ("all", 0, -1), ("nothing", 2, 2)):
        layer("FlattenAxes", case, nn.Flatten, (2, 3, 1, 4), dict(start_dim=start, end_dim=end))
    for case, axis, sizes in (("middle", 1, (2, 3)), ("last", -1, (2, 1, 2)), ("as_it_is", 1, (6,))):
        layer("Unflatten", case, nn.Unflatten, (2, 6, 4), dict(dim=axis, unflattened_size=sizes))
