"""The course of a search: the hypervolume of its front over the epochs spent."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.design import Direction
from analysis.front.result import REFERENCE_PARAMETERS, hypervolume

DIRECTIONS: tuple[Direction, Direction] = ("minimise", "maximise")


def default_reference(limits: Mapping[str, float]) -> tuple[float, float]:
    """Return the reference point (parameters, accuracy as a fraction) of a search with these `limits`.

    The worst feasible net: the limit of parameters (default 100,000) and that of accuracy (default 0).
    """
    return float(limits.get("parameters", REFERENCE_PARAMETERS)), float(limits.get("val_accuracy", 0.0))


def hypervolume_course(trials: pd.DataFrame, reference: tuple[float, float]) -> pd.DataFrame:
    """Return the hypervolume of a search's front after each of its trials, in the order they were drawn.

    `trials` are those of one run on one data set (`Run.trials`), of which only the phase "search" counts;
    `reference` is (parameters, validation accuracy as a fraction). Returns one row per search trial, in the
    order of study_number, with the columns epochs (int64: trained up to and including this trial, also by
    trials that were stopped early or failed; a stage loaded from the store counts as trained), n_trials
    (int64: trials so far) and hypervolume (float64, decades × accuracy fraction): the area of log10
    parameters and validation accuracy that completed trials so far dominate, up to the reference point.
    Trials that did not complete or are beyond the reference point add nothing.

    Raises:
        ValueError: The reference is not finite, or its parameters are not above 0.

    """
    if not reference[0] > 0 or not all(map(math.isfinite, reference)):
        raise ValueError(
            f"the reference must be parameters above 0 and an accuracy, both finite; got {reference}"
        )
    corner = (math.log10(reference[0]), reference[1])
    searched = trials[trials["phase"] == "search"].sort_values("study_number", kind="stable")
    sizes = np.log10(searched["parameters"].to_numpy(dtype=np.float64, na_value=np.nan))
    points = np.column_stack([sizes, searched["val_accuracy"].to_numpy(dtype=np.float64, na_value=np.nan)])
    covered, front, volumes = 0.0, np.empty((0, 2)), []
    for point, is_complete in zip(points, searched["status"] == "completed", strict=True):
        if is_complete and not ((front[:, 0] <= point[0]) & (front[:, 1] >= point[1])).any():
            front = np.vstack([front[(front[:, 0] < point[0]) | (front[:, 1] > point[1])], point])
            covered = hypervolume(front, DIRECTIONS, corner)
        volumes.append(covered)
    return pd.DataFrame(
        {
            "epochs": searched["epochs_trained"].fillna(0).cumsum().to_numpy(dtype=np.int64),
            "n_trials": np.arange(1, len(searched) + 1),
            "hypervolume": np.array(volumes, dtype=np.float64),
        }
    )
