"""Training a run's trials: looked up if all stages are stored, otherwise trained on a cluster."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType

import torch

from lightsweep.errors import InputError
from lightsweep.runs.cluster import Cluster, GoesOn, Job, Listener, TrialSource
from lightsweep.runs.placement import Placement, Slots, slots
from lightsweep.runs.planned import PlannedTrials
from lightsweep.runs.recorder import Recorder
from lightsweep.store.claims import LookUps, NotStoredError
from lightsweep.store.folder import FolderStore
from lightsweep.store.stagefile import StageResult
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial

OnEnd = Callable[[Trial, Outcome], None]
"""Called with a trial and its outcome when it ends."""


class StoredTrials:
    """Looks up, in this process, the outcomes of trials whose stages are all stored."""

    def __init__(self, trials: PlannedTrials, job: Job, store: FolderStore) -> None:
        self.trials, self.job, self.store = trials, job, store

    def look_up(
        self, trial: Trial, on_end: OnEnd, rungs: Sequence[int] = (), goes_on: GoesOn | None = None
    ) -> bool:
        """Report a trial's outcome if all its stages are stored; return whether they were.

        Args:
            trial: The trial.
            on_end: Called with the outcome.
            rungs: Numbers of epochs after which `goes_on` is called, as in training.
            goes_on: Decides at a rung whether the trial continues.

        """
        if self.job.fresh:
            return False
        likely = self.trials.device_type
        types = ("cuda", "cpu") if self.job.resources.device == "any" else (likely,)
        return any(self._look_up_on(device_type, trial, on_end, rungs, goes_on) for device_type in types)

    def _look_up_on(
        self, device_type: str, trial: Trial, on_end: OnEnd, rungs: Sequence[int], goes_on: GoesOn | None
    ) -> bool:
        chain = self.trials.keys_on(trial, device_type)
        there = list(itertools.takewhile(self.store.has, chain))
        if len(there) < len(chain) and not (there and self._ends_chain(there[-1])):
            return False
        dataset, device = self.job.datasets[trial.dataset], torch.device(device_type)
        steps = self.job.attempt(trial, dataset, LookUps(self.store), device)
        try:
            while True:
                so_far = next(steps)
                if len(so_far.epochs) in rungs and goes_on is not None and not goes_on(trial, so_far):
                    on_end(trial, so_far)
                    return True
        except StopIteration as end:
            on_end(trial, end.value)
            return True
        except NotStoredError:
            return False

    def _ends_chain(self, key: str) -> bool:
        """Return whether a stored stage diverged, so that no stage follows it."""
        data = self.store.read(key)
        if data is None:
            return False
        return "diverged" in StageResult.from_bytes(data, key, with_weights=False).metrics


class Launcher:
    """Trains trials on a cluster, which is started or attached to when first needed."""

    def __init__(self, trials: PlannedTrials, job: Job, cluster: Cluster, recorder: Recorder) -> None:
        self.trials, self.job, self.cluster, self.recorder = trials, job, cluster, recorder
        self._stack = ExitStack()
        self._slots: Slots | None = None
        self._placement: Placement | None = None

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def slots_now(self) -> int | None:
        """Return the cluster's current capacity in parallel trials; None before the first launch."""
        return None if self._placement is None else max(self._placement.slots().total, 1)

    def start(self) -> Slots:
        """Start or attach to the cluster, once, and return its capacity in parallel trials.

        Raises:
            InputError: The cluster cannot be used, or has no room for a trial.

        """
        if self._slots is not None:
            return self._slots
        resources, say = self.job.resources, self.recorder.progress.say
        self._stack.enter_context(self.cluster.attached(resources, say))
        rooms = self.cluster.rooms()
        found = slots(resources, rooms)
        self.trials.move_to("cuda" if found.on_gpus else "cpu")
        if not found.total:
            cores = max(int(room.cpus) for room in rooms)
            raise InputError(f"resources.cpus = {resources.cpus}: this machine has {cores} cores")
        if resources.device == "gpu" and not found.on_gpus:
            raise InputError(
                "resources.device = gpu: there is no GPU here; auto also trains on the processor"
            )
        say(f"{self.cluster.name} is up: {found}")
        self._slots, self.recorder.is_attached = found, True
        return found

    def run(
        self, source: TrialSource, on_end: OnEnd, rungs: Sequence[int] = (), goes_on: GoesOn | None = None
    ) -> None:
        """Train a source's trials on the started cluster; see `runs.cluster.Cluster.run_trials`."""
        costs = self.trials.costs

        def size(trial: Trial) -> float:
            return costs[trial.trial_id].macs * trial.spec.batch_size

        self._placement = Placement(self.job.resources, self.cluster.rooms, size)
        recorder = self.recorder
        listener = Listener(recorder.advance, recorder.lose, on_end, recorder.progress.say)
        self.cluster.run_trials(self.job, source, self._placement, listener, rungs, goes_on)


def train_all(trials: Iterable[Trial], stored: StoredTrials, launcher: Launcher) -> None:
    """Record fully stored trials without the cluster, then train the others on it."""
    end = launcher.recorder.end
    left = [trial for trial in trials if not stored.look_up(trial, end)]
    if left:
        launcher.start()
        trials_left = iter(left)
        launcher.run(lambda: next(trials_left, None), end)
