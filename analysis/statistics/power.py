"""What a number of seeds can show, before or after training, and how many seeds are needed."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.statistics.paired import (
    FLIPS,
    MOST_EXACT,
    Floats,
    checked,
    deviation_of,
    mean_of,
    require_fraction,
    require_margin,
)

MOST_SEEDS = 10_000


def smallest_p(n: int) -> float:
    """Return the smallest p value that `sign_flip_p` can give for n seeds: all differences of one sign.

    2 / 2**n, at most 1. (For more than 30 seeds, where assignments are drawn at random, the smallest reported
    value is 1 / 100,000.)
    """
    return math.ldexp(1.0, -max(n - 1, 0))


def fewest_seeds(significance: float, family: int) -> int:
    """Return the fewest seeds with which one of `family` comparisons can ever be significant after Holm.

    With fewer seeds nothing can be decided, whatever the differences are: `smallest_p` times the family's
    size exceeds the significance.

    Raises:
        ValueError: significance is not in (0, 1), or family is below 1.

    """
    _require_level(significance, family)
    return next(n for n in range(1, MOST_SEEDS) if smallest_p(n) * family <= significance)


def detectable_effect(n: int, significance: float, family: int, power: float = 0.8) -> float | None:
    """Return the smallest `effect_size`, in absolute value, that n seeds detect with this power.

    Computed at Holm's strictest step, significance / family, rounded down to a level that the sign-flip test
    of n seeds can attain; None if there is none. For normal differences: if only differences of one sign are
    significant, the power is the probability of those, Phi(effect)**n; else that of the paired t test at this
    level (noncentral t; Cohen 1988, chapter 2). This slightly overstates the sign-flip test, more so the
    fewer attainable levels remain below: on 20,000 normal samples of n = 10 with the effect given for a power
    of 80%, it detected 80, 79, 76 and 72% in families of 1, 2, 5 and 10.

    Raises:
        ValueError: significance or power is not in (0, 1), or family is below 1.

    """
    _require_level(significance, family)
    require_fraction("power", power)
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
    """Return the number of seeds needed to decide, if mean and deviation are those of these differences.

    The fewest with which, at significance / family, either the test of a difference or that of equivalence
    within `margin` (in the unit of the differences) has this power; at least `fewest_seeds`. The powers are
    approximate, at levels that the sign-flip tests can attain: for the difference as in `detectable_effect`,
    for equivalence that of two one-sided t tests, by a shifted t (Chow, Shao & Wang 2008, Sample Size
    Calculations in Clinical Research, section 3.1.3). A rough guess, since the mean and deviation of few
    seeds are themselves uncertain.

    None if there are fewer than two differences or the number exceeds 10,000.

    Raises:
        ValueError: An argument is not as required by `detectable_effect` and `equivalence_p`.

    """
    _require_level(significance, family)
    require_fraction("power", power)
    require_margin(margin)
    differences = checked(differences)
    if len(differences) < 2:
        return None
    mean, deviation = abs(mean_of(differences)), deviation_of(differences)
    n = np.arange(max(2, fewest_seeds(significance, family)), MOST_SEEDS + 1)
    level = significance / family
    can = (_power_of_difference(n, mean, deviation, level) >= power) | (
        _power_of_equivalence(n, mean, deviation, level, margin) >= power
    )
    return int(n[can.argmax()]) if can.any() else None


def _require_level(significance: float, family: int) -> None:
    require_fraction("significance", significance)
    if family < 1:
        raise ValueError(f"a family has at least 1 comparison; got {family}")


def _attainable(n: npt.NDArray[np.int64], level: float, sides: Literal[1, 2]) -> Floats:
    """Return the largest p values up to `level` that sign-flip tests of n [k] seeds can give; 0 if none."""
    steps = np.where(n > MOST_EXACT, 1 / (1 + FLIPS), sides * np.exp2(-np.minimum(n, MOST_EXACT)))
    return np.asarray(np.floor(level / steps) * steps, dtype=np.float64)


def _power_of_difference(n: npt.NDArray[np.int64], mean: float, deviation: float, level: float) -> Floats:
    """Return the power [k], as in `detectable_effect`, of the test of n [k] differences."""
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
