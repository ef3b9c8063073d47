"""A sweep on a real Ray cluster: launched, secured, surviving.

Three hosts on this machine (hosts.sh), each with its own network, process tree, home and sshd, are launched
with `ray up` and the project's own cluster-local.yaml. Needs root and Debian's iproute2,
openssh-server and rsync.
"""

import concurrent.futures
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from giving_up import give_up
from three_hosts import CPUS, HOSTS, ThreeHosts, address
from waiting import HANGS_SECONDS, wait_until

pytestmark = pytest.mark.cluster

SWEEP = f"""
name: spread
dataset: {{name: digits, validation: 288}}
seeds: 2
base:
  model: {{net: net.py:build, inputs: dual, fusion: conv1x1}}
  stages: {{preset: paper, epochs: {{dual: 8, fusion: 3, finetune: 4}}, patience: null}}
grid:
  model.width: [4, 5, 6, 7]
resources: {{cpus: {CPUS}}}
"""
NET = """
from torch import nn
from blocks import block

def build(shape, classes, *, width: int = 4):
    blocks = block(shape[0], width), block(width, 2 * width)
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(50 * width, classes))
"""
BLOCKS = """
from torch import nn

def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3), nn.MaxPool2d(2), nn.ReLU())
"""
FILES = {"sweep.yaml": SWEEP, "net.py": NET, "blocks.py": BLOCKS}
"""The net is the user's own; its files stand on the head and on the laptop alone."""
TRIALS = 8


@pytest.fixture(scope="module")
def cluster() -> Iterator[ThreeHosts]:
    """A running cluster; whatever happens, nothing of it is left afterwards."""
    lacking = [
        name for name in ("ip", "sshd", "rsync", "ssh") if not shutil.which(name, path="/usr/sbin:/usr/bin")
    ]
    reason = f"needs {', '.join(lacking)}" if lacking else "needs root" if os.geteuid() else None
    if reason:
        give_up(reason)
    with (
        tempfile.TemporaryDirectory(prefix="ls") as folder,
        Path(tempfile.gettempdir(), "lightsweep-hosts.lock").open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)  # the hosts' names and addresses are there but once
        hosts = ThreeHosts(Path(folder))
        hosts.down()  # what a killed test left
        try:
            hosts.up()
            for name, text in FILES.items():
                (hosts.folder / name).write_text(text)
                hosts.ray("rsync-up", hosts.file, hosts.folder / name, f"~/{name}")
            yield hosts
        finally:
            hosts.down()


@pytest.fixture(scope="module")
def undisturbed(cluster: ThreeHosts) -> pd.DataFrame:
    """The trials of the same sweep on this machine alone."""
    folder = cluster.folder / "alone"
    command = ["lightsweep", "run", cluster.folder / "sweep.yaml", "--out", folder]
    done = subprocess.run(
        command, env=cluster.environment, capture_output=True, text=True, timeout=HANGS_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return pd.read_parquet(folder / "spread/trials.parquet")


def run(out: str) -> str:
    return f"lightsweep run sweep.yaml --address auto --out {out}"


def recorded(cluster: ThreeHosts, out: str) -> int:
    """How many trials the head has recorded."""
    journal = cluster.home(1) / out / "spread/journal.jsonl"
    return journal.read_text().count("\n") if journal.exists() else 0


def await_recorded(cluster: ThreeHosts, out: str, count: int) -> None:
    wait_until(lambda: recorded(cluster, out) >= count)


def assert_as_if_undisturbed(folder: Path, undisturbed: pd.DataFrame) -> pd.DataFrame:
    """Check that each trial is recorded once, with what it gives on one machine, and reported."""
    trials = pd.read_parquet(folder / "spread/trials.parquet")
    assert trials.status.tolist() == ["completed"] * TRIALS, trials[["trial_id", "host", "error"]].to_string()
    columns = ["trial_id", "val_accuracy", "test_accuracy", "train_accuracy", "result_key"]
    pd.testing.assert_frame_equal(trials[columns], undisturbed[columns])
    assert (folder / "spread/report.html").stat().st_size > 10_000
    return trials


def test_a_sweep_is_spread_over_all_hosts_and_fetched_back(
    cluster: ThreeHosts, undisturbed: pd.DataFrame
) -> None:
    """And workers write nothing into their homes; code goes to them, and results come back, by value."""
    written = {host: sorted(cluster.home(host).rglob("*")) for host in (2, 3)}
    cluster.start(run("runs")).end()
    fetched = cluster.folder / "fetched"
    fetched.mkdir()
    cluster.ray("rsync-down", cluster.file, "~/runs/", fetched)
    trials = assert_as_if_undisturbed(fetched, undisturbed)
    assert trials.host.nunique() > 1  # all of them, if none is slow to start its workers
    assert {host: sorted(cluster.home(host).rglob("*")) for host in (2, 3)} == written


def test_a_job_from_a_laptop_runs_on_the_head(cluster: ThreeHosts, undisturbed: pd.DataFrame) -> None:
    """Through a tunnel, and not without the token. Its stages are the sweep's above: look-ups."""
    job = "lightsweep run ~/sweep.yaml --address auto --out ~/runs --set name=job"
    with cluster.tunnel() as place:
        submit = ("job", "submit", "--address", place, "--", "bash", "-c", job)
        with pytest.raises(AssertionError, match=r"(?i)unauthorized|authenticat"):
            cluster.ray(*submit, RAY_AUTH_MODE="disabled")
        output = cluster.ray(*submit, RAY_AUTH_MODE="token")
    assert f"{TRIALS} completed, 0 failed, 0 left" in output
    trials = pd.read_parquet(cluster.home(1) / "runs/job/trials.parquet")
    assert trials.test_accuracy.tolist() == undisturbed.test_accuracy.tolist()


def test_only_who_holds_the_token_gets_in_and_is_told_so(cluster: ThreeHosts) -> None:
    """From this machine, which is none of the hosts, and on a host of the cluster, behind any firewall."""
    other = cluster.folder / "wrong/.ray/auth_token"
    other.parent.mkdir(parents=True)
    other.write_text("0123456789abcdef" * 4)
    sweep, program = (
        cluster.folder / "sweep.yaml",
        shutil.which("lightsweep", path=cluster.environment["PATH"]),
    )
    attempt = f"cd /tmp && {program} run {sweep} --out /tmp/ray/refused --address {address(1)}:6379"
    nothing, wrong = f"HOME={cluster.folder / 'tmp'}", f"HOME={cluster.folder / 'wrong'}"

    def try_here(home: str) -> str:
        out = cluster.folder / home[-5:]
        command = f"export {home}; {attempt.replace('/tmp/ray/refused', str(out))}"
        done = subprocess.run(command, shell=True, env=cluster.environment, capture_output=True, text=True)
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stderr

    def try_there(home: str) -> str:
        return cluster.ssh(3, f"export {home}; {attempt}", status=2)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        tries = [pool.submit(do, home) for do in (try_here, try_there) for home in (nothing, wrong)]
        outputs = [each.result() for each in tries]
    for number, output in enumerate(outputs):
        assert ("the one set here is wrong" if number % 2 else "none is set here") in output, output
        assert "~/.ray/auth_token" in output
        assert "Traceback" not in output
        assert cluster.token not in output
    output = try_here(f"HOME={cluster.folder / 'home'}")  # which has the token
    assert "this machine is not one of the cluster's nodes" in output, output
    assert "ray exec cluster.yaml" in output
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address(1), 8265), timeout=5)  # the dashboard


def test_the_token_is_everywhere_nobody_elses_and_nowhere_else(cluster: ThreeHosts) -> None:
    for host in HOSTS:
        modes = cluster.ssh(host, "stat -c %a ~/.ray ~/.ray/auth_token; cat ~/.ray/auth_token")
        assert modes.split() == ["700", "600", cluster.token]
        assert not cluster.ssh(host, "grep -rlsFf ~/.ray/auth_token --devices=skip /tmp/ray", status=1)
        files = [path for path in cluster.home(host).rglob("*") if path.is_file() and not path.is_symlink()]
        found = [path for path in files if cluster.token.encode() in path.read_bytes()]
        assert [path.name for path in found] == ["auth_token"]
        assert cluster.token not in "".join(cluster.processes(host).values())


def test_a_host_that_is_cut_off_and_mended_costs_only_time(
    cluster: ThreeHosts, undisturbed: pd.DataFrame
) -> None:
    """Cut off in mid-sweep until Ray gives it up and its trial is tried again elsewhere."""
    command = cluster.start(run("cut"))
    try:
        await_recorded(cluster, "cut", 1)
        cluster.hosts("cut", 2)
        cluster.await_hosts(2)
    finally:
        cluster.hosts("mend", 2)
    command.end()
    assert_as_if_undisturbed(cluster.home(1) / "cut", undisturbed)


def test_a_host_that_dies_costs_only_time(cluster: ThreeHosts, undisturbed: pd.DataFrame) -> None:
    """All its processes are killed at once in mid-sweep; booted again, it takes part again by itself."""
    cluster.await_hosts(3)
    command = cluster.start(run("dead"))
    await_recorded(cluster, "dead", 1)
    cluster.hosts("kill", 3, cluster.folder)
    command.end()
    assert_as_if_undisturbed(cluster.home(1) / "dead", undisturbed)
    cluster.await_hosts(2)
    cluster.hosts("start", 3, cluster.folder)
    cluster.await_hosts(3)


def test_a_spot_host_that_is_taken_with_notice_counts_as_no_failure(
    cluster: ThreeHosts, undisturbed: pd.DataFrame
) -> None:
    """A trial may fail no single time here. The host hears of it as cluster.yaml has it listen on AWS."""
    cluster.await_hosts(3)
    cluster.give_notices(3, cluster.folder / "notice")
    command = cluster.start(run("spot") + " --set resources.retries=0")
    await_recorded(cluster, "spot", 1)
    (cluster.folder / "notice").write_text('{"action": "terminate"}')
    cluster.await_draining(3)
    cluster.hosts("kill", 3, cluster.folder)
    command.end()
    assert_as_if_undisturbed(cluster.home(1) / "spot", undisturbed)
    cluster.hosts("start", 3, cluster.folder)


def test_a_launcher_that_is_killed_goes_on_when_run_again(
    cluster: ThreeHosts, undisturbed: pd.DataFrame
) -> None:
    command = cluster.start(run("again"))
    await_recorded(cluster, "again", 2)
    cluster.kill_launcher()
    assert "Killed" in command.end(status=None) or command.process.returncode
    output = cluster.start(run("again")).end()
    assert "already done" in output
    assert_as_if_undisturbed(cluster.home(1) / "again", undisturbed)


def test_a_new_cluster_goes_on_where_a_dead_head_stopped(
    cluster: ThreeHosts, undisturbed: pd.DataFrame
) -> None:
    command = cluster.start(run("head"))
    await_recorded(cluster, "head", 2)
    cluster.hosts("kill", 1, cluster.folder)
    command.end(status=None)
    cluster.hosts("start", 1, cluster.folder)
    cluster.launch()
    output = cluster.start(run("head")).end()
    assert "already done" in output
    assert_as_if_undisturbed(cluster.home(1) / "head", undisturbed)


def test_every_host_has_trained(cluster: ThreeHosts) -> None:
    """In the runs above, all together: in a short one, a host may come too late."""
    tables = [pd.read_parquet(path) for path in cluster.home(1).glob("*/spread/trials.parquet")]
    assert set(pd.concat(tables).host) == {f"lsh{host}" for host in HOSTS}


def test_ray_down_leaves_no_process(cluster: ThreeHosts) -> None:
    """The workers' own notice within a minute that the head is gone."""
    cluster.ray("down", "-y", cluster.file)

    def left() -> dict[int, str]:
        return {number: command for host in HOSTS for number, command in cluster.processes(host).items()}

    wait_until(lambda: not left(), left)
