"""The folder of one run: what it is, the journal of its records, and the tables made of it.

Records are journalled as trials end, a JSON line each, and compacted into `trials.parquet`,
`stages.parquet` and `epochs.parquet`. A killed run loses nothing that had ended; a cut last line is
passed over.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from lightsweep.errors import InputError
from lightsweep.runfolder.environment import describe_environment
from lightsweep.runfolder.journal import Journal, not_writable
from lightsweep.runfolder.planfile import PLAN_FILE, PlanFile, plan_text
from lightsweep.runfolder.records import Record
from lightsweep.runfolder.tables import write_tables
from lightsweep.sweepfile.reading import dump_sweep, load_sweep
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.system.files import (
    open_plain,
    write_together,
)
from lightsweep.system.locks import posix_locks
from lightsweep.trials.trial import Trial


class RunFolder:
    """The folder of one run: what it is, by which code it trains, and its records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal.jsonl")
        self.plan = PlanFile(folder)

    @staticmethod
    def create(out: Path, sweep: Sweep) -> "RunFolder":
        """Make a run's folder under `out`, or open it again.

        Raises:
            InputError: The folder cannot be made.

        """
        run = RunFolder(out / sweep.name)
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_writable(run.folder, error) from None
        return run

    @contextmanager
    def alone(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Keep other processes out of the folder, after waiting for one that is in it.

        The lock is the operating system's, on the folder itself: it ends with the process.

        Args:
            on_wait: Called once if there is one.

        """
        fcntl = posix_locks()
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def describe(
        self, sweep: Sweep, design: dict[str, Any], trials: Sequence[Trial], keys: dict[str, tuple[str, ...]]
    ) -> None:
        """Write what the run is: sweep.yaml, design.json, plan.json, environment.json.

        Args:
            sweep: As resolved.
            design: What its arms are to one another (`plan.design_tree`).
            trials: Its trials.
            keys: For each trial id the keys of its stages and its assessment.

        Raises:
            InputError: The folder cannot be written.

        """
        shutil.rmtree(self.folder / ".tune", ignore_errors=True)  # of older versions; follows no link
        self._remove_drafts()
        self._write(
            {
                "sweep.yaml": dump_sweep(sweep),
                "design.json": json.dumps(design, indent=1),
                "environment.json": json.dumps(describe_environment(), indent=1),
                PLAN_FILE: plan_text(trials, keys),
            }
        )

    def write_plan(self, trials: Sequence[Trial], keys: Mapping[str, tuple[str, ...]]) -> None:
        """Write plan.json, whole (see `describe`).

        Raises:
            WriteError: The folder cannot be written.

        """
        self._write({PLAN_FILE: plan_text(trials, keys)})

    def _write(self, texts: Mapping[str, str]) -> None:
        """Write files together, the plan among them: what was added to it since is in it."""
        try:
            write_together({self.folder / name: partial(_write_text, text) for name, text in texts.items()})
            self.plan.added.unlink(missing_ok=True)
        except OSError as error:
            raise not_writable(self.folder, error) from None

    def _remove_drafts(self) -> None:
        """Remove drafts of processes that were killed while writing, NAME.PID.tmp."""
        for draft in (*self.folder.glob("*.tmp"), *self.folder.glob("code/*.tmp")):
            process = draft.suffixes[-2][1:] if len(draft.suffixes) > 1 else ""
            if process.isdecimal() and not _is_alive(int(process)):
                draft.unlink(missing_ok=True)

    @staticmethod
    def open(folder: Path) -> "RunFolder":
        """Open a run that is there.

        Raises:
            InputError: It is not a run's folder.

        """
        run = RunFolder(folder)
        if not run.plan.exists():
            raise InputError(
                f"{folder}: not a run's folder (it has no plan.json); runs are in runs/ or --out"
            )
        return run

    def sweep(self) -> Sweep:
        """Return the sweep as it was resolved.

        Raises:
            InputError: sweep.yaml is not there, no plain file, or no sweep file of this version.

        """
        path = self.folder / "sweep.yaml"
        with suppress(FileNotFoundError):  # said below
            open_plain(path).close()
        return load_sweep(path)

    def compact(self) -> dict[str, Record]:
        """Write the tables from the journal, with the trials of the plan in its order, and return them."""
        journalled = self.journal.records()
        ids = [trial["trial_id"] for trial in self.plan.trials()]
        kept = {trial_id: journalled[trial_id] for trial_id in ids if trial_id in journalled}
        try:
            write_tables(self.folder, kept.values())
        except OSError as error:
            raise not_writable(self.folder, error) from None
        return kept


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another's, or no process number
        return True
    return True
