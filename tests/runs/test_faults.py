"""Runs that are killed, starved and interrupted: each goes on to what an undisturbed run gives, bit for bit.

Real processes, real Ray, real images. The short form kills one run in each way; the long form, with
`pytest -m campaign`, kills 50 at random moments on MNIST.
"""

import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from marked import BROKER, WORKER
from mounting import mounted
from run_reading import assert_as_if_undisturbed, left_behind, weights
from runs_to_kill import PlainRun, Run
from small_images import SPEC, write_images
from waiting import HANGS_SECONDS

from lightsweep.cli.shared import LOST

DIGITS = """
name: killed
dataset: {name: digits, validation: 288}
seeds: 2
base:
  model: {filters: [6, 12]}
  stages: {preset: paper, epochs: {dual: 8, fusion: 3, finetune: 4}, patience: null}
grid:
  stages.preset: [paper, gradual, all-at-once]
resources: {checkpoint_seconds: 0}
"""
TINY = {
    "name": "killed",
    "dataset": SPEC,
    "seeds": 1,
    "base": {"stages": {"preset": "paper", "epochs": {"dual": 2, "fusion": 1, "finetune": 1}}},
    "grid": {"model.filters": [[2, 3], [3, 4]]},
}
MNIST = DIGITS.replace("name: digits, validation: 288", "name: mnist, validation: 500, train_limit: 1500")
TRIALS = 6


def undisturbed(sweep: str) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="ls") as folder:
        run = PlainRun(Path(folder), sweep)
        run.to_the_end()
        assert run.table("trials").status.tolist() == ["completed"] * TRIALS
        assert left_behind(run.folder) == set()
        yield run


@pytest.fixture(scope="module")
def digits_run() -> Iterator[Run]:
    yield from undisturbed(DIGITS)


@pytest.fixture(scope="module")
def mnist_run() -> Iterator[Run]:
    yield from undisturbed(MNIST)


def kill_launcher(_: Run, process: subprocess.Popen[str]) -> None:
    process.kill()


def kill_worker(run: Run, _: subprocess.Popen[str]) -> None:
    run.kill(WORKER)


def kill_both(run: Run, process: subprocess.Popen[str]) -> None:
    run.kill(WORKER)
    process.kill()


def kill_group(_: Run, process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def kill_broker(run: Run, _: subprocess.Popen[str]) -> None:
    run.kill(BROKER)


def kill_part(part: str) -> "Kill":
    """Kill a process of Ray, or of the run, whose command line has this in its beginning."""

    def kill(run: Run, process: subprocess.Popen[str]) -> None:
        for number, command in run.processes().items():
            if part in command[:200] and number != process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
                return

    return kill


Kill = Callable[[Run, subprocess.Popen[str]], None]
KILLS: dict[str, tuple[Kill, int]] = {
    "launcher": (kill_launcher, -signal.SIGKILL),
    "worker": (kill_worker, 0),
    "both": (kill_both, -signal.SIGKILL),
    "group": (kill_group, -signal.SIGKILL),
    "broker": (kill_broker, 0),
    "run": (kill_part("-m lightsweep run"), LOST),
    "raylet": (kill_part("/raylet/raylet "), LOST),
    "head": (kill_part("/gcs_server "), LOST),
    "agent": (kill_part("ray::DashboardAgent"), LOST),
    "other agent": (kill_part("ray::RuntimeEnvAgent"), LOST),
}
"""What is killed, and the exit status of the run that was under way."""


def kill_and_go_on(
    folder: Path, reference: Run, name: str, await_moment: Callable[[Run, subprocess.Popen[str]], None]
) -> None:
    """Kill a run at some moment, then run to the end and compare."""
    run = Run(folder, reference.sweep)
    process = run.start()
    await_moment(run, process)
    kill, status = KILLS[name]
    if process.poll() is None:
        kill(run, process)
    output = process.communicate(timeout=HANGS_SECONDS)[0]
    assert process.returncode in (status, 0), output  # 0: it was at its end
    assert "Traceback" not in output
    assert process.returncode != LOST or output.count("\nerror: ") == 1
    stored = {key: path.stat() for key, path in run.results.items()}
    output += run.to_the_end()
    for key, before in stored.items():
        after = run.results[key].stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), output
    assert_as_if_undisturbed(run.folder, reference.folder)


@pytest.mark.slow
def test_a_run_whose_every_process_is_killed_goes_on_to_the_same_bits(
    short_folder: Path, digits_run: Run
) -> None:
    kill_and_go_on(short_folder, digits_run, "group", lambda run, process: run.await_results(process, 4))


class TestTroubles:
    def test_a_store_that_must_not_be_written_is_said_before_ray_starts(self, short_folder: Path) -> None:
        run = PlainRun(short_folder, DIGITS)
        with mounted(short_folder / "runs", "ro"):
            output = run.to_the_end(status=2)
        assert output == (
            "error: runs/.stages: cannot be written (Read-only file system); --out says where runs go\n"
        )

    def test_damaged_entries_and_a_cut_journal_cost_only_themselves(self, tmp_path: Path) -> None:
        """One result is cut in half, another has a flipped bit, the journal's last line is cut."""
        run = PlainRun(tmp_path / "run", json.dumps(TINY))
        write_images(run.folder / "images.npz")
        run.to_the_end()
        undisturbed_run = PlainRun(tmp_path / "undisturbed", run.sweep)
        shutil.copytree(run.folder, undisturbed_run.folder)
        by_name = run.table("stages").drop_duplicates("stage").set_index("stage").key
        cut, flipped = run.results[by_name["dual"]], run.results[by_name["fusion"]]
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
        data = bytearray(flipped.read_bytes())
        data[len(data) // 2] ^= 8
        flipped.write_bytes(data)
        journal = run.folder / "runs/killed/journal.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text(lines[-1][: len(lines[-1]) // 2])
        output = run.to_the_end()
        assert output.count("line 1 is damaged and skipped") == 1
        for path in (cut, flipped):
            assert output.count(f"{path.name} is discarded and trained again: its checksum") == 1, output
        made = set(run.table("stages").query("origin != 'stored'").key)
        assert made == {cut.stem, flipped.stem}
        assert weights(run.folder) == weights(undisturbed_run.folder)
        trials = [each.table("trials").test_accuracy for each in (run, undisturbed_run)]
        pd.testing.assert_series_equal(*trials)

    @pytest.mark.slow
    def test_workers_without_memory_fail_trials_with_the_reason_and_the_run_goes_on(
        self, short_folder: Path, digits_run: Run
    ) -> None:
        """All workers may have no more memory than they have when the first results are stored."""
        run = Run(short_folder, DIGITS)
        process = run.start()
        run.await_results(process, 3)
        for number, command in run.processes().items():
            if command.startswith(WORKER):
                pages = int(Path(f"/proc/{number}/statm").read_text().split()[0])
                limit = pages * os.sysconf("SC_PAGE_SIZE")
                resource.prlimit(number, resource.RLIMIT_AS, (limit, limit))
        output = process.communicate(timeout=HANGS_SECONDS)[0]
        failed = run.table("trials").query("status == 'failed'")
        assert process.returncode == (1 if len(failed) else 0), output
        assert "Traceback" not in output
        run.to_the_end()
        assert run.table("trials").status.tolist() == ["completed"] * TRIALS
        assert weights(run.folder) == weights(digits_run.folder)
        assert left_behind(run.folder) == set()

    @pytest.mark.slow
    def test_a_clock_that_is_set_back_loses_nothing(self, short_folder: Path, digits_run: Run) -> None:
        """Between two runs by a year, and again and again by an hour while the second one runs."""
        run = Run(short_folder, DIGITS.replace("all-at-once]", "all-at-once, frozen]"))
        shutil.copytree(digits_run.folder / "runs", short_folder / "runs")
        future = time.time() + 365 * 86_400
        for path in (short_folder / "runs").rglob("*"):
            os.utime(path, (future, future))
        before = run.results
        (short_folder / "sitecustomize.py").write_text(BACKWARDS)
        output = run.to_the_end(PYTHONPATH=os.pathsep.join([str(short_folder), *filter(None, sys.path)]))
        assert "6 already done" in output
        assert run.table("trials").status.tolist() == ["completed"] * (TRIALS + 2)
        made = run.table("stages").query("origin != 'stored'")
        assert set(made[made.arm == "preset frozen"].key) == set(run.results) - set(before)
        assert (run.table("epochs").seconds >= 0).all()
        assert (run.table("trials").seconds >= 0).all()

    @pytest.mark.slow
    def test_workers_need_no_folder_of_their_own(self, short_folder: Path, digits_run: Run) -> None:
        """Trials run on a second raylet whose working folder is read-only, and then gone."""
        run = Run(short_folder, DIGITS)
        there, script, temporary = (short_folder / name for name in ("there", "cluster.py", "tmp"))
        temporary.mkdir()
        script.write_text(CLUSTER)
        with mounted(there, "ro"):
            cluster = subprocess.Popen(
                [sys.executable, script, there],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **run.marks},
            )
            assert cluster.stdout is not None
            try:
                address = next(line for line in cluster.stdout if line.startswith("address ")).split()[1]
                process = run.start("--address", address, "--insecure")
                run.await_results(process, 2)
                subprocess.run(["umount", "--lazy", there], check=True)
                there.rmdir()
                output = process.communicate(timeout=HANGS_SECONDS)[0]
                assert process.returncode == 0, output
            finally:
                cluster.communicate("\n", timeout=HANGS_SECONDS)
        run.await_silence()
        assert weights(run.folder) == weights(digits_run.folder)


CLUSTER = """
import os, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
os.chdir(sys.argv[1])
cluster.add_node(num_cpus=2)
os.chdir("/")
print("address", cluster.address, flush=True)
input()
cluster.shutdown()
"""

BACKWARDS = """
import time
started, real = time.monotonic(), time.time
time.time = lambda: real() - 3600 * int((time.monotonic() - started) / 2)
"""


@pytest.mark.campaign
@pytest.mark.data
@pytest.mark.parametrize(
    ("number", "name"), list(enumerate(itertools.islice(itertools.cycle(KILLS), 50))), ids=str
)
def test_campaign(short_folder: Path, mnist_run: Run, number: int, name: str) -> None:
    after_seconds = random.Random(number).uniform(0, 12)
    print(f"{name}, {after_seconds:.2f} s after the first worker")

    def await_moment(run: Run, process: subprocess.Popen[str]) -> None:
        run.await_worker(process)
        time.sleep(after_seconds)

    kill_and_go_on(short_folder, mnist_run, name, await_moment)
