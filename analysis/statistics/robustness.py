"""How robust a verdict is: seeds that are outliers, and verdicts with one seed left out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.statistics.families import Verdict, verdicts
from analysis.statistics.paired import checked
from analysis.statistics.power import fewest_seeds

FAR = 5.0
"""Distance from the median, in median absolute deviations, beyond which a seed is an outlier."""


def far_off(differences: npt.ArrayLike, far: float = FAR) -> list[int]:
    """Return the indices of the outliers among the differences, float [n].

    An outlier is more than `far` median absolute deviations from the median (Hampel 1974, J. Am. Stat. Assoc.
    69:383); there is none if more than half of the differences are equal. The sign-flip test assumes that
    differences are symmetric, and an outlier is evidence against that.
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
    """Return each comparison's verdicts when one of its seeds is left out, each in turn.

    `family` has each comparison's differences, `seeds` the seeds they belong to. A seed is left out of the
    whole family. A set is empty if one seed fewer can decide nothing, whatever the differences are.
    """
    found: list[set[Verdict]] = [set() for _ in family]
    needed = fewest_seeds(significance, len(family)) if family else 0
    for seed in sorted(set().union(*map(set, seeds))) if seeds else ():
        kept = [values[[each != seed for each in its]] for values, its in zip(family, seeds, strict=True)]
        for place, decision in enumerate(verdicts(kept, significance, margin)):
            if seed in seeds[place] and len(kept[place]) >= needed:
                found[place].add(decision.verdict)
    return found
