"""A sweep of an empty training function on a simulated cluster: many raylets on this one machine.

python benchmarks/cluster_scale.py                   # the layouts below, 1,000 trials each: 20 min
python benchmarks/cluster_scale.py 32x1 --trials 200
python benchmarks/cluster_scale.py 8x1x20            # each trial reports its progress 20 times, at once

A layout is NODESxTRIALS[xREPORTS]: nodes with a declared GPU each, trials at a time on each, reports of
progress per trial. At 32 trials at a time it takes some 15 GB and minutes to start on two cores.
"""

import hashlib
import io
import json
import os
import re
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from lightsweep.data import datasets
from lightsweep.distributed.on_ray import OnRay
from lightsweep.planning.plan import plan
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runs.run import run_sweep
from lightsweep.store.broker import Broker
from lightsweep.store.stagefile import StageResult
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.training.chain import StageEntry
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial

LAYOUTS = ("1x1", "8x1", "32x1", "8x4", "1x32", "8x1x20")
ARMS, EPOCHS, STAGES = 10, 12, 3
WEIGHTS = 24_000  # as float32 a stage's result is 98 KB; from 100 KiB Ray sends it another way
BLOCK = 100  # trials that one figure of the spread is about
BROKER_SECONDS = 8.0
DATA_BYTES = 64 * 2**20
LEAST_FREE_KB = 2 * 2**20  # of the machine's memory; with less, a layout is given up


@dataclass(frozen=True)
class Layout:
    """A simulated cluster, and what its trials do."""

    nodes: int
    trials_a_node: int
    reports: int

    @staticmethod
    def read(text: str) -> "Layout":
        """Return what NODESxTRIALS[xREPORTS] says."""
        found = re.fullmatch(r"(\d+)x(\d+)(?:x(\d+))?", text)
        if not found:
            raise click.BadParameter(f"{text}: must be NODESxTRIALS or NODESxTRIALSxREPORTS, such as 8x4")
        return Layout(int(found[1]), int(found[2]), int(found[3] or 0))

    @property
    def at_once(self) -> int:
        """Trials at a time on the whole cluster."""
        return self.nodes * self.trials_a_node


def sweep(trials: int, layout: Layout) -> Sweep:
    """Return a sweep of so many trials: ten arms of three stages, the rest are seeds."""
    stages = [
        {"name": name, "loss": "heads" if name == "dual" else "fused", "epochs": EPOCHS // STAGES}
        for name in ("dual", "fusion", "finetune")
    ]
    return Sweep.model_validate(
        {
            "name": "cluster-scale", "dataset": {"name": "digits"}, "seeds": trials // ARMS,
            "grid": {"stages.finetune.lr": [0.001 * (index + 1) for index in range(ARMS)]},
            "base": {"stages": stages},
            "resources": {"cpus": 1, "gpus": 1 / layout.trials_a_node},
        }
    )  # fmt: skip


def stage_result(weights: int) -> StageResult:
    """Return a stage's result with so many weights."""
    return StageResult({"weights": torch.rand(weights)}, metrics={"kept_epoch": 1})


def train_nothing(
    trial: Trial, _dataset: Any, store: Any, _device: Any, gate: str, at_once: int, reports: int
) -> Generator[object, None, Outcome]:
    """Claim and put what a trial of three stages would, and return what it would be recorded as.

    A worker's first trial waits until all workers are up, so that the figures are of a cluster at work.

    Args:
        trial: What is not trained.
        store: Of stage results, through the broker.
        gate: Folder with a file per worker that is up.
        at_once: How many workers there will be.
        reports: Of progress, without a pause, where a real trial reports every two seconds.

    """
    import ray

    from lightsweep.distributed import worker

    (Path(gate) / str(os.getpid())).touch()
    while len(os.listdir(gate)) < at_once:
        time.sleep(0.1)
    if reports:
        worker.REPORT_SECONDS = 0.0005
    node = ray.get_runtime_context().get_node_id()[-12:]
    where = {
        "host": node, "device": "cpu", "hardware": str(os.getpid()), "torch": "t",
        "started_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    epochs = [
        {
            "epoch": 1 + index % 4, "learning_rate": 0.001, "train_loss": 1 / 3, "train_accuracy": 0.5,
            "val_loss": 1 / 3, "val_accuracy": 0.5, "val_accuracy_heads": [0.5, 0.5],
            "seconds": 0.1, "stage_index": index // 4, "is_kept": index % 4 == 3, "trial_epoch": index + 1,
        }
        for index in range(EPOCHS)
    ]  # fmt: skip
    entries = []
    for index in range(STAGES + 1):
        key = hashlib.sha256(f"{trial.trial_id} {index}".encode()).hexdigest()
        if store.claim(key).result is None:
            store.put(key, stage_result(WEIGHTS if index < STAGES else 0))
        trained = EPOCHS // STAGES * (index < STAGES)
        entries.append(StageEntry(index, key, "trained", trained, trained, 0.0, 0.0, where))
    for _ in range(reports):
        yield Outcome("early_stopped", None, "", 0.0, node, "cpu", epochs=epochs)
        time.sleep(0.001)
    plain = [{**where, **{k: v for k, v in asdict(e).items() if k != "provenance"}} for e in entries]
    accuracies = dict.fromkeys(("val_accuracy", "test_accuracy", "train_accuracy"), 0.5)
    return Outcome(
        "completed", None, where["started_at"], 0.0, node, "cpu", accuracies, plain, epochs
    )  # fmt: skip


class Clock(io.StringIO):
    """Notes when the launcher says that a trial has ended: wall and processor time, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks: list[tuple[float, float]] = []

    def write(self, text: str) -> int:
        """Note the time of a line about a trial."""
        if text.startswith("[") and "] running: " not in text:
            self.ticks.append((time.perf_counter(), time.process_time()))
        return len(text)


@contextmanager
def simulated_cluster(layout: Layout) -> Iterator[str]:
    """Start a head that takes no trials, and the nodes; yields the address, on loopback only."""
    from ray.cluster_utils import Cluster

    def at(number: int) -> dict[str, Any]:  # Ray takes 127.0.0.1 for this machine's outer address
        return {"node_ip_address": f"127.0.1.{number}", "include_dashboard": False}

    cluster = Cluster(True, head_node_args={"num_cpus": 0, "object_store_memory": 600 * 2**20, **at(1)})
    try:
        for number in range(2, layout.nodes + 2):
            cluster.add_node(wait=False, num_cpus=layout.trials_a_node, num_gpus=1, **at(number))
        cluster.wait_for_nodes(300)
        yield cluster.address
    finally:
        cluster.shutdown()


def run_trials(layout: Layout, trials: int, address: str, out: Path) -> dict[str, Any]:
    """Run the sweep; return the launcher's times per trial and how evenly trials were placed."""
    planned = plan(sweep(trials, layout), lambda spec: datasets.describe(spec, out))
    gate = out / "gate"
    gate.mkdir()
    clock = Clock()
    attempt = partial(train_nothing, gate=str(gate), at_once=layout.at_once, reports=layout.reports)
    began = time.perf_counter()
    summary = run_sweep(
        planned, out, out, OnRay(address), False, False, Console(file=clock, width=500), attempt
    )
    assert summary.completed == len(clock.ticks) == trials, (summary, len(clock.ticks))
    atwork = clock.ticks[layout.at_once - 1 :]  # each worker has had its first trial, but for chance
    ends = range(0, len(atwork) - BLOCK, BLOCK)
    walls, processors = (
        [1e3 * (atwork[i + BLOCK][kind] - atwork[i][kind]) / BLOCK for i in ends] for kind in (0, 1)
    )
    run = RunFolder(summary.folder)
    records = list(run.journal.records().values())
    by_node = Counter(record.trial["host"] for record in records)
    by_worker = Counter(record.stages[0]["hardware"] for record in records)
    again = RunFolder(out)
    fsyncs = [1e3 * seconds_of(partial(again.append, record)) for record in records[:BLOCK]]
    return {
        "start_s": clock.ticks[0][0] - began, "wall_ms": walls, "processor_ms": processors,
        "by_node": sorted(by_node.values()), "by_worker": sorted(by_worker.values()),
        "append_ms": fsyncs, "peak_kb": status_kb("self", "VmHWM"),
    }  # fmt: skip


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long a function took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Client:
    """Claims and puts through the broker as fast as it can."""

    def __init__(self, broker: Any, number: int) -> None:
        self.broker, self.number, self.made = broker, number, 0

    def _key(self, index: int) -> str:
        return hashlib.sha256(f"{self.number} {index}".encode()).hexdigest()

    def is_up(self) -> bool:
        """Return that it is."""
        return True

    def make(self, weights: int, seconds: float) -> int:
        """Claim new keys and put their results for so long; return the number of calls."""
        import ray

        result = stage_result(weights)
        until, before = time.monotonic() + seconds, self.made
        while time.monotonic() < until:
            key, owner = self._key(self.made), str(self.number)
            assert ray.get(self.broker.claim.remote(key, owner)).result is None
            assert ray.get(self.broker.put.remote(key, owner, result.to_bytes(key))) is None
            self.made += 1
        return 2 * (self.made - before)

    def look_up(self, _weights: int, seconds: float) -> int:
        """Claim keys that have a result for so long; return the number of calls."""
        import ray

        until, calls = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            assert ray.get(self.broker.claim.remote(self._key(calls % self.made), "")).result
            calls += 1
        return calls


def load_broker(at_once: int, out: Path, weights: int = WEIGHTS) -> dict[str, Any]:
    """Have a client per worker call a broker; return calls per second, and its processor ms per call."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    broker = (
        ray.remote(Broker)
        .options(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1)
        .remote(str(out / "broker"), False, out / "memory")
    )
    remote = ray.remote(Client).options(num_cpus=1, scheduling_strategy="SPREAD")
    clients = [remote.remote(broker, number) for number in range(at_once)]
    ray.get([client.is_up.remote() for client in clients])
    found: dict[str, Any] = {"bytes": len(stage_result(weights).to_bytes("ab" * 32))}
    for what in ("make", "look_up"):
        before = ray.get(broker.__ray_call__.remote(_processor_seconds))
        began = time.perf_counter()
        work = [getattr(client, what).remote(weights, BROKER_SECONDS) for client in clients]
        calls = sum(ray.get(work))
        seconds = time.perf_counter() - began
        used = ray.get(broker.__ray_call__.remote(_processor_seconds)) - before
        found |= {f"{what}_per_s": calls / seconds, f"{what}_processor_ms": 1e3 * used / calls}
    for actor in (*clients, broker):
        ray.kill(actor)
    return found


def _processor_seconds(_broker: Any) -> float:
    return time.process_time()


def send_data(layout: Layout) -> float:
    """Return the seconds in which an object of DATA_BYTES reaches all nodes, each once."""
    import numpy as np
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=1)
    def size(data: Any) -> int:
        return len(data)

    ids = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    assert len(ids) == layout.nodes
    tasks = [size.options(scheduling_strategy=NodeAffinitySchedulingStrategy(i, soft=False)) for i in ids]
    ray.get([task.remote(b"") for task in tasks])  # a worker is up on each node
    data = ray.put(np.random.default_rng(0).integers(0, 256, DATA_BYTES, dtype=np.uint8))
    return seconds_of(lambda: ray.get([task.remote(data) for task in tasks]))


def measure(layout: Layout, trials: int, scratch: Path) -> dict[str, Any]:
    """Start a layout's cluster and measure on it all that there is to measure."""
    import logging

    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    out = scratch / "out"
    out.mkdir()
    found: dict[str, Any] = {}
    with simulated_cluster(layout) as address:
        found |= run_trials(layout, trials, address, out)
        if not layout.reports:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
            found |= load_broker(layout.at_once, out)
            found["send_s"] = send_data(layout)
            ray.shutdown()
    return found


def status_kb(process: str, name: str) -> int:
    """Return a figure of /proc/PROCESS/status, in KiB; 0 without one."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0


def free_kb() -> int:
    """Return the machine's memory that is still to be had, in KiB."""
    found = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    assert found
    return int(found[1])


def of_cluster(scratch: Path) -> dict[int, str]:
    """Return the command lines of the processes of the cluster whose temporary folder that is."""
    lines, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            lines[int(folder.name)] = (folder / "cmdline").read_text(errors="replace")
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
    ours = {process for process, line in lines.items() if f"{scratch}/" in line}
    return {p: line for p, line in lines.items() if p in ours or parents.get(p) in ours}


def watched(layout: str, trials: int) -> dict[str, Any]:
    """Measure a layout in a process of its own, watching the broker's memory and the machine's."""
    scratch = Path(tempfile.mkdtemp(prefix="cs", dir="/tmp"))  # short: Ray's sockets are in it
    command = [sys.executable, __file__, layout, "--trials", str(trials), "--scratch", str(scratch)]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # of this cluster alone
    environment = os.environ | token | {"RAY_TMPDIR": str(scratch), "RAY_USAGE_STATS_ENABLED": "0"}
    peak, least = 0, free_kb()
    try:
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        while child.poll() is None:
            for process, line in of_cluster(scratch).items():
                if line.startswith("ray::_Home"):
                    peak = max(peak, status_kb(str(process), "VmHWM"))
            least = min(least, free_kb())
            if least < LEAST_FREE_KB:
                child.kill()
                raise SystemExit(f"{layout}: given up, {least // 1024} MiB of memory were left")
            time.sleep(1)
        assert child.stdout is not None
        if child.returncode:
            raise SystemExit(f"{layout}: exit status {child.returncode}")
        found: dict[str, Any] = json.loads(child.stdout.read().splitlines()[-1])
        return found | {"broker_peak_kb": peak, "least_free_kb": least}
    finally:
        for process in of_cluster(scratch):
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(scratch, ignore_errors=True)


def spread(values: list[float], digits: int = 1) -> str:
    """Return the median and, in brackets, least and greatest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def row(layout: Layout, found: dict[str, Any]) -> str:
    """Return a line of the table."""
    has_broker = "make_per_s" in found
    cells = [
        layout.nodes, layout.at_once, layout.reports,
        f"{found['start_s']:.0f}", spread(found["wall_ms"]), spread(found["processor_ms"]),
        f"{found['make_per_s']:.0f} / {found['look_up_per_s']:.0f}" if has_broker else "",
        f"{found['make_processor_ms']:.2f} / {found['look_up_processor_ms']:.2f}" if has_broker else "",
        f"{found['peak_kb'] / 1024:.0f}", f"{found['broker_peak_kb'] / 1024:.0f}",
        spread(found["by_node"], 0), spread(found["by_worker"], 0),
        f"{found['send_s']:.1f}" if has_broker else "",
        spread(found["append_ms"]), f"{found['least_free_kb'] / 2**20:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


@click.command()
@click.argument("layouts", nargs=-1)
@click.option("--trials", default=1000, show_default=True)
@click.option("--scratch", type=Path, hidden=True)
def main(layouts: tuple[str, ...], trials: int, scratch: Path | None) -> None:
    """Print a line of a Markdown table for each layout."""
    read = [(text, Layout.read(text)) for text in layouts or LAYOUTS]
    if scratch:  # the process of one layout
        print(json.dumps(measure(read[0][1], trials, scratch)))
        return
    head = (
        "nodes", "trials at a time", "reports a trial", "s to the first trial's end", "wall, ms a trial",
        "launcher's processor, ms a trial", "broker calls per s, make / look up",
        "broker's processor, ms a call", "launcher's peak, MiB", "broker's peak, MiB", "trials a node",
        "trials a worker", f"s to send {DATA_BYTES >> 20} MiB to all nodes", "ms to append a record",
        "least memory free, GiB",
    )  # fmt: skip
    print(f"{trials} trials a line; medians and ranges: of {BLOCK} trials each, of nodes, workers, appends\n")
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}", flush=True)
    for text, layout in read:
        print(row(layout, watched(text, trials)), flush=True)


if __name__ == "__main__":
    main()
