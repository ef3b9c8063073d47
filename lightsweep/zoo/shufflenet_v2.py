"""ShuffleNetV2: Ma et al. 2018, arXiv 1807.11164; torchvision's layers."""

from typing import Annotated

import numpy as np
from torch import nn

from lightsweep.owncode.ranges import Range
from lightsweep.zoo._small_images import adapted, pooled, scaled, seeing
from lightsweep.zoo._torchvision import models

_PUBLISHED = {  # width -> channels of each stage
    0.5: (24, 48, 96, 192, 1024),
    1.0: (24, 116, 232, 464, 1024),
    1.5: (24, 176, 352, 704, 1024),
    2.0: (24, 244, 488, 976, 2048),
}


def build(
    shape: tuple[int, int, int], classes: int, *, width: Annotated[float, Range(0.01, 8, log=True)] = 1.0
) -> nn.Module:
    """Return ShuffleNetV2; `width` is a factor on the channel counts, 1 for the published net."""
    nearest = min(max(width, min(_PUBLISHED)), max(_PUBLISHED))
    channels = [  # interpolated between published widths, so that a wider net never costs less
        scaled(float(np.interp(nearest, list(_PUBLISHED), counts)), width / nearest, 2)
        for counts in zip(*_PUBLISHED.values(), strict=True)
    ]
    net = models("shufflenetv2").ShuffleNetV2([4, 8, 4], channels, num_classes=classes)
    blocks = [seeing(net.conv1, shape[0]), net.maxpool, *net.stage2, *net.stage3, *net.stage4, net.conv5]
    return adapted(blocks, pooled(net.fc), shape)
