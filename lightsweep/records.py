"""Trial, stage and epoch records, and the run folder that keeps them.

Records are journalled as trials end, a JSON line each, and compacted into `trials.parquet`,
`stages.parquet` and `epochs.parquet`. A killed run loses nothing that had ended; a cut last line is
passed over.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from lightsweep.cost import Cost
from lightsweep.pipeline import StageEntry, TrialResult, cpu_name
from lightsweep.spec import InputError, Sweep, WriteError
from lightsweep.sweepfile import dump_sweep
from lightsweep.trial import Trial

TRIAL_COLUMNS = {
    "trial_id": "str", "arm": "str", "seed": "int64", "fold": "Int64", "dataset": "str",
    "status": "str", "error": "str", "parameters": "Int64", "macs": "Int64",
    "weight_bytes": "Int64", "training_bytes": "Int64",
    "val_accuracy": "float64", "test_accuracy": "float64", "train_accuracy": "float64",
    "epochs_trained": "Int64", "seconds": "float64", "training_seconds": "float64",
    "stages_total": "Int64", "stages_reused": "Int64", "waited_seconds": "float64",
    "host": "str", "device": "str", "spec_hash": "str", "result_key": "str", "commit": "str",
    "started_at": "str",
}  # fmt: skip
STAGE_COLUMNS = {
    "trial_id": "str", "arm": "str", "seed": "int64", "fold": "Int64", "stage": "str",
    "stage_index": "int64", "key": "str", "origin": "str", "epochs": "int64", "epochs_trained": "int64",
    "seconds": "float64", "waited_seconds": "float64", "host": "str", "device": "str",
    "hardware": "str", "torch": "str", "started_at": "str",
}  # fmt: skip
EPOCH_COLUMNS = {
    "trial_id": "str", "arm": "str", "seed": "int64", "fold": "Int64", "stage": "str",
    "stage_index": "int64", "epoch": "int64", "trial_epoch": "int64", "learning_rate": "float64",
    "train_loss": "float64", "train_accuracy": "float64", "val_loss": "float64",
    "val_accuracy": "float64", "val_accuracy_a": "float64", "val_accuracy_b": "float64",
    "seconds": "float64", "is_kept": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a worker says of a trial, as plain values."""

    status: str
    """completed, early_stopped or failed."""
    error: str | None
    """Why it failed, in one line."""
    started_at: str
    seconds: float
    """That the trial took in this run, looked-up stages included."""
    host: str
    device: str
    accuracies: dict[str, float] = field(default_factory=dict)
    """val_accuracy, test_accuracy, train_accuracy as fractions."""
    stages: list[dict[str, Any]] = field(default_factory=list)
    """An entry of the ledger per stage and for the assessment, as far as the trial came
    (`pipeline.StageEntry`, its provenance spread out)."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """One per epoch, with `stage_index`, `trial_epoch` and `is_kept`."""

    @property
    def warnings(self) -> list[str]:
        """What was found damaged in the store, and discarded."""
        return [stage["warning"] for stage in self.stages if stage["warning"]]


def completed(result: TrialResult, started_at: str, seconds: float, host: str, device: str) -> Outcome:
    """Return the outcome of a trial that ran to its end."""
    epochs = [
        {**record, "stage_index": index, "is_kept": record["epoch"] == stage.metrics["kept_epoch"]}
        for index, stage in enumerate(result.stages)
        for record in stage.epochs
    ]
    names = ("val_accuracy", "test_accuracy", "train_accuracy")
    return Outcome(
        "completed", None, started_at, seconds, host, device,
        accuracies={name: result.assessment.metrics[name] for name in names},
        stages=[_plain(entry) for entry in result.entries],
        epochs=[{**epoch, "trial_epoch": number} for number, epoch in enumerate(epochs, 1)],
    )  # fmt: skip


def failed(
    error: str, started_at: str, seconds: float, host: str, device: str, entries: Sequence[StageEntry] = ()
) -> Outcome:
    """Return the outcome of a trial that did not reach its end, with the stages that it had."""
    reason = " ".join(error.split())[:500]
    return Outcome(
        "failed", reason, started_at, seconds, host, device, stages=[_plain(entry) for entry in entries]
    )


def _plain(entry: StageEntry) -> dict[str, Any]:
    tree = asdict(entry)
    return {**tree.pop("provenance"), **tree}


@dataclass(frozen=True)
class Record:
    """One trial's journal line: its row of `trials.parquet`, its rows of the other two tables."""

    trial: dict[str, Any]
    stages: list[dict[str, Any]]
    epochs: list[dict[str, Any]]


def record(trial: Trial, cost: Cost, outcome: Outcome, commit: str) -> Record:
    """Return the record of a trial."""
    identity = {"trial_id": trial.trial_id, "arm": trial.arm, "seed": trial.seed, "fold": trial.fold}
    is_completed = outcome.status == "completed"
    trained = [stage for stage in outcome.stages if stage["stage_index"] < len(trial.stages)]
    row = {
        **identity, "dataset": trial.dataset.name, "status": outcome.status, "error": outcome.error,
        **asdict(cost), **outcome.accuracies,
        "epochs_trained": len(outcome.epochs) if is_completed else None,
        "seconds": outcome.seconds,
        "training_seconds": sum(stage["seconds"] for stage in outcome.stages) if is_completed else None,
        "stages_total": len(trial.stages),
        "stages_reused": sum(stage["origin"] == "stored" for stage in trained),
        "waited_seconds": sum(stage["waited_seconds"] for stage in outcome.stages),
        "host": outcome.host, "device": outcome.device, "spec_hash": trial.spec_hash,
        "result_key": outcome.stages[-1]["key"] if is_completed else None,
        "commit": commit, "started_at": outcome.started_at,
        **config_columns(trial),
    }  # fmt: skip
    names = [*(stage.name for stage in trial.stages), "assessment"]
    stages = [
        {
            **identity,
            "stage": names[stage["stage_index"]],
            **{k: v for k, v in stage.items() if k != "warning"},
        }
        for stage in outcome.stages
    ]
    return Record(row, stages, [{**identity, **_epoch_row(trial, epoch)} for epoch in outcome.epochs])


def config_columns(trial: Trial) -> dict[str, Any]:
    """Return a trial's settings as `config.<key>` columns; lists as JSON text, stages by their name."""
    tree = trial.spec.model_dump(mode="json")
    if isinstance(tree["stages"], list):
        tree["stages"] = {stage["name"]: stage for stage in tree["stages"]}
    tree["dataset"] = trial.dataset.model_dump(mode="json")
    return dict(_flatten(tree, "config"))


def _flatten(tree: dict[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", json.dumps(value) if isinstance(value, list) else value


def _epoch_row(trial: Trial, epoch: dict[str, Any]) -> dict[str, Any]:
    row = {key: value for key, value in epoch.items() if key != "val_accuracy_heads"}
    heads = epoch["val_accuracy_heads"]
    first, second = heads if len(heads) == 2 else (None, None)
    stage = trial.stages[epoch["stage_index"]].name
    return {**row, "stage": stage, "val_accuracy_a": first, "val_accuracy_b": second}


RAY_SESSION = "ray-session"


class RunFolder:
    """The folder of one run: `sweep.yaml`, `plan.json`, `environment.json`, the journal and the tables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal.jsonl"
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

    def describe(self, sweep: Sweep, trials: Sequence[Trial], keys: dict[str, tuple[str, ...]]) -> None:
        """Write what the run is: sweep.yaml, plan.json, environment.json.

        Args:
            sweep: As resolved.
            trials: Its trials.
            keys: For each trial id the keys of its stages and its assessment.

        Raises:
            InputError: The folder cannot be written.

        """
        try:
            self.clear_scratch()
            self._remove_drafts()
            _write(self.folder / "sweep.yaml", dump_sweep(sweep))
            self.write_plan(trials, keys)
            environment = json.dumps(describe_environment(), indent=1)
            _write(self.folder / "environment.json", environment)
        except OSError as error:
            raise self._not_writable(error) from None

    def write_plan(self, trials: Sequence[Trial], keys: dict[str, tuple[str, ...]]) -> None:
        """Write plan.json (see `describe`)."""
        planned = [
            {"trial_id": t.trial_id, "arm": t.arm, "seed": t.seed, "fold": t.fold, "keys": keys[t.trial_id]}
            for t in trials
        ]
        _write(self.folder / "plan.json", json.dumps(planned, indent=0))

    def clear_scratch(self) -> None:
        """Remove what Ray and Tune left behind, be it just now or when they were killed."""
        with suppress(OSError):
            shutil.rmtree((self.scratch / RAY_SESSION).read_text(), ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _remove_drafts(self) -> None:
        """Remove drafts of processes that were killed while writing, NAME.PID.tmp."""
        for draft in self.folder.glob("*.tmp"):
            process = draft.suffixes[-2][1:] if len(draft.suffixes) > 1 else ""
            if process.isdecimal() and not Path(f"/proc/{process}").exists():
                draft.unlink(missing_ok=True)

    def _not_writable(self, error: OSError) -> WriteError:
        return WriteError(f"{self.folder}: cannot be written ({error.strerror}); --out says where runs go")

    @staticmethod
    def open(folder: Path) -> "RunFolder":
        """Open a run that is there.

        Raises:
            InputError: It is not a run's folder.

        """
        if not (folder / "plan.json").is_file():
            raise InputError(
                f"{folder}: not a run's folder (it has no plan.json); runs are in runs/ or --out"
            )
        return RunFolder(folder)

    def append(self, new: Record) -> None:
        """Journal a record; it is on disk when this returns.

        A line begins with its own line break where a killed run, or a full disk, left the last one cut.

        Raises:
            InputError: The journal cannot be written; what was in it stays.

        """
        line = json.dumps({"trial": new.trial, "stages": new.stages, "epochs": new.epochs}, allow_nan=False)
        try:
            with self.journal.open("a+b") as file:
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
        if not self.journal.exists():
            return found
        for number, line in enumerate(
            self.journal.read_text(encoding="utf-8", errors="replace").splitlines(), 1
        ):
            try:
                new = Record(**json.loads(line))
                found[new.trial["trial_id"]] = new
            except (ValueError, TypeError, KeyError):
                if number in self._warned:
                    continue
                self._warned.add(number)
                warnings.warn(f"{self.journal}, line {number}: not a whole record, passed over", stacklevel=2)
        return found

    def planned(self) -> list[dict[str, Any]]:
        """Return trial_id, arm, seed, fold and stage keys of each trial of the plan."""
        plan: list[dict[str, Any]] = json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))
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
                _write_whole(self.folder / f"{name}.parquet", partial(table.to_parquet, index=False))
        except OSError as error:
            raise self._not_writable(error) from None
        return kept


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


def _write(path: Path, text: str) -> None:
    _write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def describe_environment() -> dict[str, Any]:
    """Return what a run ran on: time, command, commit, versions, hardware."""
    import platform

    import torch

    def version_of(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    packages = ("lightsweep", "torch", "torchvision", "ray", "numpy", "pandas", "plotly", "scikit-learn")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["lightsweep", *sys.argv[1:]]),
        "commit": commit(),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in packages}},
        "hardware": {
            "host": platform.node(),
            "system": platform.platform(),
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "gpus": gpus,
        },
    }


def commit() -> str:
    """Return the commit of the lightsweep that runs, with "+dirty" for changes; "" outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if not git("ls-files", "records.py"):
            return ""  # installed inside some other project's checkout
        return git("rev-parse", "--short=12", "HEAD") + (
            "+dirty" if git("status", "--porcelain", ".") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
