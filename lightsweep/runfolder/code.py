"""Archive, in a run's folder, of the code that trained it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

from lightsweep.errors import not_writable
from lightsweep.system.files import refuse_link, write_whole


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
    path = folder / "code" / f"{fingerprint}.zip"

    def write(draft: Path) -> None:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for module, text in sources.items():
                archive.writestr(f"{module}.py", text)

    if path.is_file() and not path.is_symlink():
        return
    try:
        refuse_link(path.parent)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, write)
    except OSError as error:
        raise not_writable(folder, error) from None
