"""Data sets as text in a terminal: which are available, and what would be read from a path, with warnings."""

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lightsweep.data import datasets
from lightsweep.data.folder import ImageFolder, scan_folder
from lightsweep.data.imagedata import Dataset
from lightsweep.errors import InputError
from lightsweep.runs.run import shared_text
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.system.terminal import cell, say

SHOWN = 200  # maximum number of classes printed
FEW = 10
"""Number of training images below which a class gets a warning."""
UNEQUAL = 10
"""Ratio of the largest to the smallest class, in training images, above which there is a warning."""
PARTS = ("train", "validation", "test")


def print_path(path: Path, image_size: int | None, console: Console) -> None:
    """Print what would be read from a folder of pictures or an npz file: counts, sizes, channels, warnings.

    Raises:
        InputError: The path does not exist, or cannot be read.

    """
    if path.is_dir():
        folder = scan_folder(path)
        size = image_size or (32 if len(folder.looks.sizes) > 1 else None)  # only to look at the pixels
        spec = DatasetSpec(name="imagefolder", path=str(path), image_size=size)
    elif path.is_file():
        folder, spec = None, DatasetSpec(name="npz", path=str(path), image_size=image_size)
    else:
        raise InputError(f"{path}: there is no such folder or file; name a folder of pictures or an npz file")
    data = datasets.load(spec, Path(), download=False)
    counts = class_counts(data)
    _print_counts(data, counts, console)
    if folder is not None:
        sizes = _listed({f"{width}×{height}": n for (width, height), n in folder.looks.sizes.items()})
        lines = [f"sizes: {sizes}", f"channels: {data.info.channels} ({_listed(folder.looks.modes)})"]
        if not folder.has_test:
            lines.append(
                "no folder is named test: a fixed, stratified fifth of the images is used for testing"
            )
    else:
        lines = [f"size: {data.info.size_text}"]
    validation = "its own" if data.validation is not None else "a tenth of the training images by default"
    lines.append(f"validation images: {validation}")
    lines += [*data.notes, *(f"warning: {text}" for text in warnings_of(data, counts, folder, image_size))]
    lines.append(f"in a sweep file: {_sweep_line(spec, folder, image_size)}")
    for line in lines:
        say(console, line)


def class_counts(data: Dataset) -> dict[str, Counter[int]]:
    """Count images by part and label."""
    images = {"train": data.train, "validation": data.validation, "test": data.test}
    return {part: Counter(found.labels.tolist()) for part, found in images.items() if found is not None}


def warnings_of(
    data: Dataset, counts: dict[str, Counter[int]], folder: ImageFolder | None, image_size: int | None
) -> list[str]:
    """Return warnings about weaknesses of a data set."""
    names, train = data.info.classes, counts["train"]
    found = []
    if folder is not None and len(folder.looks.sizes) > 1 and image_size is None:
        found.append(f"pictures of {len(folder.looks.sizes)} sizes: dataset.image_size must be set")
    if shared := data.shared_with_test():
        found.append(shared_text(shared, len(data.test.labels)))
    few = [f"{names[label]} ({train[label]})" for label in range(len(names)) if train[label] < FEW]
    if few:
        found.append(f"classes with fewer than {FEW} training images: {', '.join(few[:5])}")
    if max(train.values()) > UNEQUAL * min(train.values()):
        found.append(
            f"the largest class has {max(train.values()) / min(train.values()):.0f} times the training "
            "images of the smallest: accuracy says little about small classes"
        )
    without = [names[label] for label in range(len(names)) if not counts["test"][label]]
    if without:
        found.append(f"classes without test images: {', '.join(without[:5])}")
    return found


def _print_counts(data: Dataset, counts: dict[str, Counter[int]], console: Console) -> None:
    table = Table("class")
    for part in PARTS:
        table.add_column(part, justify="right")
    for label, name in enumerate(data.info.classes[:SHOWN]):
        table.add_row(cell(name), *(f"{counts[part][label]:,}" if part in counts else "–" for part in PARTS))
    if len(data.info.classes) > SHOWN:
        table.add_row(f"and {len(data.info.classes) - SHOWN:,} more")
    table.add_section()
    total = (f"{counts[part].total():,}" if part in counts else "–" for part in PARTS)
    table.add_row(f"{len(data.info.classes):,} classes", *total)
    console.print(table)


def _listed(counts: Any) -> str:
    most = Counter(counts).most_common(5)
    text = ", ".join(f"{name} ({count:,})" for name, count in most)
    return f"{text}, and {len(counts) - 5} more" if len(counts) > 5 else text


def _sweep_line(spec: DatasetSpec, folder: ImageFolder | None, image_size: int | None) -> str:
    needs_size = folder is not None and len(folder.looks.sizes) > 1
    size = f", image_size: {image_size or 32}" if needs_size or image_size else ""
    return f"dataset: {{name: {spec.name}, path: {spec.path}{size}}}"


def print_datasets(found: list[datasets.Availability], console: Console) -> None:
    """Print which data sets are available, and where they are or which files are missing."""
    table = Table("data set", "here", "train", "test", "shape", "classes", "where")
    for item in found:
        info = item.info
        table.add_row(
            info.name, "yes" if item.here else "no", f"{info.train_count:,}", f"{info.test_count:,}",
            f"{info.channels}×{info.height}×{info.width}", str(len(info.classes)), cell(item.where),
        )  # fmt: skip
    console.print(table)
    console.print("npz and imagefolder take a path in the sweep file", highlight=False)
