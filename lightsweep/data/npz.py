"""Read npz files with arrays of images and labels, such as those of MedMNIST (https://medmnist.com)."""

import zipfile
from pathlib import Path

import numpy as np

from lightsweep.data.imagedata import DatasetInfo, Images
from lightsweep.data.pictures import DAMAGE
from lightsweep.data.splits import Integers
from lightsweep.data.torchvision_files import damaged
from lightsweep.errors import InputError

PARTS = ("train", "test")
VALIDATION = "val"
MOST_BYTES = 64 * 2**30  # limit on an array's pixels; a larger header means a damaged file
_CHANNELS = (1, 3, 4)

_Header = tuple[tuple[int, ...], np.dtype[np.generic]]


def describe_npz(path: Path) -> DatasetInfo:
    """Check the headers and the labels of an npz file.

    Raises:
        InputError: The file is damaged or has the wrong format; the message describes what it has.

    """
    headers = _headers(path)
    parts = _parts(headers)
    for part in parts:
        _check_images(path, part, headers)
    shape = headers["train_images"][0][1:]
    for part in parts:
        other = headers[f"{part}_images"][0][1:]
        if other != shape:
            raise InputError(
                f"{path}: training images are {shape} and {part} images {other}; they must have "
                "the same shape; resize or convert them"
            )
    labels = _labels(path, parts)
    count = _check_labels(path, labels)
    height, width, channels = shape if len(shape) == 3 else (*shape, 1)
    numbers = [len(labels[part]) if part in labels else 0 for part in ("train", "test", VALIDATION)]
    return DatasetInfo("npz", height, width, channels, tuple(map(str, range(count))), *numbers)


def read_npz(path: Path) -> tuple[Images, Images, Images | None]:
    """Read the training, test and (if present) validation images of an npz file.

    Raises:
        InputError: The file is damaged or has the wrong format.

    """
    info = describe_npz(path)
    parts = _parts(_headers(path))
    labels = _labels(path, parts)
    shape = (-1, info.height, info.width, info.channels)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {
                part: Images(np.ascontiguousarray(arrays[f"{part}_images"].reshape(shape)), labels[part])
                for part in parts
            }
    except (*DAMAGE, MemoryError) as error:
        raise damaged(path, error) from error
    return found["train"], found["test"], found.get(VALIDATION)


def passed_over(path: Path) -> list[str]:
    """Return the names of the arrays in an npz file that are not read."""
    headers = _headers(path)
    read = {f"{part}_{kind}" for part in _parts(headers) for kind in ("images", "labels")}
    return sorted(headers.keys() - read)


def _parts(headers: dict[str, _Header]) -> tuple[str, ...]:
    has_validation = f"{VALIDATION}_images" in headers and f"{VALIDATION}_labels" in headers
    return (*PARTS, VALIDATION) if has_validation else PARTS


def _headers(path: Path) -> dict[str, _Header]:
    """Read the shapes and types of the arrays, without their data."""
    headers: dict[str, _Header] = {}
    needed = [f"{part}_{kind}" for part in PARTS for kind in ("images", "labels")]
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            absent = [key for key in needed if key not in names]
            for key in names if not absent else ():
                with archive.open(f"{key}.npy") as member:
                    read = np.lib.format.read_array_header_1_0
                    if np.lib.format.read_magic(member) != (1, 0):
                        read = np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(member)
                    headers[key] = (shape, dtype)
    except DAMAGE as error:
        raise damaged(path, error) from error
    if absent:
        raise InputError(f"{path} has no array {absent[0]}; it needs {', '.join(needed)}")
    return headers


def _check_images(path: Path, part: str, headers: dict[str, _Header]) -> None:
    name = f"{part}_images"
    shape, dtype = headers[name]
    needs = "it must be uint8 [n, height, width] or [n, height, width, channels]"
    found = f"{path}: {name} is {dtype} {shape}"
    if len(shape) == 5 or (len(shape) == 4 and len(set(shape[1:])) == 1 and shape[1] > max(_CHANNELS)):
        raise InputError(f"{found}: these look like volumes, and {needs}; save slices of them as images")
    if len(shape) == 4 and shape[1] in _CHANNELS and shape[2] > 4 and shape[3] > 4:
        raise InputError(
            f"{found}: this looks like [n, channels, height, width], and {needs}: "
            f"np.transpose({name}, (0, 2, 3, 1))"
        )
    if dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
        raise InputError(f"{found}; {needs}; convert it")
    if np.prod(shape, dtype=object) > MOST_BYTES:
        raise InputError(f"{found}; that is more than fits in memory: the file is damaged")
    label_shape, label_dtype = headers[f"{part}_labels"]
    if label_dtype.kind not in "iu" or label_shape not in ((shape[0],), (shape[0], 1)):
        raise InputError(
            f"{path}: {part}_labels is {label_dtype} {label_shape}; it must be integers [{shape[0]}] or "
            f"[{shape[0]}, 1], one class per image; convert it"
        )


def _labels(path: Path, parts: tuple[str, ...]) -> dict[str, Integers]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {part: arrays[f"{part}_labels"].reshape(-1).astype(np.int64) for part in parts}
    except (*DAMAGE, MemoryError) as error:
        raise damaged(path, error) from error


def _check_labels(path: Path, labels: dict[str, Integers]) -> int:
    """Check the labels and return the number of classes."""
    train, others = labels["train"], [part for part in labels if part != "train"]
    present = np.unique(train)
    count = len(present)
    is_dense = np.array_equal(present, np.arange(count))
    if not is_dense or any(labels[part].min() < 0 or labels[part].max() >= count for part in others):
        ranges = ", ".join(f"{part} labels {labels[part].min()} to {labels[part].max()}" for part in others)
        raise InputError(
            f"{path}: training labels {present[0]} to {present[-1]} ({count} classes), {ranges}; labels must "
            f"be 0, 1, … and every class needs training images; renumber the classes"
        )
    if count < 2:
        raise InputError(f"{path}: all training images are of one class; there must be two or more")
    return count
