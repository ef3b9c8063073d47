"""From a sweep to its trials: arms × seeds × folds, each checked before anything is trained."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lightsweep.data.imagedata import DatasetInfo
from lightsweep.data.splits import Integers, held_out, split, validates_itself
from lightsweep.errors import InputError
from lightsweep.hashing import canonical_json
from lightsweep.nets.cost import Cost, cost
from lightsweep.planning.arms import BASE, Arm, apply_changes, arms
from lightsweep.planning.match import matched, task_of
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
    """With matched costs."""
    trials: tuple[Trial, ...]
    costs: dict[str, Cost]
    """By trial id."""
    infos: dict[DatasetSpec, DatasetInfo]


def plan(sweep: Sweep, describe: Callable[[DatasetSpec], DatasetInfo]) -> Plan:
    """Enumerate a sweep's trials, in an order in which few wait for one another; a search has none yet.

    Args:
        sweep: The sweep.
        describe: Gives a data set's shape and classes (`datasets.describe`).

    Raises:
        InputError: A key or value is wrong, filters do not fit the images, a stage freezes what is not
            there, no filters match a cost, an axis or an arm changes nothing.

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
            stage_table(arm.spec)  # says now what does not fit; each trial makes its own when it needs it
        except InputError as error:
            raise InputError(f"{place or 'base.'}{error}") from None
        members = [
            Trial(arm.name, arm.dataset, arm.spec, seed + arm.seed_offset, fold, sweep.folds, arm.changes)
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
    """Return a search's plan with the trials that it had before.

    Args:
        planned: The plan, which of itself has no trials.
        entries: Of plan.json: arm, seed and changes of each trial.

    """
    trials: list[Trial] = []
    costs: dict[str, Cost] = {}
    for entry in entries:
        dataset, spec = apply_changes(planned.sweep, entry["changes"], "search.space")
        trials.append(Trial(entry["arm"], dataset, spec, entry["seed"], changes=entry["changes"]))
        task = task_of(dataset, planned.infos[dataset], None)
        costs[trials[-1].trial_id] = cost(spec.model, task.shape, task.classes, spec.compression)
    return replace(planned, trials=tuple(trials), costs=costs)


def check_splits(planned: Plan, labels: Mapping[DatasetSpec, Integers]) -> None:
    """Try to divide each data set as its trials do, each fold once; whether it can be is no matter of seeds.

    Args:
        planned: The plan.
        labels: int64 [n], the training images' classes of each data set.

    Raises:
        InputError: One cannot be divided so.

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
            f"images of {classes} classes; of each at least one must be held out and one be left: set "
            f"{classes} to {total - classes}, or a share of that"
        )
    if dataset.train_limit is not None and dataset.train_limit < len(info.classes):
        raise InputError(
            f"{place}dataset.train_limit = {dataset.train_limit}: must be at least one image of each of the "
            f"{len(info.classes)} classes"
        )


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


def _refuse_idle_arms(planned: Iterable[Arm], keys: dict[Trial, tuple[str, ...]], is_path: bool) -> None:
    """Refuse an ablation's arm that changes nothing: the same trials as base, or as another arm.

    Of a factorial's combinations some may coincide (a factor may act only with another one); what changes
    one thing alone may not, nor may a step of a path, nor an arm outside the design with any other.
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
    """Return stage keys that tell which stages are the same, where the data may not be here.

    On a GPU every setting counts that counts anywhere.
    """
    images = trial.dataset.model_dump_json(include={"name", "path", "image_size"})
    return stage_keys(trial, images, "cuda")


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
    trials: Iterable[Trial], fingerprints: Mapping[DatasetSpec, str] | None, device_type: str
) -> dict[str, tuple[str, ...]]:
    """Return the keys of each trial's stages and assessment, by trial id.

    Without fingerprints, where the data is not here, they tell which stages are the same, and no more.
    """
    return {
        trial.trial_id: stage_keys(trial, fingerprints[trial.dataset], device_type)
        if fingerprints
        else _placeholder_keys(trial)
        for trial in trials
    }
