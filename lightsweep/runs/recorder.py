"""What becomes of a run's trials: into the journal, the counts, the display, the trackers, the metrics."""

from typing import TYPE_CHECKING

from lightsweep.runfolder.environment import commit
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runfolder.records import record
from lightsweep.runs.cluster import Cluster
from lightsweep.runs.counts import Counts
from lightsweep.runs.planned import PlannedTrials
from lightsweep.runs.progress import Progress
from lightsweep.sweepfile.reading import dump_sweep
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial

if TYPE_CHECKING:
    from lightsweep.tracking.trackers import Trackers


def open_run_trackers(sweep: Sweep, run: RunFolder) -> "Trackers | None":
    """Show trials where the sweep says, those that have a record at once.

    Raises:
        InputError: They cannot be shown there.

    """
    if not sweep.tracking:
        return None
    from lightsweep.tracking.trackers import open_trackers  # what it needs is an extra

    trackers = open_trackers(sweep.tracking, run.folder, sweep.name, dump_sweep(sweep))
    for found in run.journal.records().values():
        trackers.end(found)
    return trackers


class Recorder:
    """Hears of a run's trials and passes it on to all that keep or show it."""

    def __init__(
        self,
        trials: PlannedTrials,
        cluster: Cluster,
        counts: Counts,
        progress: Progress,
        trackers: "Trackers | None",
    ) -> None:
        self.trials, self.cluster, self.counts = trials, cluster, counts
        self.progress, self.trackers = progress, trackers
        self.is_attached = False
        """Whether the cluster is there, whose metrics show the counts."""
        self._commit = commit()

    def advance(self, trial: Trial, epochs: int) -> None:
        """Note that a trial has completed so many epochs; 0 when it starts."""
        self.counts.advance(trial, epochs)
        self.progress.advance()
        self._show()

    def lose(self, trial: Trial, reason: str) -> None:
        """Note that a trial ended without an outcome, for a reason in words, and is tried again."""
        self.counts.lose(trial)
        self.progress.lose(trial, reason)

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """Journal what became of a trial, then count and show it."""
        self.journal(trial, outcome)
        self.count(trial, outcome)

    def journal(self, trial: Trial, outcome: Outcome) -> None:
        """Journal what became of a trial.

        Raises:
            WriteError: It cannot be written.

        """
        known = self.trials
        new = record(
            trial,
            known.costs[trial.trial_id],
            outcome,
            self._commit,
            known.data[trial.dataset],
            known.parts.get(trial.trial_id),
        )
        known.run.journal.append(new)
        if self.trackers:
            self.trackers.end(new)

    def count(self, trial: Trial, outcome: Outcome) -> None:
        """Count and show what became of a trial."""
        self.counts.end(trial, outcome)
        self.progress.end(trial, outcome)
        if self.trackers:
            counts = self.counts
            completed = counts.states["completed"]
            self.trackers.counts(
                completed, counts.failed, counts.stopped, counts.reused, counts.waited_seconds
            )
        self._show()

    def _show(self) -> None:
        if self.is_attached:
            self.cluster.show(self.trials.sweep.name, self.counts)
