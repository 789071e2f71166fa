"""The layers of `networks.py` as modules of PyTorch. Images are in the memory format `channels_last`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from networks import Layer
from torch import nn

Slots = list[tuple[tuple[nn.Parameter, tuple[int, ...]], ...]]
"""The parameters in the order of `networks.Weights`, each with the order of axes that makes ours theirs."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "sigmoid": nn.Sigmoid,
}


class Residual(nn.Module):
    """A branch plus its shortcut."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.branch(x) + self.shortcut(x)


class Flatten(nn.Module):
    """Places and channels in a row, in the order of (H, W, C): a view of images whose channels are last in memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.movedim(1, -1).flatten(1)


class Mean(nn.Module):
    """The mean over all places."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).mean(2)


def build(layers: list[Layer], rank: int) -> tuple[nn.Sequential, Slots]:
    """Return a network whose windows have `rank` axes, and its parameters."""
    modules: list[nn.Module] = []
    slots: Slots = []
    turned = (rank + 1, rank, *range(rank))  # (K, ..., C, O) to (O, C, K, ...)
    for layer in layers:
        kind = layer[0]
        if kind == "residual":
            (branch, own), (shortcut, more) = build(layer[1], rank), build(layer[2], rank)
            modules.append(Residual(branch, shortcut))
            slots += [*own, *more]
        elif kind == "conv":
            _, inputs, outputs, size, stride, padding, bias = layer
            conv = (nn.Conv1d, nn.Conv2d)[rank - 1](inputs, outputs, size, stride, padding, bias=bias)
            modules.append(conv)
            slots.append(((conv.weight, turned), *(((conv.bias, (0,)),) if conv.bias is not None else ())))
        elif kind == "norm":
            norm = (nn.BatchNorm1d, nn.BatchNorm2d)[rank - 1](layer[1])
            modules.append(norm)
            slots.append(((norm.weight, (0,)), (norm.bias, (0,))))
        elif kind == "linear":
            linear = nn.Linear(*layer[1:])
            modules.append(linear)
            slots.append(((linear.weight, (1, 0)), (linear.bias, (0,))))
        elif kind == "pool":
            modules.append((nn.MaxPool1d, nn.MaxPool2d)[rank - 1](layer[1]))
        else:
            modules.append({"flatten": Flatten, "mean": Mean, **ACTIVATIONS}[kind]())
    return nn.Sequential(*modules), slots
