"""What chosen nets reach where no luck chose them: chosen on the other seeds, tested on the one left out.

A net's validation and test accuracy share its luck: of many nets of equal worth the one chosen by validation
leads on the test images, too, if a little. So the choice is made without a seed, and the seed left out tests
what was chosen; the mean over the seeds is of nets that were not chosen for that seed's luck (the choice is
cross-validated: Stone 1974, J. R. Stat. Soc. B 36:111).
"""

from dataclasses import dataclass

import numpy as np

from analysis.front.result import ARM_DIRECTIONS, Floats, means_of_draws, pareto_front


@dataclass(frozen=True)
class CrossTested:
    """A mean test accuracy of what was chosen without the seed that tests it."""

    accuracy: float
    """A fraction."""
    n: int
    """Seeds that tested it."""


def cross_tested_front(sizes: Floats, validation: Floats, test: Floats) -> list[CrossTested | None]:
    """Return for each arm its test accuracy at the seeds without which it is on the front.

    ``sizes`` is float64 [arms], the cost; ``validation`` and ``test`` are float64 [arms, seeds], fractions,
    NaN where there is no result. None for an arm that no choice puts on the front.
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
    """Return the test accuracy of the best net of at most ``budget`` at the seeds that did not choose it.

    Arguments as ``cross_tested_front`` has them. The best has the highest mean validation accuracy over the
    other seeds; of equal ones the fewest parameters, then the first. None for fewer than two seeds.
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
    """Return for each seed the arms' means over the other seeds, [seeds, arms]; NaN where an arm has none."""
    return means_of_draws(accuracies, 1 - np.eye(accuracies.shape[1]))
