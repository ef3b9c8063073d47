"""Seeds as the unit of replication: which have a result, and means over seeds where arms lack some.

Folds are averaged within their seed: they share most of their training images and never count as independent
runs. A seed has a result only if every fold has one.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

SEED_KEY = ["run", "dataset", "arm", "seed"]


def folds_of(trials: pd.DataFrame) -> "pd.Series[int]":
    """Return the number of folds per seed: column `folds`, or without it the number in the run's trials."""
    if "folds" in trials:
        return trials["folds"]
    return trials.groupby("run")["fold"].transform("nunique").clip(lower=1)


def whole_seeds(trials: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return the mean over folds of each seed whose every fold completed, by run, data set, arm and seed.

    `trials` are rows of `Run.trials`. A mean is null if a fold lacks the value.
    """
    completed = trials.assign(folds=folds_of(trials))[trials["status"] == "completed"]
    groups = completed.groupby(SEED_KEY, sort=False)
    is_whole = groups.size() == groups["folds"].first()
    means: pd.DataFrame = groups[columns].mean(skipna=False)
    return means[is_whole.reindex(means.index).astype(bool)]


@dataclass(frozen=True)
class SeedEffects:
    """Column effects of the model value = row + column, fitted to a table with missing cells."""

    columns: Floats
    """Effect of each column, float64 [columns]; they sum to 0 over columns with values and are 0 for the
    others."""
    is_estimable: bool
    """Whether all rows are comparable: shared columns link any two, directly or through other rows."""


def seed_effects(table: Floats) -> SeedEffects:
    """Fit row + column by least squares to `table`, float64 [rows, columns], NaN for missing cells.

    Arms are rows and seeds are columns. Seeds draw the validation images, so one seed may be easier than
    another for all arms; an arm that has only the easy seeds is not better for it. Without missing cells, a
    row's mean minus its columns' mean effect is its plain mean.
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
