"""EfficientNet-B0: Tan and Le 2019, arXiv 1905.11946; torchvision's layers."""

from typing import Annotated

from torch import nn

from lightsweep.owncode.ranges import Range
from lightsweep.zoo._small_images import adapted, fan_out, pooled, seeing
from lightsweep.zoo._torchvision import models

_ROWS = (  # expansion, kernel, stride, input and output channels, repeats
    (1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3), (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1),
)  # fmt: skip


def build(
    shape: tuple[int, int, int], classes: int, *, width: Annotated[float, Range(0.01, 8, log=True)] = 1.0
) -> nn.Module:
    """Return EfficientNet-B0; `width` is a factor on the channel counts, 1 for the published net."""
    efficientnet = models("efficientnet")
    settings = [efficientnet.MBConvConfig(*row, width_mult=width) for row in _ROWS]
    net = efficientnet.EfficientNet(settings, dropout=0.2, num_classes=classes)
    first, *stacks, last = net.features
    blocks = [fan_out(seeing(first, shape[0])), *(block for stack in stacks for block in stack), last]
    return adapted(blocks, pooled(*net.classifier), shape)
