"""Runs that share a folder and a store: what one makes, no other makes. Processes without Ray, and a gate."""

import json
from pathlib import Path

import pandas as pd
from forked import Setting, start_training
from run_reading import left_behind, made, results, weights
from small_images import SPEC, write_images

SWEEP = {
    "name": "killed",
    "dataset": SPEC,
    "seeds": 2,
    "base": {
        "model": {"filters": [2, 3]},
        "stages": {"preset": "paper", "epochs": {"dual": 2, "fusion": 1, "finetune": 1}, "patience": None},
    },
    "grid": {"model.hidden": [4, 8]},
    "resources": {"checkpoint_seconds": 0},
}


def begin(folder: Path) -> None:
    (folder / "sweep.yaml").write_text(json.dumps(SWEEP))
    write_images(folder / "data/images.npz")


def test_one_more_of_the_same_name_waits_and_one_of_another_name_shares(tmp_path: Path) -> None:
    """The first one is held in its first trial, with a stage claimed, until both others are at work."""
    alone, shared, gate = (tmp_path / name for name in ("alone", "shared", "gate"))
    for folder in (alone, shared, gate):
        folder.mkdir()
    for folder in (alone, shared):
        begin(folder)
    assert start_training(alone).end().returncode == 0
    first = start_training(shared, setting=Setting(gate=gate))
    first.await_state(lambda: any(gate.iterdir()))
    second = start_training(shared)
    other = start_training(shared, "name=other")
    second.await_line("another lightsweep run is using runs/killed; waiting for it to finish")
    other.await_state((shared / "runs/other/plan.json").exists)
    (gate / "open").touch()
    outputs = [child.end() for child in (first, second, other)]
    assert [done.returncode for done in outputs] == [0, 0, 0], outputs
    assert "4 already done" in outputs[1].stdout
    both = pd.concat([made(shared), made(shared, "other")])
    assert both.is_unique
    assert set(both) == set(results(shared))
    assert weights(shared) == weights(alone)
    assert left_behind(shared) == set()
