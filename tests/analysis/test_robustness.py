"""What a verdict hangs on: a seed that is far off, and any one seed."""

import numpy as np

from analysis.statistics.families import verdicts
from analysis.statistics.robustness import far_off, verdicts_without_one


def test_a_seed_is_far_off_beyond_five_median_deviations() -> None:
    """Median 3, deviations 2, 1, 0, 1, 2 and x: their median is 1.5 with a sixth."""
    assert far_off([1, 2, 3, 4, 5, 3 + 7]) == []
    assert far_off([1, 2, 3, 4, 5, 30]) == [5]
    assert far_off([-30, 2, 3, 4, 5, 1]) == [0]


def test_nothing_is_far_where_most_are_equal() -> None:
    assert far_off([0, 0, 0, 0, 9]) == []
    assert far_off([]) == []


def test_a_verdict_that_one_seed_makes() -> None:
    """Eight of nine differences speak for it: with the ninth, p is above 5% alone, without it far below."""
    differences = np.array([1.0, 1.1, 0.9, 1.2, 0.8, 1.0, 1.1, 0.9, -3.0])
    assert verdicts([differences], 0.05, 0.0)[0].verdict == "not decided"
    assert verdicts_without_one([differences], [range(9)], 0.05, 0.0) == [{"not decided", "helps"}]


def test_a_verdict_that_no_one_seed_makes() -> None:
    differences = np.linspace(0.5, 1.5, 9)
    assert verdicts_without_one([differences], [range(9)], 0.05, 0.0) == [{"helps"}]


def test_six_seeds_are_too_few_to_leave_one_out() -> None:
    assert verdicts_without_one([np.ones(6)], [range(6)], 0.05, 0.0) == [set()]


def test_a_seed_is_left_out_of_the_whole_family() -> None:
    """The second has no seed 0: without it nothing of it changes, but it is judged beside the first."""
    family = [np.ones(9), np.ones(8)]
    assert verdicts_without_one(family, [range(9), range(1, 9)], 0.05, 0.0) == [{"helps"}, {"helps"}]
    assert verdicts_without_one([], [], 0.05, 0.0) == []
