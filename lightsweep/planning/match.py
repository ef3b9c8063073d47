"""Match an arm's cost to base's by changing its filters, a reference net's width, or its epochs."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from lightsweep.data.imagedata import DatasetInfo
from lightsweep.data.splits import held_out
from lightsweep.errors import InputError
from lightsweep.nets.cost import cost
from lightsweep.planning.arms import Arm
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.net import ModelSpec, ReferenceSpec
from lightsweep.sweepfile.reading import describe_validation
from lightsweep.sweepfile.stages import StagePreset
from lightsweep.trials.cost import training_macs

FARTHEST = 1.3  # factor by which the first block's filters may differ from the arm's own proportions
TRIED = 64  # approximate number of first-block filter counts to try; all of them if below twice that

WIDTHS = 64  # a reference net's width is tried in steps of 1/64 of the published one
WIDEST = 8


@dataclass(frozen=True)
class Task:
    """What costs depend on besides the settings."""

    shape: tuple[int, int, int]
    """Shape of the images: channels, height, width."""
    classes: int
    """Number of classes."""
    images: int
    """Number of training images."""


def task_of(dataset: DatasetSpec, info: DatasetInfo, folds: int | None) -> Task:
    """Return the task of a data set; `images` equals the count of `data.splits.split` within 1."""
    left_out = held_out(dataset, info.train_count, info.validation_count, folds)
    images = max(1, info.train_count - left_out)  # an impossible split is reported when splitting
    return Task(
        shape=info.shape,
        classes=len(info.classes),
        images=images if dataset.train_limit is None else min(images, dataset.train_limit),
    )


def matched(arm: Arm, task: Task, base: ArmSpec, base_task: Task) -> ArmSpec:
    """Return an arm's settings with filters, width or (for compute) epochs chosen to cost the same as base.

    Of the candidates within the tolerance (`_by_filters`), the one nearest in shape to the arm's own filters
    is chosen.

    Args:
        arm: An arm with `match` and `within`.
        task: Task on which the arm is trained.
        base: Settings whose cost is matched.
        base_task: Task on which base is trained.

    Raises:
        InputError: No candidate is within the tolerance; the message names the nearest one.

    """
    is_reference = isinstance(arm.spec.model, ReferenceSpec)
    what = "epochs" if arm.match == "compute" else "width" if is_reference else "filters"
    measure = _measure(str(arm.match), task)
    target = _measure(str(arm.match), base_task)(base)
    if arm.match == "compute":
        own = measure(arm.spec.model_copy(update={"compression": None}))
        fixed = measure(arm.spec) - own  # the epochs of compression are not scaled
        candidates = list(_by_epochs(arm.spec, max(target - fixed, 0) / own))
    elif is_reference:
        candidates = list(_by_width(arm.spec, target, measure))
    else:
        candidates = list(_by_filters(arm.spec, target, measure))
    errors = [abs(measure(spec) - target) / target for spec, _ in candidates]
    near = [index for index, error in enumerate(errors) if error <= arm.within]
    if near:
        return _valid(arm, candidates[min(near, key=lambda index: (candidates[index][1], errors[index]))][0])
    best = min(range(len(errors)), key=errors.__getitem__)
    spec, needed = candidates[best][0], math.ceil(1000 * errors[best]) / 1000
    remedy = f"within: {needed:g} allows it" if needed < 1 else "its other settings cost too much for a match"
    raise InputError(
        f"match = {arm.match}: {what} {_shown(spec, what)} come{'s' if what == 'width' else ''} nearest, "
        f"with {measure(spec):,} against base's {target:,}, {_percent(errors[best])} off and not within "
        f"{100 * arm.within:g}%; {remedy}"
    )


def _measure(what: str, task: Task) -> Callable[[ArmSpec], int]:
    if what == "compute":
        return lambda spec: task.images * training_macs(spec, task.shape, task.classes)
    return lambda spec: int(getattr(cost(spec.model, task.shape, task.classes, spec.compression), what))


def _valid(arm: Arm, spec: ArmSpec) -> ArmSpec:
    """Validate matched settings: for instance, warm-up may now be longer than a shortened stage."""
    tree = spec.model_dump(mode="json")
    try:
        return ArmSpec.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"match = {arm.match}: {describe_validation(error, tree)}") from None


def _by_filters(
    spec: ArmSpec, target: int, measure: Callable[[ArmSpec], int]
) -> Iterator[tuple[ArmSpec, float]]:
    """Yield settings with filters that cost just below and just above the target, and their distortion.

    For each filter count of the first block, the middle blocks are scaled in proportion, and the last block's
    count is found by bisection, since more filters always cost more.
    """
    assert isinstance(spec.model, ModelSpec)
    own = spec.model.filters

    def having(filters: tuple[int, ...]) -> ArmSpec:
        return spec.model_copy(update={"model": spec.model.model_copy(update={"filters": filters})})

    def scaled(count: int) -> tuple[int, ...]:
        return tuple(max(1, round(width * count / own[0])) for width in own)

    first = _highest(lambda count: measure(having(scaled(count))) <= target)
    lowest, highest = max(1, math.floor(first / FARTHEST)), math.ceil((first + 1) * FARTHEST)
    for count in range(lowest, highest + 1, max(1, (highest - lowest) // TRIED)):
        front = scaled(count)[:-1] if len(own) > 1 else ()
        last = _highest(lambda width, front=front: measure(having((*front, width))) <= target)  # type: ignore[misc]
        for filters in ((*front, max(last, 1)), (*front, last + 1)):
            ratios = [math.log(width / mine) for width, mine in zip(filters, own, strict=True)]
            yield having(filters), max(ratios) - min(ratios)


def _by_width(
    spec: ArmSpec, target: int, measure: Callable[[ArmSpec], int]
) -> Iterator[tuple[ArmSpec, float]]:
    """Yield settings with the widths, in steps of 1/`WIDTHS`, that cost just below and above the target."""
    assert isinstance(spec.model, ReferenceSpec)
    if not spec.model.depth:
        yield spec, 0.0
        return

    def having(count: int) -> ArmSpec:
        width = min(max(count, 1) / WIDTHS, WIDEST)
        return spec.model_copy(update={"model": spec.model.model_copy(update={"width": width})})

    below = _highest(lambda count: count <= WIDEST * WIDTHS and measure(having(count)) <= target)
    for count in (below, below + 1):
        yield having(count), 0.0


def _highest(fits: Callable[[int], bool]) -> int:
    """Return the highest integer that fits, or 0 if 1 does not; `fits` must be monotone."""
    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _by_epochs(spec: ArmSpec, ratio: float) -> Iterator[tuple[ArmSpec, float]]:
    """Yield settings with all stages scaled by a ratio, with every combination of rounding."""
    own = _epochs(spec)
    roundings = [
        sorted({max(1, math.floor(count * ratio)), max(1, math.ceil(count * ratio))}) for count in own
    ]
    for epochs in itertools.islice(itertools.product(*roundings), 4096):
        yield _with_epochs(spec, epochs), 0.0


def _epochs(spec: ArmSpec) -> tuple[int, ...]:
    if isinstance(spec.stages, StagePreset):
        return (spec.stages.epochs.dual, spec.stages.epochs.fusion, spec.stages.epochs.finetune)
    return tuple(stage.epochs for stage in spec.stages if not isinstance(stage, str))


def _with_epochs(spec: ArmSpec, epochs: tuple[int, ...]) -> ArmSpec:
    if isinstance(spec.stages, StagePreset):
        names = ("dual", "fusion", "finetune")
        counts = spec.stages.epochs.model_copy(update=dict(zip(names, epochs, strict=True)))
        return spec.model_copy(update={"stages": spec.stages.model_copy(update={"epochs": counts})})
    assert not isinstance(spec.stages, str)
    pairs = zip(spec.stages, epochs, strict=True)
    stages = tuple(stage.model_copy(update={"epochs": count}) for stage, count in pairs)
    return spec.model_copy(update={"stages": stages})


def _shown(spec: ArmSpec, what: str) -> str:
    if what == "epochs":
        return ", ".join(map(str, _epochs(spec)))
    if isinstance(spec.model, ReferenceSpec):
        return f"{spec.model.width:g}"
    return ", ".join(map(str, spec.model.filters))


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 1 else f"{100 * share:,.0f}%"
