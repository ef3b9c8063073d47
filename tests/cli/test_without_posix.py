"""Where there are no POSIX locks, as on Windows: what only reads works, the rest says so in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
from forked import lightsweep

SWEEP = """
name: small
dataset: {name: digits, validation: 288, train_limit: 100}
base: {model: {inputs: single, filters: [2], fusion: none}, stages: [{name: only, epochs: 1, loss: heads}]}
"""
# Libraries need them on this system, so they are taken away from lightsweep alone.
COMMAND = """
import sys, os, signal
import click, optuna, pandas, plotly.graph_objects, pyarrow.parquet, pydantic, rich.console
import sklearn.model_selection, torch
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in ("O_NOFOLLOW", "O_NONBLOCK", "getuid", "geteuid"):
    delattr(os, name)
for name in ("SIGHUP", "SIGCHLD", "SIGUSR2"):
    delattr(signal, name)
sys.platform = "win32"
from lightsweep.cli.main import main
sys.argv = ["lightsweep", *sys.argv[1:]]
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep file and its run."""
    folder = tmp_path_factory.mktemp("posix")
    (folder / "sweep.yaml").write_text(SWEEP)
    assert lightsweep("run", "sweep.yaml", cwd=folder).returncode == 0
    return folder


def without_posix(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMMAND, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words", ["plan sweep.yaml", "status runs/small", "report runs/small", "show runs/small TRIAL"]
)
def test_what_only_reads_works(folder: Path, words: str) -> None:
    from lightsweep.runfolder.folder import RunFolder

    trial_id, *_ = RunFolder.open(folder / "runs/small").journal.records()
    done = without_posix(folder, *words.replace("TRIAL", trial_id).split())
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("words", ["run sweep.yaml", "store"])
def test_the_rest_says_in_one_line_what_it_needs(folder: Path, words: str) -> None:
    done = without_posix(folder, *words.split())
    assert done.returncode == 2
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: this command needs POSIX locks, which Windows does not have")
