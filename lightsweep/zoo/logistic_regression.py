"""Logistic regression: one dense layer over the pixels."""

import math

from torch import nn

from lightsweep.zoo._small_images import in_blocks


def build(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return a dense layer over all pixels."""
    return in_blocks([], nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes)))
