"""The folder of one run: what it is, the journal of its records, and the tables made of it.

Records are journalled as trials end, a JSON line each, and compacted into `trials.parquet`,
`stages.parquet` and `epochs.parquet`. A killed run loses nothing that had ended; a cut last line is
passed over.
"""

import fcntl
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lightsweep.environment import describe_environment
from lightsweep.errors import InputError, WriteError
from lightsweep.records import EPOCH_COLUMNS, STAGE_COLUMNS, TRIAL_COLUMNS, Record
from lightsweep.sweep import Sweep
from lightsweep.sweepfile import dump_sweep
from lightsweep.trial import Trial

RAY_SESSION = "ray-session"


class RunFolder:
    """The folder of one run: what it is, by which code it trains, and its records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal.jsonl"
        self._drawn = folder / "plan.jsonl"
        """Trials that a search added to `plan.json` since that was written, a JSON line each."""
        self._warned: set[int] = set()
        self.scratch = folder / ".tune"
        """What Tune writes and nobody needs, and in `RAY_SESSION` where a Ray of our own does so."""

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
            raise run._not_writable(error) from None
        return run

    @contextmanager
    def alone(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Keep other processes out of the folder, after waiting for one that is in it.

        The lock is the operating system's, on the folder itself: it ends with the process.

        Args:
            on_wait: Called once if there is one.

        """
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
        try:
            self.clear_scratch()
            self._remove_drafts()
            write_text(self.folder / "sweep.yaml", dump_sweep(sweep))
            write_text(self.folder / "design.json", json.dumps(design, indent=1))
            self.write_plan(trials, keys)
            environment = json.dumps(describe_environment(), indent=1)
            write_text(self.folder / "environment.json", environment)
        except OSError as error:
            raise self._not_writable(error) from None

    def write_plan(self, trials: Sequence[Trial], keys: Mapping[str, tuple[str, ...]]) -> None:
        """Write plan.json, whole (see `describe`).

        Raises:
            WriteError: The folder cannot be written.

        """
        planned = [_planned(trial, keys) for trial in trials]
        try:
            write_text(self.folder / "plan.json", json.dumps(planned, indent=0))
            self._drawn.unlink(missing_ok=True)
        except OSError as error:
            raise self._not_writable(error) from None

    def add_to_plan(self, trials: Sequence[Trial], keys: Mapping[str, tuple[str, ...]]) -> None:
        """Add trials to the plan, without writing again what is in it.

        Raises:
            WriteError: The folder cannot be written.

        """
        for trial in trials:
            self._append(self._drawn, _planned(trial, keys))

    def keep_sources(self, sources: Mapping[str, str], fingerprint: str) -> None:
        """Keep the code that the run trains by: `code/<fingerprint>.zip`, which holds `<module>.py`.

        Args:
            sources: Texts by the modules' names (`sources.training_sources`).
            fingerprint: What stages that are trained by it name it as (`sources.source_fingerprint`).

        Raises:
            WriteError: The folder cannot be written.

        """
        path = self.folder / "code" / f"{fingerprint}.zip"

        def write(draft: Path) -> None:
            with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
                for module, text in sources.items():
                    archive.writestr(f"{module}.py", text)

        if path.is_file():
            return
        try:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, write)
        except OSError as error:
            raise self._not_writable(error) from None

    def clear_scratch(self) -> None:
        """Remove what Ray and Tune left behind, be it just now or when they were killed."""
        with suppress(OSError):
            shutil.rmtree((self.scratch / RAY_SESSION).read_text(), ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _remove_drafts(self) -> None:
        """Remove drafts of processes that were killed while writing, NAME.PID.tmp."""
        for draft in (*self.folder.glob("*.tmp"), *self.folder.glob("code/*.tmp")):
            process = draft.suffixes[-2][1:] if len(draft.suffixes) > 1 else ""
            if process.isdecimal() and not _is_alive(int(process)):
                draft.unlink(missing_ok=True)

    def _not_writable(self, error: OSError) -> WriteError:
        return WriteError(f"{self.folder}: cannot be written ({error.strerror}); --out says where runs go")

    @staticmethod
    def open(folder: Path) -> "RunFolder":
        """Open a run that is there.

        Raises:
            InputError: It is not a run's folder.

        """
        run = RunFolder(folder)
        if not run.is_planned():
            raise InputError(
                f"{folder}: not a run's folder (it has no plan.json); runs are in runs/ or --out"
            )
        return run

    def append(self, new: Record) -> None:
        """Journal a record; it is on disk when this returns.

        A line begins with its own line break where a killed run, or a full disk, left the last one cut.

        Raises:
            InputError: The journal cannot be written; what was in it stays.

        """
        self._append(self.journal, {"trial": new.trial, "stages": new.stages, "epochs": new.epochs})

    def _append(self, path: Path, content: dict[str, Any]) -> None:
        line = json.dumps(content, allow_nan=False)
        try:
            with path.open("a+b") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
                cut = file.read(1) not in (b"", b"\n")
                file.write(("\n" * cut + line + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._not_writable(error) from None

    def records(self) -> dict[str, Record]:
        """Return the newest record of each trial by its id; lines that are not whole are warned of."""
        found: dict[str, Record] = {}
        for number, line in enumerate(_lines(self.journal), 1):
            try:
                new = Record(**json.loads(line))
                found[new.trial["trial_id"]] = new
            except (ValueError, TypeError, KeyError):
                if number in self._warned:
                    continue
                self._warned.add(number)
                warnings.warn(f"{self.journal}, line {number}: not a whole record, passed over", stacklevel=2)
        return found

    def is_planned(self) -> bool:
        """Whether the run was ever begun."""
        return (self.folder / "plan.json").is_file()

    def planned(self) -> list[dict[str, Any]]:
        """Return trial_id, arm, seed, fold, changes and stage keys of each trial of the plan."""
        plan: list[dict[str, Any]] = json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))
        lines = _lines(self._drawn)
        ids = {entry["trial_id"] for entry in plan} if lines else set()
        for line in lines:
            with suppress(ValueError, TypeError, KeyError):  # a killed search may have left the last one cut
                drawn = json.loads(line)
                if drawn["trial_id"] not in ids:
                    plan.append(drawn)
                    ids.add(drawn["trial_id"])
        return plan

    def compact(self) -> dict[str, Record]:
        """Write the tables from the journal, with the trials of the plan in its order, and return them."""
        journalled = self.records()
        ids = [trial["trial_id"] for trial in self.planned()]
        kept = {trial_id: journalled[trial_id] for trial_id in ids if trial_id in journalled}
        tables = {
            "trials": ([record.trial for record in kept.values()], TRIAL_COLUMNS),
            "stages": ([row for record in kept.values() for row in record.stages], STAGE_COLUMNS),
            "epochs": ([row for record in kept.values() for row in record.epochs], EPOCH_COLUMNS),
        }
        try:
            for name, (rows, columns) in tables.items():
                table = _table(rows, columns)
                write_whole(self.folder / f"{name}.parquet", partial(table.to_parquet, index=False))
        except OSError as error:
            raise self._not_writable(error) from None
        return kept


def _planned(trial: Trial, keys: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    identity = {"trial_id": trial.trial_id, "arm": trial.arm, "seed": trial.seed, "fold": trial.fold}
    return {**identity, "changes": trial.changes, "keys": keys[trial.trial_id]}


def _lines(path: Path) -> list[str]:
    """Return a file's lines; none where there is no file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another's, or no process number
        return True
    return True


def _table(rows: list[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    """Return rows as a table: the given columns with their types, then config.* columns as they come."""
    extra = dict.fromkeys(key for row in rows for key in row if key not in columns)
    frame = pd.DataFrame(rows, columns=[*columns, *extra], dtype=object)
    frame = frame.astype(columns)
    for key in extra:
        kinds = {type(value) for value in frame[key] if not pd.isna(value)}
        if not kinds:
            frame[key] = frame[key].astype("str")
        elif kinds <= {int, float}:
            frame[key] = frame[key].astype("float64" if float in kinds else "Int64")
        else:
            frame[key] = frame[key].astype("boolean" if kinds == {bool} else "str")
    return frame


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
