"""Live progress of a run: a bar in a terminal, plain lines elsewhere, and every line in `log.txt`."""

import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from lightsweep.records import Outcome
from lightsweep.trial import Trial


class Progress:
    """Counts trials that are done, running and failed, and says what is best and how long is left."""

    def __init__(self, total: int, log: Path, console: Console) -> None:
        """Start counting.

        Args:
            total: Trials to run.
            log: File that lines are appended to.
            console: Where the progress is shown.

        """
        self.total = total
        self.console = console
        self.done = self.failed = 0
        self.running: set[str] = set()
        self.best: tuple[float, str] | None = None
        self.started = time.monotonic()
        self._log: TextIO = log.open("a", encoding="utf-8")
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        if console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = Bar(*columns, console=console, transient=True)
            self._task = self._bar.add_task("starting", total=total)

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

    def say(self, text: str) -> None:
        """Show a line and log it."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        self._log.flush()

    def start(self, trial: Trial) -> None:
        """Note that a trial is running."""
        self.running.add(trial.trial_id)
        self._update()

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """Note what became of a trial."""
        self.running.discard(trial.trial_id)
        self.done += 1
        if outcome.status == "completed":
            accuracy = outcome.accuracies["val_accuracy"]
            self.best = max(self.best or (0.0, ""), (accuracy, trial.label))
            reused = f", {outcome.stages_reused} stages reused" if outcome.stages_reused else ""
            text = f"validation {accuracy:.2%}, {outcome.seconds:.1f} s{reused}"
        else:
            self.failed += 1
            text = f"FAILED: {outcome.error}"
        width = len(str(self.total))
        self.say(f"[{self.done:{width}}/{self.total}] {trial.label}: {text}; {self.time_left()}")
        self._update()

    def time_left(self) -> str:
        """Return an estimate of the time left, in words."""
        left = (time.monotonic() - self.started) / max(self.done, 1) * (self.total - self.done)
        if self.done == self.total:
            return "done"
        return f"about {left:.0f} s left" if left < 90 else f"about {left / 60:.0f} min left"

    def summary(self) -> str:
        """Return the counts and the best trial in words."""
        best = f", best so far {self.best[0]:.2%} ({self.best[1]})" if self.best else ""
        return f"{len(self.running)} running, {self.failed} failed{best}, {self.time_left()}"

    def _update(self) -> None:
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done, description=self.summary())
