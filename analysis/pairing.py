"""Trials as pairs: accuracies by arm and seed, contrasts within a seed, and why a seed has none.

Folds are averaged within their seed: they share most of their training images and are never counted as
independent runs.
"""

import itertools

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.contrasts import Contrast
from analysis.design import Design


def accuracies_by_seed(trials: pd.DataFrame, design: Design, dataset: str, metric: str) -> pd.DataFrame:
    """Return an accuracy per arm and seed, [arms, seeds], NaN unless all folds completed."""
    whole = seed_means(trials, metric, design.folds or 1)
    return whole.reindex(index=list(design.arms[dataset]), columns=list(design.seeds))


def seed_means(trials: pd.DataFrame, metric: str, folds: int, key: str = "arm") -> pd.DataFrame:
    """Return an accuracy per arm (by its ``key``) and seed, [arms, seeds], NaN unless all folds completed."""
    completed = trials[trials["status"] == "completed"]
    groups = completed.groupby([key, "seed"])[metric]
    return groups.mean()[groups.count() == folds].unstack("seed")


def reasons_lost(
    trials: pd.DataFrame, design: Design, dataset: str, accuracies: pd.DataFrame
) -> dict[tuple[str, int], str]:
    """Say for each arm and seed without a result why it has none."""
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
    """Return the contrast at each seed at which all its arms have a result."""
    rows = accuracies.loc[list(contrast.weights)]
    weights: npt.NDArray[np.float64] = np.array(list(contrast.weights.values()))
    sums = rows.mul(weights, axis=0).sum(axis=0, skipna=False)
    return sums.dropna().round(12)  # 1e-12 of an accuracy is rounding: equal arms must be equal
