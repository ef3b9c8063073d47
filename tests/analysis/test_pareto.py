import math
import shutil
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from imitation_run import plant_partial_trials
from least_squares import fit_rows_and_columns
from scipy import stats

from analysis import load_run, mark_front, pareto_front, summarise_arms
from analysis.front.result import (
    BUDGETS,
    best_per_budget,
    covered_share,
    hypervolume,
    mark_membership,
    membership_probability,
)

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


def test_the_front_by_another_cost_is_another():
    """By hand: c has the fewest bytes, and beats b, which has fewer parameters."""
    arms = arms_table(
        dataset=["a"] * 4,
        run=["r"] * 4,
        arm=["a", "b", "c", "d"],
        parameters=[100, 200, 300, 400],
        weight_bytes=[400, 800, 300, None],
        val_mean=[0.9, 0.95, 0.96, 0.99],
    ).astype({"weight_bytes": "Int64"})
    assert mark_front(arms)["on_front"].tolist() == [True, True, True, True]
    marked = mark_front(arms, "weight_bytes")
    assert marked["on_front"].tolist() == [False, False, True, False]
    trials = pd.concat(
        arms.assign(seed=seed, folds=1, status="completed", val_accuracy=arms["val_mean"]) for seed in (0, 1)
    )
    found = mark_membership(marked, trials, "weight_bytes")["front_probability"]
    assert found.tolist()[:3] == [0, 0, 1]
    assert np.isnan(found.iloc[3])
    assert mark_membership(marked, trials)["front_probability"].tolist() == [1, 1, 1, 1]


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


def test_means_that_differ_by_rounding_only_are_equal():
    """Accuracies are often float32: means of equally many hits then differ in the eighth digit."""
    hits = np.array([[281, 285], [282, 284], [284, 284]])
    accuracies = (hits / 288).astype(np.float32).astype(np.float64)
    means = accuracies.mean(axis=1)
    assert means[0] < means[1]
    arms = arms_table(dataset=["a"] * 3, parameters=[100, 200, 300], val_mean=means)
    assert mark_front(arms)["on_front"].tolist() == [True, False, True]
    assert best_per_budget(arms, (250,))["label"].tolist() == ["arm 0"]
    noise = np.array([[0, 0, 0], [3e-8, 6e-8, 0], [1, 1, 1]])
    assert membership_probability(np.array([1, 2, 3]), 0.9 + 0.05 * noise).tolist() == [1, 0, 1]


COORDINATES = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0, 3.5, np.nan])


@st.composite
def volumes(draw):
    m = draw(st.integers(1, 3))
    values = draw(arrays(np.float64, (draw(st.integers(0, 10)), m), elements=COORDINATES))
    reference = draw(arrays(np.float64, m, elements=st.sampled_from([0.0, 1.0, 2.5])))
    return values, draw(st.lists(DIRECTIONS, min_size=m, max_size=m)), reference


def volume_by_cells(values, directions, reference) -> float:
    """Cut the space at every coordinate, and add up the cells that some point is better than."""
    is_down = [direction == "minimise" for direction in directions]
    points = [
        row
        for row in values
        if all(x < r if down else x > r for x, r, down in zip(row, reference, is_down, strict=True))
    ]
    cuts = [sorted({float(row[j]) for row in points} | {float(reference[j])}) for j in range(len(directions))]
    total = 0.0
    for cell in product(*(pairwise(cut) for cut in cuts)):
        is_covered = any(
            all(
                x <= low if down else x >= high for x, (low, high), down in zip(p, cell, is_down, strict=True)
            )
            for p in points
        )
        total += is_covered * float(np.prod([high - low for low, high in cell]))
    return total


@given(volumes())
def test_hypervolume_is_the_sum_of_the_cells_covered(problem):
    assert hypervolume(*problem) == pytest.approx(volume_by_cells(*problem), abs=1e-12)


@given(volumes())
def test_hypervolume_is_that_of_the_front(problem):
    values, directions, reference = problem
    front = values[pareto_front(values, directions)]
    twice = np.concatenate([front, front])
    assert hypervolume(twice, directions, reference) == pytest.approx(hypervolume(*problem), abs=1e-12)


def sweep_area(points) -> float:
    """Add up the rectangles under the steps of points (x to minimise, y to maximise), from (1, 0)."""
    area = height = 0.0
    for (x, y), (after, _) in pairwise([*sorted(points, key=lambda p: (p[0], -p[1])), (1.0, 0.0)]):
        height = max(height, y)
        area += (after - x) * height
    return area


@given(st.lists(st.tuples(st.floats(0, 0.999), st.floats(0.001, 1)), max_size=20))
def test_hypervolume_is_the_area_under_the_steps(points):
    values = np.array(points).reshape(-1, 2)
    area = hypervolume(values, ["minimise", "maximise"], [1.0, 0.0])
    assert area == pytest.approx(sweep_area(points) if points else 0.0)


def test_hypervolume_by_hand():
    down_up = ["minimise", "maximise"]
    values = np.array([[1, 0.5], [3, 0.9], [3, 0.9], [4, 0.9], [2, np.nan], [5, 1], [0, 0], [9, -1]])
    assert hypervolume(values, down_up, (5, 0)) == pytest.approx(2 * 0.5 + 2 * 0.9)
    assert hypervolume(np.empty((0, 2)), down_up, (5, 0)) == 0
    assert hypervolume(np.array([[-np.inf, 0.5], [1, 0.7]]), down_up, (5, 0)) == np.inf
    with pytest.raises(ValueError, match=r"the reference must be 2 finite numbers; got \[5\.0\]"):
        hypervolume(values, down_up, [5])
    with pytest.raises(ValueError, match=r"got \[5\.0, nan\]"):
        hypervolume(values, down_up, [5, np.nan])
    with pytest.raises(ValueError, match="unknown direction"):
        hypervolume(values, ["minimise", "up"], (5, 0))


def test_covered_share_by_hand():
    """1,000 parameters are at 3/5 of the log scale, 10 at 1/5: 0.8 · 0.5 + 0.4 · (0.9 - 0.5)."""
    arms = arms_table(
        parameters=[1_000, 10, 2_000, 100_000, 200_000, None, 50],
        val_mean=[0.9, 0.5, 0.9, 1.0, 1.0, 1.0, np.nan],
    )
    assert covered_share(arms) == pytest.approx(0.56)
    assert covered_share(arms_table(parameters=[1], val_mean=[1.0])) == 1
    assert covered_share(arms.iloc[3:]) == 0
    assert covered_share(arms.iloc[:0]) == 0


ACCURACIES = st.sampled_from([0.5, 0.6, 0.7, 0.9, np.nan])


@st.composite
def replicated_arms(draw):
    n = draw(st.integers(0, 8))
    sizes = st.sampled_from([10.0, 20.0, 30.0, np.nan] if draw(st.booleans()) else [1.0, 2.0])
    accuracies = draw(arrays(np.float64, (n, draw(st.integers(5, 7))), elements=ACCURACIES))
    return draw(arrays(np.float64, n, elements=sizes)), accuracies


def probability_by_loops(parameters, accuracies, resamples, seed):
    competing = [i for i in range(len(parameters)) if parameters[i] > 0 and not np.isnan(accuracies[i]).all()]
    seeds = [s for s in range(accuracies.shape[1]) if not np.isnan(accuracies[competing, s]).all()]
    if not seeds or len(seeds) < 5:
        return None  # few seeds are another matter
    _, effects, rank = fit_rows_and_columns(accuracies[competing])
    if rank == len(competing) + len(seeds) - 1:
        accuracies = accuracies.copy()
        accuracies[:, seeds] -= effects
    random, times = np.random.default_rng(seed), np.zeros(len(parameters))
    for _ in range(resamples):
        drawn = np.repeat(seeds, random.multinomial(len(seeds), [1 / len(seeds)] * len(seeds)))
        means = np.full(len(parameters), np.nan)
        for i in competing:
            found = [accuracies[i, s] for s in drawn if not np.isnan(accuracies[i, s])]
            means[i] = round(sum(found) / len(found), 9) if found else np.nan
        times += pareto_front(np.column_stack([parameters, means]), ["minimise", "maximise"])
    is_known = (np.count_nonzero(~np.isnan(accuracies), axis=1) > 1) & ~np.isnan(parameters)
    return np.where(is_known, times / resamples, np.nan)


@given(replicated_arms(), st.integers(1, 30), st.integers(0, 3))
def test_membership_agrees_with_loops_over_the_same_resamples(problem, resamples, seed):
    expected = probability_by_loops(*problem, resamples, seed)
    assume(expected is not None)
    np.testing.assert_allclose(membership_probability(*problem, resamples, seed), expected, rtol=1e-12)


def test_membership_by_hand():
    """Of five seeds the larger arm is better at one by three points, worse at four by one: means decide.

    It is better where the one is drawn twice or more, or once beside the four: 1 - .8^5 - 5 * .2 * .8^4 =
    0.263 and in none of 0.410, where they are one against four: 3 - 4 < 0.
    """
    sizes, one_better = np.array([100, 200]), np.array([[0.9] * 5, [0.93, *[0.89] * 4]])
    probabilities = membership_probability(sizes, one_better)
    assert probabilities[0] == 1
    assert probabilities[1] == pytest.approx(1 - 0.8**5 - 5 * 0.2 * 0.8**4, abs=0.03)
    assert membership_probability(np.array([2, 1]), np.array([[0.9] * 5, [0.8] * 5])).tolist() == [1, 1]


def test_two_arms_at_few_seeds_by_students_t():
    """The larger is on the front if its mean is the higher: the posterior of their difference is a t."""
    accuracies = np.array([[0.90, 0.92, 0.91], [0.91, 0.92, 0.925]])
    difference = accuracies[1] - accuracies[0]
    t = difference.mean() / (difference.std(ddof=1) / math.sqrt(3))  # the pooled variance is half of it
    expected = stats.t.cdf(t, df=2)
    found = membership_probability(np.array([1.0, 2.0]), accuracies, resamples=40_000)
    assert found[0] == 1
    assert found[1] == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 40_000))


def test_single_seeds_vary_as_the_others_do():
    """Three arms at two seeds say how results vary; the fourth has one seed, and so twice the variance."""
    accuracies = np.array([[0.90, 0.92], [0.80, 0.80], [0.70, 0.74], [0.93, np.nan]])
    found = membership_probability(np.array([1.0, 2.0, 3.0, 4.0]), accuracies, resamples=40_000)
    assert found[0] == 1
    residual = np.array([[0.90, 0.92], [0.80, 0.80], [0.70, 0.74]])
    residual = residual - residual.mean(axis=1, keepdims=True) - (residual.mean(axis=0) - residual.mean())
    variance = (residual**2).sum() / 2
    lead = (0.93 + 0.01) - 0.91  # the second seed is two hundredths easier for all
    expected = stats.t.cdf(lead / math.sqrt(variance * (1 / 2 + 1)), df=2)
    assert found[3] == pytest.approx(expected, abs=0.02)


def test_one_replicate_says_nothing():
    sizes = np.array([100, 200, 300])
    assert np.isnan(membership_probability(sizes, np.array([[0.9], [0.95], [np.nan]]))).all()
    assert np.isnan(membership_probability(sizes, np.empty((3, 0)))).all()
    nan = np.nan
    no_residual = np.array([[0.9, nan, nan], [0.8, nan, 0.8], [nan, nan, nan]])
    assert np.isnan(membership_probability(sizes, no_residual)).all()
    many = np.array([[0.9, *[nan] * 5], [0.8] * 6, [nan] * 6])
    assert np.isnan(membership_probability(sizes, many)).tolist() == [True, False, True]


@given(replicated_arms())
def test_without_variance_membership_is_the_front(problem):
    parameters, accuracies = problem
    means = np.nan_to_num(accuracies[:, 0], nan=0.4) if accuracies.shape[1] else np.full(len(parameters), 0.4)
    expected = pareto_front(np.column_stack([parameters, means]), ["minimise", "maximise"])
    found = membership_probability(parameters, np.repeat(means[:, np.newaxis], 3, axis=1), resamples=20)
    np.testing.assert_array_equal(found, np.where(np.isnan(parameters), np.nan, expected))


def test_membership_has_one_answer_per_seed():
    random = np.random.default_rng(0)
    sizes = random.integers(1_000, 50_000, 500).astype(np.float64)
    accuracies = random.uniform(0.9, 0.98, (500, 1)) + random.normal(0, 0.005, (500, 10))
    found = membership_probability(sizes, accuracies)
    np.testing.assert_array_equal(found, membership_probability(sizes, accuracies))
    other = membership_probability(sizes, accuracies, seed=1)
    assert (found != other).any()
    np.testing.assert_allclose(found, other, atol=0.08)


def test_membership_in_blocks_is_the_same(monkeypatch):
    random = np.random.default_rng(0)
    sizes, accuracies = random.integers(1, 9, 20).astype(np.float64), random.uniform(0, 1, (20, 4))
    whole = membership_probability(sizes, accuracies)
    monkeypatch.setattr("analysis.front.result.BLOCK", 333)
    np.testing.assert_array_equal(membership_probability(sizes, accuracies), whole)


def test_membership_refuses_what_does_not_fit():
    for sizes, accuracies, resamples in (
        (np.ones(2), np.ones((3, 2)), 9),
        (np.ones(2), np.ones(2), 9),
        (np.ones(2), np.ones((2, 2)), 0),
    ):
        with pytest.raises(
            ValueError, match=r"parameters must be \[n\], accuracies \[n, seeds\] and resamples"
        ):
            membership_probability(sizes, accuracies, resamples)


def test_budgets_by_hand():
    arms = arms_table(
        parameters=[1_500, 9_000, 4_000, 9_000, 30_000, 99_000, 500],
        val_mean=[0.90, 0.95, 0.93, 0.95, 0.94, 0.99, np.nan],
        test_mean=[0.1, 0.2, 0.9, 0.9, 0.9, 0.9, 0.9],
    )
    best = best_per_budget(arms)
    assert best[["label", "budget_low", "budget_high"]].to_numpy().tolist() == [
        ["arm 0", 2_000, 2_000],
        ["arm 2", 5_000, 5_000],
        ["arm 1", 10_000, 50_000],
    ]
    assert best["val_mean"].tolist() == [0.90, 0.93, 0.95]
    assert best_per_budget(arms, (1_499, 1_500))["budget_low"].tolist() == [1_500]
    assert best_per_budget(arms, (100,)).empty
    assert best_per_budget(arms, ()).empty


@given(
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from([0.5, 0.6, 0.7, 0.8, np.nan])), max_size=12),
    st.lists(st.integers(0, 13), max_size=6, unique=True),
)
def test_budgets_agree_with_loops(pairs, budgets):
    arms = arms_table(
        dataset=["a"] * len(pairs), parameters=[p for p, _ in pairs], val_mean=[v for _, v in pairs]
    ).astype({"val_mean": "float64", "label": "str"})
    best = best_per_budget(arms, budgets)
    chosen = {}
    for budget in budgets:
        fitting = [(-v, p, f"arm {i}") for i, (p, v) in enumerate(pairs) if p <= budget and v == v]
        row = best[(best["budget_low"] <= budget) & (best["budget_high"] >= budget)]
        if fitting:
            chosen.setdefault(min(fitting)[2], []).append(budget)
            assert row["label"].tolist() == [min(fitting)[2]]
        else:
            assert row.empty
    spans = best[["budget_low", "budget_high"]].to_numpy().tolist()
    assert sorted(spans) == sorted([min(span), max(span)] for span in chosen.values())
    assert mark_front(arms).loc[best.index, "on_front"].all()


def test_only_completed_trials_count(run_folder, tmp_path):
    other = shutil.copytree(run_folder, tmp_path / "planted" / run_folder.name)
    plant_partial_trials(other)
    (clean_trials, clean), (_, planted) = [
        (trials, mark_membership(mark_front(summarise_arms(trials)), trials).set_index("arm"))
        for trials in (load_run(folder).trials for folder in (run_folder, other))
    ]
    columns = ["on_front", "front_rank", "front_probability", "val_mean"]
    pd.testing.assert_frame_equal(planted.loc[clean.index, columns], clean[columns])
    assert not planted.loc[["stopped", "crashed"], "on_front"].any()
    assert planted.loc[["stopped", "crashed"], "front_probability"].isna().all()
    assert covered_share(planted) == covered_share(clean) > 0
    assert best_per_budget(planted).index.tolist() == best_per_budget(clean).index.tolist()
    assert clean["front_probability"].to_dict() == pytest.approx(
        dict.fromkeys(clean.index, 0.0) | {"tiny": 1.0, "small": 1.0, "paper": 1.0}
    )
    assert len(clean_trials) == 24


def test_membership_takes_each_data_set_for_itself_and_averages_folds_within_their_seed(run_folder):
    trials = load_run(run_folder).trials
    trials = trials[trials["arm"].isin(["tiny", "small"]) & (trials["seed"] < 2)]
    trials = trials.assign(folds=2)
    both = pd.concat(
        [
            trials.assign(fold=0, val_accuracy=trials["val_accuracy"] - 0.05),
            trials.assign(fold=1, val_accuracy=trials["val_accuracy"] + 0.05),
            trials[trials["arm"] == "small"].assign(dataset="mnist", seed=5, fold=0, folds=1),
        ]
    )
    arms = mark_membership(mark_front(summarise_arms(both)), both)
    assert arms[["dataset", "arm"]].to_numpy().tolist() == [
        ["digits", "tiny"],
        ["digits", "small"],
        ["mnist", "small"],
    ]
    assert arms["front_probability"].tolist()[:2] == [1, 1]
    assert np.isnan(arms["front_probability"].iloc[2])


def test_the_budgets_go_up():
    assert list(BUDGETS) == sorted(set(BUDGETS))
