"""The learning rate at each step."""

import math

from lightsweep.errors import InputError
from lightsweep.owncode.loading import as_keywords, load, named_errors, own_sources
from lightsweep.owncode.reference import without_digests
from lightsweep.sweepfile.stages import ScheduleSpec, StageSpec


def learning_rate(stage: StageSpec, epoch: float) -> float:
    """Return the learning rate of a stage after `epoch` epochs, which may be fractional.

    Warm-up is linear from 0 over w epochs; then, with t = (epoch − w) / (epochs − w): lr for constant,
    lr · (1 − t) for linear, lr · (1 + cos πt) / 2 for cosine (Loshchilov & Hutter 2017, eq. 5). A schedule of
    the user's own returns the factor on lr for (epoch − w, epochs − w).

    Raises:
        InputError: The user's function fails, or returns no finite number.

    """
    if epoch < stage.warmup_epochs:
        return stage.lr * epoch / stage.warmup_epochs
    if isinstance(stage.schedule, ScheduleSpec):
        return stage.lr * _own_factor(stage, stage.schedule, epoch)
    share = min((epoch - stage.warmup_epochs) / (stage.epochs - stage.warmup_epochs), 1.0)
    match stage.schedule:
        case "constant":
            return stage.lr
        case "linear":
            return stage.lr * (1 - share)
        case "cosine":
            return stage.lr * (1 + math.cos(math.pi * share)) / 2


def _own_factor(stage: StageSpec, spec: ScheduleSpec, epoch: float) -> float:
    with named_errors(own_sources(spec.name), "failed"):
        factor = load(spec.name)(
            epoch - stage.warmup_epochs, stage.epochs - stage.warmup_epochs, **as_keywords(spec.keywords)
        )
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 <= factor < math.inf:
        raise InputError(
            f"{without_digests(spec.name)}: a schedule must return a factor of at least 0, not {factor!r} "
            f"(epoch {epoch:g})"
        )
    return float(factor)
