"""The contract with Ray Tune: a run, a search's rungs, a lost worker, a lost broker, signals, a full disk.

What a run gives on Ray must be what it gives in one process without Ray, bit for bit. Each test starts a Ray
cluster of this machine, as `lightsweep run` does; where an order matters, trials wait at a gate.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from forked import INTERRUPTED, lightsweep, start_training
from gates import pretend_another_lightsweep
from marked import BROKER, WORKER
from mounting import mounted
from ray_processes import RayRun
from run_reading import assert_as_if_undisturbed, journal, results, table, told
from studies import assert_whole
from waiting import HANGS_SECONDS

import lightsweep as lightsweep_package

SWEEP: dict[str, Any] = {
    "name": "killed",
    "dataset": {"name": "digits", "validation": 100, "train_limit": 200},
    "seeds": 1,
    "base": {
        "model": {"filters": [2, 3]},
        "stages": {"preset": "paper", "epochs": {"dual": 3, "fusion": 1, "finetune": 1}, "patience": None},
    },
    "grid": {"model.filters": [[2, 3], [3, 4]], "stages.preset": ["paper", "all-at-once"]},
    "resources": {"checkpoint_seconds": 0, "cpus": os.cpu_count()},  # one trial at a time
}
SEARCH: dict[str, Any] = {
    **{key: value for key, value in SWEEP.items() if key != "grid"},
    "search": {
        "space": {
            "model.hidden": {"low": 4, "high": 12},
            "stages.lr": {"low": 1e-4, "high": 1e-2, "log": True},
            "model.filters": [[2, 3], [3, 4], [65536, 65536]],  # the last is a net of 154 GB
        },
        "trials": 8,
        "early_stopping": {"first": 2, "factor": 2},
        "confirmation": None,
    },
}


def write(folder: Path, sweep: dict[str, Any]) -> None:
    (folder / "sweep.yaml").write_text(json.dumps(sweep))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without Ray."""
    folder: Path = tmp_path_factory.mktemp("undisturbed")
    write(folder, SWEEP)
    done = start_training(folder).end()
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def run(short_folder: Path) -> RayRun:
    write(short_folder, SWEEP)
    return RayRun(short_folder)


def test_a_search_that_loses_a_worker_and_its_broker(run: RayRun) -> None:
    """As a user starts it: losses cost only time, and nothing else is heard of Ray.

    Trials are stopped at rungs, one that raises costs only itself, one whose worker is lost is tried again,
    and a broker that begins anew knows what the store holds.
    """
    write(run.folder, SEARCH)
    child = run.start_command("run", "sweep.yaml")
    run.await_waiting(1, child)
    run.kill(WORKER)
    run.kill(BROKER)
    run.open_gate()
    done = child.end()
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    ended, lines = told(done.stdout)
    rows = table(run.folder, "trials").set_index("trial_id")
    failed = rows.query("status == 'failed'")
    assert 1 <= len(failed) <= 6
    assert failed.error.str.contains("can't allocate memory").all()
    assert ended == [f"[{number}" for number in range(1, len(rows) + 1)]
    assert lines[0] == "killed: a search, 0% already done"
    assert lines[1].startswith("Ray is up: ")
    (lost,) = [line for line in lines if line.endswith("was lost; the trial is retried")]
    assert " (seed 1000): its worker" in lost
    assert [line for line in lines if line.startswith("failed: ")] == lines[-len(failed) :]
    assert lines[-len(failed) - 1] == "report: runs/killed/report.html"
    run.await_silence()
    assert_whole(run.folder, 8)
    stopped = rows.query("status == 'early_stopped'")
    assert len(stopped) >= 1
    assert set(stopped.epochs_trained) <= {2, 4}  # the rungs
    completed = rows.query("status == 'completed'")
    assert (completed.epochs_trained == 5).all()
    epochs = table(run.folder, "epochs").groupby("trial_id").size()
    assert (epochs[stopped.index] == stopped.epochs_trained).all()
    tried_again = rows.index[rows.arm == lost.split(" (")[0]][0]
    for trial_id in {tried_again, stopped.index[0], completed.index[0]}:  # trained again without Ray
        verified = lightsweep("verify", "runs/killed", trial_id, cwd=run.folder)
        assert "confirmed: bit-equal" in verified.stdout, verified.stdout + verified.stderr


SIGNALS = {
    "SIGTERM, then Ctrl-C": pytest.param([signal.SIGTERM, signal.SIGINT]),
    "Ctrl-C twice": pytest.param([signal.SIGINT, signal.SIGINT], marks=pytest.mark.slow),
    "SIGTERM": pytest.param([signal.SIGTERM], marks=pytest.mark.slow),
}


@pytest.mark.parametrize("signals", SIGNALS.values(), ids=SIGNALS)
def test_an_interrupted_run_ends_with_its_cluster_and_goes_on(
    run: RayRun, undisturbed: Path, signals: list[signal.Signals]
) -> None:
    child = run.start()
    run.await_waiting(1, child)
    for number in signals:
        child.send(number)
    done = child.end()
    assert done.returncode == INTERRUPTED, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    run.await_silence()
    assert journal(run.folder) == []
    again = start_training(run.folder).end()
    assert again.returncode == 0, again.stdout + again.stderr
    assert_as_if_undisturbed(run.folder, undisturbed)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_one_error_and_loses_nothing(run: RayRun, undisturbed: Path) -> None:
    with mounted(run.folder / "runs", "size=200k") as remount:
        run.open_gate()
        done = run.start_command("run", "sweep.yaml").end()
        assert done.returncode == 3, done.stdout + done.stderr
        (error,) = done.stderr.splitlines()
        assert error.startswith("error: ")
        assert "cannot be written (No space left on device)" in error
        assert error.endswith("records are kept; run the same command again to continue")
        stored = set(results(run.folder))
        assert stored
        remount("size=100m")
        again = start_training(run.folder).end()
        assert again.returncode == 0, again.stdout + again.stderr
        assert stored <= set(results(run.folder))
        assert_as_if_undisturbed(run.folder, undisturbed)
    run.await_silence()


PARTS = {
    "raylet": pytest.param("/raylet/raylet ", "this node's raylet no longer responds"),
    "head": pytest.param("/gcs_server ", "its head (GCS) no longer responds", marks=pytest.mark.slow),
    "agent": pytest.param("ray::DashboardAgent", "", marks=pytest.mark.slow),
    "other agent": pytest.param("ray::RuntimeEnvAgent", "", marks=pytest.mark.campaign),
}


@pytest.mark.parametrize(("part", "reason"), PARTS.values(), ids=PARTS)
def test_a_part_of_ray_that_is_gone_is_one_line_and_the_same_command_goes_on(
    run: RayRun, undisturbed: Path, part: str, reason: str
) -> None:
    child = run.start_command("run", "sweep.yaml")
    run.await_waiting(1, child)
    found: list[int] = []

    def is_seen() -> bool:
        """Ray's agents get their names late, which may overwrite the mark in their environment."""
        for process in psutil.Process(child.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found.extend([process.pid] * (part in " ".join([*process.cmdline(), ""])[:200]))
        return bool(found)

    child.await_state(is_seen)
    os.kill(found[0], signal.SIGKILL)
    done = child.end()
    assert done.returncode == 3, done.stdout + done.stderr
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert reason in error
    assert error.endswith("; records are kept; run the same command again to continue")
    run.await_silence()
    assert not [row for row in journal(run.folder) if row["status"] == "failed"]
    again = start_training(run.folder).end()
    assert again.returncode == 0, again.stdout + again.stderr
    assert_as_if_undisturbed(run.folder, undisturbed)


OTHER_CODE = {
    "changed": pytest.param(
        "training/chain.py", "metrics: dict[str, Any] = {", "metrics: dict[str, Any] = {'x': 0.123, "
    ),
    "broken": pytest.param("__init__.py", None, "raise RuntimeError('broken')", marks=pytest.mark.slow),
}


@pytest.mark.parametrize(("file", "old", "new"), OTHER_CODE.values(), ids=OTHER_CODE)
def test_the_installed_command_trains_with_its_own_code_wherever_it_is_called(
    run: RayRun, undisturbed: Path, file: str, old: str | None, new: str
) -> None:
    """Inside another checkout, say: Ray puts the current folder first on its workers' path."""
    other = Path(shutil.copytree(Path(lightsweep_package.__file__).parent, run.folder / "lightsweep"))
    text = (other / file).read_text()
    assert old is None or old in text
    (other / file).write_text(new if old is None else text.replace(old, new))
    command = Path(sys.executable).with_name("lightsweep")
    done = subprocess.run(
        [command, "run", "sweep.yaml"], cwd=run.folder, env={**os.environ, **run.marks},
        capture_output=True, text=True, timeout=HANGS_SECONDS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    run.await_silence()
    assert_as_if_undisturbed(run.folder, undisturbed)


@pytest.mark.slow
def test_nodes_of_other_code_are_refused_before_anything_is_trained(run: RayRun) -> None:
    done = run.start(prepare=pretend_another_lightsweep).end()
    assert "its workers have a different lightsweep (in " in done.stderr, done.stdout + done.stderr
    assert "install the same versions on all nodes" in done.stderr
    assert not journal(run.folder)


@pytest.mark.slow
def test_a_ray_that_does_not_start_is_one_line(run: RayRun) -> None:
    """Its own command line has no help where Python is told to leave docstrings out."""
    command = Path(sys.executable).with_name("lightsweep")
    done = subprocess.run(
        [command, "run", "sweep.yaml"], cwd=run.folder,
        env={**os.environ, **run.marks, "PYTHONOPTIMIZE": "2"}, capture_output=True, text=True,
        timeout=HANGS_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: Ray does not start here (Exception: ")
    assert not journal(run.folder)
