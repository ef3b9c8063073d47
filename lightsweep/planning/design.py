"""The design of a plan as plain content for the analysis, and labels of its data sets."""

from collections import Counter
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from lightsweep.hashing import canonical_json
from lightsweep.owncode.reference import without_digests
from lightsweep.planning.arms import BASE, PLACEBO, SEED_OFFSET, factors, path_order
from lightsweep.planning.plan import Plan
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.search import Search


def dataset_labels(
    planned: Plan, fingerprints: Mapping[DatasetSpec, str] | None = None
) -> dict[DatasetSpec, str]:
    """Return a label for each data set: its name, with path and image size if two names are equal.

    Data sets with equal fingerprints get one label, whatever their names. Without fingerprints, when the data
    is not on this machine, data sets with equal name, path and image size get one label.
    """
    groups: dict[str, list[DatasetSpec]] = {}
    for spec in planned.infos:
        images = canonical_json(spec.source)
        groups.setdefault(fingerprints[spec] if fingerprints else images, []).append(spec)
    names = Counter(without_digests(members[0].name) for members in groups.values())
    labels: dict[DatasetSpec, str] = {}
    for members in groups.values():
        first = members[0]
        size = f"{first.image_size} pixels" if first.image_size else None
        more = ", ".join(part for part in (first.path, size) if part)
        name = without_digests(first.name)
        more = ", ".join(part for part in (more, *(f"{k} {v}" for k, v in first.keywords.items())) if part)
        label = f"{name} ({more})" if names[name] > 1 and more else name
        labels |= dict.fromkeys(members, label)
    return labels


def design_tree(planned: Plan, fingerprints: Mapping[DatasetSpec, str] | None = None) -> dict[str, Any]:
    """Return the content of `design.json`: what the analysis needs to know about a plan's design.

    Args:
        planned: The plan.
        fingerprints: Fingerprints of its data sets; without them `datasets` is empty.

    """
    sweep, ablation = planned.sweep, planned.sweep.ablation
    labels = dataset_labels(planned, fingerprints)
    first = {(trial.dataset, trial.arm): planned.costs[trial.trial_id] for trial in planned.trials}
    varied = factors(ablation) if ablation else []
    return {
        "design": ablation.design if ablation else None,
        "base": BASE if ablation else None,
        "significance": ablation.significance if ablation else None,
        "equivalence": ablation.equivalence if ablation else None,
        "order": path_order(ablation) if ablation and ablation.design == "path" else None,
        "seeds": sweep.seed_list,
        "folds": sweep.folds,
        "placebo": {"arm": PLACEBO, "offset": SEED_OFFSET} if ablation and ablation.placebo else None,
        "factors": [
            {
                "name": factor.name,
                "is_component": factor.is_component,
                "levels": [BASE, *map(itemgetter(0), factor.alternatives)],
            }
            for factor in varied
        ],
        "arms": [
            {
                "dataset": labels[arm.dataset],
                "arm": arm.name,
                "changes": arm.changes,
                "match": arm.match,
                "levels": arm.levels,
                "parameters": first[arm.dataset, arm.name].parameters,
                "macs": first[arm.dataset, arm.name].macs,
            }
            for arm in planned.arms
        ],
        "search": _search_tree(sweep.search, sweep.seed_list) if sweep.search else None,
        "test_images": {labels[spec]: info.test_count for spec, info in planned.infos.items()},
        "classes": {labels[spec]: list(info.classes) for spec, info in planned.infos.items()},
        "datasets": {
            labels[spec]: {
                "fingerprint": fingerprint,
                **spec.source,
            }
            for spec, fingerprint in reversed(
                list((fingerprints or {}).items())
            )  # the first one wins a shared label
        },
    }


def _search_tree(search: Search, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Return what the analysis needs to know about a search."""
    kept = {"objectives", "limits", "sampler", "seed", "trials", "budget"}
    return {
        **search.model_dump(mode="json", include=kept),
        "keys": list(search.space),
        "early_stopping": search.early_stopping.compare if search.early_stopping else None,
        "margin": search.confirmation.margin if search.confirmation else None,
        "seeds": seeds,
    }
