"""A run on a Ray cluster of several raylets whose nodes come and go; all are on this machine."""

import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from forked import start_training
from gates import (
    attempt_in_half_a_gpu,
    attempt_on_a_gpu_that_fails_once,
    attempt_on_processor,
    pretend_another_torch,
)
from marked import WORKER
from ports import free_port
from ray_processes import RayRun
from run_reading import journal, table
from runs_to_kill import Run
from waiting import HANGS_SECONDS

SWEEP = """\
name: killed
dataset: {name: digits, validation: 100, train_limit: 400}
seeds: 2
base:
  model: {filters: [4, 8], hidden: 8}
  stages: {preset: scratch, epochs: {dual: 40, fusion: 40, finetune: 40}, patience: null}
grid:
  stages.lr: [0.001, 0.002]
"""
SHORT = SWEEP.replace(": 40", ": 2")
NODES = """
import sys
from ray.cluster_utils import Cluster
port, cpus = map(int, sys.argv[1:])
cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 0, "metrics_export_port": port, "include_dashboard": False
})
print("address", cluster.address, flush=True)
node = None
for line in sys.stdin:
    word, *more = line.split()
    if word == "add":
        kind, data = more or ("plain", "nowhere")
        node = cluster.add_node(
            num_cpus=cpus, num_gpus=int(kind == "gpu"), resources={kind: 1},
            env_vars={"LIGHTSWEEP_DATA": data},
        )
    elif word == "kill":
        cluster.remove_node(node, allow_graceful=False)
    print("done", flush=True)
cluster.shutdown()
"""


@dataclass
class Nodes:
    """A cluster whose nodes come and go."""

    address: str
    metrics: str
    """URL of the head's metrics."""
    tell: Callable[[str], None]
    """Takes "add", "add KIND DATA_DIR" (a node with a resource of that name; gpu: a GPU is declared, but
    not there) and "kill"."""


@contextmanager
def nodes(run: Run | RayRun, cpus: int = 2) -> Iterator[Nodes]:
    """Start a cluster of a head without processors; each other node has so many."""
    port = free_port()
    marks = {
        "LIGHTSWEEP_TEST_MARK": run.mark,
        "RAY_AUTH_MODE": "disabled",
        "RAY_health_check_period_ms": "500",  # a killed node is given up after 5 of them
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # workers know the gate
    }
    process = subprocess.Popen(
        [sys.executable, "-c", NODES, str(port), str(cpus)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, **marks},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def tell(word: str) -> None:
        print(word, file=stdin, flush=True)
        assert "done\n" in stdout

    try:
        address = next(line for line in stdout if line.startswith("address ")).split()[1]
        yield Nodes(address, f"http://127.0.0.1:{port}/metrics", tell)
    finally:
        process.communicate(timeout=HANGS_SECONDS)


def start(run: Run, address: str, *arguments: str) -> subprocess.Popen[str]:
    return run.start("--address", address, "--insecure", *arguments)


@pytest.mark.slow
def test_an_empty_cluster_is_waited_for(short_folder: Path) -> None:
    run = Run(short_folder, SWEEP.replace(": 40", ": 2"))
    with nodes(run) as cluster:
        process = start(run, cluster.address)
        assert process.stdout is not None
        said = next(line for line in process.stdout if "waiting for" in line)
        assert (
            "waiting for a node with 1 CPU, which one trial takes; the cluster has no CPU and no GPU "
            "(requested from its autoscaler, if any)"
        ) in said
        cluster.tell("add")
        output = process.communicate(timeout=HANGS_SECONDS)[0]
        assert process.returncode == 0, output
        assert "Ray is up: 2 trials at a time" in output
    run.await_silence()
    assert run.table("trials").status.tolist() == ["completed"] * 4


@pytest.mark.slow
def test_a_trial_whose_node_is_lost_too_often_is_recorded_with_its_name(short_folder: Path) -> None:
    """Once is too often here; the next run goes on and ends like any other."""
    (short_folder / "sweep.yaml").write_text(SWEEP.replace(": 40", ": 2"))
    run = RayRun(short_folder)
    with nodes(run, cpus=1) as cluster:
        run.address = cluster.address
        cluster.tell("add")
        child = run.start("resources.retries=0")
        run.await_waiting(1, child)
        cluster.tell("kill")
        child.await_state(lambda: any(row["status"] == "failed" for row in journal(short_folder)))
        run.open_gate()  # not before: the workers outlive their node a while
        cluster.tell("add")
        done = child.end()
        assert done.returncode == 1, done.stdout + done.stderr
    trials = table(short_folder, "trials")
    assert len(trials) == 4
    lost = trials[trials.status == "failed"]
    host = os.uname().nodename
    assert lost.host.tolist() == [host]
    assert lost.error.iloc[0].startswith(f"its worker on {host} was lost"), lost.error.tolist()
    run.await_silence()
    assert start_training(short_folder).end().returncode == 0
    assert table(short_folder, "trials").status.tolist() == ["completed"] * 4
    assert table(short_folder, "trials").trial_id.is_unique


@pytest.mark.slow
def test_gpus_and_nodes_without_one_train_side_by_side_and_rays_metrics_have_the_course(
    short_folder: Path,
) -> None:
    (short_folder / "sweep.yaml").write_text(SHORT)
    run = RayRun(short_folder)
    with nodes(run) as cluster:
        run.address = cluster.address
        for kind in ("plain", "gpu"):
            cluster.tell(f"add {kind} {short_folder / kind}")
        on_processor = partial(attempt_on_processor, run.gate)
        child = run.start("resources.device=any", "resources.gpus=0.5", attempt=on_processor)
        run.await_waiting(4, child)
        workers = dict[str, int]()
        gauges = dict[str, float]()

        def all_at_work() -> bool:
            if sum(workers.values()) < 4:  # Ray changes names at every call, and for a moment there is none
                workers.update(workers_by_node(run))
            gauges.update(measured(cluster.metrics))
            return sum(workers.values()) == gauges.get("trials running") == 4

        child.await_state(all_at_work)
        run.open_gate()
        done = child.end()
        assert done.returncode == 0, done.stdout + done.stderr
    assert "Ray is up: 2 trials at a time on GPUs and 2 on nodes without one\n" in done.stdout
    assert workers == {"gpu": 2, "plain": 2}
    states = {state: gauges[f"trials {state}"] for state in ("completed", "failed", "running", "waiting")}
    assert states == {"completed": 0, "failed": 0, "running": 4, "waiting": 0}
    assert {"stages made", "stages reused", "waited_seconds"} <= gauges.keys()
    run.await_silence()
    assert table(short_folder, "trials").status.tolist() == ["completed"] * 4


@pytest.mark.slow
class TestAGpu:
    """One node declares a GPU, which is not there."""

    @pytest.fixture(scope="class")
    @staticmethod
    def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
        with tempfile.TemporaryDirectory(prefix="ls") as folder:
            (Path(folder) / "tmp").mkdir()
            run = RayRun(Path(folder))
            with nodes(run) as cluster:
                cluster.tell(f"add gpu {folder}")
                yield cluster

    @pytest.fixture
    def run(self, cluster: Nodes, short_folder: Path) -> RayRun:
        (short_folder / "sweep.yaml").write_text(SHORT)
        return RayRun(short_folder, address=cluster.address)

    def test_that_torch_cannot_use_ends_the_run_with_one_error(self, run: RayRun) -> None:
        """It trained on the processor, under other keys, and said nothing."""
        done = run.start_command("run", "sweep.yaml", "--address", str(run.address), "--insecure").end()
        assert done.returncode == 2, done.stdout + done.stderr
        assert re.fullmatch(
            r"error: \S+: Ray has a GPU for trials, but torch \S+ there is a build for processors only; "
            r"install a torch for its driver on that node, or train on processors: resources.gpus = 0\n",
            done.stderr,
        ), done.stderr
        assert not journal(run.folder)

    def test_whose_memory_is_too_small_is_shared_less_and_the_trial_tried_again(self, run: RayRun) -> None:
        done = run.start(attempt=attempt_in_half_a_gpu).end()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "out of memory; it takes 0.5 of a GPU from now on; the trial is retried" in done.stdout
        assert table(run.folder, "trials").status.tolist() == ["completed"] * 4

    def test_whose_share_the_user_has_set_fails_what_is_too_large_for_it(self, run: RayRun) -> None:
        done = run.start("resources.gpus=0.25", attempt=attempt_in_half_a_gpu).end()
        assert done.returncode == 1, done.stdout + done.stderr
        errors = table(run.folder, "trials").error
        assert errors.str.startswith("it needs more than 0.25 of a GPU's memory (CUDA out of memory.").all()

    def test_that_failed_ends_its_process_and_another_one_goes_on(self, run: RayRun) -> None:
        attempt = partial(attempt_on_a_gpu_that_fails_once, run.folder / "failed")
        done = run.start("resources.gpus=1", attempt=attempt).end()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "its worker" in done.stdout
        assert "was lost; the trial is retried" in done.stdout
        assert table(run.folder, "trials").status.tolist() == ["completed"] * 4

    def test_or_a_processor_with_other_code_trains_nothing(self, run: RayRun) -> None:
        done = run.start(attempt=attempt_in_half_a_gpu, prepare=pretend_another_torch).end()
        assert "its workers have torch 2." in done.stderr, done.stdout + done.stderr
        assert "not 0.1, so their results would differ" in done.stderr
        assert not journal(run.folder)


def workers_by_node(run: RayRun) -> dict[str, int]:
    """Count the workers of each node, told from one another by their folder of data sets."""
    found = Counter[str]()
    for number, command in run.processes().items():
        if command.startswith(WORKER):
            variables = Path(f"/proc/{number}/environ").read_text().split("\0")
            found[Path(next(v for v in variables if v.startswith("LIGHTSWEEP_DATA="))).name] += 1
    return dict(found)


def measured(url: str) -> dict[str, float]:
    """Return the sweep's gauges as Prometheus would fetch them."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    gauge = re.compile(
        r'^ray_lightsweep_(\w+)\{(?=.*run="killed")(?:.*(?:state|origin)="(\w+)")?.*\} (\S+)$', re.M
    )
    return {f"{name} {label}".strip(): float(value) for name, label, value in gauge.findall(text)}


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001"])
def test_rays_client_protocol_is_refused_with_the_way_that_works(short_folder: Path, address: str) -> None:
    (short_folder / "sweep.yaml").write_text(SWEEP)
    done = RayRun(short_folder).start_command("run", "sweep.yaml", "--address", address).end()
    assert done.returncode == 2
    assert "run it on the head: ray exec cluster.yaml" in done.stderr


@pytest.mark.slow
def test_more_waiting_trials_than_ray_takes_calls_at_a_time_hold_nothing_up(short_folder: Path) -> None:
    """1,100 wait for a stage that one makes: Ray's own limit is 1,000 calls, the result's among them."""
    done = subprocess.run(
        [sys.executable, "-c", WAITING, short_folder],
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )
    assert done.stdout.split() == ["put", "1100"], done.stderr


WAITING = """
import sys
from pathlib import Path
import ray
from lightsweep.distributed.attach import cluster
from lightsweep.distributed.launch import start_broker
from lightsweep.store.stagefile import StageResult
folder = Path(sys.argv[1])
with cluster(None, folder / "scratch", False):
    broker, key = start_broker(folder / "store", False, Path("data"), folder / "scratch"), "ab" * 32
    ray.get(broker.claim.remote(key, "maker"))
    calls = [broker.claim.remote(key, str(number)) for number in range(1100)]
    ray.get(broker.put.remote(key, "maker", StageResult({}).to_bytes(key)))
    print("put")
    print(sum(reply.result is not None for reply in ray.get(calls)))
"""


READING = """
import sys
from pathlib import Path
import ray
from ray.experimental import get_object_locations
from lightsweep.data import datasets
from lightsweep.distributed.attach import cluster
from lightsweep.distributed.launch import start_broker
from lightsweep.sweepfile.dataset import DatasetSpec

folder, address = Path(sys.argv[1]), sys.argv[2]
spec = DatasetSpec(name="npz", path="images.npz", validation=2)
dataset = datasets.load(spec, folder / "here", download=False)
with cluster(address, folder / "scratch", insecure=True):
    broker = start_broker(folder / "store", False, folder / "here", folder / "scratch")
    here = ray.get_runtime_context().get_node_id()
    for node in ray.nodes():
        kind = next((kind for kind in ("same", "other", "none") if kind in node["Resources"]), "head")
        calls = [broker.read.remote(node["NodeID"], spec, dataset.fingerprint) for _ in range(2)]
        first, again = ray.get(calls)
        assert first == again
        print(kind, [get_object_locations([ref])[ref]["node_ids"] == [node["NodeID"]] for ref in first])
"""


@pytest.mark.slow
def test_a_data_set_is_read_on_a_node_that_has_it_and_nowhere_else(short_folder: Path) -> None:
    """One node has the same images, one has others by that name, one has none."""
    for name, light in (("here", 1), ("same", 1), ("other", 2)):
        (short_folder / name).mkdir()
        images = {"images": np.full((400, 28, 28), light, np.uint8), "labels": np.arange(400) % 2}
        arrays = {f"{part}_{kind}": array for part in ("train", "test") for kind, array in images.items()}
        np.savez(short_folder / name / "images.npz", **arrays)
    run = Run(short_folder, SWEEP)
    with nodes(run) as cluster:
        for name in ("same", "other", "none"):
            cluster.tell(f"add {name} {short_folder / name}")
        done = subprocess.run(
            [sys.executable, "-c", READING, short_folder, cluster.address],
            capture_output=True, text=True, timeout=HANGS_SECONDS, check=False,
        )  # fmt: skip
    found = sorted(done.stdout.splitlines())
    assert found == ["head []", "none []", "other []", "same [True]"], done.stderr
