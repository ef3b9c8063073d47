"""What `import lightsweep` and `import analysis` give a notebook; importing them changes nothing."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from forked import lightsweep as lightsweep_command
from waiting import HANGS_SECONDS

import analysis
import lightsweep

SWEEP = """
name: small
dataset: {name: digits, validation: 288, train_limit: 100}
seeds: 1
base: {model: {inputs: single, filters: [2], fusion: none}, stages: [{name: only, epochs: 1, loss: heads}]}
"""


def python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep file and its run."""
    folder = tmp_path_factory.mktemp("front")
    (folder / "sweep.yaml").write_text(SWEEP)
    assert lightsweep_command("run", "sweep.yaml", cwd=folder).returncode == 0
    return folder


def test_importing_loads_nothing_heavy_and_changes_nothing(tmp_path: Path) -> None:
    code = """
import os, signal, sys
before = dict(os.environ), [signal.getsignal(number) for number in signal.valid_signals()]
import lightsweep, analysis
heavy = {"torch", "ray", "pandas", "plotly", "optuna", "pydantic", "rich"} & set(sys.modules)
assert not heavy, heavy
import lightsweep.cli.main, lightsweep.distributed.on_ray, lightsweep.runs.run
assert before == (dict(os.environ), [signal.getsignal(number) for number in signal.valid_signals()])
"""
    python(code, tmp_path)


@pytest.mark.parametrize("package", [lightsweep, analysis])
def test_every_public_name_is_there(package: ModuleType) -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None


def test_no_other_name_is_there() -> None:
    absent = "nothing"
    with pytest.raises(AttributeError, match="module 'lightsweep' has no attribute 'nothing'"):
        getattr(lightsweep, absent)


def test_exceptions_are_one_tree() -> None:
    for error in (lightsweep.WriteError, lightsweep.MachineError, lightsweep.LostError):
        assert issubclass(error, lightsweep.InputError)


def test_a_sweep_is_loaded_and_planned(folder: Path) -> None:
    sweep = lightsweep.load_sweep(folder / "sweep.yaml", ["seeds=3"])
    planned = lightsweep.plan(sweep)
    assert [trial.seed for trial in planned.trials] == [0, 1, 2]
    assert planned.costs[planned.trials[0].trial_id].parameters > 0
    with pytest.raises(lightsweep.InputError, match="sede"):
        lightsweep.load_sweep(folder / "sweep.yaml", ["sede=3"])


def test_a_run_is_opened(folder: Path) -> None:
    run = lightsweep.open_run(folder / "runs/small")
    records = run.journal.records()
    assert run.sweep() == lightsweep.load_sweep(folder / "sweep.yaml")
    assert list(records) == [trial["trial_id"] for trial in run.plan.trials()]
    assert {found.trial["status"] for found in records.values()} == {"completed"}
    with pytest.raises(lightsweep.InputError, match="not a run's folder"):
        lightsweep.open_run(folder)


@pytest.mark.slow
def test_a_run_works_in_another_thread_than_the_main_one_as_in_a_notebook(folder: Path) -> None:
    """Twice, on real Ray; standard error is no file there. The second run trains nothing."""
    code = """
import io, signal, sys, threading
import lightsweep
handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
shown = sys.stderr = io.StringIO()
found = []
def work():
    for _ in range(2):
        found.append(lightsweep.run("sweep.yaml", out="of-thread"))
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
assert sys.stderr is shown
found.append(lightsweep.run("sweep.yaml", out="of-main-thread"))
assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
print("result:", [(one.completed, len(one.failed), one.interrupted) for one in found])
"""
    assert "result: [(1, 0, False), (1, 0, False), (1, 0, False)]" in python(code, folder)
