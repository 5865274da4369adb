"""Pools: of windows, adaptive, global, and the inverse of max-pools."""

import torch
from torch import nn
from torch.nn import functional

from reference import rand

# Images and channels, then the axes of which a case over D axes takes the last D.
SIZES = (4, 5, 7)
KERNELS = (2, 3, 2)


def shape(d, sizes=SIZES):
    return (1 if d == 3 else 2, 2, *sizes[3 - d :])


def windows(d):
    """Configurations that all pools of windows have."""
    kernel, stride = (2, 3) if d == 1 else (list(KERNELS[3 - d :]), [1, 2, 3][3 - d :])
    return [
        ("plain", shape(d), dict(kernel_size=2)),
        ("kernel_of_each_axis", shape(d), dict(kernel_size=kernel, stride=stride)),
        ("ceil_mode", shape(d), dict(kernel_size=3, stride=2, ceil_mode=True)),
        ("window_beyond_input", shape(d, (3, 3, 3)), dict(kernel_size=4, stride=2, ceil_mode=True)),
        ("size_1_axes", shape(d, (1, 1, 1)), dict(kernel_size=1)),
        ("empty_batch", (0, *shape(d)[1:]), dict(kernel_size=2)),
    ]


def padded(d):
    """Configurations of those with padding."""
    return [
        ("padded", shape(d), dict(kernel_size=3, stride=2, padding=1)),
        ("padded_ceil_mode", shape(d), dict(kernel_size=3, stride=3, padding=1, ceil_mode=True)),
        ("padded_size_1", shape(d, (1, 1, 1)), dict(kernel_size=3, stride=2, padding=1)),
    ]


def cases(family):
    def layer(entry, case, module, x, config):
        family.seed(entry, case)
        family.layer(entry, case, module, rand(*x), config=config)

    for d in (1, 2, 3):
        named = {name: getattr(nn, f"{name}{d}d") for name in ("MaxPool", "AvgPool", "LPPool", "MaxUnpool")}
        dilated = [
            ("dilated", shape(d), dict(kernel_size=2, stride=1, dilation=3)),
            ("dilated_padded_ceil_mode", shape(d), dict(kernel_size=3, stride=2, padding=1, dilation=2, ceil_mode=True)),
        ]
        for case, x, config in windows(d) + padded(d) + dilated:
            layer(f"MaxPool{d}d", case, named["MaxPool"](**config, return_indices=True), x, config)

        exclusive = [(f"{case}_exclusive", x, dict(config, count_include_pad=False)) for case, x, config in padded(d)]
        divided = [
            ("divisor", shape(d), dict(kernel_size=2, divisor_override=3)),
            ("divisor_padded_ceil_mode", shape(d), dict(kernel_size=3, stride=2, padding=1, ceil_mode=True, divisor_override=5)),
        ]
        # PyTorch's means over volumes alone refuse windows larger than the input, even where the padding makes up for it.
        refused = {"window_beyond_input", "padded_size_1", "padded_size_1_exclusive"} if d == 3 else {}
        of_means, with_padding = ([case for case in cases if case[0] not in refused] for cases in (windows(d), padded(d) + exclusive))
        for case, x, config in of_means + with_padding + (divided if d > 1 else []):
            layer(f"AvgPool{d}d", case, named["AvgPool"](**config), x, config)

        for norm in (1, 2, 3.5):
            for case, x, config in of_means:
                config = dict(config, norm_type=norm)
                entry, case = f"LpPool{d}d", f"{case}_norm_{norm}"
                family.seed(entry, case)
                # Of positive numbers: a negative one to a broken power is no number.
                family.layer(entry, case, named["LPPool"](**config), rand(*x, low=0.1), config=config)

        for name in ("Avg", "Max"):
            entry = f"Adaptive{name}Pool{d}d"
            for case, x, size in [
                ("one", shape(d), 1),
                ("not_divisible", shape(d), 3),
                ("of_each_axis", shape(d), [4, 2, 5][3 - d :]),
                ("kept", shape(d), [3, None, 4][3 - d :] if d > 1 else [4]),
                ("larger", shape(d), 9),
                ("size_1_axes", shape(d, (1, 1, 1)), 2),
                ("empty_batch", (0, *shape(d)[1:]), 2),
            ]:
                options = dict(return_indices=True) if name == "Max" else {}
                output = tuple(size) if isinstance(size, list) else size
                config = dict(output_size=size if isinstance(size, list) else [size] * d)
                layer(entry, case, getattr(nn, entry)(output, **options), x, config)

        for case, x, config, sizes in [
            ("plain", shape(d, (4, 6, 4)), dict(kernel_size=2), None),
            ("padded", shape(d, (5, 5, 5)), dict(kernel_size=3, stride=2, padding=1), None),
            ("output_size", shape(d), dict(kernel_size=2), list(shape(d)[2:])),
            ("gaps", shape(d), dict(kernel_size=2, stride=3), list(shape(d)[2:])),
        ]:
            entry = f"MaxUnpool{d}d"
            family.seed(entry, case)
            pooled, indices = named["MaxPool"](**config, return_indices=True)(rand(*x))
            call = (lambda m, y, at: m(y, at)) if sizes is None else (lambda m, y, at, sizes=sizes: m(y, at, output_size=sizes))
            config = dict(config, output_size=sizes)
            unpool = named["MaxUnpool"](config["kernel_size"], config.get("stride"), config.get("padding", 0))
            family.layer(entry, case, unpool, pooled, indices, config=config, call=call)

    for d, function in [(2, functional.fractional_max_pool2d_with_indices), (3, functional.fractional_max_pool3d_with_indices)]:
        for case, x, config in [
            ("sizes", shape(d), dict(kernel_size=2, output_size=[2, 3, 4][3 - d :])),
            ("ratios", shape(d, (7, 8, 9)), dict(kernel_size=[2, 3, 2][3 - d :], output_ratio=[0.55, 0.6, 0.7][3 - d :])),
            ("one", shape(d, (4, 4, 4)), dict(kernel_size=3, output_size=[1] * d)),
            ("all_but_one", shape(d, (4, 4, 4)), dict(kernel_size=1, output_size=[3] * d)),
        ]:
            entry = f"FractionalMaxPool{d}d"
            family.seed(entry, case)
            samples = rand(*x[:2], d, low=0)
            # Over images PyTorch's samples are those of width and height.
            options = dict(config, _random_samples=samples.flip(2) if d == 2 else samples)
            call = lambda x, function=function, options=options: function(x, **options)
            family.function(entry, case, call, rand(*x), config=config, args=dict(samples=samples))

    for entry, function in [
        ("GlobalAvgPool", lambda x, dims, keep: x.mean(dims, keepdim=keep)),
        ("GlobalMaxPool", lambda x, dims, keep: torch.amax(x, dims, keepdim=keep)),
    ]:
        for d in (1, 2, 3):
            for keep in (False, True):
                case = f"{d}d_kept" if keep else f"{d}d"
                family.seed(entry, case)
                call = lambda x, d=d, keep=keep: function(x, tuple(range(2, 2 + d)), keep)
                family.function(entry, case, call, rand(*shape(d)), config=dict(keepdims=keep))
