"""Training of a run's trials on Ray, which takes a second to import and is imported only when needed."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lightsweep.distributed.internals import apply_settings
from lightsweep.runs.cluster import GoesOn, Job, Listener, TrialSource
from lightsweep.runs.counts import Counts
from lightsweep.runs.placement import Placement, Room
from lightsweep.sweepfile.sweep import Resources

if TYPE_CHECKING:
    from lightsweep.distributed.metrics import SweepMetrics
    from lightsweep.distributed.watch import Watch


class OnRay:
    """A Ray cluster, started on this machine or already running; implements `runs.cluster.Cluster`."""

    name = "Ray"

    def __init__(self, address: str | None = None, insecure: bool = False) -> None:
        """Describe a cluster without attaching to it.

        Args:
            address: Address of a Ray cluster, or auto; None starts one on this machine.
            insecure: Connect even if the cluster requires no authentication token.

        """
        self.address, self.insecure = address, insecure
        self._scratch: Path | None = None
        self._watch: Watch | None = None
        self._metrics: SweepMetrics | None = None

    @contextmanager
    def attached(self, resources: Resources, say: Callable[[str], None]) -> Iterator[None]:
        """Start the cluster or attach to it; see `runs.cluster.Cluster.attached`."""
        apply_settings()
        from lightsweep.distributed import access, attach
        from lightsweep.distributed.session import temporary_folder

        with (
            temporary_folder() as self._scratch,
            attach.cluster(self.address, self._scratch, self.insecure) as self._watch,
        ):
            if self.address is not None:  # only such a cluster may grow
                if warning := access.warn_of_readable_token(os.environ):
                    say(f"warning: {warning}")
                attach.wait_for_room(resources, say)
            yield

    def rooms(self) -> list[Room]:
        """Return the CPUs and GPUs of each live node of the attached cluster."""
        from lightsweep.distributed import attach

        return attach.rooms()

    def show(self, run: str, counts: Counts) -> None:
        """Publish a run's progress in Ray's metrics."""
        from lightsweep.distributed.metrics import SweepMetrics

        if self._metrics is None:
            self._metrics = SweepMetrics(run)
        self._metrics.show(counts)

    def run_trials(
        self,
        job: Job,
        source: TrialSource,
        placement: Placement,
        listener: Listener,
        rungs: Sequence[int] = (),
        goes_on: GoesOn | None = None,
    ) -> None:
        """Run trials in parallel with Ray Tune; see `runs.cluster.Cluster.run_trials`."""
        from lightsweep.distributed.launch import run_trials

        assert self._scratch is not None  # the cluster is attached
        assert self._watch is not None
        run_trials(job, self._scratch, self._watch, source, placement, listener, rungs, goes_on)
