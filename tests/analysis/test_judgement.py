import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import MARGINS, WHOLE, margin_of_error
from scipy import stats

from analysis.statistics.families import judge, verdicts
from analysis.statistics.paired import interval
from analysis.statistics.power import fewest_seeds


def shared_base(random, families: int, arms: int, seeds: int, effect: float = 0.0):
    """Differences [families, arms, seeds] of deviation 1; all arms share seeds' luck and one base."""
    luck, base = random.normal(size=(2, families, 1, seeds))
    accuracies = luck + random.normal(size=(families, arms, seeds)) + effect * math.sqrt(2)
    return (accuracies - (luck + base)) / math.sqrt(2)


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: judge([], 0.05, math.nan), "the margin must be 0 or more, and finite; got nan"),
        (lambda: judge([], 0.0, 1), "significance must be between 0 and 1, both excluded; got 0.0"),
    ],
)
def test_refuses_what_makes_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()
