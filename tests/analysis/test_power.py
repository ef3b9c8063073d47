import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import margin_of_error
from scipy import stats

from analysis.statistics.paired import sign_flip_p
from analysis.statistics.power import detectable_effect, fewest_seeds, seeds_to_decide, smallest_p


def test_what_seeds_can_reach_by_hand():
    assert [smallest_p(n) for n in range(5)] == [1, 1, 1 / 2, 1 / 4, 1 / 8]
    assert [fewest_seeds(0.05, family) for family in (1, 2, 5, 10)] == [6, 7, 8, 9]
    assert fewest_seeds(2 / 64, 1) == 6
    assert detectable_effect(5, 0.05, 1) is None
    assert detectable_effect(0, 0.05, 1) is None
    assert detectable_effect(6, 0.05, 1) == pytest.approx(stats.norm.ppf(0.8 ** (1 / 6)))


@given(st.floats(0.01, 0.2), st.integers(1, 50))
def test_the_fewest_seeds_just_suffice(significance, family):
    n = fewest_seeds(significance, family)
    assert smallest_p(n) * family <= significance < smallest_p(n - 1) * family
    assert detectable_effect(n, significance, family) > 0
    assert detectable_effect(n - 1, significance, family) is None


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


@pytest.mark.parametrize(("family", "lowest"), [(1, 0.79), (2, 0.78), (5, 0.755)])
def test_detectable_effects_are_found_nearly_as_often_as_claimed(family, lowest):
    samples = 4_000
    differences = np.random.default_rng(family).normal(detectable_effect(10, 0.05, family), 1, (samples, 10))
    found = np.mean([sign_flip_p(sample) * family <= 0.05 for sample in differences])
    print(f"an effect detectable with 80% at a level of 0.05 / {family}: found {found:.1%}")
    tolerance = margin_of_error(0.8, samples, z=2.576)
    assert lowest - tolerance <= found <= 0.8 + tolerance


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fewest_seeds(0.05, 0), "a family has at least 1 comparison; got 0"),
        (lambda: detectable_effect(10, 0.05, 1, 1.0), "power must be between 0 and 1"),
    ],
)
def test_refuses_what_makes_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()
