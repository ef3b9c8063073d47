import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from forked import lightsweep
from hypothesis import settings
from imitation_run import ARMS, epoch_rows, trial_row
from imitation_search import write_search
from waiting import HANGS_SECONDS

from analysis import write_report

settings.register_profile("analysis", deadline=None)  # a busy machine is not a failure
settings.load_profile("analysis")


@pytest.fixture(autouse=True)
def nothing_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shipped table says of a data set is no matter of tests; see ``test_published.py``."""
    monkeypatch.setattr("analysis.report.read_published", lambda: ())


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


def give_up(reason: str) -> None:
    """Skip a test that this machine cannot run; where nothing may be skipped, fail."""
    if os.environ.get("LIGHTSWEEP_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        give_up("needs a chromium on PATH")
    return str(found)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """One browser; its event loop runs until it is closed, and no other test may start one meanwhile."""
    try:
        from playwright.sync_api import expect, sync_playwright
    except ModuleNotFoundError:
        give_up("needs playwright: pip install lightsweep[test]")
    expect.set_options(timeout=1000 * HANGS_SECONDS)
    quiet = [
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page of run folders, once all figures are drawn; see ``watched``."""
    with watched(browser, tmp_path / "page" / "report.html") as open_page:
        yield open_page


@pytest.fixture(scope="module")
def plain_page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One page of a run as ``run_folder`` has it; tests take it through ``page``."""
    folder = tmp_path_factory.mktemp("plain")
    run = write_run(folder / "runs" / "imitation", plain_trials())
    with watched(browser, folder / "page" / "report.html") as open_page:
        yield open_page(run)


@pytest.fixture
def page(plain_page: Any) -> Any:
    """The page of an unchanged run, as a link without filters shows it."""
    plain_page.evaluate("document.querySelector('dialog').close(); location.hash = '#'; scrollTo(0, 0)")
    plain_page.wait_for_function("location.hash === ''")
    return plain_page


@contextmanager
def watched(browser: Any, path: Path) -> Iterator[Callable[..., Any]]:
    """Yield what writes the page of run folders there and opens it in a context of its own.

    At the end no page may have complained in its console, shown a dialog, or asked for anything.
    """
    complaints: list[str] = []
    requests: list[str] = []
    pages: list[Any] = []

    def watch(page: Any) -> Any:
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        return page

    def open_page(*folders: Path, address: str = "", **context: Any) -> Any:
        page = watch(browser.new_page(**context))
        pages.append(page)
        page.set_default_timeout(1000 * HANGS_SECONDS)
        page.goto(write_report(folders, path).as_uri() + address)
        page.locator("html[data-ready]").wait_for(state="attached")
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests), requests


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
