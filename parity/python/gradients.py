"""Jacobians, Hessians and their products; checkpointed parts; hooks; clipping."""

import torch
from torch import nn
from torch.autograd import functional
from torch.utils.checkpoint import checkpoint

from reference import rand, randn

FUNCTIONS = {
    "softmax": lambda x, w: (x @ w.T).softmax(-1),
    "gelu": lambda x, w: nn.functional.gelu(x @ w.T),
    "product": lambda x, w: x[..., 1:] * x[..., :-1].exp(),
    "linear": lambda x, w: x @ w.T,
}


def cases(family):
    for name, f in FUNCTIONS.items():
        for case, shape in [("vector", (3,)), ("rows", (2, 3)), ("size_1", (1, 1, 3)), ("empty", (0, 3))]:
            derivatives(family, f"{name}_{case}", name, f, shape)

    for case, shape, times in [("once", (2, 3), 1), ("three_times", (4,), 3), ("empty", (0, 2), 1)]:
        family.seed("checkpoint", case)

        def chain(a, b):
            for _ in range(times):
                a = checkpoint(lambda a, b: (a * b).sin() + a, a, b, use_reentrant=False)
            return a

        family.function("checkpoint", case, chain, randn(*shape), randn(*shape), config=dict(times=times))

        def pairs(a, b):
            for _ in range(times):
                a, b = checkpoint(lambda a, b: (a * b, b.tanh() - a), a, b, use_reentrant=False)
            return a, b

        family.seed("checkpoint_outputs", case)
        family.function("checkpoint_outputs", case, pairs, randn(*shape), randn(*shape), config=dict(times=times))

    for case, shape, bias in [("plain", (4, 3), True), ("no_bias", (2, 1, 3), False)]:
        family.seed("Checkpoint", case)
        config = dict(in_features=3, out_features=5, bias=bias)
        call = lambda module, x: checkpoint(module, x, use_reentrant=False)
        family.layer("Checkpoint", case, nn.Linear(**config), randn(*shape), config=config, call=call)

    for case, factor in [("reversed", -1.0), ("halved", 0.5), ("cut", 0.0)]:
        family.seed("register_hook", case)

        def hooked(x):
            y = x.square()
            y.register_hook(lambda dy: dy * factor)
            return y.sin()

        family.function("register_hook", case, hooked, randn(2, 3), config=dict(factor=factor))

    for case, shape in [("plain", (2, 3)), ("size_1", (1, 1))]:
        family.seed("retain_grad", case)
        x, dy = randn(*shape), randn(*shape)
        middle = x.clone().requires_grad_().square()
        middle.retain_grad()
        (middle.sin() * dy).sum().backward()
        family.values("retain_grad", case, args=dict(x=x, dy=dy), out_0=middle.grad)

    clipping(family)


def clipping(family):
    """Of gradients of several shapes together."""
    shapes = [(2, 3), (), (0, 2), (4,), (1, 1)]
    for case, scale, most in [
        ("clipped", 1.0, 0.5),
        ("inside", 1.0, 100.0),
        ("zeros", 0.0, 1.0),
        ("large", 1024.0, 7.0),
    ]:
        family.seed("clip", case)
        grads = [randn(*shape) * scale for shape in shapes]
        params = [nn.Parameter(torch.zeros_like(grad)) for grad in grads]

        def clipped(clip):
            for param, grad in zip(params, grads):
                param.grad = grad.clone()
            clip()
            return {f"out_{i}": param.grad.clone() for i, param in enumerate(params)}

        config, args = dict(max=most), {str(i): grad for i, grad in enumerate(grads)}
        norm = nn.utils.get_total_norm(grads)
        # PyTorch divides by norm + 1e-6.
        out = clipped(lambda: nn.utils.clip_grads_with_norm_(params, most, norm - 1e-6))
        family.values("clip_norm", case, config, args, out_norm=norm, **out)
        out = clipped(lambda: nn.utils.clip_grad_value_(params, most))
        family.values("clip_value", case, config, args, **out)


def derivatives(family, case, name, f, shape):
    """All five, of a function of x."""
    family.seed("jacobian", case)
    x, w = rand(*shape), rand(2, 3)
    y = f(x, w)
    u, v = randn(*y.shape), randn(*shape)
    config, args = dict(function=name), dict(x=x, w=w, u=u, v=v)

    def of(x):
        return f(x, w)

    def loss(x):
        return f(x, w).square().sum()

    if x.numel() > 0:  # PyTorch cannot stack no rows
        family.values("jacobian", case, config, args, out_0=functional.jacobian(of, x))
        family.values("hessian", case, config, args, out_0=functional.hessian(loss, x))
    products = [
        ("vector_jacobian_product", functional.vjp(of, x, u)),
        ("jacobian_vector_product", functional.jvp(of, x, v)),
        ("hessian_vector_product", functional.hvp(loss, x, v)),
    ]
    for entry, (value, product) in products:
        family.values(entry, case, config, args, out_0=value, out_1=product)
