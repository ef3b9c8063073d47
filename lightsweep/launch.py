"""Running trials in parallel on Ray Tune; the only module that knows Ray.

Trials' data goes into Ray's object store once per machine and is read there without a copy. Stage
results travel by value, through the broker, an actor beside the launching process, so that workers need
no shared file system, nor any of their own.
"""

import json
import logging
import math
import os
import signal
import socket
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

# Read by Ray when it is imported: no phoning home, no result files, no snapshots, no handler of
# its own, and workers started at once, not one after the other.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "100",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}

import ray
import torch
from ray import tune
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import Config  # type: ignore[attr-defined]
from ray.autoscaler.sdk import request_resources
from ray.tune import Callback, TuneError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lightsweep.access import MODE, check_access, use_own_token
from lightsweep.attempt import Attempt, make_repeatable
from lightsweep.broker import Broker, Reply
from lightsweep.datasets import Dataset
from lightsweep.records import Outcome, failed
from lightsweep.runfolder import RAY_SESSION
from lightsweep.spec import ArmSpec, DatasetSpec, InputError, WriteError
from lightsweep.stagefile import Checkpoint, StageResult
from lightsweep.store import Answer, unpack
from lightsweep.sweep import Resources
from lightsweep.trial import Trial

WAITING_SAYS_SECONDS = 30.0
MOST_WAITING = 1_000_000  # calls
REPORT_SECONDS = 2.0  # between a worker's words on a trial under way


@contextmanager
def cluster(address: str | None, scratch: Path, insecure: bool) -> Iterator[dict[str, float]]:
    """Attach to a Ray cluster, or start one on this machine that nobody else can use; yields its resources.

    Args:
        address: Of a cluster; None starts one.
        scratch: Folder that notes where a cluster of our own keeps its temporary files.
        insecure: Attach also to a cluster that lets in everybody who can reach it.

    Raises:
        InputError: There is no cluster at the address, or none that may be used.

    """
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what goes wrong reaches the user as records
    try:
        with warnings.catch_warnings(action="ignore"):
            if address is None:
                use_own_token(os.environ)
                Config.initialize("")  # Ray read its mode when it was imported
                context: Any = ray.init(
                    address="local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
                scratch.mkdir(exist_ok=True)
                (scratch / RAY_SESSION).write_text(context.address_info["session_dir"])
            else:
                place = _find(address)
                os.environ[MODE] = check_access(place, os.environ, insecure)
                Config.initialize("")
                ray.init(address=place, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, ValueError, RuntimeError) as error:
        name = f"--address {address}: no Ray cluster answers there" if address else "Ray does not start here"
        raise InputError(f"{name} ({_one_line(error)})") from None
    try:
        yield ray.cluster_resources()
    finally:
        with _no_ctrl_c():  # half shut down, Ray's own threads would end this process without a word
            ray.shutdown()


def wait_for_room(resources: Resources, say: Callable[[str], None]) -> dict[str, float]:
    """Wait until a node of the attached cluster has what a trial takes; return the cluster's resources.

    An autoscaler is asked for such a node. Ctrl-C ends the waiting.

    Args:
        resources: What one trial takes; of a GPU only where they say that it must be one.
        say: Hears now and then what is waited for.

    """
    takes = {"CPU": float(resources.cpus)} | ({"GPU": resources.gpus} if resources.device == "gpu" else {})
    said = -math.inf
    while not any(_has(node, takes) for node in ray.nodes()):
        if said == -math.inf:
            request_resources(bundles=[{name: math.ceil(amount) for name, amount in takes.items()}])
        if time.monotonic() - said >= WAITING_SAYS_SECONDS:
            said = time.monotonic()
            say(
                f"waiting for a node with {_in_words(takes)}, which one trial takes; the cluster has "
                f"{_in_words(ray.cluster_resources())} (its autoscaler, if any, has been asked)"
            )
        time.sleep(1)
    if said > -math.inf:
        request_resources(bundles=[])  # what is asked for by trials' own demand need not be held
    found: dict[str, float] = ray.cluster_resources()
    return found


def _has(node: dict[str, Any], takes: dict[str, float]) -> bool:
    has = node["Resources"]
    return bool(node["Alive"]) and all(has.get(name, 0) >= amount for name, amount in takes.items())


def _in_words(amounts: dict[str, float]) -> str:
    """Write amounts of processors and GPUs, ``"2 CPU and 0.25 GPU"``, or that there are none."""
    known = [f"{amounts[name]:g} {name}" for name in ("CPU", "GPU") if amounts.get(name)]
    return " and ".join(known) or "no CPU and no GPU"


def _find(address: str) -> str:
    """Return where the head of a cluster listens, host:port.

    Raises:
        InputError: It is the address of a Ray client server.
        OSError: Nobody answers there, which Ray itself would try for minutes; or none is running here.

    """
    if address.startswith("ray://"):
        raise InputError(
            f"--address {address}: over Ray's client protocol the stage store would not be beside this "
            "command; run it on the head: ray exec cluster.yaml 'lightsweep run SWEEP --address auto'"
        )
    place = str(canonicalize_bootstrap_address_or_die(address))
    parts = urlsplit(f"//{place}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=10).close()
    return place


@contextmanager
def _no_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class Listener:
    """Functions of the launching process that hear of its trials."""

    on_epochs: Callable[[Trial, int], None]
    """A trial starts, or has so many epochs behind it."""
    on_lost: Callable[[Trial, str], None]
    """A trial lost its worker, on the host of this name (empty if it is not known), and is tried again."""
    on_end: Callable[[Trial, Outcome], None]
    """A trial has ended, whatever became of it; an InputError ends the run."""


Source = Callable[[], Trial | Literal["wait"] | None]
"""Gives the next trial to train, "wait" while it depends on trials under way, or None after the last one."""

GoesOn = Callable[[Trial, Outcome], bool]
"""Says of a trial at a rung, with its outcome if it ends there, whether it goes on."""


def run_trials(
    source: Source,
    datasets: dict[DatasetSpec, Dataset],
    store_folder: Path,
    scratch: Path,
    resources: Resources,
    gpus: float,
    fresh: bool,
    listener: Listener,
    attempt: Attempt,
    rungs: Sequence[int] = (),
    goes_on: GoesOn | None = None,
) -> None:
    """Run trials in parallel on the attached cluster, in the order in which they are given.

    Args:
        source: What to train.
        datasets: Loaded data sets by their spec.
        store_folder: The stage store of this process.
        scratch: Folder for Tune's own files, of which none is needed afterwards.
        resources: What one trial takes.
        gpus: GPUs of the cluster; with none, trials train on processors.
        fresh: Train everything anew, whatever is stored.
        listener: Hears of the trials.
        attempt: Runs one trial in a worker.
        rungs: Numbers of epochs after which a trial asks whether it goes on.
        goes_on: Answers.

    Raises:
        InputError: The store cannot be written, the listener cannot keep an outcome, or the source has
            nothing to give; trials under way are stopped.
        KeyboardInterrupt: Ctrl-C; trials under way are stopped.

    """
    broker = start_broker(store_folder, fresh)
    share = resources.gpus if gpus else 0
    trainable = tune.with_parameters(
        _Worker, datasets=datasets, broker=broker,
        checkpoint_seconds=resources.checkpoint_seconds, attempt=attempt, rungs=frozenset(rungs),
    )  # fmt: skip
    reporter = _Reporter(broker, listener)
    with warnings.catch_warnings(action="ignore"):
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": share}),
            tune_config=tune.TuneConfig(
                search_alg=_Searcher(source, reporter),
                scheduler=_Scheduler(goes_on),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(scratch.absolute()),
                verbose=0,
                callbacks=[reporter],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                # of workers: trials' own are outcomes
                failure_config=tune.FailureConfig(max_failures=resources.retries),
            ),
        )
        try:
            tuner.fit()
        except TuneError:
            if reporter.fault is None:
                raise
            raise reporter.fault from None


class _Searcher(Searcher):
    """Hands out trials when there is room for one more.

    Tune's own grid search copies the whole list for every trial, and its OptunaSearch tells a stopped trial's
    accuracy as a final one.
    """

    def __init__(self, source: Source, reporter: "_Reporter") -> None:
        super().__init__()
        self.source, self.reporter = source, reporter

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes it down, for a restore that we do not use

    def suggest(self, trial_id: str) -> Any:
        try:
            given = self.source()
        except InputError as error:
            self.reporter.fault = error
            raise
        if given is None:
            return Searcher.FINISHED
        return None if given == "wait" else {"trial": _Handed(given)}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


@dataclass(frozen=True)
class _Handed:
    """A trial as a value of Tune's configuration, of which it makes names, copies and a file of pickles."""

    trial: Trial

    def __repr__(self) -> str:
        return self.trial.trial_id

    def __deepcopy__(self, memo: Any) -> "_Handed":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        trial = self.trial
        plain = trial.dataset.model_dump(mode="json"), trial.spec.model_dump(mode="json")
        rest = trial.seed, trial.fold, trial.folds, trial.changes
        return _hand, (json.dumps([trial.arm, *plain, *rest]),)  # a tenth of what the specs' pickles take


def _hand(text: str) -> _Handed:
    arm, dataset, spec, *rest = json.loads(text)
    return _Handed(Trial(arm, DatasetSpec.model_validate(dataset), ArmSpec.model_validate(spec), *rest))


class _Scheduler(FIFOScheduler):
    """Stops trials that do not go on from a rung."""

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


_Broker = ray.remote(num_cpus=0)(Broker)


def start_broker(store_folder: Path, fresh: bool) -> Any:
    """Start the stage store's actor beside this process, which is attached to a cluster.

    Every trial that waits for another's stage holds a call open; past Ray's own limit of 1,000 the result
    that they wait for would stand in the queue behind them.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = _Broker.options(
        scheduling_strategy=here, max_restarts=-1, max_task_retries=-1, max_concurrency=MOST_WAITING
    )
    return options.remote(str(store_folder.absolute()), fresh)


class _RemoteStore:
    """The launching process's stage store, seen from a worker by one trial."""

    def __init__(self, broker: Any, owner: str, checkpoint_seconds: float) -> None:
        self.broker, self.owner, self.checkpoint_seconds = broker, owner, checkpoint_seconds

    def claim(self, key: str) -> Answer:
        reply: Reply = ray.get(self.broker.claim.remote(key, self.owner))
        answer = unpack(
            reply.result,
            reply.checkpoint,
            lambda kind, reason: ray.get(self.broker.discard.remote(key, kind, reason)),
        )
        if reply.result is not None and answer.result is None:
            return self.claim(key)  # it was no result: now the key is claimed
        return replace(answer, waited_seconds=reply.waited_seconds, warning=reply.warning)

    def put(self, key: str, result: StageResult) -> None:
        _raise_fault(ray.get(self.broker.put.remote(key, self.owner, result.to_bytes())))

    def put_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        _raise_fault(ray.get(self.broker.put_checkpoint.remote(key, self.owner, checkpoint.to_bytes())))

    def release(self, key: str) -> None:
        ray.get(self.broker.release.remote(key, self.owner))


def _raise_fault(fault: str | None) -> None:
    if fault is not None:
        raise WriteError(fault)


class _Worker(tune.Trainable):
    """A reused actor that runs one trial after the other, some epochs per step."""

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        datasets: dict[DatasetSpec, Dataset],
        broker: Any,
        checkpoint_seconds: float,
        attempt: Attempt,
        rungs: frozenset[int],
    ) -> None:
        self.datasets, self.attempt, self.rungs = datasets, attempt, rungs
        self.steps: Generator[Outcome, None, Outcome] | None = None
        self.broker, self.checkpoint_seconds = broker, checkpoint_seconds
        make_repeatable()
        os.chdir("/")  # nothing is read or written where Ray started the worker; that folder may go
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        trial: Trial = new_config["trial"].trial
        if self.steps is not None:
            self.steps.close()  # of a trial that was stopped: it gives its claims back
        self.epochs = 0
        store = _RemoteStore(self.broker, trial.trial_id, self.checkpoint_seconds)
        self.steps = self.attempt(trial, self.datasets[trial.dataset], store, pick_device())
        return True

    def step(self) -> dict[str, Any]:
        assert self.steps is not None  # setup and reset_config make them
        until = time.monotonic() + REPORT_SECONDS
        while time.monotonic() < until:
            try:
                so_far = next(self.steps)
            except StopIteration as end:
                return {"outcome": json.dumps(asdict(end.value)), "done": True}
            except WriteError as error:
                return {"fault": str(error)}
            self.epochs = len(so_far.epochs)
            if self.epochs in self.rungs:
                return {"epochs": self.epochs, "at_rung": json.dumps(asdict(so_far))}
        return {"epochs": self.epochs}


def pick_device() -> torch.device:
    """Return the GPU that Ray gave this worker, else the processor."""
    if ray.get_gpu_ids() and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


class _Reporter(Callback):
    """Hands what Tune learns of trials to the launching process's own functions."""

    def __init__(self, broker: Any, listener: Listener) -> None:
        self.broker, self.listener = broker, listener
        self.fault: Exception | None = None
        """Why nothing more can be kept; raising it ends Tune's loop, which wraps it up."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.listener.on_epochs(self._of(trial), 0)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "fault" in result:
            self.fault = WriteError(result["fault"])
            raise self.fault
        if "epochs" in result:
            self.listener.on_epochs(self._of(trial), result["epochs"])

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._drop_claims(trial)
        self.listener.on_lost(self._of(trial), self._host(trial))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        last = trial.last_result
        if "outcome" not in last:  # the scheduler stopped it
            self._drop_claims(trial)
        self._end(trial, Outcome(**json.loads(last.get("outcome") or last["at_rung"])))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._drop_claims(trial)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lines = Path(trial.error_file).read_text().split("\n") if trial.error_file else []
        host = self._host(trial)
        place = f" on {host}" if host else ""
        times = f" {trial.num_failures} times" if trial.num_failures > 1 else ""
        reason = f"its worker{place} was lost{times}: "
        reason += next((line for line in reversed(lines) if line.strip()), "no reason is known")
        self._end(trial, failed(reason, now, 0.0, host, ""))

    def _host(self, trial: Any) -> str:
        """Return the name of the node that a trial was last heard of from; empty if it never was."""
        return str((trial.last_result or {}).get("hostname") or "")

    def _end(self, trial: Any, outcome: Outcome) -> None:
        try:
            self.listener.on_end(self._of(trial), outcome)
        except Exception as error:  # to Tune it would look like a trial that failed
            self.fault = error
            raise

    def _of(self, trial: Any) -> Trial:
        ours: Trial = trial.config["trial"].trial
        return ours

    def _drop_claims(self, trial: Any) -> None:
        ray.get(self.broker.drop.remote(self._of(trial).trial_id))


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200]
