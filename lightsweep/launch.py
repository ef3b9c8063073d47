"""Running trials in parallel on Ray Tune; the only module that knows Ray.

Trials' data goes into Ray's object store once per machine and is read there without a copy. Stage
results travel by value, through an actor beside the launching process, so that workers need no shared
file system.
"""

import json
import logging
import os
import platform
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Read by Ray when it is imported: no phoning home, no result files, no snapshots, no handler of its own.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}

import ray
import torch
from ray import tune
from ray.tune import Callback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lightsweep.datasets import Dataset
from lightsweep.pipeline import trial_steps
from lightsweep.records import Outcome, completed, failed
from lightsweep.spec import DatasetSpec, InputError, Resources
from lightsweep.store import FolderStore, StageResult, StageStore
from lightsweep.train import DivergedError, EpochRecord
from lightsweep.trial import Trial

REPORT_SECONDS = 2.0  # between a worker's words on a trial under way


@contextmanager
def cluster(address: str | None) -> Iterator[dict[str, float]]:
    """Attach to a Ray cluster, or start one on this machine; yields its resources (CPU, GPU, …).

    Raises:
        InputError: There is no cluster at the address.

    """
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what goes wrong reaches the user as records
    try:
        with warnings.catch_warnings(action="ignore"):
            if address is None:
                ray.init(
                    address="local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
            else:
                _knock(address)
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, ValueError, RuntimeError) as error:
        place = f"--address {address}: no Ray cluster answers there" if address else "Ray does not start here"
        raise InputError(f"{place} ({_one_line(error)})") from None
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Try whether anybody answers at host:port, which Ray itself tries for minutes.

    Raises:
        OSError: Nobody does.

    """
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=10).close()


def run_trials(
    trials: Sequence[Trial],
    datasets: dict[DatasetSpec, Dataset],
    store_folder: Path,
    resources: Resources,
    gpus: float,
    fresh: bool,
    on_epochs: Callable[[Trial, int], None],
    on_lost: Callable[[Trial], None],
    on_end: Callable[[Trial, Outcome], None],
) -> None:
    """Run trials in parallel on the attached cluster, in their order.

    Args:
        trials: What to train.
        datasets: Loaded data sets by their spec.
        store_folder: The stage store of this process.
        resources: What one trial takes.
        gpus: GPUs of the cluster; with none, trials train on processors.
        fresh: Train everything anew, whatever is stored.
        on_epochs: Called in this process when a trial starts, and now and then with its epochs so far.
        on_lost: Called in this process when a trial lost its worker and will be tried once more.
        on_end: Called in this process when a trial has ended, whatever became of it.

    Raises:
        KeyboardInterrupt: Ctrl-C; trials under way are stopped.

    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    broker = _Broker.options(scheduling_strategy=here).remote(str(store_folder.absolute()))  # type: ignore[attr-defined]
    store = _RemoteStore(broker, reads=not fresh)
    share = resources.gpus if gpus else 0
    trainable = tune.with_parameters(_Worker, trials=list(trials), datasets=datasets, store=store)
    with (
        tempfile.TemporaryDirectory(prefix="lightsweep-") as scratch,
        warnings.catch_warnings(action="ignore"),
    ):
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": share}),
            param_space={"trial": tune.grid_search(list(range(len(trials))))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                verbose=0,
                callbacks=[_Reporter(trials, on_epochs, on_lost, on_end)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=1),  # of a worker: trials' own are outcomes
            ),
        )
        tuner.fit()


@ray.remote(num_cpus=0)
class _Broker:
    """The stage store, beside the launching process."""

    def __init__(self, folder: str) -> None:
        self.store = FolderStore(Path(folder))

    def get(self, key: str) -> bytes | None:
        return self.store.get_bytes(key)

    def put(self, key: str, data: bytes) -> None:
        self.store.put_bytes(key, data)


class _RemoteStore:
    """The launching process's stage store, seen from a worker."""

    def __init__(self, broker: Any, reads: bool) -> None:
        self.broker, self.reads = broker, reads

    def get(self, key: str) -> StageResult | None:
        data = ray.get(self.broker.get.remote(key)) if self.reads else None
        return None if data is None else StageResult.from_bytes(data)

    def put(self, key: str, result: StageResult) -> None:
        ray.get(self.broker.put.remote(key, result.to_bytes()))


class _Worker(tune.Trainable):
    """A reused actor that runs one trial after the other, some epochs per step."""

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        trials: list[Trial],
        datasets: dict[DatasetSpec, Dataset],
        store: StageStore,
    ) -> None:
        self.trials, self.datasets, self.store = trials, datasets, store
        torch.set_num_threads(1)  # the sums' order, and so the result, depends on it
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        trial = self.trials[new_config["trial"]]
        self.epochs = 0
        self.steps = attempt(trial, self.datasets[trial.dataset], self.store, pick_device())
        return True

    def step(self) -> dict[str, Any]:
        until = time.monotonic() + REPORT_SECONDS
        while time.monotonic() < until:
            try:
                next(self.steps)
            except StopIteration as end:
                return {"outcome": json.dumps(asdict(end.value)), "done": True}
            self.epochs += 1
        return {"epochs": self.epochs}


def pick_device() -> torch.device:
    """Return the GPU that Ray gave this worker, else the processor."""
    if ray.get_gpu_ids() and torch.cuda.is_available():
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        return torch.device("cuda")
    return torch.device("cpu")


def attempt(
    trial: Trial, dataset: Dataset, store: StageStore, device: torch.device
) -> Generator[EpochRecord, None, Outcome]:
    """Run a trial epoch by epoch and return what became of it; its failure is an outcome, with the reason."""
    started_at, started = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()

    def where() -> tuple[str, float, str, str]:
        return started_at, time.perf_counter() - started, platform.node(), device.type

    try:
        return completed((yield from trial_steps(trial, dataset, store, device)), *where())
    except (DivergedError, InputError) as error:
        return failed(str(error), *where())
    except Exception as error:
        return failed(f"{type(error).__name__}: {error}", *where())


class _Reporter(Callback):
    """Hands what Tune learns of trials to the launching process's own functions."""

    def __init__(
        self,
        trials: Sequence[Trial],
        on_epochs: Callable[[Trial, int], None],
        on_lost: Callable[[Trial], None],
        on_end: Callable[[Trial, Outcome], None],
    ) -> None:
        self.trials, self.on_epochs, self.on_lost, self.on_end = trials, on_epochs, on_lost, on_end

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes its callbacks down, for a restore that we do not use

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.on_epochs(self.trials[trial.config["trial"]], 0)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "epochs" in result:
            self.on_epochs(self.trials[trial.config["trial"]], result["epochs"])

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.on_lost(self.trials[trial.config["trial"]])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.on_end(self.trials[trial.config["trial"]], Outcome(**json.loads(trial.last_result["outcome"])))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lines = Path(trial.error_file).read_text().split("\n") if trial.error_file else []
        reason = "its worker was lost: " + next(
            (line for line in reversed(lines) if line.strip()), "no reason is known"
        )
        self.on_end(self.trials[trial.config["trial"]], failed(reason, now, 0.0, "", ""))


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200]
