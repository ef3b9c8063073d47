"""Live progress of a run: a bar in a terminal, plain lines elsewhere; all lines also go to `log.txt`."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from lightsweep.echo import masked, one_line
from lightsweep.runs.counts import Counts
from lightsweep.system.files import open_to_append
from lightsweep.system.terminal import say
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial

QUIET_SECONDS = 60.0  # longest time without a line where there is no terminal


class Progress:
    """Shows a run's counts: trials done, running and failed, the best one, and the time left."""

    def __init__(
        self,
        counts: Counts,
        log: Path,
        console: Console,
        share_done: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock.

        Args:
            counts: Counts to show.
            log: File to which lines are appended.
            console: Console on which to show the progress.
            share_done: Returns the fraction of a search that is done, 0 to 1; None without a search.
            clock: Returns seconds since any fixed moment.

        """
        self.counts, self.console = counts, console
        self.share_done, self.share_before = share_done, share_done() if share_done else 0.0
        self._clock = clock
        self.started = self.said = clock()
        self._log = open_to_append(log)
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        if console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Bar(*columns, console=console, transient=True)
            self._task = self._bar.add_task("starting", total=counts.total)

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        self._log.close()

    def begin_list(self) -> None:
        """Switch from a search to a fixed list of trials."""
        self.share_done, self.share_before = None, 0.0
        self.started = self._clock()

    def say(self, text: str) -> None:
        """Show a line and log it; if it can no longer be shown (a closed pipe), only log it."""
        with suppress(OSError):
            say(self.console, text)
        self.said = self._clock()
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {one_line(masked(text))}\n".encode())
        self._log.flush()

    def advance(self) -> None:
        """Show that trials are advancing; without a bar, print at most one line a minute."""
        counts = self.counts
        if self._bar is None and self._clock() - self.said > QUIET_SECONDS:
            under_way = ", ".join(
                f"{running.label} {done} of {counts.epochs[running.trial_id]} epochs"
                for running, done in counts.running.values()
            )
            self.say(f"[{self.place()}] running: {under_way}; {self.time_left()}")
        self._update()

    def lose(self, trial: Trial, reason: str) -> None:
        """Show that a trial ended without an outcome and is retried, with the reason in words."""
        self.say(f"{trial.label}: {reason}; the trial is retried")

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """Show the outcome of a trial, after it was counted."""
        for warning in outcome.warnings:
            self.say(f"warning: {warning}")
        if outcome.status == "completed":
            stored = sum(stage["origin"] == "stored" for stage in outcome.stages[:-1])
            reused = f", {stored} of {len(outcome.stages) - 1} stages reused" if stored else ""
            text = f"validation {outcome.accuracies['val_accuracy']:.2%}, {outcome.seconds:.1f} s{reused}"
        elif outcome.status == "early_stopped":
            best = max(epoch["val_accuracy"] for epoch in outcome.epochs)
            text = (
                f"stopped early after {len(outcome.epochs)} epochs, best {best:.2%}, {outcome.seconds:.1f} s"
            )
        else:
            text = f"FAILED: {outcome.error}"
        self.say(f"[{self.place()}] {trial.label}: {text}; {self.summary()}")
        self._update()

    def place(self) -> str:
        """Return the number of trials done, with their total or the fraction of the search."""
        if self.share_done is not None:
            return f"{self.counts.done}, {self.share_done():.0%}"
        return f"{self.counts.done:{len(str(self.counts.total))}}/{self.counts.total}"

    def ledger(self) -> str:
        """Return in words the stages and assessments made and reused, and the workers' waiting time."""
        counts = self.counts
        share = counts.waited_seconds / counts.worker_seconds if counts.worker_seconds else 0.0
        return (
            f"stages and assessments: {counts.made} made, {counts.reused} reused; "
            f"{counts.waited_seconds:.1f} of {counts.worker_seconds:.1f} worker-seconds ({share:.1%}) spent "
            "waiting for one another"
        )

    def summary(self) -> str:
        """Return in words the trials running and failed, the best accuracy, and the time left."""
        counts = self.counts
        best = f", best {counts.best[0]:.2%}" if counts.best else ""
        stopped = f"{counts.stopped} stopped early, " if counts.stopped else ""
        return f"{len(counts.running)} running, {stopped}{counts.failed} failed{best}, {self.time_left()}"

    def time_left(self) -> str:
        """Return the estimated time left in words, from the fraction of the search or of the epochs done."""
        share = self.counts.share_of_epochs if self.share_done is None else self.share_done()
        if share >= 1 and not self.counts.running:
            return "done"
        if share <= self.share_before:
            return "time left unknown"
        left = (self._clock() - self.started) * (1 - share) / (share - self.share_before)
        return f"about {left:.0f} s left" if left < 90 else f"about {left / 60:.0f} min left"

    def _update(self) -> None:
        if self._bar and self._task is not None:
            counts = self.counts
            description = self.summary() + (f" ({counts.best[1]})" if counts.best else "")
            self._bar.update(self._task, completed=counts.done, total=counts.total, description=description)
