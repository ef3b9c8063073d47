"""Contrasts judged as one family: verdicts, and what they depend on."""

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
"""What a verdict is called where it is not helps, hurts, equivalent or not decided."""


@dataclass(frozen=True)
class Rule:
    """When a difference is believed, and when it matters."""

    significance: float = 0.05
    """Share of families of comparisons that may claim a difference where there is none."""
    equivalence: float = 0.005
    """Difference of accuracies, a fraction, that does not matter."""


@dataclass(frozen=True)
class Comparison:
    """A contrast with its verdict."""

    contrast: Contrast
    judgement: Judgement
    validation: float | None
    """The same mean difference in validation accuracy, a fraction; it took part in early stopping."""
    seeds: tuple[int, ...]
    """Those that tell the contrast (``pairing.contrast_by_seed``)."""
    values: tuple[float, ...]
    """The contrast at each of these seeds: differences of test accuracy, fractions."""
    fitted: tuple[int, ...]
    """Those of the seeds at which some of its arms have no result, and a model within the seed says it."""
    crossed: Interval | None
    """95% interval of the mean over seeds and test images, for this comparison alone; None where it is not
    recorded which images were classified right."""
    far: tuple[int, ...]
    """Seeds that are far off the others (``robustness.far_off``)."""
    hangs_on_a_seed: bool | None
    """Whether the verdict is another one without some one seed; None if one fewer can decide nothing, or if
    there is no verdict."""
    with_failures: str
    """The verdict with diverged seeds counted as chance accuracy, where that is another one; else empty."""
    lost: tuple[str, ...]
    """Why the other seeds have none, a line each."""
    verdict: str
    """In the words of its family."""
    sentence: str

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the verdict hangs on, in words, a line each."""
        found = []
        if self.with_failures:
            found.append(f"with diverged seeds counted as chance: {self.with_failures}")
        if self.hangs_on_a_seed is not None:
            found.append(
                "another verdict without some one seed"
                if self.hangs_on_a_seed
                else "stands without any one seed"
            )
        if self.far:
            seeds = ", ".join(map(str, self.far))
            found.append(
                f"far off the others: seed {seeds}; the test takes differences to be symmetric, and errs "
                "more often where they are not"
            )
        if self.fitted:
            fitted = f"{len(self.fitted)} of {self.judgement.n}"
            found.append(f"{fitted} seeds by least squares over the arms that have a result")
        return tuple(found)


@dataclass(frozen=True)
class JudgedFamily:
    """A family with its comparisons, and what is to be said of all of them."""

    kind: Kind
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Tables:
    """What trials say on one data set: accuracies [arms, seeds], fractions, NaN where there is none."""

    test: pd.DataFrame
    validation: pd.DataFrame
    lost: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """Why an arm has no result at a seed."""
    with_failures: pd.DataFrame | None = None
    """``test`` with chance accuracy for seeds that diverged; None if none did, or chance is not known."""
    hits: Hits = field(default_factory=dict)


def judge_contrasts(
    contrasts: Sequence[Contrast], tables: Tables, rule: Rule, words: Mapping[str, str]
) -> tuple[Comparison, ...]:
    """Judge contrasts as one family; ``words`` say what a verdict is called if not by its own name."""
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
    """Return the verdicts with diverged seeds counted as chance; None where none diverged."""
    if tables.with_failures is None:
        return None
    values = [contrast_by_seed(contrast, tables.with_failures).to_numpy() for contrast in contrasts]
    return [decision.verdict for decision in verdicts(values, rule.significance, rule.equivalence)]


def _sentence(verdict: str, judgement: Judgement, rule: Rule, family: int) -> str:
    """Say in plain words what a comparison came to."""
    margin = points(rule.equivalence)
    if judgement.verdict == "not decided":
        if judgement.n < 2:
            seeds = "no seed has all its arms" if judgement.n == 0 else "one seed tells nothing of chance"
            return f"{verdict}: {seeds}"
        needed = fewest_seeds(rule.significance, family)
        if judgement.n < needed:
            among = counted(family, "comparison")
            why = f"{counted(judgement.n, 'seed')} are too few for {among}, {needed} may do"
        else:
            why = "neither a difference nor its absence is shown"
        more = judgement.seeds_to_decide
        if more is not None and more > judgement.n:
            why += f"; if it is what it seems, some {more:,} seeds would tell"
        return f"{verdict}: {why}"
    if judgement.verdict == "equivalent":
        return f"{verdict}: the difference is within ±{margin}"
    mean = abs(judgement.mean or 0.0)
    size = f", though by less than the {margin} that matter" if mean < rule.equivalence else ""
    return f"{verdict} by {points(mean)}{size}"
