"""PyTorch on the workloads of `cargo xtask bench`: Adam (fused), float32, eager. `python torch_peer.py THREADS`"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from protocol import serve


def training(model, x, y, loss=F.cross_entropy):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step():
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return step


def inference(model, x):
    model.eval()

    def step():
        with torch.no_grad():
            model(x)

    return step


def labels(*shape, classes=10):
    return torch.randint(0, classes, shape)


def mnist_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(5408, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def mlp():
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def tiny_mlp():
    return nn.Sequential(nn.Linear(10, 46), nn.Tanh(), nn.Linear(46, 10))


class LastOfSequence(nn.Module):
    """A recurrent layer 28 → 128, and a dense layer on its last output."""

    def __init__(self, kind):
        super().__init__()
        self.recurrent, self.head = kind(28, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


class TransformerLm(nn.Module):
    """A causal transformer over characters: pre-norm, GELU, learned positions."""

    def __init__(self, vocabulary=65, d=128, heads=4, layers=4, t=128):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(vocabulary, d), nn.Parameter(torch.zeros(t, d))
        layer = nn.TransformerEncoderLayer(d, heads, 4 * d, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(d, vocabulary)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(t))

    def forward(self, x):
        return self.head(self.encoder(self.embedding(x) + self.positions, mask=self.mask, is_causal=True))


class Block(nn.Module):
    """The basic block of a residual network."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        shortcut = (nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.downsample = nn.Identity() if same else nn.Sequential(*shortcut)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


def resnet20():
    layers, channels = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()], 16
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            layers.append(Block(channels, width, stride if block == 0 else 1))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def resnet18():
    layers, channels = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(channels, width, stride), Block(width, width, 1)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def alexnet():
    """As torchvision's."""
    conv = lambda *sizes: [nn.Conv2d(*sizes), nn.ReLU()]
    dense = lambda inputs, outputs: [nn.Dropout(0.5), nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(
        *conv(3, 64, 11, 4, 2), nn.MaxPool2d(3, 2), *conv(64, 192, 5, 1, 2), nn.MaxPool2d(3, 2),
        *conv(192, 384, 3, 1, 1), *conv(384, 256, 3, 1, 1), *conv(256, 256, 3, 1, 1), nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6), nn.Flatten(), *dense(9216, 4096), *dense(4096, 4096), nn.Linear(4096, 10),
    )


def characters(logits, targets):
    return F.cross_entropy(logits.reshape(-1, 65), targets.reshape(-1))


def images(*shape):
    return lambda n: (torch.rand(n, *shape), labels(n))


def texts(n):
    return labels(n, 128, classes=65), labels(n, 128, classes=65)


def conv():
    return nn.Conv2d(128, 256, 4)


# Batches to train on, batches of the forward pass, the model, inputs and targets of a batch, the loss.
NETWORKS = {
    "mnist_cnn": ([32, 128, 480], [1, 1000], mnist_cnn, images(1, 28, 28), F.cross_entropy),
    "mlp": ([64], [64], mlp, images(784), F.cross_entropy),
    "tiny_mlp": ([32], [32], tiny_mlp, lambda n: (torch.rand(n, 10), torch.rand(n, 10)), F.mse_loss),
    "lstm": ([64], [64], lambda: LastOfSequence(nn.LSTM), images(28, 28), F.cross_entropy),
    "gru": ([64], [64], lambda: LastOfSequence(nn.GRU), images(28, 28), F.cross_entropy),
    "transformer_lm": ([16], [16], TransformerLm, texts, characters),
    "resnet20": ([32], [32], resnet20, images(3, 32, 32), F.cross_entropy),
    "resnet18": ([4], [4], resnet18, images(3, 224, 224), F.cross_entropy),
    "alexnet": ([8], [8], alexnet, images(3, 224, 224), F.cross_entropy),
    "conv_128_256_k4": (
        [64], [64], conv, lambda n: (torch.rand(n, 128, 28, 28), torch.rand(n, 256, 25, 25)), F.mse_loss
    ),
}

WORKLOADS = {}
for name, (train, forward, model, batch, loss) in NETWORKS.items():
    for n in train:
        WORKLOADS[f"{name}_b{n}"] = lambda n=n, m=model, b=batch, loss=loss: training(m(), *b(n), loss)
    for n in forward:
        WORKLOADS[f"{name}_forward_{n}"] = lambda n=n, m=model, b=batch: inference(m(), b(n)[0])

if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    serve(WORKLOADS)
