"""The learning rate at each step."""

import math

from lightsweep.sweepfile.stages import StageSpec


def learning_rate(stage: StageSpec, epoch: float) -> float:
    """Return the learning rate of a stage after `epoch` epochs, which may be fractional.

    Warm-up is linear from 0 over w epochs; then, with t = (epoch − w) / (epochs − w): lr for constant,
    lr · (1 − t) for linear, lr · (1 + cos πt) / 2 for cosine (Loshchilov & Hutter 2017, eq. 5).
    """
    if epoch < stage.warmup_epochs:
        return stage.lr * epoch / stage.warmup_epochs
    share = min((epoch - stage.warmup_epochs) / (stage.epochs - stage.warmup_epochs), 1.0)
    match stage.schedule:
        case "constant":
            return stage.lr
        case "linear":
            return stage.lr * (1 - share)
        case "cosine":
            return stage.lr * (1 + math.cos(math.pi * share)) / 2
