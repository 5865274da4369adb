"""Activations, softmax and its relatives, gated units."""

import torch
from torch import nn
from torch.nn import functional as F

from reference import FLOAT, Const, randn, single

# Borders of every function below, and far out.
SPECIAL = [-1000, -100, -20, -6, -3, -1, -0.5, -1e-4, 0, 1e-4, 0.5, 1, 3, 6, 20, 20.5, 100, 1000]


class Sixth(nn.Module):
    """nn.Hardsigmoid, whose gradient in float64 has 1/6 in float32."""

    def forward(self, x):
        return F.relu6(x + 3) / 6


def elementwise(family, entry, module, config=None, case=""):
    """On random numbers, at borders and far out, at infinities, on one number and on none."""
    infinity = float("inf")
    special = single(torch.tensor(SPECIAL, dtype=FLOAT))
    infinite = torch.tensor([infinity, -infinity, float("nan")], dtype=FLOAT)
    for name, make in [
        ("random", lambda: randn(4, 1, 5) * 3),
        ("special", lambda: special),
        ("infinite", lambda: infinite),
        ("scalar", lambda: randn()),
        ("empty_batch", lambda: randn(0, 3)),
    ]:
        if name == "infinite" and entry in ["Softsign", "Hardsigmoid"]:
            continue
        name = f"{case}_{name}" if case else name
        family.seed(entry, name)
        family.layer(entry, name, module, single(make()), config=config)


def cases(family):
    for entry, module in [
        ("Relu", nn.ReLU()),
        ("Sigmoid", nn.Sigmoid()),
        ("Tanh", nn.Tanh()),
        ("Silu", nn.SiLU()),
        ("Gelu", nn.GELU()),
        ("GeluTanh", nn.GELU(approximate="tanh")),
        ("Selu", nn.SELU()),
        ("LogSigmoid", nn.LogSigmoid()),
        ("Mish", nn.Mish()),
        ("Softsign", nn.Softsign()),
        ("Tanhshrink", nn.Tanhshrink()),
        ("Relu6", nn.ReLU6()),
        ("Hardsigmoid", Sixth()),
        ("Hardswish", nn.Hardswish()),
    ]:
        elementwise(family, entry, module)

    for entry, make, configs in [
        ("LeakyRelu", nn.LeakyReLU, [{}, dict(negative_slope=0.3)]),
        ("Elu", nn.ELU, [{}, dict(alpha=0.5)]),
        ("Celu", nn.CELU, [{}, dict(alpha=2.0)]),
        ("Softplus", nn.Softplus, [{}, dict(beta=2.0, threshold=5.0)]),
        ("Hardtanh", nn.Hardtanh, [{}, dict(min_val=-0.5, max_val=3.0)]),
        ("Threshold", nn.Threshold, [dict(threshold=0.0, value=0.0), dict(threshold=0.5, value=-2.0)]),
        ("Hardshrink", nn.Hardshrink, [{}, dict(lambd=1.0)]),
        ("Softshrink", nn.Softshrink, [{}, dict(lambd=0.0)]),
        ("Rrelu", nn.RReLU, [{}, dict(lower=0.25, upper=0.25)]),
    ]:
        for i, config in enumerate(configs):
            elementwise(family, entry, make(**config), config, ["default", "other"][i])

    for entry, make, config in [("Celu", nn.CELU, dict(alpha=-1.5)), ("Softplus", nn.Softplus, dict(beta=-2.0))]:
        family.seed(entry, "negative")
        family.layer(entry, "negative", make(**config), randn(4, 5), config=config)

    for case, shape, count in [
        ("one", (4, 3, 5), 1),
        ("by_channel", (4, 3, 5), 3),
        ("matrix", (4, 3), 3),
        ("vector", (3,), 1),
        ("size_1", (1, 1), 1),
        ("empty_batch", (0, 3, 2), 3),
    ]:
        family.seed("Prelu", case)
        config = dict(num_parameters=count, init=0.1 if case == "matrix" else 0.25)
        module = nn.PReLU(**config)
        if case == "by_channel":
            module.weight.data = torch.tensor([-0.5, 0.0, 2.0])
        family.layer("Prelu", case, module, randn(*shape), config=config)

    for entry, make in [("Softmax", nn.Softmax), ("Softmin", nn.Softmin), ("LogSoftmax", nn.LogSoftmax)]:
        for case, shape, dim, offset in [
            ("last", (3, 4), -1, 0),
            ("first", (3, 4), 0, 0),
            ("middle", (2, 3, 4), 1, 0),
            ("large", (3, 4), 1, 500),
            ("size_1", (3, 1), 1, 0),
            ("empty_batch", (0, 4), 1, 0),
        ]:
            family.seed(entry, case)
            family.layer(entry, case, make(dim), single(randn(*shape) + offset), config=dict(dim=dim))
    for case, shape in [("images", (2, 3, 4, 1)), ("one_image", (3, 2, 2)), ("empty_batch", (0, 3, 2, 2))]:
        family.seed("Softmax2d", case)
        family.layer("Softmax2d", case, nn.Softmax2d(), randn(*shape))

    def gated(activation):
        def forward(x, dim):
            a, b = x.chunk(2, dim)
            return a * activation(b)

        return forward

    for entry, function in [
        ("Glu", F.glu),
        ("SwiGlu", gated(F.silu)),
        ("GeGlu", gated(F.gelu)),
        ("ReGlu", gated(F.relu)),
    ]:
        for case, shape, dim in [
            ("last", (3, 4), -1),
            ("middle", (2, 6, 3), 1),
            ("first", (2, 3), 0),
            ("empty_batch", (0, 4), -1),
        ]:
            family.seed(entry, case)
            family.function(entry, case, lambda x, f=function, dim=dim: f(x, dim), randn(*shape), config=dict(dim=dim))

    for case, a, b, config in [
        ("rows", (3, 4), (3, 4), {}),
        ("broadcast", (3, 4, 2), (1, 4, 2), {}),
        ("last_axis", (2, 3, 4), (2, 3, 4), dict(dim=-1, eps=1e-3)),
        ("axis_0", (3, 2), (3, 2), dict(dim=0)),
        ("zero_vector", (3, 4), (3, 4), {}),
        ("empty_batch", (0, 4), (0, 4), {}),
    ]:
        family.seed("CosineSimilarity", case)
        a, b = randn(*a), randn(*b)
        if case == "zero_vector":
            a[1] = 0
        family.layer("CosineSimilarity", case, nn.CosineSimilarity(**config), a, b, config=config)

    for case, a, b, config in [
        ("rows", (3, 4), (3, 4), {}),
        ("broadcast", (3, 4), (1, 4), {}),
        ("vectors", (4,), (4,), {}),
        ("sum", (3, 4), (3, 4), dict(p=1.0, keepdim=True)),
        ("cubes", (3, 4), (3, 4), dict(p=3.0, eps=0.0)),
        ("largest", (3, 4), (3, 4), dict(p=float("inf"))),
        ("least", (3, 4), (3, 4), dict(p=-float("inf"))),
        ("negative", (3, 4), (3, 4), dict(p=-1.0)),
        ("count", (3, 4), (3, 4), dict(p=0.0)),
        ("equal", (3, 4), (3, 4), dict(eps=0.0)),
        ("empty_batch", (0, 4), (0, 4), {}),
    ]:
        family.seed("PairwiseDistance", case)
        a, b = randn(*a), randn(*b)
        if case == "equal":
            b = a.clone()
        if case == "count":  # no gradient: PyTorch's is 0
            a, b = Const(a), Const(b)
        named = dict(config, p=str(config["p"])) if "p" in config else config  # JSON has no infinity
        family.layer("PairwiseDistance", case, nn.PairwiseDistance(**config), a, b, config=named)

    for case, config in [
        ("default", dict(in_features=32, n_classes=20, cutoffs=[5, 12])),
        ("bias", dict(in_features=8, n_classes=20, cutoffs=[5], div_value=2.0, head_bias=True)),
        ("frequent", dict(in_features=8, n_classes=9, cutoffs=[7])),
    ]:
        family.seed("AdaptiveLogSoftmaxWithLoss", case)
        labels = torch.tensor([0, 4, 3, 1] if case == "frequent" else [4, 19, 0, 5, 12, 19])
        family.layer("AdaptiveLogSoftmaxWithLoss", case, nn.AdaptiveLogSoftmaxWithLoss(**config),
                     randn(len(labels), config["in_features"]), config=config, args=dict(target=labels),
                     call=lambda module, x: tuple(module(x, labels)))
