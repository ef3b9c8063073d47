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
from typing import Annotated, Any

import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from lightsweep.errors import InputError, WriteError
from lightsweep.runs.environment import describe_environment
from lightsweep.runs.records import EPOCH_COLUMNS, STAGE_COLUMNS, TRIAL_COLUMNS, Record, read_record
from lightsweep.sweepfile.reading import dump_sweep, load_sweep
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.system.files import (
    UnreadableError,
    append_line,
    open_plain,
    read_bytes,
    read_lines,
    refuse_link,
    write_together,
    write_whole,
)
from lightsweep.trials.trial import Trial


class PlannedTrial(TypedDict):
    """A trial of `plan.json` and `plan.jsonl`."""

    trial_id: Annotated[str, Field(min_length=1, max_length=100)]
    arm: Annotated[str, Field(max_length=1_000)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    fold: Annotated[int, Field(ge=0, lt=2**31)] | None
    changes: dict[str, Any]
    keys: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    """Of its stages and its assessment."""


_PLAN = TypeAdapter(list[PlannedTrial])
_PLANNED = TypeAdapter(PlannedTrial)


class RunFolder:
    """The folder of one run: what it is, by which code it trains, and its records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal.jsonl"
        self._drawn = folder / "plan.jsonl"
        """Trials that a search added to `plan.json` since that was written, a JSON line each."""
        self._warned = 0

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
        shutil.rmtree(self.folder / ".tune", ignore_errors=True)  # of older versions; follows no link
        self._remove_drafts()
        self._write(
            {
                "sweep.yaml": dump_sweep(sweep),
                "design.json": json.dumps(design, indent=1),
                "environment.json": json.dumps(describe_environment(), indent=1),
                "plan.json": _plan_text(trials, keys),
            }
        )

    def write_plan(self, trials: Sequence[Trial], keys: Mapping[str, tuple[str, ...]]) -> None:
        """Write plan.json, whole (see `describe`).

        Raises:
            WriteError: The folder cannot be written.

        """
        self._write({"plan.json": _plan_text(trials, keys)})

    def _write(self, texts: Mapping[str, str]) -> None:
        """Write files together, the plan among them: what was added to it since is in it."""
        try:
            write_together({self.folder / name: partial(_write_text, text) for name, text in texts.items()})
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

        if path.is_file() and not path.is_symlink():
            return
        try:
            refuse_link(path.parent)
            path.parent.mkdir(exist_ok=True)
            write_whole(path, write)
        except OSError as error:
            raise self._not_writable(error) from None

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

    def _append(self, path: Path, content: Mapping[str, Any]) -> None:
        try:
            append_line(path, json.dumps(content, allow_nan=False).encode())
        except OSError as error:
            raise self._not_writable(error) from None

    def records(self) -> dict[str, Record]:
        """Return the newest record of each trial by its id; lines that are none are passed over and counted.

        Raises:
            UnreadableError: The journal is no plain file.

        """
        found: dict[str, Record] = {}
        damaged: list[int] = []
        for number, line in enumerate(read_lines(self.journal), 1):
            new = read_record(line) if line else None
            if new is None:
                damaged.append(number)
            else:
                found[new.trial["trial_id"]] = new
        if len(damaged) > self._warned:
            self._warned = len(damaged)
            lines = f"line {damaged[0]} is" if len(damaged) == 1 else f"{len(damaged):,} lines are"
            first = "" if len(damaged) == 1 else f" (the first is line {damaged[0]})"
            warnings.warn(f"{self.journal}: {lines} not a whole record, passed over{first}", stacklevel=2)
        return found

    def sweep(self) -> Sweep:
        """Return the sweep as it was resolved.

        Raises:
            InputError: sweep.yaml is not there, no plain file, or no sweep file of this version.

        """
        path = self.folder / "sweep.yaml"
        with suppress(FileNotFoundError):  # said below
            open_plain(path).close()
        return load_sweep(path)

    def is_planned(self) -> bool:
        """Whether the run was ever begun."""
        try:
            return (self.folder / "plan.json").is_file()
        except OSError:  # no path at all
            return False

    def planned(self) -> list[PlannedTrial]:
        """Return the trials of the plan, those among them that a search has added.

        Raises:
            UnreadableError: The plan is not there, no plain file, or not what a run writes.

        """
        path = self.folder / "plan.json"
        try:
            plan = _PLAN.validate_json(read_bytes(path), strict=True)
        except FileNotFoundError:
            raise UnreadableError(f"{path}: is gone; {_REWRITE}") from None
        except ValidationError as error:
            raise UnreadableError(f"{path}: not a run's plan ({first_fault(error)}); {_REWRITE}") from None
        ids = {entry["trial_id"] for entry in plan}
        if len(ids) < len(plan):
            raise UnreadableError(f"{path}: not a run's plan (a trial stands in it twice); {_REWRITE}")
        for line in read_lines(self._drawn):
            try:
                drawn = _PLANNED.validate_json(line or b"", strict=True)
            except ValidationError:  # a killed search may have left the last one cut
                continue
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
        frames = {name: _table(rows, columns) for name, (rows, columns) in tables.items()}
        try:
            write_together(
                {
                    self.folder / f"{name}.parquet": partial(table.to_parquet, index=False)
                    for name, table in frames.items()
                }
            )
        except OSError as error:
            raise self._not_writable(error) from None
        return kept


_REWRITE = "run that sweep again, which writes it anew"


def first_fault(error: ValidationError) -> str:
    """Return where and why plain content breaks its schema, in a few words."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def _plan_text(trials: Sequence[Trial], keys: Mapping[str, tuple[str, ...]]) -> str:
    return json.dumps([_planned(trial, keys) for trial in trials], indent=0)


def _planned(trial: Trial, keys: Mapping[str, tuple[str, ...]]) -> PlannedTrial:
    return {
        "trial_id": trial.trial_id, "arm": trial.arm, "seed": trial.seed, "fold": trial.fold,
        "changes": trial.changes, "keys": list(keys[trial.trial_id]),
    }  # fmt: skip


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
