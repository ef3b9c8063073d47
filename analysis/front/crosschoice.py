"""Test accuracy of chosen nets without selection luck: chosen on the other seeds, tested on the one left out.

A net's validation and test accuracy share its luck: among many equally good nets, the one chosen by
validation is slightly ahead on the test images, too. So the choice is made without one seed, and that seed
tests what was chosen; the mean over the seeds is of nets that were not chosen for that seed's luck
(cross-validated choice: Stone 1974, J. R. Stat. Soc. B 36:111).
"""

from dataclasses import dataclass

import numpy as np

from analysis.front.result import ARM_DIRECTIONS, Floats, means_of_draws, pareto_front


@dataclass(frozen=True)
class CrossTested:
    """Mean test accuracy of nets that were chosen without the seed that tests them."""

    accuracy: float
    """Mean test accuracy, a fraction."""
    n: int
    """Number of seeds that tested."""


def cross_tested_front(sizes: Floats, validation: Floats, test: Floats) -> list[CrossTested | None]:
    """Return each arm's mean test accuracy over the seeds without which it is on the front.

    `sizes` is float64 [arms], the cost; `validation` and `test` are float64 [arms, seeds], fractions, NaN
    where there is no result. None for an arm that is on no such front.
    """
    choices = (
        np.column_stack(
            [
                pareto_front(np.column_stack([sizes, means]), ARM_DIRECTIONS)
                for means in _means_without(validation)
            ]
        )
        if validation.shape[1] > 1
        else np.zeros(validation.shape, np.bool_)
    )
    counted = choices & ~np.isnan(test)
    return [
        CrossTested(float(values[chosen].mean()), int(chosen.sum())) if chosen.any() else None
        for values, chosen in zip(test, counted, strict=True)
    ]


def cross_tested_best(sizes: Floats, validation: Floats, test: Floats, budget: float) -> CrossTested | None:
    """Return the mean test accuracy of the best net within `budget`, chosen without the seed that tests it.

    Arguments are those of `cross_tested_front`. The best net has the highest mean validation accuracy over
    the other seeds; ties go to the fewest parameters, then to the first. None for fewer than two seeds.
    """
    values = []
    for seed, means in enumerate(_means_without(validation) if validation.shape[1] > 1 else ()):
        usable = np.flatnonzero((sizes <= budget) & ~np.isnan(means))
        if not len(usable):
            continue
        best = min(usable, key=lambda arm: (-means[arm], sizes[arm]))
        if not np.isnan(test[best, seed]):
            values.append(test[best, seed])
    return CrossTested(float(np.mean(values)), len(values)) if values else None


def _means_without(accuracies: Floats) -> Floats:
    """Return, for each seed, the arms' means over the other seeds, [seeds, arms]; NaN without any."""
    return means_of_draws(accuracies, 1 - np.eye(accuracies.shape[1]))
