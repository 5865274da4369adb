"""Recurrent layers and cells; and what PyTorch has no layer for, written down with its functions."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from reference import rand

# name, sizes of t, n, input and hidden, options, whether it begins with a state, lengths
LAYERS = [
    ("plain", (5, 3, 4, 6), {}, False, None),
    ("no_bias", (4, 2, 3, 5), dict(bias=False), True, None),
    ("initial_state", (4, 2, 3, 5), {}, True, None),
    ("layers", (4, 3, 3, 5), dict(num_layers=3), True, None),
    ("both_ways", (5, 2, 3, 4), dict(bidirectional=True), True, None),
    ("layers_both_ways", (4, 3, 3, 4), dict(num_layers=2, bidirectional=True, batch_first=True, dropout=0.3), True, None),
    ("lengths", (6, 4, 3, 5), {}, False, [3, 6, 1, 4]),
    ("lengths_both_ways", (6, 4, 3, 4), dict(num_layers=2, bidirectional=True, batch_first=True), True, [3, 6, 1, 6]),
    ("lengths_padded", (6, 3, 3, 4), dict(bidirectional=True, bias=False), True, [2, 4, 3]),
    ("one_step", (1, 3, 2, 4), dict(bidirectional=True), True, None),
    ("size_1", (3, 1, 1, 1), {}, True, None),
    ("empty_batch", (3, 0, 2, 4), {}, False, None),
    ("large_batch", (2, 19, 5, 17), dict(bidirectional=True), True, None),
    ("one_sequence", (4, None, 3, 5), dict(bidirectional=True), True, None),
    ("one_sequence_batch_first", (4, None, 3, 5), dict(num_layers=2, batch_first=True), False, None),
    ("long", (80, 2, 3, 4), dict(num_layers=2), False, None),
]
EXTRA = {
    "Rnn": [
        ("relu", (5, 3, 4, 6), dict(nonlinearity="relu"), True, None),
        ("relu_lengths", (5, 3, 4, 6), dict(nonlinearity="relu", num_layers=2, bidirectional=True), True, [5, 2, 3]),
    ],
    "Lstm": [
        ("projection", (5, 3, 4, 6), dict(proj_size=2), True, None),
        ("projections", (5, 3, 4, 6), dict(proj_size=3, num_layers=2, bidirectional=True, batch_first=True), True, None),
        ("projection_lengths", (5, 3, 4, 6), dict(proj_size=5, num_layers=2, bidirectional=True), True, [4, 1, 5]),
        ("projection_no_bias", (5, 19, 4, 6), dict(proj_size=2, bias=False), False, None),
    ],
    "Gru": [],
}
MODULES = {"Rnn": (nn.RNN, nn.RNNCell), "Lstm": (nn.LSTM, nn.LSTMCell), "Gru": (nn.GRU, nn.GRUCell)}


def layers(family, entry):
    for case, (t, n, features, hidden), options, begins, lengths in LAYERS + EXTRA[entry]:
        family.seed(entry, case)
        module = MODULES[entry][0](features, hidden, **options)
        batch_first = options.get("batch_first", False)
        count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
        batch = [] if n is None else [n]
        inputs = [rand(*((*batch, t, features) if batch_first else (t, *batch, features)))]
        if begins:
            inputs.append(rand(count, *batch, options.get("proj_size", 0) or hidden))
            if entry == "Lstm":
                inputs.append(rand(count, *batch, hidden))

        def call(module, x, *state, lengths=lengths, batch_first=batch_first, t=t):
            state = None if not state else state if len(state) == 2 else state[0]
            if lengths is None:
                return module(x, state)
            x = pack_padded_sequence(x, torch.tensor(lengths), batch_first=batch_first, enforce_sorted=False)
            y, state = module(x, state)
            return pad_packed_sequence(y, batch_first=batch_first, total_length=t)[0], state

        config = dict(options, input_size=features, hidden_size=hidden, lengths=lengths)
        family.layer(entry, case, module, *inputs, config=config, call=call)


def cells(family, entry):
    name = entry + "Cell"
    cases = [("plain", (3, 4, 5), {}, False), ("state", (3, 4, 5), {}, True), ("no_bias", (2, 3, 4), dict(bias=False), True),
             ("size_1", (1, 1, 1), {}, True), ("one_sample", (None, 3, 4), {}, True), ("empty_batch", (0, 3, 4), {}, False)]
    if entry == "Rnn":
        cases.append(("relu", (3, 4, 5), dict(nonlinearity="relu"), True))
    for case, (n, features, hidden), options, begins in cases:
        family.seed(name, case)
        batch = [] if n is None else [n]
        inputs = [rand(*batch, features)] + [rand(*batch, hidden) for _ in range(begins * (2 if entry == "Lstm" else 1))]

        def call(module, x, *state):
            # Two steps on one input, so that the state's weights take part.
            state = None if not state else state if len(state) == 2 else state[0]
            return module(x, module(x, state))

        config = dict(options, input_size=features, hidden_size=hidden)
        family.layer(name, case, MODULES[entry][1](features, hidden, **options), *inputs, config=config, call=call)


class ConvLstm(nn.Module):
    """Shi et al. (2015) without peepholes, as Keras has it."""

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, bias):
        super().__init__()
        self.weight_ih = nn.Parameter(torch.randn(4 * out_channels, in_channels, *kernel_size) * 0.3)
        self.weight_hh = nn.Parameter(torch.randn(4 * out_channels, out_channels, *kernel_size) * 0.3)
        self.bias = nn.Parameter(torch.randn(4 * out_channels)) if bias else None
        self.stride, self.padding = stride, padding
        self.conv = [F.conv1d, F.conv2d, F.conv3d][len(kernel_size) - 1]

    def forward(self, x, *state):
        h, c = state if state else (None, None)
        outputs = []
        for step in x.unbind(1):
            gates = self.conv(step, self.weight_ih, self.bias, stride=self.stride, padding=self.padding)
            if h is not None:
                gates = gates + self.conv(h, self.weight_hh, padding="same")
            i, f, g, o = gates.chunk(4, 1)
            kept = 0 if c is None else f.sigmoid() * c
            c = kept + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        return torch.stack(outputs, 1), h, c


class Bahdanau(nn.Module):
    def __init__(self, query, key, hidden):
        super().__init__()
        self.query, self.key = nn.Linear(query, hidden, bias=False), nn.Linear(key, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, query, keys):
        hidden = torch.tanh(self.query(query).unsqueeze(-2) + self.key(keys).unsqueeze(1))
        return self.score(hidden).squeeze(-1)


class Luong(nn.Module):
    def __init__(self, kind, query, key, hidden):
        super().__init__()
        self.kind = kind
        if kind == "general":
            self.weight = nn.Parameter(torch.randn(query, key))
        if kind == "concat":
            self.weight = nn.Parameter(torch.randn(hidden, query + key))
            self.score = nn.Parameter(torch.randn(hidden))

    def forward(self, query, keys):
        if self.kind == "concat":
            queries, steps = query.shape[1], keys.shape[1]
            pairs = [query.unsqueeze(2).expand(-1, -1, steps, -1), keys.unsqueeze(1).expand(-1, queries, -1, -1)]
            return torch.tanh(torch.cat(pairs, -1) @ self.weight.T) @ self.score
        query = query @ self.weight if self.kind == "general" else query
        return query @ keys.transpose(1, 2)


def attention(family):
    for case, (n, queries, steps, query, key, hidden), kind, lengths in [
        ("bahdanau", (2, 3, 4, 5, 6, 7), None, None),
        ("bahdanau_one_query", (2, 0, 4, 5, 6, 7), None, None),
        ("bahdanau_lengths", (3, 2, 4, 2, 3, 4), None, [4, 1, 2]),
        ("dot", (2, 3, 4, 5, 5, 0), "dot", None),
        ("dot_one_query", (2, 0, 4, 5, 5, 0), "dot", [3, 4]),
        ("general", (2, 3, 4, 5, 6, 0), "general", [2, 4]),
        ("concat", (2, 3, 4, 5, 6, 7), "concat", None),
        ("concat_lengths", (2, 0, 4, 5, 6, 7), "concat", [4, 3]),
    ]:
        entry = "BahdanauAttention" if kind is None else "LuongAttention"
        family.seed(entry, case)
        module = Bahdanau(query, key, hidden) if kind is None else Luong(kind, query, key, hidden)

        def call(module, query, keys, lengths=lengths):
            queries = query if query.dim() == 3 else query.unsqueeze(1)
            scores = module(queries, keys)
            if lengths is not None:
                padding = torch.arange(keys.shape[1]) >= torch.tensor(lengths)[:, None]
                scores = scores.masked_fill(padding.unsqueeze(1), float("-inf"))
            weights = scores.softmax(-1)
            context = weights @ keys
            return (context, weights) if query.dim() == 3 else (context.squeeze(1), weights.squeeze(1))

        inputs = [rand(*((n, queries, query) if queries else (n, query))), rand(n, steps, key)]
        config = dict(kind=kind, query=query, key=key, hidden=hidden, lengths=lengths)
        family.layer(entry, case, module, *inputs, config=config, call=call)


class Bidirectional(nn.Module):
    """The backward layer on each sequence reversed within its length, its output reversed again."""

    def __init__(self, features, hidden):
        super().__init__()
        self.forward_layer, self.backward_layer = nn.GRU(features, hidden), nn.GRU(features, hidden)

    def forward(self, x, merge, lengths):
        t, n, _ = x.shape
        lengths = torch.tensor(lengths or [t] * n, dtype=torch.long)
        steps = torch.arange(t)[:, None]
        order = torch.where(steps < lengths, lengths - 1 - steps, steps)

        def turn(x):
            return x.gather(0, order.unsqueeze(-1).expand_as(x))

        live = (steps < lengths).unsqueeze(-1)
        a, b = self.forward_layer(x)[0] * live, turn(self.backward_layer(turn(x))[0]) * live
        return {"concat": torch.cat([a, b], -1), "sum": a + b, "mean": (a + b) / 2, "mul": a * b}[merge]


class TimeDistributed(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return torch.stack([self.layer(step) for step in x.unbind(1)], 1)


def cases(family):
    for entry in MODULES:
        layers(family, entry)
        cells(family, entry)
    for name, x, config, begins in [
        ("ConvLstm1d", (2, 3, 2, 7), dict(out_channels=3, kernel_size=[3], stride=[1], padding=[1]), False),
        ("ConvLstm2d", (2, 3, 2, 5, 4), dict(out_channels=3, kernel_size=[3, 3], stride=[1, 1], padding=[1, 1]), True),
        ("ConvLstm2d", (2, 3, 1, 7, 6), dict(out_channels=2, kernel_size=[2, 3], stride=[2, 1], padding=[0, 1]), False),
        ("ConvLstm2d", (1, 1, 1, 3, 3), dict(out_channels=1, kernel_size=[1, 1], stride=[1, 1], padding=[0, 0], bias=False),
         False),
        ("ConvLstm3d", (1, 2, 1, 3, 4, 3), dict(out_channels=2, kernel_size=[3, 1, 3], stride=[1, 1, 1], padding=[1, 0, 1]),
         False),
    ]:
        case = "x".join(map(str, config["kernel_size"]))
        family.seed(name, case)
        config = dict(bias=True, in_channels=x[2], **config) if "bias" not in config else dict(in_channels=x[2], **config)
        inputs = [rand(*x)] + [rand(x[0], config["out_channels"], *x[3:]) for _ in range(2 * begins)]
        family.layer(name, case, ConvLstm(**config), *inputs, config=config)
    attention(family)
    for case, n, merge, lengths in [("concat", 3, "concat", None), ("sum", 3, "sum", [3, 5, 1]),
                                    ("mean", 3, "mean", [5, 4, 4]), ("mul", 3, "mul", None),
                                    ("empty_batch", 0, "concat", None), ("empty_batch_lengths", 0, "sum", [])]:
        family.seed("Bidirectional", case)
        family.layer("Bidirectional", case, Bidirectional(2, 3), rand(5, n, 2), config=dict(merge=merge, lengths=lengths),
                     call=lambda module, x, merge=merge, lengths=lengths: module(x, merge, lengths))
    family.seed("TimeDistributed", "linear")
    family.layer("TimeDistributed", "linear", TimeDistributed(nn.Linear(3, 2)), rand(2, 4, 3))
