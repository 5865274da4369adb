"""What the scripts of the families share: they run PyTorch in float64 and write down what went in and what came out.

A family is a file `NAME.py` with a function `cases(family)` that calls the methods below. `make.py` runs it and writes
`NAME.safetensors`: tensors named `entry/case/…`, and in its metadata the configuration of each case as JSON.

| tensor | |
|---|---|
| `in.0`, `in.1`, … | the inputs that a gradient may be wanted of, in float32 |
| `arg.NAME` | other tensors: masks, lengths, weights |
| `param.NAME`, `state.NAME` | the module's parameters and buffers before the call |
| `out.0`, … | what the call returned, in float64 |
| `dy.0`, … | the gradient that was sent into each output |
| `din.0`, …, `dparam.NAME` | the gradients that came back |
| `after.NAME` | buffers after a call in training |

All numbers that go in are float32 numbers, so that the same case can be run in both precisions; all that come out are
float64 numbers, the truth for both.
"""

import json
import zlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

FLOAT = torch.float64


def single(x):
    """Rounds to numbers that float32 can hold."""
    return x.to(torch.float32).to(FLOAT) if x.is_floating_point() else x


def rand(*shape, low=-1.0, high=1.0):
    """Uniform random numbers, as a case's input."""
    return single(torch.rand(shape, dtype=FLOAT) * (high - low) + low)


def randn(*shape):
    """Normal random numbers, as a case's input."""
    return single(torch.randn(shape, dtype=FLOAT))


class Const:
    """An input whose gradient is not asked for, although it is float."""

    def __init__(self, tensor):
        self.tensor = tensor


def flat(value):
    """All tensors of nested tuples, lists and dictionaries, in order."""
    if value is None:
        return []
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    return [tensor for part in value for tensor in flat(part)]


def stored(x, dtype):
    """As it stands in the file: floats as `dtype`, booleans as bytes."""
    x = x.detach()
    if x.is_floating_point():
        x = x.to(dtype)
    elif x.dtype == torch.bool:
        x = x.to(torch.uint8)
    elif x.dtype == torch.int32:
        x = x.to(torch.int64)
    return x.clone().contiguous()


class Family:
    """The cases of one file. With `ours`, a folder of what Maplet saved, layers are checked against that instead."""

    def __init__(self, name, ours=None):
        self.name, self.ours = name, ours
        self.tensors, self.configs = {}, {}
        self.checked, self.worst = set(), 0.0

    def seed(self, entry, case):
        """Random numbers that do not depend on the other cases. Call it before making a case's inputs."""
        torch.manual_seed(zlib.crc32(f"{self.name}/{entry}/{case}".encode()))

    def layer(self, entry, case, module, *inputs, config=None, args=None, call=None, training=False, steps=1):
        """A module, its outputs, all its gradients and what became of its buffers after `steps` calls.

        `call(module, *inputs)` where it is not `module(*inputs)`.
        """
        module = module.to(torch.float32).to(FLOAT).train(training)
        call = call or (lambda module, *inputs: module(*inputs))
        if self.ours is not None:
            return self.check(entry, case, module, inputs, call, training)
        put = self.begin(entry, case, dict(config or {}, training=training, steps=steps), args)
        # The counter serves a cumulative average alone; only then is it a state here.
        keep = lambda name: (config or {}).get("cumulative") or not name.endswith("num_batches_tracked")
        states = {name: value for name, value in module.state_dict().items() if keep(name)}
        params = dict(module.named_parameters())
        for name, value in states.items():
            put(("param." if name in params else "state.") + name, value, torch.float32)
        for _ in range(steps - 1):
            with torch.no_grad():
                call(module, *(x.tensor if isinstance(x, Const) else x for x in inputs))
        buffers = {name: value for name, value in module.state_dict().items() if name in states and name not in params}
        before = {name: value.clone() for name, value in buffers.items()}
        self.gradients(put, lambda *xs: call(module, *xs), inputs, params)
        for name, value in module.state_dict().items():
            if name in before and training:
                put("after." + name, value)

    def function(self, entry, case, function, *inputs, config=None, args=None):
        """A function of tensors, its outputs and gradients."""
        if self.ours is None:
            self.gradients(self.begin(entry, case, config, args), function, inputs, {})

    def optimizer(self, entry, case, make, params, config=None, steps=20):
        """`make(params)` is an optimizer; it takes `steps` steps with random gradients, which do not depend on the
        parameters, and the parameters after each are written down."""
        if self.ours is not None:
            return
        put = self.begin(entry, case, dict(config or {}, steps=steps), None)
        params = [torch.nn.Parameter(param.clone()) for param in params]
        for i, param in enumerate(params):
            put(f"param.{i}", param, torch.float32)
        optimizer = make(params)
        for step in range(steps):
            for i, param in enumerate(params):
                param.grad = randn(*param.shape)
                put(f"grad.{step}.{i}", param.grad, torch.float32)
            optimizer.step()
            for i, param in enumerate(params):
                put(f"out.{step}.{i}", param)

    def values(self, entry, case, config=None, args=None, **expected):
        """Anything else: named results, `out_0=…` as `out.0`."""
        if self.ours is not None:
            return
        put = self.begin(entry, case, config, args)
        for name, value in expected.items():
            put(name.replace("_", ".", 1), value)

    def begin(self, entry, case, config, args):
        key = f"{entry}/{case}"
        assert key not in self.configs, f"two cases are called {key}"
        self.configs[key] = config or {}

        def put(name, value, dtype=FLOAT):
            self.tensors[f"{key}/{name}"] = stored(value, dtype)

        for name, value in (args or {}).items():
            put(f"arg.{name}", value, torch.float32)
        return put

    def gradients(self, put, function, inputs, params):
        leaves = []
        for i, x in enumerate(inputs):
            wanted = not isinstance(x, Const) and x.is_floating_point()
            x = x.tensor if isinstance(x, Const) else x
            put(f"in.{i}", x, torch.float32)
            leaves.append(x.clone().requires_grad_(wanted))
        outputs = flat(function(*leaves))
        total = None
        for i, y in enumerate(outputs):
            put(f"out.{i}", y)
            if y.is_floating_point() and y.requires_grad:
                dy = randn(*y.shape)
                put(f"dy.{i}", dy, torch.float32)
                total = (y * dy).sum() if total is None else total + (y * dy).sum()
        if total is None:
            return
        total.backward()
        for i, x in enumerate(leaves):
            if x.requires_grad:
                put(f"din.{i}", x.grad if x.grad is not None else torch.zeros_like(x))
        for name, param in params.items():
            if param.requires_grad:
                put("dparam." + name, param.grad if param.grad is not None else torch.zeros_like(param))

    def check(self, entry, case, module, inputs, call, training):
        """Loads the state that Maplet saved, by its names, and compares the outputs with those of Maplet.

        It saves one for every module with parameters that is not in training.
        """
        path = Path(self.ours) / self.name / entry / f"{case}.safetensors"
        if training or not any(True for _ in module.parameters()):
            return
        assert path.exists(), f"{path} is missing: Maplet saved no state for this case"
        tensors = load_file(path)
        state = {name.removeprefix("state."): x.to(FLOAT) for name, x in tensors.items() if name.startswith("state.")}
        for name, value in module.state_dict().items():
            if name.endswith("num_batches_tracked"):
                state.setdefault(name, value)
        module.load_state_dict(state, strict=True)
        with torch.no_grad():
            outputs = flat(call(module, *(x.tensor if isinstance(x, Const) else x for x in inputs)))
        count = sum(name.startswith("out.") for name in tensors)
        assert count == len(outputs), f"{self.name}/{entry}/{case}: {count} outputs, not {len(outputs)}"
        for i, y in enumerate(outputs):
            ours = tensors[f"out.{i}"]
            assert ours.shape == y.shape, f"{self.name}/{entry}/{case}: output {i} is {ours.shape}, not {y.shape}"
            if not y.is_floating_point() or y.numel() == 0:
                continue
            largest = max(y.abs().max().item(), 1e-30)
            difference = (ours.to(FLOAT) - y).abs().max().item() / largest
            assert difference <= 1e-4, f"{self.name}/{entry}/{case}: output {i} differs by {difference:.3g}"
            self.worst = max(self.worst, difference)
        self.checked.add(path)

    def save(self, path):
        """Writes the file."""
        metadata = {"torch": torch.__version__.split("+")[0], "cases": json.dumps(self.configs)}
        save_file(self.tensors, path, metadata)
