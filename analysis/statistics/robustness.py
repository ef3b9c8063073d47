"""How much a verdict hangs on: one seed, a seed that is far off, seeds that failed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.statistics.families import Verdict, verdicts
from analysis.statistics.paired import checked
from analysis.statistics.power import fewest_seeds

FAR = 5.0
"""Median absolute deviations from the median beyond which a seed is named."""


def far_off(differences: npt.ArrayLike, far: float = FAR) -> list[int]:
    """Return the places of differences, float [n], more than ``far`` median absolute deviations off.

    From the median of all (Hampel 1974, J. Am. Stat. Assoc. 69:383). None is named where more than half are
    equal. The sign-flip test takes differences to be symmetric: one value far off speaks against it.
    """
    differences = checked(differences)
    if not len(differences):
        return []
    distances = np.abs(differences - np.median(differences))
    scale = float(np.median(distances))
    return [] if scale == 0 else np.flatnonzero(distances > far * scale).tolist()


def verdicts_without_one(
    family: Sequence[npt.NDArray[np.floating[Any]]],
    seeds: Sequence[Sequence[int]],
    significance: float,
    margin: float,
) -> list[set[Verdict]]:
    """Return for each comparison the verdicts that it gets when one seed is left out, each of its seeds once.

    ``family`` has each comparison's differences, ``seeds`` the seeds that they are of. A seed is left out of
    the whole family. Empty where one seed fewer can decide nothing, whatever the differences are.
    """
    found: list[set[Verdict]] = [set() for _ in family]
    needed = fewest_seeds(significance, len(family)) if family else 0
    for seed in sorted(set().union(*map(set, seeds))) if seeds else ():
        kept = [values[[each != seed for each in its]] for values, its in zip(family, seeds, strict=True)]
        for place, decision in enumerate(verdicts(kept, significance, margin)):
            if seed in seeds[place] and len(kept[place]) >= needed:
                found[place].add(decision.verdict)
    return found
