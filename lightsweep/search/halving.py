"""Early stopping for a front: asynchronous successive halving that compares by non-dominated rank.

A trial is compared at rungs, after first, first · factor, first · factor² … epochs over all its stages, with
every trial that has come to the rung so far, whatever became of it (Li et al. 2020, MLSys, "A System for
Massively Parallel Hyperparameter Tuning", algorithm 2, in the stopping form). What the rungs know is made of
the trials' records, so a restarted search goes on with all of it.
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
        """Of the rungs, ascending."""
        self._peers: dict[int, dict[str, tuple[float, ...]]] = {epochs: {} for epochs in self.epochs}

    def add(self, trial_id: str, accuracies: Sequence[float], costs: Sequence[float]) -> None:
        """Take over a trial's course: its validation accuracy after each epoch and its costs, low is good."""
        for epochs in self.epochs:
            if epochs > len(accuracies):
                break
            self._peers[epochs][trial_id] = (-max(accuracies[:epochs]), *costs)

    def goes_on(self, trial_id: str, accuracies: Sequence[float], costs: Sequence[float]) -> bool:
        """Note a trial that is at a rung and say whether it goes on; anywhere else it does.

        Of n trials at the rung ⌈n / factor⌉ go on: those that fewer than so many are ahead of. With rank,
        ahead is who has a lower non-dominated rank in (best accuracy so far, costs), so that a trial that
        no other beats in all of them always goes on. Fewer than `factor` trials tell nothing.
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
