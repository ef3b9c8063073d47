"""A data set in memory, independent of its source.

Pixels are [n, height, width, channels], so that `permute(0, 3, 1, 2)` gives channels_last tensors
without a copy.
"""

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lightsweep.data.splits import Integers

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Images:
    """Images and their labels."""

    pixels: Pixels
    """uint8 [n, height, width, channels], C-contiguous."""
    labels: Integers
    """int64 [n], indices into the data set's classes."""


@dataclass(frozen=True)
class Task:
    """What a net depends on besides its settings."""

    shape: tuple[int, int, int]
    """Shape of the images: channels, height, width."""
    classes: int
    """Number of classes."""


@dataclass(frozen=True)
class DatasetInfo:
    """Description of a data set without its pixels; lengths are in pixels, after any resizing."""

    name: str
    height: int
    width: int
    channels: int
    classes: tuple[str, ...]
    """Class names, in label order."""
    train_count: int
    test_count: int
    validation_count: int = 0
    """Number of the data set's own validation images, in addition to its training images."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image: channels, height, width."""
        return self.channels, self.height, self.width

    @property
    def task(self) -> Task:
        """What a net for these images depends on."""
        return Task(self.shape, len(self.classes))

    @property
    def size_text(self) -> str:
        """Image size in words: 20×28 pixels, 1 channel."""
        return f"{self.width}×{self.height} pixels, {self.channels} channel{'s' if self.channels > 1 else ''}"


def as_tensor(array: npt.NDArray[np.generic]) -> torch.Tensor:
    """Return a tensor that shares an array's memory, which may be read-only, as in Ray's object store.

    The tensor must not be written to if the array is read-only.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


@dataclass(frozen=True)
class Dataset:
    """A data set in memory."""

    info: DatasetInfo
    train: Images
    test: Images
    fingerprint: str
    """SHA-256 of shapes, pixels and labels as loaded, after any resizing; 64 hexadecimal digits."""
    validation: Images | None = None
    """The data set's own validation images, or None."""
    notes: tuple[str, ...] = ()
    """What was skipped or changed while reading, one line each."""

    def shared_with_test(self) -> int:
        """Count the test images that are also training or validation images, pixel for pixel."""
        parts = [self.train] if self.validation is None else [self.train, self.validation]
        seen = {digest for part in parts for digest in _digests(part)}
        return sum(digest in seen for digest in _digests(self.test))


def _digests(images: Images) -> Iterator[bytes]:
    for pixels in images.pixels:
        yield hashlib.blake2b(pixels, digest_size=16).digest()
