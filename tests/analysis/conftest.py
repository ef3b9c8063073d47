import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import settings
from imitation_run import ARMS, epoch_rows, trial_row
from imitation_search import write_search

settings.register_profile("analysis", deadline=None)  # a busy machine is not a failure
settings.load_profile("analysis")


@pytest.fixture(autouse=True)
def nothing_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shipped table says of a data set is no matter of tests; see ``test_published.py``."""
    monkeypatch.setattr("analysis.report.read_published", lambda: ())


@pytest.fixture
def trials_table() -> pd.DataFrame:
    trials = pd.DataFrame([trial_row(arm, seed) for arm in ARMS for seed in range(3)])
    counts = ["fold", "parameters", "macs"]
    return trials.astype({**dict.fromkeys(counts, "Int64"), "latency_ms": "float64"})


@pytest.fixture
def run_folder(tmp_path: Path, trials_table: pd.DataFrame) -> Path:
    folder = tmp_path / "runs" / "imitation"
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


@pytest.fixture
def browser():
    def give_up(reason):
        if os.environ.get("LIGHTSWEEP_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    chromium = shutil.which("chromium")
    if chromium is None:
        give_up("needs a chromium on PATH")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        give_up("needs playwright: pip install lightsweep[test]")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def written_search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_search(tmp_path_factory.mktemp("written") / "hunt")


@pytest.fixture
def search_folder(written_search: Path, tmp_path: Path) -> Path:
    """A finished search; see ``imitation_search``."""
    return shutil.copytree(written_search, tmp_path / "hunt")
