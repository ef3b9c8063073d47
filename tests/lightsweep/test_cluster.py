"""A run on a Ray cluster of several raylets whose nodes come and go; all are on this machine."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from runs_to_kill import Run

from lightsweep.distributed.worker import REPORT_SECONDS

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
NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
print("address", cluster.address, flush=True)
node = None
for word in sys.stdin:
    if word == "add\\n":
        node = cluster.add_node(num_cpus=2)
    elif word == "kill\\n":
        cluster.remove_node(node, allow_graceful=False)
    print("done", flush=True)
cluster.shutdown()
"""


@contextmanager
def nodes(run: Run) -> Iterator[tuple[str, Callable[[str], None]]]:
    """Start a head without processors; yields where it listens, and how to add and kill a node."""
    process = subprocess.Popen(
        [sys.executable, "-c", NODES],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "LIGHTSWEEP_TEST_MARK": run.mark, "RAY_AUTH_MODE": "disabled"},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def tell(word: str) -> None:
        print(word, file=stdin, flush=True)
        assert "done\n" in stdout

    try:
        yield next(line for line in stdout if line.startswith("address ")).split()[1], tell
    finally:
        process.communicate(timeout=60)


def start(run: Run, address: str, *arguments: str) -> subprocess.Popen[str]:
    return run.start("--address", address, "--insecure", *arguments)


def test_an_empty_cluster_is_waited_for(short_folder: Path) -> None:
    run = Run(short_folder, SWEEP)
    with nodes(run) as (address, tell):
        process = start(run, address)
        assert process.stdout is not None
        said = next(line for line in process.stdout if "waiting for" in line)
        assert (
            "waiting for a node with 1 CPU, which one trial takes; the cluster has no CPU and no GPU (its "
            "autoscaler, if any, has been asked)"
        ) in said
        tell("add")
        output = process.communicate(timeout=240)[0]
        assert process.returncode == 0, output
        assert "Ray is up: 2 trials at a time" in output
    run.await_silence()
    assert run.table("trials").status.tolist() == ["completed"] * 4


def test_a_trial_whose_node_is_lost_too_often_is_recorded_with_its_name(short_folder: Path) -> None:
    """Once is too often here; the next run goes on and ends like any other."""
    run = Run(short_folder, SWEEP)
    with nodes(run) as (address, tell):
        tell("add")
        process = start(run, address, "--set", "resources.retries=0")
        run.await_worker(process)
        time.sleep(2.5 * REPORT_SECONDS)  # until the first word of a trial, which says where it is
        tell("kill")
        tell("add")
        output = process.communicate(timeout=240)[0]
        assert process.returncode == 1, output
        trials = run.table("trials")
        lost = trials[trials.status == "failed"]
        assert 1 <= len(lost) <= 2
        assert len(trials) == 4
        host = os.uname().nodename
        assert lost.host.tolist() == [host] * len(lost)
        assert lost.error.str.startswith(f"its worker on {host} was lost").all(), lost.error.tolist()
        process = start(run, address)
        output = process.communicate(timeout=240)[0]
        assert process.returncode == 0, output
    run.await_silence()
    assert run.table("trials").status.tolist() == ["completed"] * 4
    assert run.table("trials").trial_id.is_unique


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001"])
def test_rays_client_protocol_is_refused_with_the_way_that_works(short_folder: Path, address: str) -> None:
    run = Run(short_folder, SWEEP)
    output = run.to_the_end("--address", address, status=2)
    assert "run it on the head: ray exec cluster.yaml" in output


def test_more_waiting_trials_than_ray_takes_calls_at_a_time_hold_nothing_up(short_folder: Path) -> None:
    """1,100 wait for a stage that one makes: Ray's own limit is 1,000 calls, the result's among them."""
    done = subprocess.run(
        [sys.executable, "-c", WAITING, short_folder],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.split() == ["put", "1100"], done.stderr


WAITING = """
import sys
from pathlib import Path
import ray
from lightsweep.distributed.attach import cluster
from lightsweep.distributed.launch import start_broker
from lightsweep.stagefile import StageResult
with cluster(None, Path(sys.argv[1]) / "scratch", False):
    broker, key = start_broker(Path(sys.argv[1]) / "store", False, Path("data")), "ab" * 32
    ray.get(broker.claim.remote(key, "maker"))
    calls = [broker.claim.remote(key, str(number)) for number in range(1100)]
    ray.get(broker.put.remote(key, "maker", StageResult({}).to_bytes()), timeout=120)
    print("put")
    print(sum(reply.result is not None for reply in ray.get(calls, timeout=120)))
"""
