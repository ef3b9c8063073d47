"""Read image files into arrays (also Tiny ImageNet's), and resize them.

Pixels are [n, height, width, channels], so that `permute(0, 3, 1, 2)` gives channels_last tensors
without a copy.
"""

import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch.nn.functional import interpolate

from lightsweep.data.imagedata import Images, Pixels, as_tensor
from lightsweep.data.torchvision_files import damaged
from lightsweep.errors import InputError

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".tif",
     ".tiff", ".webp", ".gif")
)  # fmt: skip
"""Suffixes of files that are read as pictures; case is ignored."""
DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    Image.DecompressionBombError,
)
"""Exceptions that libraries raise for damaged files."""
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # EXIF tag, and its values for a quarter turn


def resize(pixels: Pixels, size: int, chunk: int = 4096) -> Pixels:
    """Resize images bilinearly, antialiased: uint8 [n, h, w, channels] to [n, size, size, channels]."""
    count, height, width, channels = pixels.shape
    if (height, width) == (size, size):
        return pixels
    resized = np.empty((count, size, size, channels), np.uint8)
    for start in range(0, count, chunk):
        part = as_tensor(pixels[start : start + chunk]).permute(0, 3, 1, 2)
        part = interpolate(part, (size, size), mode="bilinear", antialias=True)
        resized[start : start + chunk] = part.permute(0, 2, 3, 1).numpy()
    return resized


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(file) as image:
            yield image
    except DAMAGE as error:
        raise damaged(file, error) from error


@dataclass
class Looks:
    """Summary of the headers of pictures."""

    sizes: Counter[tuple[int, int]]
    """Number of pictures of each (width, height) in pixels, when upright."""
    modes: Counter[str]
    """Number of pictures of each Pillow mode."""
    turned: int
    """Number of pictures that are rotated or mirrored according to EXIF."""
    animated: int
    """Number of pictures with several frames, of which only the first is read."""
    transparent: int
    """Number of pictures with a transparent pixel."""

    @property
    def channels(self) -> int:
        """Channels that all pictures fit in: 1 (grey), 3 (RGB), or 4 (RGBA) if any is transparent."""
        return 4 if self.transparent else 1 if self.modes.keys() <= {"1", "L", "LA"} else 3


def look_at(files: list[Path]) -> Looks:
    """Inspect the headers of pictures, and the pixels of those that may be transparent.

    Raises:
        InputError: A picture is damaged, or has more than 8 bits per channel.

    """
    looks = Looks(Counter(), Counter(), 0, 0, 0)
    for file in files:
        with _opened(file) as image:
            if image.mode[0] in "IF":
                raise InputError(
                    f"{file}: mode {image.mode}; images must have 8 bits per channel; convert it"
                )
            orientation = image.getexif().get(_ORIENTATION, 1)
            width, height = image.size
            looks.sizes[(height, width) if orientation in _TURNED else (width, height)] += 1
            looks.turned += orientation in range(2, 9)
            looks.animated += getattr(image, "n_frames", 1) > 1
            looks.modes[image.mode] += 1
            looks.transparent += _is_transparent(image)
    return looks


def _is_transparent(image: Image.Image) -> bool:
    """Return whether any pixel is transparent; an alpha channel may be opaque everywhere."""
    if not image.has_transparency_data:
        return False
    return bool(np.asarray(image.convert("RGBA"))[..., 3].min() < 255)


def read_images(files: list[tuple[Path, int]], channels: int, size: int | None) -> Images:
    """Read image files upright into one array, each resized to size×size if a size is given."""
    pixels = np.empty(0, np.uint8)
    for index, (file, _) in enumerate(files):
        with _opened(file) as image:
            upright = ImageOps.exif_transpose(image)
            array = np.asarray(upright.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
        array = array.reshape(1, *array.shape[:2], channels)
        array = array if size is None else resize(array, size)
        if index == 0:
            pixels = np.empty((len(files), *array.shape[1:]), np.uint8)
        if array.shape[1:] != pixels.shape[1:]:
            raise damaged(file, f"{array.shape[1:]} where the first image is {pixels.shape[1:]}")
        pixels[index] = array[0]
    return Images(pixels, np.array([label for _, label in files], np.int64))


def tiny_imagenet_classes(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes' WordNet ids, in label order, and their English names."""
    try:
        ids = tuple((folder / "wnids.txt").read_text().split())
        lines = (folder / "words.txt").read_text().splitlines()
    except DAMAGE as error:
        raise damaged(folder / "wnids.txt", error) from error
    words = {wnid: names.partition(",")[0] for wnid, _, names in (line.partition("\t") for line in lines)}
    return ids, tuple(words.get(wnid, wnid) for wnid in ids)


def read_tiny_imagenet(folder: Path) -> tuple[Images, Images]:
    """Read Tiny ImageNet; its validation set is used as test set, since the test labels are not public."""
    ids, _ = tiny_imagenet_classes(folder)
    labels = {wnid: label for label, wnid in enumerate(ids)}
    annotations = folder / "val" / "val_annotations.txt"
    try:
        rows = [line.split("\t")[:2] for line in annotations.read_text().splitlines()]
        test = [(folder / "val" / "images" / file, labels[wnid]) for file, wnid in rows]
    except DAMAGE as error:
        raise damaged(annotations, error) from error
    train = [
        (file, label)
        for wnid, label in labels.items()
        for file in sorted((folder / "train" / wnid / "images").glob("*.JPEG"))
    ]
    return read_images(train, 3, None), read_images(test, 3, None)
