"""Dropout and its relatives, where nothing is random: in evaluation, and with probabilities 0 and 1."""

from torch import nn

from reference import rand

LAYERS = {
    "Dropout": (nn.Dropout, (2, 3)),
    "Dropout1d": (nn.Dropout1d, (2, 3, 2)),
    "Dropout2d": (nn.Dropout2d, (2, 3, 1, 2)),
    "Dropout3d": (nn.Dropout3d, (2, 3, 1, 2, 2)),
    "AlphaDropout": (nn.AlphaDropout, (2, 3)),
    "FeatureAlphaDropout": (nn.FeatureAlphaDropout, (2, 3, 2)),
}


def cases(family):
    for entry, (make, shape) in LAYERS.items():
        for case, p, training, shape in [
            ("evaluation", 0.4, False, shape),
            ("nothing_dropped", 0.0, True, shape),
            ("all_dropped", 1.0, True, shape),
            ("empty_batch", 0.4, True, (0,) + shape[1:]),
        ]:
            family.seed(entry, case)
            family.layer(entry, case, make(p), rand(*shape), config=dict(p=p), training=training)
