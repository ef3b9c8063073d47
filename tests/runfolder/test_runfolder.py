"""Records: a row for every trial, whatever became of it, that survives a killed run."""

import io
import json
import math
import os
import subprocess
from contextlib import suppress

import pandas as pd
import pytest
from rich.console import Console
from waiting import HANGS_SECONDS

from lightsweep.data.datasets import describe
from lightsweep.data.imagedata import Task
from lightsweep.errors import InputError, WriteError
from lightsweep.nets.cost import Cost
from lightsweep.planning.plan import plan
from lightsweep.runfolder.code import keep_sources
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runfolder.records import EPOCH_COLUMNS, STAGE_COLUMNS, TRIAL_COLUMNS, DataIdentity, record
from lightsweep.runs.counts import Counts
from lightsweep.runs.progress import Progress
from lightsweep.search.study import Study
from lightsweep.store.stagefile import StageResult
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.system.files import UnreadableError
from lightsweep.tracking.trackers import open_trackers
from lightsweep.training.chain import StageEntry, TrialResult
from lightsweep.training.outcome import completed, failed
from lightsweep.trials.trial import Trial

COST = Cost(parameters=10, total_parameters=12, macs=20, weight_bytes=40, int8_bytes=10, training_bytes=120)
SWEEP = Sweep.model_validate(
    {
        "name": "small",
        "dataset": {"name": "digits"},
        "seeds": 2,
        "base": {"stages": [{"name": "dual", "epochs": 2}, {"name": "fusion", "epochs": 1}]},
    }
)
TRIALS = [Trial("base", SWEEP.dataset, SWEEP.base, Task((1, 28, 28), 10), seed) for seed in (0, 1)]
DIGITS = DataIdentity("digits", "f1")
KEYS = {trial.trial_id: ("1" * 64, "2" * 64, "3" * 64) for trial in TRIALS}
SEARCH = {"space": {"model.hidden": [4, 8]}, "trials": 2}
WHERE = ("2026-01-02T03:04:05+00:00", 1.5, "box", "cpu")


def run_folder(out, trials=TRIALS) -> RunFolder:
    run = RunFolder.create(out, SWEEP)
    run.describe(
        SWEEP, {"design": None}, trials, {trial.trial_id: KEYS[TRIALS[0].trial_id] for trial in trials}
    )
    return run


def epoch(number: int, heads: tuple[float, ...]) -> dict[str, object]:
    return {
        "epoch": number, "learning_rate": 0.001, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.1,
        "val_accuracy": sum(heads) / len(heads), "val_accuracy_heads": heads, "seconds": 0.1,
    }  # fmt: skip


@pytest.fixture
def outcome():
    dual = StageResult({}, [epoch(1, (0.2, 0.4)), epoch(2, (0.6, 0.8))], {"kept_epoch": 1}, seconds=3)
    fusion = StageResult({}, [epoch(1, (0.7,))], {"kept_epoch": 1}, seconds=4)
    accuracies = {"val_accuracy": 0.7, "test_accuracy": 0.6, "train_accuracy": 0.8}
    metrics = {**accuracies, "test_confusion": [[3, 2], [2, 3]], "test_hits": "gA=="}
    assessment = StageResult({}, metrics=metrics, seconds=1)
    where = {"host": "box", "device": "cpu", "hardware": "CPU", "torch": "2", "started_at": WHERE[0]}
    entries = (
        StageEntry(0, "1" * 64, "stored", 2, 0, 3.0, 0.5, where),
        StageEntry(1, "2" * 64, "continued", 1, 1, 4.0, 0.25, where, "something is discarded"),
        StageEntry(2, "3" * 64, "trained", 0, 0, 1.0, 0.0, where),
    )
    result = TrialResult((dual, fusion), assessment, entries)
    return completed(result, *WHERE)


def test_a_completed_trial_becomes_a_row_and_its_epochs(tmp_path, outcome):
    run = run_folder(tmp_path)
    run.journal.append(record(TRIALS[0], COST, outcome, "abc", DIGITS))
    run.journal.append(
        record(TRIALS[1], COST, failed("NaN loss\nin epoch 3", "diverged", *WHERE), "abc", DIGITS)
    )
    run.compact()
    trials, stages, epochs = (
        pd.read_parquet(run.folder / f"{name}.parquet") for name in ("trials", "stages", "epochs")
    )
    assert list(stages.columns) == list(STAGE_COLUMNS)
    assert stages.stage.tolist() == ["dual", "fusion", "assessment"]
    assert stages.key.tolist() == ["1" * 64, "2" * 64, "3" * 64]
    assert stages.origin.tolist() == ["stored", "continued", "trained"]
    assert stages.epochs_trained.tolist() == [0, 1, 0]
    assert outcome.warnings == ["something is discarded"]
    assert list(trials.columns[: len(TRIAL_COLUMNS)]) == list(TRIAL_COLUMNS)
    assert list(epochs.columns) == list(EPOCH_COLUMNS)
    done, broken = trials.to_dict("records")
    assert (done["status"], done["test_accuracy"], done["epochs_trained"]) == ("completed", 0.6, 3)
    assert (done["stages_total"], done["stages_reused"], done["training_seconds"]) == (2, 1, 8)
    assert (done["waited_seconds"], done["result_key"]) == (0.75, "3" * 64)
    kinds = {"batch_size": "Int64", "stages.dual.lr": "float64", "model.separable": "boolean"}
    assert {key: str(trials[f"config.{key}"].dtype) for key in kinds} == kinds
    assert (broken["status"], broken["error"]) == ("failed", "NaN loss in epoch 3")
    assert math.isnan(broken["test_accuracy"])  # not computable is null, never 0
    assert epochs.trial_epoch.tolist() == [1, 2, 3]
    assert epochs.stage.tolist() == ["dual", "dual", "fusion"]
    assert epochs.is_kept.tolist() == [True, False, True]
    assert epochs.val_accuracy_b.tolist()[:2] == [0.4, 0.8]
    assert math.isnan(epochs.val_accuracy_b.tolist()[2])


def test_a_cut_last_line_is_passed_over_and_the_rest_kept(tmp_path, outcome):
    run = run_folder(tmp_path)
    for trial in TRIALS:
        run.journal.append(record(trial, COST, outcome, "", DIGITS))
    text = run.journal.path.read_text()
    run.journal.path.write_text(text[: len(text) - 40])
    with pytest.warns(UserWarning, match=r"line 2 is damaged and skipped"):
        assert list(run.journal.records()) == [TRIALS[0].trial_id]


def test_a_million_bad_lines_are_one_warning(tmp_path, outcome):
    run = run_folder(tmp_path)
    run.journal.append(record(TRIALS[0], COST, outcome, "", DIGITS))
    with run.journal.path.open("a") as file:
        file.write("{}\n" * 1_000_000)
    with pytest.warns(UserWarning, match="damaged and skipped") as warned:
        assert list(run.journal.records()) == [TRIALS[0].trial_id]
    (said,) = [str(warning.message) for warning in warned]
    assert said.endswith("1,000,000 lines are damaged and skipped (the first is line 2)")


def test_a_record_after_a_cut_line_is_whole(tmp_path, outcome):
    """A killed run's cut line must not swallow the first record of the run that goes on."""
    run = run_folder(tmp_path)
    run.journal.append(record(TRIALS[0], COST, outcome, "", DIGITS))
    run.journal.path.write_text(run.journal.path.read_text()[:-40])
    run.journal.append(record(TRIALS[1], COST, outcome, "", DIGITS))
    with pytest.warns(UserWarning, match="line 1"):
        assert list(run.journal.records()) == [TRIALS[1].trial_id]
    assert list(run.journal.records()) == [TRIALS[1].trial_id]  # again, when the line has been warned of


def test_the_newest_record_counts_and_only_the_plans_trials(tmp_path, outcome):
    run = run_folder(tmp_path, TRIALS[:1])
    run.journal.append(record(TRIALS[0], COST, failed("lost", "lost", *WHERE), "", DIGITS))
    run.journal.append(record(TRIALS[1], COST, outcome, "", DIGITS))
    run.journal.append(record(TRIALS[0], COST, outcome, "", DIGITS))
    assert [r.trial["status"] for r in run.compact().values()] == ["completed"]
    assert len(pd.read_parquet(run.folder / "trials.parquet")) == 1


def test_a_run_without_records_has_empty_tables_with_all_columns(tmp_path):
    run = run_folder(tmp_path)
    run.compact()
    trials = pd.read_parquet(run.folder / "trials.parquet")
    assert len(trials) == 0
    assert set(TRIAL_COLUMNS) <= set(trials.columns)


def test_the_folder_says_what_the_run_is(tmp_path):
    run = run_folder(tmp_path)
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["versions"]["torch"]
    assert environment["hardware"]["cores"] >= 1
    assert [trial["trial_id"] for trial in run.plan.trials()] == [trial.trial_id for trial in TRIALS]


def test_a_folder_in_whose_place_a_file_is_cannot_be_written(tmp_path):
    (tmp_path / "small").write_text("in the way")
    with pytest.raises(InputError, match=r"small: cannot be written .*--out"):
        run_folder(tmp_path)


def test_opening_what_is_no_run_is_an_error(tmp_path):
    with pytest.raises(InputError, match="not a run's folder"):
        RunFolder.open(tmp_path)


def test_drafts_of_killed_writers_go_and_those_of_living_ones_stay(tmp_path):
    run = RunFolder.create(tmp_path, SWEEP)
    dead = subprocess.Popen(["true"])
    dead.wait()
    killed, living, foreign = (
        run.folder / name for name in (f"x.{dead.pid}.tmp", f"x.{os.getpid()}.tmp", "my notes.tmp")
    )
    for draft in (killed, living, foreign):
        draft.write_text("half")
    run.describe(SWEEP, {}, [], {})
    assert [draft.exists() for draft in (killed, living, foreign)] == [False, True, True]


def test_no_path_in_a_received_run_folder_is_followed(tmp_path):
    """Older versions kept in .tune/ray-session which folder to remove: whoever made the folder chose it."""
    run, mine = RunFolder.create(tmp_path, SWEEP), tmp_path / "mine"
    (mine / "letters").mkdir(parents=True)
    (run.folder / ".tune").mkdir()
    (run.folder / ".tune" / "ray-session").write_text(str(mine))
    (run.folder / ".tune" / "link").symlink_to(mine)
    run.describe(SWEEP, {}, [], {})
    assert (mine / "letters").is_dir()
    assert not (run.folder / ".tune").exists()
    (run.folder / ".tune").symlink_to(mine)
    run.describe(SWEEP, {}, [], {})
    assert (mine / "letters").is_dir()


NAMES = ["plan.json", "plan.jsonl", "journal.jsonl", "sweep.yaml", "design.json", "environment.json"]


@pytest.mark.parametrize("name", [*NAMES, "trials.parquet", "log.txt", "code", "study.db", "tensorboard"])
def test_nothing_is_written_through_a_link(tmp_path, outcome, name):
    run, mine = RunFolder.create(tmp_path, SWEEP), tmp_path / "mine"
    (mine if name in ("code", "tensorboard") else mine.parent).mkdir(exist_ok=True)
    mine.is_dir() or mine.write_text("letters\n")
    run.write_plan(TRIALS, KEYS)
    (run.folder / name).unlink(missing_ok=True)
    (run.folder / name).symlink_to(mine)
    sweep = Sweep.model_validate({**SWEEP.model_dump(), "search": SEARCH}) if name == "study.db" else SWEEP
    with suppress(UnreadableError):
        keep_sources(run.folder, {}, "0" * 64)
        run.journal.append(record(TRIALS[0], COST, outcome, "", DIGITS))
        run.plan.add(TRIALS[:1], KEYS)
        with Progress(Counts(), run.folder / "log.txt", Console(file=io.StringIO())) as progress:
            progress.say("a line")
        if name == "study.db":
            Study(plan(sweep, lambda spec: describe(spec, tmp_path)), run.folder, {})
        if name == "tensorboard":
            open_trackers(("tensorboard",), run.folder, "small", "").close(HANGS_SECONDS)
        run.describe(SWEEP, {}, TRIALS, KEYS)
        run.compact()
    assert list(mine.iterdir()) == [] if mine.is_dir() else mine.read_text() == "letters\n"


def test_a_journal_that_cannot_be_written_is_one_error(tmp_path, outcome):
    run = run_folder(tmp_path)
    run.journal.path.mkdir()
    with pytest.raises(WriteError, match=r"small: cannot be written \(Is a directory\)"):
        run.journal.append(record(TRIALS[0], COST, outcome, "", DIGITS))
