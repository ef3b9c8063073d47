"""From a run's trials and its design to what they show: paired comparisons with verdicts, failures counted.

Accuracies are those of the test images, which took no part in training, early stopping or choosing; the
arms were fixed before. Folds are averaged within their seed: they share most of their training images and
are never counted as independent runs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis.ablation.foresight import foresee_family
from analysis.course.signs import find_signs
from analysis.design import Design
from analysis.notation import counted, points
from analysis.statistics.contrasts import Contrast, Family, Kind, families
from analysis.statistics.families import Judgement, Verdict, judge, verdicts
from analysis.statistics.paired import Interval, interval, sampling_error
from analysis.statistics.pairing import (
    accuracies_by_seed,
    contrast_by_seed,
    reasons_lost,
    seed_means,
    whole_seeds_of,
)
from analysis.statistics.power import fewest_seeds
from analysis.statistics.robustness import far_off, verdicts_without_one
from analysis.statistics.testimages import Hits, crossed_interval, differences_by_image, gather_hits
from analysis.tables import Run

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
    placebo: Comparison | None = None
    """Base with other seeds minus base: noise alone, judged by itself; None if it was not planned."""


def gather_evidence(run: Run) -> tuple[Evidence, ...]:
    """Judge an ablation's comparisons on each of its data sets; () if the run is no ablation."""
    if run.design is None:
        return ()
    return tuple(_on_dataset(run, run.design, dataset) for dataset in run.design.arms)


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


def _on_dataset(run: Run, design: Design, dataset: str) -> Evidence:
    trials = run.trials[run.trials["dataset"] == dataset]
    test = accuracies_by_seed(trials, design, dataset, "test_accuracy")
    images, classes = design.test_images.get(dataset), run.classes.get(dataset)
    tables = Tables(
        test=test,
        validation=accuracies_by_seed(trials, design, dataset, "val_accuracy"),
        lost=reasons_lost(trials, design, dataset, test),
        with_failures=_with_failures(trials, test, 1 / len(classes)) if classes else None,
        hits=gather_hits(trials, images) if images else {},
    )
    return Evidence(
        run=run.name,
        dataset=dataset,
        design=design,
        arms=tuple(_arm(arm, trials, design, dataset, test, tables.lost) for arm in design.arms[dataset]),
        families=tuple(_judge_family(family, design, tables) for family in families(design, dataset)),
        placebo=_judge_placebo(trials, design, tables) if design.placebo else None,
    )


def _with_failures(trials: pd.DataFrame, test: pd.DataFrame, chance: float) -> pd.DataFrame | None:
    """Count seeds that diverged as chance: they are not missing at random, as those of lost machines are."""
    diverged = trials[has_diverged(trials)].groupby(["arm", "seed"]).size().index
    cells = [(arm, seed) for arm, seed in diverged if arm in test.index and seed in test.columns]
    if not cells:
        return None
    filled = test.copy()
    for arm, seed in cells:
        filled.loc[arm, seed] = chance
    return filled


def has_diverged(trials: pd.DataFrame) -> "pd.Series[bool]":
    """Say which trials failed by diverging; folders that do not record kinds of failure say it in words."""
    in_words = trials["failure"].isna() & trials["error"].str.contains("NaN loss", na=False)
    return (trials["status"] == "failed") & (trials["failure"].eq("diverged") | in_words)


def _judge_placebo(trials: pd.DataFrame, design: Design, tables: Tables) -> Comparison:
    """Judge base with other seeds against base, seed by seed, by itself."""
    placebo = design.placebo
    assert placebo is not None
    seeds = [seed + placebo.offset for seed in design.seeds]

    def row(metric: str) -> "pd.Series[float]":
        means = seed_means(trials[trials["arm"] == placebo.arm], metric)
        found = means.reindex(index=[placebo.arm], columns=seeds).iloc[0]
        return found.set_axis(list(design.seeds))

    name, base = placebo.arm, design.base
    hits = {(arm, seed - placebo.offset * (arm == name)): each for (arm, seed), each in tables.hits.items()}
    its = Tables(
        test=pd.DataFrame({name: row("test_accuracy"), base: tables.test.loc[base]}).T,
        validation=pd.DataFrame({name: row("val_accuracy"), base: tables.validation.loc[base]}).T,
        hits=hits,
    )
    contrast = Contrast(name, f"{base} with other seeds minus {base}", {name: 1.0, base: -1.0})
    return judge_contrasts([contrast], its, Rule(design.significance, design.equivalence), {})[0]


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


def _judge_family(family: Family, design: Design, tables: Tables) -> JudgedFamily:
    rule = Rule(design.significance, design.equivalence)
    comparisons = judge_contrasts(family.contrasts, tables, rule, WORDS.get(family.kind, {}))
    foreseen = foresee_family(family.kind, len(family.contrasts), len(design.seeds), design.significance)
    warnings = (foreseen,) if foreseen.startswith("warning") else ()
    return JudgedFamily(family.kind, comparisons, warnings)


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
