"""Chosen on the other seeds, tested on the one left out: against a loop, and what it corrects."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.front.crosschoice import cross_tested_best, cross_tested_front


def mean_of(values: list[float]) -> float | None:
    known = [value for value in values if not np.isnan(value)]
    return sum(known) / len(known) if known else None


def beaten(arm: int, sizes: np.ndarray, means: list[float | None]) -> bool:
    return any(
        means[other] is not None
        and sizes[other] <= sizes[arm]
        and means[other] >= means[arm]
        and (sizes[other] < sizes[arm] or means[other] > means[arm])
        for other in range(len(sizes))
    )


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 10**6))
def test_is_what_a_loop_over_the_seeds_says(arms: int, seeds: int, stream: int) -> None:
    draws = np.random.default_rng(stream)
    sizes = draws.integers(1, 4, arms).astype(float)
    validation, test = draws.integers(0, 4, (2, arms, seeds)) / 4
    validation[draws.random((arms, seeds)) < 0.2] = np.nan
    tested: list[list[float]] = [[] for _ in range(arms)]
    best: list[float] = []
    for seed in range(seeds):
        others = [place for place in range(seeds) if place != seed]
        means = [mean_of([validation[arm, place] for place in others]) for arm in range(arms)]
        known = [arm for arm in range(arms) if means[arm] is not None]
        for arm in known:
            if not beaten(arm, sizes, means):
                tested[arm].append(test[arm, seed])
        affordable = [arm for arm in known if sizes[arm] <= 2]
        if affordable:
            best.append(test[min(affordable, key=lambda arm: (-means[arm], sizes[arm], arm)), seed])
    found = cross_tested_front(sizes, validation, test)
    for arm, values in enumerate(tested):
        if values:
            assert (found[arm].accuracy, found[arm].n) == (pytest.approx(np.mean(values)), len(values))
        else:
            assert found[arm] is None
    chosen = cross_tested_best(sizes, validation, test, 2)
    assert (chosen is None) == (not best)
    if chosen:
        assert (chosen.accuracy, chosen.n) == (pytest.approx(np.mean(best)), len(best))


def test_the_luck_of_the_chosen_is_gone() -> None:
    """24 equal arms, 3 seeds; validation and test of a trained net share much of its luck.

    What was chosen by all seeds is tested half a standard deviation too high, what others chose is not.
    """
    draws, lead, cross = np.random.default_rng(0), [], []
    sizes = np.ones(24)
    for _ in range(400):
        luck = draws.normal(size=(24, 3))
        validation, test = (0.8 * luck + 0.6 * draws.normal(size=(24, 3)) for _ in range(2))
        lead.append(test[validation.mean(axis=1).argmax()].mean())
        cross.append(cross_tested_best(sizes, validation, test, 1).accuracy)
    assert np.mean(lead) > 0.5
    assert abs(np.mean(cross)) < 4 * np.std(cross) / 20


def test_a_single_seed_can_choose_nothing_for_itself() -> None:
    one = np.array([[0.9], [0.8]])
    assert cross_tested_front(np.array([1.0, 2.0]), one, one) == [None, None]
    assert cross_tested_best(np.array([1.0, 2.0]), one, one, 5) is None
