"""An ablation as a user meets it: a sweep file, trained without Ray, the verdicts in words."""

import json
from pathlib import Path

import pandas as pd
import pytest
from forked import lightsweep

ABLATION = """
name: abl
dataset: {name: digits, validation: 100, train_limit: 150}
seeds: 2
base:
  model: {filters: [2, 3], hidden: 4}
  stages:
    - {name: dual, loss: heads, epochs: 1}
    - {name: finetune, loss: fused, optimizer: sgd, lr: 1.0e-9, epochs: 1}
ablation:
  design: leave-one-out
  components:
    dual input: {model.inputs: single}
  arms:
    tie: {stages.finetune.lr: 1.0e-8}
    dead: {stages.dual.lr: 1.0e+30}
    matched: {model.inputs: single, match: parameters, within: 0.05}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("ablation")
    (folder / "abl.yaml").write_text(ABLATION)
    done = lightsweep("run", "abl.yaml", cwd=folder)
    (folder / "output.txt").write_text(done.stdout)
    assert done.returncode == 1, done.stdout + done.stderr  # an arm fails, and that is said
    return folder


class TestAblation:
    """Of one run, which is made once."""

    def test_plan_says_what_the_seeds_cannot_show(self, folder: Path) -> None:
        done = lightsweep("plan", "abl.yaml", cwd=folder)
        assert done.stdout.splitlines()[-1] == (
            "warning: differences: 4 comparisons, 2 seeds: no p value can be below 1 (two-sided sign-flip "
            "test, Holm), so nothing can be shown at 0.05: 8 seeds are the fewest that can"
        )
        done = lightsweep("plan", "abl.yaml", "--set", "seeds=10", "--json", cwd=folder)
        first, *points = json.loads(done.stdout)["foreseen"]
        assert first == (
            "differences: 4 comparisons, 10 seeds: the smallest p value is 0.0078; a difference of 1.3 "
            "standard deviations of the paired differences is found in about 3 of 4 such experiments"
        )
        assert len(points) == 1
        assert points[0].startswith("digits, differences: by the seeds recorded so far, this is about ")
        assert points[0].endswith(" points (median of 3 comparisons)")

    def test_the_matched_arm_costs_what_base_costs(self, folder: Path) -> None:
        trials = pd.read_parquet(folder / "runs/abl/trials.parquet").set_index("arm")
        base, matched = (trials.loc[arm, "parameters"].iloc[0] for arm in ("base", "matched"))
        assert abs(matched - base) <= 0.05 * base
        assert trials.loc["without dual input", "parameters"].iloc[0] < 0.6 * base

    def test_verdicts_are_printed_and_failures_named(self, folder: Path) -> None:
        lines = (folder / "output.txt").read_text().splitlines()
        start = lines.index("digits, differences:")
        assert lines[start + 1].startswith("  warning: differences: 4 comparisons, 2 seeds")
        found = dict(line.strip().split(": ", 1) for line in lines[start + 2 : start + 6])
        assert list(found) == ["dual input", "tie", "dead", "matched"]
        assert found["dead"] == "not decided: no seed has all its arms"
        assert found["tie"].startswith("not decided: 2 seeds are too few for 4 comparisons, 8 may suffice")
        assert sum("dead (seed" in line and "failed: " in line for line in lines) == 2

    def test_the_report_shows_the_tie_and_the_failures(self, folder: Path) -> None:
        page = (folder / "runs/abl/report.html").read_text()
        assert "What each change is worth on digits" in page
        assert '<td class="number">+0.00</td><td class="number">–</td>' in page  # no interval of equal seeds
        assert "dead, seed 0 failed: stage dual: the training loss is NaN in epoch 1" in page

    def test_a_single_seed_decides_nothing_and_trains_nothing_new(self, folder: Path) -> None:
        done = lightsweep("run", "abl.yaml", "--set", "seeds=1", "--set", "name=one", cwd=folder)
        assert "  dual input: not decided: one seed says nothing about chance" in done.stdout.splitlines()
        assert " is up: " not in done.stdout

    def test_an_arm_that_changes_nothing_is_refused_with_its_name(self, folder: Path) -> None:
        (folder / "idle.yaml").write_text(ABLATION.replace("1.0e-8", "1.0e-9"))
        done = lightsweep("run", "idle.yaml", cwd=folder)
        assert done.returncode == 2
        assert done.stderr == (
            "error: idle.yaml: ablation.arms.tie: changes nothing: its trials are those of base\n"
        )
