"""Parse and check `design.json`, as `lightsweep run` writes it: an ablation or a search."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import TypeAdapter

Direction = Literal["minimise", "maximise"]


@dataclass(frozen=True)
class Factor:
    """A factor that the design varies."""

    name: str
    is_component: bool
    """Whether it is a component: present in base, absent at level 1. Other factors list alternatives to
    base's setting."""
    levels: tuple[str, ...]
    """Names of the levels; level 0 is base's."""


@dataclass(frozen=True)
class Placebo:
    """Base, trained with other seeds: it differs from base by noise only."""

    arm: str
    offset: int
    """Number added to each of the design's seeds."""


@dataclass(frozen=True)
class Design:
    """An ablation: arms that are changes to base, and the rules for comparing them."""

    kind: Literal["leave-one-out", "one-at-a-time", "factorial", "path"] | None
    """Kind of the design; None if there are only free arms."""
    base: str
    """Name of the arm that the others are changes to."""
    significance: float
    """Largest share of families of comparisons that may claim a false difference."""
    equivalence: float
    """Largest difference of accuracies, a fraction, that does not matter."""
    order: tuple[str, ...] | Literal["all"] | None
    """Order in which a path adds its components, or "all" for every order; None unless the design is a
    path."""
    seeds: tuple[int, ...]
    folds: int | None
    factors: tuple[Factor, ...]
    arms: Mapping[str, Mapping[str, Mapping[str, int] | None]]
    """Data set -> arm -> level of each factor; None for arms outside the design. Base comes first."""
    test_images: Mapping[str, int]
    """Data set -> number of its test images."""
    placebo: Placebo | None = None
    """The placebo, which is not among `arms`; None if none is planned or the folder predates placebos."""

    def arm_at(self, dataset: str, levels: Mapping[str, int]) -> str:
        """Return the arm with these levels; factors that are not named are at base's level."""
        return self._cells[dataset, tuple(levels.get(factor.name, 0) for factor in self.factors)]

    @cached_property
    def _cells(self) -> dict[tuple[str, tuple[int, ...]], str]:
        return {
            (dataset, tuple(levels[factor.name] for factor in self.factors)): arm
            for dataset, arms in self.arms.items()
            for arm, levels in arms.items()
            if levels is not None
        }


def parse_design(tree: Mapping[str, Any]) -> Design | None:
    """Return the design in the content of `design.json`; None if the run is not an ablation.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: The content is not what a run writes.

    """
    if tree["base"] is None:
        return None
    arms: dict[str, dict[str, Mapping[str, int] | None]] = {}
    placebo = tree.get("placebo")
    for arm in tree["arms"]:
        if placebo and arm["arm"] == placebo["arm"]:
            continue
        arms.setdefault(arm["dataset"], {})[arm["arm"]] = arm["levels"]
    design: Design = _DESIGN.validate_python(
        {
            "kind": tree["design"],
            "arms": arms,
            "placebo": placebo,
            **{key: tree[key] for key in ("base", "significance", "equivalence", "order", "seeds", "folds")},
            **{key: tree[key] for key in ("factors", "test_images")},
        }
    )
    _check(design)
    return design


def _check(design: Design) -> None:
    """Raise ValueError if parts of a design contradict each other."""
    levels = {factor.name: len(factor.levels) for factor in design.factors}
    if not 0 < design.significance < 1 or not 0 < design.equivalence < 1:
        raise ValueError("significance and equivalence must be between 0 and 1")
    if len(levels) < len(design.factors) or not all(levels.values()):
        raise ValueError("a factor is listed twice, or has no levels")
    if isinstance(design.order, tuple) and not set(design.order) <= levels.keys():
        raise ValueError("its order names an unknown factor")
    if len(set(design.seeds)) < len(design.seeds) or (design.folds is not None and design.folds < 2):
        raise ValueError("a seed is listed twice, or there are fewer than two folds")
    for dataset, arms in design.arms.items():
        if design.base not in arms or design.test_images.get(dataset, 0) < 1:
            raise ValueError(f"data set {dataset!r} has no arm {design.base!r}, or no test images")
        for arm, its in arms.items():
            if its is None:
                continue
            if its.keys() != levels.keys() or not all(0 <= its[name] < levels[name] for name in levels):
                raise ValueError(f"arm {arm!r} has levels that its factors do not have")


_DESIGN = TypeAdapter(Design)


@dataclass(frozen=True)
class SearchDesign:
    """A search: its objectives, limits and budget."""

    objectives: Mapping[str, Direction]
    """Objective (val_accuracy as a fraction, parameters, macs, weight_bytes or latency_ms) -> its
    direction."""
    limits: Mapping[str, float]
    """Objective or cost -> its limit, in its unit: a minimum for val_accuracy, a maximum for costs."""
    sampler: str
    """Name of the sampler: tpe, nsga2, gp, qmc or random."""
    seed: int
    """Seed of the sampler, and of the nets' training during the search."""
    trials: int | None
    """Number of trials requested; None if a budget was given instead."""
    budget: Mapping[str, float]
    """Requested budget, "epochs" or "minutes" -> amount; empty if a number of trials was given instead."""
    keys: tuple[str, ...]
    """Dotted keys of the settings that were searched."""
    early_stopping: str | None
    """What trials are compared by for early stopping: rank or accuracy; None without early stopping."""
    margin: float | None
    """Accuracy, a fraction, by which a net may miss the front and still be confirmed; None if none are."""
    seeds: tuple[int, ...]
    """Fresh seeds that the confirmation trains with."""


def parse_search(tree: Mapping[str, Any]) -> SearchDesign | None:
    """Return the search in the content of `design.json`; None if the run is not a search.

    Folders that predate searches have no such key.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: The content is not what a run writes.

    """
    search = tree.get("search")
    if search is None:
        return None
    names = ("objectives", "limits", "sampler", "seed", "trials", "keys", "early_stopping", "margin", "seeds")
    budget = {unit: size for unit, size in (search["budget"] or {}).items() if size is not None}
    found: SearchDesign = _SEARCH.validate_python(
        {**{name: search[name] for name in names}, "budget": budget}
    )
    return found


_SEARCH = TypeAdapter(SearchDesign)


@dataclass(frozen=True)
class DataIdentity:
    """The images that a run's data set name refers to."""

    fingerprint: str
    """SHA-256 of shapes, pixels and labels."""
    path: str | None
    """Path they were read from; None for data sets that have a fixed location."""


def parse_data(tree: Mapping[str, Any]) -> dict[str, DataIdentity]:
    """Return the identity of each data set, by its label; empty if the folder predates fingerprints.

    Raises:
        KeyError, TypeError, AttributeError: The content is not what a run writes.

    """
    return {
        str(label): DataIdentity(
            str(data["fingerprint"]), None if data["path"] is None else str(data["path"])
        )
        for label, data in tree.get("datasets", {}).items()
    }


def parse_folds(tree: Mapping[str, Any]) -> int | None:
    """Return the number of folds per seed; None without cross-validation or if the folder does not record it.

    Raises:
        TypeError, ValueError: The content is not what a run writes.

    """
    folds = tree.get("folds")
    return None if folds is None else int(folds)


def parse_classes(tree: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the class names of each data set; empty if the folder does not record them.

    Raises:
        TypeError, AttributeError: The content is not what a run writes.

    """
    return {str(name): tuple(map(str, classes)) for name, classes in tree.get("classes", {}).items()}
