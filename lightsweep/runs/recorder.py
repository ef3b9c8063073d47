"""Recording of trial outcomes: in the journal, counts, display, trackers and metrics."""

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
    """Open the sweep's trackers, if any, and show them all trials recorded so far.

    Raises:
        InputError: A tracker cannot be used.

    """
    if not sweep.tracking:
        return None
    from lightsweep.tracking.trackers import open_trackers  # needs optional packages

    trackers = open_trackers(sweep.tracking, run.folder, sweep.name, dump_sweep(sweep))
    for found in run.journal.records().values():
        trackers.end(found)
    return trackers


class Recorder:
    """Receives the events of a run's trials and passes them to everything that records or shows them."""

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
        """Whether the cluster is attached, so that its metrics can show the counts."""
        self._commit = commit()

    def advance(self, trial: Trial, epochs: int) -> None:
        """Record the number of epochs that a trial has completed; 0 when it starts."""
        self.counts.advance(trial, epochs)
        self.progress.advance()
        self._show()

    def lose(self, trial: Trial, reason: str) -> None:
        """Record that a trial ended without an outcome and is retried, with the reason in words."""
        self.counts.lose(trial)
        self.progress.lose(trial, reason)

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """Write a trial's outcome to the journal, then count and show it."""
        self.journal(trial, outcome)
        self.count(trial, outcome)

    def journal(self, trial: Trial, outcome: Outcome) -> None:
        """Write a trial's outcome to the journal and show it in the trackers.

        Raises:
            WriteError: The journal cannot be written.

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
        """Count and show a trial's outcome."""
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
