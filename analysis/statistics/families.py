"""A family of comparisons judged together: corrected tests and verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy.typing as npt

from analysis.statistics.paired import (
    Floats,
    Interval,
    checked,
    deviation_of,
    effect_size,
    equivalence_p,
    holm,
    interval,
    mean_of,
    probability_of_improvement,
    require_fraction,
    require_margin,
    sign_flip_p,
)
from analysis.statistics.power import seeds_to_decide

Verdict = Literal["helps", "hurts", "equivalent", "not decided"]


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


def verdicts(family: Sequence[npt.ArrayLike], significance: float, margin: float) -> tuple[Decision, ...]:
    """Decide every comparison of a family: the part of ``judge`` that needs no bootstrap.

    Arguments and errors as there. "helps" or "hurts": the difference is significant after Holm's correction,
    whatever its size. Else "equivalent": it is within the margin, significantly after Holm's correction. Holm
    keeps the share of families with any false difference at or below ``significance``, and likewise, for
    itself, that of families with any false "equivalent". A comparison without seeds counts in the family,
    with a p value of 1.
    """
    require_fraction("significance", significance)
    require_margin(margin)
    comparisons = [checked(differences) for differences in family]
    p = [sign_flip_p(values) if len(values) else 1.0 for values in comparisons]
    p_corrected = holm(p)
    p_equivalence = holm([equivalence_p(values, margin) if len(values) else 1.0 for values in comparisons])

    def decide(index: int) -> Decision:
        if not len(comparisons[index]):
            return Decision("not decided", None, None, None)
        verdict: Verdict = "not decided"
        if p_corrected[index] <= significance:
            verdict = "helps" if mean_of(comparisons[index]) > 0 else "hurts"
        elif p_equivalence[index] <= significance:
            verdict = "equivalent"
        return Decision(verdict, p[index], float(p_corrected[index]), float(p_equivalence[index]))

    return tuple(decide(index) for index in range(len(comparisons)))


def judge(family: Sequence[npt.ArrayLike], significance: float, margin: float) -> tuple[Judgement, ...]:
    """Judge every comparison of a family; one result for each, in order.

    A member is one comparison's differences, float [n], a value per seed, positive in favour of what is
    judged; n may differ and may be 0. ``margin``, in the same unit, is the largest mean difference that does
    not matter. See `statistics` and `power` for the methods.

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
            mean=mean_of(differences) if n else None,
            deviation=deviation_of(differences) if n > 1 else None,
            interval=interval(differences),
            p=decision.p,
            p_corrected=decision.p_corrected,
            p_equivalence=decision.p_equivalence,
            effect_size=effect_size(differences),
            probability_of_improvement=probability_of_improvement(differences),
            verdict=decision.verdict,
            seeds_to_decide=None if seeds is None else max(seeds, n + 1),
        )

    return tuple(map(judgement, map(checked, family), decisions))
