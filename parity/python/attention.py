"""Attention, transformers, and positions by rotation."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from reference import randn, single

HIDDEN = float("-inf")


def hidden(*shape, share=0.3):
    """A mask of booleans, true where hidden; the first key is never hidden."""
    mask = torch.rand(*shape) < share
    mask[..., 0] = False
    return mask


def bias(*shape):
    """A mask to be added, some of it −∞."""
    return randn(*shape).masked_fill(hidden(*shape), HIDDEN)


def cases(family):
    products(family)
    multihead(family)
    layers(family)
    stacks(family)
    others(family)


def products(family):
    name = "scaled_dot_product_attention"
    for case, shapes, config in [
        ("plain", [(2, 3, 5, 4)] * 3, {}),
        ("causal", [(2, 3, 5, 4)] * 3, dict(is_causal=True)),
        ("lengths_differ", [(2, 2, 3, 4), (2, 2, 6, 4), (2, 2, 6, 5)], {}),
        ("causal_longer_keys", [(2, 2, 3, 4), (2, 2, 6, 4), (2, 2, 6, 4)], dict(is_causal=True)),
        ("causal_longer_queries", [(2, 2, 6, 4), (2, 2, 3, 4), (2, 2, 3, 4)], dict(is_causal=True)),
        ("scale", [(1, 2, 4, 3)] * 3, dict(scale=0.3)),
        ("grouped_heads", [(2, 6, 4, 3), (2, 2, 5, 3), (2, 2, 5, 3)], dict(enable_gqa=True)),
        ("no_heads", [(4, 3), (5, 3), (5, 2)], {}),
        ("more_axes", [(2, 1, 2, 3, 4), (2, 1, 2, 5, 4), (2, 1, 2, 5, 4)], {}),
        ("several_blocks", [(1, 1, 40, 8), (1, 1, 150, 8), (1, 1, 150, 8)], {}),
        ("size_1", [(1, 1, 1, 1)] * 3, {}),
        ("empty_batch", [(0, 2, 3, 4)] * 3, {}),
        ("no_keys", [(1, 2, 3, 4), (1, 2, 0, 4), (1, 2, 0, 4)], {}),
    ]:
        family.seed(name, case)
        inputs = [randn(*shape) for shape in shapes]
        family.function(name, case, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **config), *inputs, config=config)

    shapes = [(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 5)]
    nothing = ~hidden(4, 6)
    nothing[1] = False
    for case, mask in [
        ("boolean_mask", lambda: ~hidden(2, 3, 4, 6)),
        ("boolean_mask_of_all", lambda: ~hidden(4, 6)),
        ("boolean_mask_of_keys", lambda: ~hidden(2, 1, 1, 6)),
        ("query_without_keys", lambda: nothing),
        ("float_mask", lambda: bias(2, 1, 4, 6)),
        ("float_mask_of_heads", lambda: bias(3, 4, 6)),
    ]:
        family.seed(name, case)
        inputs, mask = [randn(*shape) for shape in shapes], mask()
        call = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask)
        family.function(name, case, call, *inputs, args=dict(mask=mask))
    family.seed(name, "learned_mask")
    inputs = [randn(*shape) for shape in shapes] + [randn(3, 4, 6)]
    family.function(name, "learned_mask", lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask), *inputs)


def spread(module):
    """Biases and norms that are not zeros and ones."""
    with torch.no_grad():
        for param in module.parameters():
            if param.dim() == 1:
                param.add_(single(torch.rand(param.shape, dtype=torch.float64) - 0.5).to(param.dtype))
    return module


def multihead(family):
    name = "MultiheadAttention"
    n, t_q, t_k, d, h = 2, 3, 5, 8, 2
    cross = [(n, t_q, d), (n, t_k, d), (n, t_k, d)]
    for case, shapes, config, masks, options in [
        ("self", [(n, t_q, d)], {}, {}, {}),
        ("self_training", [(n, t_q, d)], {}, {}, dict(training=True)),
        ("cross", cross, {}, {}, {}),
        ("no_bias", cross, dict(bias=False), {}, {}),
        ("self_no_bias", [(n, t_q, d)], dict(bias=False), {}, {}),
        ("kdim_vdim", [(n, t_q, d), (n, t_k, 3), (n, t_k, 5)], dict(kdim=3, vdim=5), {}, {}),
        ("kdim", [(n, t_q, d), (n, t_k, 3), (n, t_k, d)], dict(kdim=3, bias=False), {}, {}),
        ("sequence_first", [(t_q, n, d), (t_k, n, d), (t_k, n, d)], dict(batch_first=False), {}, {}),
        ("unbatched", [(t_q, d), (t_k, d), (t_k, d)], {}, {}, {}),
        ("size_1", [(1, 1, h)], dict(embed_dim=h), {}, {}),
        ("empty_batch", [(0, t_q, d)], {}, {}, {}),
        ("boolean_mask", cross, {}, dict(attn_mask=lambda: hidden(t_q, t_k)), {}),
        ("float_mask", cross, {}, dict(attn_mask=lambda: bias(t_q, t_k)), {}),
        ("mask_of_heads", cross, {}, dict(attn_mask=lambda: hidden(n * h, t_q, t_k)), {}),
        ("float_mask_of_heads", [(n, t_k, d)], {}, dict(attn_mask=lambda: bias(n * h, t_k, t_k)), {}),
        ("padding", cross, {}, dict(key_padding_mask=lambda: hidden(n, t_k)), {}),
        ("padding_unbatched", [(t_q, d), (t_k, d), (t_k, d)], {}, dict(key_padding_mask=lambda: hidden(t_k)), {}),
        ("all_padding", cross, {}, dict(key_padding_mask=lambda: torch.ones(n, t_k, dtype=torch.bool)), {}),
        ("self_padding", [(n, t_k, d)], {}, dict(key_padding_mask=lambda: hidden(n, t_k)), {}),
        ("both_masks", cross, {}, dict(attn_mask=lambda: hidden(t_q, t_k), key_padding_mask=lambda: hidden(n, t_k)), {}),
        ("both_kinds", cross, {}, dict(attn_mask=lambda: bias(t_q, t_k), key_padding_mask=lambda: bias(n, t_k)), {}),
        ("causal", [(n, t_k, d)], {}, {}, dict(is_causal=True)),
        ("causal_padding", [(n, t_k, d)], {}, dict(key_padding_mask=lambda: hidden(n, t_k)), dict(is_causal=True)),
        ("bias_kv", cross, dict(add_bias_kv=True), {}, {}),
        ("zero_attn", cross, dict(add_zero_attn=True), {}, {}),
        (
            "extra_keys_and_masks",
            [(n, t_k, d)],
            dict(add_bias_kv=True, add_zero_attn=True),
            dict(attn_mask=lambda: hidden(t_k, t_k), key_padding_mask=lambda: hidden(n, t_k)),
            {},
        ),
        (
            "extra_keys_and_float_mask",
            [(n, t_k, d)],
            dict(add_bias_kv=True, add_zero_attn=True),
            dict(attn_mask=lambda: bias(t_k, t_k)),
            {},
        ),
        ("extra_keys_causal", [(n, t_k, d)], dict(add_bias_kv=True), {}, dict(is_causal=True)),
        ("weights", cross, {}, {}, dict(need_weights=True)),
        ("weights_of_heads", cross, {}, dict(attn_mask=lambda: hidden(t_q, t_k)), dict(need_weights=True, average=False)),
        ("weights_unbatched", [(t_q, d), (t_k, d), (t_k, d)], {}, {}, dict(need_weights=True)),
        (
            "weights_of_extra_keys",
            cross,
            dict(add_bias_kv=True, add_zero_attn=True),
            dict(key_padding_mask=lambda: hidden(n, t_k)),
            dict(need_weights=True),
        ),
    ]:
        family.seed(name, case)
        config = dict(dict(embed_dim=d, num_heads=h, batch_first=True), **config)
        inputs = [randn(*shape) for shape in shapes]
        masks = {key: make() for key, make in masks.items()}
        given = dict(masks)
        options = dict(options)
        training, causal = options.pop("training", False), options.get("is_causal", False)
        weights, average = options.get("need_weights", False), options.get("average", True)
        if causal:
            t = shapes[0][1]
            given["attn_mask"] = torch.ones(t, t, dtype=torch.bool).triu(1)

        def call(module, *x):
            q, k, v = x if len(x) == 3 else (x[0],) * 3
            y, found = module(q, k, v, need_weights=weights, average_attn_weights=average, **given)
            return (y, found) if weights else y

        module = spread(nn.MultiheadAttention(**config))
        config = dict(config, **options)
        family.layer(name, case, module, *inputs, config=config, args=masks, call=call, training=training)


D = 6
SIZES = dict(d_model=D, nhead=2, dim_feedforward=6, dropout=0.0, batch_first=True)
VARIANTS = [
    ("post_norm", {}),
    ("pre_norm", dict(norm_first=True)),
    ("gelu", dict(activation="gelu", norm_first=True, layer_norm_eps=1e-3)),
    ("no_bias", dict(bias=False)),
    ("sequence_first", dict(batch_first=False)),
]


TRAINED = ("post_norm", "pre_norm")


def final_norm(sizes):
    return nn.LayerNorm(D, eps=sizes.get("layer_norm_eps", 1e-5), bias=sizes.get("bias", True))


def layers(family):
    for variant, changes in VARIANTS:
        config = dict(SIZES, **changes)
        shape = (lambda n, t: (n, t, D)) if config["batch_first"] else (lambda n, t: (t, n, D))
        for training in (False, True) if variant in TRAINED else (False,):
            case = variant + ("_training" if training else "")
            family.seed("TransformerEncoderLayer", case)
            module = spread(nn.TransformerEncoderLayer(**config))
            args = dict(src_mask=hidden(4, 4), src_key_padding_mask=hidden(2, 4))
            call = lambda module, x: module(x, **args)
            family.layer(
                "TransformerEncoderLayer", case, module, randn(*shape(2, 4)), config=config, args=args, call=call, training=training
            )
            family.seed("TransformerDecoderLayer", case)
            module = spread(nn.TransformerDecoderLayer(**config))
            args = dict(tgt_mask=bias(3, 3), memory_mask=hidden(3, 4), memory_key_padding_mask=hidden(2, 4))
            args = dict(args, tgt_key_padding_mask=as_bias(hidden(2, 3)))
            call = lambda module, tgt, memory: module(tgt, memory, **{key: like(mask, tgt) for key, mask in args.items()})
            inputs = [randn(*shape(2, 3)), randn(*shape(2, 4))]
            family.layer(
                "TransformerDecoderLayer", case, module, *inputs, config=config, args=args, call=call, training=training
            )
    for name, module, shapes in [
        ("TransformerEncoderLayer", nn.TransformerEncoderLayer, [(3, D)]),
        ("TransformerDecoderLayer", nn.TransformerDecoderLayer, [(3, D), (4, D)]),
    ]:
        for case, batch in [("unbatched", ()), ("empty_batch", (0,))]:
            family.seed(name, case)
            family.layer(name, case, spread(module(**SIZES)), *[randn(*batch, *shape) for shape in shapes], config=SIZES)


def as_bias(mask):
    """Beside a mask of floats PyTorch wants no booleans."""
    return torch.zeros(mask.shape).masked_fill(mask, HIDDEN)


def like(mask, x):
    """A mask to be added in the data's type."""
    return mask.to(x.dtype) if mask.is_floating_point() else mask


def stacks(family):
    causal = nn.Transformer.generate_square_subsequent_mask
    for variant, changes in VARIANTS:
        sizes = dict(SIZES, **changes)
        first = sizes["batch_first"]
        shape = (lambda n, t: (n, t, D)) if first else (lambda n, t: (t, n, D))
        for final in (False, True):
            case = variant + ("_norm" if final else "")
            config = dict(sizes, num_layers=2, final_norm=final)
            norm = lambda: final_norm(sizes) if final else None
            name = "TransformerEncoder"
            family.seed(name, case)
            module = nn.TransformerEncoder(nn.TransformerEncoderLayer(**sizes), 2, norm(), enable_nested_tensor=False)
            padding = as_bias(hidden(2, 4))
            args = dict(src_key_padding_mask=padding)
            call = lambda module, x: module(x, like(causal(4), x), like(padding, x), is_causal=True)
            family.layer(name, case, spread(module), randn(*shape(2, 4)), config=config, args=args, call=call)

            name = "TransformerDecoder"
            family.seed(name, case)
            module = nn.TransformerDecoder(nn.TransformerDecoderLayer(**sizes), 2, norm())
            call = lambda module, tgt, memory: module(tgt, memory, tgt_mask=like(causal(3), tgt), tgt_is_causal=True)
            inputs = [randn(*shape(2, 3)), randn(*shape(2, 4))]
            family.layer(name, case, spread(module), *inputs, config=config, call=call)

        name = "Transformer"
        config = dict(sizes, num_encoder_layers=2, num_decoder_layers=1)
        for training in (False, True) if variant in TRAINED else (False,):
            case = variant + ("_training" if training else "")
            family.seed(name, case)
            module = nn.Transformer(**config)
            args = dict(src_mask=hidden(4, 4), memory_mask=hidden(3, 4))
            call = lambda module, src, tgt: module(src, tgt, tgt_mask=causal(3) == HIDDEN, tgt_is_causal=True, **args)
            inputs = [randn(*shape(2, 4)), randn(*shape(2, 3))]
            family.layer(name, case, spread(module), *inputs, config=config, args=args, call=call, training=training)


def slopes(heads):
    """Of Press, Smith & Lewis (2022): a geometric sequence for a power of 2, else a mixture of two."""
    power = 2 ** math.floor(math.log2(heads))
    start = 2 ** (-8 / power)
    some = [start ** (i + 1) for i in range(power)]
    return some if power == heads else some + slopes(2 * power)[::2][: heads - power]


def others(family):
    for t in (0, 1, 5):
        mask = nn.Transformer.generate_square_subsequent_mask(t, dtype=torch.float64)
        family.values("causal_mask", f"t_{t}", config=dict(t=t), out_0=mask)

    # The formula of Vaswani et al. (2017), §3.5.
    for case, shape, first, max_len in [
        ("plain", (2, 5, 6), 0, 5),
        ("odd", (2, 4, 5), 0, 7),
        ("later", (1, 3, 2, 4), 40, 60),
        ("size_1", (1, 1), 0, 1),
        ("empty_batch", (0, 3, 4), 0, 3),
    ]:
        t, d = shape[-2:]

        def add(x):
            angle = [[(first + t) / 10000 ** (2 * (i // 2) / d) for i in range(d)] for t in range(t)]
            rows = [[math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(row)] for row in angle]
            return x + torch.tensor(rows, dtype=torch.float64)

        family.seed("SinusoidalPositions", case)
        family.function("SinusoidalPositions", case, add, randn(*shape), config=dict(max_len=max_len, d=d, first=first))

    for case, heads, t_q, t_k in [
        ("eight", 8, 4, 4),
        ("no_power", 6, 3, 3),
        ("one", 1, 2, 2),
        ("next_query", 4, 1, 5),
        ("nothing", 2, 0, 3),
    ]:
        places = torch.arange(t_k - t_q, t_k, dtype=torch.float64)[:, None]
        distance = (torch.arange(t_k, dtype=torch.float64) - places).abs()
        bias = -torch.tensor(slopes(heads), dtype=torch.float64)[:, None, None] * distance
        family.values("alibi", case, config=dict(heads=heads, t_q=t_q, t_k=t_k), out_0=bias)

    # By the paper: numbers a + ib times e^(iφ). PyTorch has no layer for it.
    for case, shape, half, config in [
        ("interleaved", (2, 3, 5, 6), False, dict(first=0, base=10000.0)),
        ("half_split", (2, 3, 5, 6), True, dict(first=7, base=500.0)),
        ("one_pair", (1, 1, 2), False, dict(first=3, base=10000.0)),
    ]:
        family.seed("RotaryEmbedding", case)
        d = shape[-1]

        def rotate(x):
            place = torch.arange(shape[-2], dtype=torch.float64) + config["first"]
            angle = place[:, None] * config["base"] ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
            pairs = x.unflatten(-1, (2, d // 2)).transpose(-1, -2) if half else x.unflatten(-1, (d // 2, 2))
            y = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones_like(angle), angle))
            return (y.transpose(-1, -2) if half else y).flatten(-2)

        family.function("RotaryEmbedding", case, rotate, randn(*shape), config=dict(config, half_split=half))
