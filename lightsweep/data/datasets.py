"""Load and describe data sets as uint8 arrays in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lightsweep.data.folder import scan_folder
from lightsweep.data.imagedata import Dataset, DatasetInfo, Images
from lightsweep.data.npz import describe_npz, passed_over, read_npz
from lightsweep.data.own import load_own
from lightsweep.data.pictures import read_images, read_tiny_imagenet, resize, tiny_imagenet_classes
from lightsweep.data.splits import hold_out_test
from lightsweep.data.torchvision_files import download_files, missing_files, read_files
from lightsweep.errors import InputError
from lightsweep.sweepfile.dataset import DatasetSpec


@dataclass(frozen=True)
class Availability:
    """Whether a named data set is available locally."""

    info: DatasetInfo
    here: bool
    where: str
    """Where it is, or which files are missing where, in one line."""


_DIGITS = tuple("0123456789")
_FASHION = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
_CIFAR100 = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel "
    "can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur "
    "dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion "
    "lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree "
    "pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea "
    "seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table "
    "tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman "
    "worm"
)
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_STL10 = "airplane bird car cat deer dog horse monkey ship truck"
_KMNIST = "o ki su tsu na ha ma ya re wo"
_NAMED = {
    info.name: info
    for info in (
        DatasetInfo("digits", 28, 28, 1, _DIGITS, 1438, 359),
        DatasetInfo("mnist", 28, 28, 1, _DIGITS, 60_000, 10_000),
        DatasetInfo("fashion-mnist", 28, 28, 1, tuple(_FASHION.split(", ")), 60_000, 10_000),
        DatasetInfo("kmnist", 28, 28, 1, tuple(_KMNIST.split()), 60_000, 10_000),
        DatasetInfo("cifar10", 32, 32, 3, tuple(_CIFAR10.split()), 50_000, 10_000),
        DatasetInfo("cifar100", 32, 32, 3, tuple(_CIFAR100.split()), 50_000, 10_000),
        DatasetInfo("svhn", 32, 32, 3, _DIGITS, 73_257, 26_032),
        DatasetInfo("stl10", 96, 96, 3, tuple(_STL10.split()), 5_000, 8_000),
        DatasetInfo("tiny-imagenet", 64, 64, 3, tuple(map(str, range(200))), 100_000, 10_000),
    )
}


def describe(spec: DatasetSpec, data_dir: Path) -> DatasetInfo:
    """Describe a data set without loading its pixels; a named one need not be downloaded yet.

    Raises:
        InputError: An npz file or image folder is missing, damaged, or not in the format that `load` needs.

    """
    if spec.is_own:
        info = load_own(spec, data_dir)[0]
    elif spec.name == "npz":
        info = describe_npz(_find_path(spec, data_dir))
    elif spec.name == "imagefolder":
        info = scan_folder(_find_path(spec, data_dir)).describe(spec.image_size)
    else:
        info = _NAMED[spec.name]
        if spec.name == "tiny-imagenet" and not missing_files(spec.name, data_dir):
            info = replace(info, classes=tiny_imagenet_classes(data_dir / "tiny-imagenet-200")[1])
    return _resized(info, spec.image_size)


def load(spec: DatasetSpec, data_dir: Path, download: bool) -> Dataset:
    """Load a data set, resized to spec.image_size if that is set.

    Args:
        spec: Settings of the data set; those of the split are ignored.
        data_dir: Folder with the named data sets' files.
        download: Whether a missing named data set may be downloaded into data_dir.

    Raises:
        InputError: Files are missing (and cannot be downloaded) or damaged, or an npz file or image folder
            has the wrong format.

    """
    notes: list[str] = []
    parts: Sequence[Images | None]
    if spec.is_own:
        info, *parts = load_own(spec, data_dir)
    elif spec.name == "npz":
        path = _find_path(spec, data_dir)
        info, parts = describe_npz(path), read_npz(path)
        notes += [f"skipped: the array {name}" for name in passed_over(path)]
    elif spec.name == "imagefolder":
        folder = scan_folder(_find_path(spec, data_dir))
        info, notes = folder.describe(spec.image_size), folder.notes()
        listed = (folder.files.get(part) for part in ("train", "test", "validation"))
        parts = tuple(
            read_images(files, info.channels, spec.image_size) if files else None for files in listed
        )
    else:
        parts = (*_read_named(spec, data_dir, download), None)
        info = describe(spec, data_dir)
    info = _resized(info, spec.image_size)
    counts = info.train_count, info.test_count, info.validation_count
    found = []
    for images, count in zip(parts, counts, strict=True):
        if images is not None:
            if spec.image_size is not None:
                images = Images(resize(images.pixels, spec.image_size), images.labels)
            _check_shape(info, images, count)
            found.append(images)
    train, test, *own = found
    return Dataset(info, train, test, _fingerprint(*found), own[0] if own else None, tuple(notes))


def available(data_dir: Path) -> list[Availability]:
    """Return for each named data set whether its files are in a folder, without reading them."""
    found = []
    for name, info in _NAMED.items():
        if name == "digits":
            found.append(Availability(info, True, "comes with scikit-learn"))
        elif name == "cifar10" and (data_dir / "cifar10.npz").is_file():
            found.append(Availability(info, True, str(data_dir / "cifar10.npz")))
        else:
            missing = missing_files(name, data_dir)
            where = _missing(name, missing, data_dir) if missing else str(data_dir)
            found.append(Availability(info, not missing, where))
    return found


def _resized(info: DatasetInfo, size: int | None) -> DatasetInfo:
    return info if size is None else replace(info, height=size, width=size)


def _check_shape(info: DatasetInfo, images: Images, count: int) -> None:
    """Reject images that do not match the data set's description, such as an incomplete named data set."""
    expected = (count, info.height, info.width, info.channels)
    lowest, highest = images.labels.min(initial=0), images.labels.max(initial=0)
    if images.pixels.shape != expected or len(images.labels) != count:
        found = f"images {images.pixels.shape} and {len(images.labels)} labels instead of {expected}"
    elif lowest < 0 or highest >= len(info.classes):
        found = f"labels {lowest} to {highest} instead of 0 to {len(info.classes) - 1}"
    else:
        return
    raise InputError(
        f"data set {info.name}: found {found}; its files are damaged or of another data set: delete and "
        f"download them again, or load your own images as data set npz"
    )


def _fingerprint(*parts: Images) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part.pixels.shape).encode())
        digest.update(part.pixels.data)
        digest.update(part.labels.data)
    return digest.hexdigest()


def _find_path(spec: DatasetSpec, data_dir: Path) -> Path:
    """Return spec.path below the current directory, else below the data folder."""
    path = Path(spec.path or "").expanduser()
    for candidate in (path, data_dir / path):
        if candidate.is_dir() if spec.name == "imagefolder" else candidate.is_file():
            return candidate
    kind = "folder" if spec.name == "imagefolder" else "file"
    looked = dict.fromkeys(str(folder / path) for folder in (Path.cwd(), data_dir))
    raise InputError(
        f"dataset.path: no {kind} {path}; looked for {' and '.join(looked)}; correct the path, or set its "
        f"parent folder with --data-dir"
    )


def _missing(name: str, missing: list[str], data_dir: Path) -> str:
    files = " or cifar10.npz" if name == "cifar10" else ""
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    return f"no {missing[0]}{more}{files} below {data_dir}"


def _read_named(spec: DatasetSpec, data_dir: Path, download: bool) -> tuple[Images, Images]:
    """Read a named data set; download it first if it is missing and that is allowed."""
    name = spec.name
    if name == "digits":
        return _read_digits(spec.image_size or 28)
    if name == "cifar10" and (data_dir / "cifar10.npz").is_file():
        return read_npz(data_dir / "cifar10.npz")[:2]
    missing, reason = missing_files(name, data_dir), None
    if missing and download:
        reason = download_files(name, data_dir)
        missing = missing_files(name, data_dir)
    if missing:
        remedy = f"with a network connection, lightsweep datasets --download {name} fetches it"
        if reason is not None:
            remedy = f"its download failed ({reason})"
        raise InputError(
            f"data set {name} is not here: {_missing(name, missing, data_dir)}; "
            f"{remedy}; or put its unpacked files there, or set another folder with --data-dir"
        )
    if name == "tiny-imagenet":
        return read_tiny_imagenet(data_dir / "tiny-imagenet-200")
    train, test = read_files(name, data_dir)
    return Images(*train), Images(*test)


def _read_digits(size: int) -> tuple[Images, Images]:
    """Read scikit-learn's digits (8×8, values 0 to 16); a fixed fifth of them is the test set."""
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    pixels = resize(np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None], size)
    labels = digits.target.astype(np.int64)
    train, test = hold_out_test(labels, "data set digits")
    return Images(pixels[train], labels[train]), Images(pixels[test], labels[test])
