"""The folder of one run: its description, the journal of its records, and the tables built from it.

When a trial ends, its record is appended to the journal as a JSON line; the journal is compacted into
`trials.parquet`, `stages.parquet` and `epochs.parquet`. A killed run loses no trial that had ended; a
truncated last line is skipped.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightsweep.errors import InputError, not_writable
from lightsweep.runfolder.environment import describe_environment
from lightsweep.runfolder.journal import Journal
from lightsweep.runfolder.planfile import PLAN_FILE, PlanFile, plan_text
from lightsweep.runfolder.records import Record
from lightsweep.runfolder.tables import write_tables
from lightsweep.sweepfile.reading import dump_sweep, load_sweep
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.system.files import open_plain, write_together
from lightsweep.system.locks import posix_locks

if TYPE_CHECKING:
    from lightsweep.trials.trial import Trial


class RunFolder:
    """The folder of one run: its description, its code and its records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal.jsonl")
        self.plan = PlanFile(folder)

    @staticmethod
    def create(out: Path, sweep: Sweep) -> "RunFolder":
        """Create a run's folder under `out`, or open an existing one.

        Raises:
            InputError: The folder cannot be created.

        """
        run = RunFolder(out / sweep.name)
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_writable(run.folder, error) from None
        return run

    @contextmanager
    def alone(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Lock the folder against other processes, after waiting for one that holds it.

        The lock is an operating system lock on the folder itself, so it ends with the process.

        Args:
            on_wait: Called once if another process holds the lock.

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
        self,
        sweep: Sweep,
        design: dict[str, Any],
        trials: "Sequence[Trial]",
        keys: dict[str, tuple[str, ...]],
    ) -> None:
        """Write the run's description: sweep.yaml, design.json, plan.json, environment.json.

        Args:
            sweep: The resolved sweep.
            design: How its arms relate to one another (`planning.design.design_tree`).
            trials: The planned trials.
            keys: Keys of each trial's stages and assessment, by trial id.

        Raises:
            InputError: The folder cannot be written.

        """
        shutil.rmtree(self.folder / ".tune", ignore_errors=True)  # from older versions; follows no link
        self._remove_drafts()
        self._write(
            {
                "sweep.yaml": dump_sweep(sweep),
                "design.json": json.dumps(design, indent=1),
                "environment.json": json.dumps(describe_environment(), indent=1),
                PLAN_FILE: plan_text(trials, keys),
            }
        )

    def write_plan(self, trials: "Sequence[Trial]", keys: Mapping[str, tuple[str, ...]]) -> None:
        """Rewrite plan.json (see `describe`).

        Raises:
            WriteError: The folder cannot be written.

        """
        self._write({PLAN_FILE: plan_text(trials, keys)})

    def _write(self, texts: Mapping[str, str]) -> None:
        """Write files together, among them the plan, which includes the trials added to plan.jsonl."""
        try:
            write_together({self.folder / name: partial(_write_text, text) for name, text in texts.items()})
            self.plan.added.unlink(missing_ok=True)
        except OSError as error:
            raise not_writable(self.folder, error) from None

    def _remove_drafts(self) -> None:
        """Remove drafts, NAME.PID.tmp, of processes that were killed while writing."""
        for draft in (*self.folder.glob("*.tmp"), *self.folder.glob("code/*.tmp")):
            process = draft.suffixes[-2][1:] if len(draft.suffixes) > 1 else ""
            if process.isdecimal() and not _is_alive(int(process)):
                draft.unlink(missing_ok=True)

    @staticmethod
    def open(folder: Path) -> "RunFolder":
        """Open an existing run.

        Raises:
            InputError: The folder is not a run's folder.

        """
        run = RunFolder(folder)
        if not run.plan.exists():
            raise InputError(
                f"{folder}: not a run's folder (it has no plan.json); runs are in runs/ or --out"
            )
        return run

    def sweep(self) -> Sweep:
        """Return the resolved sweep.

        Raises:
            InputError: sweep.yaml is missing, not a regular file, or not a sweep file of this version.

        """
        path = self.folder / "sweep.yaml"
        with suppress(FileNotFoundError):  # reported by load_sweep
            open_plain(path).close()
        return load_sweep(path)

    def compact(self) -> dict[str, Record]:
        """Write the tables from the journal, planned trials only, in plan order; return their records."""
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
    except (PermissionError, OverflowError):  # another user's process, or not a process number
        return True
    return True
