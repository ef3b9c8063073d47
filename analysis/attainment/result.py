"""What repeated searches reach: empirical attainment surfaces."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.design import SearchDesign
from analysis.search.confirmation import searched_nets
from analysis.tables import Run

Floats = npt.NDArray[np.float64]

LEVELS = (25, 50, 75)


@dataclass(frozen=True)
class Repeats:
    """Searches of one kind on one data set, which differ only in their seeds."""

    dataset: str
    search: SearchDesign
    """Settings of the first of them."""
    runs: tuple[str, ...]
    surfaces: pd.DataFrame
    """Result of `attainment_surfaces`."""


def attainment_surfaces(fronts: Sequence[Floats], levels: Sequence[int] = LEVELS) -> pd.DataFrame:
    """Return the empirical attainment surfaces: what at least a given percentage of the repeats reached.

    `fronts` has the points of each repeat, float64 [n, 2]: parameters and accuracy (a fraction), at least one
    point. Returns the corners of the surfaces with the columns level (int64, percent), parameters and
    accuracy (float64), ascending in all three: at least `level` percent of the repeats (their number rounded
    up) reached or surpassed these parameters and this accuracy together, and no better pair. Empirical
    attainment function (Grunert da Fonseca, Fonseca & Hall 2001, EMO, LNCS 1993, 213), exact by the algorithm
    of Fonseca et al. 2011 (EMO, LNCS 6576, 106), by moocore.

    Raises:
        ValueError: There are no repeats, one has no points, or a value is not finite.

    """
    arrays = [np.asarray(front, dtype=np.float64) for front in fronts]
    if not arrays or any(front.ndim != 2 or front.shape[1] != 2 or not len(front) for front in arrays):
        raise ValueError(f"each repeat needs points [n, 2], n > 0; got {[a.shape for a in arrays]}")
    points = np.concatenate(arrays) * (1.0, -1.0)
    if not np.isfinite(points).all():
        raise ValueError("parameters and accuracies must be finite")
    import moocore  # takes 0.3 s to import

    owners = np.repeat(np.arange(len(arrays)), [len(front) for front in arrays])
    corners = moocore.eaf(points, owners, percentiles=list(levels))
    surfaces = pd.DataFrame(
        {
            "level": np.rint(corners[:, 2]).astype(np.int64),
            "parameters": corners[:, 0],
            "accuracy": -corners[:, 1],
        }
    )
    return surfaces.sort_values(["level", "parameters", "accuracy"], ignore_index=True)


def gather_repeats(runs: Sequence[Run]) -> list[Repeats]:
    """Find repeated searches for accuracy and few parameters, and compute what the repeats reached.

    Repeats are runs on one data set with the same `Run.search` except for its seed and its confirmation; a
    run without a completed search trial is ignored. The points are those of completed search trials; trials
    of the confirmation, which use other seeds, are not included.
    """
    groups: dict[tuple[str, str], list[tuple[Run, Floats]]] = {}
    for run in runs:
        if run.search is None or not {"val_accuracy", "parameters"} <= set(run.search.objectives):
            continue
        for dataset, trials in run.trials.groupby("dataset", sort=False):
            nets = searched_nets(trials)
            front = nets[nets["on_front"]]
            if not front.empty:
                points = front[["parameters", "val_mean"]].to_numpy(dtype=np.float64)
                groups.setdefault(
                    (str(dataset), json.dumps(_settings(run.search), sort_keys=True)), []
                ).append((run, points))
    return [
        Repeats(
            dataset=dataset,
            search=search,
            runs=tuple(run.name for run, _ in found),
            surfaces=attainment_surfaces([points for _, points in found]),
        )
        for (dataset, _), found in groups.items()
        if len(found) > 1 and (search := found[0][0].search) is not None
    ]


def settings_apart(searches: Sequence[SearchDesign]) -> list[Mapping[str, object]]:
    """Return, for each search, its settings that are not the same in all searches, except seeds."""
    settings = [_settings(search) for search in searches]
    texts = [{key: json.dumps(each, sort_keys=True) for key, each in one.items()} for one in settings]
    keys = [key for key in (settings[0] if settings else ()) if len({one[key] for one in texts}) > 1]
    return [{key: one[key] for key in keys} for one in settings]


def _settings(search: SearchDesign) -> dict[str, object]:
    """Return the settings that repeats share; a confirmation follows the search and does not matter."""
    return {key: value for key, value in asdict(search).items() if key not in ("seed", "seeds", "margin")}
