"""MobileNetV2: Sandler et al. 2018, arXiv 1801.04381; torchvision's layers."""

from typing import Annotated

from torch import nn

from lightsweep.owncode.ranges import Range
from lightsweep.zoo._small_images import adapted, fan_out, last_layers, pooled, seeing
from lightsweep.zoo._torchvision import models


def build(
    shape: tuple[int, int, int], classes: int, *, width: Annotated[float, Range(0.01, 8, log=True)] = 1.0
) -> nn.Module:
    """Return MobileNetV2; `width` is a factor on the channel counts, 1 for the published net."""
    net = models("mobilenetv2").MobileNetV2(num_classes=classes, width_mult=width)
    first, *blocks, last = net.features
    dense = net.classifier[1]
    if width < 1:
        last, dense = last_layers(last[0].in_channels, width, classes, nn.ReLU6)
        nn.init.normal_(dense.weight, 0, 0.01)
    blocks = [fan_out(seeing(first, shape[0])), *blocks, last]
    return adapted(blocks, pooled(nn.Dropout(0.2), dense), shape)
