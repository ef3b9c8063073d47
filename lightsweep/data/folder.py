"""Read a folder of pictures: one folder per class, with or without split folders above them.

Skipped files are counted, and reported in the data set's notes.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lightsweep.data.imagedata import DatasetInfo
from lightsweep.data.pictures import SUFFIXES, Looks, look_at
from lightsweep.data.splits import hold_out_test
from lightsweep.echo import one_line
from lightsweep.errors import InputError

Split = Literal["train", "test", "validation"]
Files = list[tuple[Path, int]]
"""Image files, each with its label."""

SPLITS: dict[str, Split] = {
    "train": "train", "training": "train",
    "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation",
}  # fmt: skip
"""Folder names that mean a split, in lower case; matching ignores case."""
_SYSTEMS = {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information", "__pycache__"}


@dataclass(frozen=True)
class ImageFolder:
    """Contents of a folder of pictures."""

    path: Path
    classes: tuple[str, ...]
    files: dict[Split, Files]
    """Image files of each split; `validation` is there only if the folder has validation images."""
    looks: Looks
    passed_over: Counter[str]
    """Descriptions of skipped files and folders, with their counts."""
    has_test: bool
    """Whether a folder holds the test images; else they are a fixed fifth of all images."""

    def describe(self, size: int | None) -> DatasetInfo:
        """Return the data set's description, with images resized to size×size if a size is given.

        Raises:
            InputError: The images have several sizes, and `size` is None.

        """
        sizes = self.looks.sizes
        if len(sizes) > 1 and size is None:
            few = ", ".join(f"{width}×{height}" for width, height in sorted(sizes)[:3])
            raise InputError(f"{self.path}: images of {len(sizes)} sizes ({few}, …); set dataset.image_size")
        width, height = min(sizes)
        counts = [len(self.files.get(part, ())) for part in ("train", "test", "validation")]
        return DatasetInfo("imagefolder", height, width, self.looks.channels, self.classes, *counts)

    def notes(self) -> list[str]:
        """Return notes for the user: what was skipped, and what was changed in the pictures."""
        looks = self.looks
        found = [f"skipped: {count} {what}" for what, count in sorted(self.passed_over.items())]
        if looks.turned:
            found.append(f"{looks.turned} pictures are turned upright, according to their EXIF data")
        if looks.animated:
            found.append(f"{looks.animated} pictures are animated; only the first frame is read")
        if looks.transparent:
            total = looks.modes.total()
            found.append(
                f"{looks.transparent} of {total} pictures have transparent pixels, so all have 4 channels"
            )
        return found


def scan_folder(path: Path) -> ImageFolder:
    """List the pictures of a folder and inspect their headers.

    Raises:
        InputError: Its folders are not classes, or a picture is damaged.

    """
    passed_over: Counter[str] = Counter()
    splits = _splits(path, passed_over)
    if splits:
        classes, files = _read_splits(path, splits, passed_over)
    else:
        by_class = _list_classes(path, passed_over, is_split=False)
        classes = _two_or_more(path, by_class)
        everything = [(file, label) for label, found in enumerate(by_class.values()) for file in found]
        kept, held_out = hold_out_test(np.array([label for _, label in everything]), str(path))
        files = {"train": [everything[i] for i in kept], "test": [everything[i] for i in held_out]}
    looks = look_at([file for part in files.values() for file, _ in part])
    return ImageFolder(path, tuple(map(_shown, classes)), files, looks, passed_over, bool(splits))


def _splits(path: Path, passed_over: Counter[str]) -> dict[Split, Path]:
    """Return the folders that are splits; none if the folder holds the classes themselves."""
    found: dict[Split, Path] = {}
    others, hidden = [], Counter[str]()
    for entry in _folders(path, hidden):
        split = SPLITS.get(entry.name.strip().casefold())
        if split is None:
            others.append(entry)
        elif split in found:
            raise InputError(
                f"{path}: {_shown(found[split].name)} and {_shown(entry.name)} are both {split} images; "
                "rename or remove one"
            )
        else:
            found[split] = entry
    if not found:
        return {}
    passed_over.update(hidden)
    for split in ("train", "test"):
        if split not in found:
            named = " and ".join(_shown(folder.name) for folder in found.values())
            raise InputError(
                f"{path} has {named} but no folder {split}; there must be both train and test (or training "
                "and testing), or the class folders directly below it (then a fifth of the images is the "
                "test set); val, valid or validation is optional"
            )
    if others:
        passed_over["folders beside the splits"] += len(others)
    return found


def _read_splits(
    path: Path, splits: dict[Split, Path], passed_over: Counter[str]
) -> tuple[list[str], dict[Split, Files]]:
    by_class = _list_classes(splits["train"], passed_over, is_split=True)
    classes = _two_or_more(splits["train"], by_class)
    files: dict[Split, Files] = {}
    for split, folder in splits.items():
        found = by_class if split == "train" else _list_classes(folder, passed_over, is_split=True)
        if unknown := [name for name in found if name not in by_class]:
            raise InputError(f"{folder / unknown[0]}: no such class in {splits['train']}; add or delete it")
        if not found:
            raise InputError(f"{folder}: no class folders; add them, with images")
        files[split] = [(file, classes.index(name)) for name, listed in found.items() for file in listed]
    return classes, files


def _two_or_more(folder: Path, by_class: dict[str, list[Path]]) -> list[str]:
    if len(by_class) < 2:
        raise InputError(f"{folder} has {len(by_class)} class folders; it needs two or more")
    return list(by_class)


def _list_classes(folder: Path, passed_over: Counter[str], is_split: bool) -> dict[str, list[Path]]:
    """Map the names of a folder's subfolders to the pictures below each, both sorted."""
    found = {}
    for below in _folders(folder, passed_over):
        files = sorted(_pictures(below, passed_over))
        direct = any(file.parent == below for file in files)
        if files and not direct and not is_split:
            raise InputError(
                f"{below}: holds only folders, so it is not a class; set the path to the parent of the class "
                "folders, or rename this one to train, test or val"
            )
        if not files:
            raise InputError(f"{below}: no images ({', '.join(sorted(SUFFIXES))}); add some or delete it")
        found[below.name] = files
    return found


def _folders(folder: Path, passed_over: Counter[str]) -> list[Path]:
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if _is_hidden(entry.name):
                passed_over["hidden folders"] += 1
            else:
                found.append(entry)
    return found


def _pictures(folder: Path, passed_over: Counter[str]) -> list[Path]:
    """List the pictures below a folder at any depth; hidden folders and links to folders are skipped."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        for name in list(folders):
            if _is_hidden(name):
                passed_over["hidden folders"] += 1
            elif (Path(place) / name).is_symlink():
                passed_over["links to folders"] += 1
            else:
                continue
            folders.remove(name)
        for name in files:
            path = Path(place) / name
            if _is_hidden(name):
                passed_over["hidden files"] += 1
            elif path.suffix.lower() not in SUFFIXES:
                suffix = _shown(path.suffix.lower()) or "no suffix"
                passed_over[f"files that are not pictures ({suffix})"] += 1
            elif not path.is_file():
                passed_over["pictures that are broken links or special files"] += 1
            else:
                found.append(path)
    return found


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _SYSTEMS


def _shown(name: str) -> str:
    """Return a file name as printable text, even if it is not UTF-8 or has control characters."""
    return one_line(os.fsencode(name).decode("utf-8", "backslashreplace"))
