"""SqueezeNet 1.1: Iandola et al. 2016, arXiv 1602.07360; torchvision's layers."""

from typing import Annotated

from torch import nn

from lightsweep.owncode.ranges import Range
from lightsweep.zoo._small_images import adapted, pooled, scaled, too_small
from lightsweep.zoo._torchvision import models

_LEAST_SIDE = 3
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


def build(
    shape: tuple[int, int, int], classes: int, *, width: Annotated[float, Range(0.01, 8, log=True)] = 1.0
) -> nn.Module:
    """Return SqueezeNet 1.1; `width` is a factor on the channel counts, 1 for the published net."""
    if min(shape[1:]) < _LEAST_SIDE:
        raise too_small("squeezenet", min(shape[1:]), _LEAST_SIDE)
    fire = models("squeezenet").Fire
    inputs = scaled(64, width, 2)
    blocks: list[nn.Module] = [nn.Sequential(nn.Conv2d(shape[0], inputs, 3, stride=2), nn.ReLU(inplace=True))]
    for index, (squeezed, expanded) in enumerate(_FIRES):
        if index in (0, 2, 4):
            blocks.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
        outputs = scaled(expanded, width, 2)
        blocks.append(fire(inputs, scaled(squeezed, width, 2), outputs, outputs))
        inputs = 2 * outputs
    last = nn.Conv2d(inputs, classes, 1)
    for block in blocks:
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    nn.init.normal_(last.weight, 0, 0.01)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return adapted(blocks, nn.Sequential(nn.Dropout(0.5), last, nn.ReLU(inplace=True), pooled()), shape)
