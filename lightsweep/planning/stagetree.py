"""A plan's stages as trees: shared and stored stages, and the epochs that they save."""

from collections.abc import Callable
from dataclasses import dataclass

from lightsweep.planning.plan import Plan
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.trials.trial import Trial


@dataclass(frozen=True)
class StageCount:
    """Counts of a plan's stages and their epochs."""

    total: int
    """Number of stages, summed over all trials."""
    unique: int
    """Number of different stages."""
    stored: int | None
    """Number of unique stages already in the store; None if unknown because the data is not here."""
    epochs_alone: int
    """Maximum number of epochs if no stages were shared."""
    epochs_unique: int
    """Maximum number of epochs of the unique stages."""
    epochs_left: int | None
    """Maximum number of epochs of the unique stages not in the store; None if unknown."""


@dataclass(frozen=True)
class StageNode:
    """A stage in the tree of a plan's stages; one node covers all seeds and folds."""

    name: str
    """Name of the stage in the first arm that has it."""
    epochs: int
    """Maximum number of epochs of the stage."""
    keys: tuple[str, ...]
    """Stage keys, one for each seed and fold."""
    arms: tuple[str, ...]
    """Names of the arms that need the stage."""
    children: tuple["StageNode", ...]
    """Stages that continue from this one."""


def stage_tree(planned: Plan, keys: dict[str, tuple[str, ...]]) -> tuple[StageNode, ...]:
    """Return the plan's stages as trees, in which arms share the common start of their chains."""
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
    """Count a plan's total, unique and stored stages, and their epochs.

    Args:
        planned: The plan.
        keys: Stage keys of its trials (`planning.plan.plan_keys`).
        is_stored: Returns whether a stage key is in the store; None if that is unknown.

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
