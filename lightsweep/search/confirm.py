"""Choice of the nets of a search that are trained again with fresh seeds."""

from collections.abc import Mapping, Sequence

import numpy as np

from lightsweep.search.draws import Draw
from lightsweep.sweepfile.search import ACCURACY, Search


def choose_to_confirm(search: Search, draws: Sequence[Draw], accuracies: Mapping[str, float]) -> list[Draw]:
    """Return the completed draws on the front or within the margin of it, in the order of `draws`.

    If there are more than `at_most`, those nearest to the front are chosen. If the front alone has more, its
    members are chosen evenly spaced by rank of accuracy.

    Args:
        search: The search, with its confirmation settings.
        draws: All trained draws. The first draw of a configuration represents it.
        accuracies: Validation accuracy of each completed trial of the search, by trial id.

    """
    confirmation = search.confirmation
    if confirmation is None:
        return []
    first: dict[str, Draw] = {}
    floor = search.limits.get(ACCURACY, 0.0)
    for draw in draws:
        if accuracies.get(draw.trial.trial_id, -1.0) >= floor:
            first.setdefault(draw.trial.arm, draw)
    candidates = list(first.values())
    if not candidates:
        return []
    points = np.array([(-accuracies[draw.trial.trial_id], *draw.lows) for draw in candidates])
    misses = [_miss(points, index) for index in range(len(candidates))]
    ranked = sorted(range(len(candidates)), key=lambda index: (misses[index], points[index, 0]))
    front = [index for index in ranked if misses[index] <= 0]
    if len(front) > confirmation.at_most:
        last, most = len(front) - 1, confirmation.at_most
        chosen = [front[round(place * last / max(most - 1, 1))] for place in range(most)]
    else:
        near = [index for index in ranked if misses[index] <= confirmation.margin]
        chosen = near[: confirmation.at_most]
    return [candidates[index] for index in sorted(chosen)]


def _miss(points: np.ndarray, index: int) -> float:
    """Return by how much a row's first value must fall to be non-dominated in points [n, m]."""
    no_worse = (points[:, 1:] <= points[index, 1:]).all(axis=1)
    return float(points[index, 0] - points[no_worse, 0].min())
