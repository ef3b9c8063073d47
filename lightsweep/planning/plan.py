"""The trials of a sweep: arms × seeds × folds, all checked before anything is trained."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lightsweep.data.imagedata import DatasetInfo
from lightsweep.data.splits import Integers, held_out, split, validates_itself
from lightsweep.errors import InputError
from lightsweep.hashing import canonical_json
from lightsweep.nets.cost import Cost, cost
from lightsweep.owncode.loading import OwnCodeError
from lightsweep.planning.arms import BASE, Arm, apply_changes, arms
from lightsweep.planning.match import matched, task_of
from lightsweep.planning.owncheck import check_own
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.trials.keys import stage_keys
from lightsweep.trials.stages import stage_table
from lightsweep.trials.trial import Trial


@dataclass(frozen=True)
class Plan:
    """The trials of a sweep, in the order in which they are started."""

    sweep: Sweep
    arms: tuple[Arm, ...]
    """Arms, with costs already matched."""
    trials: tuple[Trial, ...]
    costs: dict[str, Cost]
    """Cost of each trial's net, by trial id."""
    infos: dict[DatasetSpec, DatasetInfo]
    """Description of each data set."""


def plan(sweep: Sweep, describe: Callable[[DatasetSpec], DatasetInfo]) -> Plan:
    """Enumerate a sweep's trials in an order in which few wait for one another; a search has none yet.

    Args:
        sweep: The sweep.
        describe: Returns a data set's shape and classes (`data.datasets.describe`).

    Raises:
        InputError: A key or value is wrong, filters do not fit the images, a stage names an unknown block,
            no filters match a cost, or an axis or an arm changes nothing.

    """
    planned: list[Arm] = []
    trials: list[Trial] = []
    costs: dict[str, Cost] = {}
    infos: dict[DatasetSpec, DatasetInfo] = {}
    if sweep.search:
        infos[sweep.dataset] = describe(sweep.dataset)
        _check_split(sweep.dataset, infos[sweep.dataset], "", has_folds=False)
        return Plan(sweep, (), (), costs, infos)
    for arm in arms(sweep):
        if arm.dataset not in infos:
            infos[arm.dataset] = describe(arm.dataset)
        info = infos[arm.dataset]
        task = task_of(arm.dataset, info, sweep.folds)
        place = f"{arm.place}: " if arm.place else ""
        _check_split(arm.dataset, info, place, has_folds=sweep.folds is not None)
        try:
            if arm.name == BASE:
                base, base_task = arm.spec, task
            if arm.match:
                arm = replace(arm, spec=matched(arm, task, base, base_task))
            arm_cost = cost(arm.spec.model, task.shape, task.classes, arm.spec.compression)
            stage_table(arm.spec, info.task)  # only validates; each trial builds its own table on demand
            check_own(arm.spec, info.task)
        except InputError as error:
            default = "base: " if isinstance(error, OwnCodeError) else "base."
            raise InputError(f"{place or default}{error}") from error
        members = [
            Trial(
                arm.name,
                arm.dataset,
                arm.spec,
                info.task,
                seed + arm.seed_offset,
                fold,
                sweep.folds,
                arm.changes,
            )
            for seed in sweep.seed_list
            for fold in (range(sweep.folds) if sweep.folds else [None])
        ]
        planned.append(arm)
        trials += members
        costs |= {trial.trial_id: arm_cost for trial in members}
    keys = {trial: _placeholder_keys(trial) for trial in trials}
    if sweep.grid:
        _refuse_idle_axes(keys)
    if sweep.ablation:
        is_path = sweep.ablation.design == "path" and sweep.ablation.order != "all"
        _refuse_idle_arms(planned, keys, is_path)
    return Plan(sweep, tuple(planned), tuple(_apart(keys)), costs, infos)


def with_trials(planned: Plan, entries: Iterable[Mapping[str, Any]]) -> Plan:
    """Return a search's plan with the trials of an earlier run.

    Args:
        planned: The plan, which has no trials yet.
        entries: Entries of `plan.json`: arm, seed and changes of each trial.

    """
    trials: list[Trial] = []
    costs: dict[str, Cost] = {}
    for entry in entries:
        dataset, spec = apply_changes(planned.sweep, entry["changes"], "search.space")
        task = planned.infos[dataset].task
        trials.append(Trial(entry["arm"], dataset, spec, task, entry["seed"], changes=entry["changes"]))
        costs[trials[-1].trial_id] = cost(spec.model, task.shape, task.classes, spec.compression)
    return replace(planned, trials=tuple(trials), costs=costs)


def check_splits(planned: Plan, labels: Mapping[DatasetSpec, Integers]) -> None:
    """Check that each data set can be split as its trials require; one seed suffices.

    Args:
        planned: The plan.
        labels: Classes of each data set's training images, int64 [n].

    Raises:
        InputError: A data set cannot be split.

    """
    folds = planned.sweep.folds
    for spec, classes in labels.items():
        for fold in range(folds) if folds else (None,):
            own_count = planned.infos[spec].validation_count
            split(classes, spec, planned.sweep.seed_list[0], fold, folds, own_count)


def _check_split(dataset: DatasetSpec, info: DatasetInfo, place: str, has_folds: bool) -> None:
    total, classes = info.train_count, len(info.classes)
    count = held_out(dataset, total, info.validation_count, None)
    is_own = validates_itself(dataset, info.validation_count, None)
    if not has_folds and not is_own and not classes <= count <= total - classes:
        number = "" if isinstance(dataset.validation, int) else f", {count} images,"
        raise InputError(
            f"{place}dataset.validation = {dataset.validation}{number}: {info.name} has {total} training "
            f"images of {classes} classes; hold out at least one image of each class and leave at "
            f"least one: {classes} to {total - classes} images, or an equivalent fraction"
        )
    if dataset.train_limit is not None and dataset.train_limit < len(info.classes):
        raise InputError(
            f"{place}dataset.train_limit = {dataset.train_limit}: must be at least one image of each of the "
            f"{len(info.classes)} classes"
        )


def _refuse_idle_axes(keys: dict[Trial, tuple[str, ...]]) -> None:
    """Raise if all values of a grid axis give the same trials, whatever the values of the other axes.

    Single cells may coincide: they share all stages, so nothing is trained twice.
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


def _refuse_idle_arms(planned: Iterable[Arm], keys: dict[Trial, tuple[str, ...]], is_path: bool) -> None:
    """Raise if an ablation's arm changes nothing: if its trials equal base's or another arm's.

    Combinations in a factorial may coincide, since a factor may act only together with another one. Arms that
    change a single factor, steps of a path, and arms outside the design may not.
    """
    ends = {(trial.dataset, trial.arm): chain[-1] for trial, chain in keys.items()}
    seen: dict[str, Arm] = {}

    def is_combination(arm: Arm) -> bool:
        return not is_path and sum(map(bool, (arm.levels or {}).values())) > 1

    for arm in sorted(planned, key=lambda arm: (arm.levels is None, is_combination(arm))):
        end = ends[arm.dataset, arm.name]
        if end in seen and not is_combination(arm):
            other = "base" if seen[end].name == BASE else f"arm {seen[end].name}"
            named = "" if arm.name in arm.place else f"arm {arm.name} "
            raise InputError(f"{arm.place}: {named}changes nothing: its trials are those of {other}")
        seen.setdefault(end, arm)


def _placeholder_keys(trial: Trial) -> tuple[str, ...]:
    """Return keys that only tell which stages are equal, without needing the data.

    They are keys for no device, where every setting that matters anywhere is part of the key.
    """
    images = canonical_json(trial.dataset.source)
    return stage_keys(trial, images, "any")


def _apart(keys: dict[Trial, tuple[str, ...]], depth: int = 0) -> list[Trial]:
    """Order trials so that neighbours have as few stages in common as possible.

    The branches of each node in the tree of stages take turns. So concurrent trials rarely need the same
    stage, and a shared stage is usually stored by the time a second trial needs it.
    """
    branches: dict[str, dict[Trial, tuple[str, ...]]] = {}
    for trial, chain in keys.items():
        branches.setdefault(chain[depth], {})[trial] = chain
    if len(branches) == 1 and all(len(chain) == depth + 1 for chain in keys.values()):
        return list(keys)  # identical chains
    ordered = [_apart(branch, depth + 1) if len(branch) > 1 else list(branch) for branch in branches.values()]
    turns = itertools.zip_longest(*ordered)
    return [trial for turn in turns for trial in turn if trial is not None]


def plan_keys(
    trials: Iterable[Trial], fingerprints: Mapping[DatasetSpec, str] | None, device_type: str
) -> dict[str, tuple[str, ...]]:
    """Return the keys of each trial's stages and assessment, by trial id.

    Without fingerprints, when the data is not on this machine, the keys only tell which stages are equal.
    """
    return {
        trial.trial_id: stage_keys(trial, fingerprints[trial.dataset], device_type)
        if fingerprints
        else _placeholder_keys(trial)
        for trial in trials
    }
