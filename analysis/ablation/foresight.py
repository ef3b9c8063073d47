"""What an ablation can show, stated before it is trained."""

import numpy as np
import pandas as pd

from analysis.design import Design
from analysis.notation import counted, points
from analysis.statistics.contrasts import Family, Kind, families
from analysis.statistics.paired import FLIPS, MOST_EXACT
from analysis.statistics.pairing import accuracies_by_seed, contrast_by_seed
from analysis.statistics.power import detectable_effect, fewest_seeds, smallest_p


def foresee(design: Design, recorded: pd.DataFrame | None = None) -> tuple[str, ...]:
    """State what a design can show before anything is trained: its smallest p value and its resolution.

    With trials recorded by an earlier run (`Run.trials`), the resolution is also given in points of accuracy.
    """
    found: dict[str, None] = {}
    for dataset in design.arms:
        for family in families(design, dataset):
            count, seeds = len(family.contrasts), len(design.seeds)
            found[foresee_family(family.kind, count, seeds, design.significance)] = None
            if recorded is not None:
                found |= dict.fromkeys(_resolved_points(family, design, dataset, recorded))
    if design.folds:
        found[f"the {design.folds} folds of a seed are averaged: they are not independent runs"] = None
    return tuple(found)


def _resolved_points(family: Family, design: Design, dataset: str, recorded: pd.DataFrame) -> list[str]:
    """State what difference a family resolves if its seeds scatter like the recorded ones."""
    effect = detectable_effect(len(design.seeds), design.significance, len(family.contrasts))
    test = accuracies_by_seed(recorded[recorded["dataset"] == dataset], design, dataset, "test_accuracy")
    differences = [contrast_by_seed(contrast, test) for contrast in family.contrasts]
    deviations = [values.std(ddof=1) for values in differences if len(values) > 1]
    if effect is None or not deviations:
        return []
    resolved = points(effect * float(np.median(deviations)))
    among = counted(len(deviations), "comparison")
    return [
        f"{dataset}, {family.kind}: by the seeds recorded so far, this is about {resolved} "
        f"(median of {among})"
    ]


def foresee_family(kind: Kind, contrasts: int, seeds: int, significance: float) -> str:
    """State what this number of seeds can show for a family of this size; a warning if nothing."""
    smallest = min(1.0, contrasts * smallest_p(seeds))
    head = f"{kind}: {counted(contrasts, 'comparison')}, {counted(seeds, 'seed')}"
    if smallest > significance:
        return (
            f"warning: {head}: no p value can be below {smallest:.2g} (two-sided sign-flip test, Holm), so "
            f"nothing can be shown at {significance:g}: {fewest_seeds(significance, contrasts)} seeds are "
            "the fewest that can"
        )
    effect = detectable_effect(seeds, significance, contrasts)
    if effect is None:
        return (
            f"warning: {head}: nothing can be shown at {significance:g}: no p value of more than "
            f"{MOST_EXACT} seeds is below {contrasts / (1 + FLIPS):.2g} ({FLIPS:,} random sign flips, Holm)"
        )
    return (
        f"{head}: the smallest p value is {smallest:.2g}; a difference of {effect:.1f} standard deviations "
        "of the paired differences is found in about 3 of 4 such experiments"
    )
