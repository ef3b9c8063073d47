"""Searches as a user runs them, killed and continued: real Ray, real images, a real SQLite or PostgreSQL."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from forked import lightsweep
from giving_up import give_up
from optuna.trial import FrozenTrial
from ports import free_port
from run_reading import journal
from runs_to_kill import PlainRun, Run
from studies import assert_whole, trials_of
from waiting import HANGS_SECONDS, wait_until

SWEEP: dict[str, Any] = {
    "name": "killed",
    "dataset": {"name": "digits", "validation": 288, "train_limit": 400},
    "seeds": 2,
    "base": {
        "model": {"hidden": 6},
        "stages": {"preset": "paper", "epochs": {"dual": 3, "fusion": 1, "finetune": 2}, "patience": None},
    },
    "search": {
        "space": {
            "model.filters": {"low": 2, "high": 12, "length": [1, 2]},
            "stages.preset": ["paper", "scratch"],
            "stages.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        },
        "limits": {"parameters": 8000},
        "trials": 9,
        "early_stopping": {"first": 2, "factor": 2},
        "confirmation": {"at_most": 2},
    },
    "resources": {"checkpoint_seconds": 0},
}


def text(**search: Any) -> str:
    tree = {**SWEEP, "search": SWEEP["search"] | search}
    return json.dumps(tree)  # JSON is YAML


class Search:
    """A run of a search, with its tables and its study."""

    def __init__(
        self, folder: Path, storage: str | None = None, kind: type[Run] = Run, **search: Any
    ) -> None:
        self.run = kind(folder, text(storage=storage, **search))
        self.folder = folder / "runs/killed"
        self.url = storage.replace("postgresql:", "postgresql+psycopg:") if storage else None

    @property
    def study(self) -> list[FrozenTrial]:
        """The trials of the study."""
        return trials_of(self.url or f"sqlite:///{self.folder / 'study.db'}")

    def rows(self, phase: str) -> pd.DataFrame:
        return self.run.table("trials").query("phase == @phase")

    def assert_whole(self, trials: int) -> None:
        confirmed = self.rows("confirmation").arm.nunique()
        assert 1 <= confirmed <= 2
        assert_whole(self.run.folder, trials, confirmed, self.url)


@pytest.fixture(scope="class")
def finished() -> Iterator[Search]:
    with tempfile.TemporaryDirectory(prefix="ls") as folder:  # a short path: Ray's sockets stand in it
        search = Search(Path(folder), kind=PlainRun)
        search.run.to_the_end()
        yield search


class TestSearch:
    """Mostly of one run, `finished`."""

    def test_searches_stops_and_confirms(self, finished: Search) -> None:
        finished.assert_whole(9)
        rows = finished.rows("search")
        assert (rows.parameters <= 8000).all()
        assert (rows.seed == 1000).all()
        stopped = rows.query("status == 'early_stopped'")
        assert len(stopped) >= 1
        assert stopped[["val_accuracy", "test_accuracy"]].isna().all(axis=None)
        assert set(stopped.epochs_trained) <= {2, 4}  # the rungs
        assert (rows.query("status == 'completed'").epochs_trained == 6).all()
        epochs = finished.run.table("epochs").groupby("trial_id").size()
        assert (epochs[stopped.trial_id].to_numpy() == stopped.epochs_trained.to_numpy()).all()

    def test_no_front_and_no_table_of_results_has_a_stopped_trial(self, finished: Search) -> None:
        from analysis.arms import summarise_arms
        from analysis.tables import load_run

        trials = load_run(finished.folder).trials
        stopped = trials.query("status == 'early_stopped'").arm
        arms = summarise_arms(trials).set_index("arm")
        assert arms.loc[stopped, "val_mean"].isna().all()
        for trial in finished.study:  # Optuna's front, and the dashboard's, have what breaks no constraint
            if trial.user_attrs["status"] == "early_stopped":
                assert max(trial.constraints.values()) > 0

    def test_running_again_trains_nothing_and_more_trials_extend(self, finished: Search) -> None:
        before = (finished.folder / "journal.jsonl").read_text()
        output = finished.run.to_the_end()
        assert " is up: " not in output
        assert (finished.folder / "journal.jsonl").read_text() == before
        finished.run.sweep = text(trials=11)
        finished.run.to_the_end()
        rows = finished.rows("search")
        assert len(rows) >= 10  # a drawn repetition would have no row of its own
        assert (finished.folder / "journal.jsonl").read_text().startswith(before)

    def test_status_show_verify_and_plan_know_searches(self, finished: Search) -> None:
        def call(*arguments: object) -> str:
            done = lightsweep(*arguments, cwd=finished.run.folder)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        row = finished.rows("confirmation").iloc[0]
        assert "a search of " in call("status", "runs/killed")
        assert row.arm in call("show", "runs/killed", row.trial_id)
        stopped = finished.rows("search").query("status == 'early_stopped'").trial_id.iloc[0]
        for trial_id in (row.trial_id, stopped):
            assert "confirmed: bit-equal" in call("verify", "runs/killed", trial_id)
        assert "early_stopped" in call("show", "runs/killed", stopped)
        assert "random draws" in call("plan", "sweep.yaml")
        tree = json.loads(call("plan", "sweep.yaml", "--json"))
        assert tree["survey"]["feasible"] > 0

    def test_the_dashboard_serves_a_copy(self, finished: Search) -> None:
        before = (finished.folder / "study.db").read_bytes()
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "lightsweep", "dashboard", "runs/killed", "--port", str(port)],
            cwd=finished.run.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        try:
            found = fetch(f"http://127.0.0.1:{port}/api/studies", process)
        finally:
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=HANGS_SECONDS)[0]
        assert [study["study_name"] for study in found["study_summaries"]] == ["killed"]
        assert (process.returncode, "Traceback" in output) == (0, False), output
        assert (finished.folder / "study.db").read_bytes() == before


def fetch(url: str, process: "subprocess.Popen[str]") -> Any:
    found: list[Any] = []

    def answers() -> bool:
        assert process.poll() is None, process.communicate()[0]
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url) as answer:
            found.append(json.load(answer))
        return bool(found)

    wait_until(answers)
    return found[0]


def kill_and_go_on(search: Search, kill: Callable[[subprocess.Popen[str]], None]) -> None:
    """Kill a search when three trials are recorded, and run it to its end."""
    process = search.run.start()
    try:
        wait_until(lambda: process.poll() is not None or len(journal(search.run.folder)) >= 3)
        assert process.poll() is None, process.communicate()[0]
        kill(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=HANGS_SECONDS)
    assert search.study
    search.run.to_the_end()
    search.assert_whole(9)


@pytest.mark.campaign
def test_a_killed_search_goes_on_to_its_number_of_trials(short_folder: Path) -> None:
    kill_and_go_on(Search(short_folder), lambda process: os.killpg(process.pid, signal.SIGKILL))


@pytest.mark.campaign
def test_an_interrupted_search_leaves_nothing_running_and_goes_on(short_folder: Path) -> None:
    search = Search(short_folder)

    def interrupt(process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=HANGS_SECONDS)[0]
        assert process.returncode == 130, output
        assert "RUNNING" not in {trial.state.name for trial in search.study}

    kill_and_go_on(search, interrupt)


@pytest.fixture
def postgresql(short_folder: Path) -> Iterator[str]:
    """A PostgreSQL server of Debian's package on loopback: the URL of an empty database."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        give_up("needs PostgreSQL: apt-get install postgresql")
    binaries, data, port = found[-1].parent, short_folder / "pg", free_port()
    data.mkdir()
    as_user: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses root
        short_folder.chmod(0o755)
        shutil.chown(data, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def call(*command: object) -> None:
        subprocess.run(
            [*as_user, *map(str, command)], check=True, capture_output=True, cwd="/", timeout=HANGS_SECONDS
        )

    call(binaries / "initdb", "-D", data, "-U", "sweeper", "--auth=trust", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={data} -c fsync=off"
    call(binaries / "pg_ctl", "-D", data, "-w", "-l", data / "log", "-o", options, "start")
    try:
        yield f"postgresql://sweeper@127.0.0.1:{port}/postgres"
    finally:
        call(binaries / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


@pytest.mark.slow
def test_a_search_in_postgresql_is_killed_and_goes_on(short_folder: Path, postgresql: str) -> None:
    search = Search(short_folder / "a", postgresql)
    search.run.folder.mkdir()
    kill_and_go_on(search, lambda process: os.killpg(process.pid, signal.SIGKILL))
    copy = trials_of(f"sqlite:///{search.folder / 'study.db'}")
    assert [trial.values for trial in copy] == [trial.values for trial in search.study]
    other = Search(short_folder / "b", postgresql)
    other.run.folder.mkdir()
    output = other.run.to_the_end(status=2)
    assert "already has a study killed" in output
    assert "Traceback" not in output


def test_a_database_that_is_not_there_is_one_error(short_folder: Path) -> None:
    search = Search(
        short_folder, kind=PlainRun, storage=f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    )
    output = search.run.to_the_end(status=2)
    (error,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "search.storage" in error
    assert "cannot be used" in error
    assert "Traceback" not in output
