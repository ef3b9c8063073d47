"""What a net costs, known before it is trained: parameters, multiply-accumulates, bytes."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from lightsweep.models import Net, PointwiseHead, build
from lightsweep.spec import ModelSpec


@dataclass(frozen=True)
class Cost:
    """Costs of a trial's final net."""

    parameters: int
    """Trainable weights and biases."""
    macs: int
    """Multiply-accumulates of the convolutions and dense layers for one image."""
    weight_bytes: int
    """The parameters as float32."""
    training_bytes: int
    """Parameters and Nadam's two moments as float32: what arXiv 2501.15547 gives as the model's size."""


@lru_cache(maxsize=4096)
def cost(model: ModelSpec, shape: tuple[int, int, int], classes: int) -> Cost:
    """Count the final net for images of shape (channels, height, width), without making its weights.

    Raises:
        InputError: The filters are too many for the image.

    """
    with torch.device("meta"):
        net = build(model, shape, classes, "fused", seed=0)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Cost(parameters, _macs(net, shape[1], shape[2]), 4 * parameters, 12 * parameters)


def _macs(net: Net, height: int, width: int) -> int:
    """Count multiply-accumulates: every weight of a convolution is used once for each position of its output.

    torch's own counter would run the net, for which it imports its compiler, a second's work.
    """
    total = 0
    for submodel in (net.a, net.b) if net.b is not None else (net.a,):
        rows, columns = height, width
        for block in submodel.convolutions():
            rows, columns = rows - block.kernel + 1, columns - block.kernel + 1
            total += rows * columns * sum(p.numel() for p in block.parameters() if p.dim() == 4)
            rows, columns = rows // 2, columns // 2
    dense = (module for module in net.modules() if isinstance(module, (nn.Linear, PointwiseHead)))
    return total + sum(module.weight.numel() for module in dense)
