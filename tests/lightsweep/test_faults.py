"""Runs that are killed, starved and interrupted: each goes on to what an undisturbed run gives, bit for bit.

Real processes, real Ray, real images. The short form kills one run in each way; the long form, with
`pytest -m campaign`, kills 24 at random moments on MNIST.
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from lightsweep.stagefile import StageResult
from lightsweep.store import CHECKPOINT, RESULT

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
MNIST = DIGITS.replace("name: digits, validation: 288", "name: mnist, validation: 500, train_limit: 1500")
TRIALS = 6
WORKER, BROKER = "ray::ResourceTrainable", "ray::Broker"
RAYS_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@dataclass
class Run:
    """A `lightsweep run` in a process group of its own, with a folder of its own for temporary files."""

    folder: Path
    sweep: str
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        (self.folder / "tmp").mkdir(exist_ok=True)
        (self.folder / "sweep.yaml").write_text(self.sweep)
        marks = {"LIGHTSWEEP_TEST_MARK": self.mark, "TMPDIR": str(self.folder / "tmp")}
        return subprocess.Popen(
            [sys.executable, "-m", "lightsweep", "run", "sweep.yaml", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **marks, **environment},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
        )

    def to_the_end(self, *arguments: str, status: int = 0, **environment: str) -> str:
        process = self.start(*arguments, **environment)
        output = process.communicate(timeout=240)[0]
        assert process.returncode == status, output
        self.await_silence()
        return output

    def processes(self) -> dict[int, str]:
        """All processes that this run started, or that they started, by number: their command lines."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and self.mark.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def await_silence(self) -> None:
        """Wait until none is left, as they must without anybody's help.

        Two of Ray's own agents try for a minute to tell a killed cluster's dead server that it is dead
        (ray/_private/process_watcher.py) and end then; they are not waited for.
        """
        for _ in range(300):
            left = {n: c for n, c in self.processes().items() if not c.startswith(RAYS_AGENTS)}
            if not left:
                return
            time.sleep(0.1)
        pytest.fail(f"stray processes: {left}")

    def kill(self, name: str) -> None:
        """Kill a process of this name, if there is one."""
        for number, command in self.processes().items():
            if command.startswith(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
                return

    def await_worker(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None and WORKER not in "".join(self.processes().values()):
            time.sleep(0.05)

    def await_results(self, process: subprocess.Popen[str], count: int) -> None:
        while process.poll() is None and len(self.results) < count:
            time.sleep(0.02)

    @property
    def results(self) -> dict[str, Path]:
        return {path.stem: path for path in (self.folder / "runs/.stages").rglob(f"*{RESULT}")}

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / f"runs/killed/{name}.parquet")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short path: Ray's sockets stand in it."""
    folder = Path(tempfile.mkdtemp(prefix="ls"))
    yield folder
    shutil.rmtree(folder)


def undisturbed(sweep: str) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="ls") as folder:
        run = Run(Path(folder), sweep)
        run.to_the_end()
        yield run


@pytest.fixture(scope="module")
def digits_run() -> Iterator[Run]:
    yield from undisturbed(DIGITS)


@pytest.fixture(scope="module")
def mnist_run() -> Iterator[Run]:
    yield from undisturbed(MNIST)


def weights(run: Run) -> dict[str, bytes]:
    found = {}
    for key, path in run.results.items():
        result = StageResult.from_bytes(path.read_bytes())
        found[key] = b"".join(tensor.numpy().tobytes() for tensor in result.weights.values())
    return found


def assert_as_if_undisturbed(run: Run, reference: Run) -> None:
    """Check that each trial is recorded once, to the bit like an undisturbed run's, and nothing is left."""
    trials, expected = run.table("trials"), reference.table("trials")
    assert trials.status.tolist() == ["completed"] * TRIALS
    assert trials.trial_id.tolist() == expected.trial_id.tolist()
    for column in ("val_accuracy", "test_accuracy", "train_accuracy", "result_key"):
        assert trials[column].tolist() == expected[column].tolist()
    journal = [json.loads(line)["trial"] for line in (run.folder / "runs/killed/journal.jsonl").open()]
    assert len(journal) == TRIALS, [(row["trial_id"], row["status"], row["error"]) for row in journal]
    pd.testing.assert_frame_equal(
        run.table("epochs").drop(columns="seconds"), reference.table("epochs").drop(columns="seconds")
    )
    assert weights(run) == weights(reference)
    made = run.table("stages").query("origin != 'stored'").key
    assert made.is_unique
    assert_nothing_left(run)


def assert_nothing_left(run: Run) -> None:
    files = [path for path in (run.folder / "runs").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".tmp", CHECKPOINT) or ".tune" in path.parts]
    temporary = [path for path in (run.folder / "tmp").rglob("*") if path.is_file() or path.is_socket()]
    assert not temporary


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


Kill = Callable[[Run, subprocess.Popen[str]], None]
KILLS: dict[str, Kill] = {
    "launcher": kill_launcher, "worker": kill_worker, "both": kill_both,
    "group": kill_group, "broker": kill_broker,
}  # fmt: skip


def kill_and_go_on(
    folder: Path, reference: Run, kill: Kill, await_moment: Callable[[Run, subprocess.Popen[str]], None]
) -> None:
    """Kill a run at some moment, then run to the end and compare."""
    run = Run(folder, reference.sweep)
    process = run.start()
    await_moment(run, process)
    if process.poll() is None:
        kill(run, process)
    output = process.communicate(timeout=240)[0]
    stored = {key: path.stat() for key, path in run.results.items()}
    output += run.to_the_end()
    for key, before in stored.items():
        after = run.results[key].stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), output
    assert_as_if_undisturbed(run, reference)


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_a_killed_run_goes_on_to_the_same_bits(short_folder: Path, digits_run: Run, kill: Kill) -> None:
    kill_and_go_on(short_folder, digits_run, kill, lambda run, process: run.await_results(process, 4))


@pytest.mark.campaign
@pytest.mark.data
@pytest.mark.parametrize(
    ("number", "name"), list(enumerate(itertools.islice(itertools.cycle(KILLS), 25))), ids=str
)
def test_campaign(short_folder: Path, mnist_run: Run, number: int, name: str) -> None:
    after_seconds = random.uniform(0, 12)
    print(f"{name}, {after_seconds:.2f} s after the first worker")

    def await_moment(run: Run, process: subprocess.Popen[str]) -> None:
        run.await_worker(process)
        time.sleep(after_seconds)

    kill_and_go_on(short_folder, mnist_run, KILLS[name], await_moment)
