import shutil
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imitation_search import write_design

from analysis import load_run
from analysis.attainment.result import LEVELS, attainment_surfaces, gather_repeats, settings_apart


def corners(surfaces, level):
    rows = surfaces[surfaces["level"] == level]
    return list(zip(rows["parameters"], rows["accuracy"], strict=True))


def test_surfaces_by_hand():
    """The median of two: 2 parameters with 0.5 is what both reach; what one reaches is each one's point."""
    surfaces = attainment_surfaces([np.array([[1, 0.5]]), np.array([[2, 0.9]])])
    assert corners(surfaces, 25) == corners(surfaces, 50) == [(1, 0.5), (2, 0.9)]
    assert corners(surfaces, 75) == [(2, 0.5)]
    assert surfaces["level"].dtype == np.int64


POINTS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=4)


@settings(deadline=None)  # the first call imports moocore
@given(st.lists(POINTS, min_size=1, max_size=5))
def test_surfaces_agree_with_brute_force(sets):
    """A corner of a level is a point that enough repeats attain, and that no other such point beats."""
    surfaces = attainment_surfaces([np.array(points, dtype=np.float64) for points in sets])
    for level in LEVELS:
        needed = -(-level * len(sets) // 100)
        attained = [
            (x, y)
            for x, y in product(range(1, 6), range(6))
            if sum(any(a <= x and b >= y for a, b in points) for points in sets) >= needed
        ]
        best = [
            (x, y)
            for x, y in attained
            if not any((a, b) != (x, y) and a <= x and b >= y for a, b in attained)
        ]
        assert corners(surfaces, level) == sorted(best)


@pytest.mark.parametrize("fronts", [[], [np.empty((0, 2))], [np.ones(2)], [np.array([[1.0, np.nan]])]])
def test_repeats_without_points_are_refused(fronts):
    with pytest.raises(ValueError, match=r"each repeat needs points|must be finite"):
        attainment_surfaces(fronts)


@pytest.fixture
def repeated(search_folder, tmp_path):
    def repeat(name, **changes):
        folder = shutil.copytree(search_folder, tmp_path / name)
        write_design(folder, **changes)
        return folder

    return repeat


def test_repeats_share_all_but_seeds_and_confirmation(repeated):
    folders = [
        repeated("one", seed=1),
        repeated("two", seed=2, seeds=[7], margin=None),
        repeated("lone", sampler="random"),
        repeated("three", sampler="nsga2"),
        repeated("four", sampler="nsga2", early_stopping="rank", seed=3),
        repeated("other", sampler="nsga2", early_stopping=None),
    ]
    found = gather_repeats([load_run(folder) for folder in folders])
    assert [one.runs for one in found] == [("one", "two"), ("three", "four")]
    assert settings_apart([one.search for one in found]) == [{"sampler": "tpe"}, {"sampler": "nsga2"}]
    assert settings_apart([]) == []
    by_hand = [(500, 0.60), (2_000, 0.90), (5_000, 0.93), (8_000, 0.95), (10_000, 0.97)]
    for level in LEVELS:  # of equal repeats, the search's front; no early-stopped 99.9%, no confirmation
        assert corners(found[0].surfaces, level) == by_hand


def test_only_searches_with_results_are_repeats(repeated, run_folder):
    empty = repeated("empty")
    trials = pd.read_parquet(empty / "trials.parquet")
    trials[trials["status"] != "completed"].to_parquet(empty / "trials.parquet")
    folders = [repeated("one"), empty, run_folder, repeated("macs", objectives={"val_accuracy": "maximise"})]
    assert gather_repeats([load_run(folder) for folder in folders]) == []
    assert gather_repeats([]) == []
