"""Trackers show in TensorBoard and MLflow what the records hold; they never end a sweep nor hold it up.

Each tracker works on a thread of its own, in the launching process, and is switched off with a warning
when it fails. What it has shown it knows again, so a sweep that goes on shows no trial twice, and all
records may be handed over at the start. Per-epoch series are named `epoch/val_accuracy` and the like, so
that `val_accuracy` is the final net's alone, as in the records.
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

_SERVER_SECONDS, _FILE_SECONDS = 20.0, 120.0  # making MLflow's tables on a busy machine takes its time


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
    kinds: dict[str, type[TensorBoard] | type[MLflow]] = {"tensorboard": TensorBoard, "mlflow": MLflow}
    trackers = [kinds[name](run_folder, sweep_name, sweep_text) for name in dict.fromkeys(names)]
    workers = [_Worker(tracker) for tracker in trackers]
    for name, worker in zip(dict.fromkeys(names), workers, strict=True):
        with _environment(HTTP_AT_START):
            worker.start(_SERVER_SECONDS if worker.tracker.is_remote else _FILE_SECONDS)
        if worker.failure:
            for other in workers:
                other.stop(0)
            remedy = "start it, correct MLFLOW_TRACKING_URI" if worker.tracker.is_remote else "mend that"
            raise InputError(
                f"tracking: {worker.tracker.label} cannot be used: {worker.failure}; {remedy}, "
                f"or take {name} out of tracking"
            )
    for setting, value in HTTP_AT_WORK.items():
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
                    self.failure = self.failure or reason_of(error)
            self._tasks_done += 1
            self._is_connected.set()


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
