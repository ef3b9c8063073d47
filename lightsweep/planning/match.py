"""Match an arm's cost to base's by changing one keyword of its net (filters, width), or its epochs."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lightsweep.data.imagedata import DatasetInfo, Task
from lightsweep.data.splits import held_out
from lightsweep.errors import InputError, nearest
from lightsweep.nets.cost import cost, parameters
from lightsweep.owncode.sources import sources_of
from lightsweep.planning.arms import Arm
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.messages import describe_validation
from lightsweep.sweepfile.stages import StagePreset
from lightsweep.trials.cost import training_macs

FARTHEST = 1.3  # factor by which the first block's filters may differ from the arm's own proportions
TRIED = 64  # approximate number of first-block filter counts to try; all of them if below twice that

WIDTHS = 64  # a factor on the numbers of channels is tried in steps of 1/64
WIDEST = 8
MOST_WHOLE = 65_536
USUAL: tuple[str, ...] = ("width", "filters", "channels")


@dataclass(frozen=True)
class TrainingTask(Task):
    """What costs, that of training included, depend on besides the settings."""

    images: int
    """Number of training images."""


def task_of(dataset: DatasetSpec, info: DatasetInfo, folds: int | None) -> TrainingTask:
    """Return the task of a data set; `images` equals the count of `data.splits.split` within 1."""
    left_out = held_out(dataset, info.train_count, info.validation_count, folds)
    images = max(1, info.train_count - left_out)  # an impossible split is reported when splitting
    return TrainingTask(
        shape=info.shape,
        classes=len(info.classes),
        images=images if dataset.train_limit is None else min(images, dataset.train_limit),
    )


def matched(arm: Arm, task: TrainingTask, base: ArmSpec, base_task: TrainingTask) -> ArmSpec:
    """Return an arm's settings with a keyword of its net or (for compute) epochs chosen to cost as base does.

    Of the candidates within the tolerance, the one nearest in shape to the arm's own is chosen.

    Args:
        arm: An arm with `match` and `within`.
        task: Task on which the arm is trained.
        base: Settings whose cost is matched.
        base_task: Task on which base is trained.

    Raises:
        InputError: No candidate is within the tolerance; the message names the nearest one.

    """
    what = "epochs" if arm.match == "compute" else scaled_keyword(arm)
    measure = _measure(str(arm.match), task)
    target = _measure(str(arm.match), base_task)(base)
    if arm.match == "compute":
        own = measure(arm.spec.model_copy(update={"compression": None}))
        fixed = measure(arm.spec) - own  # the epochs of compression are not scaled
        candidates = list(_by_epochs(arm.spec, max(target - fixed, 0) / own))
    else:
        candidates = list(_by_keyword(arm.spec, what, target, measure))
    errors = [abs(measure(spec) - target) / target for spec, _ in candidates]
    near = [index for index, error in enumerate(errors) if error <= arm.within]
    if near:
        return _valid(arm, candidates[min(near, key=lambda index: (candidates[index][1], errors[index]))][0])
    best = min(range(len(errors)), key=errors.__getitem__)
    spec, needed = candidates[best][0], math.ceil(1000 * errors[best]) / 1000
    remedy = f"within: {needed:g} allows it" if needed < 1 else "its other settings cost too much for a match"
    come = "come" if what in ("epochs", "filters") else "comes"
    raise InputError(
        f"match = {arm.match}: {what or 'its net'}{_shown(spec, what)} {come} nearest, "
        f"with {measure(spec):,} against base's {target:,}, {_percent(errors[best])} off and not within "
        f"{100 * arm.within:g}%; {remedy}"
    )


def _measure(what: str, task: TrainingTask) -> Callable[[ArmSpec], int]:
    if what == "compute":
        return lambda spec: task.images * training_macs(spec, task.shape, task.classes)
    if what == "parameters":
        return lambda spec: parameters(spec.model, task.shape, task.classes, spec.compression)
    return lambda spec: cost(spec.model, task.shape, task.classes, spec.compression).macs


def _valid(arm: Arm, spec: ArmSpec) -> ArmSpec:
    """Validate matched settings: for instance, warm-up may now be longer than a shortened stage."""
    tree = spec.model_dump(mode="json")
    try:
        return ArmSpec.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"match = {arm.match}: {describe_validation(error, tree)}") from None


def scaled_keyword(arm: Arm) -> str:
    """Return the keyword of the arm's net that a match changes; empty if the net has none.

    It is the one that `over` names, else width, filters or channels, else the net's only whole number.

    Raises:
        InputError: There is no such keyword, or several could be meant.

    """
    model = arm.spec.model
    sources = sources_of(model.net)
    assert sources is not None  # read with the sweep file
    kinds = {name: each.kind for name, each in sources.signature.keywords.items()}
    numbers = [name for name, kind in kinds.items() if kind in ("int", "float", "ints")]
    if arm.over is not None:
        if arm.over not in numbers:
            hint = nearest(arm.over, numbers) if numbers else "its net has no keyword that is a number"
            raise InputError(f"over = {arm.over}: no keyword of the net that is a number; {hint}")
        return arm.over
    usual = [name for name in USUAL if name in numbers]
    whole = usual or [name for name in numbers if kinds[name] == "int"]
    if len(whole) > 1 and not usual:
        raise InputError(
            f"match = {arm.match}: which keyword is changed? Add over: {' or over: '.join(whole)}"
        )
    return (whole or numbers or [""])[0]


def _by_keyword(
    spec: ArmSpec, keyword: str, target: int, measure: Callable[[ArmSpec], int]
) -> Iterator[tuple[ArmSpec, float]]:
    """Yield settings whose keyword makes them cost just below and just above the target, with distortions.

    More is assumed to cost more. Whole numbers are tried in steps of 1, others in steps of 1/`WIDTHS`.
    """
    own = spec.model.keywords.get(keyword)
    if own is None:
        yield spec, 0.0
        return

    def having(value: Any) -> ArmSpec:
        return spec.model_copy(update={"model": spec.model.model_copy(update={keyword: value})})

    if isinstance(own, list):
        yield from _by_list(own, having, target, measure)
        return
    steps, most = (1, MOST_WHOLE) if isinstance(own, int) else (WIDTHS, WIDEST * WIDTHS)

    def number(count: int) -> int | float:
        return max(count, 1) if steps == 1 else min(max(count, 1) / steps, WIDEST)

    below = _highest(lambda count: count <= most and measure(having(number(count))) <= target)
    for count in (below, below + 1):
        yield having(number(count)), 0.0


def _by_list(
    own: list[int], having: Callable[[list[int]], ArmSpec], target: int, measure: Callable[[ArmSpec], int]
) -> Iterator[tuple[ArmSpec, float]]:
    """Yield settings with numbers, such as filters of each block, that cost just below and above the target.

    For each number of the first block, the middle blocks are scaled in proportion, and the last block's
    number is found by bisection, since more filters always cost more.
    """

    def scaled(count: int) -> list[int]:
        return [max(1, round(width * count / own[0])) for width in own]

    first = _highest(lambda count: measure(having(scaled(count))) <= target)
    lowest, highest = max(1, math.floor(first / FARTHEST)), math.ceil((first + 1) * FARTHEST)
    for count in range(lowest, highest + 1, max(1, (highest - lowest) // TRIED)):
        front = scaled(count)[:-1] if len(own) > 1 else []
        last = _highest(lambda width, front=front: measure(having([*front, width])) <= target)  # type: ignore[misc]
        for filters in ([*front, max(last, 1)], [*front, last + 1]):
            ratios = [math.log(width / mine) for width, mine in zip(filters, own, strict=True)]
            yield having(filters), max(ratios) - min(ratios)


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
    found = _epochs(spec) if what == "epochs" else spec.model.keywords.get(what, ())
    if isinstance(found, list | tuple):
        return " " + ", ".join(map(str, found)) if found else ""
    return f" {found:g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 1 else f"{100 * share:,.0f}%"
