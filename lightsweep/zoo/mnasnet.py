"""MNASNet: Tan et al. 2018, arXiv 1807.11626; torchvision's layers."""

from typing import Annotated

from torch import nn

from lightsweep.owncode.ranges import Range
from lightsweep.zoo._small_images import adapted, fan_out, last_layers, pooled, seeing
from lightsweep.zoo._torchvision import models


def build(
    shape: tuple[int, int, int], classes: int, *, width: Annotated[float, Range(0.01, 8, log=True)] = 1.0
) -> nn.Module:
    """Return MNASNet; `width` is a factor on the channel counts, 1 for the published net."""
    net = models("mnasnet").MNASNet(width, num_classes=classes)
    layers = list(net.layers)
    last: nn.Module = nn.Sequential(*layers[14:])
    dense = net.classifier[1]
    if width < 1:
        last, dense = last_layers(layers[14].in_channels, width, classes, nn.ReLU)
        nn.init.kaiming_uniform_(dense.weight, mode="fan_out", nonlinearity="sigmoid")
    blocks = [
        fan_out(seeing(nn.Sequential(*layers[:3]), shape[0])),
        nn.Sequential(*layers[3:8]),
        *(block for stack in layers[8:14] for block in stack),
        last,
    ]
    return adapted(blocks, pooled(nn.Dropout(0.2), dense), shape)
