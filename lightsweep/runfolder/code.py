"""Archive, in a run's folder, of the code that trained it."""

import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from lightsweep.errors import not_writable
from lightsweep.owncode.archive import write_archive
from lightsweep.owncode.sources import Sources
from lightsweep.system.files import refuse_link, write_whole


def keep_own_code(folder: Path, own: Iterable[Sources]) -> None:
    """Keep the user's own code that a run trains with, as `code/<digest>.zip`.

    Raises:
        WriteError: The folder cannot be written.

    """
    for sources in own:
        _keep(folder, sources.digest, partial(write_archive, sources))


def keep_sources(folder: Path, sources: Mapping[str, str], fingerprint: str) -> None:
    """Archive the code that a run trains with, as `code/<fingerprint>.zip` of `<module>.py` files.

    Args:
        folder: The run's folder.
        sources: Source of each module by name (`trials.sources.training_sources`).
        fingerprint: Fingerprint of the sources, also recorded with each stage
            (`trials.sources.source_fingerprint`).

    Raises:
        WriteError: The folder cannot be written.

    """

    def write(draft: Path) -> None:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for module, text in sources.items():
                archive.writestr(f"{module}.py", text)

    _keep(folder, fingerprint, write)


def _keep(folder: Path, name: str, write: Callable[[Path], None]) -> None:
    """Write `code/<name>.zip`, unless it is there."""
    path = folder / "code" / f"{name}.zip"
    if path.is_file() and not path.is_symlink():
        return
    try:
        refuse_link(path.parent)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, write)
    except OSError as error:
        raise not_writable(folder, error) from None
