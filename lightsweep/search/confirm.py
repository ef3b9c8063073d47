"""Which nets of a search are trained again with fresh seeds."""

from collections.abc import Mapping, Sequence

import numpy as np

from lightsweep.search.draws import Draw
from lightsweep.sweepfile.search import ACCURACY, Search


def choose_to_confirm(search: Search, draws: Sequence[Draw], accuracies: Mapping[str, float]) -> list[Draw]:
    """Return the completed draws on the front or within the margin of it, in the order of `draws`.

    If they are more than `at_most`, those nearest the front; if the front alone is larger, members of it that
    are spread evenly over its accuracies.

    Args:
        search: Says whether, how many and within what margin.
        draws: All that were trained. The first seed of a configuration stands for it.
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
    """Return how much less the first column of a row must be for it to be non-dominated in points [n, m]."""
    no_worse = (points[:, 1:] <= points[index, 1:]).all(axis=1)
    return float(points[index, 0] - points[no_worse, 0].min())
