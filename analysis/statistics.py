"""Statistics of paired differences: what an ablation's seeds say about its arms, and what they cannot say.

A comparison is a plain 1-D array of differences, one value per seed, positive in favour of what is judged;
a family is all comparisons that one table shows together. The tests are exact under one assumption: that a
difference is as likely above as below its centre by any amount, as it is between two arms that differ by
nothing but the seed's luck.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Floats = npt.NDArray[np.float64]
Verdict = Literal["helps", "hurts", "equivalent", "not decided"]

ROUNDING = 1e-9  # relative; what differs by less is equal
RESAMPLES = 9_999
FEWEST_FOR_BOOTSTRAP = 10
MOST_EXACT = 30  # seeds up to which every sign assignment is counted
FLIPS = 99_999  # random sign assignments above that
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the unit of the values."""

    low: float
    high: float
    method: str
    """In words, for readers."""


@dataclass(frozen=True)
class Decision:
    """What the tests say of one comparison of a family; the p values are None where there are no seeds."""

    verdict: Verdict
    p: float | None
    """Two-sided sign-flip test of "no difference", uncorrected."""
    p_corrected: float | None
    """The same, Holm over the family."""
    p_equivalence: float | None
    """Of "differs by the margin or more", Holm over the family."""


@dataclass(frozen=True)
class Judgement:
    """All that is said of one comparison of a family; None where there are too few seeds to say it."""

    n: int
    """Seeds."""
    mean: float | None
    """Of the differences, in their unit."""
    deviation: float | None
    """Sample standard deviation (n - 1) of the differences, in their unit."""
    interval: Interval | None
    """95% confidence interval of the mean, for this comparison alone."""
    p: float | None
    """Two-sided sign-flip test of "no difference", uncorrected."""
    p_corrected: float | None
    """The same, Holm over the family."""
    p_equivalence: float | None
    """Of "differs by the margin or more", Holm over the family."""
    effect_size: float | None
    """Mean / deviation, no unit."""
    probability_of_improvement: float | None
    """Share of the seeds in favour, ties count half."""
    verdict: Verdict
    seeds_to_decide: int | None
    """Only where not decided: seeds that it would take, as far as can be guessed."""


def interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Return a confidence interval of the mean of ``values``, float [n]; None if n < 2.

    Bias-corrected and accelerated bootstrap (BCa; Efron 1987, J. Am. Stat. Assoc. 82:171) with 9,999
    resamples and a fixed seed, at the level of Hesterberg's expanded percentile interval: a tail of
    Phi(-sqrt(n / (n - 1)) t), where t is Student's quantile (Hesterberg 2015, "What Teachers Should Know
    About the Bootstrap", Am. Stat. 69:371, on narrowness bias). Plain BCa is too short for few values: of
    20,000 normal samples, what is named 95% covered 86.5, 88.5, 90.0 and 92.6% at n = 6, 8, 10 and 20.
    Expanded, it covered 93.6, 93.9, 94.2 and 94.6%. For n < 10, therefore, and where fewer than ten resamples
    would lie beyond an end (above a confidence of 95%: n < 15 at 99%), it is Student's t interval (Student
    1908), exact for normal values. No method is exact for all: of 2,000 exponential samples of n = 10 the
    expanded BCa covered 92% and Student's t 90%, of Student's t with 3 degrees of freedom 91% and 96%.

    Raises ValueError if the values are not finite numbers in one dimension or confidence is not in (0, 1).
    """
    _require_fraction("confidence", confidence)
    values = _checked(values)
    n = len(values)
    if n < 2:
        return None
    mean, deviation = _mean(values), _deviation(values)
    if deviation == 0:
        return Interval(mean, mean, "all values equal")
    quantile = float(special.stdtrit(n - 1, (1 + confidence) / 2))
    tail = float(special.ndtr(-math.sqrt(n / (n - 1)) * quantile))
    if n < FEWEST_FOR_BOOTSTRAP or tail * RESAMPLES < 10:
        reach = quantile * deviation / math.sqrt(n)
        return Interval(mean - reach, mean + reach, "Student's t")
    result = stats.bootstrap(
        ((values - mean) / deviation,), np.mean, method="BCa", n_resamples=RESAMPLES, rng=0,
        vectorized=True, confidence_level=1 - 2 * tail,
    )  # fmt: skip
    low, high = result.confidence_interval
    return Interval(mean + deviation * float(low), mean + deviation * float(high), "BCa bootstrap, expanded")


def sign_flip_p(differences: npt.ArrayLike) -> float:
    """Return the two-sided p value of "the differences, float [n], are symmetric about 0".

    Fisher's randomisation test (Fisher 1935, The Design of Experiments, section 21): the share of the 2**n
    assignments of signs whose mean is at least as far from 0 as the observed one; ties within rounding count.
    Exact up to 30 seeds, by the sums of both halves (Horowitz & Sahni 1974, J. ACM 21:277). Above, 99,999
    random assignments with a fixed seed, and the observed one: p = (1 + count) / (1 + 99,999) (Phipson &
    Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39).

    Raises ValueError if there are no differences or they are not finite numbers in one dimension.
    """
    return _flipped_share(_checked(differences), two_sided=True)


def equivalence_p(differences: npt.ArrayLike, margin: float) -> float:
    """Return the p value of "the mean of the differences, float [n], is ``margin`` or more from 0".

    Two one-sided tests (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657), here sign-flip tests of the
    differences about -margin and about +margin; the larger p. ``margin`` is in the differences' unit.

    Raises ValueError as ``sign_flip_p`` does, or if the margin is negative or not finite.
    """
    _require_margin(margin)
    differences = _checked(differences)
    above, below = differences + margin, margin - differences
    return max(
        _flipped_share(np.where(np.abs(gap) <= ROUNDING * margin, 0.0, gap), two_sided=False)
        for gap in (above, below)
    )


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return p values, float [m], adjusted for the family-wise error by Holm's step-down method, float [m].

    Holm 1979, Scand. J. Stat. 6:65: the i-th smallest is multiplied by m - i + 1, is no smaller than those
    before it and at most 1. No assumption on how the comparisons depend on each other.

    Raises ValueError if a value is not in [0, 1] or they are not in one dimension.
    """
    p_values = _checked(p_values)
    if ((p_values < 0) | (p_values > 1)).any():
        raise ValueError(f"p values must be in [0, 1]; got {p_values.tolist()}")
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(adjusted, 1.0)


def effect_size(differences: npt.ArrayLike) -> float | None:
    """Return the mean of the differences, float [n], in sample standard deviations (n - 1); no unit.

    Cohen's d_z (Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, p. 48). None if n < 2 or
    all are equal. Raises ValueError if they are not finite numbers in one dimension.
    """
    differences = _checked(differences)
    deviation = _deviation(differences) if len(differences) > 1 else 0.0
    return _mean(differences) / deviation if deviation else None


def probability_of_improvement(differences: npt.ArrayLike) -> float | None:
    """Return the share of the differences, float [n], above 0, ties counting half; None if n = 0.

    The paired form of rliable's probability of improvement (Agarwal et al. 2021, "Deep Reinforcement Learning
    at the Edge of the Statistical Precipice", NeurIPS). Raises ValueError if they are not finite
    numbers in one dimension.
    """
    differences = _checked(differences)
    return float(np.mean((np.sign(differences) + 1) / 2)) if len(differences) else None


def smallest_p(n: int) -> float:
    """Return the smallest p value that ``sign_flip_p`` can give for n seeds: all differences of one sign.

    2 / 2**n, at most 1. (Above 30 seeds, where assignments are drawn, 1 / 100,000 is the least it reports.)
    """
    return math.ldexp(1.0, -max(n - 1, 0))


def fewest_seeds(significance: float, family: int) -> int:
    """Return the fewest seeds with which one of ``family`` comparisons can ever be significant after Holm.

    Fewer cannot decide anything, whatever the differences are: ``smallest_p`` times the family is too large.
    Raises ValueError if significance is not in (0, 1) or family is below 1.
    """
    _require_level(significance, family)
    return next(n for n in range(1, MOST_SEEDS) if smallest_p(n) * family <= significance)


def detectable_effect(n: int, significance: float, family: int, power: float = 0.8) -> float | None:
    """Return the smallest ``effect_size``, in absolute value, that n seeds find with this power.

    At Holm's hardest step, significance / family, rounded down to a level that the sign-flip test of n seeds
    has; None if it has none. For normal differences: where only differences of one sign are significant, the
    chance of those, Phi(effect)**n; else the power of the paired t test at that level (noncentral t; Cohen
    1988, chapter 2). This flatters the sign-flip test a little, the more so the fewer levels remain below: of
    20,000 normal samples of n = 10 with the effect given for a power of 80%, it found 80, 79, 76 and 72% in
    families of 1, 2, 5 and 10.

    Raises ValueError if significance or power is not in (0, 1) or family is below 1.
    """
    _require_level(significance, family)
    _require_fraction("power", power)
    level = float(_attainable(np.array([n]), significance / family, sides=2)[0])
    if level == 0:
        return None
    if level == smallest_p(n):
        return float(special.ndtri(power ** (1 / n)))
    critical = special.stdtrit(n - 1, 1 - level / 2)
    return float(special.nctdtrinc(n - 1, 1 - power, critical)) / math.sqrt(n)


def seeds_to_decide(
    differences: npt.ArrayLike, significance: float, family: int, margin: float, power: float = 0.8
) -> int | None:
    """Return how many seeds it would take to decide, were mean and deviation what these differences show.

    The fewest with which, at significance / family, either the test of a difference or that of equivalence
    within ``margin`` (in the differences' unit) has this power; at least ``fewest_seeds``. The powers are
    approximate, at levels that the sign-flip tests have: for the difference as in ``detectable_effect``, for
    that of equivalence, two t tests', by a shifted t (Chow, Shao & Wang 2008, Sample Size Calculations
    in Clinical Research, section 3.1.3). A rough guess: mean and deviation of few seeds are uncertain, too.

    None if there are fewer than two differences or the number is above 10,000. Raises ValueError if an
    argument is not as for ``detectable_effect`` and ``equivalence_p``.
    """
    _require_level(significance, family)
    _require_fraction("power", power)
    _require_margin(margin)
    differences = _checked(differences)
    if len(differences) < 2:
        return None
    mean, deviation = abs(_mean(differences)), _deviation(differences)
    n = np.arange(max(2, fewest_seeds(significance, family)), MOST_SEEDS + 1)
    level = significance / family
    can = (_power_of_difference(n, mean, deviation, level) >= power) | (
        _power_of_equivalence(n, mean, deviation, level, margin) >= power
    )
    return int(n[can.argmax()]) if can.any() else None


def sampling_error(accuracy: float, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of an accuracy (a fraction) measured on so many test images.

    Which accuracies on all images of this kind agree with the ones drawn: (low, high), both fractions.
    Wilson's score interval (Wilson 1927, J. Am. Stat. Assoc. 22:209).

    Raises ValueError if the accuracy is not in [0, 1], confidence not in (0, 1), or there are no images.
    """
    _require_fraction("confidence", confidence)
    if not 0 <= accuracy <= 1 or images < 1:
        raise ValueError(f"accuracy must be in [0, 1], images at least 1; got {accuracy} on {images} images")
    test = stats.binomtest(round(accuracy * images), images)
    low, high = test.proportion_ci(confidence_level=confidence, method="wilson")
    return float(low), float(high)


def verdicts(family: Sequence[npt.ArrayLike], significance: float, margin: float) -> tuple[Decision, ...]:
    """Decide every comparison of a family: the part of ``judge`` that needs no bootstrap.

    Arguments and errors as there. "helps" or "hurts": the difference is significant after Holm's correction,
    whatever its size. Else "equivalent": it is within the margin, significantly after Holm's correction. Holm
    keeps the share of families with any false difference at or below ``significance``, and likewise, for
    itself, that of families with any false "equivalent". A comparison without seeds counts in the family,
    with a p value of 1.
    """
    _require_fraction("significance", significance)
    _require_margin(margin)
    comparisons = [_checked(differences) for differences in family]
    p = [sign_flip_p(values) if len(values) else 1.0 for values in comparisons]
    p_corrected = holm(p)
    p_equivalence = holm([equivalence_p(values, margin) if len(values) else 1.0 for values in comparisons])

    def decide(index: int) -> Decision:
        if not len(comparisons[index]):
            return Decision("not decided", None, None, None)
        verdict: Verdict = "not decided"
        if p_corrected[index] <= significance:
            verdict = "helps" if _mean(comparisons[index]) > 0 else "hurts"
        elif p_equivalence[index] <= significance:
            verdict = "equivalent"
        return Decision(verdict, p[index], float(p_corrected[index]), float(p_equivalence[index]))

    return tuple(decide(index) for index in range(len(comparisons)))


def judge(family: Sequence[npt.ArrayLike], significance: float, margin: float) -> tuple[Judgement, ...]:
    """Judge every comparison of a family; one result for each, in order.

    A member is one comparison's differences, float [n], a value per seed, positive in favour of what is
    judged; n may differ and may be 0. ``margin``, in the same unit, is the largest mean difference that does
    not matter. The methods are those of this module's functions.

    Raises ValueError if a member is not of finite numbers in one dimension, significance is not in (0, 1), or
    the margin is negative.
    """
    decisions = verdicts(family, significance, margin)

    def judgement(differences: Floats, decision: Decision) -> Judgement:
        n = len(differences)
        seeds = None
        if decision.verdict == "not decided":
            seeds = seeds_to_decide(differences, significance, len(decisions), margin)
        return Judgement(
            n=n,
            mean=_mean(differences) if n else None,
            deviation=_deviation(differences) if n > 1 else None,
            interval=interval(differences),
            p=decision.p,
            p_corrected=decision.p_corrected,
            p_equivalence=decision.p_equivalence,
            effect_size=effect_size(differences),
            probability_of_improvement=probability_of_improvement(differences),
            verdict=decision.verdict,
            seeds_to_decide=None if seeds is None else max(seeds, n + 1),
        )

    return tuple(map(judgement, map(_checked, family), decisions))


def _checked(values: npt.ArrayLike) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"values must be finite numbers in one dimension; got {values.tolist()}")
    return values


def _require_fraction(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, both excluded; got {value}")


def _require_level(significance: float, family: int) -> None:
    _require_fraction("significance", significance)
    if family < 1:
        raise ValueError(f"a family has at least 1 comparison; got {family}")


def _require_margin(margin: float) -> None:
    if not 0 <= margin < math.inf:
        raise ValueError(f"the margin must be 0 or more, and finite; got {margin}")


def _mean(values: Floats) -> float:
    return float(values.mean())


def _deviation(values: Floats) -> float:
    """Return the sample standard deviation of two or more values; 0 if they differ by rounding only."""
    scale = np.abs(values).max()
    return 0.0 if np.ptp(values) <= ROUNDING * scale else float(scale * (values / scale).std(ddof=1))


def _flipped_share(differences: Floats, two_sided: bool) -> float:
    """Return the share of sign assignments whose sum is at least the observed one, or as far from 0."""
    if not len(differences):
        raise ValueError("a test needs at least one difference; got none")
    observed = abs(differences.sum()) if two_sided else differences.sum()
    bound = observed - ROUNDING * np.abs(differences).sum()
    if len(differences) > MOST_EXACT:
        sums = _random_sums(differences)
        return float(np.mean((np.abs(sums) if two_sided else sums) >= bound))
    half = len(differences) // 2
    lefts = _signs(half) @ differences[:half]
    rights = np.sort(_signs(len(differences) - half) @ differences[half:])
    count = lefts.size * rights.size - int(rights.searchsorted(bound - lefts).sum())
    return min(1.0, (1 + two_sided) * count / (lefts.size * rights.size))


@lru_cache
def _signs(k: int) -> Floats:
    """Return all assignments of k signs, [2**k, k]."""
    return np.array(list(product((-1.0, 1.0), repeat=k))).reshape(2**k, k)


def _random_sums(values: Floats) -> Floats:
    """Return the sum of the values [n] and their sums with random signs, [1 + FLIPS]."""
    random = np.random.default_rng(0)
    sums = np.zeros(1 + FLIPS)
    for value in values:
        sums[1:] += value * (2.0 * random.integers(0, 2, FLIPS) - 1.0)
        sums[0] += value
    return sums


def _attainable(n: npt.NDArray[np.int64], level: float, sides: Literal[1, 2]) -> Floats:
    """Return the largest p values up to ``level`` that sign-flip tests of n [k] seeds can give, 0 if none."""
    steps = np.where(n > MOST_EXACT, 1 / (1 + FLIPS), sides * np.exp2(-np.minimum(n, MOST_EXACT)))
    return np.asarray(np.floor(level / steps) * steps, dtype=np.float64)


def _power_of_difference(n: npt.NDArray[np.int64], mean: float, deviation: float, level: float) -> Floats:
    """Return the power [k], as in ``detectable_effect``, of the test of n [k] differences."""
    attainable = _attainable(n, level, sides=2)
    critical = special.stdtrit(n - 1, 1 - attainable / 2)
    effect = mean / deviation if deviation else math.inf if mean else 0.0
    shift = np.minimum(
        effect * np.sqrt(n), critical + 30
    )  # the power is 1 there; ncfdtr gives NaN far beyond
    power: Floats = 1 - special.ncfdtr(1, n - 1, shift**2, critical**2)
    return np.where(attainable == np.exp2(1.0 - n), special.ndtr(effect) ** n, power)


def _power_of_equivalence(
    n: npt.NDArray[np.int64], mean: float, deviation: float, level: float, margin: float
) -> Floats:
    """Return the approximate power [k] of the two one-sided t tests of n [k] differences."""
    critical = special.stdtrit(n - 1, 1 - _attainable(n, level, sides=1))
    if deviation == 0:
        return np.full(len(n), float(mean < margin))
    near, far = ((margin + sign * mean) / deviation * np.sqrt(n) - critical for sign in (-1, 1))
    return np.asarray(special.stdtr(n - 1, near) + special.stdtr(n - 1, far) - 1)
