"""From a run's trials and its design to what they show: paired comparisons with verdicts, failures counted.

Accuracies are those of the test images, which took no part in training, early stopping or choosing; the
arms were fixed before. Folds are averaged within their seed: they share most of their training images and
are never counted as independent runs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.contrasts import Contrast, Family, Kind, families
from analysis.design import Design
from analysis.foresight import foresee_family
from analysis.frame import Run
from analysis.judgement import Judgement, judge
from analysis.notation import counted, points
from analysis.pairing import accuracies_by_seed, contrast_by_seed, reasons_lost
from analysis.power import fewest_seeds
from analysis.signs import find_signs
from analysis.statistics import Interval, interval, sampling_error

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
    """Those for which all arms of the contrast have a result."""
    values: tuple[float, ...]
    """The contrast at each of these seeds: differences of test accuracy, fractions."""
    lost: tuple[str, ...]
    """Why the other seeds have none, a line each."""
    verdict: str
    """In the words of its family."""
    sentence: str


@dataclass(frozen=True)
class JudgedFamily:
    """A family with its comparisons, and what is to be said of all of them."""

    kind: Kind
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ArmResult:
    """One arm on one data set. Accuracies and differences are fractions."""

    arm: str
    parameters: int | None
    macs: int | None
    planned: int
    """Seeds of the plan."""
    seeds: tuple[int, ...]
    """Seeds with a result: all folds completed."""
    accuracies: tuple[float, ...]
    """Test accuracy at each of these seeds, folds averaged."""
    mean: float | None
    deviation: float | None
    """Sample standard deviation over seeds."""
    interval: Interval | None
    """Of the mean over seeds."""
    sampling: tuple[float, float] | None
    """What the test set's size alone leaves open (Wilson 1927), 95%."""
    folds: tuple[tuple[int, int, float], ...]
    """Seed, fold and validation accuracy on that fold, of completed trials."""
    lost: tuple[str, ...]
    """Why other seeds have no result, a line each."""


@dataclass(frozen=True)
class Evidence:
    """What an ablation shows on one data set."""

    run: str
    dataset: str
    design: Design
    arms: tuple[ArmResult, ...]
    families: tuple[JudgedFamily, ...]


def gather_evidence(run: Run) -> tuple[Evidence, ...]:
    """Judge an ablation's comparisons on each of its data sets; () if the run is no ablation."""
    if run.design is None:
        return ()
    return tuple(_on_dataset(run, run.design, dataset) for dataset in run.design.arms)


def _on_dataset(run: Run, design: Design, dataset: str) -> Evidence:
    trials = run.trials[run.trials["dataset"] == dataset]
    test = accuracies_by_seed(trials, design, dataset, "test_accuracy")
    validation = accuracies_by_seed(trials, design, dataset, "val_accuracy")
    lost = reasons_lost(trials, design, dataset, test)
    return Evidence(
        run=run.name,
        dataset=dataset,
        design=design,
        arms=tuple(_arm(arm, trials, design, dataset, test, lost) for arm in design.arms[dataset]),
        families=tuple(
            _judge_family(family, design, test, validation, lost) for family in families(design, dataset)
        ),
    )


def _arm(
    arm: str,
    trials: pd.DataFrame,
    design: Design,
    dataset: str,
    accuracies: pd.DataFrame,
    lost: Mapping[tuple[str, int], str],
) -> ArmResult:
    found = accuracies.loc[arm].dropna()
    rows = trials[trials["arm"] == arm]
    values = found.to_numpy(np.float64)
    mean = float(values.mean()) if len(values) else None
    images = design.test_images.get(dataset)
    with_folds = rows[(rows["status"] == "completed") & rows["fold"].notna()].sort_values(["seed", "fold"])
    folds = zip(with_folds["seed"], with_folds["fold"], with_folds["val_accuracy"], strict=True)
    return ArmResult(
        arm=arm,
        parameters=_only(rows["parameters"]),
        macs=_only(rows["macs"]),
        planned=len(design.seeds),
        seeds=tuple(int(seed) for seed in found.index),
        accuracies=tuple(map(float, values)),
        mean=mean,
        deviation=float(values.std(ddof=1)) if len(values) > 1 else None,
        interval=interval(values),
        sampling=sampling_error(mean, images) if mean is not None and images else None,
        folds=tuple((int(seed), int(fold), float(accuracy)) for seed, fold, accuracy in folds),
        lost=tuple(lost[arm, seed] for seed in design.seeds if (arm, seed) in lost),
    )


def _only(column: "pd.Series[int]") -> int | None:
    present = column.dropna()
    return None if present.empty else int(present.iloc[0])


def _judge_family(
    family: Family,
    design: Design,
    test: pd.DataFrame,
    validation: pd.DataFrame,
    lost: Mapping[tuple[str, int], str],
) -> JudgedFamily:
    comparisons = judge_contrasts(
        family.contrasts, test, validation, lost, Rule(design.significance, design.equivalence),
        WORDS.get(family.kind, {}),
    )  # fmt: skip
    foreseen = foresee_family(family.kind, len(family.contrasts), len(design.seeds), design.significance)
    warnings = (foreseen,) if foreseen.startswith("warning") else ()
    return JudgedFamily(family.kind, comparisons, warnings)


def judge_contrasts(
    contrasts: Sequence[Contrast],
    test: pd.DataFrame,
    validation: pd.DataFrame,
    lost: Mapping[tuple[str, int], str],
    rule: Rule,
    words: Mapping[str, str],
) -> tuple[Comparison, ...]:
    """Judge contrasts as one family, by the accuracies [arms, seeds] of their arms.

    ``lost`` says why an arm has none at a seed, ``words`` what a verdict is called if not by its own name.
    """
    values = [contrast_by_seed(contrast, test) for contrast in contrasts]
    judgements = judge([value.to_numpy() for value in values], rule.significance, rule.equivalence)
    comparisons = []
    for contrast, value, judgement in zip(contrasts, values, judgements, strict=True):
        on_validation = contrast_by_seed(contrast, validation).reindex(value.index)
        verdict = words.get(judgement.verdict, judgement.verdict)
        comparisons.append(
            Comparison(
                contrast=contrast,
                judgement=judgement,
                validation=float(on_validation.mean()) if len(value) else None,
                seeds=tuple(int(seed) for seed in value.index),
                values=tuple(value.tolist()),
                lost=tuple(reason for (arm, _), reason in lost.items() if arm in contrast.weights),
                verdict=verdict,
                sentence=_sentence(verdict, judgement, rule, len(contrasts)),
            )
        )
    return tuple(comparisons)


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


def state_verdicts(run: Run) -> list[str]:
    """Say what an ablation showed and which failure signs it has, a line each, for a terminal."""
    lines = []
    for evidence in gather_evidence(run):
        for family in evidence.families:
            lines += [f"{evidence.dataset}, {family.kind}:", *(f"  {warning}" for warning in family.warnings)]
            lines += [f"  {row.contrast.name}: {row.sentence}" for row in family.comparisons]
    signs = find_signs(run.trials, run.epochs)
    counts = Counter(sign.kind for sign in signs)
    if counts:
        named = ", ".join(f"{kind} in {counted(number, 'arm')}" for kind, number in counts.items())
        lines.append(f"failure signs: {named}; the report shows them with advice")
    return lines
