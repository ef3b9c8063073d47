"""References from runs to stage results.

A run refers to the keys in its plan and in its trials' records; the latter differ for trials that ran on
another device than planned.
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
    """Refuse to remove anything while a run's references are unknown; an `on_unknown` of `references`.

    Raises:
        InputError: Always, with the given text.

    """
    raise InputError(f"{text} (nothing was removed)")


def references(out: Path, on_unknown: Callable[[str], None] = _warn) -> dict[str, list[str]]:
    """Return the names of the runs that refer to each stage key.

    Args:
        out: Folder of run folders.
        on_unknown: Called with a line for each run whose references cannot be read.

    """
    found: dict[str, list[str]] = {}
    for folder in sorted(out.iterdir()):
        if not (folder / "plan.json").exists():
            continue  # not a run's folder
        try:
            keys = _keys(RunFolder(folder))
        except UnreadableError as error:
            on_unknown(f"{error}; until then, the stages that this run refers to are unknown")
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
