"""Trackers: TensorBoard and a real MLflow server show what the records hold, once, and never end a sweep."""

import importlib.util
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from giving_up import give_up
from ports import free_port
from runs_to_kill import PlainRun
from waiting import wait_until

from lightsweep.errors import InputError
from lightsweep.runfolder.records import Record
from lightsweep.tracking import mlflow as mlflow_tracker
from lightsweep.tracking import trackers as tracking
from lightsweep.tracking.trackers import open_trackers
from lightsweep.tracking.words import EPOCH_METRICS, FINAL_METRICS, TAGS, without_secrets

# flask, flask-cors and aiohttp: `mlflow server` needs them, and mlflow-skinny does not bring them
PACKAGES = ("mlflow", "tensorboard", "flask", "flask_cors", "aiohttp")
STARTED = 1767323045.0  # 2026-01-02T03:04:05+00:00
SWEEP_TEXT = "name: small\nseeds: 2\n"


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        give_up(f"not installed: {', '.join(missing)}")


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


def trial_record(number: int, status: str = "completed", epochs: int = 3, **changes: Any) -> Record:
    """A record as the journal has it."""
    is_completed = status == "completed"
    accuracies = {"val_accuracy": 0.75, "test_accuracy": 0.625, "train_accuracy": 0.875}
    trial = {
        "trial_id": f"{number:012x}", "arm": "wide/α", "seed": number, "fold": None, "dataset": "digits",
        "status": status, "error": "NaN loss" if status == "failed" else None,
        "parameters": 10_000_000_019, "macs": 20, "int8_bytes": 30, "latency_ms": None, "seconds": 4.5,
        "host": "box", "device": "cpu", "commit": "abc", "phase": None,
        "started_at": "2026-01-02T03:04:05+00:00", "result_key": "k3" if is_completed else None,
        "config.batch_size": 64, "config.model.batch_norm": False, "config.model.hidden": None,
        "config.model.filters": "[10, 20]", "config.stages.dual.lr": 0.001,
    }  # fmt: skip
    rows = [
        {"trial_epoch": epoch, "seconds": 0.5, "learning_rate": 0.001 / epoch, "train_loss": 1 / epoch,
         "train_accuracy": 0.5, "val_loss": None if epoch == 2 else 1.5, "val_accuracy": epoch / 1024}
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    stages = [{"stage": name} for name in ("dual", "fusion, fresh", "assessment")]
    return Record(trial | (accuracies if is_completed else {}) | changes, stages, rows)


def odd_record() -> Record:
    """A record beyond MLflow's limits: names, lengths, numbers of params and metrics."""
    settings = {f"config.stages.s.k{number}": number for number in range(230)}
    odd = {
        "config.stages.a(b)/../×.lr": 1,
        "config.stages.a[b]/../×.lr": 2,
        f"config.{'n' * 300}": "v" * 7000,
    }
    return trial_record(9, epochs=400, **settings, **odd)


RECORDS = [trial_record(0), trial_record(1, "failed", 0), trial_record(2, "early_stopped"), odd_record()]


def show(run_folder: Path, records: list[Record], names: Any = ("mlflow",), sweep: str = "small") -> None:
    """Show records as one launch of a sweep does."""
    trackers = open_trackers(names, run_folder, sweep, SWEEP_TEXT)
    for record in records:
        trackers.end(record)
    trackers.close()


@dataclass
class Server:
    """A real MLflow server on loopback."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int
    is_up: bool = False

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health") as answer:
                self.is_up = answer.status == 200
            return self.is_up

        wait_until(lambda: self.is_up or answers(), self.log.read_text)

    def suspend(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def started_server(tmp_path_factory: pytest.TempPathFactory, _packages: None) -> Iterator[Server]:
    """The server on its way up, while other tests run."""
    folder, port = tmp_path_factory.mktemp("mlflow-server"), free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | settings, stdout=log, stderr=log, start_new_session=True
        )
    server = Server(process, folder / "log.txt", port)
    yield server
    server.kill()


@pytest.fixture
def server(started_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, up and named by MLFLOW_TRACKING_URI."""
    started_server.wait()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", started_server.uri)
    return started_server


@pytest.fixture(autouse=True)
def _server_starts_first(started_server: Server) -> None:
    """It takes seconds."""


def runs_of(uri: str, sweep: str = "small") -> dict[str, Any]:
    """Return MLflow's runs by their trial's id, the sweep's own as "sweep"."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(sweep).experiment_id])
    by_id = {run.data.tags.get("trial_id", "sweep"): run for run in runs}
    assert len(by_id) == len(runs), "a trial is shown twice"
    return by_id


def history(uri: str, run: Any, name: str) -> list[tuple[int, float, int]]:
    from mlflow import MlflowClient

    points = MlflowClient(uri).get_metric_history(run.info.run_id, name)
    return sorted((point.step, point.value, point.timestamp) for point in points)


def check_run(uri: str, run: Any, record: Record) -> None:
    """Compare a run of MLflow with its record."""
    trial, tags = record.trial, run.data.tags
    assert run.info.run_name == f"wide/α (seed {trial['seed']})"
    expected = {"completed": "FINISHED", "failed": "FAILED", "early_stopped": "KILLED"}[trial["status"]]
    assert run.info.status == expected
    assert (run.info.start_time, run.info.end_time) == (STARTED * 1000, STARTED * 1000 + 4500)
    for name in TAGS:
        assert tags.get(name) == (None if trial[name] is None else str(trial[name]))
    assert tags["stages"] == "dual, fusion, fresh"
    settings = {name: value for name, value in trial.items() if name.startswith("config.")}
    assert len(run.data.params) == len(settings)
    for name, value in settings.items():
        if len(name) < 250 and "×" not in name:
            assert run.data.params[name] == (value if isinstance(value, str) else json.dumps(value))
    for name in FINAL_METRICS:
        assert run.data.metrics.get(name) == trial.get(name)
    for name in EPOCH_METRICS:
        points = [
            (epoch["trial_epoch"], epoch[name], min(STARTED * 1000 + 500 * number, STARTED * 1000 + 4500))
            for number, epoch in enumerate(record.epochs, 1)
            if epoch[name] is not None
        ]
        assert history(uri, run, f"epoch/{name}") == points


def test_a_database_in_the_run_folder_shows_what_the_records_hold(tmp_path, monkeypatch, capfd):
    folder = tmp_path / "my runs #1"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    show(folder, RECORDS)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    runs = runs_of(uri)
    for record in RECORDS:
        check_run(uri, runs[record.trial["trial_id"]], record)
    assert len(runs) == len(RECORDS) + 1
    assert sorted(path.name for path in folder.iterdir()) == ["mlflow.db", "tracking-id"]
    assert list(tmp_path.iterdir()) == [folder]
    assert capfd.readouterr() == ("", "")


def test_a_server_shows_what_the_records_hold(tmp_path, server, capfd):
    show(tmp_path, RECORDS)
    runs = runs_of(server.uri)
    for record in RECORDS:
        check_run(server.uri, runs[record.trial["trial_id"]], record)
    assert runs["sweep"].data.tags["mlflow.note.content"] == SWEEP_TEXT
    assert list(tmp_path.iterdir()) == [tmp_path / "tracking-id"]
    assert capfd.readouterr() == ("", "")


def test_what_mlflow_does_not_take_is_cut_and_stays_distinct(tmp_path, server):
    show(tmp_path, [odd_record()], sweep="odd")
    params = runs_of(server.uri, "odd")[odd_record().trial["trial_id"]].data.params
    odd = {name: value for name, value in params.items() if "×" in name or "_.._" in name}
    assert sorted(odd.values()) == ["1", "2"]
    (long,) = (name for name in params if "nnn" in name)
    assert len(long) == 250
    assert (len(params[long]), params[long][-1]) == (6000, "…")


def test_a_sweep_that_goes_on_shows_each_trial_once_and_its_newest_record(tmp_path, server):
    show(tmp_path, [trial_record(0), trial_record(1, "failed", 0)], sweep="again")
    first = runs_of(server.uri, "again")
    mended = trial_record(1, started_at="2026-01-02T03:04:06+00:00")
    show(tmp_path, [trial_record(0), trial_record(1, "failed", 0), mended, trial_record(2)], sweep="again")
    show(tmp_path, [trial_record(0), mended, trial_record(2)], sweep="again")
    runs = runs_of(server.uri, "again")
    ids = [trial_record(number).trial["trial_id"] for number in range(3)]
    assert set(runs) == {*ids, "sweep"}
    assert runs["sweep"].info.run_id == first["sweep"].info.run_id
    assert runs[ids[0]].info.run_id == first[ids[0]].info.run_id
    assert runs[ids[1]].info.status == "FINISHED"
    assert runs[ids[1]].data.tags["started_at"] == "2026-01-02T03:04:06+00:00"


def test_what_a_killed_launcher_left_half_shown_is_shown_whole(tmp_path, server):
    from mlflow import MlflowClient

    show(tmp_path, [trial_record(0), trial_record(1)], sweep="killed")
    runs, client = runs_of(server.uri, "killed"), MlflowClient(server.uri)
    ids = [trial_record(number).trial["trial_id"] for number in (0, 1)]
    tags = {name: runs[ids[0]].data.tags[name] for name in ("trial_id", "run_folder_id")}
    client.create_run(runs[ids[0]].info.experiment_id, tags=tags)  # a second one of the same trial
    client.update_run(runs[ids[1]].info.run_id, status="RUNNING")
    show(tmp_path, [trial_record(0), trial_record(1)], sweep="killed")
    after = runs_of(server.uri, "killed")
    assert [after[trial_id].info.status for trial_id in ids] == ["FINISHED", "FINISHED"]
    assert after[ids[1]].info.run_id != runs[ids[1]].info.run_id


def test_two_run_folders_of_one_sweep_leave_each_others_runs_alone(tmp_path, server):
    from mlflow import MlflowClient

    for name in ("mine", "yours"):
        (tmp_path / name).mkdir()
        show(
            tmp_path / name, [trial_record(0, started_at=f"2026-01-02T03:04:0{len(name)}+00:00")], sweep="two"
        )
    client = MlflowClient(server.uri)
    runs = client.search_runs([client.get_experiment_by_name("two").experiment_id])
    assert len([run for run in runs if "trial_id" in run.data.tags]) == 2


def test_the_sweeps_course_is_shown_and_goes_on(tmp_path, server):
    for done in (1, 2):
        trackers = open_trackers(["mlflow", "tensorboard"], tmp_path, "course", SWEEP_TEXT)
        trackers.counts(done=done, failed=1, stopped=2, reused=4, waiting_seconds=0.5)
        trackers.close()
    run = runs_of(server.uri, "course")["sweep"]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "sweep"
    points = [point[:2] for point in history(server.uri, run, "sweep/done")]
    assert points == [(4, 1.0), (5, 2.0)]
    assert run.data.metrics["sweep/waiting_seconds"] == 0.5
    events = event_files(tmp_path / "tensorboard" / "sweep")
    assert [(point.step, point.value) for point in events.Scalars("sweep/done")] == [(4, 1.0), (5, 2.0)]
    assert "seeds: 2" in events.Tensors("sweep/text_summary")[0].tensor_proto.string_val[0].decode()


def event_files(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return accumulator


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.trial["trial_id"][-1])
def test_event_files_hold_what_the_record_holds(tmp_path, record):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    show(tmp_path, [record], ["tensorboard"])
    events = event_files(tmp_path / "tensorboard" / record.trial["trial_id"])
    for name in EPOCH_METRICS:
        rows = [(epoch["trial_epoch"], epoch[name]) for epoch in record.epochs if epoch[name] is not None]
        found = events.Scalars(f"epoch/{name}") if rows else []
        assert [point.step for point in found] == [step for step, _ in rows]
        assert [point.value for point in found] == pytest.approx([value for _, value in rows])
    for number, point in enumerate(events.Scalars("epoch/val_accuracy") if record.epochs else [], 1):
        assert point.wall_time == min(STARTED + number / 2, STARTED + 4.5)
    finals = {name for name in FINAL_METRICS if record.trial.get(name) is not None}
    assert finals == set(events.Tags()["scalars"]) - {f"epoch/{name}" for name in EPOCH_METRICS}
    for name in finals:
        assert events.Scalars(name)[0].value == pytest.approx(record.trial[name])
    hparams = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = HParamsPluginData.FromString(hparams).session_start_info.hparams
    assert values["status"].string_value == record.trial["status"]
    for name, value in record.trial.items():
        if name.startswith("config.") and value is not None:
            kind = "string_value" if isinstance(value, str) else "number_value"
            assert getattr(values[name], kind) == value
    experiment = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    infos = HParamsPluginData.FromString(experiment).experiment.metric_infos
    assert {info.name.tag for info in infos} == finals
    text = events.Tensors("record/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "host: box" in text
    assert ("error: NaN loss" in text) == (record.trial["status"] == "failed")


def test_event_files_are_written_once_and_anew_for_a_newer_or_half_written_record(tmp_path):
    def files() -> list[Path]:
        return sorted((tmp_path / "tensorboard" / trial_record(0).trial["trial_id"]).glob("events*"))

    show(tmp_path, [trial_record(0, "failed", 0)], ["tensorboard"])
    seen = [files()]
    show(tmp_path, [trial_record(0, "failed", 0)], ["tensorboard"])
    assert files() == seen[0]
    show(tmp_path, [trial_record(0)], ["tensorboard"])
    seen.append(files())
    (files()[0].parent / "shown").unlink()
    show(tmp_path, [trial_record(0)], ["tensorboard"])
    seen.append(files())
    assert [len(found) for found in seen] == [1, 1, 1]
    assert all(one != other for one, other in itertools.combinations(seen, 2))


def test_a_tracker_that_cannot_write_is_warned_of_once_and_the_other_goes_on(tmp_path, server):
    trackers = open_trackers(["tensorboard", "mlflow"], tmp_path, "half", SWEEP_TEXT)
    (tmp_path / "tensorboard" / trial_record(0).trial["trial_id"]).write_text("in the way")

    def show_three() -> None:
        for number in range(3):
            trackers.end(trial_record(number))
        trackers.close()

    with pytest.warns(UserWarning, match=r"TensorBoard .*is switched off: .*File exists") as caught:
        show_three()
    assert len(caught) == 1
    assert len(runs_of(server.uri, "half")) == 4


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_package_that_is_not_installed_is_one_error(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError) as caught:
        open_trackers([name], tmp_path, "small", SWEEP_TEXT)
    assert str(caught.value) == (
        f"tracking: {name}: its package cannot be imported (import of {name} halted; None in sys.modules); "
        "pip install 'lightsweep[tracking]'"
    )


def test_a_server_that_is_not_there_is_one_error_without_its_password(tmp_path, monkeypatch):
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@127.0.0.1:{port}")
    with pytest.raises(InputError) as caught:
        open_trackers(["mlflow"], tmp_path, "small", SWEEP_TEXT)
    assert str(caught.value) == (
        f"tracking: MLflow (http://127.0.0.1:{port}) cannot be used: it does not answer; start it, correct "
        "MLFLOW_TRACKING_URI, or take mlflow out of tracking"
    )


@pytest.mark.parametrize("limits", [("1", 9e3), ("9000", 1.0)], ids=["MLflow's own", "ours"])
def test_a_server_that_says_nothing_is_not_waited_for(tmp_path, monkeypatch, limits):
    """Each of the two limits alone ends the wait; without it, this test would hang."""
    monkeypatch.setitem(mlflow_tracker.HTTP_AT_START, "MLFLOW_HTTP_REQUEST_TIMEOUT", limits[0])
    monkeypatch.setattr(tracking, "_SERVER_SECONDS", limits[1])
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(InputError, match="it does not answer"):
            open_trackers(["mlflow"], tmp_path, "small", SWEEP_TEXT)


def test_an_experiment_that_was_deleted_is_one_error(tmp_path, server):
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(InputError, match="experiment gone was deleted there; restore it or rename the sweep"):
        open_trackers(["mlflow"], tmp_path, "gone", SWEEP_TEXT)


@pytest.mark.parametrize(
    ("text", "uri", "expected"),
    [
        ("at http://me:p@ss@host:1/x, no", "", "at http://host:1/x, no"),
        ("postgresql://host/db?user=me&password=s (no)", "", "postgresql://host/db (no)"),
        ("password hun@ter/2 or hun%40ter%2F2", "http://me:hun%40ter%2F2@h", "password *** or ***"),
        ("nothing secret", "http://h", "nothing secret"),
    ],
)
def test_messages_hold_no_secrets(monkeypatch, text, uri, expected):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert without_secrets(text) == expected


def test_the_password_of_the_environment_is_a_secret_too(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    assert without_secrets("wrong: hunter2") == "wrong: ***"


def test_a_real_run_is_shown_and_shown_once_when_it_goes_on(short_folder: Path, server: Server) -> None:
    run = PlainRun(short_folder, REAL_SWEEP)
    run.to_the_end(MLFLOW_TRACKING_URI=server.uri)
    run.to_the_end("--set", "seeds=2", MLFLOW_TRACKING_URI=server.uri)
    shown = runs_of(server.uri, "tracked")
    folder = short_folder / "runs/tracked"
    trials = pd.read_parquet(folder / "trials.parquet").set_index("trial_id")
    assert len(trials) == 2
    assert set(shown) == {*trials.index, "sweep"}
    for trial_id, trial in trials.iterrows():
        metrics = shown[trial_id].data.metrics
        assert metrics["test_accuracy"] == trial.test_accuracy
        assert metrics["parameters"] == trial.parameters
    folders = {path.parent.name for path in event_paths(folder / "tensorboard")}
    assert folders == {*trials.index, "sweep"}


def event_paths(folder: Path) -> Iterator[Path]:
    return folder.rglob("events.out.tfevents.*")


REAL_SWEEP = """\
name: tracked
dataset: {name: digits, validation: 100, train_limit: 200}
seeds: 1
base:
  model: {filters: [4, 8], hidden: 8}
  stages: {preset: scratch, epochs: {dual: 1, fusion: 1, finetune: 1}}
tracking: [tensorboard, mlflow]
"""


def test_a_server_killed_in_mid_sweep_is_one_warning_and_the_sweep_goes_on(
    tmp_path, server, monkeypatch, capfd
):
    """The sweep never waits for a server that hangs; the last test, since it kills what all others use."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("://", "://me:hunter2@"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "9000")
    trackers = open_trackers(["mlflow", "tensorboard"], tmp_path, "mid", SWEEP_TEXT)
    trackers.end(trial_record(0))
    wait_until(lambda: len(runs_of(server.uri, "mid")) == 2)
    server.suspend()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(1, 20):
            trackers.end(trial_record(number))
            trackers.counts(number, 0, 0, 0, 0.0)
        server.kill()
        trackers.close()
        trackers.end(trial_record(20))
    messages = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert messages == [
        f"MLflow ({server.uri}) is switched off: it does not answer; run the same command again to add what "
        "is missing"
    ]
    assert len(caught) == 1
    assert "hunter2" not in "".join(capfd.readouterr())
    assert len(list((tmp_path / "tensorboard").glob("*/shown"))) == 20
