"""Which stage results the runs under a folder refer to.

A run refers to the keys of its plan and of its trials' records: those that were made on another device
have other keys.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lightsweep.errors import InputError
from lightsweep.runfolder.folder import RunFolder
from lightsweep.system.files import UnreadableError


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


def refuse(text: str) -> NoReturn:
    """Refuse to remove anything as long as it is unknown what a run refers to; for `references`.

    Raises:
        InputError: Always.

    """
    raise InputError(f"{text} (nothing was removed)")


def references(out: Path, on_unknown: Callable[[str], None] = _warn) -> dict[str, list[str]]:
    """Return for each stage key the names of the runs under a folder that refer to it.

    Args:
        out: Folder of run folders.
        on_unknown: Called with a line for each run of which that cannot be told.

    """
    found: dict[str, list[str]] = {}
    for folder in sorted(out.iterdir()):
        if not (folder / "plan.json").exists():
            continue  # no run's folder
        try:
            keys = _keys(RunFolder(folder))
        except UnreadableError as error:
            on_unknown(f"{error}; until then what its run refers to is unknown")
            continue
        for key in keys:
            found.setdefault(key, []).append(folder.name)
    return found


def _keys(run: RunFolder) -> set[str]:
    planned, records = run.plan.trials(), run.journal.records()
    kept = [records[trial["trial_id"]] for trial in planned if trial["trial_id"] in records]
    return {key for trial in planned for key in trial["keys"]} | {
        row["key"] for record in kept for row in record.stages if row["key"]
    }
