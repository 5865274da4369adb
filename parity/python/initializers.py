"""Initializers. Those that draw nothing are compared exactly. Of the others the numbers are written down that PyTorch
hands to its generators (bounds of uniform numbers, mean and deviation of normal ones), or what the result must be."""

import math
from unittest import mock

import torch
from torch.nn import init

FLOAT = torch.float64


def drawn(function, *args, **kwargs):
    """What `function` hands to `uniform_` or `normal_`."""
    found = {}

    def uniform(self, a=0.0, b=1.0, generator=None):
        found.update(out_low=torch.tensor(a, dtype=FLOAT), out_high=torch.tensor(b, dtype=FLOAT))
        return self

    def normal(self, mean=0.0, std=1.0, generator=None):
        found.update(out_mean=torch.tensor(mean, dtype=FLOAT), out_std=torch.tensor(std, dtype=FLOAT))
        return self

    with mock.patch.object(torch.Tensor, "uniform_", uniform), mock.patch.object(torch.Tensor, "normal_", normal):
        function(*args, **kwargs)
    return found


def cases(family):
    def exact(entry, case, shape, function, **config):
        family.values(entry, case, dict(config, shape=shape), out_0=function(torch.empty(shape, dtype=FLOAT)))

    exact("zeros", "matrix", [2, 3], init.zeros_)
    exact("ones", "matrix", [2, 1], init.ones_)
    exact("constant", "matrix", [2, 3], lambda x: init.constant_(x, -0.75), value=-0.75)
    for case, shape in [("wide", [2, 5]), ("tall", [4, 1]), ("empty", [0, 3])]:
        exact("eye", case, shape, init.eye_)
    for case, shape, groups in [
        ("1d", [4, 3, 5], 1),
        ("2d", [3, 4, 3, 2], 1),
        ("3d", [2, 2, 1, 2, 3], 1),
        ("groups", [6, 2, 3, 3], 3),
        ("more_outputs", [6, 1, 2], 2),
    ]:
        exact("dirac", case, shape, lambda x: init.dirac_(x, groups), groups=groups)

    nonlinearities = [("linear", None), ("sigmoid", None), ("tanh", None), ("relu", None), ("selu", None)]
    for name, param in nonlinearities + [("leaky_relu", 0.01), ("leaky_relu", 0.3), ("leaky_relu", math.sqrt(5))]:
        case = name if param is None else f"{name}_{param:.2f}"
        config = dict(nonlinearity=name, param=param)
        family.values("Gain", case, config, out_0=torch.tensor(init.calculate_gain(name, param), dtype=FLOAT))

    shape = [40, 30, 3, 2]
    weight = torch.empty(shape)
    for gain in [1.0, 0.5]:
        for entry, function in [("xavier_uniform", init.xavier_uniform_), ("xavier_normal", init.xavier_normal_)]:
            family.values(entry, f"gain_{gain}", dict(shape=shape, gain=gain), **drawn(function, weight, gain))
    for mode in ["fan_in", "fan_out"]:
        for name, a in [("relu", 0), ("leaky_relu", math.sqrt(5)), ("selu", 0)]:
            config = dict(shape=shape, mode=mode, nonlinearity=name, param=a)
            for entry, function in [
                ("kaiming_uniform", init.kaiming_uniform_),
                ("kaiming_normal", init.kaiming_normal_),
            ]:
                numbers = drawn(function, weight, a=a, mode=mode, nonlinearity=name)
                family.values(entry, f"{mode}_{name}", config, **numbers)
    family.values("uniform", "plain", dict(shape=shape, low=-2.0, high=0.5), **drawn(init.uniform_, weight, -2.0, 0.5))
    family.values("normal", "plain", dict(shape=shape, mean=3.0, std=0.5), **drawn(init.normal_, weight, 3.0, 0.5))

    for case, mean, std, low, high in [("plain", 0.0, 1.0, -2.0, 2.0), ("tail", 0.0, 0.5, 1.0, 3.0)]:
        torch.manual_seed(1)
        x = init.trunc_normal_(torch.empty(4_000_000, dtype=FLOAT), mean, std, low, high)
        config = dict(shape=shape, mean=mean, std=std, low=low, high=high)
        family.values("trunc_normal", case, config, out_mean=x.mean(), out_std=x.std())
    for case, shape, gain in [("wide", [3, 7], 1.0), ("tall", [7, 3], 2.0), ("convolution", [4, 2, 3, 3], 0.5)]:
        torch.manual_seed(1)
        x = init.orthogonal_(torch.empty(shape, dtype=FLOAT), gain).flatten(1)
        product = x @ x.T if x.size(0) <= x.size(1) else x.T @ x
        family.values("orthogonal", case, dict(shape=shape, gain=gain), out_0=product)
    for case, sparsity in [("quarter", 0.25), ("all", 1.0), ("none", 0.0)]:
        x = init.sparse_(torch.empty(10, 50, dtype=FLOAT), sparsity)
        zeros = (x == 0).sum(0)
        family.values("sparse", case, dict(shape=[10, 50], sparsity=sparsity), out_zeros=zeros)
