"""Reference nets and the sweep's own: which dominate which, by parameters and validation accuracy.

One net dominates another if it has no more parameters and no lower mean validation accuracy, and is better in
one of the two. Test accuracy is not used for that; its difference is reported beside it, paired by seed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.arms import ARM_KEY, summarise_arms
from analysis.front.result import Floats, objectives
from analysis.statistics.contrasts import Contrast
from analysis.statistics.paired import Interval, interval
from analysis.statistics.pairing import contrast_by_seed, seed_means


@dataclass(frozen=True)
class ComparedNet:
    """An arm with a completed trial. Accuracies are fractions, means and deviations over its seeds."""

    label: str
    parameters: int
    val_mean: float
    val_std: float | None
    test_mean: float | None
    test_std: float | None


@dataclass(frozen=True)
class Dominance:
    """A net, and the best of the nets that dominate it."""

    worse: ComparedNet
    better: ComparedNet
    """The most accurate by validation; ties go to the smallest, then to the first label."""
    dominating: int
    """Number of nets of the other kind that dominate it."""
    seeds: tuple[int, ...]
    """Seeds at which both nets have a test accuracy."""
    difference: float | None
    """Mean over these seeds of the better net's test accuracy minus the other's; None without seeds."""
    bounds: Interval | None
    """95% interval of `difference` over seeds, for this pair alone; None for fewer than two seeds."""


@dataclass(frozen=True)
class ReferenceNet:
    """A reference net compared with the sweep's own."""

    net: ComparedNet
    dominated: Dominance | None
    """How an own net dominates it; None if none does."""
    dominates: int
    """Number of own nets that it dominates."""


@dataclass(frozen=True)
class Alternatives:
    """Reference nets against own nets on one data set."""

    dataset: str
    references: tuple[ReferenceNet, ...]
    """The reference nets, in ascending order of parameters."""
    own: int
    """Number of own nets with a result."""
    beaten: tuple[Dominance, ...]
    """The own nets that a reference net dominates, in ascending order of parameters."""


def compare_alternatives(trials: pd.DataFrame) -> tuple[Alternatives, ...]:
    """Compare reference nets with own nets, for each data set on which both have a completed trial.

    `trials` are those that a front is made of (`confirmation.judged_trials`), of all runs of the page. Arms
    are own unless they are a published net, alone (`arms.is_reference`).
    """
    arms = summarise_arms(trials)
    arms = arms[arms["n_seeds"] > 0].sort_values(["parameters", "label"], ignore_index=True)
    labelled = trials.merge(arms[[*ARM_KEY, "label"]], on=ARM_KEY)
    found = (
        _on_dataset(str(dataset), rows, labelled) for dataset, rows in arms.groupby("dataset", sort=False)
    )
    return tuple(each for each in found if each.own and each.references)


def dominances(values: Floats) -> npt.NDArray[np.bool_]:
    """Return, for costs and accuracies, float64 [n, 2], whether net i dominates net j: bool [n, n]."""
    cost, accuracy = values[:, 0], values[:, 1]
    is_as_good = (cost[:, None] <= cost) & (accuracy[:, None] >= accuracy)
    return is_as_good & ((cost[:, None] < cost) | (accuracy[:, None] > accuracy))


def _on_dataset(dataset: str, arms: pd.DataFrame, trials: pd.DataFrame) -> Alternatives:
    arms = arms.reset_index(drop=True)
    values = objectives(arms, "parameters")
    dominate = dominances(values)
    is_reference = arms["is_reference"].to_numpy(dtype=bool)
    nets = [_net(arm) for _, arm in arms.iterrows()]
    rows = trials[trials["dataset"] == dataset]
    test = seed_means(rows, "test_accuracy", key="label").reindex([net.label for net in nets])

    def best(place: int, others: npt.NDArray[np.bool_]) -> Dominance | None:
        better = np.flatnonzero(dominate[:, place] & others)
        if not len(better):
            return None
        first = min(better, key=lambda other: (-values[other, 1], values[other, 0], nets[other].label))
        return _dominance(nets[place], nets[first], len(better), test)

    references = tuple(
        ReferenceNet(nets[place], best(place, ~is_reference), int((dominate[place] & ~is_reference).sum()))
        for place in np.flatnonzero(is_reference).tolist()
    )
    beaten = (best(place, is_reference) for place in np.flatnonzero(~is_reference).tolist())
    return Alternatives(
        dataset, references, int((~is_reference).sum()), tuple(pair for pair in beaten if pair)
    )


def _dominance(worse: ComparedNet, better: ComparedNet, dominating: int, test: pd.DataFrame) -> Dominance:
    contrast = Contrast(better.label, "", {better.label: 1.0, worse.label: -1.0})
    differences = contrast_by_seed(contrast, test)
    values = differences.to_numpy(np.float64)
    return Dominance(
        worse=worse,
        better=better,
        dominating=dominating,
        seeds=tuple(int(seed) for seed in differences.index),
        difference=float(values.mean()) if len(values) else None,
        bounds=interval(values),
    )


def _net(arm: "pd.Series[float]") -> ComparedNet:
    def known(name: str) -> float | None:
        return None if pd.isna(arm[name]) else float(arm[name])

    return ComparedNet(
        str(arm["label"]), int(arm["parameters"]), float(arm["val_mean"]),
        known("val_std"), known("test_mean"), known("test_std"),
    )  # fmt: skip
