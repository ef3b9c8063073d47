from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis import mark_front, pareto_front

FLOATS = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, 2.0, np.inf, np.nan])
DIRECTIONS = st.sampled_from(["minimise", "maximise"])


@st.composite
def problems(draw):
    m = draw(st.integers(1, 3))
    values = draw(arrays(np.float64, (draw(st.integers(0, 12)), m), elements=FLOATS))
    return values, draw(st.lists(DIRECTIONS, min_size=m, max_size=m))


def dominates(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], directions: list[str]) -> bool:
    pairs = [(x, y) if d == "minimise" else (y, x) for x, y, d in zip(a, b, directions, strict=True)]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def test_hand_values():
    values = [[100, 0.90], [200, 0.95], [200, 0.94], [300, 0.95], [300, np.nan], [100, 0.90]]
    front = pareto_front(np.array(values), ["minimise", "maximise"])
    assert front.tolist() == [True, True, False, False, False, True]


def test_no_points_no_front():
    assert pareto_front(np.empty((0, 2)), ["minimise", "maximise"]).tolist() == []


@given(problems())
def test_agrees_with_all_pairs(problem):
    values, directions = problem
    usable = [row for row in values if not np.isnan(row).any()]
    expected = [
        not np.isnan(row).any() and not any(dominates(other, row, directions) for other in usable)
        for row in values
    ]
    assert pareto_front(values, directions).tolist() == expected


@given(problems(), st.randoms(use_true_random=False))
def test_order_of_points_does_not_matter(problem, random):
    values, directions = problem
    order = random.sample(range(len(values)), len(values))
    shuffled = pareto_front(values[order], directions)
    assert shuffled.tolist() == pareto_front(values, directions)[order].tolist()


@given(problems())
def test_only_ranks_matter_and_a_sign_is_a_direction(problem):
    values, directions = problem
    front = pareto_front(values, directions).tolist()
    assert pareto_front(np.arctan(values) * 3 + 1, directions).tolist() == front
    flipped = ["maximise" if direction == "minimise" else "minimise" for direction in directions]
    assert pareto_front(-values, flipped).tolist() == front


@given(problems())
def test_the_front_of_the_front_is_itself(problem):
    values, directions = problem
    front = values[pareto_front(values, directions)]
    assert pareto_front(front, directions).all()


@pytest.mark.parametrize(
    ("shape", "directions", "message"),
    [
        ((3, 2), ["minimise"], r"values must be \[n, 1\], a column per direction; got shape \(3, 2\)"),
        ((3,), ["minimise"], r"got shape \(3,\)"),
        ((3, 2), ["minimise", "up"], r"unknown direction \['up'\]; use 'minimise' or 'maximise'"),
    ],
)
def test_refuses_what_does_not_fit(shape, directions, message):
    with pytest.raises(ValueError, match=message):
        pareto_front(np.zeros(shape), directions)


def arms_table(**columns):
    arms = pd.DataFrame(columns)
    return arms.assign(label=[f"arm {i}" for i in range(len(arms))]).astype({"parameters": "Int64"})


def test_mark_front_takes_each_data_set_for_itself():
    marked = mark_front(
        arms_table(
            dataset=["a", "a", "b", "a"],
            parameters=[200, 100, 300, None],
            val_mean=[0.9, 0.8, 0.1, np.nan],
            test_mean=[0.1, 0.9, 0.9, 0.9],
        )
    )
    assert marked["on_front"].tolist() == [True, True, True, False]
    assert marked["front_rank"].tolist()[:3] == [2, 1, 1]
    assert marked["front_rank"].isna().tolist() == [False, False, False, True]


def test_ranks_go_up_with_parameters_and_accuracy():
    random = np.random.default_rng(0)
    marked = mark_front(
        arms_table(
            dataset=["a"] * 50, parameters=random.integers(1, 1000, 50), val_mean=random.uniform(0, 1, 50)
        )
    )
    front = marked[marked["on_front"]].sort_values("front_rank")
    assert front["front_rank"].tolist() == list(range(1, len(front) + 1))
    rows = list(zip(front["parameters"], front["val_mean"], strict=True))
    assert all(small[0] < large[0] and small[1] < large[1] for small, large in pairwise(rows))
