"""Arms of equal cost: filters, or epochs, that grow or shrink until an arm costs what base costs."""

import itertools
import math
from collections.abc import Callable, Iterator

from lightsweep.arms import Arm
from lightsweep.cost import cost, training_macs
from lightsweep.spec import ArmSpec, InputError, StagePreset

Shape = tuple[int, int, int]
FARTHEST = 1.3  # how far a block's share of the filters may lie from the arm's own shape, as a factor


def matched(arm: Arm, base: ArmSpec, shape: Shape, classes: int) -> ArmSpec:
    """Return an arm's settings with filters (for compute: epochs) such that it costs what base costs.

    Of the filter counts within the tolerance it is those nearest in shape to the arm's own.

    Args:
        arm: With `match` and `within`.
        base: What it must cost like.
        shape: Of the images: channels, height, width.
        classes: Their number.

    Raises:
        InputError: Nothing comes so near; the message says how near it can come.

    """
    measure = _measure(str(arm.match), shape, classes)
    target = measure(base)
    candidates = list(_by_epochs(arm.spec, target / measure(arm.spec)) if arm.match == "compute" else ())
    candidates = candidates or list(_by_filters(arm.spec, target, measure))
    errors = [abs(measure(spec) - target) / target for spec, _ in candidates]
    near = [index for index, error in enumerate(errors) if error <= arm.within]
    if near:
        return candidates[min(near, key=lambda index: (candidates[index][1], errors[index]))][0]
    best = min(range(len(errors)), key=errors.__getitem__)
    spec, what = candidates[best][0], "epochs" if arm.match == "compute" else "filters"
    raise InputError(
        f"{arm.place}.match = {arm.match}: {what} {_shown(spec, str(arm.match))} come nearest, with "
        f"{measure(spec):,} against base's {target:,}, {100 * errors[best]:.2g}% off and not within "
        f"{100 * arm.within:g}%; within: {math.ceil(1000 * errors[best]) / 1000:g} allows it"
    )


def _measure(what: str, shape: Shape, classes: int) -> Callable[[ArmSpec], int]:
    if what == "compute":
        return lambda spec: training_macs(spec, shape, classes)
    return lambda spec: int(getattr(cost(spec.model, shape, classes), what))


def _by_filters(
    spec: ArmSpec, target: int, measure: Callable[[ArmSpec], int]
) -> Iterator[tuple[ArmSpec, float]]:
    """Yield settings with other filters whose cost is just below and above the target, and their distortion.

    For each count of the first block's filters those between keep their share, and the last block's are
    searched by halving: more filters always cost more.
    """
    own = spec.model.filters

    def having(filters: tuple[int, ...]) -> ArmSpec:
        return spec.model_copy(update={"model": spec.model.model_copy(update={"filters": filters})})

    def scaled(count: int) -> tuple[int, ...]:
        return tuple(max(1, round(width * count / own[0])) for width in own)

    first = _highest(lambda count: measure(having(scaled(count))) <= target)
    for count in range(max(1, math.floor(first / FARTHEST)), math.ceil((first + 1) * FARTHEST) + 1):
        front = scaled(count)[:-1] if len(own) > 1 else ()
        last = _highest(lambda width, front=front: measure(having((*front, width))) <= target)  # type: ignore[misc]
        for filters in ((*front, max(last, 1)), (*front, last + 1)):
            ratios = [math.log(width / mine) for width, mine in zip(filters, own, strict=True)]
            yield having(filters), max(ratios) - min(ratios)


def _highest(fits: Callable[[int], bool]) -> int:
    """Return the highest whole number that fits, 0 if 1 does not; all below it must fit."""
    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _by_epochs(spec: ArmSpec, ratio: float) -> Iterator[tuple[ArmSpec, float]]:
    """Yield settings whose stages are longer by a ratio, rounded in every way."""
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
    return ", ".join(map(str, _epochs(spec) if what == "compute" else spec.model.filters))
