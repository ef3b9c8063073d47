"""Early stopping for a Pareto front: asynchronous successive halving by non-dominated rank.

A trial is compared at rungs, after first, first · factor, first · factor² … epochs over all its stages, with
every trial that has reached the rung so far, whatever its outcome (Li et al. 2020, MLSys, "A System for
Massively Parallel Hyperparameter Tuning", algorithm 2, stopping variant). The rungs are rebuilt from the
trials' records, so a restarted search loses nothing.
"""

import math
from collections.abc import Sequence

import moocore
import numpy as np

from lightsweep.sweepfile.search import EarlyStopping

MOST_EPOCHS = 1_000_000


class Rungs:
    """The accuracies and costs of all trials at each rung."""

    def __init__(self, spec: EarlyStopping) -> None:
        self.spec = spec
        self.epochs = tuple(_rung_epochs(spec))
        """Epochs of the rungs, ascending."""
        self._peers: dict[int, dict[str, tuple[float, ...]]] = {epochs: {} for epochs in self.epochs}

    def add(self, trial_id: str, accuracies: Sequence[float], costs: Sequence[float]) -> None:
        """Add a trial: its validation accuracy after each epoch, and its costs, lower is better."""
        for epochs in self.epochs:
            if epochs > len(accuracies):
                break
            self._peers[epochs][trial_id] = (-max(accuracies[:epochs]), *costs)

    def goes_on(self, trial_id: str, accuracies: Sequence[float], costs: Sequence[float]) -> bool:
        """Add a trial and return whether it continues; between rungs it always does.

        At a rung with n trials, a trial continues if fewer than ⌈n / factor⌉ trials rank above it. With
        `compare: rank`, trials are ranked by non-dominated rank in (best accuracy so far, costs), so a
        non-dominated trial always continues. With fewer than `factor` trials at the rung, all continue.
        """
        self.add(trial_id, accuracies, costs)
        peers = self._peers.get(len(accuracies), {})
        if len(peers) < self.spec.factor:
            return True
        points = np.array(list(peers.values()), dtype=np.float64)
        places = moocore.pareto_rank(points) if self.spec.compare == "rank" else points[:, 0]
        mine = places[list(peers).index(trial_id)]
        return int((places < mine).sum()) < math.ceil(len(peers) / self.spec.factor)


def _rung_epochs(spec: EarlyStopping) -> list[int]:
    rungs: list[int] = []
    place = float(spec.first)
    while place <= MOST_EPOCHS:
        if not rungs or round(place) > rungs[-1]:
            rungs.append(round(place))
        place *= spec.factor
    return rungs
