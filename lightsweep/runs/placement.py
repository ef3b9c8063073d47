"""Placement of trials: on a share of a GPU, or on the processor of a node without one.

Shares are measured: the first trial on a data set takes a quarter of a GPU, and its peak memory decides how
many later trials share one. This module does not depend on Ray, which schedules the trials.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.sweep import Resources
from lightsweep.trials.trial import Trial

FIRST_SHARE = 0.25  # of a GPU, until a share is measured
CUDA_BYTES = 768 * 2**20  # upper bound on CUDA's overhead per process, which torch does not count
MARGIN = 1.1
MOST_ON_A_GPU = 32
LOOK_SECONDS = 2.0  # between queries of the nodes


def first_share(resources: Resources) -> float:
    """Return the share of a GPU that a trial takes until one is measured; 0 if it uses no GPU."""
    return FIRST_SHARE if resources.gpus == "measured" else resources.gpus


@dataclass(frozen=True)
class Room:
    """CPUs and GPUs of one node."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Slots:
    """Number of trials that a cluster trains in parallel."""

    on_gpus: int
    on_processors: int

    @property
    def total(self) -> int:
        """Number of trials on GPUs and processors together."""
        return self.on_gpus + self.on_processors

    def __str__(self) -> str:
        """Return the slots in words."""
        if not self.on_gpus or not self.on_processors:
            return f"{self.total} trials at a time on the {'GPU' if self.on_gpus else 'processor'}"
        return f"{self.on_gpus} trials at a time on GPUs and {self.on_processors} on nodes without one"


def uses_gpus(resources: Resources, rooms: Sequence[Room]) -> bool:
    """Return whether trials run on GPUs: they are allowed to, and a node has one."""
    return bool(resources.gpus) and any(room.gpus for room in rooms)


def slots(resources: Resources, rooms: Sequence[Room], share: float | None = None) -> Slots:
    """Return how many trials a cluster of these nodes trains in parallel.

    Args:
        resources: Resources of one trial.
        rooms: CPUs and GPUs of each node.
        share: Measured share of a GPU that one trial takes; None before a measurement.

    """
    share = share or first_share(resources)
    on_gpu = uses_gpus(resources, rooms)
    on_gpus = on_processors = 0
    for room in rooms:
        fit = int(room.cpus // resources.cpus)
        if on_gpu and room.gpus:
            on_gpus += min(fit, int(room.gpus / share + 1e-9))
        elif not on_gpu or resources.device == "any":
            on_processors += fit
    return Slots(on_gpus, on_processors)


@dataclass(frozen=True)
class _Need:
    used_bytes: int
    size: float


class Placement:
    """Places trials one by one, while nodes join and leave."""

    def __init__(
        self,
        resources: Resources,
        look: Callable[[], Sequence[Room]],
        size: Callable[[Trial], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with no running trials.

        Args:
            resources: Resources of one trial, as the sweep sets them.
            look: Returns the CPUs and GPUs of each live node.
            size: Returns a trial's size relative to others on the same data set; its memory grows at most
                in proportion.
            clock: Returns seconds since any fixed moment.

        """
        self.resources, self.look, self.size, self._clock = resources, look, size, clock
        self._slots, self._looked = Slots(0, 0), -math.inf
        self._needs: dict[DatasetSpec, _Need] = {}
        self._least: dict[DatasetSpec, float] = {}
        """Minimum share of a GPU by data set, raised after a trial runs out of memory."""
        self._gpu_bytes = 0
        self._under_way: dict[str, float] = {}
        """Share of a GPU of each running trial, 0 on a processor, by trial id."""
        self._uses_gpus = uses_gpus(resources, look())

    def is_full(self) -> bool:
        """Return whether to delay the next trial: no slot is free, and one trial already waits.

        The waiting trial is what an autoscaler reacts to.
        """
        if not self._uses_gpus or (self.resources.device != "any" and not self._measures):
            return False
        on = Counter(map(bool, self._under_way.values()))
        now = self.slots()
        return on[True] > now.on_gpus and on[False] >= now.on_processors

    def take(self, trial: Trial) -> float:
        """Place a trial and return its share of a GPU, or 0 for a processor."""
        on = Counter(map(bool, self._under_way.values()))
        on_gpu = self._uses_gpus
        if on_gpu and self.resources.device == "any":
            now = self.slots()
            on_gpu = on[True] < now.on_gpus or on[False] >= now.on_processors
        self._under_way[trial.trial_id] = self._share(trial) if on_gpu else 0.0
        return self._under_way[trial.trial_id]

    def end(self, trial: Trial) -> None:
        """Record that a trial has ended."""
        self._under_way.pop(trial.trial_id, None)

    def may_come_back(self) -> bool:
        """Return whether a running trial may have to be placed again, on a larger share."""
        return self.resources.gpus == "measured" and any(self._under_way.values())

    def grow(self, trial: Trial) -> float | None:
        """Double the share of trials like this one, which ran out of GPU memory; None if it cannot grow.

        The trial is still running. If others with the same share also run out of memory, the share is
        doubled only once.
        """
        share = self._under_way[trial.trial_id]
        if self.resources.gpus != "measured" or share >= 1:
            return None
        self._least[trial.dataset] = max(2 * share, self._least.get(trial.dataset, 0.0))
        return self._share(trial)

    def measure(self, trial: Trial, used_bytes: int, gpu_bytes: int) -> str | None:
        """Record how much GPU memory a trial used; return in words what that changes, or None.

        Args:
            trial: The trial, which has ended.
            used_bytes: Its peak memory, as torch counts it.
            gpu_bytes: Total memory of the GPU.

        """
        if self.resources.gpus != "measured":
            return None
        self._gpu_bytes = min(self._gpu_bytes or gpu_bytes, gpu_bytes)
        known = self._needs.get(trial.dataset)
        if known is None or used_bytes > known.used_bytes:
            self._needs[trial.dataset] = _Need(used_bytes, self.size(trial))
        if known is not None:
            return None
        return (
            f"a trial takes {(used_bytes + CUDA_BYTES) / 2**30:.1f} of a GPU's {gpu_bytes / 2**30:.1f} GiB: "
            f"{round(1 / self._share(trial))} trials share one from now on"
        )

    @property
    def _measures(self) -> bool:
        return self.resources.gpus == "measured" and not self._needs

    def _share(self, trial: Trial) -> float:
        """Return a trial's share, a power of 1/2: a worker is reused only by trials of the same share."""
        need, least = self._needs.get(trial.dataset), self._least.get(trial.dataset, 0.0)
        if need is None:
            return max(first_share(self.resources), least)
        return max(self._share_of(need, max(1.0, self.size(trial) / need.size)), least)

    def _share_of(self, need: _Need, growth: float = 1.0) -> float:
        fit = self._gpu_bytes / (MARGIN * (need.used_bytes * growth + CUDA_BYTES))
        return 0.5 ** math.floor(math.log2(min(max(fit, 1.0), MOST_ON_A_GPU)))

    def slots(self) -> Slots:
        """Return how many trials the current nodes train in parallel, given the shares known now."""
        if self._clock() - self._looked > LOOK_SECONDS:
            known = [*self._least.values(), *(self._share_of(need) for need in self._needs.values())]
            share = max(known, default=None)
            self._slots, self._looked = slots(self.resources, self.look(), share), self._clock()
        return self._slots
