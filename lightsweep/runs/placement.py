"""On what the next trial is placed: a share of a GPU, or the processor of a node without one.

Shares are measured: the first trial on a data set takes a quarter of a GPU, and what it needed of its memory
says how many later ones fit. Knows nothing of Ray, which does the placing.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.sweep import Resources
from lightsweep.trials.trial import Trial

FIRST_SHARE = 0.25  # until one is measured
CUDA_BYTES = 768 * 2**20  # at most what CUDA takes for each process beside what torch counts, rounded up
MARGIN = 1.1
MOST_ON_A_GPU = 32
LOOK_SECONDS = 2.0  # between looks at the nodes


def first_share(resources: Resources) -> float:
    """Return the share of a GPU that a trial takes as long as none is measured; 0 for none."""
    return FIRST_SHARE if resources.gpus == "measured" else resources.gpus


@dataclass(frozen=True)
class Room:
    """What one node has."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Slots:
    """How many trials a cluster trains at a time."""

    on_gpus: int
    on_processors: int

    @property
    def total(self) -> int:
        """On either."""
        return self.on_gpus + self.on_processors

    def __str__(self) -> str:
        """In words."""
        if not self.on_gpus or not self.on_processors:
            return f"{self.total} trials at a time on the {'GPU' if self.on_gpus else 'processor'}"
        return f"{self.on_gpus} trials at a time on GPUs and {self.on_processors} on nodes without one"


def uses_gpus(resources: Resources, rooms: Sequence[Room]) -> bool:
    """Whether trials go on GPUs: they may, and there are some."""
    return bool(resources.gpus) and any(room.gpus for room in rooms)


def slots(resources: Resources, rooms: Sequence[Room], share: float | None = None) -> Slots:
    """Return how many trials a cluster of these nodes trains at a time.

    Args:
        resources: What one trial takes.
        rooms: The nodes.
        share: Of a GPU that a trial takes, where it is known better than at the start.

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
    """Decides for one trial after the other, while nodes come and go."""

    def __init__(
        self,
        resources: Resources,
        look: Callable[[], Sequence[Room]],
        size: Callable[[Trial], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing under way.

        Args:
            resources: What the sweep says of a trial's share.
            look: Returns what the living nodes have.
            size: Says how large a trial is beside others on the same data set: what its memory grows with
                at most.
            clock: Tells seconds, from any moment on.

        """
        self.resources, self.look, self.size, self._clock = resources, look, size, clock
        self._slots, self._looked = Slots(0, 0), -math.inf
        self._needs: dict[DatasetSpec, _Need] = {}
        self._least: dict[DatasetSpec, float] = {}
        """Shares that were not too little for trials that ran out of memory, as far as is known."""
        self._gpu_bytes = 0
        self._under_way: dict[str, float] = {}
        """The share of a GPU that a trial is on, 0 for none, by its id."""
        self._uses_gpus = uses_gpus(resources, look())

    def is_full(self) -> bool:
        """Whether a trial that is placed later is placed better: no slot is free, and one trial waits.

        An autoscaler sees what waits.
        """
        if not self._uses_gpus or (self.resources.device != "any" and not self._measures):
            return False
        on = Counter(map(bool, self._under_way.values()))
        now = self.slots()
        return on[True] > now.on_gpus and on[False] >= now.on_processors

    def take(self, trial: Trial) -> float:
        """Place a trial: return its share of a GPU, 0 for a processor."""
        on = Counter(map(bool, self._under_way.values()))
        on_gpu = self._uses_gpus
        if on_gpu and self.resources.device == "any":
            now = self.slots()
            on_gpu = on[True] < now.on_gpus or on[False] >= now.on_processors
        self._under_way[trial.trial_id] = self._share(trial) if on_gpu else 0.0
        return self._under_way[trial.trial_id]

    def end(self, trial: Trial) -> None:
        """Note that a trial has ended."""
        self._under_way.pop(trial.trial_id, None)

    def may_come_back(self) -> bool:
        """Whether a trial under way may have to be placed once more: one on a share that can grow."""
        return self.resources.gpus == "measured" and any(self._under_way.values())

    def grow(self, trial: Trial) -> float | None:
        """Have trials like one that ran out of a GPU's memory take twice its share; None if it cannot grow.

        The trial is under way. Others of its share that run out of memory, too, ask for no more than it.
        """
        share = self._under_way[trial.trial_id]
        if self.resources.gpus != "measured" or share >= 1:
            return None
        self._least[trial.dataset] = max(2 * share, self._least.get(trial.dataset, 0.0))
        return self._share(trial)

    def measure(self, trial: Trial, used_bytes: int, gpu_bytes: int) -> str | None:
        """Note how much of a GPU's memory a trial used; return what that changes, in words.

        Args:
            trial: Has ended.
            used_bytes: At most at a time, as torch counts.
            gpu_bytes: What the GPU has.

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
            f"{round(1 / self._share(trial))} such share one from now on"
        )

    @property
    def _measures(self) -> bool:
        return self.resources.gpus == "measured" and not self._needs

    def _share(self, trial: Trial) -> float:
        """Return a power of a half: where trials' shares differ, their workers cannot be used again."""
        need, least = self._needs.get(trial.dataset), self._least.get(trial.dataset, 0.0)
        if need is None:
            return max(first_share(self.resources), least)
        return max(self._share_of(need, max(1.0, self.size(trial) / need.size)), least)

    def _share_of(self, need: _Need, growth: float = 1.0) -> float:
        fit = self._gpu_bytes / (MARGIN * (need.used_bytes * growth + CUDA_BYTES))
        return 0.5 ** math.floor(math.log2(min(max(fit, 1.0), MOST_ON_A_GPU)))

    def slots(self) -> Slots:
        """Return how many trials the nodes of this moment train at a time, by shares as known now."""
        if self._clock() - self._looked > LOOK_SECONDS:
            known = [*self._least.values(), *(self._share_of(need) for need in self._needs.values())]
            share = max(known, default=None)
            self._slots, self._looked = slots(self.resources, self.look(), share), self._clock()
        return self._slots
