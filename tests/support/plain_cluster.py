"""A cluster of one process: trials one after the other, through a real broker, without Ray.

For what does not depend on Ray: that a run, its store, its study and its records agree, whatever happens.
What is Ray's is tested in `tests/distributed`.
"""

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from lightsweep.runs.cluster import GoesOn, Job, Listener, TrialSource
from lightsweep.runs.counts import Counts
from lightsweep.runs.placement import Placement, Room
from lightsweep.store.broker import Broker, BrokerStore
from lightsweep.sweepfile.sweep import Resources
from lightsweep.system.machine import make_repeatable
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial


class ThisProcess:
    """Keeps the contract of `runs.cluster.Cluster`; two trials are under way, one of them waits."""

    name = "this process"

    @contextmanager
    def attached(self, resources: Resources, say: Callable[[str], None]) -> Iterator[None]:
        make_repeatable()
        with TemporaryDirectory() as self.scratch:
            yield

    def rooms(self) -> list[Room]:
        return [Room(cpus=2, gpus=0)]

    def show(self, run: str, counts: Counts) -> None:
        pass

    def run_trials(
        self,
        job: Job,
        source: TrialSource,
        placement: Placement,
        listener: Listener,
        rungs: Sequence[int] = (),
        goes_on: GoesOn | None = None,
    ) -> None:
        broker = Broker(str(job.store_folder), job.fresh, Path(self.scratch) / "broker")
        under_way: list[Trial] = []
        while True:
            while len(under_way) < 2 and isinstance(given := source(), Trial):
                placement.take(given)
                under_way.append(given)
            if not under_way:
                return
            trial = under_way.pop(0)
            listener.on_epochs(trial, 0)
            outcome = _run(job, broker, trial, listener, rungs, goes_on)
            broker.drop(trial.trial_id)
            placement.end(trial)
            listener.on_end(trial, Outcome(**json.loads(json.dumps(asdict(outcome)))))  # it travels by value


def _run(
    job: Job,
    broker: Broker,
    trial: Trial,
    listener: Listener,
    rungs: Sequence[int],
    goes_on: GoesOn | None,
) -> Outcome:
    def ask(call: str, *arguments: Any) -> Any:
        answer = getattr(broker, call)(*arguments)
        return asyncio.run(answer) if inspect.iscoroutine(answer) else answer

    store = BrokerStore(ask, trial.trial_id, job.resources.checkpoint_seconds)
    steps = job.attempt(trial, job.datasets[trial.dataset], store, torch.device("cpu"))
    try:
        while True:
            try:
                so_far = next(steps)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            listener.on_epochs(trial, len(so_far.epochs))
            if len(so_far.epochs) in rungs and goes_on is not None and not goes_on(trial, so_far):
                return so_far
    finally:
        steps.close()  # it gives its claims back
