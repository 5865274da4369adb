"""Losses: PyTorch's, and those of others by their formulas."""

import math

import torch
from torch.nn import functional as F

from reference import FLOAT, Const, rand, randn, single

# What PyTorch has no loss for.


def sigmoid_focal(x, t, alpha=0.25, gamma=2.0, reduction="mean"):
    """torchvision.ops.sigmoid_focal_loss, by its source."""
    p = torch.sigmoid(x)
    ce = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    loss = ce * (1 - (p * t + (1 - p) * (1 - t))) ** gamma
    loss = loss * (alpha * t + (1 - alpha) * (1 - t)) if alpha >= 0 else loss
    return reduce(loss, reduction)


def softmax_focal(x, labels, gamma=2.0, weight=None, ignore_index=-100, reduction="mean"):
    log_p = F.nll_loss(F.log_softmax(x, 1), labels, reduction="none", ignore_index=ignore_index)
    weights = torch.ones(x.shape[1], dtype=x.dtype) if weight is None else weight
    kept = labels != ignore_index
    loss = (1 - torch.exp(-log_p)) ** gamma * log_p * weights[labels.clamp_min(0)] * kept
    return loss.sum() / kept.sum() if reduction == "mean" else reduce(loss, reduction)


def tversky(p, t, alpha=0.5, beta=0.5, smooth=1.0, reduction="mean"):
    p, t = p.flatten(1), t.flatten(1)
    hits, wrong, missed = (p * t).sum(1), (p * (1 - t)).sum(1), ((1 - p) * t).sum(1)
    return reduce(1 - (hits + smooth) / (hits + alpha * wrong + beta * missed + smooth), reduction)


def dice(p, t, smooth=1.0, reduction="mean"):
    p, t = p.flatten(1), t.flatten(1)
    return reduce(1 - (2 * (p * t).sum(1) + smooth) / (p.sum(1) + t.sum(1) + smooth), reduction)


def log_cosh(x, t, reduction="mean"):
    d = x - t
    return reduce(d.abs() + torch.log1p(torch.exp(-2 * d.abs())) - math.log(2), reduction)


def hinge(x, t, reduction="mean"):
    return reduce(F.relu(1 - x * t), reduction)


def squared_hinge(x, t, reduction="mean"):
    return reduce(F.relu(1 - x * t) ** 2, reduction)


def info_nce(a, b, temperature=0.07, symmetric=False, reduction="mean"):
    logits = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature
    own = torch.arange(len(a))
    loss = F.cross_entropy(logits, own, reduction="none")
    loss = (loss + F.cross_entropy(logits.T, own, reduction="none")) / 2 if symmetric else loss
    return reduce(loss, reduction)


def nt_xent(a, b, temperature=0.5, reduction="mean"):
    z, n = F.normalize(torch.cat([a, b]), dim=1), len(a)
    logits = (z @ z.T / temperature).masked_fill(torch.eye(2 * n, dtype=torch.bool), -math.inf)
    return F.cross_entropy(logits, (torch.arange(2 * n) + n) % (2 * n), reduction=reduction)


def reduce(loss, reduction):
    return {"none": lambda: loss, "mean": loss.mean, "sum": loss.sum}[reduction]()


def elements(family):
    """Of numbers and targets of one shape."""

    def signs(*shape):
        return torch.sign(rand(*shape)) + (rand(*shape) == 0)

    def bits(*shape):
        return (rand(*shape) > 0).to(FLOAT)

    def probs(*shape):
        return rand(*shape, low=0.05, high=0.95)

    def log_probs(*shape):
        return single(F.log_softmax(randn(*shape), -1))

    far = single(torch.tensor([[-1000, -100, -20, -1], [0, 20, 100, 1000]], dtype=FLOAT))
    zeros = torch.zeros(2, 4, dtype=FLOAT)
    for entry, function, inputs, targets, options, extreme in [
        ("Mse", F.mse_loss, randn, randn, [], (far, zeros)),
        ("L1", F.l1_loss, randn, randn, [], (far, zeros)),
        ("SmoothL1", F.smooth_l1_loss, randn, randn, [dict(beta=0.5), dict(beta=0.0)], (far, zeros)),
        ("Huber", F.huber_loss, randn, randn, [dict(delta=0.5)], (far, zeros)),
        ("LogCosh", log_cosh, randn, randn, [], (far, zeros)),
        ("Bce", F.binary_cross_entropy, probs, probs, [], (Const(bits(2, 4)), bits(2, 4))),
        ("BceWithLogits", F.binary_cross_entropy_with_logits, randn, probs, [], (far, bits(2, 4))),
        ("SigmoidFocal", sigmoid_focal, randn, bits, [dict(alpha=-1.0), dict(alpha=0.6, gamma=1.5)], None),
        ("MultiLabelSoftMargin", F.multilabel_soft_margin_loss, randn, bits, [], (far, bits(2, 4))),
        ("KlDiv", F.kl_div, log_probs, probs, [], (zeros, bits(2, 4))),
        ("PoissonNll", F.poisson_nll_loss, randn, lambda *shape: torch.floor(rand(*shape, low=0, high=6)),
         [dict(full=True)], None),
        ("Hinge", hinge, randn, signs, [], (far, signs(2, 4))),
        ("SquaredHinge", squared_hinge, randn, signs, [], (far, signs(2, 4))),
        ("HingeEmbedding", F.hinge_embedding_loss, randn, signs, [dict(margin=2.0)], (far, signs(2, 4))),
        ("SoftMargin", F.soft_margin_loss, randn, signs, [], None),
        ("Dice", dice, probs, bits, [dict(smooth=0.25)], None),
        ("Tversky", tversky, probs, bits, [dict(alpha=0.3, beta=0.7, smooth=0.5)], None),
    ]:
        def add(case, x, t, config):
            family.function(
                entry, case, lambda x: function(x, t, **config), x, config=config, args=dict(target=t)
            )

        for reduction in ["none", "mean", "sum"]:
            family.seed(entry, reduction)
            add(reduction, inputs(3, 4), targets(3, 4), dict(reduction=reduction))
        for i, option in enumerate(options):
            family.seed(entry, f"option_{i}")
            add(f"option_{i}", inputs(3, 4), targets(3, 4), dict(option, reduction="none"))
        family.seed(entry, "shapes")
        add("more_axes", inputs(2, 1, 3), targets(2, 1, 3), dict(reduction="mean"))
        add("size_1", inputs(1, 1), targets(1, 1), dict(reduction="mean"))
        add("empty_batch_sum", inputs(0, 3), targets(0, 3), dict(reduction="sum"))
        if entry not in ["Dice", "Tversky"]:  # reshapes of nothing are ambiguous in PyTorch
            add("empty_batch_none", inputs(0, 3), targets(0, 3), dict(reduction="none"))
        if extreme is not None:
            add("extreme", *extreme, dict(reduction="none"))

    family.seed("KlDiv", "batchmean")
    for case, config in [("batchmean", {}), ("log_target", dict(log_target=True))]:
        t = log_probs(3, 4) if config else probs(3, 4)
        family.function("KlDiv", case, lambda x: F.kl_div(x, t, reduction="batchmean", **config), log_probs(3, 4),
                        config=dict(config, reduction="batchmean"), args=dict(target=t))
    family.seed("PoissonNll", "rates")
    t = torch.floor(rand(3, 4, low=0, high=6))
    config = dict(log_input=False, full=True, eps=1e-3, reduction="none")
    family.function("PoissonNll", "rates", lambda x: F.poisson_nll_loss(x, t, **config), probs(3, 4), config=config,
                    args=dict(target=t))
    for entry, function, inputs in [
        ("Bce", F.binary_cross_entropy, probs),
        ("BceWithLogits", F.binary_cross_entropy_with_logits, randn),
        ("MultiLabelSoftMargin", F.multilabel_soft_margin_loss, randn),
    ]:
        family.seed(entry, "weights")
        t, weight, pos_weight = bits(3, 4), probs(4), rand(4, low=0.5, high=3)
        family.function(entry, "weight", lambda x: function(x, t, weight=weight), inputs(3, 4),
                        config=dict(reduction="mean"), args=dict(target=t, weight=weight))
        if entry == "BceWithLogits":
            family.function(entry, "pos_weight", lambda x: function(x, t, weight=weight, pos_weight=pos_weight),
                            inputs(3, 4), config=dict(reduction="mean"),
                            args=dict(target=t, weight=weight, pos_weight=pos_weight))

    for case, var, config in [
        ("each", (3, 4), {}),
        ("sample", (3, 1), dict(full=True)),
        ("short", (3,), dict(reduction="none")),
        ("small", (3, 4), dict(eps=0.3, reduction="sum")),
    ]:
        family.seed("GaussianNll", case)
        t = randn(3, 4)
        family.function("GaussianNll", case, lambda x, var: F.gaussian_nll_loss(x, t, var, **config), randn(3, 4),
                        rand(*var, low=0.05, high=2), config=config, args=dict(target=t))


def classes(family):
    """Of labels."""
    weight = single(torch.tensor([0.5, 2.0, 1.0, 0.0], dtype=FLOAT))
    labels = torch.tensor([3, 0, 1, 2, 1])
    some = torch.tensor([3, -100, 1, 2, -100])
    focal = dict(SoftmaxFocal=softmax_focal, CrossEntropy=F.cross_entropy, Nll=F.nll_loss)
    for entry, function in focal.items():
        inputs = (lambda *shape: single(F.log_softmax(randn(*shape), 1))) if entry == "Nll" else randn

        def add(case, x, t, config, weight=None):
            kwargs = dict(config, **({} if weight is None else dict(weight=weight)))
            family.function(entry, case, lambda x: function(x, t, **kwargs), x, config=config,
                            args=dict(target=t, **({} if weight is None else dict(weight=weight))))

        for reduction in ["none", "mean", "sum"]:
            config = dict(reduction=reduction)
            family.seed(entry, reduction)
            add(f"{reduction}", inputs(5, 4), labels, config)
            add(f"{reduction}_weight", inputs(5, 4), labels, config, weight)
            add(f"{reduction}_ignored", inputs(5, 4), some, config, weight)
            add(f"{reduction}_ignored_class", inputs(5, 4), labels, dict(config, ignore_index=1))
        add("all_ignored", inputs(2, 4), torch.tensor([-100, -100]), dict(reduction="sum"))
        add("empty_batch", inputs(0, 4), labels[:0], dict(reduction="sum"))
        add("size_1", inputs(1, 1), torch.tensor([0]), {})
        add("images", inputs(2, 4, 3, 1), torch.tensor([[[0], [3], [-100]], [[1], [2], [2]]]), {}, weight)
        add("images_none", inputs(2, 4, 3), torch.tensor([[0, 3, 1], [1, 2, 2]]), dict(reduction="none"))
        if entry == "SoftmaxFocal":
            add("gamma", inputs(5, 4), labels, dict(gamma=0.5, reduction="none"), weight)
        if entry != "CrossEntropy":
            continue
        for reduction in ["none", "mean", "sum"]:
            config = dict(label_smoothing=0.2, reduction=reduction)
            add(f"smooth_{reduction}", inputs(5, 4), some, config)
            add(f"smooth_weight_{reduction}", inputs(5, 4), some, config, weight)
            probs = single(torch.softmax(randn(5, 4), 1))
            add(f"probs_{reduction}", inputs(5, 4), probs, dict(reduction=reduction))
            add(f"probs_smooth_weight_{reduction}", inputs(5, 4), probs, config, weight)
        add("probs_images", inputs(2, 4, 3), single(torch.softmax(randn(2, 4, 3), 1)), {}, weight)
        far = single(torch.tensor([[1000, -1000, 0, 0], [0, 0, 0, 1e4], [-1e4, -1e4, -1e4, -1e4]], dtype=FLOAT))
        add("extreme", far, torch.tensor([1, 3, 2]), dict(reduction="none"))

    for case, config, weighted in [
        ("mean", {}, False),
        ("squares", dict(p=2, margin=0.5), False),
        ("weight", dict(p=2, reduction="none"), True),
        ("weight_sum", dict(reduction="sum"), True),
    ]:
        family.seed("MultiMargin", case)
        kwargs = dict(config, weight=weight) if weighted else config
        family.function("MultiMargin", case, lambda x: F.multi_margin_loss(x, labels, **kwargs), randn(5, 4),
                        config=config, args=dict(target=labels, **(dict(weight=weight) if weighted else {})))
    lists = torch.tensor([[3, 0, -1, 1], [-1, 0, 1, 2], [0, 1, 2, 3], [2, 2, -1, -1]])
    for reduction in ["none", "mean", "sum"]:
        family.seed("MultiLabelMargin", reduction)
        config = dict(reduction=reduction)
        family.function("MultiLabelMargin", reduction, lambda x: F.multilabel_margin_loss(x, lists, **config),
                        randn(4, 4), config=config, args=dict(target=lists))
    family.function("MultiLabelMargin", "one_sample", lambda x: F.multilabel_margin_loss(x, lists[0]), randn(4),
                    args=dict(target=lists[0]))


def vectors(family):
    """Of pairs and triplets."""
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=FLOAT)
    for reduction in ["none", "mean", "sum"]:
        config = dict(margin=0.3, reduction=reduction)
        family.seed("pairs", reduction)
        family.function("MarginRanking", reduction, lambda a, b: F.margin_ranking_loss(a, b, signs, **config), randn(4),
                        randn(4), config=config, args=dict(target=signs))
        family.function("CosineEmbedding", reduction, lambda a, b: F.cosine_embedding_loss(a, b, signs, **config),
                        randn(4, 3), randn(4, 3), config=config, args=dict(target=signs))
    family.function("CosineEmbedding", "one_sample", lambda a, b: F.cosine_embedding_loss(a, b, signs[0]), randn(3),
                    randn(3), args=dict(target=signs[0]))
    for case, config in [
        ("default", {}),
        ("none", dict(margin=0.5, reduction="none")),
        ("swap", dict(swap=True, reduction="sum")),
        ("sum_norm", dict(p=1.0, eps=1e-3)),
        ("cubes", dict(p=3.0, margin=2.0, swap=True)),
    ]:
        family.seed("TripletMargin", case)
        family.function("TripletMargin", case, lambda a, p, n: F.triplet_margin_loss(a, p, n, **config), randn(4, 3),
                        randn(4, 3), randn(4, 3), config=config)
    for case, config in [("default", {}), ("swap", dict(margin=0.5, swap=True, reduction="none"))]:
        family.seed("triplet_margin_with_distance", case)

        def distance(a, b):
            return 1 - F.cosine_similarity(a, b)

        family.function(
            "triplet_margin_with_distance", case,
            lambda a, p, n: F.triplet_margin_with_distance_loss(a, p, n, distance_function=distance, **config),
            randn(4, 3), randn(4, 3), randn(4, 3), config=config)
    for entry, function, configs in [
        ("InfoNce", info_nce, [{}, dict(temperature=0.5, symmetric=True, reduction="none")]),
        ("NtXent", nt_xent, [{}, dict(temperature=0.1, reduction="none")]),
    ]:
        for i, config in enumerate(configs):
            family.seed(entry, str(i))
            family.function(entry, f"option_{i}", lambda a, b: function(a, b, **config), randn(4, 3), randn(4, 3),
                            config=config)


def ctc(family):
    """Through log_softmax: without it PyTorch's gradient is not the derivative."""
    targets = torch.tensor([[1, 2, 2, 3], [3, 1, 0, 0], [2, 2, 2, 0], [1, 0, 0, 0]])
    in_a_row = torch.tensor([1, 2, 2, 3, 3, 1, 2, 2, 2])
    for case, labels, inputs, lengths, config in [
        ("mean", targets, [7, 5, 6, 1], [4, 2, 3, 0], {}),
        ("none", targets, [7, 7, 7, 7], [4, 2, 3, 1], dict(reduction="none")),
        ("sum", targets, [7, 5, 6, 3], [4, 2, 3, 1], dict(reduction="sum")),
        ("in_a_row", in_a_row, [7, 5, 6, 2], [4, 2, 3, 0], {}),
        ("impossible", targets, [7, 5, 4, 0], [4, 2, 3, 1], dict(zero_infinity=True)),
        ("blank_4", targets, [7, 5, 6, 3], [4, 1, 3, 1], dict(blank=4)),
    ]:
        family.seed("Ctc", case)
        if config.get("blank") == 4:
            labels = labels % 4
        shown = dict(config, input_lengths=inputs, target_lengths=lengths)
        family.function("Ctc", case, lambda x: F.ctc_loss(F.log_softmax(x, -1), labels, inputs, lengths, **config),
                        randn(7, 4, 5), config=shown, args=dict(target=labels))
    family.seed("Ctc", "alone")
    family.function("Ctc", "alone", lambda x: F.ctc_loss(F.log_softmax(x, -1), targets[0], (6,), (4,)), randn(7, 5),
                    config=dict(input_lengths=[6], target_lengths=[4]), args=dict(target=targets[0]))
    family.seed("Ctc", "no_labels")
    family.function("Ctc", "no_labels", lambda x: F.ctc_loss(F.log_softmax(x, -1), targets[:, :0], (7, 5, 6, 1), (0,) * 4),
                    randn(7, 4, 5), config=dict(input_lengths=[7, 5, 6, 1], target_lengths=[0] * 4),
                    args=dict(target=targets[:, :0]))
    family.seed("Ctc", "long")
    long = torch.randint(1, 6, (2, 20))
    family.function("Ctc", "long", lambda x: F.ctc_loss(F.log_softmax(x, -1), long, (80, 61), (20, 13)),
                    randn(80, 2, 6), config=dict(input_lengths=[80, 61], target_lengths=[20, 13]),
                    args=dict(target=long))


def cases(family):
    elements(family)
    classes(family)
    vectors(family)
    ctc(family)
