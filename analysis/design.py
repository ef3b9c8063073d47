"""What a run is, an ablation or a search: `design.json`, as `lightsweep run` writes it, checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import TypeAdapter

Direction = Literal["minimise", "maximise"]


@dataclass(frozen=True)
class Factor:
    """Something that the design varies."""

    name: str
    is_component: bool
    """A component is in base and out at level 1; other factors have alternatives to base's setting."""
    levels: tuple[str, ...]
    """Names of the levels; the first is base's."""


@dataclass(frozen=True)
class Placebo:
    """Base, trained with other seeds: what it differs by is noise alone."""

    arm: str
    offset: int
    """What is added to each of the design's seeds."""


@dataclass(frozen=True)
class Design:
    """An ablation: arms that are changes to base, and what is asked of their comparison."""

    kind: Literal["leave-one-out", "one-at-a-time", "factorial", "path"] | None
    """None if there are free arms alone."""
    base: str
    """Name of the arm that the others are changes to."""
    significance: float
    """Share of families of comparisons that may claim a difference where there is none."""
    equivalence: float
    """Difference of accuracies, a fraction, that does not matter."""
    order: tuple[str, ...] | Literal["all"] | None
    """Of a path: the components in the order in which they come in."""
    seeds: tuple[int, ...]
    folds: int | None
    factors: tuple[Factor, ...]
    arms: Mapping[str, Mapping[str, Mapping[str, int] | None]]
    """Data set -> arm -> level of each factor; None for arms outside the design. Base comes first."""
    test_images: Mapping[str, int]
    """Data set -> number of its test images."""
    placebo: Placebo | None = None
    """No arm of ``arms``; None if none is planned, or the folder is older than that."""

    def arm_at(self, dataset: str, levels: Mapping[str, int]) -> str:
        """Return the arm with these levels; factors that are not named have base's."""
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
    """Return the design that `design.json`'s content describes; None if the run is no ablation.

    Raises KeyError, TypeError, ValueError or AttributeError for what no run writes.
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
    """Raise ValueError where parts of a design do not fit one another."""
    levels = {factor.name: len(factor.levels) for factor in design.factors}
    if not 0 < design.significance < 1 or not 0 < design.equivalence < 1:
        raise ValueError("significance and equivalence must be between 0 and 1")
    if len(levels) < len(design.factors) or not all(levels.values()):
        raise ValueError("a factor stands in it twice, or has no levels")
    if isinstance(design.order, tuple) and not set(design.order) <= levels.keys():
        raise ValueError("its order names what is no factor")
    if len(set(design.seeds)) < len(design.seeds) or (design.folds is not None and design.folds < 2):
        raise ValueError("a seed stands in it twice, or it has fewer than two folds")
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
    """A search: what was looked for, within what, and for how long."""

    objectives: Mapping[str, Direction]
    """val_accuracy (a fraction), parameters, macs, weight_bytes or latency_ms -> its direction."""
    limits: Mapping[str, float]
    """Cost -> what no net may exceed, in its unit."""
    sampler: str
    """tpe, nsga2, gp, qmc or random."""
    seed: int
    """Of the sampler, and that nets are trained with while searching."""
    trials: int | None
    """How many were asked for; None with a budget."""
    budget: Mapping[str, float]
    """How many epochs or minutes were asked for; empty with a number of trials."""
    keys: tuple[str, ...]
    """The settings that were searched."""
    early_stopping: str | None
    """What trials were compared by: rank or accuracy; None if all were trained to their end."""
    margin: float | None
    """Accuracy, a fraction, by which a confirmed net may miss the front; None for no confirmation."""
    seeds: tuple[int, ...]
    """The fresh ones that the confirmation trains with."""


def parse_search(tree: Mapping[str, Any]) -> SearchDesign | None:
    """Return the search that `design.json`'s content describes; None if the run is no search.

    Folders older than searches do not name it. Raises KeyError, TypeError, ValueError or AttributeError for
    what no run writes.
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
    """Which images a run calls by a name."""

    fingerprint: str
    """SHA-256 of shapes, pixels and labels."""
    path: str | None
    """Where they lay; None for data sets that have a place of their own."""


def parse_data(tree: Mapping[str, Any]) -> dict[str, DataIdentity]:
    """Return which images each data set's name stands for; of none if the folder is older than that.

    Raises KeyError, TypeError or AttributeError for what no run writes.
    """
    return {
        str(label): DataIdentity(
            str(data["fingerprint"]), None if data["path"] is None else str(data["path"])
        )
        for label, data in tree.get("datasets", {}).items()
    }


def parse_folds(tree: Mapping[str, Any]) -> int | None:
    """Return how many folds each seed has; None without cross-validation, or if the folder is too old to say.

    Raises TypeError or ValueError for what no run writes.
    """
    folds = tree.get("folds")
    return None if folds is None else int(folds)


def parse_classes(tree: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the names of each data set's classes; of none if the folder is older than that.

    Raises TypeError or AttributeError for what no run writes.
    """
    return {str(name): tuple(map(str, classes)) for name, classes in tree.get("classes", {}).items()}
