"""LeNet-5: LeCun et al. 1998, Proceedings of the IEEE 86(11)."""

from itertools import pairwise
from typing import Annotated

from torch import nn

from lightsweep.owncode.ranges import Range
from lightsweep.zoo._small_images import in_blocks, too_small

_LEAST_SIDE = 12


def build(
    shape: tuple[int, int, int], classes: int, *, width: Annotated[float, Range(0.01, 8, log=True)] = 1.0
) -> nn.Module:
    """Return LeNet-5; each map of the second convolution sees all maps of the first, as is usual now.

    `width` is a factor on the numbers of channels and units, 1 for the published net.
    """
    if min(shape[1:]) < _LEAST_SIDE:
        raise too_small("lenet-5", min(shape[1:]), _LEAST_SIDE)
    counts = [max(1, round(count * width)) for count in (6, 16, 120, 84)]
    padding = 2 if min(shape[1:]) < 32 else 0  # the original pads images of 28 pixels to 32
    first = nn.Sequential(nn.Conv2d(shape[0], counts[0], 5, padding=padding), nn.Tanh(), nn.AvgPool2d(2))
    second = nn.Sequential(nn.Conv2d(counts[0], counts[1], 5), nn.Tanh(), nn.AvgPool2d(2))
    rows, columns = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in shape[1:])
    sizes = [counts[1] * rows * columns, *counts[2:]]
    dense = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.Tanh())]
    head = nn.Sequential(nn.Flatten(), *dense, nn.Linear(sizes[-1], classes))
    return in_blocks([first, second], head)
