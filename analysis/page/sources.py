"""The user's own code that a run was trained with, for the trial's dialog: read as text, never run."""

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 256 * 1024
"""Limit on the text of one archive; more would only bloat the page."""


def read_sources(folder: Path) -> dict[str, dict[str, str]]:
    """Return the texts of a run's own code by digest, then by file name; damaged archives are left out."""
    return {digest: files for digest, files in _archives(folder / "code") if files}


def _archives(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for path in sorted(folder.glob("*.zip")) if folder.is_dir() else ():
        if len(path.stem) != 16 or path.is_symlink():  # the training code has longer names
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
                if sum(each.file_size for each in members) > MOST_BYTES:
                    continue
                entry = json.loads(archive.comment)["entry"]
                texts = {each.filename: archive.read(each).decode() for each in members}
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error):
            continue
        first = str(entry).replace("..", "_up_")
        names = sorted(texts, key=lambda name: (name != first, name))
        yield path.stem, {name.replace("_up_", ".."): texts[name] for name in names}
