"""Run trials in parallel with Ray Tune.

Stage results travel by value through the broker, an actor on the launching node, so workers need neither a
shared nor a local file system.
"""

import json
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune import Callback, TuneError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lightsweep.data.imagedata import Task
from lightsweep.distributed.data import NodesData, send
from lightsweep.distributed.watch import Watch
from lightsweep.distributed.worker import Worker, refuse_other_code
from lightsweep.errors import InputError, LostError, WriteError
from lightsweep.runs.cluster import GoesOn, Job, Listener, TrialSource
from lightsweep.runs.placement import Placement
from lightsweep.store.broker import Broker
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.training.outcome import Outcome, failed
from lightsweep.trials.sources import worker_code
from lightsweep.trials.trial import Trial

MOST_WAITING = 1_000_000  # concurrent calls to the broker


def run_trials(
    job: Job,
    scratch: Path,
    watch: Watch,
    source: TrialSource,
    placement: Placement,
    listener: Listener,
    rungs: Sequence[int] = (),
    goes_on: GoesOn | None = None,
) -> None:
    """Run trials in parallel on the attached cluster; see `runs.cluster.Cluster.run_trials`.

    Args:
        job: Settings and data shared by all trials.
        scratch: Folder on this machine for temporary files.
        watch: Watch of the cluster.
        source: Returns the trials to train.
        placement: Assigns each trial a share of a GPU, or a processor.
        listener: Callbacks for the trials' events.
        rungs: Numbers of epochs after which `goes_on` is called.
        goes_on: Decides at a rung whether a trial continues.

    """
    refuse_other_code()
    broker = start_broker(job.store_folder, job.fresh, job.data_dir, scratch)
    trainable = tune.with_parameters(
        Worker, sent=send(job.datasets), broker=broker,
        checkpoint_seconds=job.resources.checkpoint_seconds, attempt=job.attempt,
        rungs=frozenset(rungs), code=worker_code(), own=job.own,
    )  # fmt: skip
    reporter = _Reporter(broker, listener, placement, watch)

    def takes(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": job.resources.cpus, "GPU": config["gpus"]}])

    with warnings.catch_warnings(action="ignore"):
        tuner = tune.Tuner(
            tune.with_resources(trainable, takes),
            tune_config=tune.TuneConfig(
                search_alg=_Searcher(source, placement, reporter),
                scheduler=_Scheduler(goes_on),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(scratch / "tune"),
                verbose=0,
                callbacks=[reporter],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                # for lost workers only: a trial's own failure is an outcome
                failure_config=tune.FailureConfig(max_failures=job.resources.retries),
            ),
        )
        try:
            tuner.fit()
        except (TuneError, RayError):
            if reporter.fault is None:
                watch.check()
                raise
        if reporter.fault:  # even if Tune treated it as a lost worker of the last trial
            raise reporter.fault from None


class _Searcher(Searcher):
    """Hands out trials when there is room for one more.

    Tune's own grid search copies the whole list for every trial, and its OptunaSearch reports a stopped
    trial's accuracy as final.
    """

    def __init__(self, source: TrialSource, placement: Placement, reporter: "_Reporter") -> None:
        super().__init__()
        self.source, self.placement, self.reporter = source, placement, reporter

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves it for a restore that we do not use

    def suggest(self, trial_id: str) -> Any:
        if self.reporter.fault:  # Tune may have treated it as a lost worker
            raise self.reporter.fault
        if self.placement.is_full():
            return None
        if self.reporter.again:
            return self._hand(self.reporter.again.popleft())
        try:
            given = self.source()
        except InputError as error:
            self.reporter.fault = error
            raise
        if given is None:
            return None if self.placement.may_come_back() else Searcher.FINISHED
        return None if given == "wait" else self._hand(given)

    def _hand(self, trial: Trial) -> dict[str, Any]:
        return {"trial": _Handed(trial), "gpus": self.placement.take(trial)}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


@dataclass(frozen=True)
class _Handed:
    """A trial as a value of Tune's configuration, which Tune prints, copies and pickles."""

    trial: Trial

    def __repr__(self) -> str:
        return self.trial.trial_id

    def __deepcopy__(self, memo: Any) -> "_Handed":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        trial = self.trial
        plain = trial.dataset.model_dump(mode="json"), trial.spec.model_dump(mode="json")
        rest = [trial.task.shape, trial.task.classes], trial.seed, trial.fold, trial.folds, trial.changes
        return _hand, (json.dumps([trial.arm, *plain, *rest]),)  # a tenth of the size of pickled specs


def _hand(text: str) -> _Handed:
    arm, dataset, spec, (shape, classes), *rest = json.loads(text)
    task = Task(tuple(shape), classes)
    return _Handed(Trial(arm, DatasetSpec.model_validate(dataset), ArmSpec.model_validate(spec), task, *rest))


class _Scheduler(FIFOScheduler):
    """Stops trials that do not continue after a rung."""

    def __init__(self, goes_on: GoesOn | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.goes_on = goes_on

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self.goes_on is None or "at_rung" not in result:
            return TrialScheduler.CONTINUE
        ours: Trial = trial.config["trial"].trial
        stays = self.goes_on(ours, Outcome(**json.loads(result["at_rung"])))
        return TrialScheduler.CONTINUE if stays else TrialScheduler.STOP


class _Home(Broker, NodesData):
    """Actor on the launching node that serves stage results and lets nodes read data sets."""

    def __init__(self, folder: str, fresh: bool, memory: Path, data_dir: str) -> None:
        Broker.__init__(self, folder, fresh, memory)
        NodesData.__init__(self, data_dir)


def start_broker(store_folder: Path, fresh: bool, data_dir: Path, scratch: Path) -> Any:
    """Start the stage store's actor on this node; a cluster must be attached.

    Every trial that waits for another's stage holds a call open. Beyond Ray's default limit of 1,000 calls,
    the awaited result would be queued behind them.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = ray.remote(num_cpus=0)(_Home).options(
        scheduling_strategy=here, max_restarts=-1, max_task_retries=-1, max_concurrency=MOST_WAITING
    )
    memory = scratch.absolute() / "broker"
    return options.remote(str(store_folder.absolute()), fresh, memory, str(data_dir.absolute()))


class _Reporter(Callback):
    """Passes Tune's events of trials to the listener in the launching process."""

    def __init__(self, broker: Any, listener: Listener, placement: Placement, watch: Watch) -> None:
        self.broker, self.listener, self.placement, self.watch = broker, listener, placement, watch
        self.again: deque[Trial] = deque()
        """Trials that ran out of GPU memory and are retried with a larger share."""
        self.fault: Exception | None = None
        """Error that ends the run; raising it ends Tune's loop, which wraps it in its own error."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.listener.on_epochs(self._of(trial), 0)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "fault" in result:
            self.fault = (WriteError if result["is_write"] else InputError)(result["fault"])
            raise self.fault
        if "epochs" in result:
            self.listener.on_epochs(self._of(trial), result["epochs"])

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._drop_claims(trial)
        host = self._host(trial)
        self.listener.on_lost(self._of(trial), f"its worker{f' on {host}' if host else ''} was lost")

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        last = trial.last_result
        if "outcome" not in last:  # stopped by the scheduler, or out of memory
            self._drop_claims(trial)
        if "out_of_memory" in last:
            self._try_on_more(trial, last["out_of_memory"])
            return
        if "gpu_bytes" in last:
            measured = self.placement.measure(self._of(trial), last["gpu_used_bytes"], last["gpu_bytes"])
            if measured:
                self.listener.say(measured)
        self._end(trial, Outcome(**json.loads(last.get("outcome") or last["at_rung"])))

    def _try_on_more(self, trial: Any, error: str) -> None:
        """Retry a trial that ran out of GPU memory with a larger share, or fail it if there is none."""
        ours = self._of(trial)
        share = self.placement.grow(ours)
        if share is None:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            gpus = trial.config["gpus"]
            reason = f"it needs more than {gpus:g} of a GPU's memory ({error.splitlines()[0]})"
            self._end(trial, failed(reason, "error", now, 0.0, self._host(trial), "cuda"))
            return
        self.placement.end(ours)
        self.again.append(ours)
        self.listener.on_lost(ours, f"out of memory; it takes {share:g} of a GPU from now on")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        try:
            self.watch.check()  # otherwise every trial would fail because Ray is gone
        except LostError as error:
            self.fault = error
            raise
        self._drop_claims(trial)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lines = Path(trial.error_file).read_text().split("\n") if trial.error_file else []
        host = self._host(trial)
        place = f" on {host}" if host else ""
        times = f" {trial.num_failures} times" if trial.num_failures > 1 else ""
        reason = f"its worker{place} was lost{times}: "
        reason += next((line for line in reversed(lines) if line.strip()), "reason unknown")
        self._end(trial, failed(reason, "lost", now, 0.0, host, ""))

    def _host(self, trial: Any) -> str:
        """Return the host of the trial's last report, or "" before the first one."""
        return str((trial.last_result or {}).get("hostname") or "")

    def _end(self, trial: Any, outcome: Outcome) -> None:
        self.placement.end(self._of(trial))
        try:
            self.listener.on_end(self._of(trial), outcome)
        except Exception as error:  # Tune would treat it as a failed trial
            self.fault = error
            raise

    def _of(self, trial: Any) -> Trial:
        ours: Trial = trial.config["trial"].trial
        return ours

    def _drop_claims(self, trial: Any) -> None:
        ray.get(self.broker.drop.remote(self._of(trial).trial_id))
