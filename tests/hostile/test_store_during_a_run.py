"""The store is cut down while a run is under way: that costs training at most, never a result."""

from pathlib import Path

import pandas as pd
import pytest
from forked import Setting, lightsweep, start
from runs_to_fuzz import SWEEP, begin

HERE = {"LIGHTSWEEP_DATA": "data"}


@pytest.mark.parametrize(
    "options", [["--prune"], ["--limit", "1KB"], ["--prune", "--limit", "none"]], ids=" ".join
)
def test_what_is_removed_meanwhile_is_made_again(tmp_path: Path, options: list[str]) -> None:
    accuracies = []
    for name in ("undisturbed", "disturbed"):
        folder = tmp_path / name
        begin(folder, SWEEP)
        gate = folder / "gate"
        gate.mkdir()
        child = start("run", "sweep.yaml", cwd=folder, setting=Setting(HERE, gate=gate))
        child.await_state(lambda gate=gate: len(list(gate.iterdir())) >= 1)
        if name == "disturbed":
            done = lightsweep("store", *options, cwd=folder)
            assert done.returncode == 0, done.stderr
        (gate / "open").touch()
        ended = child.end()
        assert ended.returncode == 0, ended.stderr
        trials = pd.read_parquet(folder / "runs/fuzzed/trials.parquet").set_index("trial_id")
        accuracies.append(trials["test_accuracy"].to_dict())
    assert accuracies[0] == accuracies[1]
