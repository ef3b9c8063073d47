"""A failed cell of a factorial costs a cell, not its seed: least squares within the seed."""

import itertools

import numpy as np
import pandas as pd
import pytest
from imitation_ablation import design_tree, imitate, table

from analysis.ablation.result import gather_evidence
from analysis.design import Design, parse_design
from analysis.statistics.contrasts import families
from analysis.statistics.pairing import contrast_by_seed, whole_seeds_of


def factorial(seeds: int) -> tuple[Design, list[str]]:
    tree = design_tree("factorial", ["a", "b", "c"], seeds=range(seeds))
    design = parse_design(tree)
    assert design is not None
    return design, list(design.arms["digits"])


def effects_of(levels: dict[str, int]) -> float:
    """Return what the cell is worth: two points, one and a half a point, and a and b one more together."""
    present = {name: 1 - level for name, level in levels.items()}
    main = 0.02 * present["a"] + 0.01 * present["b"] + 0.005 * present["c"]
    return 0.8 + main + 0.01 * present["a"] * present["b"]


def test_complete_seeds_are_as_they_were() -> None:
    design, arms = factorial(2)
    draws = np.random.default_rng(0)
    accuracies = pd.DataFrame(draws.normal(size=(8, 2)), arms, [0, 1])
    for family in families(design, "digits"):
        for contrast in family.contrasts:
            plain = sum(weight * accuracies.loc[arm] for arm, weight in contrast.weights.items())
            assert contrast_by_seed(contrast, accuracies).tolist() == pytest.approx(plain.tolist(), abs=1e-11)


@pytest.mark.parametrize("missing", range(8))
def test_a_missing_cell_is_no_matter_where_the_model_holds(missing: int) -> None:
    """Without noise and with the effects that the model has, each contrast is what it is without a hole."""
    design, arms = factorial(1)
    levels = design.arms["digits"]
    whole = pd.DataFrame({0: [effects_of(dict(levels[arm] or {})) for arm in arms]}, arms)
    holed = whole.copy()
    holed.iloc[missing] = np.nan
    found = dict(zip(("main effects", "interactions"), families(design, "digits"), strict=True))
    for contrast in found["interactions"].contrasts:
        assert contrast_by_seed(contrast, holed)[0] == pytest.approx(contrast_by_seed(contrast, whole)[0])
        assert whole_seeds_of(contrast, holed) == []


def test_main_effects_by_an_oracle() -> None:
    """Ordinary least squares of a constant and three dummies over the seven cells that are there."""
    design, arms = factorial(1)
    draws = np.random.default_rng(1)
    accuracies = pd.DataFrame({0: draws.normal(size=8)}, arms)
    accuracies.iloc[5] = np.nan
    present = [arm for arm in arms if not np.isnan(accuracies.loc[arm, 0])]
    rows = [[1.0, *(1 - design.arms["digits"][arm][name] for name in "abc")] for arm in present]
    solved = np.linalg.lstsq(np.array(rows), accuracies.loc[present, 0], rcond=None)[0]
    main = families(design, "digits")[0]
    for contrast, expected in zip(main.contrasts, solved[1:], strict=True):
        assert contrast_by_seed(contrast, accuracies)[0] == pytest.approx(expected)


def test_a_seed_whose_cells_do_not_tell_is_left_out() -> None:
    """With a everywhere, nothing tells what a is worth."""
    design, arms = factorial(1)
    accuracies = pd.DataFrame({0: range(8)}, arms, dtype="float64")
    accuracies[[bool((design.arms["digits"][arm] or {})["a"]) for arm in arms]] = np.nan
    a, b, _ = families(design, "digits")[0].contrasts
    assert contrast_by_seed(a, accuracies).empty
    assert not contrast_by_seed(b, accuracies).empty


def test_eight_failures_in_eighty_trials_leave_ten_seeds(tmp_path) -> None:
    """One in each of eight seeds; listwise deletion left two."""
    tree = design_tree("factorial", ["a", "b", "c"], seeds=range(10))
    design = parse_design(tree)
    cells = design.arms["digits"]
    draws = np.random.default_rng(2)
    accuracies = {
        arm: [effects_of(dict(levels)) + draws.normal(0, 0.001) for _ in range(10)]
        for arm, levels in cells.items()
    }
    for seed, arm in enumerate(itertools.islice(cells, 8)):
        accuracies[arm][seed] = "RuntimeError: lost"
    (evidence,) = gather_evidence(imitate(tmp_path / "run", tree, table(accuracies)))
    main, interactions = evidence.families
    assert {row.judgement.n for row in (*main.comparisons, *interactions.comparisons)} == {10}
    assert all(row.fitted == tuple(range(8)) for row in main.comparisons)
    worth = {row.contrast.name: row.judgement.mean for row in main.comparisons}
    assert worth == pytest.approx({"a": 0.025, "b": 0.015, "c": 0.005}, abs=0.001)
    assert "8 of 10 seeds by least squares" in " ".join(main.comparisons[0].remarks)
