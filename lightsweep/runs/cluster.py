"""What a run needs of whatever trains its trials: Ray (`on_ray.OnRay`), or anything that keeps this contract.

Knows nothing of Ray, so that a run's own logic can be driven, and killed, without it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from lightsweep.data.imagedata import Dataset
from lightsweep.runs.counts import Counts
from lightsweep.runs.placement import Placement, Room
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.sweep import Resources
from lightsweep.training.attempt import Attempt
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial

TrialSource = Callable[[], Trial | Literal["wait"] | None]
"""Gives the next trial to train, "wait" while it depends on trials under way, or None after the last one."""

GoesOn = Callable[[Trial, Outcome], bool]
"""Says of a trial at a rung, with its outcome if it ends there, whether it goes on."""


@dataclass(frozen=True)
class Listener:
    """Functions of the launching process that hear of its trials."""

    on_epochs: Callable[[Trial, int], None]
    """Called with 0 when a trial starts, then with the number of epochs that it has completed."""
    on_lost: Callable[[Trial, str], None]
    """A trial ended without an outcome, for a reason in words, and is tried again."""
    on_end: Callable[[Trial, Outcome], None]
    """A trial has ended, whatever became of it; an InputError ends the run."""
    say: Callable[[str], None]
    """Something else is worth a line."""


@dataclass(frozen=True)
class Job:
    """What is the same for all trials of a run."""

    datasets: dict[DatasetSpec, Dataset]
    """Loaded data sets by their spec."""
    store_folder: Path
    """The stage store of the launching process."""
    data_dir: Path
    """Folder in which nodes look for the data sets' files, too, if their environment names none."""
    resources: Resources
    """What one trial takes."""
    fresh: bool
    """Train everything anew, whatever is stored."""
    attempt: Attempt
    """Runs one trial in a worker."""


class Cluster(Protocol):
    """What trains trials."""

    name: str
    """In words."""

    def attached(self, resources: Resources, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """Start it or attach to it, and wait until it has room for a trial.

        Args:
            resources: What one trial takes.
            say: Called with a line when something is worth one.

        Raises:
            InputError: It cannot be used.
            LostError: It was gone before the body had ended.

        """

    def rooms(self) -> list[Room]:
        """Return what each living node has."""

    def show(self, run: str, counts: Counts) -> None:
        """Show how far a run is among the cluster's metrics."""

    def run_trials(
        self,
        job: Job,
        source: TrialSource,
        placement: Placement,
        listener: Listener,
        rungs: Sequence[int] = (),
        goes_on: GoesOn | None = None,
    ) -> None:
        """Run trials in the order in which they are given.

        Args:
            job: What is the same for all of them.
            source: What to train.
            placement: Says of each trial whether it goes on a GPU, and on what share of it.
            listener: Hears of the trials.
            rungs: Numbers of epochs after which a trial asks whether it goes on.
            goes_on: Answers.

        Raises:
            InputError: The store cannot be written, the listener cannot keep an outcome, or the source has
                nothing to give; trials under way are stopped.
            KeyboardInterrupt: Ctrl-C; trials under way are stopped.

        """
