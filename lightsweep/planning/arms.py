"""The arms of a sweep: the cells of a grid, or an ablation's design as changes to base."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import ValidationError

from lightsweep.errors import InputError, nearest
from lightsweep.hashing import canonical_json
from lightsweep.owncode.reference import without_digests
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.messages import describe_validation
from lightsweep.sweepfile.reading import assign, with_net
from lightsweep.sweepfile.sweep import Ablation, Sweep

BASE = "base"
PLACEBO, SEED_OFFSET = "placebo", 1_000_000
WITHIN = 0.01
NOT_SETTINGS = ("match", "within", "over")


@dataclass(frozen=True)
class Arm:
    """Settings that are trained with each seed and fold."""

    name: str
    dataset: DatasetSpec
    spec: ArmSpec
    place: str = ""
    """Position of the arm in the sweep file, for messages."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Changes to base that define the arm: values by key below base or dataset."""
    match: str | None = None
    """Cost that must match base's: parameters, macs or compute; None for no match."""
    within: float = WITHIN
    over: str | None = None
    """Keyword of the net that a match changes; None for the usual one (`match.scaled_keyword`)."""
    """Tolerance of the match as a fraction of base's cost."""
    levels: dict[str, int] | None = None
    """Level of each factor of an ablation's design; None for arms outside the design.

    0 is as in base, else it is the number of the alternative, from 1; for a component, 1 means removed.
    """
    seed_offset: int = 0
    """Offset added to the sweep's seeds; used by the placebo, which is base with other seeds."""


@dataclass(frozen=True)
class VariedFactor:
    """A factor of an ablation's design, with its alternatives."""

    name: str
    alternatives: tuple[tuple[str, dict[str, Any]], ...]
    """Name and changes of each alternative; a component has one, its removal."""
    is_component: bool
    """Whether the factor is a component, which is removed, instead of a key with other values."""
    place: str
    """Position of the factor in the sweep file, for messages."""


def arms(sweep: Sweep) -> list[Arm]:
    """Return a sweep's arms, without matching costs; an ablation's base comes first on each data set.

    Raises:
        InputError: A key or value is wrong, an axis lists a value twice, or two arms or two factors have the
            same name.

    """
    if sweep.ablation:
        return _ablation_arms(sweep, sweep.ablation)
    return _grid_arms(sweep, sweep.grid) if sweep.grid else [Arm(BASE, sweep.dataset, sweep.base)]


def _grid_arms(sweep: Sweep, grid: dict[str, list[Any]]) -> list[Arm]:
    short = _short_keys(list(grid))
    for key, values in grid.items():
        _refuse_twice(f"grid.{key}", values)
    found = []
    for combination in itertools.product(*grid.values()):
        changes = dict(zip(grid, combination, strict=True))
        names = {key: value_name(grid[key], value) for key, value in changes.items()}
        name = ", ".join(f"{short[key]} {names[key]}" for key in changes)
        found.append(Arm(name, *apply_changes(sweep, changes, "grid"), f"arm {name}", changes))
    return found


def _ablation_arms(sweep: Sweep, ablation: Ablation) -> list[Arm]:
    all_in = {factor.name: 0 for factor in factors(ablation)}
    found: list[Arm] = []
    for on, own in _nests(sweep, ablation):
        nested = {BASE: Arm(BASE, own.dataset, own.base, f"{BASE}{on}", levels=all_in)}
        for name, place, changes, levels in _cells(ablation):
            settings = {key: value for key, value in changes.items() if key not in NOT_SETTINGS}
            for key in settings:
                if key in ("dataset", "dataset.name", "dataset.path"):
                    rule = "arms are compared on one data set; nest them in datasets"
                    raise InputError(f"{_at(place, key)}: {rule}")
            spec = apply_changes(own, settings, place, on)
            cost = {key: changes[key] for key in NOT_SETTINGS if key in changes}
            if name in nested:
                raise InputError(f"{place}: there is already an arm {name}; rename this one")
            nested[name] = Arm(name, *spec, f"{place}{on}", settings, levels=levels, **cost)
        if ablation.placebo:
            if PLACEBO in nested:
                raise InputError(f"ablation.placebo: there is already an arm {PLACEBO}; rename that one")
            nested[PLACEBO] = replace(
                nested[BASE],
                name=PLACEBO,
                place=f"ablation.placebo{on}",
                levels=None,
                seed_offset=SEED_OFFSET,
            )
        found += nested.values()
    return found


def _nests(sweep: Sweep, ablation: Ablation) -> Iterable[tuple[str, Sweep]]:
    """Yield for each data set a suffix for messages (" on mnist") and the sweep with its own base."""
    if not ablation.datasets:
        yield "", sweep
    for name, changes in (ablation.datasets or {}).items():
        place = f"ablation.datasets.{name}"
        for key in changes:
            if key in ("dataset", "dataset.name"):
                raise InputError(f"{place}.{key}: the data set is {name}; drop this key")
        there = sweep.dataset.model_copy(update={"name": name, "path": None})
        dataset, base = apply_changes(sweep.model_copy(update={"dataset": there}), changes, place)
        yield f" on {name}", sweep.model_copy(update={"dataset": dataset, "base": base})


def factors(ablation: Ablation) -> list[VariedFactor]:
    """Return the factors of an ablation's design, components first."""
    found = [
        VariedFactor(name, ((f"without {name}", changes),), True, f"ablation.components.{name}")
        for name, changes in (ablation.components or {}).items()
    ]
    alternatives = ablation.alternatives or {}
    short = _short_keys(list(alternatives))
    for key, values in alternatives.items():
        _refuse_twice(f"ablation.alternatives.{key}", values)
        named = tuple((f"{short[key]} {value_name(values, value)}", {key: value}) for value in values)
        found.append(VariedFactor(short[key], named, False, f"ablation.alternatives.{key}"))
        if short[key] in (ablation.components or {}):
            raise InputError(
                f"ablation.components.{short[key]}: the alternatives of {key} have this name too; "
                "rename the component"
            )
    return found


def _cells(ablation: Ablation) -> Iterable[tuple[str, str, dict[str, Any], dict[str, int] | None]]:
    """Yield each arm except base as (name, place, changes, levels)."""
    varied = factors(ablation)
    for levels in _levels(ablation, varied):
        if not any(levels.values()):
            continue
        changed = [factor for factor in varied if levels[factor.name]]
        out = [factor.name for factor in changed if factor.is_component]
        named = [
            factor.alternatives[levels[factor.name] - 1][0] for factor in changed if not factor.is_component
        ]
        name = ", ".join([*named, f"without {', '.join(out)}"] if out else named)
        changes: dict[str, Any] = {}
        for factor in changed:
            later = factor.alternatives[levels[factor.name] - 1][1]
            later = {"within": WITHIN, **later} if "match" in later else later
            changes = {key: value for key, value in changes.items() if key not in later} | later
        yield name, changed[0].place if len(changed) == 1 else f"arm {name}", changes, levels
    for name, changes in ablation.arms.items():
        yield name, f"ablation.arms.{name}", changes, None


def _levels(ablation: Ablation, varied: Sequence[VariedFactor]) -> Iterable[dict[str, int]]:
    """Yield the level of each factor in each arm of the design."""
    names = [factor.name for factor in varied]
    if ablation.design == "factorial" or ablation.order == "all":
        for levels in itertools.product(*(range(1 + len(factor.alternatives)) for factor in varied)):
            yield dict(zip(names, levels, strict=True))
    elif ablation.design == "path":
        order = path_order(ablation)
        for step in range(len(order)):
            yield {name: int(name in order[step:]) for name in names}
    else:
        for factor in varied:
            for level in range(1, 1 + len(factor.alternatives)):
                yield {name: level if name == factor.name else 0 for name in names}


def path_order(ablation: Ablation) -> tuple[str, ...] | Literal["all"]:
    """Return a path's components in the order in which they are added, or "all" for every order."""
    return ablation.order or tuple(ablation.components or ())


def apply_changes(
    sweep: Sweep, changes: dict[str, Any], place: str, on: str = ""
) -> tuple[DatasetSpec, ArmSpec]:
    """Return the data set and settings of base with changes applied.

    Raises:
        InputError: A key does not exist in base, or a value is wrong; the message starts with `place`.

    """
    tree = {**sweep.base.model_dump(mode="json"), "dataset": sweep.dataset.model_dump(mode="json")}
    if "model.net" in changes:
        try:
            tree["model"] = with_net(tree["model"], changes["model.net"])
        except InputError as error:
            raise InputError(f"{_at(place, 'model.net')}{on}: {error}") from None
    for key, value in changes.items():
        if key == "model.net":
            continue
        if key.split(".")[0] not in tree:
            hint = f"write {key[5:]}" if key.startswith("base.") else nearest(key.split(".")[0], tree)
            raise InputError(f"{_at(place, key)}: no such key below base (or dataset); {hint}")
        try:
            assign(tree, key, value)
        except InputError as error:
            raise InputError(f"{_at(place, key)}{on} = {_name_of(value)}: {error}") from None
    dataset_tree = tree.pop("dataset")
    try:
        return DatasetSpec.model_validate(dataset_tree), ArmSpec.model_validate(tree)
    except ValidationError as error:
        trees = {**tree, **dataset_tree}
        shown = ", ".join(f"{key} = {_name_of(value)}" for key, value in changes.items())
        rule = describe_validation(error, trees).removeprefix("the file: ")
        raise InputError(f"{place}{on}{f' ({shown})' if shown else ''}: {rule}") from None


def _at(place: str, key: str) -> str:
    """Return the position of a key in the sweep file, given that of its changes, which may end with it."""
    if place.startswith("arm "):
        return f"{place}: {key}"
    return place if place.endswith(f".{key}") else f"{place}.{key}"


def _refuse_twice(place: str, values: Sequence[Any]) -> None:
    seen: set[str] = set()
    for value in values:
        text = canonical_json(value)
        if text in seen:
            raise InputError(f"{place}: {_name_of(value)} is listed twice; drop one")
        seen.add(text)


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return the last part of each key, or the whole key if another key has the same last part."""
    counts = Counter(key.rpartition(".")[2] for key in keys)
    return {key: key if counts[key.rpartition(".")[2]] > 1 else key.rpartition(".")[2] for key in keys}


def value_name(values: Sequence[Any], value: Any) -> str:
    """Return an axis value as used in an arm's name; a table is named by its number on the axis."""
    is_table = isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)
    return f"#{values.index(value) + 1}" if is_table else _name_of(value)


def _name_of(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(_name_of(item) for item in value) or "[]"
    if isinstance(value, dict):
        return " ".join(f"{key} {_name_of(item)}" for key, item in value.items())
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return without_digests(str(value))
