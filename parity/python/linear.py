"""Linear."""

from torch import nn

from reference import rand


def cases(family):
    for case, shape, config in [
        ("plain", (4, 3), dict(in_features=3, out_features=5)),
        ("no_bias", (4, 3), dict(in_features=3, out_features=5, bias=False)),
        ("more_axes", (2, 1, 4, 3), dict(in_features=3, out_features=2)),
        ("one_vector", (3,), dict(in_features=3, out_features=2)),
        ("size_1", (1, 1), dict(in_features=1, out_features=1)),
        ("empty_batch", (0, 3), dict(in_features=3, out_features=2)),
    ]:
        family.seed("Linear", case)
        family.layer("Linear", case, nn.Linear(**config), rand(*shape), config=config)
