"""Read and download public data sets with torchvision."""

import http.client
import importlib
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from lightsweep.errors import InputError
from lightsweep.system.torchvision_import import import_torchvision

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
"""Pixels uint8 [n, height, width, channels] and labels int64 [n]."""

_CLASSES = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
    "stl10": "STL10",
}
_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_BATCHES = ("batches.meta", *(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_STL10 = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin")
FILES: dict[str, tuple[str, ...]] = {
    "mnist": tuple(f"MNIST/raw/{file}" for file in _IDX),
    "fashion-mnist": tuple(f"FashionMNIST/raw/{file}" for file in _IDX),
    "kmnist": tuple(f"KMNIST/raw/{file}" for file in _IDX),
    "cifar10": tuple(f"cifar-10-batches-py/{file}" for file in _BATCHES),
    "cifar100": tuple(f"cifar-100-python/{file}" for file in ("meta", "train", "test")),
    "svhn": ("train_32x32.mat", "test_32x32.mat"),
    "stl10": tuple(f"stl10_binary/{file}" for file in _STL10),
    "tiny-imagenet": tuple(
        f"tiny-imagenet-200/{file}"
        for file in ("wnids.txt", "words.txt", "train", "val/images", "val/val_annotations.txt")
    ),
}
"""Files (or folders) of each data set, relative to the data folder."""
_TINY_IMAGENET = ("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de")


def missing_files(name: str, data_dir: Path) -> list[str]:
    """Return those of a data set's `FILES` that are missing in the data folder."""
    return [file for file in FILES[name] if not (data_dir / file).exists()]


def download_files(name: str, data_dir: Path) -> str | None:
    """Download and unpack a data set's files; return None, or a short reason for the failure."""
    datasets = importlib.import_module(f"{import_torchvision().__name__}.datasets")
    try:
        if name == "tiny-imagenet":
            url, md5 = _TINY_IMAGENET
            datasets.utils.download_and_extract_archive(url, data_dir, md5=md5)
        elif name == "svhn":
            for part in ("train", "test"):
                datasets.SVHN(data_dir, split=part, download=True)
        else:
            getattr(datasets, _CLASSES[name])(data_dir, download=True)
    except (
        RuntimeError,
        OSError,
        EOFError,
        http.client.HTTPException,
        tarfile.TarError,
        zipfile.BadZipFile,
    ) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return lines[-1][:200]  # one line per failed mirror
    return None


def read_files(name: str, data_dir: Path) -> tuple[Arrays, Arrays]:
    """Read the training and test images of a data set whose files are all present.

    Returns:
        The training and the test set, each as pixels and labels (see `Arrays`).

    Raises:
        InputError: A file is damaged; the message names it.
    """
    datasets = importlib.import_module(f"{import_torchvision().__name__}.datasets")
    if name in ("mnist", "fashion-mnist", "kmnist"):
        images, labels, test_images, test_labels = (
            _read_idx(datasets.mnist, data_dir / file) for file in FILES[name]
        )
        return (images[..., None], labels.astype(np.int64)), (
            test_images[..., None],
            test_labels.astype(np.int64),
        )
    kind = getattr(datasets, _CLASSES[name])
    try:
        if name in ("cifar10", "cifar100"):
            parts = [kind(data_dir, train=True), kind(data_dir, train=False)]
            train, test = ((part.data, part.targets) for part in parts)
        else:
            parts = [kind(data_dir, split="train"), kind(data_dir, split="test")]
            train, test = ((part.data.transpose(0, 2, 3, 1), part.labels) for part in parts)
    except RuntimeError as error:
        check = datasets.utils.check_integrity
        wrong = [file for file, md5 in _checksums(kind).items() if not check(data_dir / file, md5)]
        raise damaged(data_dir / (wrong or FILES[name])[0], "its checksum is wrong") from error
    return _contiguous(*train), _contiguous(*test)


def damaged(file: Path, reason: object) -> InputError:
    """Return the error for a damaged file."""
    words = " ".join(str(reason).split())[:200] or type(reason).__name__
    return InputError(f"{file} is damaged ({words}); delete it and fetch it again")


def _contiguous(pixels: Any, labels: Any) -> Arrays:
    return np.ascontiguousarray(pixels, dtype=np.uint8), np.asarray(labels, dtype=np.int64)


def _read_idx(mnist: ModuleType, file: Path) -> npt.NDArray[Any]:
    read = mnist.read_image_file if "images" in file.name else mnist.read_label_file
    try:
        array: npt.NDArray[Any] = read(str(file)).numpy()
    except Exception as error:  # torchvision does not validate: assertions, keys, shapes, buffers
        raise damaged(file, error) from error
    return array


def _checksums(kind: Any) -> dict[str, str]:
    """Return the MD5 of each file of a torchvision class, by path relative to the data folder."""
    if hasattr(kind, "split_list"):
        return {kind.split_list[part][1]: kind.split_list[part][2] for part in ("train", "test")}
    listed = [*kind.train_list, *kind.test_list]
    if hasattr(kind, "meta"):
        listed.append([kind.meta["filename"], kind.meta["md5"]])
    return {f"{kind.base_folder}/{file}": md5 for file, md5 in listed}
