"""Embeddings, Bilinear and Identity."""

import torch
from torch import nn

from reference import rand, randn


def cases(family):
    ids = torch.tensor([[4, 0, 2, 2], [1, 0, 0, 4]])
    for case, ids_, config, training, steps in [
        ("plain", ids, {}, False, 1),
        ("one_id", torch.tensor(3), {}, False, 1),
        ("padding", ids, dict(padding_idx=0), False, 1),
        ("max_norm", ids, dict(max_norm=1.0), True, 2),
        ("max_norm_evaluation", ids, dict(max_norm=1.0), False, 1),
        ("norm_type", ids, dict(max_norm=1.5, norm_type=1.0, padding_idx=4), True, 3),
        ("largest", ids, dict(max_norm=0.7, norm_type=3.5), False, 1),
        ("scale_grad_by_freq", ids, dict(scale_grad_by_freq=True, padding_idx=2), False, 1),
        ("empty_batch", torch.zeros(0, 3, dtype=torch.long), {}, False, 1),
    ]:
        family.seed("Embedding", case)
        config = dict(num_embeddings=5, embedding_dim=3, **config)
        family.layer("Embedding", case, nn.Embedding(**config), ids_, config=config, training=training, steps=steps)
    family.seed("Embedding", "size_1")
    config = dict(num_embeddings=1, embedding_dim=1)
    family.layer("Embedding", "size_1", nn.Embedding(**config), torch.zeros(2, 1, dtype=torch.long), config=config)

    row, offsets = torch.tensor([4, 0, 2, 2, 1, 3, 0]), torch.tensor([0, 2, 2, 5])
    for case, ids_, starts, config in [
        ("bags", ids, None, {}),
        ("offsets", row, offsets, {}),
        ("include_last_offset", row, torch.tensor([0, 3, 3, 7]), dict(include_last_offset=True)),
        ("padding", ids, None, dict(padding_idx=0)),
        ("padding_offsets", row, offsets, dict(padding_idx=2)),
        ("padding_alone", torch.tensor([[1, 1], [1, 0]]), None, dict(padding_idx=1)),
        ("max_norm", ids, None, dict(max_norm=1.0)),
        ("scale_grad_by_freq", row, offsets, dict(scale_grad_by_freq=True, padding_idx=1)),
        ("empty_bags", row[:0], torch.tensor([0, 0]), {}),
        ("empty_batch", torch.zeros(0, 3, dtype=torch.long), None, {}),
        ("one_id", torch.tensor([[2]]), None, {}),
    ]:
        for mode in ("sum", "mean", "max"):
            if mode == "max" and "scale_grad_by_freq" in config:
                continue
            name = f"{mode}_{case}"
            family.seed("EmbeddingBag", name)
            options = dict(num_embeddings=5, embedding_dim=3, mode=mode, **config)
            args = {} if starts is None else dict(offsets=starts)
            call = lambda module, ids, starts=starts: module(ids, starts)
            family.layer("EmbeddingBag", name, nn.EmbeddingBag(**options), ids_, config=options, args=args, call=call)
    for case, ids_, starts, config in [
        ("weighted", ids, None, {}),
        ("weighted_offsets", row, offsets, {}),
        ("weighted_padding", row, offsets, dict(padding_idx=2)),
    ]:
        family.seed("EmbeddingBag", case)
        options = dict(num_embeddings=5, embedding_dim=3, mode="sum", **config)
        args = {} if starts is None else dict(offsets=starts)
        call = lambda module, ids, weights, starts=starts: module(ids, starts, per_sample_weights=weights)
        weights = randn(*ids_.shape)
        family.layer("EmbeddingBag", case, nn.EmbeddingBag(**options), ids_, weights, config=options, args=args, call=call)

    for case, outer, config in [
        ("plain", (4,), dict(in1_features=3, in2_features=2, out_features=5)),
        ("more_axes", (2, 1, 3), dict(in1_features=2, in2_features=4, out_features=3)),
        ("no_bias", (2,), dict(in1_features=2, in2_features=2, out_features=1, bias=False)),
        ("size_1", (1,), dict(in1_features=1, in2_features=1, out_features=1)),
        ("empty_batch", (0,), dict(in1_features=3, in2_features=2, out_features=5)),
    ]:
        family.seed("Bilinear", case)
        x1, x2 = rand(*outer, config["in1_features"]), rand(*outer, config["in2_features"])
        family.layer("Bilinear", case, nn.Bilinear(**config), x1, x2, config=config)

    for case, shape in [("plain", (2, 3)), ("size_1", (1, 1)), ("empty_batch", (0, 2))]:
        family.seed("Identity", case)
        family.layer("Identity", case, nn.Identity(), rand(*shape))
