"""What a net costs, known before it is trained: parameters, multiply-accumulates, bytes."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from lightsweep.models import build
from lightsweep.spec import ModelSpec


@dataclass(frozen=True)
class Cost:
    """Costs of a trial's final net."""

    parameters: int
    """Trainable weights and biases."""
    macs: int
    """Multiply-accumulates of the convolutions and dense layers for one image."""
    weight_bytes: int
    """The parameters as float32."""
    training_bytes: int
    """Parameters and Nadam's two moments as float32: what arXiv 2501.15547 gives as the model's size."""


@lru_cache(maxsize=4096)
def cost(model: ModelSpec, shape: tuple[int, int, int], classes: int) -> Cost:
    """Count the final net for images of shape (channels, height, width), without making its weights.

    Raises:
        InputError: The filters are too many for the image.

    """
    with torch.device("meta"):
        net = build(model, shape, classes, "fused", seed=0).eval()
        image = torch.empty(1, *shape)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            net(image, image)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Cost(parameters, counter.get_total_flops() // 2, 4 * parameters, 12 * parameters)
