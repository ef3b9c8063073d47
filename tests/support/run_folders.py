"""Run folders for the tests of `analysis`: imitated ones, a search, and a real run."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from forked import lightsweep
from imitation_run import ARMS, epoch_rows, trial_row
from imitation_search import write_search


@pytest.fixture(autouse=True)
def nothing_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shipped table says of a data set is no matter of tests; see ``test_published.py``."""
    monkeypatch.setattr("analysis.page.report.read_published", lambda: ())


@pytest.fixture
def trials_table() -> pd.DataFrame:
    return plain_trials()


def plain_trials() -> pd.DataFrame:
    trials = pd.DataFrame([trial_row(arm, seed) for arm in ARMS for seed in range(3)])
    counts = ["fold", "parameters", "macs"]
    return trials.astype({**dict.fromkeys(counts, "Int64"), "latency_ms": "float64"})


@pytest.fixture
def run_folder(tmp_path: Path, trials_table: pd.DataFrame) -> Path:
    return write_run(tmp_path / "runs" / "imitation", trials_table)


def write_run(folder: Path, trials_table: pd.DataFrame) -> Path:
    folder.mkdir(parents=True)
    trials_table.to_parquet(folder / "trials.parquet")
    completed = trials_table[trials_table["status"] == "completed"]
    epochs = [row for trial in completed.to_dict("records") for row in epoch_rows(trial)]
    pd.DataFrame(epochs).astype({"fold": "Int64"}).to_parquet(folder / "epochs.parquet")
    (folder / "sweep.yaml").write_text("name: imitation\ndataset: {name: digits}  # <i>\nseeds: 3\n")
    environment = {
        "started_at": "2026-03-01T11:59:58+00:00",
        "command": ["lightsweep", "run", "sweeps/<imitation>.yaml"],
        "commit": "ada5fb2",
        "versions": {"python": "3.12.3", "torch": "2.13.0"},
        "hardware": {"host": "laptop", "cpu": "a CPU", "cores": 2, "memory_bytes": 8_000_000_000, "gpus": []},
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


@pytest.fixture(scope="session")
def written_search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_search(tmp_path_factory.mktemp("written") / "hunt")


@pytest.fixture
def search_folder(written_search: Path, tmp_path: Path) -> Path:
    """A finished search; see ``imitation_search``."""
    return shutil.copytree(written_search, tmp_path / "hunt")


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lightsweep run` writes of 2 arms × 2 seeds on real digits, one of which leaves the numbers."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "sweep.yaml").write_text(REAL_SWEEP)
    done = lightsweep("run", "sweep.yaml", cwd=folder)
    assert done.returncode == 1, done.stdout + done.stderr  # trials failed
    return folder / "runs" / "real"


REAL_SWEEP = """\
name: real
dataset: {name: digits, validation: 100, train_limit: 300}
seeds: 2
base:
  model: {filters: [4, 8], hidden: 8}
  stages: {preset: paper, epochs: {dual: 2, fusion: 1, finetune: 1}}
grid:
  stages.lr: [0.003, 1.0e+30]
"""
