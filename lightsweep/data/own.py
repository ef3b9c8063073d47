"""Data sets of the user's own: a function returns images, labels and class names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightsweep.data.imagedata import DatasetInfo, Images, Pixels
from lightsweep.data.pictures import look_at, read_images
from lightsweep.data.splits import Integers, hold_out_test
from lightsweep.errors import InputError
from lightsweep.owncode.loading import as_keywords, load, named_errors, own_sources
from lightsweep.owncode.reference import without_digests
from lightsweep.sweepfile.dataset import DatasetSpec

MOST_CHANNELS = 4


@dataclass(frozen=True)
class Data:
    """What a function of the user's own returns: images with labels.

    Images are uint8 [n, height, width] or [n, height, width, channels], or a list of image files' paths,
    relative to the data folder. Labels are integers from 0, or class names.
    """

    train_images: Any
    """Training images."""
    train_labels: Any
    """Label of each training image."""
    test_images: Any = None
    """Test images; None to hold out a fixed fifth of the training images."""
    test_labels: Any = None
    """Label of each test image."""
    val_images: Any = None
    """Validation images; None to hold out training images by `dataset.validation`."""
    val_labels: Any = None
    """Label of each validation image."""
    classes: Sequence[str] | None = None
    """Class names in label order; None for those of the labels, or 0, 1, …"""


Parts = tuple[DatasetInfo, Images, Images, Images | None]


@lru_cache(maxsize=2)
def load_own(spec: DatasetSpec, data_dir: Path) -> Parts:
    """Call the function of a data set, and return its description, training, test and validation images.

    Raises:
        InputError: The function fails, or returns what are no images with labels; names file and line.

    """
    name = without_digests(spec.name)
    with named_errors(own_sources(spec.name), "failed"):
        found = load(spec.name)(data_dir, **as_keywords(spec.keywords))
    data = _as_data(found, name)
    given = [("train", data.train_images, data.train_labels)]
    given += [
        (part, images, labels)
        for part, images, labels in (
            ("test", data.test_images, data.test_labels),
            ("val", data.val_images, data.val_labels),
        )
        if images is not None
    ]
    classes = _classes(data, [labels for _, _, labels in given], name)
    channels = _channels([images for _, images, _ in given], data_dir)
    parts: dict[str, Images] = {}
    for part, images, labels in given:
        numbers = _labels(labels, classes, f"{name}: {part}_labels")
        pixels = _pixels(images, data_dir, channels, spec.image_size, f"{name}: {part}_images")
        if len(pixels) != len(numbers):
            raise InputError(f"{name}: {len(pixels)} {part}_images and {len(numbers)} {part}_labels")
        parts[part] = Images(pixels, numbers)
    train = parts["train"]
    if len(np.unique(train.labels)) < len(classes) or len(classes) < 2:
        raise InputError(
            f"{name}: the training images are of {len(np.unique(train.labels))} of {len(classes)} classes; "
            "every class needs training images, and there must be two or more"
        )
    if "test" not in parts:
        kept, held = hold_out_test(train.labels, name)
        pixels, numbers = train.pixels, train.labels
        train, parts["test"] = Images(pixels[kept], numbers[kept]), Images(pixels[held], numbers[held])
    shapes = {part: images.pixels.shape[1:] for part, images in {**parts, "train": train}.items()}
    if len(set(shapes.values())) > 1:
        shown = ", ".join(f"{part} {shape}" for part, shape in shapes.items())
        raise InputError(
            f"{name}: images of several shapes ({shown}); make them one, or set dataset.image_size"
        )
    height, width, _ = shapes["train"]
    own = parts.get("val")
    counts = len(train.labels), len(parts["test"].labels), len(own.labels) if own else 0
    info = DatasetInfo(name, height, width, shapes["train"][2], classes, *counts)
    return info, train, parts["test"], own


def _as_data(found: Any, name: str) -> Data:
    if isinstance(found, Data):
        return found
    if isinstance(found, Mapping):
        unknown = [str(key) for key in found if key not in Data.__dataclass_fields__]
        if unknown or "train_images" not in found or "train_labels" not in found:
            raise InputError(
                f"{name}: the mapping needs train_images and train_labels, and may have "
                f"{', '.join(list(Data.__dataclass_fields__)[2:])}; it has {', '.join(map(str, found))}"
            )
        return Data(**found)
    if isinstance(found, tuple) and len(found) == 3:
        images, labels, classes = found
        return Data(images, labels, classes=classes)
    if isinstance(found, tuple) and len(found) == 5:
        train_images, train_labels, test_images, test_labels, classes = found
        return Data(train_images, train_labels, test_images, test_labels, classes=classes)
    what = f"a tuple of {len(found)}" if isinstance(found, tuple) else type(found).__name__
    raise InputError(
        f"{name}: must return lightsweep.Data, a mapping with its fields, (images, labels, classes) or "
        f"(train images, train labels, test images, test labels, classes), not {what}"
    )


def _classes(data: Data, labels: list[Any], name: str) -> tuple[str, ...]:
    if data.classes is not None:
        classes = tuple(map(str, data.classes))
        if len(set(classes)) < len(classes):
            raise InputError(f"{name}: two classes have one name")
        return classes
    seen = sorted({each for part in labels for each in np.asarray(part).ravel().tolist()}, key=str)
    if all(isinstance(each, str) for each in seen):
        return tuple(seen)
    if not all(isinstance(each, int) for each in seen):
        raise InputError(
            f"{name}: labels must be integers from 0, or class names, not {type(seen[0]).__name__}"
        )
    return tuple(map(str, range(max(seen, default=-1) + 1)))


def _labels(labels: Any, classes: tuple[str, ...], place: str) -> Integers:
    array = np.asarray(labels).reshape(-1)
    if array.dtype.kind in "UO" and all(isinstance(each, str) for each in array.tolist()):
        numbers = {name: number for number, name in enumerate(classes)}
        unknown = sorted(set(array.tolist()) - numbers.keys())
        if unknown:
            raise InputError(f"{place}: {unknown[0]!r} is none of the classes {', '.join(classes)}")
        return np.array([numbers[each] for each in array.tolist()], np.int64)
    if array.dtype.kind not in "iu":
        raise InputError(f"{place}: is {array.dtype}; it must be integers from 0, or class names")
    if len(array) and not 0 <= array.min() <= array.max() < len(classes):
        raise InputError(
            f"{place}: has labels {array.min()} to {array.max()} for {len(classes)} classes; it must be 0 to "
            f"{len(classes) - 1}"
        )
    return array.astype(np.int64)


def _are_paths(images: Any) -> bool:
    return isinstance(images, Sequence) and len(images) > 0 and isinstance(images[0], str | Path)


def _channels(parts: list[Any], data_dir: Path) -> int | None:
    """Return the channels that all image files fit in; None if there are no files."""
    files = [data_dir / each for images in parts if _are_paths(images) for each in images]
    return look_at(files).channels if files else None


def _pixels(images: Any, data_dir: Path, channels: int | None, size: int | None, place: str) -> Pixels:
    if _are_paths(images):
        return read_images([(data_dir / each, 0) for each in images], channels or 1, size).pixels
    if isinstance(images, torch.Tensor):
        images = images.numpy()
    array = np.asarray(images)
    needs = "it must be uint8 [n, height, width] or [n, height, width, channels]"
    if array.ndim == 4 and array.shape[1] <= MOST_CHANNELS < min(array.shape[2:]):
        raise InputError(f"{place} are {array.shape}, as [n, channels, height, width]; {needs}")
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or 0 in array.shape:
        raise InputError(f"{place} are {array.dtype} {array.shape}; {needs}")
    return np.ascontiguousarray(array if array.ndim == 4 else array[..., None])
