"""Pareto fronts: which points, and which arms, no other one beats."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Direction = Literal["minimise", "maximise"]

ARM_OBJECTIVES: dict[str, Direction] = {"parameters": "minimise", "val_mean": "maximise"}


def pareto_front(values: npt.NDArray[np.float64], directions: Sequence[Direction]) -> npt.NDArray[np.bool_]:
    """Say which of n points are on the Pareto front of m objectives.

    ``values`` is float64 [n, m], ``directions`` has a "minimise" or "maximise" per column. Returns bool [n]:
    True where no other point is at least as good in all objectives and better in one. Equal points are on the
    front together; a point with a NaN never is. Takes O(n log n + n · front) steps: of lexicographically
    sorted points the first is non-dominated, and drops those that beat it nowhere.

    Raises ValueError if the shapes do not agree or a direction is unknown.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(directions) or not directions:
        raise ValueError(
            f"values must be [n, {len(directions)}], a column per direction; got shape {values.shape}"
        )
    unknown = set(directions) - {"minimise", "maximise"}
    if unknown:
        raise ValueError(f"unknown direction {sorted(unknown)}; use 'minimise' or 'maximise'")
    losses = values * np.where([direction == "minimise" for direction in directions], 1.0, -1.0)
    usable = ~np.isnan(losses).any(axis=1)
    points, owners = np.unique(losses[usable], axis=0, return_inverse=True)
    is_front = np.zeros(len(points), dtype=np.bool_)
    rest = np.arange(len(points))
    while len(rest):
        first = rest[0]
        is_front[first] = True
        rest = rest[(points[rest] < points[first]).any(axis=1)]
    on_front = np.zeros(len(values), dtype=np.bool_)
    on_front[usable] = is_front[owners]
    return on_front


def mark_front(arms: pd.DataFrame) -> pd.DataFrame:
    """Add to ``summarise_arms``'s table which arms are on their data set's front.

    New columns: on_front (bool) and front_rank (Int64, 1 for the smallest model on the front, null off it).
    Fewer parameters and higher mean validation accuracy are better; test accuracy takes no part.
    """
    marked = arms.assign(on_front=False, front_rank=pd.array([pd.NA] * len(arms), dtype="Int64"))
    for _, group in arms.groupby("dataset", sort=False):
        values = group[list(ARM_OBJECTIVES)].to_numpy(dtype=np.float64, na_value=np.nan)
        members = group[pareto_front(values, list(ARM_OBJECTIVES.values()))]
        ranked = members.sort_values(["parameters", "label"]).index
        marked.loc[ranked, "on_front"] = True
        marked.loc[ranked, "front_rank"] = np.arange(1, len(ranked) + 1)
    return marked
