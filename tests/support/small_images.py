"""A data set so small that a trial takes a quarter of a second."""

from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 3
SPEC: dict[str, Any] = {"name": "npz", "path": "images.npz", "validation": 30}
"""What a sweep file says of it; its folder is `data`."""


def write_images(path: Path, train: int = 120, test: int = 30) -> Path:
    """Write noisy 10×10 images of three classes: bright left, bright right, bright top."""
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        labels = np.arange(count) % CLASSES
        pixels = random.integers(0, 160, (count, 10, 10))
        pixels[labels == 0, :, :5] += 60
        pixels[labels == 1, :, 5:] += 60
        pixels[labels == 2, :5] += 60
        arrays |= {f"{part}_images": pixels.astype(np.uint8), f"{part}_labels": labels}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path
