"""Data sets are told apart by their images, within a run and between runs."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis import load_run, mark_front, summarise_arms
from analysis.design import DataIdentity
from analysis.tables import label_data, load_runs


def trials_of(*rows: tuple[str, str | None, str | None]) -> pd.DataFrame:
    """Make trials of (name, fingerprint, path)."""
    frame = pd.DataFrame(rows, columns=["dataset", "data_fingerprint", "config.dataset.path"])
    return frame.assign(**{"config.dataset.image_size": None})


def test_labels_are_those_of_the_design_by_fingerprint() -> None:
    known = {"npz (a.npz)": DataIdentity("f1", "a.npz"), "npz (b.npz)": DataIdentity("f2", "b.npz")}
    trials = trials_of(("npz", "f1", "a.npz"), ("npz", "f2", "b.npz"), ("npz", "0123456789", "a.npz"))
    assert label_data(trials, known).tolist() == [
        "npz (a.npz)", "npz (b.npz)", "npz (other images, 012345)",
    ]  # fmt: skip


def test_without_fingerprints_names_and_paths_tell() -> None:
    trials = trials_of(("npz", None, "a.npz"), ("npz", None, "b.npz"), ("digits", None, None))
    assert label_data(trials, {}).tolist() == ["npz (a.npz)", "npz (b.npz)", "digits"]
    same = trials_of(("npz", None, "a.npz"), ("npz", None, "a.npz"))
    assert label_data(same, {}).tolist() == ["npz", "npz"]


def describe(folder: Path, path: str, fingerprint: str) -> None:
    """Say in a run's folder on which images it was."""
    tree = {
        "base": None, "folds": None, "classes": {"digits": ["no", "yes"]},
        "datasets": {"digits": {"fingerprint": fingerprint, "name": "npz", "path": path, "image_size": None}},
    }  # fmt: skip
    (folder / "design.json").write_text(json.dumps(tree))
    trials = pd.read_parquet(folder / "trials.parquet").assign(data_fingerprint=fingerprint)
    trials.to_parquet(folder / "trials.parquet")


@pytest.fixture
def two_folders(run_folder: Path, tmp_path: Path) -> list[Path]:
    import shutil

    return [run_folder, Path(shutil.copytree(run_folder, tmp_path / "other"))]


@pytest.mark.parametrize(
    ("places", "names"),
    [
        ([("a.npz", "f1"), ("moved/a.npz", "f1")], ["digits", "digits"]),
        ([("a.npz", "f1"), ("b.npz", "f2")], ["digits (a.npz)", "digits (b.npz)"]),
        ([("a.npz", "f1"), ("a.npz", "f2")], ["digits ({})", "digits (other)"]),
    ],
    ids=["one data set that was moved", "two files", "a file whose content changed"],
)
def test_runs_share_a_front_if_and_only_if_their_images_are_equal(
    two_folders: list[Path], places: list[tuple[str, str]], names: list[str]
) -> None:
    for folder, place in zip(two_folders, places, strict=True):
        describe(folder, *place)
    runs = load_runs(two_folders)
    expected = [name.format(two_folders[0].name) for name in names]
    assert [run.trials["dataset"].unique().tolist() for run in runs] == [[name] for name in expected]
    assert [list(run.classes) for run in runs] == [[name] for name in expected]
    arms = mark_front(summarise_arms(pd.concat([run.trials for run in runs])))
    assert arms["dataset"].nunique() == len(set(expected))
    assert arms.groupby("dataset")["on_front"].any().all()


def test_a_folder_without_fingerprints_is_on_the_data_set_of_its_name(two_folders: list[Path]) -> None:
    describe(two_folders[0], "a.npz", "f1")
    assert {name for run in load_runs(two_folders) for name in run.trials["dataset"]} == {"digits"}
    assert load_run(two_folders[1]).data == {}
