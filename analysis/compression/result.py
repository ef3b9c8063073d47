"""Build small or compress? Compressed nets against nets built small, at equal bytes of weights.

A net built small with exactly a compressed net's bytes was seldom trained. Its accuracy is interpolated,
linearly in the logarithm of bytes, between the two neighbours on the front of the nets built small: the front
by bytes and validation accuracy. Fronts are mostly concave, so the interpolated value is too low and favours
compressing, less so the closer the neighbours. The accuracies compared are test accuracies, seed by seed, so
a comparison is a contrast of three arms and is judged like those of an ablation.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.ablation.judging import Comparison, JudgedFamily, Rule, Tables, judge_contrasts
from analysis.arms import summarise_arms
from analysis.front.result import mark_front
from analysis.notation import MISSING, count, share, value
from analysis.search.confirmation import judged_trials
from analysis.statistics.contrasts import Contrast
from analysis.statistics.pairing import seed_means
from analysis.tables import Run

PRUNE, AMOUNT, QUANTISE = (f"config.compression.{key}" for key in ("prune", "amount", "quantise"))
WORDS = {"helps": "compressing is better", "hurts": "building small is better"}
"""Display names of the verdicts."""
WIDEST_GAP = 2.0
"""Largest ratio of the neighbours' bytes over which accuracy is interpolated."""


@dataclass(frozen=True)
class CompressedArm:
    """A compressed arm against the nets built small. Accuracies are fractions, on the test images."""

    arm: str
    done: str
    """How it was compressed, in words."""
    weight_bytes: int | None
    accuracy: float | None
    """Mean over the seeds compared, or over all its seeds if nothing could be compared."""
    neighbours: tuple[str, ...]
    """The nets built small with fewer and with more bytes; a single one if it has exactly these bytes."""
    built: float | None
    """Accuracy of nets built small at its bytes: mean over the seeds compared."""
    comparison: Comparison | None
    reason: str
    """Why there is no comparison; empty if there is one."""


@dataclass(frozen=True)
class BuiltOrCompressed:
    """All compressed arms of a run on one data set."""

    run: str
    dataset: str
    arms: tuple[CompressedArm, ...]
    """The compressed arms, in ascending order of bytes."""
    family: JudgedFamily
    """Comparisons of the arms that could be compared, in the same order."""
    rule: Rule


def compare_compressed(run: Run) -> tuple[BuiltOrCompressed, ...]:
    """Compare a run's compressed arms with those built small, for each data set that has any.

    Only arms of the same run count: others may have been trained on other images, or for longer.
    """
    rule = Rule(run.design.significance, run.design.equivalence) if run.design else Rule()
    trials = judged_trials(run.trials)
    return tuple(
        _on_dataset(run.name, str(dataset), rows, rule)
        for dataset, rows in trials.groupby("dataset", sort=False)
        if are_compressed(rows).any()
    )


def are_compressed(trials: pd.DataFrame) -> "pd.Series[bool]":
    """Return which trials are of compressed arms; none in folders that predate compression."""
    columns = [column for column in (PRUNE, AMOUNT, QUANTISE) if column in trials]
    return trials[columns].notna().any(axis=1).astype(bool)


def equal_bytes(sizes: "pd.Series[int]", weight_bytes: int) -> dict[str, float] | str:
    """Return the weights of the arms that make up a net built small of `weight_bytes`, or why there are none.

    `sizes` maps arms on the front to bytes, ascending. The weights are linear in the logarithm of bytes and
    sum to 1.
    """
    if sizes.empty:
        return "no net built small has a result"
    if not sizes.iloc[0] <= weight_bytes <= sizes.iloc[-1]:
        where, end = ("below", 0) if weight_bytes < sizes.iloc[0] else ("above", -1)
        return (
            f"its {count(weight_bytes)} bytes are {where} every net on the front of the nets built small "
            f"({sizes.index[end]}: {count(sizes.iloc[end])} bytes)"
        )
    above = int(sizes.searchsorted(weight_bytes))  # the first that has as many
    if sizes.iloc[above] == weight_bytes:
        return {str(sizes.index[above]): 1.0}
    low, high = float(sizes.iloc[above - 1]), float(sizes.iloc[above])
    if high > WIDEST_GAP * low:
        ends = f"{sizes.index[above - 1]} and {sizes.index[above]}"
        return (
            f"its neighbours on the front of the nets built small ({ends}) are a factor of {high / low:.3g} "
            f"apart in bytes; beyond a factor of {WIDEST_GAP:g}, interpolation is unreliable"
        )
    weight = math.log(weight_bytes / low) / math.log(high / low)
    return {str(sizes.index[above - 1]): 1 - weight, str(sizes.index[above]): weight}


def _on_dataset(run: str, dataset: str, trials: pd.DataFrame, rule: Rule) -> BuiltOrCompressed:
    is_compressed = are_compressed(trials)
    arms = summarise_arms(trials).sort_values(["weight_bytes", "arm"]).set_index("arm")
    names = list(trials.loc[is_compressed, "arm"].unique())
    test, validation = (seed_means(trials, f"{split}_accuracy") for split in ("test", "val"))
    test, validation = test.reindex(arms.index), validation.reindex(arms.index)
    built = mark_front(arms.drop(index=names).reset_index(), "weight_bytes")
    front = built[built["on_front"]].drop_duplicates("weight_bytes").set_index("arm")["weight_bytes"]

    rows = {str(arm): row for arm, row in arms[arms.index.isin(names)].to_dict("index").items()}
    mixtures: dict[str, dict[str, float] | str] = {}
    for name, arm in rows.items():
        if not arm["n_seeds"]:
            mixtures[name] = "none of its seeds has a result"
        elif pd.isna(arm["weight_bytes"]):
            mixtures[name] = "its bytes are unknown"
        else:
            mixtures[name] = equal_bytes(front, int(arm["weight_bytes"]))
    contrasts = [_contrast(name, mixture) for name, mixture in mixtures.items() if isinstance(mixture, dict)]
    compared = judge_contrasts(contrasts, Tables(test, validation), rule, WORDS)
    settings = trials.drop_duplicates("arm").set_index("arm").to_dict("index")
    by_arm = {comparison.contrast.name: comparison for comparison in compared}
    return BuiltOrCompressed(
        run=run,
        dataset=dataset,
        arms=tuple(
            _result(name, rows[name], mixture, by_arm.get(name), settings[name], test)
            for name, mixture in mixtures.items()
        ),
        family=JudgedFamily("differences", compared, ()),
        rule=rule,
    )


def _contrast(arm: str, mixture: dict[str, float]) -> Contrast:
    named = " and ".join(f"{share(weight)} {name}" for name, weight in mixture.items())
    meaning = f"{arm} minus {named if len(mixture) > 1 else next(iter(mixture))}"
    return Contrast(arm, meaning, {arm: 1.0, **{name: -weight for name, weight in mixture.items()}})


def _result(
    name: str,
    arm: Mapping[Hashable, Any],
    mixture: dict[str, float] | str,
    comparison: Comparison | None,
    trial: Mapping[Hashable, Any],
    test: pd.DataFrame,
) -> CompressedArm:
    """Collect the results of an arm; `trial` is one of its trials, for the settings."""
    own = test.T[name].dropna()
    difference = comparison.judgement.mean if comparison else None
    if comparison and difference is not None:
        own = own.loc[list(comparison.seeds)]
    accuracy = None if own.empty else float(own.mean())
    return CompressedArm(
        arm=name,
        done=_describe(trial),
        weight_bytes=None if pd.isna(arm["weight_bytes"]) else int(arm["weight_bytes"]),
        accuracy=accuracy,
        neighbours=tuple(mixture) if isinstance(mixture, dict) else (),
        built=None if accuracy is None or difference is None else accuracy - difference,
        comparison=comparison,
        reason=mixture if isinstance(mixture, str) else "",
    )


def _describe(trial: Mapping[Hashable, Any]) -> str:
    """Describe how a net was compressed."""
    settings: list[Any] = [trial.get(column) for column in (PRUNE, AMOUNT, QUANTISE)]
    prune, amount, quantise = (None if pd.isna(found) else found for found in settings)
    done = []
    if prune is not None:
        share_pruned = MISSING if amount is None else f"{100 * amount:.4g}%"
        done.append(f"{share_pruned} of the {value(prune)} pruned")
    if quantise is not None:
        done.append(f"rounded to {value(quantise)}")
    return ", then ".join(done) or MISSING
