"""Pair trials: accuracies by arm and seed, contrasts within a seed, and why a seed has no result.

Folds are averaged within their seed: they share most of their training images and never count as independent
runs.
"""

import itertools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.design import Design
from analysis.seeds import folds_of
from analysis.statistics.contrasts import Contrast

ESTIMABLE = 1e-8
"""Largest norm of the part of a contrast's row outside the row space of the available arms."""


def accuracies_by_seed(trials: pd.DataFrame, design: Design, dataset: str, metric: str) -> pd.DataFrame:
    """Return an accuracy per arm and seed, [arms, seeds], NaN unless all folds completed."""
    whole = seed_means(trials, metric)
    return whole.reindex(index=list(design.arms[dataset]), columns=list(design.seeds))


def seed_means(trials: pd.DataFrame, metric: str, key: str = "arm") -> pd.DataFrame:
    """Return an accuracy per arm (named by `key`) and seed, [arms, seeds], NaN unless all folds have it."""
    completed = trials.assign(folds=folds_of(trials))[trials["status"] == "completed"]
    groups = completed.groupby([key, "seed"])
    return groups[metric].mean()[groups[metric].count() == groups["folds"].first()].unstack("seed")


def reasons_lost(
    trials: pd.DataFrame, design: Design, dataset: str, accuracies: pd.DataFrame
) -> dict[tuple[str, int], str]:
    """Return, for each arm and seed without a result, the reason why it has none."""
    others = trials[trials["status"] != "completed"]
    ended = {key: rows for key, rows in others.groupby(["arm", "seed"])}
    done = trials.groupby(["arm", "seed"]).size()
    reasons = {}
    is_missing = accuracies.isna().to_numpy()
    pairs = itertools.product(enumerate(design.arms[dataset]), enumerate(design.seeds))
    for arm, seed in ((arm, seed) for (row, arm), (column, seed) in pairs if is_missing[row, column]):
        label = f"{arm}, seed {seed}"
        rows = ended.get((arm, seed))
        if rows is not None:
            first = rows.iloc[0]
            of = f" ({len(rows)} of {design.folds} folds)" if design.folds else ""
            status = str(first["status"]).replace("_", " ")
            why = f": {first['error']}" if not pd.isna(first["error"]) else ""
            reasons[arm, seed] = f"{label} {status}{of}{why}"
        elif (arm, seed) not in done.index:
            reasons[arm, seed] = f"{label} has not run"
        elif done[arm, seed] < (design.folds or 1):
            reasons[arm, seed] = f"{label}: {done[arm, seed]} of {design.folds} folds have run"
        else:
            reasons[arm, seed] = f"{label} has no test accuracy"
    return reasons


def contrast_by_seed(contrast: Contrast, accuracies: pd.DataFrame) -> "pd.Series[float]":
    """Return the contrast at each seed where it can be computed.

    These are the seeds at which all its arms have a result. If the contrast has a model, they also include
    the seeds at which the arms that have a result determine it, by least squares within the seed: one failure
    in a factorial costs a cell, not the seed.
    """
    sums = accuracies.loc[list(contrast.weights)].mul(_weights(contrast), axis=0).sum(axis=0, skipna=False)
    if contrast.model is not None:
        for seed in sums.index[sums.isna()]:
            sums[seed] = _estimate(contrast, contrast.model, accuracies[seed].dropna())
    return sums.dropna().round(12)  # 1e-12 of an accuracy is rounding: equal arms must be equal


def whole_seeds_of(contrast: Contrast, accuracies: pd.DataFrame) -> list[int]:
    """Return the seeds at which all of a contrast's arms have a result."""
    is_whole = accuracies.loc[list(contrast.weights)].notna().all(axis=0)
    return [int(seed) for seed in is_whole.index[is_whole]]


def _weights(contrast: Contrast) -> npt.NDArray[np.float64]:
    return np.array(list(contrast.weights.values()))


def _estimate(
    contrast: Contrast, model: Mapping[str, tuple[float, ...]], accuracies: "pd.Series[float]"
) -> float:
    """Return the model's estimate of a contrast at one seed; NaN if these arms do not determine it."""
    there = [arm for arm in accuracies.index if arm in model]
    if not there:
        return np.nan
    rows = np.array([model[arm] for arm in there])
    wanted = _weights(contrast) @ np.array([model[arm] for arm in contrast.weights])
    inverse = np.linalg.pinv(rows)
    if np.linalg.norm(wanted - wanted @ inverse @ rows) > ESTIMABLE:
        return np.nan
    return float(wanted @ inverse @ accuracies[there].to_numpy(np.float64))
