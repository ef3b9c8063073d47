"""Measured costs of nets on this machine, in `costs.json` of a run: latency, memory, size of the ONNX file.

Nets are measured untrained, because weights affect none of these costs; in this process, one after another,
each distinct net once.
"""

import copy
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import fmean, quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from lightsweep.deliver.netfile import make_file
from lightsweep.errors import InputError, WriteError
from lightsweep.hashing import canonical_json
from lightsweep.planning.plan import Plan
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runfolder.records import Record
from lightsweep.store.stagefile import StageResult
from lightsweep.system.files import write_text
from lightsweep.system.machine import one_thread
from lightsweep.system.processor import cpu_name
from lightsweep.training.stagenets import final_net
from lightsweep.trials.trial import Trial

COSTS_FILE = "costs.json"
NETS = 24
"""Number of nets to measure by default."""
LEAST_REPEATS = {1: 30, 256: 10}
"""Minimum number of timed repeats, by batch size."""
MOST_REPEATS, ENOUGH_SECONDS = 300, 0.5  # limits on the additional repeats of fast nets
SIMULATED = "int8 is simulated in float32 here; real int8 kernels would need different time and memory"
_UNTRAINED = StageResult(weights={}, metrics={"network": "fused"})  # overrides no weights


@dataclass(frozen=True)
class FinalNet:
    """A final net, shared by one or more trials of a run."""

    trial: Trial
    """One of its trials."""
    dataset: str
    """Label of its data set in the records."""
    arms: tuple[str, ...]
    """Arms that end with this net."""
    val_accuracy: float
    """Mean validation accuracy of its completed trials, a fraction."""
    is_confirmed: bool
    """Whether a search has confirmed it."""


def measure_run(
    run: RunFolder, planned: Plan, everything: bool, on_net: Callable[[int, int, dict[str, Any]], None]
) -> dict[str, Any]:
    """Measure a run's nets and write `costs.json`, whole or not at all.

    Args:
        run: The run.
        planned: Plan of the run's sweep.yaml, including a search's trials.
        everything: Whether to measure all nets instead of the `NETS` best by validation.
        on_net: Called after each net with its number (from 1), the number of nets, and its costs.

    Returns:
        Content of `costs.json`. A cost that cannot be measured is null, and `reasons` gives the reason.

    Raises:
        InputError: No trial is completed, or the file cannot be written.

    """
    nets = distinct_nets(planned, run.journal.records())
    if not nets:
        raise InputError(f"{run.folder}: no trial is completed yet, so there is no net to measure")
    nets = nets if everything else nets[:NETS]
    tree: dict[str, Any] = {
        "machine": cpu_name(),
        "torch": torch.__version__,
        "threads": 1,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "nets": [],
    }
    for number, net in enumerate(nets, 1):
        info = planned.infos[net.trial.dataset]
        module = final_net(net.trial, _UNTRAINED)
        costs = {
            "dataset": net.dataset,
            "arms": list(net.arms),
            **asdict(planned.costs[net.trial.trial_id]),
            **measure(module, info.shape),
        }
        tree["nets"].append(costs)
        on_net(number, len(nets), costs)
    path = run.folder / COSTS_FILE
    try:
        write_text(path, json.dumps(tree, indent=1, allow_nan=False))
    except OSError as error:
        raise WriteError(f"{path}: cannot be written ({error.strerror})") from None
    return tree


def distinct_nets(planned: Plan, records: Mapping[str, Record]) -> list[FinalNet]:
    """Return the distinct nets of a run's completed trials, best by validation first.

    Nets that a search has confirmed come before those that it has only drawn.
    """
    groups: dict[str, list[tuple[Trial, dict[str, Any]]]] = {}
    for trial in planned.trials:
        found = records.get(trial.trial_id)
        if found is not None and found.trial["status"] == "completed":
            groups.setdefault(_settings(trial), []).append((trial, found.trial))
    nets = [
        FinalNet(
            members[0][0],
            members[0][1]["dataset"],
            tuple(dict.fromkeys(trial.arm for trial, _ in members)),
            fmean(row["val_accuracy"] for _, row in members),
            any(row["phase"] == "confirmation" for _, row in members),
        )
        for members in groups.values()
    ]
    return sorted(nets, key=lambda net: (not net.is_confirmed, -net.val_accuracy))


def _settings(trial: Trial) -> str:
    """Return the settings that determine a trial's final net, except for its weights."""
    compression = trial.spec.compression
    small = compression and compression.model_dump(mode="json", include={"prune", "amount", "quantise"})
    images = trial.dataset.source
    return canonical_json([images, trial.spec.model.model_dump(mode="json"), small])


def measure(net: nn.Module, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Measure a net, called as `net(images, images)`, on one thread of this machine's processor.

    Args:
        net: The net, in evaluation mode.
        shape: Shape of an image: channels, height, width.

    Returns:
        onnx_bytes; latency_1_ms and latency_256_ms (see `latency_ms`); peak_1_bytes and peak_256_bytes (see
        `peak_bytes`); each is None if it cannot be measured, with the reason under its name in `reasons`.

    """
    stream = torch.Generator().manual_seed(0)
    ways: dict[str, Callable[[], Any]] = {"onnx_bytes": lambda: onnx_bytes(net, shape)}
    for batch, least in LEAST_REPEATS.items():
        images = torch.rand(batch, *shape, generator=stream).contiguous(memory_format=torch.channels_last)
        ways[f"latency_{batch}_ms"] = lambda x=images, n=least: latency_ms(net, x, n)  # type: ignore[misc]
        ways[f"peak_{batch}_bytes"] = lambda x=images: peak_bytes(net, x)  # type: ignore[misc]
    costs: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    if any(tensor.dtype == torch.int8 for tensor in net.buffers()):
        simulated = [name for name in ways if name != "onnx_bytes"]
        costs, reasons = dict.fromkeys(simulated), dict.fromkeys(simulated, SIMULATED)
        ways = {"onnx_bytes": ways["onnx_bytes"]}
    with one_thread():
        for name, way in ways.items():
            try:
                costs[name] = way()
            except (RuntimeError, MemoryError, InputError) as error:
                costs[name], reasons[name] = None, " ".join(str(error).split())[:300]
    return {**costs, "reasons": reasons}


@torch.inference_mode()
def latency_ms(
    net: nn.Module, images: Tensor, least: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the wall-clock latency of a net on a batch, in milliseconds.

    Args:
        net: The net, in evaluation mode.
        images: float32 [batch, channels, height, width].
        least: Minimum number of timed repeats, after a third as many for warm-up.
        clock: Returns seconds since any fixed moment.

    Returns:
        median, low and high (the quartiles), and n (the number of timed repeats).

    """
    for _ in range(-(-least // 3)):
        net(images, images)
    times: list[float] = []
    while len(times) < least or (len(times) < MOST_REPEATS and sum(times) < 1000 * ENOUGH_SECONDS):
        began = clock()
        net(images, images)
        times.append(1000 * (clock() - began))
    low, median, high = quantiles(times, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high, "n": len(times)}


@torch.inference_mode()
def peak_bytes(net: nn.Module, images: Tensor) -> int:
    """Return the peak memory that torch allocates while a net runs, in bytes.

    Includes feature maps, workspaces and logits, but not the weights and the images, which are allocated
    before. Measured from the profiler's events, one per allocation and per release.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler prints its start and end
    net(images, images)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        net(images, images)
    assert profiled.profiler is not None
    results: Any = profiled.profiler.kineto_results
    events = [(event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"]
    held = most = 0
    for _, change in sorted(events, key=lambda event: event[0]):
        held += change
        most = max(most, held)
    return most


def onnx_bytes(net: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return the size of a net's ONNX file in bytes, without the metadata that `export` adds.

    Raises:
        ExportError: torch cannot export the net.

    """
    trained = copy.deepcopy(net)
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():  # values that are 0 or 1 before training would be folded out of the file
        for tensor in (*trained.parameters(), *trained.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1, generator=stream)
    return len(make_file(".onnx", trained, shape))


def busy() -> str | None:
    """Return a warning if this machine is busy, which increases latencies; otherwise None."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < 0.5 * cores:
        return None
    return f"warning: this machine is busy (load {load:.1f} on {cores} cores), so latencies are upper bounds"
