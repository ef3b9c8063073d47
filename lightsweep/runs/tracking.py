"""Trackers show in TensorBoard and MLflow what the records hold; they never end a sweep nor hold it up.

Each tracker works on a thread of its own, in the launching process, and is switched off with a warning
when it fails. What it has shown it knows again, so a sweep that goes on shows no trial twice, and all
records may be handed over at the start. Per-epoch series are named `epoch/val_accuracy` and the like, so
that `val_accuracy` is the final net's alone, as in the records.
"""

import hashlib
import importlib
import itertools
import json
import logging
import os
import queue
import re
import shutil
import threading
import time
import urllib.parse
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from lightsweep.errors import InputError
from lightsweep.runs.records import Record
from lightsweep.sweepfile.sweep import TrackerName
from lightsweep.system.files import read_text, refuse_link, write_text

EPOCH_METRICS = ("val_accuracy", "train_accuracy", "val_loss", "train_loss", "learning_rate")
FINAL_METRICS = (
    "val_accuracy", "test_accuracy", "train_accuracy", "parameters", "macs", "int8_bytes", "latency_ms",
    "seconds",
)  # fmt: skip
TAGS = (
    "trial_id", "arm", "seed", "fold", "dataset", "status", "error", "host", "device", "commit", "phase",
    "result_key", "started_at",
)  # fmt: skip
HPARAMS = ("arm", "seed", "fold", "dataset", "status")
"""What TensorBoard's HParams tab tells trials apart by, beside their settings."""
RUN_STATUS = {"completed": "FINISHED", "failed": "FAILED", "early_stopped": "KILLED"}
_SERVER_SECONDS, _FILE_SECONDS = 20.0, 120.0  # making MLflow's tables on a busy machine takes its time
# MLflow's own limits, in characters and in entries of one call
_MOST_NAME, _MOST_PARAM, _MOST_TAG, _MOST_PARAMS, _MOST_ENTRIES = 250, 6000, 5000, 100, 1000
_UNANSWERED = ("ConnectionError", "ConnectTimeout", "ReadTimeout")  # of `requests`, which MLflow uses
# A server is given up soon when the sweep starts, and late while it runs.
_HTTP_AT_START = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
_HTTP_AT_WORK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


class Tracker(Protocol):
    """A place where trials are shown; its methods are called on one thread and may raise anything."""

    label: str
    """What it is and where, for messages; nothing secret in it."""
    is_remote: bool
    """Whether it is said by $MLFLOW_TRACKING_URI where it is; else it is in the run folder."""

    def connect(self) -> None:
        """Make ready, and find out what is shown already."""

    def show(self, record: Record) -> None:
        """Show a trial, in place of an older record of it, unless it is shown already."""

    def show_counts(self, counts: dict[str, float], step: int) -> None:
        """Show how far the sweep is after `step` trials."""

    def finish(self) -> None:
        """Say that the sweep is over for now."""


class Trackers:
    """The trackers of one run, each at work on its own thread: what fails there does not raise here.

    Only `close` waits. A tracker's failure is warned of once, through `warnings.warn`, in the next call.
    """

    def __init__(self, workers: Sequence["_Worker"]) -> None:
        self._workers = tuple(workers)

    def end(self, record: Record) -> None:
        """Show a trial that ended; one that is shown already costs nothing but a look-up."""
        self._do(lambda tracker: tracker.show(record))

    def counts(self, done: int, failed: int, stopped: int, reused: int, waiting_seconds: float) -> None:
        """Show the sweep's own course.

        Args:
            done: Completed trials.
            failed: Trials that failed.
            stopped: Trials that were stopped early.
            reused: Stages that were looked up.
            waiting_seconds: That trials spent waiting for another's stage.

        """
        counts = {
            "done": done, "failed": failed, "stopped": stopped, "reused": reused,
            "waiting_seconds": waiting_seconds,
        }  # fmt: skip
        self._do(lambda tracker: tracker.show_counts(counts, done + failed + stopped))

    def close(self, patience_seconds: float = 30.0) -> None:
        """Wait until all is shown, but not for a tracker that shows nothing for so many seconds."""
        for worker in self._workers:
            worker.do(lambda tracker: tracker.finish())
        for worker in self._workers:
            worker.stop(patience_seconds)
        self._warn()

    def _do(self, task: Callable[[Tracker], None]) -> None:
        for worker in self._workers:
            worker.do(task)
        self._warn()

    def _warn(self) -> None:
        for worker in self._workers:
            if worker.failure and not worker.is_warned:
                worker.is_warned = True
                text = f"{worker.tracker.label} is switched off: {worker.failure}"
                warnings.warn(f"{text}; the same command shows what is missing", stacklevel=4)


def open_trackers(
    names: Sequence[TrackerName], run_folder: Path, sweep_name: str, sweep_text: str
) -> Trackers:
    """Open trackers: TensorBoard's files in the run folder, MLflow at $MLFLOW_TRACKING_URI or there, too.

    Args:
        names: Which.
        run_folder: The run's folder; it is there.
        sweep_name: MLflow's experiment has it.
        sweep_text: The sweep file, shown with the sweep's course.

    Raises:
        InputError: A package is not installed, or the server does not answer within seconds.

    """
    kinds: dict[str, type[_TensorBoard] | type[_MLflow]] = {"tensorboard": _TensorBoard, "mlflow": _MLflow}
    trackers = [kinds[name](run_folder, sweep_name, sweep_text) for name in dict.fromkeys(names)]
    workers = [_Worker(tracker) for tracker in trackers]
    for name, worker in zip(dict.fromkeys(names), workers, strict=True):
        with _environment(_HTTP_AT_START):
            worker.start(_SERVER_SECONDS if worker.tracker.is_remote else _FILE_SECONDS)
        if worker.failure:
            for other in workers:
                other.stop(0)
            remedy = "start it, correct MLFLOW_TRACKING_URI" if worker.tracker.is_remote else "mend that"
            raise InputError(
                f"tracking: {worker.tracker.label} cannot be used: {worker.failure}; {remedy}, "
                f"or take {name} out of tracking"
            )
    for setting, value in _HTTP_AT_WORK.items():
        os.environ.setdefault(setting, value)
    return Trackers(workers)


class _Worker:
    """A tracker's thread: it does one task after the other until one fails, and then none."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.failure: str | None = None
        self.is_warned = False
        self._tasks: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        self._tasks_done = 0
        self._is_connected = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self, patience_seconds: float) -> None:
        """Connect the tracker; `failure` says if it did not within so many seconds."""
        self.do(lambda tracker: tracker.connect())
        self._thread.start()
        if not self._is_connected.wait(patience_seconds):
            self.failure = f"it does not answer within {patience_seconds:g} seconds"

    def do(self, task: Callable[[Tracker], None]) -> None:
        """Have a task done some time later."""
        if not self.failure:
            self._tasks.put(task)

    def stop(self, patience_seconds: float) -> None:
        """Wait for the end of all tasks, as long as one ends within so many seconds."""
        self._tasks.put(None)
        done = -1
        while self._thread.is_alive() and done < self._tasks_done:
            done = self._tasks_done
            self._thread.join(patience_seconds)
        if self._thread.is_alive() and not self.failure:
            self.failure = f"it does not answer within {patience_seconds:g} seconds"

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if not self.failure:
                try:
                    task(self.tracker)
                except Exception as error:
                    self.failure = self.failure or _reason(error)
            self._tasks_done += 1
            self._is_connected.set()


class _TensorBoard:
    """Event files under RUN/tensorboard: a folder per trial, and `sweep` for the sweep's course."""

    def __init__(self, run_folder: Path, sweep_name: str, sweep_text: str) -> None:
        _import("tensorboard", "tensorboard")
        self.summary = _import("torch.utils.tensorboard.summary", "tensorboard")
        self.writer = _import("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self.folder, self.name, self.text = run_folder / "tensorboard", sweep_name, sweep_text
        refuse_link(self.folder)
        self.label, self.is_remote = f"TensorBoard ({self.folder})", False
        self.sweep: Any = None

    def connect(self) -> None:
        self.sweep = self.writer(str(self.folder / "sweep"))
        self.sweep.add_text("sweep", f"# {self.name}\n\n" + _as_code(self.text), 0)
        self.sweep.flush()

    def show(self, record: Record) -> None:
        folder = self.folder / record.trial["trial_id"]
        marker = folder / "shown"  # written last: a folder without it was left by a killed run
        version = _version(record.trial)
        if marker.exists() and read_text(marker) == version:
            return
        shutil.rmtree(folder, ignore_errors=True)
        writer = self.writer(str(folder))
        try:
            self._write(writer, record)
            writer.flush()  # says what the writer's own thread met, which close does not
        finally:
            writer.close()
        write_text(marker, version)

    def _write(self, writer: Any, record: Record) -> None:
        trial, end = record.trial, _end(record.trial)
        for epoch, moment in _timed(record):
            for name in _present(epoch, EPOCH_METRICS):
                writer.add_scalar(f"epoch/{name}", epoch[name], epoch["trial_epoch"], moment)
        finals, last = _present(trial, FINAL_METRICS), len(record.epochs)
        for name in finals:
            writer.add_scalar(name, trial[name], last, end)
        settings = _present(trial, (*HPARAMS, *_config_names(trial)))
        values = {name: trial[name] for name in settings}
        # add_hparams would write a second file beside the writer's own, which a running TensorBoard misses
        for part in self.summary.hparams(values, dict.fromkeys(finals, 0.0)):
            writer.file_writer.add_summary(part, None, end)
        lines = [f"{name}: {trial[name]}" for name in _present(trial, TAGS)]
        writer.add_text("record", _as_code("\n".join([*lines, f"stages: {_stages(record)}"])), last, end)

    def show_counts(self, counts: dict[str, float], step: int) -> None:
        for name, value in counts.items():
            self.sweep.add_scalar(f"sweep/{name}", value, step)
        self.sweep.flush()

    def finish(self) -> None:
        self.sweep.flush()
        self.sweep.close()


class _MLflow:
    """An experiment named after the sweep: a run per trial, and the run `sweep` for its course."""

    def __init__(self, run_folder: Path, sweep_name: str, sweep_text: str) -> None:
        # MLflow reports its use to its makers, and prints each run's address with the password in it
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        self.mlflow = _import("mlflow", "mlflow")
        self.entities = _import("mlflow.entities", "mlflow")
        refuse_link(run_folder / "mlflow.db")
        local = f"sqlite:///{_quoted(run_folder.resolve() / 'mlflow.db')}"
        self.uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or local
        self.is_remote = self.uri != local
        if not self.uri.startswith(("http:", "https:")):
            _prepare_database()
        self.label = f"MLflow ({without_secrets(self.uri)})"
        self.run_folder, self.name, self.text = run_folder, sweep_name, sweep_text
        self.shown: dict[str, tuple[str, str]] = {}
        """Version and MLflow's run id of each trial that has a run; the version is empty if the run is
        not whole."""
        self.sweep_run: str | None = None

    def connect(self) -> None:
        self.folder_id = _folder_id(self.run_folder)
        self.client = self.mlflow.MlflowClient(self.uri)
        found = self.client.get_experiment_by_name(self.name)
        if found is not None and found.lifecycle_stage != "active":
            raise InputError(f"experiment {self.name} was deleted there; restore it or rename the sweep")
        self.experiment = found.experiment_id if found else self.client.create_experiment(self.name)
        for run in self._runs():
            self._note(run)
        if self.sweep_run is None:
            tags = {"run_folder_id": self.folder_id, "kind": "sweep", "mlflow.note.content": self.text}
            created = self.client.create_run(self.experiment, tags=_tags(tags), run_name="sweep")
            self.sweep_run = created.info.run_id
        else:
            self.client.update_run(self.sweep_run, status="RUNNING")

    def _runs(self) -> Iterator[Any]:
        """Yield the runs of this run folder, oldest first."""
        page = None
        while True:
            page = self.client.search_runs(
                [self.experiment], f"tags.run_folder_id = '{self.folder_id}'", max_results=1000,
                order_by=["attributes.start_time ASC"], page_token=page.token if page else None,
            )  # fmt: skip
            yield from page
            if not page.token:
                return

    def _note(self, run: Any) -> None:
        tags, run_id = run.data.tags, run.info.run_id
        if tags.get("kind") == "sweep":
            self.sweep_run = run_id
            return
        if tags["trial_id"] in self.shown:  # one of them was left by a kill between two calls
            self.client.delete_run(self.shown[tags["trial_id"]][1])
        is_whole = run.info.status in RUN_STATUS.values()
        self.shown[tags["trial_id"]] = (_version(tags) if is_whole else "", run_id)

    def show(self, record: Record) -> None:
        trial = record.trial
        trial_id, version = trial["trial_id"], _version(trial)
        if trial_id in self.shown:
            if self.shown[trial_id][0] == version:
                return
            self.client.delete_run(self.shown.pop(trial_id)[1])
        tags = {name: trial[name] for name in _present(trial, TAGS)}
        tags |= {"run_folder_id": self.folder_id, "kind": "trial", "stages": _stages(record)}
        run = self.client.create_run(
            self.experiment, start_time=_milliseconds(_start(trial)), tags=_tags(tags), run_name=_name(trial)
        )
        run_id = run.info.run_id
        for params, metrics in self._batches(record):
            self.client.log_batch(run_id, metrics, params)
        end, status = _milliseconds(_end(trial)), RUN_STATUS[trial["status"]]
        self.client.set_terminated(run_id, status, end)  # last: a run that goes on is not whole
        self.shown[trial_id] = (version, run_id)

    def _batches(self, record: Record) -> Iterator[tuple[list[Any], list[Any]]]:
        """Yield params and metrics in parts that MLflow takes in one call."""
        params = [
            self.entities.Param(_key(name), _cut(_plain(record.trial[name]), _MOST_PARAM))
            for name in _config_names(record.trial)
        ]
        metrics, at_once = self._metrics(record), _MOST_ENTRIES - _MOST_PARAMS
        for number in range(max(-(-len(params) // _MOST_PARAMS), -(-len(metrics) // at_once))):
            yield (
                params[number * _MOST_PARAMS : (number + 1) * _MOST_PARAMS],
                metrics[number * at_once : (number + 1) * at_once],
            )

    def _metrics(self, record: Record) -> list[Any]:
        metric, trial = self.entities.Metric, record.trial
        series = [
            metric(f"epoch/{name}", float(epoch[name]), _milliseconds(moment), epoch["trial_epoch"])
            for epoch, moment in _timed(record)
            for name in _present(epoch, EPOCH_METRICS)
        ]
        end, last = _milliseconds(_end(trial)), len(record.epochs)
        finals = [metric(name, float(trial[name]), end, last) for name in _present(trial, FINAL_METRICS)]
        return [*series, *finals]

    def show_counts(self, counts: dict[str, float], step: int) -> None:
        metric, now = self.entities.Metric, _milliseconds(time.time())
        metrics = [metric(f"sweep/{name}", float(value), now, step) for name, value in counts.items()]
        self.client.log_batch(self.sweep_run, metrics)

    def finish(self) -> None:
        self.client.set_terminated(self.sweep_run, "FINISHED")


def _import(module: str, package: str) -> Any:
    """Import a module of an optional package.

    Raises:
        InputError: It is not installed, or not in order.

    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"tracking: {package}: its package cannot be imported ({without_secrets(str(error))}); "
            "pip install 'lightsweep[tracking]'"
        ) from None


def _prepare_database() -> None:
    """Import what MLflow needs for a database of its own, here, where warnings can be held back."""
    with warnings.catch_warnings():
        # mlflow 3.17 still uses it with SQLAlchemy 2.1, which is none of the user's business
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
        _import("mlflow.store.tracking.sqlalchemy_store", "mlflow")
    for name in ("mlflow.store.db.utils", "alembic.runtime.migration", "alembic.runtime.plugins"):
        logging.getLogger(name).setLevel(logging.ERROR)  # how it makes its tables, how often it tries


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while; MLflow takes its time limits from there only."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _quoted(path: Path) -> str:
    """Return a path for a database's address, with no more quoted than must be: MLflow makes its folder."""
    return str(path).replace("%", "%25").replace("?", "%3F")


def _folder_id(run_folder: Path) -> str:
    """Return what tells this run folder's trials from another's, wherever the folder goes."""
    path = run_folder / "tracking-id"
    if not path.exists():
        write_text(path, uuid.uuid4().hex)
    return read_text(path).strip()


def without_secrets(text: str) -> str:
    """Return a text without what stands before the @ of an address or in its query, and known passwords.

    >>> without_secrets("cannot reach http://me:secret@host:5000/x?token=abc at all")
    'cannot reach http://host:5000/x at all'
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    secrets = [os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("PASSWORD", "TOKEN")]
    if "@" in uri:
        secrets.append(uri.partition("://")[2].rpartition("@")[0].partition(":")[2])
    text = re.sub(r"://\S*@", "://", text)
    text = re.sub(r"(://[^\s?]*)\?[^\s)]*", r"\1", text)
    for secret in filter(None, itertools.chain(secrets, map(urllib.parse.unquote, secrets))):
        text = text.replace(secret, "***")
    return text


def _reason(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        kind = type(cause)
        if kind.__module__ == "requests.exceptions" and kind.__name__ in _UNANSWERED:
            return "it does not answer"
        cause = cause.__cause__ or cause.__context__
    text = without_secrets(" ".join(str(error).split()))
    return _cut(text, 300) or type(error).__name__


def _version(trial: dict[str, Any]) -> str:
    """Return what tells a record of a trial from an older or a newer one."""
    return " ".join(str(trial.get(name)) for name in ("status", "started_at", "result_key"))


def _present(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [name for name in names if row.get(name) is not None]


def _config_names(trial: dict[str, Any]) -> list[str]:
    return [name for name in trial if name.startswith("config.")]


def _name(trial: dict[str, Any]) -> str:
    fold = "" if trial["fold"] is None else f", fold {trial['fold']}"
    return f"{trial['arm']} (seed {trial['seed']}{fold})"


def _stages(record: Record) -> str:
    return ", ".join(stage["stage"] for stage in record.stages if stage["stage"] != "assessment")


def _start(trial: dict[str, Any]) -> float:
    """Return when a trial began, in seconds since the epoch."""
    return datetime.fromisoformat(trial["started_at"]).timestamp()


def _end(trial: dict[str, Any]) -> float:
    return _start(trial) + float(trial["seconds"])


def _timed(record: Record) -> list[tuple[dict[str, Any], float]]:
    """Return each epoch with its end in seconds since the epoch, within the trial's time.

    Epochs of looked-up stages took their seconds in another trial.
    """
    ends = itertools.accumulate(float(epoch["seconds"]) for epoch in record.epochs)
    start, last = _start(record.trial), _end(record.trial)
    return [(epoch, min(start + end, last)) for epoch, end in zip(record.epochs, ends, strict=True)]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _as_code(text: str) -> str:
    """Return text as a block of code in Markdown."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _plain(value: Any) -> str:
    """Return a setting's value as a sweep file has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _key(name: str) -> str:
    """Return a name that MLflow takes, another for each: letters, digits, _, -, ., space, not too many."""
    clean = re.sub(r"[^\w\-. ]", "_", name)
    if clean == name and len(name) <= _MOST_NAME:
        return name
    return f"{clean[: _MOST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _tags(values: dict[str, Any]) -> dict[str, str]:
    return {name: _cut(_plain(value), _MOST_TAG) for name, value in values.items()}
