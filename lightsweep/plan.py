"""From a sweep to its trials: arms × seeds × folds, each checked before anything is trained."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lightsweep.cost import Cost, cost
from lightsweep.imagefiles import DatasetInfo
from lightsweep.schedule import stage_table
from lightsweep.spec import ArmSpec, DatasetSpec, InputError, Sweep, canonical_json, nearest
from lightsweep.sweepfile import assign, describe_validation
from lightsweep.trial import Trial, stage_keys


@dataclass(frozen=True)
class Plan:
    """The trials of a sweep, in the order in which they are started."""

    sweep: Sweep
    trials: tuple[Trial, ...]
    costs: dict[str, Cost]
    """By trial id."""
    infos: dict[DatasetSpec, DatasetInfo]


@dataclass(frozen=True)
class StageCount:
    """What a plan's stages come to."""

    total: int
    """Over all trials."""
    unique: int
    stored: int | None
    """Of the unique ones, in the store already; None where the data is not here to tell."""
    epochs_alone: int
    """At most, were each trial trained alone."""
    epochs_unique: int
    """At most, of the unique stages."""
    epochs_left: int | None
    """At most, of the unique stages that are not stored."""


@dataclass(frozen=True)
class StageNode:
    """A stage in the tree of a plan's stages: for all seeds and folds, which have trees of one shape."""

    name: str
    """Of the stage, in the first arm that has it."""
    epochs: int
    """At most."""
    keys: tuple[str, ...]
    """One for each data set's seed and fold."""
    arms: tuple[str, ...]
    """Names of the arms that need it."""
    children: tuple["StageNode", ...]


def plan(sweep: Sweep, describe: Callable[[DatasetSpec], DatasetInfo]) -> Plan:
    """Enumerate a sweep's trials, in an order in which few wait for one another.

    Args:
        sweep: The sweep.
        describe: Gives a data set's shape and classes (`datasets.describe`).

    Raises:
        InputError: A grid key or value is wrong, filters do not fit the images, a stage freezes what
            is not there, an axis changes nothing.

    """
    trials: list[Trial] = []
    costs: dict[str, Cost] = {}
    infos: dict[DatasetSpec, DatasetInfo] = {}
    for name, dataset, spec, changes in arms(sweep):
        if dataset not in infos:
            infos[dataset] = describe(dataset)
        info = infos[dataset]
        place = f"arm {name}: " if changes else ""
        _check_split(dataset, info, place)
        try:
            arm_cost = cost(spec.model, (info.channels, info.height, info.width), len(info.classes))
            stage_table(spec)  # says now what does not fit; each trial makes its own when it needs it
        except InputError as error:
            raise InputError(f"{place or 'base.'}{error}") from None
        members = [
            Trial(name, dataset, spec, seed, fold, sweep.folds, changes)
            for seed in sweep.seed_list
            for fold in (range(sweep.folds) if sweep.folds else [None])
        ]
        trials += members
        costs |= {trial.trial_id: arm_cost for trial in members}
    keys = {trial: _placeholder_keys(trial) for trial in trials}
    _refuse_idle_axes(keys)
    return Plan(sweep, tuple(_apart(keys)), costs, infos)


def _check_split(dataset: DatasetSpec, info: DatasetInfo, place: str) -> None:
    held_out = dataset.validation if isinstance(dataset.validation, int) else 0
    if held_out + len(info.classes) > info.train_count:
        raise InputError(
            f"{place}dataset.validation = {held_out}: {info.name} has {info.train_count} training images "
            f"of {len(info.classes)} classes"
        )
    if dataset.train_limit is not None and dataset.train_limit < len(info.classes):
        raise InputError(
            f"{place}dataset.train_limit = {dataset.train_limit}: must be at least one image of each of the "
            f"{len(info.classes)} classes"
        )


def arms(sweep: Sweep) -> list[tuple[str, DatasetSpec, ArmSpec, dict[str, Any]]]:
    """Return the arms as (name, data set, settings, changes): every combination of the grid's values."""
    if not sweep.grid:
        return [("base", sweep.dataset, sweep.base, {})]
    short = _short_keys(list(sweep.grid))
    for key, values in sweep.grid.items():
        seen: set[str] = set()
        for value in values:
            text = canonical_json(value)
            if text in seen:
                raise InputError(f"grid.{key}: {_text(value)} stands there twice; drop one")
            seen.add(text)
    found = []
    for combination in itertools.product(*sweep.grid.values()):
        changes = dict(zip(sweep.grid, combination, strict=True))
        name = ", ".join(f"{short[key]} {_name(sweep, key, value)}" for key, value in changes.items())
        found.append((name, *_apply(sweep, changes), changes))
    return found


def _apply(sweep: Sweep, changes: dict[str, Any]) -> tuple[DatasetSpec, ArmSpec]:
    tree = {**sweep.base.model_dump(mode="json"), "dataset": sweep.dataset.model_dump(mode="json")}
    for key, value in changes.items():
        place = f"grid.{key} = {_text(value)}"
        if key.split(".")[0] not in tree:
            hint = f"write {key[5:]}" if key.startswith("base.") else nearest(key.split(".")[0], tree)
            raise InputError(f"grid.{key}: no such key below base (or dataset); {hint}")
        try:
            assign(tree, key, value)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
    dataset_tree = tree.pop("dataset")
    try:
        return DatasetSpec.model_validate(dataset_tree), ArmSpec.model_validate(tree)
    except ValidationError as error:
        trees = {**tree, **dataset_tree}
        shown = ", ".join(f"{key} = {_text(value)}" for key, value in changes.items())
        raise InputError(f"grid ({shown}): {describe_validation(error, trees)}") from None


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return the last part of each key, or all of it where two keys end alike."""
    counts = Counter(key.rpartition(".")[2] for key in keys)
    return {key: key if counts[key.rpartition(".")[2]] > 1 else key.rpartition(".")[2] for key in keys}


def _name(sweep: Sweep, key: str, value: Any) -> str:
    """Return a grid's value as it stands in an arm's name; a table is called by its place on the axis."""
    assert sweep.grid
    is_table = isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)
    return f"#{sweep.grid[key].index(value) + 1}" if is_table else _text(value)


def _text(value: Any) -> str:
    """Return a grid's value as it stands in an arm's name."""
    if isinstance(value, list):
        return "-".join(_text(item) for item in value)
    if isinstance(value, dict):
        return " ".join(f"{key} {_text(item)}" for key, item in value.items())
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def _refuse_idle_axes(keys: dict[Trial, tuple[str, ...]]) -> None:
    """Refuse an axis of the grid whose values all make the same trials, whatever the other axes are.

    Single cells may coincide: they share all their stages, so nothing is trained twice.
    """
    for axis in next(iter(keys)).changes:
        groups: dict[str, set[str]] = {}
        for trial, chain in keys.items():
            others = {key: value for key, value in trial.changes.items() if key != axis}
            group = canonical_json([others, trial.seed, trial.fold])
            groups.setdefault(group, set()).add(chain[-1])
        values = {canonical_json(trial.changes[axis]) for trial in keys}
        if len(values) > 1 and all(len(group) == 1 for group in groups.values()):
            raise InputError(f"grid.{axis}: changes nothing: all its values make the same trials")


def _placeholder_keys(trial: Trial) -> tuple[str, ...]:
    """Return stage keys that tell which stages are the same, where the data may not be here."""
    images = trial.dataset.model_dump_json(include={"name", "path", "image_size"})
    return stage_keys(trial, images, "cpu")


def _apart(keys: dict[Trial, tuple[str, ...]], depth: int = 0) -> list[Trial]:
    """Order trials so that neighbours have as few stages in common as can be.

    In the tree of stages each node's branches take turns: trials that run at the same time seldom need
    the same stage, and a stage that several need is mostly stored when the second of them comes to it.
    """
    branches: dict[str, dict[Trial, tuple[str, ...]]] = {}
    for trial, chain in keys.items():
        branches.setdefault(chain[depth], {})[trial] = chain
    if len(branches) == 1 and all(len(chain) == depth + 1 for chain in keys.values()):
        return list(keys)  # the same to the end
    ordered = [_apart(branch, depth + 1) if len(branch) > 1 else list(branch) for branch in branches.values()]
    turns = itertools.zip_longest(*ordered)
    return [trial for turn in turns for trial in turn if trial is not None]


def plan_keys(
    planned: Plan, fingerprints: dict[DatasetSpec, str] | None, device_type: str
) -> dict[str, tuple[str, ...]]:
    """Return the keys of each trial's stages and assessment, by trial id.

    Without fingerprints, where the data is not here, they tell which stages are the same, and no more.
    """
    return {
        trial.trial_id: stage_keys(trial, fingerprints[trial.dataset], device_type)
        if fingerprints
        else _placeholder_keys(trial)
        for trial in planned.trials
    }


def stage_tree(planned: Plan, keys: dict[str, tuple[str, ...]]) -> tuple[StageNode, ...]:
    """Return the plan's stages as trees: each branch is an arm's chain, shared as far as it is the same."""
    members: dict[tuple[DatasetSpec, str], list[Trial]] = {}
    for trial in planned.trials:
        members.setdefault((trial.dataset, trial.arm), []).append(trial)
    arms = [sorted(trials, key=lambda trial: (trial.seed, trial.fold or 0)) for trials in members.values()]
    return _branches(arms, keys, 0)


def _branches(arms: list[list[Trial]], keys: dict[str, tuple[str, ...]], depth: int) -> tuple[StageNode, ...]:
    groups: dict[str, list[list[Trial]]] = {}
    for arm in arms:
        if depth < len(arm[0].stages):
            groups.setdefault(keys[arm[0].trial_id][depth], []).append(arm)
    return tuple(
        StageNode(
            name=group[0][0].stages[depth].name,
            epochs=group[0][0].stages[depth].epochs,
            keys=tuple(keys[trial.trial_id][depth] for trial in group[0]),
            arms=tuple(arm[0].arm for arm in group),
            children=_branches(group, keys, depth + 1),
        )
        for group in groups.values()
    )


def count_stages(
    planned: Plan, keys: dict[str, tuple[str, ...]], is_stored: Callable[[str], bool] | None
) -> StageCount:
    """Count a plan's unique, shared and stored stages and the epochs that they save.

    Args:
        planned: The plan.
        keys: Of its trials (`plan_keys`).
        is_stored: Tells whether a stage key is in the store; None where that cannot be told.

    """
    total = alone = 0
    epochs: dict[str, int] = {}
    for trial in planned.trials:
        for key, stage in zip(keys[trial.trial_id], trial.stages, strict=False):
            total, alone, epochs[key] = total + 1, alone + stage.epochs, stage.epochs
    left = [key for key in epochs if not is_stored(key)] if is_stored else None
    return StageCount(
        total=total,
        unique=len(epochs),
        stored=None if left is None else len(epochs) - len(left),
        epochs_alone=alone,
        epochs_unique=sum(epochs.values()),
        epochs_left=None if left is None else sum(epochs[key] for key in left),
    )
