"""The code that a run trains by, kept in its folder."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

from lightsweep.runfolder.journal import not_writable
from lightsweep.system.files import refuse_link, write_whole


def keep_sources(folder: Path, sources: Mapping[str, str], fingerprint: str) -> None:
    """Keep the code that a run trains by: `code/<fingerprint>.zip`, which holds `<module>.py`.

    Args:
        folder: Of the run.
        sources: Texts by the modules' names (`sources.training_sources`).
        fingerprint: What stages that are trained by it name it as (`sources.source_fingerprint`).

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
