"""Live progress of a run: a bar in a terminal, plain lines elsewhere, and every line in `log.txt`."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from lightsweep.echo import masked, one_line
from lightsweep.system.files import open_to_append
from lightsweep.system.terminal import say
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial

QUIET_SECONDS = 60.0  # at most without a line, where there is no terminal


class Progress:
    """Counts trials that are done, running and failed, and says what is best and how long is left."""

    def __init__(
        self,
        trials: Sequence[Trial],
        log: Path,
        console: Console,
        share_done: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start counting.

        Args:
            trials: What is to run, as far as it is known.
            log: File that lines are appended to.
            console: Where the progress is shown.
            share_done: Of a search, tells how much of it is over, 0 to 1.
            clock: Tells seconds, from any moment on.

        """
        self.console = console
        self.share_done, self.share_before = share_done, share_done() if share_done else 0.0
        self.done = self.failed = self.stopped = 0
        self.best: tuple[float, str] | None = None
        self.epochs: dict[str, int] = {}
        for trial in trials:
            self.add(trial)
        self.made = self.reused = 0
        self.waited_seconds = self.worker_seconds = 0.0
        self.epochs_ended = 0  # at most, of trials that have ended
        self.running: dict[str, tuple[Trial, int]] = {}
        self._clock = clock
        self.started = self.said = clock()
        self._log = open_to_append(log)
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        if console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Bar(*columns, console=console, transient=True)
            self._task = self._bar.add_task("starting", total=self.total)

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

    def begin_list(self, trials: Sequence[Trial]) -> None:
        """Go on from a search to a list of trials, all of which are known."""
        self.share_done, self.share_before = None, 0.0
        self.started, self.epochs_ended = self._clock(), 0
        self.epochs = {trial_id: 0 for trial_id in list(self.epochs)[: self.done]}
        for trial in trials:
            self.add(trial)

    @property
    def total(self) -> int:
        """Number of the trials known so far."""
        return len(self.epochs)

    @property
    def states(self) -> dict[str, int]:
        """Numbers of trials by what has become of them so far."""
        return {
            "completed": self.done - self.failed - self.stopped,
            "failed": self.failed,
            "stopped_early": self.stopped,
            "running": len(self.running),
            "waiting": self.total - self.done - len(self.running),
        }

    def add(self, trial: Trial) -> None:
        """Count a trial to what is to run."""
        self.epochs[trial.trial_id] = sum(stage.epochs for stage in trial.stages)

    def say(self, text: str) -> None:
        """Show a line and log it; where nobody can see it any more, as in a pipe that was closed, log it."""
        with suppress(OSError):
            say(self.console, text)
        self.said = self._clock()
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {one_line(masked(text))}\n".encode())
        self._log.flush()

    def advance(self, trial: Trial, epochs: int) -> None:
        """Note that a trial is running and how many epochs it has behind it."""
        self.running[trial.trial_id] = (trial, epochs)
        if self._bar is None and self._clock() - self.said > QUIET_SECONDS:
            under_way = ", ".join(
                f"{running.label} {done} of {self.epochs[running.trial_id]} epochs"
                for running, done in self.running.values()
            )
            self.say(f"[{self.place()}] running: {under_way}; {self.time_left()}")
        self._update()

    def lose(self, trial: Trial, reason: str) -> None:
        """Note that a trial ended without an outcome, for a reason in words, and is tried again."""
        self.running.pop(trial.trial_id, None)
        self.say(f"{trial.label}: {reason}; the trial is tried again")

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """Note what became of a trial."""
        self.running.pop(trial.trial_id, None)
        for warning in outcome.warnings:
            self.say(f"warning: {warning}")
        self.done += 1
        self.made += sum(stage["origin"] != "stored" for stage in outcome.stages)
        self.reused += sum(stage["origin"] == "stored" for stage in outcome.stages)
        self.waited_seconds += sum(stage["waited_seconds"] for stage in outcome.stages)
        self.worker_seconds += outcome.seconds
        self.epochs_ended += self.epochs[trial.trial_id]
        if outcome.status == "completed":
            accuracy = outcome.accuracies["val_accuracy"]
            self.best = max(self.best or (0.0, ""), (accuracy, trial.label))
            stored = sum(stage["origin"] == "stored" for stage in outcome.stages[:-1])
            reused = f", {stored} of {len(outcome.stages) - 1} stages reused" if stored else ""
            text = f"validation {accuracy:.2%}, {outcome.seconds:.1f} s{reused}"
        elif outcome.status == "early_stopped":
            self.stopped += 1
            best = max(epoch["val_accuracy"] for epoch in outcome.epochs)
            text = (
                f"stopped early after {len(outcome.epochs)} epochs, best {best:.2%}, {outcome.seconds:.1f} s"
            )
        else:
            self.failed += 1
            text = f"FAILED: {outcome.error}"
        self.say(f"[{self.place()}] {trial.label}: {text}; {self.summary()}")
        self._update()

    def place(self) -> str:
        """Return how many trials are done, of how many or of what share of the search."""
        if self.share_done is not None:
            return f"{self.done}, {self.share_done():.0%}"
        return f"{self.done:{len(str(self.total))}}/{self.total}"

    def ledger(self) -> str:
        """Return how many stages and assessments were made and reused, and how long workers waited."""
        share = self.waited_seconds / self.worker_seconds if self.worker_seconds else 0.0
        return (
            f"stages and assessments: {self.made} made, {self.reused} reused; {self.waited_seconds:.1f} of "
            f"{self.worker_seconds:.1f} worker-seconds ({share:.1%}) spent waiting for one another"
        )

    def summary(self) -> str:
        """Return what is running, failed and best, and the time left, in words."""
        best = f", best {self.best[0]:.2%}" if self.best else ""
        stopped = f"{self.stopped} stopped early, " if self.stopped else ""
        return f"{len(self.running)} running, {stopped}{self.failed} failed{best}, {self.time_left()}"

    def time_left(self) -> str:
        """Return an estimate of the time left, from the share of the search or the epochs that is done."""
        if self.share_done is not None:
            share = self.share_done()
        else:
            done = self.epochs_ended + sum(epochs for _, epochs in self.running.values())
            share = done / sum(self.epochs.values()) if self.done < self.total else 1.0
        if share >= 1 and not self.running:
            return "done"
        if share <= self.share_before:
            return "time left unknown"
        left = (self._clock() - self.started) * (1 - share) / (share - self.share_before)
        return f"about {left:.0f} s left" if left < 90 else f"about {left / 60:.0f} min left"

    def _update(self) -> None:
        if self._bar and self._task is not None:
            best = f" ({self.best[1]})" if self.best else ""
            description = self.summary() + best
            self._bar.update(self._task, completed=self.done, total=self.total, description=description)
