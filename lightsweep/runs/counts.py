"""Progress counters of a run, read by the progress display, the trackers and the cluster's metrics."""

from collections.abc import Sequence

from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial


class Counts:
    """Numbers of trials by state, of stages trained and reused, and of epochs."""

    def __init__(self, trials: Sequence[Trial] = ()) -> None:
        """Start with the trials to run that are known so far."""
        self.done = self.failed = self.stopped = 0
        """Numbers of trials that ended, that failed, and that were stopped early."""
        self.made = self.reused = 0
        """Numbers of stages and assessments that were computed, and that were looked up."""
        self.waited_seconds = self.worker_seconds = 0.0
        """Sums over the workers: time spent waiting for another worker's stage, and total time."""
        self.best: tuple[float, str] | None = None
        """Highest validation accuracy (a fraction), and the label of its trial."""
        self.epochs: dict[str, int] = {}
        """Maximum number of epochs of each trial, by trial id."""
        self.epochs_ended = 0
        """Sum of `epochs` over the trials that ended."""
        self.running: dict[str, tuple[Trial, int]] = {}
        """Running trials with the number of epochs completed, by trial id."""
        for trial in trials:
            self.add(trial)

    @property
    def total(self) -> int:
        """Number of trials known so far."""
        return len(self.epochs)

    @property
    def states(self) -> dict[str, int]:
        """Number of trials in each state."""
        return {
            "completed": self.done - self.failed - self.stopped,
            "failed": self.failed,
            "stopped_early": self.stopped,
            "running": len(self.running),
            "waiting": self.total - self.done - len(self.running),
        }

    @property
    def share_of_epochs(self) -> float:
        """Fraction of all epochs that is trained, 0 to 1."""
        if self.done >= self.total:
            return 1.0
        trained = self.epochs_ended + sum(epochs for _, epochs in self.running.values())
        return trained / sum(self.epochs.values())

    def add(self, trial: Trial) -> None:
        """Add a trial to those that are to run."""
        self.epochs[trial.trial_id] = sum(stage.epochs for stage in trial.stages)

    def begin_list(self, trials: Sequence[Trial]) -> None:
        """Switch from a search to a list of trials, which `share_of_epochs` covers from now on."""
        self.epochs_ended = 0
        self.epochs = {trial_id: 0 for trial_id in list(self.epochs)[: self.done]}
        for trial in trials:
            self.add(trial)

    def advance(self, trial: Trial, epochs: int) -> None:
        """Record the number of epochs that a running trial has completed."""
        self.running[trial.trial_id] = (trial, epochs)

    def lose(self, trial: Trial) -> None:
        """Record that a trial ended without an outcome."""
        self.running.pop(trial.trial_id, None)

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """Count a trial's outcome."""
        self.running.pop(trial.trial_id, None)
        self.done += 1
        self.failed += outcome.status == "failed"
        self.stopped += outcome.status == "early_stopped"
        self.made += sum(stage["origin"] != "stored" for stage in outcome.stages)
        self.reused += sum(stage["origin"] == "stored" for stage in outcome.stages)
        self.waited_seconds += sum(stage["waited_seconds"] for stage in outcome.stages)
        self.worker_seconds += outcome.seconds
        self.epochs_ended += self.epochs[trial.trial_id]
        if outcome.status == "completed":
            self.best = max(self.best or (0.0, ""), (outcome.accuracies["val_accuracy"], trial.label))
