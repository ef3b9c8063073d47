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
    """Outcome of the tests for one comparison of a family; the p values are None if it has no seeds."""

    verdict: Verdict
    p: float | None
    """p value of the two-sided sign-flip test of "no difference", uncorrected."""
    p_corrected: float | None
    """The same p value, Holm-corrected over the family."""
    p_equivalence: float | None
    """p value of "differs by the margin or more", Holm-corrected over the family."""


@dataclass(frozen=True)
class Judgement:
    """All statistics of one comparison of a family; None where there are too few seeds."""

    n: int
    """Number of seeds."""
    mean: float | None
    """Mean of the differences, in their unit."""
    deviation: float | None
    """Sample standard deviation (n - 1) of the differences, in their unit."""
    interval: Interval | None
    """95% confidence interval of the mean, for this comparison alone."""
    p: float | None
    """p value of the two-sided sign-flip test of "no difference", uncorrected."""
    p_corrected: float | None
    """The same p value, Holm-corrected over the family."""
    p_equivalence: float | None
    """p value of "differs by the margin or more", Holm-corrected over the family."""
    effect_size: float | None
    """Mean divided by standard deviation of the differences, without unit."""
    probability_of_improvement: float | None
    """Share of the seeds in favour; ties count half."""
    verdict: Verdict
    seeds_to_decide: int | None
    """Estimated number of seeds needed for a verdict; None if there is one, or without an estimate."""


def verdicts(family: Sequence[npt.ArrayLike], significance: float, margin: float) -> tuple[Decision, ...]:
    """Decide every comparison of a family: the part of `judge` that needs no bootstrap.

    Arguments and errors are those of `judge`. "helps" or "hurts": the difference is significant after Holm's
    correction, whatever its size. Otherwise "equivalent": it is within the margin, significantly after Holm's
    correction. Holm's correction keeps the share of families with any false difference at or below
    `significance` and, separately, the share of families with any false "equivalent". A comparison without
    seeds counts in the family, with a p value of 1.
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
    """Judge every comparison of a family; return one result for each, in order.

    A member of the family is one comparison's differences: float [n], one value per seed, positive in favour
    of what is judged; n may differ between members and may be 0. `margin`, in the same unit, is the largest
    mean difference that does not matter. See `paired` and `power` for the methods.

    Raises:
        ValueError: A member is not finite numbers in one dimension, significance is not in (0, 1), or the
            margin is negative or not finite.

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
