"""Sources in a run's folder: `code/<digest>.zip`, read and written without running anything."""

import json
import zipfile
import zlib
from pathlib import Path

from lightsweep.errors import InputError
from lightsweep.owncode.reference import Reference
from lightsweep.owncode.sources import MOST_BYTES, Sources, know, known, sources_from


def write_archive(sources: Sources, path: Path) -> None:
    """Write sources as a zip archive, whose comment says which file and function is meant."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = json.dumps({"entry": sources.entry, "function": sources.function}).encode()
        for name, text in sorted(sources.files.items()):
            archive.writestr(name.replace("..", "_up_"), text)


def read_archive(folder: Path, reference: Reference) -> Sources | None:
    """Read and keep the sources of a reference from a run's folder; None if the folder has none.

    Raises:
        InputError: The archive is damaged, or holds other sources than its name says.

    """
    assert reference.digest is not None
    if (here := known(reference.digest)) is not None:
        return here
    path = folder / "code" / f"{reference.digest}.zip"
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(each.file_size for each in archive.infolist()) > MOST_BYTES:
                raise InputError(f"{path}: is too large for sources")
            comment = json.loads(archive.comment)
            texts = {each.filename: archive.read(each).decode() for each in archive.infolist()}
        texts = {name.replace("_up_", ".."): text for name, text in texts.items()}
        found = sources_from(texts.get, str(comment["entry"]), str(comment["function"]), str(path))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: is damaged ({type(error).__name__}: {error})") from None
    if found.digest != reference.digest:
        raise InputError(f"{path}: holds other code than its name says")
    return know(found)
