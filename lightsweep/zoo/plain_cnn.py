"""A plain CNN: three padded 3×3 convolutions with batch normalisation, two poolings, mean and dense layer."""

from itertools import pairwise
from typing import Annotated

from torch import nn

from lightsweep.owncode.ranges import Range
from lightsweep.zoo._small_images import convolution_block, in_blocks, pooled, too_small

_LEAST_SIDE = 4


def build(
    shape: tuple[int, int, int], classes: int, *, width: Annotated[float, Range(0.01, 8, log=True)] = 1.0
) -> nn.Module:
    """Return the plain CNN; `width` is a factor on its 16, 32 and 64 channels."""
    if min(shape[1:]) < _LEAST_SIDE:
        raise too_small("plain-cnn", min(shape[1:]), _LEAST_SIDE)
    sizes = [shape[0], *(max(1, round(count * width)) for count in (16, 32, 64))]
    first, second, third = (convolution_block(*pair, 3, padding=1) for pair in pairwise(sizes))
    blocks = [first, nn.MaxPool2d(2), second, nn.MaxPool2d(2), third]
    return in_blocks(blocks, pooled(nn.Linear(sizes[-1], classes)))
