"""JAX on the workloads of `cargo xtask bench`: jit with donated buffers, optax's Adam, float32. `python jax_peer.py THREADS`"""

import os
import sys

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 1
if hasattr(os, "sched_setaffinity"):  # XLA has no other way to be given a number of threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])

import jax
import jax.numpy as jnp
import optax

from protocol import serve

KEY = jax.random.key(0)
GLOROT = jax.nn.initializers.glorot_uniform()


def training(params, forward, x, y):
    optimizer = optax.adam(1e-3)

    def loss(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(forward(params, x), y).mean()

    def update(params, state, x, y):
        value, grads = jax.value_and_grad(loss)(params, x, y)
        changes, state = optimizer.update(grads, state)
        return optax.apply_updates(params, changes), state, value

    update = jax.jit(update, donate_argnums=(0, 1))
    held = [params, optimizer.init(params)]

    def step():
        held[0], held[1], value = update(*held, x, y)
        value.block_until_ready()

    return step


def inference(params, forward, x):
    forward = jax.jit(forward)
    return lambda: forward(params, x).block_until_ready()


def dense(inputs, outputs):
    return {"w": GLOROT(KEY, (inputs, outputs)), "b": jnp.zeros(outputs)}


def apply(params, x):
    return x @ params["w"] + params["b"]


def conv(x, w, stride, padding="SAME"):
    return jax.lax.conv_general_dilated(x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def mnist_cnn():
    kernel = {"w": GLOROT(KEY, (3, 3, 1, 32)), "b": jnp.zeros(32)}
    return {"conv": kernel, "hidden": dense(5408, 128), "head": dense(128, 10)}


def mnist_cnn_forward(params, x):
    x = jax.nn.relu(conv(x, params["conv"]["w"], 1, "VALID") + params["conv"]["b"])
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return apply(params["head"], jax.nn.relu(apply(params["hidden"], x.reshape(x.shape[0], -1))))


def mlp_forward(params, x):
    for layer in params[:-1]:
        x = jax.nn.relu(apply(layer, x))
    return apply(params[-1], x)


def lstm_forward(params, x):
    inputs = jnp.swapaxes(x @ params["wi"] + params["b"], 0, 1)
    zeros = jnp.zeros((x.shape[0], 128))

    def cell(carry, gates):
        h, c = carry
        i, f, g, o = jnp.split(gates + h @ params["wh"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), None

    (h, _), _ = jax.lax.scan(cell, (zeros, zeros), inputs)
    return apply(params["head"], h)


def layer_norm(params, x):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * params["g"] + params["b"]


def transformer_block(params, x):
    n, t, d = x.shape
    heads = 4
    split = lambda a: a.reshape(n, t, heads, d // heads).transpose(0, 2, 1, 3)
    q, k, v = map(split, jnp.split(apply(params["qkv"], layer_norm(params["norm1"], x)), 3, -1))
    scores = q @ k.swapaxes(-1, -2) / (d // heads) ** 0.5
    scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -1e9)
    mixed = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(n, t, d)
    x = x + apply(params["out"], mixed)
    hidden = jax.nn.gelu(apply(params["up"], layer_norm(params["norm2"], x)), approximate=False)
    return x + apply(params["down"], hidden)


def transformer():
    norm = lambda: {"g": jnp.ones(128), "b": jnp.zeros(128)}
    block = lambda: {
        "norm1": norm(), "norm2": norm(), "qkv": dense(128, 384), "out": dense(128, 128),
        "up": dense(128, 512), "down": dense(512, 128),
    }
    tables = {"embedding": GLOROT(KEY, (65, 128)), "positions": jnp.zeros((128, 128))}
    return {**tables, "blocks": [block() for _ in range(4)], "head": dense(128, 65)}


def transformer_forward(params, x):
    x = params["embedding"][x] + params["positions"]
    for block in params["blocks"]:
        x = transformer_block(block, x)
    return apply(params["head"], x)


def normed_conv(inputs, outputs, size=3):
    return {"w": GLOROT(KEY, (size, size, inputs, outputs)), "g": jnp.ones(outputs), "b": jnp.zeros(outputs)}


def apply_normed_conv(params, x, stride=1):
    x = conv(x, params["w"], stride)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * params["g"] + params["b"]


def resnet20():
    stem, blocks, channels = normed_conv(3, 16), [], 16
    for width in (16, 32, 64):
        for _ in range(3):
            block = {"a": normed_conv(channels, width), "b": normed_conv(width, width)}
            if channels != width:
                block["shortcut"] = normed_conv(channels, width, 1)
            blocks.append(block)
            channels = width
    return {"stem": stem, "blocks": blocks, "head": dense(64, 10)}


def resnet20_forward(params, x):
    x = jax.nn.relu(apply_normed_conv(params["stem"], x))
    for block in params["blocks"]:
        stride = 2 if "shortcut" in block else 1
        y = apply_normed_conv(block["b"], jax.nn.relu(apply_normed_conv(block["a"], x, stride)))
        x = jax.nn.relu(y + (apply_normed_conv(block["shortcut"], x, stride) if "shortcut" in block else x))
    return apply(params["head"], x.mean((1, 2)))


def uniform(*shape):
    return jax.random.uniform(KEY, shape)


def images(n):
    return uniform(n, 28, 28, 1)


def labels(n):
    return jnp.arange(n) % 10


def lstm():
    return {"wi": GLOROT(KEY, (28, 512)), "wh": GLOROT(KEY, (128, 512)), "b": jnp.zeros(512), "head": dense(128, 10)}


def characters():
    return jax.random.randint(KEY, (16, 128), 0, 65)


def mlp():
    return [dense(784, 512), dense(512, 512), dense(512, 10)]


# Batches to train on, batches of the forward pass (none where it normalizes by the batch's moments, as in training only),
# parameters, the model, inputs and targets of a batch.
NETWORKS = {
    "mnist_cnn": ([32, 128], [1, 1000], mnist_cnn, mnist_cnn_forward, lambda n: (images(n), labels(n))),
    "mlp": ([64], [64], mlp, mlp_forward, lambda n: (uniform(n, 784), labels(n))),
    "lstm": ([64], [64], lstm, lstm_forward, lambda n: (uniform(n, 28, 28), labels(n))),
    "transformer_lm": ([16], [16], transformer, transformer_forward, lambda n: (characters(), characters())),
    "resnet20": ([32], [], resnet20, resnet20_forward, lambda n: (uniform(n, 32, 32, 3), labels(n))),
}

WORKLOADS = {}
for name, (train, forward, params, model, batch) in NETWORKS.items():
    for n in train:
        WORKLOADS[f"{name}_b{n}"] = lambda n=n, p=params, m=model, b=batch: training(p(), m, *b(n))
    for n in forward:
        WORKLOADS[f"{name}_forward_{n}"] = lambda n=n, p=params, m=model, b=batch: inference(p(), m, b(n)[0])

if __name__ == "__main__":
    serve(WORKLOADS)
