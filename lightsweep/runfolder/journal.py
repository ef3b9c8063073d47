"""The journal of a run: a JSON line for each trial that ended.

A killed run loses no trial that had ended; a truncated last line is skipped.
"""

import json
import warnings
from pathlib import Path

from lightsweep.errors import not_writable
from lightsweep.runfolder.records import Record, read_record
from lightsweep.system.files import append_line, read_lines


class Journal:
    """The records of a run's trials, in the order in which the trials ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._warned = 0

    def append(self, new: Record) -> None:
        """Append a record; it is on disk when this returns.

        If a killed run or a full disk left the last line truncated, a line break is written first.

        Raises:
            WriteError: The journal cannot be written; its previous content is kept.

        """
        content = {"trial": new.trial, "stages": new.stages, "epochs": new.epochs}
        try:
            append_line(self.path, json.dumps(content, allow_nan=False).encode())
        except OSError as error:
            raise not_writable(self.path.parent, error) from None

    def records(self) -> dict[str, Record]:
        """Return the newest record of each trial by its id; warn of damaged lines, which are skipped.

        Raises:
            UnreadableError: The journal is not a regular file.

        """
        found: dict[str, Record] = {}
        damaged: list[int] = []
        for number, line in enumerate(read_lines(self.path), 1):
            new = read_record(line) if line else None
            if new is None:
                damaged.append(number)
            else:
                found[new.trial["trial_id"]] = new
        if len(damaged) > self._warned:
            self._warned = len(damaged)
            lines = f"line {damaged[0]} is" if len(damaged) == 1 else f"{len(damaged):,} lines are"
            first = "" if len(damaged) == 1 else f" (the first is line {damaged[0]})"
            warnings.warn(f"{self.path}: {lines} damaged and skipped{first}", stacklevel=2)
        return found
