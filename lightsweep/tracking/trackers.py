"""Trackers show the records in TensorBoard and MLflow; they never stop or delay a sweep.

Each tracker works on its own thread in the launching process, and is switched off with a warning when it
fails. It recognises trials that it has already shown, so a continued sweep can pass it all records at the
start. Per-epoch series have names such as `epoch/val_accuracy`; `val_accuracy` is that of the final net
only, as in the records.
"""

import os
import queue
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from lightsweep.errors import InputError
from lightsweep.runfolder.records import Record
from lightsweep.sweepfile.sweep import TrackerName
from lightsweep.tracking.mlflow import HTTP_AT_START, HTTP_AT_WORK, MLflow
from lightsweep.tracking.tensorboard import TensorBoard
from lightsweep.tracking.words import reason_of

_SERVER_SECONDS, _FILE_SECONDS = 20.0, 120.0  # on a busy machine, creating MLflow's tables is slow


class Tracker(Protocol):
    """Where trials are shown; its methods are called on one thread and may raise any exception."""

    label: str
    """Kind and location of the tracker, for messages; contains no secrets."""
    is_remote: bool
    """Whether $MLFLOW_TRACKING_URI sets its location; otherwise it is in the run folder."""

    def connect(self) -> None:
        """Connect, and find out which trials are already shown."""

    def show(self, record: Record) -> None:
        """Show a trial, replacing an older record of it, unless it is already shown."""

    def show_counts(self, counts: dict[str, float], step: int) -> None:
        """Show the sweep's progress after `step` trials."""

    def finish(self) -> None:
        """Mark the sweep as finished for now."""


class Trackers:
    """The trackers of one run, each on its own thread, so that their failures do not raise here.

    Only `close` waits. The next call after a tracker's failure warns once, through `warnings.warn`.
    """

    def __init__(self, workers: Sequence["_Worker"]) -> None:
        self._workers = tuple(workers)

    def end(self, record: Record) -> None:
        """Show a trial that ended; a trial that is already shown costs only a look-up."""
        self._do(lambda tracker: tracker.show(record))

    def counts(self, done: int, failed: int, stopped: int, reused: int, waiting_seconds: float) -> None:
        """Show the sweep's progress.

        Args:
            done: Number of trials completed.
            failed: Number of trials that failed.
            stopped: Number of trials that were stopped early.
            reused: Number of stages that were looked up.
            waiting_seconds: Time that trials spent waiting for another trial's stage.

        """
        counts = {
            "done": done, "failed": failed, "stopped": stopped, "reused": reused,
            "waiting_seconds": waiting_seconds,
        }  # fmt: skip
        self._do(lambda tracker: tracker.show_counts(counts, done + failed + stopped))

    def close(self, patience_seconds: float = 30.0) -> None:
        """Wait until everything is shown; give up on a tracker without progress in `patience_seconds`."""
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
                warnings.warn(f"{text}; run the same command again to add what is missing", stacklevel=4)


def open_trackers(
    names: Sequence[TrackerName], run_folder: Path, sweep_name: str, sweep_text: str
) -> Trackers:
    """Open trackers: TensorBoard in the run folder, MLflow at $MLFLOW_TRACKING_URI or in the run folder.

    Args:
        names: Names of the trackers.
        run_folder: The run's folder, which must exist.
        sweep_name: Name of the sweep, and of the MLflow experiment.
        sweep_text: Content of the sweep file, shown with the sweep's progress.

    Raises:
        InputError: A package is not installed, or a tracker does not respond in time.

    """
    kinds: dict[str, type[TensorBoard] | type[MLflow]] = {"tensorboard": TensorBoard, "mlflow": MLflow}
    trackers = [kinds[name](run_folder, sweep_name, sweep_text) for name in dict.fromkeys(names)]
    workers = [_Worker(tracker) for tracker in trackers]
    for name, worker in zip(dict.fromkeys(names), workers, strict=True):
        with _environment(HTTP_AT_START):
            worker.start(_SERVER_SECONDS if worker.tracker.is_remote else _FILE_SECONDS)
        if worker.failure:
            for other in workers:
                other.stop(0)
            remedy = "start it, correct MLFLOW_TRACKING_URI" if worker.tracker.is_remote else "fix that"
            raise InputError(
                f"tracking: {worker.tracker.label} cannot be used: {worker.failure}; {remedy}, "
                f"or take {name} out of tracking"
            )
    for setting, value in HTTP_AT_WORK.items():
        os.environ.setdefault(setting, value)
    return Trackers(workers)


class _Worker:
    """A tracker's thread: runs tasks in order until one fails, then discards the rest."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.failure: str | None = None
        self.is_warned = False
        self._tasks: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        self._tasks_done = 0
        self._is_connected = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self, patience_seconds: float) -> None:
        """Connect the tracker; set `failure` if that takes longer than `patience_seconds`."""
        self.do(lambda tracker: tracker.connect())
        self._thread.start()
        if not self._is_connected.wait(patience_seconds):
            self.failure = f"it does not answer within {patience_seconds:g} seconds"

    def do(self, task: Callable[[Tracker], None]) -> None:
        """Queue a task."""
        if not self.failure:
            self._tasks.put(task)

    def stop(self, patience_seconds: float) -> None:
        """Wait for all tasks, as long as each ends within `patience_seconds`."""
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
                    self.failure = self.failure or reason_of(error)
            self._tasks_done += 1
            self._is_connected.set()


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set environment variables temporarily; MLflow reads its timeouts only from there."""
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
