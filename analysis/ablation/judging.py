"""Judge contrasts as one family: verdicts, and how robust they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis.notation import counted, points
from analysis.statistics.contrasts import Contrast, Kind
from analysis.statistics.families import Judgement, Verdict, judge, verdicts
from analysis.statistics.paired import Interval
from analysis.statistics.pairing import (
    contrast_by_seed,
    whole_seeds_of,
)
from analysis.statistics.power import fewest_seeds
from analysis.statistics.robustness import far_off, verdicts_without_one
from analysis.statistics.testimages import Hits, crossed_interval, differences_by_image

WORDS: Mapping[Kind, Mapping[str, str]] = {
    "interactions": {
        "helps": "more together than apart",
        "hurts": "less together than apart",
        "equivalent": "simply add up",
        "not decided": "not decided",
    }
}
"""Display names of verdicts, for families in which they are not helps, hurts, equivalent or not decided."""


@dataclass(frozen=True)
class Rule:
    """When a difference is significant, and when it matters."""

    significance: float = 0.05
    """Largest share of families of comparisons that may claim a false difference."""
    equivalence: float = 0.005
    """Largest difference of accuracies, a fraction, that does not matter."""


@dataclass(frozen=True)
class Comparison:
    """A contrast with its verdict."""

    contrast: Contrast
    judgement: Judgement
    validation: float | None
    """The same mean difference in validation accuracy, a fraction; early stopping used that accuracy."""
    seeds: tuple[int, ...]
    """Seeds at which the contrast can be computed (`pairing.contrast_by_seed`)."""
    values: tuple[float, ...]
    """The contrast at each of these seeds: differences of test accuracy, fractions."""
    fitted: tuple[int, ...]
    """Those of the seeds at which some arms have no result and a model within the seed gives the contrast."""
    crossed: Interval | None
    """95% interval of the mean over seeds and test images, for this comparison alone; None if it is not
    recorded which images were classified correctly."""
    far: tuple[int, ...]
    """Seeds that are outliers (`robustness.far_off`)."""
    hangs_on_a_seed: bool | None
    """Whether leaving out one seed can change the verdict; None if one seed fewer can decide nothing, or if
    there is no verdict."""
    with_failures: str
    """The verdict if diverged seeds count as chance accuracy, if that differs; else empty."""
    lost: tuple[str, ...]
    """Why the other seeds have no result, one line each."""
    verdict: str
    """The verdict, under the name that its family uses."""
    sentence: str

    @property
    def remarks(self) -> tuple[str, ...]:
        """How robust the verdict is, in words, one line each."""
        found = []
        if self.with_failures:
            found.append(f"with diverged seeds counted as chance: {self.with_failures}")
        if self.hangs_on_a_seed is not None:
            found.append(
                "changes if one particular seed is left out"
                if self.hangs_on_a_seed
                else "unchanged if any one seed is left out"
            )
        if self.far:
            seeds = ", ".join(map(str, self.far))
            found.append(
                f"outliers: seed {seeds}; the test assumes symmetric differences and errs "
                "more often where they are not"
            )
        if self.fitted:
            fitted = f"{len(self.fitted)} of {self.judgement.n}"
            found.append(f"{fitted} seeds by least squares over the arms that have a result")
        return tuple(found)


@dataclass(frozen=True)
class JudgedFamily:
    """A family with its comparisons, and warnings about all of them."""

    kind: Kind
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Tables:
    """Results of trials on one data set: accuracies [arms, seeds], fractions, NaN where missing."""

    test: pd.DataFrame
    validation: pd.DataFrame
    lost: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """Why an arm has no result at a seed."""
    with_failures: pd.DataFrame | None = None
    """`test` with chance accuracy for diverged seeds; None if none diverged, or chance is unknown."""
    hits: Hits = field(default_factory=dict)


def judge_contrasts(
    contrasts: Sequence[Contrast], tables: Tables, rule: Rule, words: Mapping[str, str]
) -> tuple[Comparison, ...]:
    """Judge contrasts as one family; `words` maps verdicts to display names, if they have others."""
    values = [contrast_by_seed(contrast, tables.test) for contrast in contrasts]
    arrays = [value.to_numpy(np.float64) for value in values]
    judgements = judge(arrays, rule.significance, rule.equivalence)
    seeds = [[int(seed) for seed in value.index] for value in values]
    without_one = verdicts_without_one(arrays, seeds, rule.significance, rule.equivalence)
    counting_failures = _counting_failures(contrasts, tables, rule)
    comparisons = []
    for place, (contrast, value, judgement) in enumerate(zip(contrasts, values, judgements, strict=True)):
        on_validation = contrast_by_seed(contrast, tables.validation).reindex(value.index)
        verdict = words.get(judgement.verdict, judgement.verdict)
        whole = whole_seeds_of(contrast, tables.test)
        by_image = differences_by_image(contrast, tables.hits, whole)
        others = without_one[place]
        hangs = bool(others - {judgement.verdict}) if others and judgement.verdict != "not decided" else None
        failures = counting_failures[place] if counting_failures else judgement.verdict
        with_failures = words.get(failures, failures) if failures != judgement.verdict else ""
        sentence = _sentence(verdict, judgement, rule, len(contrasts))
        comparisons.append(
            Comparison(
                contrast=contrast,
                judgement=judgement,
                validation=float(on_validation.mean()) if len(value) else None,
                seeds=tuple(seeds[place]),
                values=tuple(value.tolist()),
                fitted=tuple(seed for seed in seeds[place] if seed not in whole),
                crossed=None if by_image is None else crossed_interval(by_image),
                far=tuple(seeds[place][index] for index in far_off(arrays[place])),
                hangs_on_a_seed=hangs,
                with_failures=with_failures,
                lost=tuple(reason for (arm, _), reason in tables.lost.items() if arm in contrast.weights),
                verdict=verdict,
                sentence=sentence,
            )
        )
    return tuple(comparisons)


def _counting_failures(contrasts: Sequence[Contrast], tables: Tables, rule: Rule) -> list[Verdict] | None:
    """Return the verdicts with diverged seeds counted as chance; None if none diverged."""
    if tables.with_failures is None:
        return None
    values = [contrast_by_seed(contrast, tables.with_failures).to_numpy() for contrast in contrasts]
    return [decision.verdict for decision in verdicts(values, rule.significance, rule.equivalence)]


def _sentence(verdict: str, judgement: Judgement, rule: Rule, family: int) -> str:
    """State the outcome of a comparison in plain words."""
    margin = points(rule.equivalence)
    if judgement.verdict == "not decided":
        if judgement.n < 2:
            seeds = "no seed has all its arms" if judgement.n == 0 else "one seed says nothing about chance"
            return f"{verdict}: {seeds}"
        needed = fewest_seeds(rule.significance, family)
        if judgement.n < needed:
            among = counted(family, "comparison")
            why = f"{counted(judgement.n, 'seed')} are too few for {among}, {needed} may suffice"
        else:
            why = "neither a difference nor equivalence is significant"
        more = judgement.seeds_to_decide
        if more is not None and more > judgement.n:
            why += f"; if the estimate is right, about {more:,} seeds would decide"
        return f"{verdict}: {why}"
    if judgement.verdict == "equivalent":
        return f"{verdict}: the difference is within ±{margin}"
    mean = abs(judgement.mean or 0.0)
    size = f", though by less than the {margin} that matter" if mean < rule.equivalence else ""
    return f"{verdict} by {points(mean)}{size}"
