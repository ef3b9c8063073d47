"""Reference nets adapted to small images: torchvision's, and simple baselines.

Layers and initial weights are as published, with these changes for small images and short training:

- The first convolution takes the images' channels; the last layer has one output per class.
- Only as many downsampling steps are kept as bring the feature map to about 4 pixels a side; the first ones
  are removed, as is usual for CIFAR-10.
- Batch normalisation's running statistics use torch's default momentum, 0.1 (MNASNet's 0.0003 needs about
  ten thousand steps before the net can be evaluated).
- Widths other than the published ones scale the channels; the last convolution of MobileNetV2 and MNASNet
  shrinks with the others (in torchvision it keeps its 1,280 channels, most of a narrow net's weights).

MobileNetV2: Sandler et al. 2018, arXiv 1801.04381. ShuffleNetV2: Ma et al. 2018, arXiv 1807.11164.
SqueezeNet: Iandola et al. 2016, arXiv 1602.07360. MNASNet: Tan et al. 2018, arXiv 1807.11626. EfficientNet:
Tan and Le 2019, arXiv 1905.11946. LeNet-5: LeCun et al. 1998, Proceedings of the IEEE 86(11).
"""

import importlib
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor, nn

from lightsweep.data.torchvision_import import import_torchvision
from lightsweep.errors import InputError
from lightsweep.sweepfile.net import Architecture, ReferenceSpec

LAST_SIDE = 4
_MADE_FOR_SMALL_IMAGES = ("lenet-5", "plain-cnn", "logistic-regression")
_EFFICIENTNET_B0 = (  # expansion, kernel, stride, input and output channels, repeats
    (1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3), (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1),
)  # fmt: skip
_SHUFFLENET_V2 = {  # published width -> channels of each stage
    0.5: (24, 48, 96, 192, 1024),
    1.0: (24, 116, 232, 464, 1024),
    1.5: (24, 176, 352, 704, 1024),
    2.0: (24, 244, 488, 976, 2048),
}
_LEAST_SIDES: dict[str, int] = {
    "lenet-5": 12,
    "plain-cnn": 4,
    "squeezenet": 3,
}  # smallest image side in pixels
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))

Parts = tuple[list[nn.Module], nn.Module]
"""Convolution blocks, each of which downsamples at most once, and the head."""


class Reference(nn.Module):
    """A reference net's convolution blocks (conv1, conv2, …) and its head."""

    def __init__(self, spec: ReferenceSpec, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        side, least = min(shape[1:]), _LEAST_SIDES.get(spec.architecture, 1)
        if side < least:
            raise InputError(
                f"model.architecture = {spec.architecture!r}: images of {side} pixels are too small; "
                f"it needs at least {least}"
            )
        blocks, head = _MAKERS[spec.architecture](spec.width, shape, classes)
        if spec.architecture not in _MADE_FOR_SMALL_IMAGES:
            _keep_halvings(blocks, max(0, round(math.log2(side / LAST_SIDE))))
        blocks = _merge(blocks)
        self.blocks = [f"conv{index}" for index in range(1, len(blocks) + 1)]
        for name, block in zip(self.blocks, blocks, strict=True):
            self.add_module(name, block)
        self.head = head
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Map normalised images, or the output of the first `start` blocks, to logits [batch, classes]."""
        logits: Tensor = self.head(self.maps(x, start, len(self.blocks)))
        return logits

    def maps(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Map the output of the first `start` blocks to that of the first `stop`, [batch, channels, h, w]."""
        for name in self.blocks[start:stop]:
            x = self.get_submodule(name)(x)
        return x


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


def _scaled(channels: float, width: float, divisor: int = 8) -> int:
    return max(divisor, round(channels * width / divisor) * divisor)


def _convolution_block(
    inputs: int, outputs: int, kernel: int, padding: int = 0, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False),
        nn.BatchNorm2d(outputs),
        activation(inplace=True),
    )


def _seeing(block: Any, channels: int) -> nn.Module:
    """Set the input channels of a block that starts with a convolution, with torch's initialisation."""
    old = block[0]
    if channels != old.in_channels:
        block[0] = nn.Conv2d(channels, old.out_channels, 3, stride=2, padding=1, bias=False)
    return block  # type: ignore[no-any-return]


def _fan_out(block: nn.Module) -> nn.Module:
    """Initialise a block's convolutions by fan-out, as most of the nets' authors do."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return block


def _last(
    inputs: int, width: float, classes: int, activation: type[nn.Module]
) -> tuple[nn.Module, nn.Linear]:
    """Return the last convolution and the dense layer of a net narrower than published."""
    outputs = _scaled(1280, width)
    dense = nn.Linear(outputs, classes)
    nn.init.zeros_(dense.bias)
    return _fan_out(_convolution_block(inputs, outputs, 1, activation=activation)), dense


def _pooled(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers)


def _models(name: str) -> Any:
    return importlib.import_module(f"{import_torchvision().__name__}.models.{name}")


def _mobilenet_v2(width: float, shape: tuple[int, int, int], classes: int) -> Parts:
    net = _models("mobilenetv2").MobileNetV2(num_classes=classes, width_mult=width)
    first, *blocks, last = net.features
    dense = net.classifier[1]
    if width < 1:
        last, dense = _last(last[0].in_channels, width, classes, nn.ReLU6)
        nn.init.normal_(dense.weight, 0, 0.01)
    return [_fan_out(_seeing(first, shape[0])), *blocks, last], _pooled(nn.Dropout(0.2), dense)


def _shufflenet_v2(width: float, shape: tuple[int, int, int], classes: int) -> Parts:
    nearest = min(max(width, min(_SHUFFLENET_V2)), max(_SHUFFLENET_V2))
    channels = [  # interpolated between published widths, so that a wider net never costs less
        _scaled(float(np.interp(nearest, list(_SHUFFLENET_V2), counts)), width / nearest, 2)
        for counts in zip(*_SHUFFLENET_V2.values(), strict=True)
    ]
    net = _models("shufflenetv2").ShuffleNetV2([4, 8, 4], channels, num_classes=classes)
    blocks = [_seeing(net.conv1, shape[0]), net.maxpool, *net.stage2, *net.stage3, *net.stage4, net.conv5]
    return blocks, _pooled(net.fc)


def _squeezenet(width: float, shape: tuple[int, int, int], classes: int) -> Parts:
    fire = _models("squeezenet").Fire
    inputs = _scaled(64, width, 2)
    blocks: list[nn.Module] = [nn.Sequential(nn.Conv2d(shape[0], inputs, 3, stride=2), nn.ReLU(inplace=True))]
    for index, (squeezed, expanded) in enumerate(_FIRES):
        if index in (0, 2, 4):
            blocks.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
        outputs = _scaled(expanded, width, 2)
        blocks.append(fire(inputs, _scaled(squeezed, width, 2), outputs, outputs))
        inputs = 2 * outputs
    last = nn.Conv2d(inputs, classes, 1)
    for block in blocks:
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    nn.init.normal_(last.weight, 0, 0.01)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return blocks, nn.Sequential(nn.Dropout(0.5), last, nn.ReLU(inplace=True), _pooled())


def _mnasnet(width: float, shape: tuple[int, int, int], classes: int) -> Parts:
    net = _models("mnasnet").MNASNet(width, num_classes=classes)
    layers = list(net.layers)
    last: nn.Module = nn.Sequential(*layers[14:])
    dense = net.classifier[1]
    if width < 1:
        last, dense = _last(layers[14].in_channels, width, classes, nn.ReLU)
        nn.init.kaiming_uniform_(dense.weight, mode="fan_out", nonlinearity="sigmoid")
    blocks = [
        _fan_out(_seeing(nn.Sequential(*layers[:3]), shape[0])),
        nn.Sequential(*layers[3:8]),
        *(block for stack in layers[8:14] for block in stack),
        last,
    ]
    return blocks, _pooled(nn.Dropout(0.2), dense)


def _efficientnet_b0(width: float, shape: tuple[int, int, int], classes: int) -> Parts:
    models = _models("efficientnet")
    settings = [models.MBConvConfig(*row, width_mult=width) for row in _EFFICIENTNET_B0]
    net = models.EfficientNet(settings, dropout=0.2, num_classes=classes)
    first, *stacks, last = net.features
    blocks = [_fan_out(_seeing(first, shape[0])), *(block for stack in stacks for block in stack), last]
    return blocks, _pooled(*net.classifier)


def _lenet_5(width: float, shape: tuple[int, int, int], classes: int) -> Parts:
    """Return LeNet-5; each map of the second convolution sees all maps of the first, as is usual now."""
    counts = [max(1, round(count * width)) for count in (6, 16, 120, 84)]
    padding = 2 if min(shape[1:]) < 32 else 0  # the original pads images of 28 pixels to 32
    first = nn.Sequential(nn.Conv2d(shape[0], counts[0], 5, padding=padding), nn.Tanh(), nn.AvgPool2d(2))
    second = nn.Sequential(nn.Conv2d(counts[0], counts[1], 5), nn.Tanh(), nn.AvgPool2d(2))
    rows, columns = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in shape[1:])
    sizes = [counts[1] * rows * columns, *counts[2:]]
    dense = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.Tanh())]
    head = nn.Sequential(nn.Flatten(), *dense, nn.Linear(sizes[-1], classes))
    return [first, second], head


def _plain_cnn(width: float, shape: tuple[int, int, int], classes: int) -> Parts:
    """Return three padded 3×3 convolutions with batch normalisation, two poolings, mean and dense layer."""
    sizes = [shape[0], *(max(1, round(count * width)) for count in (16, 32, 64))]
    first, second, third = (_convolution_block(*pair, 3, padding=1) for pair in pairwise(sizes))
    blocks = [first, nn.MaxPool2d(2), second, nn.MaxPool2d(2), third]
    return blocks, _pooled(nn.Linear(sizes[-1], classes))


def _logistic_regression(width: float, shape: tuple[int, int, int], classes: int) -> Parts:
    return [], nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


_MAKERS: dict[Architecture, Callable[[float, tuple[int, int, int], int], Parts]] = {
    "mobilenet-v2": _mobilenet_v2,
    "shufflenet-v2": _shufflenet_v2,
    "squeezenet": _squeezenet,
    "mnasnet": _mnasnet,
    "efficientnet-b0": _efficientnet_b0,
    "lenet-5": _lenet_5,
    "plain-cnn": _plain_cnn,
    "logistic-regression": _logistic_regression,
}
