"""A plan's stages as trees: what is shared, what is stored, and the epochs that this saves."""

from collections.abc import Callable
from dataclasses import dataclass

from lightsweep.planning.plan import Plan
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.trials.trial import Trial


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
