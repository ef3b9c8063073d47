"""What a run records is what was trained: images by fingerprint, failures with curves, a search's course.

Trials are trained in one process, without Ray (`plain_cluster`).
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import lightsweep, start_training
from run_reading import journal, table
from small_images import SPEC, write_images
from studies import study_trials

from analysis.ablation.result import gather_evidence
from analysis.search.confirmation import judged_trials
from analysis.statistics.testimages import decode_hits
from analysis.tables import load_run

STAGES: dict[str, Any] = {
    "preset": "paper",
    "epochs": {"dual": 3, "fusion": 1, "finetune": 1},
    "patience": None,
}
SWEEP: dict[str, Any] = {
    "name": "killed",
    "dataset": SPEC,
    "seeds": 1,
    "base": {"model": {"filters": [2, 3], "hidden": 4}, "stages": STAGES},
}


def train(folder: Path, sweep: dict[str, Any], status: int = 0) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "sweep.yaml").write_text(json.dumps(sweep))
    done = start_training(folder).end()
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


class TestTwoFilesOfOneKind:
    """A grid over `dataset.path`: two data sets, which are on no front together."""

    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder: Path = tmp_path_factory.mktemp("two")
        write_images(folder / "data/images.npz")
        write_images(folder / "data/fewer.npz", test=60)
        shutil.copy(folder / "data/images.npz", folder / "data/copy.npz")
        paths = [
            SPEC["path"],
            SPEC["path"].replace("images", "fewer"),
            SPEC["path"].replace("images", "copy"),
        ]
        train(folder, {**SWEEP, "grid": {"dataset.path": paths}})
        return folder

    def test_are_told_apart_by_their_images_and_named_by_their_paths(self, folder: Path) -> None:
        run = load_run(folder / "runs/killed")
        names = run.trials.set_index("config.dataset.path")["dataset"]
        one, fewer, copy = (names[path] for path in names.index.sort_values(key=lambda p: p.str[-8:]))
        assert len({one, fewer, copy}) == 2
        assert sum("fewer" in name for name in (one, fewer, copy)) == 1
        assert sorted(run.classes) == sorted(set(names))
        confusions = run.trials.groupby("dataset")["test_confusion"].first()
        counts = {name: np.sum(json.loads(confusion)) for name, confusion in confusions.items()}
        assert counts == {name: 60 if "fewer" in name else 30 for name in counts}

    def test_what_is_equal_is_trained_once(self, folder: Path) -> None:
        stages = table(folder, "stages")
        assert stages["origin"].eq("stored").sum() == 4  # of the copy: three stages and the assessment

    def test_are_not_exported_against_each_other(self, folder: Path) -> None:
        done = lightsweep("export", "runs/killed", "--best-under", "100000", "-o", "net.onnx", cwd=folder)
        assert done.returncode == 2
        assert "on 2 data sets cannot be compared" in done.stderr

    def test_have_a_section_each_on_the_page(self, folder: Path) -> None:
        assert lightsweep("report", "runs/killed", cwd=folder).returncode == 0
        page = (folder / "runs/killed/report.html").read_text()
        assert page.count("<h2>Accuracy against cost: npz") == 2

    def test_which_test_images_were_right_is_recorded(self, folder: Path) -> None:
        run = load_run(folder / "runs/killed")
        for trial in run.trials.itertuples():
            images = 60 if "fewer" in trial.dataset else 30
            assert decode_hits(trial.test_hits, images).mean() == pytest.approx(trial.test_accuracy)


def test_a_folder_older_than_all_this_is_read(tmp_path: Path) -> None:
    """As the commit before wrote it: what it lacks is null, and its stages are trained again."""
    write_images(tmp_path / "data/images.npz")
    train(tmp_path, SWEEP)
    folder = tmp_path / "runs/killed"
    record = journal(tmp_path)[0]
    lines = json.loads((folder / "journal.jsonl").read_text())
    for name in ("data_fingerprint", "failure", "test_hits", "config.tf32"):
        del lines["trial"][name]
    for stage in lines["stages"]:
        del stage["source"]
        stage["key"] = "0" * 64
    lines["trial"]["result_key"] = "0" * 64
    (folder / "journal.jsonl").write_text(json.dumps(lines) + "\n")
    design = json.loads((folder / "design.json").read_text())
    (folder / "design.json").write_text(
        json.dumps({key: value for key, value in design.items() if key not in ("datasets", "placebo")})
    )
    shutil.rmtree(folder / "code")
    for words in (("status", folder), ("show", folder, record["trial_id"]), ("report", folder)):
        done = lightsweep(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    run = load_run(folder)
    assert run.trials[["data_fingerprint", "failure", "test_hits"]].isna().all(axis=None)
    assert run.trials["test_accuracy"].tolist() == [record["test_accuracy"]]
    assert "0 already done" not in train(tmp_path, SWEEP)
    assert journal(tmp_path)[-1]["result_key"] == record["result_key"]


def test_a_diverged_trial_keeps_its_epochs_and_shows_how_it_diverged(tmp_path: Path) -> None:
    """Stored or not: the second run looks it up."""
    write_images(tmp_path / "data/images.npz")
    wild = {"name": "wild", "optimizer": "sgd", "lr": 1e25, "epochs": 4}
    stages = [{"name": "tame", "loss": "heads", "epochs": 2}, wild]
    sweep = {**SWEEP, "base": {**SWEEP["base"], "stages": stages}}
    train(tmp_path, sweep, status=1)
    first = journal(tmp_path)[0]
    shutil.rmtree(tmp_path / "runs/killed")
    train(tmp_path, sweep, status=1)
    for row in (first, journal(tmp_path)[0]):
        assert (row["status"], row["failure"]) == ("failed", "diverged")
        assert "loss is NaN in epoch 1" in row["error"]
    epochs = table(tmp_path, "epochs")
    assert table(tmp_path, "trials")["epochs_trained"].tolist() == [3]
    assert epochs["stage"].tolist() == ["tame", "tame", "wild"]
    assert epochs["val_loss"].isna().tolist() == [False, False, True]
    assert not epochs["is_kept"].any()


SEARCH: dict[str, Any] = {
    **SWEEP,
    "search": {
        "space": {
            "model.hidden": {"low": 4, "high": 40},
            "stages.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        },
        "trials": 8,
        "sampler": "tpe",
        "early_stopping": {"first": 1, "factor": 2},
        "confirmation": None,
    },
    "resources": {"cpus": 2},  # all that there are: one trial at a time, so that the order is one
}


def course(folder: Path) -> list[tuple[object, ...]]:
    """Return what became of each draw, in their order."""
    return [
        (trial.params, trial.values, trial.user_attrs["status"], trial.user_attrs["epochs"])
        for trial in study_trials(folder)
    ]


def test_a_search_goes_the_same_way_whatever_is_stored(tmp_path: Path) -> None:
    """A draw whose every stage is stored meets the rungs as if it were trained."""
    write_images(tmp_path / "data/images.npz")
    train(tmp_path, SEARCH)
    alone = course(tmp_path)
    stopped = [status for _, _, status, _ in alone]
    assert stopped.count("early_stopped") > 0, stopped
    whole = {**SEARCH, "name": "whole", "search": {**SEARCH["search"], "early_stopping": None}}
    train(tmp_path, whole)  # the same draws, for the first ten are random: all are wholly stored now
    shutil.rmtree(tmp_path / "runs/killed")
    train(tmp_path, SEARCH)
    assert course(tmp_path) == alone


def test_stages_say_by_which_code_they_were_trained(tmp_path: Path) -> None:
    write_images(tmp_path / "data/images.npz")
    train(tmp_path, SWEEP)
    (kept,) = (tmp_path / "runs/killed/code").iterdir()
    assert set(table(tmp_path, "stages")["source"]) == {kept.stem}


def test_a_placebo_is_base_with_other_seeds(tmp_path: Path) -> None:
    """Its row is in the evidence, and it is on no front."""
    write_images(tmp_path / "data/images.npz")
    ablation = {"placebo": True, "arms": {"wider": {"model.hidden": 8}}}
    train(tmp_path, {**SWEEP, "seeds": 2, "ablation": ablation})
    trials = table(tmp_path, "trials").set_index(["arm", "seed"])
    assert sorted(seed for arm, seed in trials.index if arm == "placebo") == [1_000_000, 1_000_001]
    run = load_run(tmp_path / "runs/killed")
    (evidence,) = gather_evidence(run)
    assert evidence.placebo is not None
    accuracies = trials["test_accuracy"]
    expected = [accuracies["placebo", 1_000_000 + seed] - accuracies["base", seed] for seed in (0, 1)]
    assert evidence.placebo.values == pytest.approx(expected)
    assert evidence.placebo.seeds == (0, 1)
    assert [row.contrast.name for family in evidence.families for row in family.comparisons] == ["wider"]
    assert "placebo" not in [arm.arm for arm in evidence.arms]
    assert set(judged_trials(run.trials)["arm"]) == {"base", "wider"}
