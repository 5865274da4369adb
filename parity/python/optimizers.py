"""Optimizers: 20 steps with given gradients, and L-BFGS on a valley; averages of weights; the plateau."""

import math
from unittest import mock

import torch
from torch import optim
from torch.optim import _muon
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from reference import rand

# Scalar, vector, matrices of both kinds, a convolution, axes of size 1.
SHAPES = [(), (3,), (2, 3), (4, 2), (2, 1, 2, 2), (1, 1)]
# Differences are relative to the largest element: a single one that passes through 0 would magnify rounding.
ONE_ELEMENT = dict(low=8.0, high=10.0)
MATRICES = [(2, 3), (4, 2), (3, 3), (1, 4)]


class Lion(optim.Optimizer):
    """Chen et al. (2023), algorithm 2; PyTorch has none."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0, maximize=False):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                g = -p.grad if group["maximize"] else p.grad
                c = beta1 * m + (1 - beta1) * g
                p.sub_(lr * (c.sign() + group["weight_decay"] * p))
                m.mul_(beta2).add_(g, alpha=1 - beta2)


class Lamb(optim.Optimizer):
    """You et al. (2020), algorithm 2, with the identity as φ; PyTorch has none."""

    def __init__(self, params, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["t"] += 1
                state["m"].mul_(beta1).add_(p.grad, alpha=1 - beta1)
                state["v"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                m = state["m"] / (1 - beta1 ** state["t"])
                v = state["v"] / (1 - beta2 ** state["t"])
                r = m / (v.sqrt() + group["eps"]) + group["weight_decay"] * p
                ratio = p.norm() / r.norm() if p.norm() > 0 and r.norm() > 0 else 1.0
                p.sub_(group["lr"] * ratio * r)


class Lookahead(optim.Optimizer):
    """Zhang et al. (2019), algorithm 1, around an optimizer; PyTorch has none."""

    def __init__(self, params, inner, every=5, part=0.5):
        super().__init__(params, {})
        self.inner, self.every, self.part, self.steps = inner, every, part, 0
        self.slow = [p.detach().clone() for p in params]

    @torch.no_grad()
    def step(self):
        self.inner.step()
        self.steps += 1
        if self.steps % self.every == 0:
            for slow, p in zip(self.slow, self.param_groups[0]["params"]):
                slow.add_(p - slow, alpha=self.part)
                p.copy_(slow)


def exact_newton_schulz(grad, coefficients, steps, eps):
    """`torch.optim._muon._zeropower_via_newtonschulz` without the rounding to bfloat16."""
    a, b, c = coefficients
    tall = grad.size(0) > grad.size(1)
    x = grad.T if tall else grad
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def cases(family):
    # PyTorch keeps counts and products in the default type.
    torch.set_default_dtype(torch.float64)
    try:
        one_pass(family)
        lookahead(family)
        lbfgs(family)
        sam(family)
        averages(family)
        plateau(family)
    finally:
        torch.set_default_dtype(torch.float32)


def one_pass(family):
    betas = dict(betas=(0.8, 0.95), eps=1e-4)
    for entry, make, configs in [
        ("Sgd", optim.SGD, [
            ("plain", dict(lr=0.1)),
            ("decay", dict(lr=0.1, weight_decay=0.1)),
            ("momentum", dict(lr=0.1, momentum=0.9, dampening=0.3)),
            ("nesterov", dict(lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.1, maximize=True)),
        ]),
        ("Adam", optim.Adam, [
            ("defaults", dict(lr=0.01)),
            ("amsgrad", dict(lr=0.01, amsgrad=True, weight_decay=0.1, **betas)),
            ("maximize", dict(lr=0.01, maximize=True, weight_decay=0.1, **betas)),
        ]),
        ("AdamW", optim.AdamW, [
            ("defaults", dict(lr=0.01)),
            ("amsgrad", dict(lr=0.01, amsgrad=True, weight_decay=0.3, maximize=True, **betas)),
        ]),
        ("Adamax", optim.Adamax, [
            ("defaults", dict(lr=0.01)),
            ("decay", dict(lr=0.01, weight_decay=0.1, maximize=True, **betas)),
        ]),
        ("Nadam", optim.NAdam, [
            ("defaults", dict(lr=0.01)),
            ("decay", dict(lr=0.01, weight_decay=0.1, momentum_decay=0.1, **betas)),
            ("decoupled", dict(lr=0.01, weight_decay=0.1, decoupled_weight_decay=True, maximize=True)),
        ]),
        ("Radam", optim.RAdam, [
            ("defaults", dict(lr=0.01)),
            ("decay", dict(lr=0.01, weight_decay=0.1, **betas)),
            ("decoupled", dict(lr=0.01, weight_decay=0.1, decoupled_weight_decay=True, betas=(0.9, 0.9))),
        ]),
        ("Rmsprop", optim.RMSprop, [
            ("defaults", dict(lr=0.01)),
            ("centered", dict(lr=0.01, centered=True, alpha=0.9, eps=1e-4)),
            ("momentum", dict(lr=0.01, momentum=0.9, weight_decay=0.1)),
            ("both", dict(lr=0.01, momentum=0.5, centered=True, alpha=0.8, eps=1e-4, maximize=True)),
        ]),
        ("Adagrad", optim.Adagrad, [
            ("defaults", dict(lr=0.1)),
            ("all", dict(lr=0.1, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.5, eps=1e-4)),
        ]),
        ("Adadelta", optim.Adadelta, [
            ("defaults", dict(lr=1.0)),
            ("all", dict(lr=0.5, rho=0.8, eps=1e-4, weight_decay=0.1, maximize=True)),
        ]),
        ("Adafactor", optim.Adafactor, [
            ("defaults", dict(lr=0.01)),
            ("all", dict(lr=0.5, beta2_decay=-0.5, eps=(1e-3, 1e-2), d=2.0, weight_decay=0.1, maximize=True)),
        ]),
        ("Rprop", optim.Rprop, [
            ("defaults", dict(lr=0.01)),
            ("all", dict(lr=0.1, etas=(0.4, 1.5), step_sizes=(0.05, 0.3), maximize=True)),
        ]),
        ("Asgd", optim.ASGD, [
            ("defaults", dict(lr=0.1)),
            ("all", dict(lr=0.1, lambd=0.1, alpha=0.5, t0=5, weight_decay=0.1, maximize=True)),
        ]),
        ("Lion", Lion, [
            ("defaults", dict(lr=0.01)),
            ("decay", dict(lr=0.01, betas=(0.8, 0.95), weight_decay=0.3, maximize=True)),
        ]),
        ("Lamb", Lamb, [
            ("defaults", dict(lr=0.01)),
            ("decay", dict(lr=0.01, weight_decay=0.3, **betas)),
        ]),
    ]:
        for case, config in configs:
            family.seed(entry, case)
            params = [rand(*shape, **(ONE_ELEMENT if math.prod(shape) == 1 else {})) for shape in SHAPES]
            family.optimizer(entry, case, lambda params: make(params, **config), params, config=config)
    with mock.patch.object(_muon, "_zeropower_via_newtonschulz", exact_newton_schulz):
        for case, config in [
            ("defaults", dict(lr=0.01)),
            ("plain", dict(lr=0.01, momentum=0.5, nesterov=False, weight_decay=0.0, ns_steps=3)),
            ("rms", dict(lr=0.01, adjust_lr_fn="match_rms_adamw")),
            ("spectral", dict(lr=0.01, adjust_lr_fn="spectral_unclamped", ns_coefficients=(2.0, -1.5, 0.5), eps=0.1)),
        ]:
            family.seed("Muon", case)
            params = [rand(*shape) for shape in MATRICES]
            family.optimizer("Muon", case, lambda params: optim.Muon(params, **config), params, config=config)


def lookahead(family):
    for case, inner, lr, config in [
        ("defaults", "sgd", 0.1, dict()),
        ("adam", "adam", 0.05, dict(every=3, part=0.8)),
        ("each_step", "sgd", 0.1, dict(every=1, part=0.25)),
        ("never_back", "adam", 0.05, dict(every=4, part=1.0)),
        ("longer", "sgd", 0.1, dict(every=30)),
    ]:
        family.seed("Lookahead", case)
        params = [rand(*shape, **(ONE_ELEMENT if math.prod(shape) == 1 else {})) for shape in SHAPES]

        def make(params):
            own = optim.Adam(params, lr) if inner == "adam" else optim.SGD(params, lr, momentum=0.5)
            return Lookahead(params, own, **config)

        family.optimizer("Lookahead", case, make, params, config=dict(config, inner=inner, lr=lr))


def sam(family):
    """Foret et al. (2021), eq. 2, and adaptive Kwon et al. (2021), eq. 5 without η; PyTorch has neither."""
    for case, lr, radius, adaptive in [
        ("plain", 0.01, 0.05, False),
        ("wide", 0.005, 0.5, False),
        ("adaptive", 0.01, 0.5, True),
        ("no_radius", 0.01, 0.0, False),
    ]:
        family.seed("Sam", case)
        start = {"x": rand(4), "y": rand(2, 2)}
        params = [torch.nn.Parameter(value.clone()) for value in start.values()]
        optimizer = optim.SGD(params, lr, momentum=0.5)
        out = {}
        for step in range(10):
            before = [p.detach().clone() for p in params]
            loss = valley(*params)
            scales = [p.abs() if adaptive else torch.ones_like(p) for p in before]
            parts = [scale * g for scale, g in zip(scales, torch.autograd.grad(loss, params))]
            norm = torch.cat([part.flatten() for part in parts]).norm()
            with torch.no_grad():
                for p, scale, part in zip(params, scales, parts):
                    p.add_(radius * scale * part / norm)
            grads = torch.autograd.grad(valley(*params), params)
            with torch.no_grad():
                for p, value, grad in zip(params, before, grads):
                    p.copy_(value)
                    p.grad = grad
            optimizer.step()
            out[f"out_loss{step}"] = loss.detach()
            out[f"out_x{step}"], out[f"out_y{step}"] = (p.detach().clone() for p in params)
        family.values("Sam", case, dict(lr=lr, radius=radius, adaptive=adaptive), args=start, **out)


def valley(x, y):
    return 10 * (y.flatten() - x.square()).square().sum() + (1 - x).square().sum()


def lbfgs(family):
    for case, config in [
        ("fixed", dict(lr=0.01, max_iter=8)),
        ("strong_wolfe", dict(lr=1.0, max_iter=6, line_search_fn="strong_wolfe")),
        ("short_history", dict(lr=0.5, max_iter=6, history_size=2, line_search_fn="strong_wolfe")),
        ("few_evaluations", dict(lr=1.0, max_iter=10, max_eval=5, line_search_fn="strong_wolfe")),
        ("maximize", dict(lr=1.0, max_iter=6, maximize=True, line_search_fn="strong_wolfe")),
    ]:
        family.seed("Lbfgs", case)
        start = {"x": rand(4), "y": rand(2, 2)}
        x, y = (torch.nn.Parameter(value.clone()) for value in start.values())
        optimizer = optim.LBFGS([x, y], **config)
        sign = -1.0 if config.get("maximize") else 1.0

        def closure():
            optimizer.zero_grad()
            loss = sign * valley(x, y)
            loss.backward()
            return loss

        out = {}
        for step in range(4):
            out[f"out_loss{step}"] = optimizer.step(closure).detach()
            out[f"out_x{step}"], out[f"out_y{step}"] = x.detach().clone(), y.detach().clone()
        out["out_evaluations"] = torch.tensor(optimizer.state[x]["func_evals"])
        family.values("Lbfgs", case, config, args=start, **out)


def averages(family):
    for entry, case, decay in [("Ema", "slow", 0.9), ("Ema", "fast", 0.25), ("Swa", "mean", None)]:
        family.seed(entry, case)
        weights = [rand(2, 3) for _ in range(6)]
        model = torch.nn.Linear(3, 2, bias=False)
        averaged = AveragedModel(model, avg_fn=get_ema_avg_fn(decay) if decay is not None else None)
        out = {}
        for step, weight in enumerate(weights):
            with torch.no_grad():
                model.weight.copy_(weight)
            averaged.update_parameters(model)
            out[f"out_{step}"] = averaged.module.weight.clone()
        args = {f"{step}": weight for step, weight in enumerate(weights)}
        family.values(entry, case, dict(decay=decay), args=args, **out)


def plateau(family):
    steady = [1.0] * 12
    wave = [1.0 + 0.5 * math.cos(step) - 0.02 * step for step in range(30)]
    for case, metrics, config in [
        ("steady", steady, dict(patience=2)),
        ("cooldown", steady, dict(patience=1, cooldown=2, factor=0.5)),
        ("wave", wave, dict(patience=3, factor=0.3, threshold=0.05)),
        ("absolute", wave, dict(patience=2, factor=0.5, threshold=0.1, threshold_mode="abs", min_lr=0.02)),
        ("highest", wave, dict(mode="max", patience=2, factor=0.5)),
    ]:
        optimizer = optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        schedule = optim.lr_scheduler.ReduceLROnPlateau(optimizer, **config)
        rates = []
        for metric in metrics:
            schedule.step(metric)
            rates.append(optimizer.param_groups[0]["lr"])
        config = dict(config, lr=0.1, metrics=metrics)
        family.values("ReduceOnPlateau", case, config, out_rates=torch.tensor(rates))
