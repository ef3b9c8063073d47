"""Seeds as the unit: which are whole, and means where arms lack some, against least squares written out."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from least_squares import fit_rows_and_columns

from analysis import load_run, mark_front, mark_membership, summarise_arms
from analysis.seeds import seed_effects, whole_seeds

TABLES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.randoms(use_true_random=False))


def holes(rows: int, columns: int, random: object) -> np.ndarray:
    draws = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    table = draws.normal(size=(rows, columns))
    table[draws.random((rows, columns)) < 0.3] = np.nan
    return table


@given(TABLES)
def test_effects_are_those_of_least_squares(size: tuple[int, int, object]) -> None:
    table = holes(*size)
    found = seed_effects(table)
    known = ~np.isnan(table)
    rows, columns = known.any(axis=1), known.any(axis=0)
    if not known.any():
        assert not found.is_estimable
        return
    means, effects, rank = fit_rows_and_columns(table)
    assert found.is_estimable == (rank == rows.sum() + columns.sum() - 1)
    assert not found.columns[~columns].any()
    if found.is_estimable:
        assert found.columns[columns] == pytest.approx(effects, abs=1e-9)
        corrected = np.nanmean((table - found.columns)[rows], axis=1)
        assert corrected == pytest.approx(means, abs=1e-9)


def test_arms_without_a_seed_in_common_cannot_be_compared() -> None:
    assert not seed_effects(np.array([[1.0, np.nan], [np.nan, 2.0]])).is_estimable


def folds_of(arm: str, seed: int, accuracies: list[float | None], parameters: int) -> list[dict[str, object]]:
    return [
        {
            "run": "r", "dataset": "d", "arm": arm, "seed": seed, "fold": fold, "folds": len(accuracies),
            "status": "failed" if accuracy is None else "completed", "phase": None,
            **dict.fromkeys(("val_accuracy", "test_accuracy", "train_accuracy"), accuracy),
            "parameters": parameters, "macs": parameters, "weight_bytes": 4 * parameters, "seconds": 1.0,
            "latency_ms": None,
        }
        for fold, accuracy in enumerate(accuracies)
    ]  # fmt: skip


def frame(rows: list[list[dict[str, object]]]) -> pd.DataFrame:
    types = {"latency_ms": "float64", "parameters": "Int64", "macs": "Int64", "weight_bytes": "Int64"}
    return pd.DataFrame(list(itertools.chain(*rows))).astype(types)


def test_an_arm_of_which_a_fold_is_missing_at_every_seed_leads_no_front() -> None:
    """X completed its one easy fold alone; base, which is better, is on the front by itself."""
    base = [folds_of("base", seed, [0.95, 0.80, 0.78], 2_000) for seed in range(6)]
    others = [folds_of("x", seed, [0.945, None, None], 1_000) for seed in range(6)]
    trials = frame(base + others)
    assert set(whole_seeds(trials, ["val_accuracy"]).index.get_level_values("arm")) == {"base"}
    arms = mark_membership(mark_front(summarise_arms(trials)), trials).set_index("arm")
    assert arms["on_front"].to_dict() == {"base": True, "x": False}
    assert arms["front_probability"].to_dict() == {"base": 1.0, "x": pytest.approx(np.nan, nan_ok=True)}
    assert arms[["n_seeds", "n_seeds_tried"]].to_numpy().tolist() == [[6, 6], [0, 6]]
    assert arms.loc["base", "val_mean"] == pytest.approx(2.53 / 3)


def test_a_mean_over_the_easy_seeds_alone_is_no_better_for_it() -> None:
    """Seed 2 is six points easier for all; "small" has no other, and is one and a half points worse."""
    rows = [folds_of("base", seed, [value], 2_000) for seed, value in enumerate([0.90, 0.90, 0.96])]
    rows += [folds_of("other", seed, [value], 3_000) for seed, value in enumerate([0.88, 0.88, 0.94])]
    rows += [folds_of("small", seed, [value], 1_000) for seed, value in enumerate([None, None, 0.945])]
    arms = summarise_arms(frame(rows)).set_index("arm")
    assert arms["val_mean"].to_dict() == pytest.approx({"base": 0.92, "other": 0.90, "small": 0.905})
    assert arms["is_corrected"].to_dict() == {"base": False, "other": False, "small": True}
    assert arms.loc["small", "test_mean"] == pytest.approx(0.905)


def test_nets_of_a_search_which_were_planned_with_a_seed_each_are_left_as_they_are() -> None:
    rows = [
        folds_of("one", 0, [0.9], 1_000),
        folds_of("two", 0, [0.8], 2_000),
        folds_of("two", 1, [0.7], 2_000),
    ]
    trials = frame(rows).assign(phase="search")
    arms = summarise_arms(trials).set_index("arm")
    assert arms["val_mean"].to_dict() == pytest.approx({"one": 0.9, "two": 0.75})
    assert not arms["is_corrected"].any()


def test_how_many_folds_there_are_is_the_plans_matter(run_folder) -> None:
    """Of two planned folds only the first has run: no seed is whole."""
    import json

    (run_folder / "design.json").write_text(json.dumps({"base": None, "folds": 2}))
    trials = pd.read_parquet(run_folder / "trials.parquet").assign(fold=0)
    trials.to_parquet(run_folder / "trials.parquet")
    arms = summarise_arms(load_run(run_folder).trials)
    assert set(arms["n_seeds"]) == {0}
    assert arms["val_mean"].isna().all()
