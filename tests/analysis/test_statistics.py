import itertools
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis import statistics
from analysis.statistics import (
    Interval,
    detectable_effect,
    effect_size,
    equivalence_p,
    fewest_seeds,
    holm,
    interval,
    judge,
    probability_of_improvement,
    sampling_error,
    seeds_to_decide,
    sign_flip_p,
    smallest_p,
    verdicts,
)

WHOLE = st.integers(-20, 20).map(float)
DIFFERENCES = st.lists(WHOLE, min_size=1, max_size=10) | st.lists(
    st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=10
)
P_VALUES = st.lists(st.floats(0, 1), max_size=10)
MARGINS = st.floats(0, 30)
SAMPLES = st.lists(WHOLE, min_size=2, max_size=14)


def margin_of_error(rate: float, repetitions: int, z: float = 1.645) -> float:
    return z * math.sqrt(rate * (1 - rate) / repetitions)


def shared_base(random, families: int, arms: int, seeds: int, effect: float = 0.0):
    """Differences [families, arms, seeds] of deviation 1; all arms share seeds' luck and one base."""
    luck, base = random.normal(size=(2, families, 1, seeds))
    accuracies = luck + random.normal(size=(families, arms, seeds)) + effect * math.sqrt(2)
    return (accuracies - (luck + base)) / math.sqrt(2)


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


def test_what_seeds_can_reach_by_hand():
    assert [smallest_p(n) for n in range(5)] == [1, 1, 1 / 2, 1 / 4, 1 / 8]
    assert [fewest_seeds(0.05, family) for family in (1, 2, 5, 10)] == [6, 7, 8, 9]
    assert fewest_seeds(2 / 64, 1) == 6
    assert detectable_effect(5, 0.05, 1) is None
    assert detectable_effect(0, 0.05, 1) is None
    assert detectable_effect(6, 0.05, 1) == pytest.approx(stats.norm.ppf(0.8 ** (1 / 6)))


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
    expected = stats.bootstrap((values,), np.mean, rng=0, confidence_level=1 - 2 * tail).confidence_interval
    result = interval(values)
    assert (result.low, result.high) == pytest.approx(tuple(expected), abs=1e-3)
    assert result.method == "BCa bootstrap, expanded"
    assert interval(values) == result


def test_confidence_beyond_the_resamples_gets_students_interval():
    values = np.random.default_rng(0).normal(size=15)
    assert interval(values, 0.99).method == "BCa bootstrap, expanded"
    assert interval(values[:14], 0.99).method == interval(values, 0.9999).method == "Student's t"


# properties


@given(DIFFERENCES, MARGINS, st.integers(-3, 3))
def test_p_values_are_such_and_know_neither_sign_nor_unit(differences, margin, exponent):
    differences, unit = np.array(differences), 2.0**exponent
    p, p_equivalence = sign_flip_p(differences), equivalence_p(differences, margin)
    assert smallest_p(len(differences)) <= p <= 1
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
    assert result.low - 1e-9 <= np.mean(values) <= result.high + 1e-9
    assert (result.method == "all values equal") == (len(set(values)) == 1)
    if result.method.startswith("BCa"):
        assert min(values) - 1e-9 <= result.low <= result.high <= max(values) + 1e-9
    assert (doubled.low, doubled.high) == (2 * result.low, 2 * result.high)


@given(SAMPLES)
def test_effects_change_sign_with_the_differences(values):
    negative = -np.array(values)
    assert (effect_size(values) is None) == (len(set(values)) == 1)
    assert effect_size(values) is None or effect_size(negative) == -effect_size(values)
    assert probability_of_improvement(values) + probability_of_improvement(negative) == 1


@given(st.floats(0.01, 0.2), st.integers(1, 50))
def test_the_fewest_seeds_just_suffice(significance, family):
    n = fewest_seeds(significance, family)
    assert smallest_p(n) * family <= significance < smallest_p(n - 1) * family
    assert detectable_effect(n, significance, family) > 0
    assert detectable_effect(n - 1, significance, family) is None


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
        ([2.0, 2.0], Interval(2.0, 2.0, "all values equal")),
        ([0.0] * 12, Interval(0.0, 0.0, "all values equal")),
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
        (lambda: judge([], 0.05, math.nan), "the margin must be 0 or more, and finite; got nan"),
        (lambda: judge([], 0.0, 1), "significance must be between 0 and 1, both excluded; got 0.0"),
        (lambda: holm([0.5, 1.5]), r"p values must be in \[0, 1\]; got \[0.5, 1.5\]"),
        (lambda: holm([math.nan]), "values must be finite"),
        (lambda: fewest_seeds(0.05, 0), "a family has at least 1 comparison; got 0"),
        (lambda: detectable_effect(10, 0.05, 1, 1.0), "power must be between 0 and 1"),
        (lambda: sampling_error(1.1, 10), r"accuracy must be in \[0, 1\], images at least 1; got 1.1 on 10"),
        (lambda: sampling_error(1.0, 0), "images at least 1"),
    ],
)
def test_refuses_what_makes_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# planning


@pytest.mark.parametrize("family", [1, 5])
def test_the_seeds_to_decide_are_those_that_can_detect_the_effect(family):
    seeds = seeds_to_decide([0.0, 1.0, 2.0], 0.05, family, margin=0.0)  # an effect of 1
    assert detectable_effect(seeds, 0.05, family) <= 1 < detectable_effect(seeds - 1, 0.05, family)


def test_the_seeds_to_decide_on_equivalence_are_near_the_normal_formula():
    differences = np.array([-1.0, 1.0] * 5)
    margin = differences.std(ddof=1) / 2
    normal = (stats.norm.ppf(0.95) + stats.norm.ppf(0.9)) ** 2 / 0.5**2
    assert normal < seeds_to_decide(differences, 0.05, 1, margin) < normal + 4


def test_the_seeds_to_decide_at_the_extremes():
    assert seeds_to_decide([], 0.05, 1, 1) is None
    assert seeds_to_decide([1], 0.05, 1, 1) is None
    assert seeds_to_decide([1, 1], 0.05, 5, 0) == fewest_seeds(0.05, 5)
    assert seeds_to_decide([0, 0], 0.05, 5, 1) == fewest_seeds(0.05, 5)
    assert seeds_to_decide([0, 0], 0.05, 5, 0) is None
    assert seeds_to_decide([-1, 1], 0.05, 1, 0.0001) is None
    assert seeds_to_decide([1e-300, 2e-300], 0.05, 1, 1e-301) is not None
    assert seeds_to_decide([1, 1], 0.05, 10_000, 0.1) == fewest_seeds(0.05, 10_000)


# judging


def test_judges_each_member_of_a_family():
    noise = np.array([-3, -2, -1, -0.5, 0.1, 0.4, 0.6, 1.1, 2, 2.3]) / 10
    helps, hurts, equal, undecided, none, one = judge(
        [1 + noise, -1 + noise, np.zeros(10), 4 * noise + 0.2, [], [0.3]], significance=0.05, margin=0.1
    )
    assert [helps.verdict, hurts.verdict, equal.verdict] == ["helps", "hurts", "equivalent"]
    assert [undecided.verdict, none.verdict, one.verdict] == ["not decided"] * 3
    assert (helps.n, helps.p, helps.p_corrected) == (10, 2 / 1024, 6 * 2 / 1024)
    assert helps.interval == interval(1 + noise)
    assert helps.effect_size == pytest.approx(1 / noise.std(ddof=1), rel=0.02)
    assert helps.seeds_to_decide is None
    assert (equal.mean, equal.deviation, equal.effect_size, equal.p) == (0, 0, None, 1.0)
    assert equal.p_equivalence == 6 / 1024
    assert undecided.seeds_to_decide > 10
    assert set(asdict(none).values()) == {0, None, "not decided"}
    assert (one.n, one.mean, one.deviation, one.interval, one.p) == (1, 0.3, None, None, 1.0)
    assert one.seeds_to_decide is None


def test_a_small_sure_difference_helps_even_within_the_margin():
    assert judge([[0.01] * 10], 0.05, 1)[0].verdict == "helps"


def test_a_comparison_without_seeds_still_counts():
    alone, _ = judge([[1.0] * 6], 0.05, 0.5), judge([], 0.05, 0.5)
    beside = judge([[1.0] * 6, []], 0.05, 0.5)
    assert (alone[0].p_corrected, alone[0].verdict) == (2 / 64, "helps")
    assert (beside[0].p_corrected, beside[0].verdict) == (4 / 64, "not decided")
    assert judge([], 0.05, 0.5) == ()


@given(st.lists(st.lists(WHOLE, max_size=9), max_size=5), MARGINS)
@settings(max_examples=30, deadline=None)
def test_verdicts_follow_from_the_corrected_p_values(family, margin):
    judgements = judge(family, 0.05, margin)
    assert [j.verdict for j in judgements] == [d.verdict for d in verdicts(family, 0.05, margin)]
    for judgement in judgements:
        significant = judgement.n > 0 and judgement.p_corrected <= 0.05
        assert (judgement.verdict in ("helps", "hurts")) == significant
        assert judgement.verdict != "helps" or judgement.mean > 0
        assert judgement.verdict != "hurts" or judgement.mean < 0
        assert judgement.verdict != "equivalent" or judgement.p_equivalence <= 0.05
        assert judgement.seeds_to_decide is None or judgement.seeds_to_decide > judgement.n


# calibration, with fixed seeds


@pytest.mark.parametrize("seeds", [6, 7, 8, 9, 10])
def test_false_differences_are_rare_in_families_without_effects(seeds):
    families = 1_000 if seeds < 10 else 2_000
    differences = shared_base(np.random.default_rng(seeds), families, arms=5, seeds=seeds)
    wrong = [
        any(decision.verdict in ("helps", "hurts") for decision in verdicts(family, 0.05, 0.0))
        for family in differences
    ]
    print(f"5 arms, {seeds} seeds: {np.mean(wrong):.2%} of {families} families have a false difference")
    assert np.mean(wrong) <= 0.05 + margin_of_error(0.05, families)
    assert any(wrong) == (seeds >= fewest_seeds(0.05, 5))


def test_false_equivalences_are_rare_at_the_margin():
    families = 1_000
    differences = shared_base(np.random.default_rng(0), families, arms=5, seeds=10, effect=0.5)
    wrong = [any(d.p_equivalence <= 0.05 for d in verdicts(family, 0.05, 0.5)) for family in differences]
    print(f"5 arms at the margin: {np.mean(wrong):.2%} of {families} families have a false equivalence")
    assert np.mean(wrong) <= 0.05 + margin_of_error(0.05, families)


def t_test_power(effect, n, steps):
    """Power of a two-sided paired t test at the level of so many steps of the sign-flip test."""
    noncentrality, critical = effect * math.sqrt(n), stats.t.ppf(1 - steps / 2**n, n - 1)
    return stats.nct.sf(critical, n - 1, noncentrality) + stats.nct.cdf(-critical, n - 1, noncentrality)


def test_power_of_ten_seeds_is_what_theory_says():
    families = 1_000
    differences = shared_base(np.random.default_rng(0), families, arms=5, seeds=10, effect=1.0)
    alone = np.mean([verdicts(family[:1], 0.05, 0.0)[0].verdict == "helps" for family in differences])
    corrected = np.mean(
        [[d.verdict == "helps" for d in verdicts(family, 0.05, 0.0)] for family in differences]
    )
    single, hardest = t_test_power(1, 10, 25), t_test_power(1, 10, 5)
    print(f"an effect of 1 deviation, 10 seeds: found {alone:.1%} alone (theory {single:.1%}), ")
    print(f"{corrected:.1%} among 5 (hardest step {hardest:.1%}, no correction {single:.1%})")
    tolerance = margin_of_error(single, families, z=2.576)
    assert single - tolerance - 0.01 <= alone <= single + tolerance
    assert hardest < corrected < alone


@pytest.mark.parametrize(("family", "lowest"), [(1, 0.79), (2, 0.78), (5, 0.755)])
def test_detectable_effects_are_found_nearly_as_often_as_claimed(family, lowest):
    samples = 4_000
    differences = np.random.default_rng(family).normal(detectable_effect(10, 0.05, family), 1, (samples, 10))
    found = np.mean([sign_flip_p(sample) * family <= 0.05 for sample in differences])
    print(f"an effect detectable with 80% at a level of 0.05 / {family}: found {found:.1%}")
    tolerance = margin_of_error(0.8, samples, z=2.576)
    assert lowest - tolerance <= found <= 0.8 + tolerance


@pytest.mark.parametrize("n", [6, 10])
def test_intervals_cover_the_mean_of_normal_values(n):
    samples = 1_000
    intervals = [interval(sample) for sample in np.random.default_rng(n).normal(size=(samples, n))]
    covered = np.mean([low <= 0 <= high for low, high in ((i.low, i.high) for i in intervals)])
    print(f"{intervals[0].method}, n = {n}: {covered:.1%} of {samples} intervals cover the mean")
    assert abs(covered - 0.95) <= margin_of_error(0.05, samples, z=1.96)
