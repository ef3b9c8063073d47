"""Interface between a run and the cluster that trains its trials, implemented by `distributed.on_ray.OnRay`.

This module does not depend on Ray, so tests can drive and kill a run's logic without it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from lightsweep.data.imagedata import Dataset
from lightsweep.owncode.sources import Sources
from lightsweep.runs.counts import Counts
from lightsweep.runs.placement import Placement, Room
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.sweep import Resources
from lightsweep.training.attempt import Attempt
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial

TrialSource = Callable[[], Trial | Literal["wait"] | None]
"""Returns the next trial to train, "wait" while it depends on running trials, or None after the last one."""

GoesOn = Callable[[Trial, Outcome], bool]
"""Returns whether a trial at a rung continues, given its outcome if it were to end there."""


@dataclass(frozen=True)
class Listener:
    """Callbacks in the launching process for events of its trials."""

    on_epochs: Callable[[Trial, int], None]
    """Called with 0 when a trial starts, then with the number of epochs that it has completed."""
    on_lost: Callable[[Trial, str], None]
    """Called when a trial ends without an outcome and is retried, with the reason in words."""
    on_end: Callable[[Trial, Outcome], None]
    """Called when a trial ends, with any status; an InputError raised by it ends the run."""
    say: Callable[[str], None]
    """Called with any other line to show to the user."""


@dataclass(frozen=True)
class Job:
    """Settings and data shared by all trials of a run."""

    datasets: dict[DatasetSpec, Dataset]
    """Loaded data sets by spec."""
    store_folder: Path
    """Folder of the stage store, on the launching node."""
    data_dir: Path
    """Folder of the data sets, also used on other nodes that do not set $LIGHTSWEEP_DATA."""
    resources: Resources
    """Resources of one trial."""
    fresh: bool
    """Whether to train everything again and ignore stored results."""
    attempt: Attempt
    """Runs one trial in a worker."""
    own: tuple[Sources, ...] = ()
    """Code of the user's own, which workers get by value."""


class Cluster(Protocol):
    """A cluster that trains trials."""

    name: str
    """Name of the cluster, shown to the user."""

    def attached(self, resources: Resources, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """Start the cluster or attach to it, and wait until it has room for a trial.

        Args:
            resources: Resources of one trial.
            say: Called with each line to show to the user.

        Raises:
            InputError: The cluster cannot be used.
            LostError: The cluster was lost before the body ended.

        """

    def rooms(self) -> list[Room]:
        """Return the CPUs and GPUs of each live node."""

    def show(self, run: str, counts: Counts) -> None:
        """Publish a run's progress in the cluster's metrics."""

    def run_trials(
        self,
        job: Job,
        source: TrialSource,
        placement: Placement,
        listener: Listener,
        rungs: Sequence[int] = (),
        goes_on: GoesOn | None = None,
    ) -> None:
        """Run trials in the order in which the source returns them.

        Args:
            job: Settings and data shared by all trials.
            source: Returns the trials to train.
            placement: Assigns each trial a share of a GPU, or a processor.
            listener: Callbacks for the trials' events.
            rungs: Numbers of epochs after which `goes_on` is called.
            goes_on: Decides at a rung whether a trial continues.

        Raises:
            InputError: The store cannot be written, the listener cannot record an outcome, or the source
                fails; running trials are stopped.
            KeyboardInterrupt: Ctrl-C; running trials are stopped.

        """
