"""Seeds as the unit: which have a result, and means over seeds where some arms lack some of them.

Folds are averaged within their seed: they share most of their training images and are never counted as
independent runs. A seed of which a fold has no result has none.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

SEED_KEY = ["run", "dataset", "arm", "seed"]


def folds_of(trials: pd.DataFrame) -> "pd.Series[int]":
    """Return how many folds a seed has: by the plan, or without column ``folds`` as many as the run shows."""
    if "folds" in trials:
        return trials["folds"]
    return trials.groupby("run")["fold"].transform("nunique").clip(lower=1)


def whole_seeds(trials: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return the means over folds of each seed whose every fold completed, by run, data set, arm and seed.

    ``trials`` are of ``Run.trials``. A mean is null where a fold lacks the value.
    """
    completed = trials.assign(folds=folds_of(trials))[trials["status"] == "completed"]
    groups = completed.groupby(SEED_KEY, sort=False)
    is_whole = groups.size() == groups["folds"].first()
    means: pd.DataFrame = groups[columns].mean(skipna=False)
    return means[is_whole.reindex(means.index).astype(bool)]


@dataclass(frozen=True)
class SeedEffects:
    """What the model value = row + column says of a table that has holes."""

    columns: Floats
    """float64 [columns]; they sum to 0 over those that have a value, and are 0 for the others."""
    is_estimable: bool
    """Whether all rows can be compared: any two are linked by rows that have columns in common."""


def seed_effects(table: Floats) -> SeedEffects:
    """Fit row + column by least squares to ``table``, float64 [rows, columns], NaN where there is no value.

    With arms as rows and seeds as columns: seeds redraw the validation images, so one may be easier for all
    arms, and a mean over the easy ones alone is no better for it. Without holes a row's mean less its
    columns' effects is its plain mean.
    """
    known = ~np.isnan(table)
    rows, used = known.any(axis=1), known.any(axis=0)
    effects = np.zeros(table.shape[1])
    if not rows.any():
        return SeedEffects(effects, is_estimable=False)
    part = known[np.ix_(rows, used)].astype(np.float64)
    values = np.nan_to_num(table[np.ix_(rows, used)])
    numbers = part.sum(axis=1, keepdims=True)
    means = values.sum(axis=1, keepdims=True) / numbers
    normal = np.diag(part.sum(axis=0)) - (part / numbers).T @ part
    is_estimable = np.linalg.matrix_rank(normal, hermitian=True) == used.sum() - 1
    solved = np.linalg.lstsq(normal, ((values - means) * part).sum(axis=0), rcond=None)[0]
    effects[used] = solved - solved.mean()
    return SeedEffects(effects, bool(is_estimable))
