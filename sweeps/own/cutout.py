"""Cutout (DeVries and Taylor 2017, arXiv 1708.04552): a square of each image becomes black."""

import torch
from torch import Tensor


def cutout(images: Tensor, generator: torch.Generator, *, size: int = 8) -> Tensor:
    """Images are float32 [n, channels, height, width] in [0, 1]; draw from the generator only."""
    count, _, height, width = images.shape
    places = torch.rand(2, count, 1, generator=generator, device=images.device)
    rows = torch.arange(height, device=images.device) - (places[0] * height).floor()
    columns = torch.arange(width, device=images.device) - (places[1] * width).floor()
    is_out = (rows.abs() <= size // 2)[:, None, :, None] & (columns.abs() <= size // 2)[:, None, None, :]
    return images * ~is_out
