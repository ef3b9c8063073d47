"""Results of an ablation from its trials and design: paired comparisons with verdicts, failures counted.

Accuracies are those of the test images, which are not used in training, early stopping or selection; the arms
are fixed beforehand. Folds are averaged within their seed: they share most of their training images and never
count as independent runs.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.ablation.foresight import foresee_family
from analysis.ablation.judging import WORDS, Comparison, JudgedFamily, Rule, Tables, judge_contrasts
from analysis.course.signs import find_signs
from analysis.design import Design
from analysis.notation import counted
from analysis.statistics.contrasts import Contrast, Family, families
from analysis.statistics.paired import Interval, interval, sampling_error
from analysis.statistics.pairing import (
    accuracies_by_seed,
    reasons_lost,
    seed_means,
)
from analysis.statistics.testimages import gather_hits
from analysis.tables import Run


@dataclass(frozen=True)
class ArmResult:
    """One arm on one data set. Accuracies and differences are fractions."""

    arm: str
    parameters: int | None
    macs: int | None
    planned: int
    """Number of planned seeds."""
    seeds: tuple[int, ...]
    """Seeds with a result: all folds completed."""
    accuracies: tuple[float, ...]
    """Test accuracy at each of these seeds, folds averaged."""
    mean: float | None
    deviation: float | None
    """Sample standard deviation over seeds."""
    interval: Interval | None
    """95% confidence interval of the mean over seeds."""
    sampling: tuple[float, float] | None
    """95% interval for the sampling error of the test set alone (Wilson 1927)."""
    folds: tuple[tuple[int, int, float], ...]
    """Seed, fold and validation accuracy on that fold, of completed trials."""
    lost: tuple[str, ...]
    """Why other seeds have no result, one line each."""


@dataclass(frozen=True)
class Evidence:
    """Results of an ablation on one data set."""

    run: str
    dataset: str
    design: Design
    arms: tuple[ArmResult, ...]
    families: tuple[JudgedFamily, ...]
    placebo: Comparison | None = None
    """Base with other seeds minus base, which is noise only, judged by itself; None if it was not planned."""


def gather_evidence(run: Run) -> tuple[Evidence, ...]:
    """Judge an ablation's comparisons on each of its data sets; () if the run is not an ablation."""
    if run.design is None:
        return ()
    return tuple(_on_dataset(run, run.design, dataset) for dataset in run.design.arms)


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
    """Count diverged seeds as chance: unlike those lost with a machine, they are not missing at random."""
    diverged = trials[has_diverged(trials)].groupby(["arm", "seed"]).size().index
    cells = [(arm, seed) for arm, seed in diverged if arm in test.index and seed in test.columns]
    if not cells:
        return None
    filled = test.copy()
    for arm, seed in cells:
        filled.loc[arm, seed] = chance
    return filled


def has_diverged(trials: pd.DataFrame) -> "pd.Series[bool]":
    """Return which trials failed by diverging; in folders without kinds of failure, by the error's text."""
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


def state_verdicts(run: Run) -> list[str]:
    """Return an ablation's verdicts and failure signs, one line each, for a terminal."""
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
