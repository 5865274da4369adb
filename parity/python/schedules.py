"""Schedules: the learning rate, and the momentum where it cycles, of every step from 0."""

import torch
from torch.optim import SGD
from torch.optim import lr_scheduler as lr

LR = 0.1


def run(family, entry, case, make, config=None, steps=40, momentum=False):
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.5)
    schedule = make(optimizer)
    rates, momenta = [], []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        momenta.append(float(optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        schedule.step()
    out = dict(out_rates=torch.tensor(rates, dtype=torch.float64))
    if momentum:
        out["out_momenta"] = torch.tensor(momenta, dtype=torch.float64)
    family.values(entry, case, dict(config or {}, lr=LR), **out)


def cases(family):
    run(family, "Schedule", "lambda", lambda o: lr.LambdaLR(o, lambda step: 0.95**step / (step + 1)))
    for every, gamma in [(10, 0.1), (3, 0.7), (1, 0.9)]:
        make = lambda o: lr.StepLR(o, every, gamma)
        run(family, "StepDecay", f"every_{every}", make, dict(step_size=every, gamma=gamma))
    for case, milestones, gamma in [("plain", [5, 20], 0.1), ("twice", [7, 7, 30], 0.5)]:
        make = lambda o: lr.MultiStepLR(o, milestones, gamma)
        run(family, "MultiStepDecay", case, make, dict(milestones=milestones, gamma=gamma))
    for case, factor, total in [("defaults", 1 / 3, 5), ("half", 0.5, 20), ("one_step", 0.25, 1)]:
        make = lambda o: lr.ConstantLR(o, factor, total)
        run(family, "Constant", case, make, dict(factor=factor, total_iters=total))
    for case, start, end, total in [("defaults", 1 / 3, 1.0, 5), ("falling", 1.0, 0.0, 20), ("longer", 0.5, 0.75, 100)]:
        make = lambda o: lr.LinearLR(o, start, end, total)
        run(family, "LinearRamp", case, make, dict(start_factor=start, end_factor=end, total_iters=total))
    for gamma in [0.9, 1.0, 1.05]:
        run(family, "ExponentialDecay", f"{gamma}", lambda o: lr.ExponentialLR(o, gamma), dict(gamma=gamma))
    for case, total, power in [("linear", 30, 1.0), ("square", 25, 2.0), ("root", 39, 0.5)]:
        make = lambda o: lr.PolynomialLR(o, total, power)
        run(family, "PolynomialDecay", case, make, dict(total_iters=total, power=power))
    for case, features, warm_up in [("plain", 512, 10), ("one_step", 16, 1), ("all_rise", 3, 100)]:
        # Vaswani et al. (2017), eq. 3; PyTorch has none.
        noam = lambda step: features**-0.5 * min((step + 1) ** -0.5, (step + 1) * warm_up**-1.5)
        run(family, "Noam", case, lambda o: lr.LambdaLR(o, noam), dict(features=features, warm_up=warm_up))
    for case, steps, total in [("plain", 10, 30), ("one_step", 1, 50), ("all_rise", 50, 5)]:
        make = lambda o: lr.SequentialLR(
            o, [lr.LinearLR(o, 1 / (steps + 1), 1.0, steps), lr.PolynomialLR(o, total, 2.0)], milestones=[steps])
        run(family, "WarmUp", case, make, dict(warm_up=steps, total_iters=total))
    for case, total, minimum in [("plain", 39, 0.0), ("minimum", 50, 0.01)]:
        make = lambda o: lr.CosineAnnealingLR(o, total, minimum)
        run(family, "Cosine", case, make, dict(T_max=total, eta_min=minimum))
    for case, first, multiplier, minimum in [("plain", 10, 1, 0.0), ("longer", 3, 2, 0.02), ("triple", 1, 3, 0.0)]:
        make = lambda o: lr.CosineAnnealingWarmRestarts(o, first, multiplier, minimum)
        run(family, "CosineRestarts", case, make, dict(T_0=first, T_mult=multiplier, eta_min=minimum))
    for case, config in [
        ("defaults", dict()),
        ("linear", dict(anneal_strategy="linear", pct_start=0.5, div_factor=10.0, final_div_factor=100.0)),
        ("three_phases", dict(three_phase=True, pct_start=0.4)),
        ("momentum", dict(base_momentum=0.3, max_momentum=0.9, pct_start=0.1)),
    ]:
        make = lambda o: lr.OneCycleLR(o, max_lr=LR, total_steps=40, **config)
        run(family, "OneCycle", case, make, dict(config, total_steps=40), momentum=True)
    for case, config in [
        ("defaults", dict(step_size_up=7)),
        ("triangular2", dict(step_size_up=4, step_size_down=6, mode="triangular2")),
        ("exp_range", dict(step_size_up=5, mode="exp_range", gamma=0.97)),
        ("no_momentum", dict(step_size_up=3, cycle_momentum=False)),
    ]:
        make = lambda o: lr.CyclicLR(o, base_lr=0.02, max_lr=LR, **config)
        run(family, "Cyclic", case, make, dict(config, base_lr=0.02), momentum=True)
    run(family, "Sequence", "warm", lambda o: lr.SequentialLR(
        o, [lr.ConstantLR(o, 0.1, 10), lr.ExponentialLR(o, 0.9)], milestones=[10]))
    run(family, "Chained", "two", lambda o: lr.ChainedScheduler([lr.ConstantLR(o, 0.1, 10), lr.ExponentialLR(o, 0.9)]))
