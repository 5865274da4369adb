"""Parametrized weights, containers, changes of shape."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from reference import rand

LAYERS = {
    "linear": (nn.Linear, dict(in_features=3, out_features=4), (2, 3)),
    "conv": (nn.Conv2d, dict(in_channels=2, out_channels=3, kernel_size=2), (2, 2, 3, 4)),
    "grouped_conv": (nn.Conv2d, dict(in_channels=4, out_channels=6, kernel_size=[1, 2], groups=2), (1, 4, 2, 3)),
    "transposed": (nn.ConvTranspose2d, dict(in_channels=4, out_channels=6, kernel_size=[2, 1], groups=2), (2, 4, 2, 3)),
    "size_1": (nn.Linear, dict(in_features=4, out_features=1), (1, 4)),
    "empty_batch": (nn.Linear, dict(in_features=3, out_features=4), (0, 3)),
}


class Square(nn.Module):
    def forward(self, weight):
        return weight * weight


def cases(family):
    def add(entry, case, layer, wrap, training=False, steps=1, **config):
        family.seed(entry, case)
        make, options, shape = LAYERS[layer]
        module = wrap(make(**options))
        family.layer(entry, case, module, rand(*shape), config=dict(options, layer=make.__name__, **config), training=training, steps=steps)

    for layer in LAYERS:
        add("WeightNorm", layer, layer, parametrizations.weight_norm)
        add("SpectralNorm", layer, layer, parametrizations.spectral_norm)
        add("SpectralNorm", layer + "_training", layer, parametrizations.spectral_norm, training=True, steps=3)
        add("Parametrized", layer, layer, lambda module: parametrize.register_parametrization(module, "weight", Square()))
    for dim in (1, None):
        for layer in ("linear", "conv"):
            wrap = lambda module, dim=dim: parametrizations.weight_norm(module, dim=dim)
            add("WeightNorm", f"{layer}_dim_{dim}", layer, wrap, dim=dim)
    wrap = lambda module: parametrizations.spectral_norm(module, n_power_iterations=4, eps=1e-3)
    add("SpectralNorm", "iterations", "conv", wrap, training=True, n_power_iterations=4, eps=1e-3)

    def chain(module, x):
        for layer in module.values() if isinstance(module, nn.ModuleDict) else module:
            x = layer(x)
        return x

    for case, shape, sizes in [("plain", (2, 3), [3, 4, 2]), ("one", (2, 3), [3, 1]), ("empty_batch", (0, 3), [3, 4, 2])]:
        layers = lambda: [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
        family.seed("ModuleList", case)
        family.layer("ModuleList", case, nn.ModuleList(layers()), rand(*shape), config=dict(sizes=sizes), call=chain)
        family.seed("ModuleDict", case)
        names = ["zeta", "alpha"]
        named = nn.ModuleDict(dict(zip(names, layers())))
        family.layer("ModuleDict", case, named, rand(*shape), config=dict(sizes=sizes, names=names), call=chain)

    for case, shape, sizes in [("plain", (2, 3), [3, 4, 2]), ("one", (2, 3), [3, 1]), ("empty_batch", (0, 3), [3, 4, 2])]:
        family.seed("Sequential", case)
        layers = [nn.Linear(sizes[0], sizes[1]), nn.ReLU(), *(nn.Linear(a, b) for a, b in zip(sizes[1:], sizes[2:]))]
        family.layer("Sequential", case, nn.Sequential(*layers), rand(*shape), config=dict(sizes=sizes))
    for case, shape, sizes in [("plain", (2, 3, 4), [2, 6]), ("size_1", (1, 1), [1, 1]), ("empty_batch", (0, 4), [2, 2])]:
        family.seed("Flatten", case)
        family.layer("Flatten", case, nn.Flatten(), rand(*shape))
        family.seed("Reshape", case)
        call = lambda module, x: module(x.flatten(1))
        family.layer("Reshape", case, nn.Unflatten(1, sizes), rand(*shape), config=dict(sizes=sizes), call=call)

    for case, shape, sizes, projection in [
        ("plain", (2, 3), [3, 3], False),
        ("projection", (2, 3), [3, 5], True),
        ("more_axes", (2, 1, 3), [3, 1], True),
        ("empty_batch", (0, 3), [3, 3], False),
    ]:
        family.seed("Residual", case)
        module = nn.ModuleDict(dict(inner=nn.Linear(*sizes)))
        if projection:
            module["projection"] = nn.Linear(*sizes)
        call = lambda module, x: module["inner"](x) + (module["projection"](x) if "projection" in module else x)
        family.layer("Residual", case, module, rand(*shape), config=dict(sizes=sizes, projection=projection), call=call)

    for case, shape, sizes, axis in [
        ("concat", (2, 3), [4, 2], -1),
        ("concat_axis_1", (2, 4, 3), [3, 3], 1),
        ("add", (2, 3), [3, 3], None),
        ("one", (2, 3), [3], None),
        ("empty_batch", (0, 3), [4, 2], 1),
    ]:
        family.seed("Parallel", case)
        module = nn.ModuleList([nn.Linear(shape[-1], size) for size in sizes])

        def parallel(module, x):
            outputs = [layer(x) for layer in module] + [x.relu()]
            return sum(outputs) if axis is None else torch.cat(outputs, axis)

        config = dict(sizes=[shape[-1], *sizes], axis=axis)
        family.layer("Parallel", case, module, rand(*shape), config=config, call=parallel)
