"""Ray worker: trains one trial after another, using the launching process's stage store."""

import json
import os
import platform
import time
from collections.abc import Generator, Mapping
from dataclasses import asdict, replace
from typing import Any

import ray
import torch
from ray import tune
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lightsweep.data.imagedata import Dataset
from lightsweep.distributed.data import Sent
from lightsweep.errors import InputError, MachineError, WriteError
from lightsweep.owncode.sources import Sources, know
from lightsweep.store.broker import BrokerStore
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.system.machine import make_repeatable
from lightsweep.training.attempt import Attempt
from lightsweep.training.outcome import Outcome
from lightsweep.trials.sources import worker_code
from lightsweep.trials.trial import Trial

REPORT_SECONDS = 2.0  # between a worker's reports on its running trial


class Worker(tune.Trainable):
    """A reused actor that runs one trial after another, some epochs per step."""

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        sent: Sent,
        broker: Any,
        checkpoint_seconds: float,
        attempt: Attempt,
        rungs: frozenset[int],
        code: dict[str, str],
        own: tuple[Sources, ...],
    ) -> None:
        """Start with a first trial; Tune calls this once in each worker."""
        for sources in own:
            know(replace(sources, origin=None))  # the launching process trusts it
        self.sent, self.attempt, self.rungs = sent, attempt, rungs
        self.refusal = refusal(code, worker_code(), platform.node())
        self.datasets: dict[str, Dataset] = {}
        """Data sets fetched so far, by fingerprint."""
        self.steps: Generator[Outcome, None, Outcome] | None = None
        self.broker, self.checkpoint_seconds = broker, checkpoint_seconds
        make_repeatable()
        os.chdir("/")  # the folder where Ray started the worker is not used and may be removed
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Switch to another trial."""
        trial: Trial = new_config["trial"].trial
        if self.steps is not None:
            self.steps.close()  # a stopped trial returns its claims
        self.epochs = 0
        store = BrokerStore(self._ask, trial.trial_id, self.checkpoint_seconds)
        self.device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        if self._is_on_gpu():
            torch.cuda.empty_cache()  # the previous trial's memory, for other processes on the GPU
            torch.cuda.reset_peak_memory_stats()
        self.steps = self.attempt(trial, self._dataset(trial.dataset), store, self.device)
        return True

    def _ask(self, call: str, *arguments: Any) -> Any:
        """Call the broker and wait for its reply."""
        return ray.get(getattr(self.broker, call).remote(*arguments))

    def _dataset(self, spec: DatasetSpec) -> Dataset:
        fingerprint, sent = self.sent[spec]
        if fingerprint not in self.datasets:
            node = ray.get_runtime_context().get_node_id()
            read = ray.get(self.broker.read.remote(node, spec, fingerprint))
            self.datasets[fingerprint] = ray.get(read[0] if read else sent)
        return self.datasets[fingerprint]

    def step(self) -> dict[str, Any]:
        """Train until there is something to report: the trial's progress or its outcome.

        The exception of a failed GPU ends this process; a new process may be able to use the GPU.
        """
        if self.refusal is not None:
            return {"fault": self.refusal, "is_write": False}
        assert self.steps is not None  # setup and reset_config make them
        until = time.monotonic() + REPORT_SECONDS
        while time.monotonic() < until:
            try:
                so_far = next(self.steps)
            except StopIteration as end:
                outcome: Outcome = end.value
                return {"outcome": json.dumps(asdict(outcome)), "done": True, **self._gpu_memory(outcome)}
            except (WriteError, MachineError) as error:
                return {"fault": str(error), "is_write": isinstance(error, WriteError)}
            except torch.OutOfMemoryError as error:
                return {"out_of_memory": str(error), "done": True}
            self.epochs = len(so_far.epochs)
            if self.epochs in self.rungs:
                return {"epochs": self.epochs, "at_rung": json.dumps(asdict(so_far))}
        return {"epochs": self.epochs}

    def _is_on_gpu(self) -> bool:
        return self.device.type == "cuda" and torch.cuda.is_available()

    def _gpu_memory(self, outcome: Outcome) -> dict[str, int]:
        """Return the trial's peak GPU memory and the GPU's total memory, in bytes.

        Empty for a trial that did not train all its stages here, since its peak may be too low.
        """
        is_whole = outcome.status == "completed" and all(
            stage["origin"] == "trained" for stage in outcome.stages
        )
        if not self._is_on_gpu() or not is_whole:
            return {}
        return {
            "gpu_used_bytes": torch.cuda.max_memory_reserved(),
            "gpu_bytes": torch.cuda.get_device_properties(self.device).total_memory,
        }


def refuse_other_code() -> None:
    """Check that all live nodes of the attached cluster run the same code as this process.

    Nodes that join later are checked by their workers (`refusal`).

    Raises:
        InputError: A node has other code than this process, or cannot import its own.

    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [(node["NodeManagerHostname"], _ask(node["NodeID"])) for node in nodes]
    for host, answer in asked:
        try:
            said: dict[str, str] = ray.get(answer)
        except RayError as error:
            fault = str(error).strip().splitlines()[-1]
            raise InputError(
                f"{host}: its workers cannot import lightsweep ({fault}); install the same version there"
            ) from None
        reason = refusal(worker_code(), said, host)
        if reason is not None:
            raise InputError(reason)


def _ask(node: str) -> Any:
    """Start a task that returns what a node's workers run; sending it requires no lightsweep there."""

    def describe() -> Any:
        from lightsweep.trials.sources import worker_code

        return worker_code()

    there = NodeAffinitySchedulingStrategy(node, soft=True)
    return ray.remote(num_cpus=0, max_retries=0)(describe).options(scheduling_strategy=there).remote()


def refusal(wanted: Mapping[str, str], here: Mapping[str, str], host: str) -> str | None:
    """Return why workers must not train, in one line, if their code differs; otherwise None.

    Args:
        wanted: `trials.sources.worker_code` of the launching process, which computed the trials' keys.
        here: `trials.sources.worker_code` of a worker.
        host: Host name of the worker's node.

    """
    for name, value in wanted.items():
        if name == "folder" or here.get(name) == value:
            continue
        what = (
            "a different lightsweep"
            if name in ("source", "worker")
            else f"{name} {here.get(name)}, not {value}"
        )
        place = f" (in {here['folder']}; the launching process on {platform.node()} has {wanted['folder']})"
        return (
            f"{host}: its workers have {what}{place if name in ('source', 'worker') else ''}, so their "
            "results would differ; install the same versions on all nodes"
        )
    return None
