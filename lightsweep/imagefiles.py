"""Images in files of the users' own, and Tiny ImageNet's: npz files and folders of pictures.

Pixels are [n, height, width, channels], so that `permute(0, 3, 1, 2)` gives channels_last tensors
without a copy.
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch.nn.functional import interpolate

from lightsweep.errors import InputError
from lightsweep.imagedata import DatasetInfo, Images, Pixels, as_tensor
from lightsweep.splits import Integers, hold_out_test
from lightsweep.torchvision_import import damaged

_NPZ_KEYS = ("train_images", "train_labels", "test_images", "test_labels")
_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"))
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    KeyError,
    zipfile.BadZipFile,
    zlib.error,
    Image.DecompressionBombError,
)


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


def _npz_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
    """Read the arrays' shapes and types, without the arrays."""
    headers = {}
    try:
        with zipfile.ZipFile(path) as archive:
            absent = [key for key in _NPZ_KEYS if f"{key}.npy" not in archive.namelist()]
            for key in _NPZ_KEYS if not absent else ():
                with archive.open(f"{key}.npy") as member:
                    read = np.lib.format.read_array_header_1_0
                    if np.lib.format.read_magic(member) != (1, 0):
                        read = np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(member)
                    headers[key] = (shape, dtype)
    except _DAMAGE as error:
        raise damaged(path, error) from error
    if absent:
        raise InputError(f"{path} has no array {absent[0]}; it needs {', '.join(_NPZ_KEYS)}")
    return headers


def _npz_labels(path: Path) -> tuple[Integers, Integers]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            train, test = (
                arrays[f"{part}_labels"].reshape(-1).astype(np.int64) for part in ("train", "test")
            )
    except _DAMAGE as error:
        raise damaged(path, error) from error
    return train, test


def describe_npz(path: Path) -> DatasetInfo:
    """Check the headers and the labels of an npz file."""
    headers = _npz_headers(path)
    for part in ("train", "test"):
        shape, dtype = headers[f"{part}_images"]
        if dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
            raise InputError(
                f"{path}: {part}_images is {dtype} {shape}; it must be uint8 [n, height, width] or "
                f"[n, height, width, channels]; convert it"
            )
        label_shape, label_dtype = headers[f"{part}_labels"]
        if label_dtype.kind not in "iu" or label_shape not in ((shape[0],), (shape[0], 1)):
            raise InputError(
                f"{path}: {part}_labels is {label_dtype} {label_shape}; it must be integers [{shape[0]}] or "
                f"[{shape[0]}, 1], a class for each image; convert it"
            )
    train_shape, test_shape = headers["train_images"][0], headers["test_images"][0]
    if train_shape[1:] != test_shape[1:]:
        raise InputError(
            f"{path}: training images are {train_shape[1:]} and test images {test_shape[1:]}; they must have "
            f"one shape; resize or convert them"
        )
    train, test = _npz_labels(path)
    present = np.unique(train)
    count = len(present)
    if not np.array_equal(present, np.arange(count)) or test.min() < 0 or test.max() >= count:
        raise InputError(
            f"{path}: training labels {present[0]} to {present[-1]} ({count} classes), test labels "
            f"{test.min()} to {test.max()}; labels must be 0, 1, … and every class needs training images; "
            f"number the classes anew"
        )
    height, width, channels = train_shape[1:] if len(train_shape) == 4 else (*train_shape[1:], 1)
    classes = tuple(map(str, range(count)))
    return DatasetInfo("npz", height, width, channels, classes, train_shape[0], test_shape[0])


def read_npz(path: Path) -> tuple[Images, Images]:
    """Read the training and the test images of an npz file; raise InputError if it is not as needed."""
    info, labels = describe_npz(path), _npz_labels(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            pixels = [arrays["train_images"], arrays["test_images"]]
    except _DAMAGE as error:
        raise damaged(path, error) from error
    shape = (-1, info.height, info.width, info.channels)
    train, test = (np.ascontiguousarray(part.reshape(shape)) for part in pixels)
    return Images(train, labels[0]), Images(test, labels[1])


@dataclass(frozen=True)
class _Folder:
    """An image folder's description and its files, each with its label."""

    info: DatasetInfo
    train: list[tuple[Path, int]]
    test: list[tuple[Path, int]]


def scan_folder(path: Path, size: int | None) -> _Folder:
    """List an image folder and look at the headers of its images."""
    parts = [part for part in ("train", "test") if (path / part).is_dir()]
    if len(parts) == 1:
        raise InputError(
            f"{path} has a folder {parts[0]} but not both train and test; add the other, or have the "
            f"classes' folders directly below it (then a fifth of the images are test images)"
        )
    training = path / "train" if parts else path
    by_class = _list_classes(training)
    if len(by_class) < 2:
        raise InputError(
            f"{training} has {len(by_class)} folders of classes; give each of two or more its own"
        )
    classes = tuple(by_class)
    train = [(file, label) for label, files in enumerate(by_class.values()) for file in files]
    if parts:
        tests = _list_classes(path / "test")
        if unknown := [name for name in tests if name not in by_class]:
            raise InputError(
                f"{path / 'test' / unknown[0]}: no such class in {path / 'train'}; add or delete it"
            )
        if not tests:
            raise InputError(f"{path / 'test'}: no folders of classes; add them, with images")
        test = [(file, classes.index(name)) for name, files in tests.items() for file in files]
    else:
        kept, held_out = hold_out_test(np.array([label for _, label in train]), str(path))
        train, test = [train[i] for i in kept], [train[i] for i in held_out]
    sizes, channels = _look_at([file for file, _ in train + test])
    if len(sizes) > 1 and size is None:
        few = ", ".join(f"{width}×{height}" for width, height in sorted(sizes)[:3])
        raise InputError(f"{path}: images of {len(sizes)} sizes ({few}, …); set dataset.image_size")
    width, height = min(sizes)
    return _Folder(
        DatasetInfo("imagefolder", height, width, channels, classes, len(train), len(test)), train, test
    )


def _list_classes(folder: Path) -> dict[str, list[Path]]:
    """Map the names of the folders in a folder to the images below each, both sorted."""
    found = {}
    for below in sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."):
        files = sorted(file for file in below.rglob("[!.]*") if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise InputError(f"{below}: no images ({', '.join(sorted(_SUFFIXES))}); add some or delete it")
        found[below.name] = files
    return found


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(file) as image:
            yield image
    except _DAMAGE as error:
        raise damaged(file, error) from error


def _look_at(files: list[Path]) -> tuple[set[tuple[int, int]], int]:
    """Return the images' sizes (width, height), and the channels that can hold them all: 1, 3 or 4."""
    sizes, channels = set(), 1
    for file in files:
        with _opened(file) as image:
            sizes.add(image.size)
            if image.mode[0] in "IF":
                raise InputError(f"{file}: mode {image.mode}; images must have 8 bits a channel; convert it")
            grey = image.mode in ("1", "L")
            channels = max(channels, 4 if image.has_transparency_data else 1 if grey else 3)
    return sizes, channels


def read_images(files: list[tuple[Path, int]], channels: int, size: int | None) -> Images:
    """Read image files into one array, each resized to size×size if that is given."""
    pixels = np.empty(0, np.uint8)
    for index, (file, _) in enumerate(files):
        with _opened(file) as image:
            array = np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
        array = array.reshape(1, *array.shape[:2], channels)
        array = array if size is None else resize(array, size)
        if index == 0:
            pixels = np.empty((len(files), *array.shape[1:]), np.uint8)
        if array.shape[1:] != pixels.shape[1:]:
            raise damaged(file, f"{array.shape[1:]} where the first image is {pixels.shape[1:]}")
        pixels[index] = array[0]
    return Images(pixels, np.array([label for _, label in files], np.int64))


def tiny_imagenet_classes(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return WordNet's ids of the classes, in the order of the labels, and their English names."""
    try:
        ids = tuple((folder / "wnids.txt").read_text().split())
        lines = (folder / "words.txt").read_text().splitlines()
    except _DAMAGE as error:
        raise damaged(folder / "wnids.txt", error) from error
    words = {wnid: names.partition(",")[0] for wnid, _, names in (line.partition("\t") for line in lines)}
    return ids, tuple(words.get(wnid, wnid) for wnid in ids)


def read_tiny_imagenet(folder: Path) -> tuple[Images, Images]:
    """Read Tiny ImageNet; its validation images are the test images, whose own labels are not public."""
    ids, _ = tiny_imagenet_classes(folder)
    labels = {wnid: label for label, wnid in enumerate(ids)}
    annotations = folder / "val" / "val_annotations.txt"
    try:
        rows = [line.split("\t")[:2] for line in annotations.read_text().splitlines()]
        test = [(folder / "val" / "images" / file, labels[wnid]) for file, wnid in rows]
    except _DAMAGE as error:
        raise damaged(annotations, error) from error
    train = [
        (file, label)
        for wnid, label in labels.items()
        for file in sorted((folder / "train" / wnid / "images").glob("*.JPEG"))
    ]
    return read_images(train, 3, None), read_images(test, 3, None)
