import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import MARGINS, WHOLE, margin_of_error
from scipy import stats

from analysis.statistics import paired as statistics
from analysis.statistics.paired import (
    effect_size,
    equivalence_p,
    holm,
    interval,
    probability_of_improvement,
    sampling_error,
    sign_flip_p,
)

DIFFERENCES = st.lists(WHOLE, min_size=1, max_size=10) | st.lists(
    st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=10
)
P_VALUES = st.lists(st.floats(0, 1), max_size=10)
SAMPLES = st.lists(WHOLE, min_size=2, max_size=14)


def brute_force(differences, statistic):
    """Share of all sign assignments whose statistic is at least the observed one; for whole numbers."""
    signs = itertools.product([1, -1], repeat=len(differences))
    sums = [sum(s * d for s, d in zip(sign, differences, strict=True)) for sign in signs]
    return np.mean([statistic(total) >= statistic(sum(differences)) for total in sums])


# hand-computed values


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3], 2 / 8),
        ([1] * 6, 2 / 64),
        ([-1] * 6, 2 / 64),
        ([1, 2, -3], 1.0),
        ([1, 2, -1], 6 / 8),
        ([5], 1.0),
        ([0, 0, 0], 1.0),
        ([0, 1, 1], 2 / 4),
        ([0.1, 0.2, -0.3], 1.0),
    ],
)
def test_sign_flip_by_hand(differences, p):
    assert sign_flip_p(differences) == p


def test_equivalence_by_hand():
    assert equivalence_p([0, 0, 0], 1) == 1 / 8
    assert equivalence_p([0, 0, 0], 0) == 1.0
    assert equivalence_p([3, -3], 1) == 2 / 4
    assert equivalence_p([1, 1, 1], 0.5) == 1.0
    at_the_margin = [0.95 - 0.96, 0.29 - 0.30, 0.81 - 0.82]
    assert equivalence_p(at_the_margin, 0.01) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_effects_by_hand():
    assert effect_size([1, 2, 3]) == 2.0
    assert effect_size([1]) is None
    assert effect_size([0, 0]) is None
    assert effect_size([0.95 - 0.94, 0.96 - 0.95]) is None
    assert probability_of_improvement([1, 0, -1, 2]) == 2.5 / 4
    assert probability_of_improvement([]) is None


def test_wilson_by_hand():
    assert sampling_error(0.95, 100) == pytest.approx((0.8883, 0.9785), abs=1e-4)
    assert sampling_error(1.0, 10)[1] == 1.0
    assert sampling_error(0.0, 10)[0] == 0.0


# agreement with scipy and with brute force


@pytest.mark.parametrize("n", [2, 3, 7, 10, 13])
def test_sign_flips_agree_with_scipy(n):
    random = np.random.default_rng(n)
    differences = random.normal(0.3, 1, n)

    def scipy_p(values, alternative):
        return stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative
        ).pvalue

    assert sign_flip_p(differences) == pytest.approx(scipy_p(differences, "two-sided"))
    one_sided = [scipy_p(values, "greater") for values in (differences + 0.8, 0.8 - differences)]
    assert equivalence_p(differences, 0.8) == pytest.approx(max(one_sided))


@given(st.lists(WHOLE, min_size=1, max_size=8), st.integers(1, 20))
@settings(max_examples=50)
def test_sign_flips_agree_with_brute_force(differences, margin):
    assert sign_flip_p(differences) == brute_force(differences, abs)
    gaps = [margin + d for d in differences], [margin - d for d in differences]
    assert equivalence_p(differences, margin) == max(brute_force(gap, float) for gap in gaps)


def test_random_flips_come_close_to_all_of_them(monkeypatch):
    samples = np.random.default_rng(0).normal(0.4, 1, (8, 12))
    exact = [(sign_flip_p(sample), equivalence_p(sample, 0.9)) for sample in samples]
    monkeypatch.setattr(statistics, "MOST_EXACT", 5)
    drawn = [(sign_flip_p(sample), equivalence_p(sample, 0.9)) for sample in samples]
    assert np.array(drawn) == pytest.approx(np.array(exact), abs=0.006)
    assert drawn != exact
    assert sign_flip_p(samples[0]) == drawn[0][0]


def test_many_seeds_never_give_zero():
    assert sign_flip_p([1.0] * 40) == 1 / 100_000
    assert sign_flip_p([0.0] * 40) == 1.0


@pytest.mark.parametrize("n", [2, 5, 9])
def test_few_values_get_students_interval(n):
    values = np.random.default_rng(n).normal(size=n)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    result = interval(values)
    assert (result.low, result.high, result.method) == (*map(pytest.approx, expected), "Student's t")


@pytest.mark.parametrize("n", [10, 20])
def test_more_values_get_the_expanded_bootstrap(n):
    values = np.random.default_rng(n).exponential(size=n)
    tail = stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    expected = stats.bootstrap(
        (values,), np.mean, rng=0, confidence_level=1 - 2 * tail, n_resamples=99_999
    ).confidence_interval
    result, width = interval(values), expected.high - expected.low
    assert (result.low, result.high) == pytest.approx(tuple(expected), abs=0.03 * width)  # by chance
    assert result.method == "BCa bootstrap, expanded"
    assert interval(values) == result


@pytest.mark.parametrize("unit", [1, 1 / 360, 1e-3])
def test_symmetric_values_have_a_symmetric_interval(unit):
    """Equal resample means must tie, however they were summed: else the bias correction is of rounding."""
    result = interval(np.array([-2, -1, -1, 0, 0, 0, 0, 1, 1, 2]) * unit)
    assert result.low == pytest.approx(-result.high, abs=1e-9 * unit)
    shifted = interval(np.array([-2, -1, -1, 0, 0, 0, 0, 1, 1, 2]) * unit + 0.9)
    assert 0.9 - shifted.low == pytest.approx(shifted.high - 0.9, abs=1e-9)


def test_confidence_beyond_the_resamples_gets_students_interval():
    values = np.random.default_rng(0).normal(size=15)
    assert interval(values, 0.99).method == "BCa bootstrap, expanded"
    assert interval(values[:14], 0.99).method == interval(values, 0.9999).method == "Student's t"


# properties


@given(DIFFERENCES, MARGINS, st.integers(-3, 3))
def test_p_values_are_such_and_know_neither_sign_nor_unit(differences, margin, exponent):
    differences, unit = np.array(differences), 2.0**exponent
    p, p_equivalence = sign_flip_p(differences), equivalence_p(differences, margin)
    assert 2 / 2 ** len(differences) <= p <= 1
    assert 0 < p_equivalence <= 1
    assert sign_flip_p(-differences) == sign_flip_p(unit * differences) == p
    assert equivalence_p(-differences, margin) == p_equivalence
    assert equivalence_p(unit * differences, unit * margin) == p_equivalence


@given(DIFFERENCES, MARGINS, MARGINS)
def test_a_wider_margin_is_easier_to_keep(differences, margin, more):
    assert equivalence_p(differences, margin + more) <= equivalence_p(differences, margin)


@given(P_VALUES)
def test_holm_is_between_raw_and_bonferroni_and_keeps_the_order(p):
    adjusted, raw = holm(p), np.array(p)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1, len(raw) * raw)).all()
    assert (np.diff(adjusted[np.argsort(raw)]) >= 0).all()
    assert holm(raw[::-1]).tolist() == adjusted[::-1].tolist()


@given(SAMPLES)
@settings(max_examples=60, deadline=None)
def test_an_interval_is_finite_and_holds_the_mean(values):
    result, doubled = interval(values), interval(2 * np.array(values))
    if len(set(values)) == 1:
        assert result is doubled is None
        return
    assert result.low - 1e-9 <= np.mean(values) <= result.high + 1e-9
    if result.method.startswith("BCa"):
        assert min(values) - 1e-9 <= result.low <= result.high <= max(values) + 1e-9
    assert (doubled.low, doubled.high) == (2 * result.low, 2 * result.high)


@given(SAMPLES)
def test_effects_change_sign_with_the_differences(values):
    negative = -np.array(values)
    assert (effect_size(values) is None) == (len(set(values)) == 1)
    assert effect_size(values) is None or effect_size(negative) == -effect_size(values)
    assert probability_of_improvement(values) + probability_of_improvement(negative) == 1


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_sampling_error_is_about_the_accuracy(images, fraction):
    accuracy = round(fraction * images) / images
    low, high = sampling_error(accuracy, images)
    assert 0 <= low <= accuracy + 1e-9
    assert accuracy - 1e-9 <= high <= 1
    wider = sampling_error(accuracy, images, 0.99)
    assert wider[0] <= low <= high <= wider[1]


# degenerate input


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([1.0], None),
        ([2.0, 2.0], None),
        ([0.0] * 12, None),
    ],
)
def test_intervals_of_nothing_and_of_equal_values(values, expected):
    assert interval(values) == expected


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 9 + [1.0], [0.0] * 99 + [1e9], [0.5] * 11 + [0.5 + 1e-6], [1e-250] * 9 + [2e-250],
        [1e200] * 9 + [-1e200], [-1.0] * 5 + [1.0] * 5,
    ],
)  # fmt: skip
def test_one_outlier_gives_a_finite_interval_without_a_warning(values):
    result = interval(values)
    assert result.method == "BCa bootstrap, expanded"
    assert min(values) <= result.low < result.high <= max(values) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sign_flip_p([]), "a test needs at least one difference"),
        (lambda: equivalence_p([], 1), "a test needs at least one difference"),
        (lambda: sign_flip_p([1, math.nan]), "values must be finite numbers in one dimension"),
        (lambda: interval([[1, 2]]), "values must be finite numbers in one dimension"),
        (lambda: interval([1, 2], 1.0), "confidence must be between 0 and 1, both excluded; got 1.0"),
        (lambda: equivalence_p([1], -1), "the margin must be 0 or more, and finite; got -1"),
        (lambda: holm([0.5, 1.5]), r"p values must be in \[0, 1\]; got \[0.5, 1.5\]"),
        (lambda: holm([math.nan]), "values must be finite"),
        (lambda: sampling_error(1.1, 10), r"accuracy must be in \[0, 1\], images at least 1; got 1.1 on 10"),
        (lambda: sampling_error(1.0, 0), "images at least 1"),
    ],
)
def test_refuses_what_makes_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("n", [6, 10])
def test_intervals_cover_the_mean_of_normal_values(n):
    samples = 1_000
    intervals = [interval(sample) for sample in np.random.default_rng(n).normal(size=(samples, n))]
    covered = np.mean([low <= 0 <= high for low, high in ((i.low, i.high) for i in intervals)])
    print(f"{intervals[0].method}, n = {n}: {covered:.1%} of {samples} intervals cover the mean")
    assert abs(covered - 0.95) <= margin_of_error(0.05, samples, z=1.96)
