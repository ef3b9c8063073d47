"""Nets for large images, adapted to small ones.

Layers and initial weights are as published, with these changes for small images and short training:

- The first convolution takes the images' channels; the last layer has one output per class.
- Only as many downsampling steps are kept as bring the feature map to about 4 pixels a side; the first ones
  are removed, as is usual for CIFAR-10.
- Batch normalisation's running statistics use torch's default momentum, 0.1 (MNASNet's 0.0003 needs about
  ten thousand steps before the net can be evaluated).
- Widths other than the published ones scale the channels; the last convolution of MobileNetV2 and MNASNet
  shrinks with the others (in torchvision it keeps its 1,280 channels, most of a narrow net's weights).
"""

import math
from collections import OrderedDict
from typing import Any

from torch import nn

from lightsweep.errors import InputError

LAST_SIDE = 4


def too_small(name: str, side: int, least: int) -> InputError:
    """Return the error for images that are too small for a net, with sides in pixels."""
    return InputError(
        f"model.net = '{name}': images of {side} pixels are too small; it needs at least {least}"
    )


def adapted(blocks: list[nn.Module], head: nn.Module, shape: tuple[int, int, int]) -> nn.Sequential:
    """Return a net of blocks made for large images, without those downsampling steps that are too many."""
    _keep_halvings(blocks, max(0, round(math.log2(min(shape[1:]) / LAST_SIDE))))
    return in_blocks(blocks, head)


def in_blocks(blocks: list[nn.Module], head: nn.Module) -> nn.Sequential:
    """Return a net of named blocks conv1, conv2, …, and a head."""
    merged = _merge(blocks)
    names = [*(f"conv{index}" for index in range(1, len(merged) + 1)), "head"]
    net = nn.Sequential(OrderedDict(zip(names, [*merged, head], strict=True)))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return net


def _keep_halvings(blocks: list[nn.Module], wanted: int) -> None:
    """Remove a net's first downsampling steps, in place, until `wanted` are left."""
    halving = [index for index, block in enumerate(blocks) if _strided(block)]
    for index in halving[: max(0, len(halving) - wanted)]:
        if isinstance(blocks[index], nn.MaxPool2d):
            blocks[index] = nn.Identity()
        for module in _strided(blocks[index]):
            module.stride = (1, 1)


def _strided(block: nn.Module) -> list[Any]:
    kinds = nn.Conv2d | nn.MaxPool2d
    return [
        module for module in block.modules() if isinstance(module, kinds) and module.stride in (2, (2, 2))
    ]


def _merge(blocks: list[nn.Module]) -> list[nn.Module]:
    """Append blocks without weights to the block before them, so that every block can be frozen."""
    merged: list[nn.Module] = []
    for block in blocks:
        if next(block.parameters(), None) is None:
            if not isinstance(block, nn.Identity):
                merged[-1] = nn.Sequential(merged[-1], block)
        else:
            merged.append(block)
    return merged


def scaled(channels: float, width: float, divisor: int = 8) -> int:
    """Return a number of channels times a width, rounded to a multiple of the divisor."""
    return max(divisor, round(channels * width / divisor) * divisor)


def convolution_block(
    inputs: int, outputs: int, kernel: int, padding: int = 0, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Return a convolution without bias, batch normalisation and an activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False),
        nn.BatchNorm2d(outputs),
        activation(inplace=True),
    )


def seeing(block: Any, channels: int) -> nn.Module:
    """Set the input channels of a block that starts with a convolution, with torch's initialisation."""
    old = block[0]
    if channels != old.in_channels:
        block[0] = nn.Conv2d(channels, old.out_channels, 3, stride=2, padding=1, bias=False)
    return block  # type: ignore[no-any-return]


def fan_out(block: nn.Module) -> nn.Module:
    """Initialise a block's convolutions by fan-out, as most of the nets' authors do."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return block


def last_layers(
    inputs: int, width: float, classes: int, activation: type[nn.Module]
) -> tuple[nn.Module, nn.Linear]:
    """Return the last convolution and the dense layer of a net narrower than published."""
    outputs = scaled(1280, width)
    dense = nn.Linear(outputs, classes)
    nn.init.zeros_(dense.bias)
    return fan_out(convolution_block(inputs, outputs, 1, activation=activation)), dense


def pooled(*layers: nn.Module) -> nn.Sequential:
    """Return a head over the average of the last feature map."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers)
