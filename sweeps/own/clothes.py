"""Fashion-MNIST by a function of one's own: all ten kinds, or those that are worn above."""

from pathlib import Path

import numpy as np
from torchvision.datasets import FashionMNIST

from lightsweep import Data

TOPS = ("T-shirt/top", "Pullover", "Dress", "Coat", "Shirt")


def clothes(data_dir: Path, *, tops: bool = False) -> Data:
    """Images are uint8 [n, height, width]; labels count the names in `classes`."""
    parts = [FashionMNIST(data_dir, train=train, download=True) for train in (True, False)]
    names = TOPS if tops else tuple(parts[0].classes)
    found = []
    for part in parts:
        labels = np.array([names.index(name) if name in names else -1 for name in part.classes])[part.targets]
        found += [part.data.numpy()[labels >= 0], labels[labels >= 0]]
    return Data(*found, classes=names)
