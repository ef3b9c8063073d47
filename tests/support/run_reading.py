"""Reading what runs left in the folder that they were started in, and comparing it."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from lightsweep.store.folder import CHECKPOINT, RESULT
from lightsweep.store.stagefile import StageResult

MEASURED = ["seconds", "waited_seconds", "started_at"]
"""Columns that differ from run to run."""
ACCURACIES = ("val_accuracy", "test_accuracy", "train_accuracy")


def told(output: str) -> tuple[list[str], list[str]]:
    """The lines of trials that ended, up to their number, and the others.

    A sign of life, which a run only gives if nothing else happened for a minute, is in neither.
    """
    lines = output.splitlines()
    of_trials = (line for line in lines if line.startswith("[") and "] running: " not in line)
    ended = [re.split("[/,]", line)[0] for line in of_trials]
    return ended, [line for line in lines if not line.startswith("[")]


def results(folder: Path) -> dict[str, Path]:
    """The files of the store's results, by key."""
    return {path.stem: path for path in (folder / "runs/.stages").rglob(f"*{RESULT}")}


def weights(folder: Path) -> dict[str, bytes]:
    """Each stage's weights, as bytes, by key."""
    found = {}
    for key, path in results(folder).items():
        result = StageResult.from_bytes(path.read_bytes(), path.stem)
        found[key] = b"".join(tensor.numpy().tobytes() for tensor in result.weights.values())
    return found


def table(folder: Path, name: str, run: str = "killed") -> pd.DataFrame:
    return pd.read_parquet(folder / f"runs/{run}/{name}.parquet")


def made(folder: Path, run: str = "killed") -> "pd.Series[str]":
    """The keys of the stages and assessments that a run's trials trained, not looked up."""
    keys: pd.Series[str] = table(folder, "stages", run).query("origin != 'stored'").key
    return keys


def journal(folder: Path, run: str = "killed") -> list[dict[str, Any]]:
    """The trials' rows in the journal; its last line may be half written."""
    path = folder / f"runs/{run}/journal.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line)["trial"] for line in lines if line]


def assert_as_if_undisturbed(folder: Path, reference: Path) -> None:
    """Check that each trial is recorded once, to the bit as in an undisturbed run, and nothing is left."""
    trials, expected = table(folder, "trials"), table(reference, "trials")
    for column in ("trial_id", "status", "result_key", *ACCURACIES):
        pd.testing.assert_series_equal(trials[column], expected[column])
    journalled = [row["trial_id"] for row in journal(folder)]
    assert sorted(journalled) == sorted(trials.trial_id)
    epochs, others = (table(where, "epochs").drop(columns="seconds") for where in (folder, reference))
    pd.testing.assert_frame_equal(epochs, others)
    assert weights(folder) == weights(reference)
    assert made(folder).is_unique
    assert left_behind(folder) == left_behind(reference)


def left_behind(folder: Path) -> set[str]:
    """The files that only a run under way needs; a search keeps the checkpoints of what it stopped early."""
    files = [path for path in (folder / "runs").rglob("*") if path.is_file()]
    left = [path for path in files if path.suffix in (".tmp", ".draft", CHECKPOINT) or ".tune" in path.parts]
    temporary = [path for path in (folder / "tmp").rglob("*") if path.is_file() or path.is_socket()]
    return {str(path.relative_to(folder)) for path in (*left, *temporary)}
