"""Normalization layers."""

from torch import nn

from reference import rand, randn

SHAPES = {1: (3, 4, 5), 2: (2, 4, 3, 2), 3: (2, 4, 2, 1, 3)}


def spread(module):
    """Parameters and running statistics other than ones and zeros."""
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point():
            value.data.copy_(rand(*value.shape, low=0.5, high=1.5) if "weight" in name or "var" in name else rand(*value.shape))
    return module


def cases(family):
    def add(entry, case, make, shape, scale=1.0, shift=0.0, training=False, steps=1, **config):
        family.seed(entry, case)
        x = (randn(*shape) * scale + shift).float().double()
        options = {name: value for name, value in config.items() if name != "cumulative"}
        if config.get("cumulative"):
            options["momentum"] = None
        family.layer(entry, case, spread(make(**options)), x, config=config, training=training, steps=steps)

    for d, shape in SHAPES.items():
        entry, make = f"BatchNorm{d}d", getattr(nn, f"BatchNorm{d}d")
        one = (1,) + shape[1:]
        add(entry, "evaluation", make, shape, num_features=4)
        add(entry, "training", make, shape, training=True, num_features=4)
        add(entry, "two_steps", make, shape, training=True, steps=2, num_features=4, momentum=0.3, eps=0.01)
        add(entry, "cumulative", make, shape, training=True, steps=3, num_features=4, cumulative=True)
        add(entry, "no_affine", make, shape, training=True, steps=2, num_features=4, affine=False)
        add(entry, "no_tracking", make, shape, num_features=4, track_running_stats=False)
        add(entry, "no_tracking_training", make, shape, training=True, num_features=4, affine=False, track_running_stats=False)
        add(entry, "batch_of_1", make, one, training=True, num_features=4)
        add(entry, "size_1", make, (3, 1) + (1,) * d, training=True, num_features=1)
        add(entry, "empty_batch", make, (0,) + shape[1:], training=True, num_features=4)
        add(entry, "empty_evaluation", make, (0,) + shape[1:], num_features=4)

        entry, make = f"InstanceNorm{d}d", getattr(nn, f"InstanceNorm{d}d")
        add(entry, "plain", make, shape, num_features=4)
        add(entry, "affine", make, shape, training=True, num_features=4, affine=True, eps=0.01)
        add(entry, "tracked", make, shape, num_features=4, affine=True, track_running_stats=True)
        add(entry, "tracked_training", make, shape, training=True, num_features=4, track_running_stats=True)
        add(entry, "two_steps", make, shape, training=True, steps=2, num_features=4, affine=True, track_running_stats=True,
            momentum=0.3)
        add(entry, "batch_of_1", make, one, training=True, num_features=4, affine=True, track_running_stats=True)
        add(entry, "one_channel", make, (2, 1) + shape[2:], num_features=1, affine=True)
        add(entry, "empty_batch", make, (0,) + shape[1:], num_features=4)  # with affine=True PyTorch fails

    add("BatchNorm1d", "vectors", nn.BatchNorm1d, (6, 3), training=True, steps=2, num_features=3)
    add("BatchNorm1d", "vectors_evaluation", nn.BatchNorm1d, (1, 3), num_features=3)
    add("BatchNorm2d", "far_from_zero", nn.BatchNorm2d, (4, 2, 5, 5), 0.5, 20.0, training=True, num_features=2)

    for case, shape, config in [
        ("plain", (2, 4, 3, 2), dict(num_groups=2, num_channels=4)),
        ("one_group", (2, 4, 3), dict(num_groups=1, num_channels=4)),
        ("single_channels", (2, 4, 3), dict(num_groups=4, num_channels=4, eps=0.01)),
        ("vectors", (5, 6), dict(num_groups=2, num_channels=6)),
        ("no_affine", (2, 6, 2, 1, 2), dict(num_groups=3, num_channels=6, affine=False)),
        ("batch_of_1", (1, 6, 4), dict(num_groups=3, num_channels=6)),
        ("size_1", (2, 1, 1, 3), dict(num_groups=1, num_channels=1)),
        ("empty_batch", (0, 4, 3), dict(num_groups=2, num_channels=4)),
    ]:
        add("GroupNorm", case, nn.GroupNorm, shape, **config)

    for case, shape, config in [
        ("rows", (4, 5), dict(normalized_shape=[5])),
        ("vector", (5,), dict(normalized_shape=[5])),
        ("wide", (3, 2, 37), dict(normalized_shape=[37], eps=0.01)),
        ("several_axes", (2, 3, 4, 5), dict(normalized_shape=[4, 5])),
        ("all_axes", (3, 4), dict(normalized_shape=[3, 4])),
        ("no_affine", (2, 3, 4), dict(normalized_shape=[3, 4], elementwise_affine=False)),
        ("size_1", (1, 3, 1, 4), dict(normalized_shape=[1, 4])),
        ("empty_batch", (0, 3, 4), dict(normalized_shape=[3, 4])),
    ]:
        add("LayerNorm", case, nn.LayerNorm, shape, **config)
        add("RmsNorm", case, nn.RMSNorm, shape, **config)
    add("LayerNorm", "no_bias", nn.LayerNorm, (2, 3, 4), normalized_shape=[3, 4], bias=False)

    for case, shape, config in [
        ("plain", (2, 7, 3, 2), dict(size=5)),
        ("strong", (2, 6, 4), dict(size=3, alpha=0.7, beta=0.6, k=2.0)),
        ("even", (2, 5, 2), dict(size=4, alpha=0.5)),
        ("one_channel", (2, 3, 2), dict(size=1, alpha=0.5)),
        ("wider_than_channels", (1, 2, 1, 1, 2), dict(size=7, alpha=0.5)),
        ("empty_batch", (0, 3, 4), dict(size=3)),
    ]:
        add("LocalResponseNorm", case, nn.LocalResponseNorm, shape, 2.0, **config)
