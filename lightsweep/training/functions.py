"""Optimizer and loss of a stage: torch's by name, or functions of the user's own."""

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsweep.errors import InputError
from lightsweep.owncode.loading import as_keywords, load, named_errors, own_sources
from lightsweep.owncode.reference import parse_reference, without_digests
from lightsweep.sweepfile.stages import LossSpec, OptimizerSpec, StageSpec

RATIO = "lr_ratio"
"""Key of a parameter group: its learning rate when the stage starts, as a factor on the stage's."""
_CANNOT = {
    "LBFGS": "calls the loss several times in a step",
    "SparseAdam": "needs sparse gradients",
    "Optimizer": "is the base class",
}

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Returns the mean loss, a scalar, for logits float32 [n, classes] and labels int64 [n]."""


def criterion_of(stage: StageSpec) -> Criterion:
    """Return a stage's loss function.

    Raises:
        OwnCodeError: Calling it fails, or it returns anything but a scalar.

    """
    if not isinstance(stage.loss, LossSpec):
        return functional.cross_entropy
    keywords = as_keywords(stage.loss.keywords)
    if stage.loss.name == "cross-entropy":
        return partial(functional.cross_entropy, **keywords)
    own, sources, name = load(stage.loss.name), own_sources(stage.loss.name), without_digests(stage.loss.name)

    def criterion(logits: Tensor, labels: Tensor) -> Tensor:
        with named_errors(sources, "failed"):
            found = own(logits, labels, **keywords)
        if not isinstance(found, Tensor) or found.dim():
            raise InputError(f"{name}: a loss must return a scalar tensor, not {_shown(found)}")
        return found

    return criterion


def optimizer_of(stage: StageSpec, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return a stage's optimizer; each group knows its learning rate relative to the stage's (`RATIO`).

    Raises:
        InputError: torch has no such optimizer or refuses a keyword, or the user's function fails.

    """
    made = _made(stage, parameters)
    for group in made.param_groups:
        group[RATIO] = group["lr"] / stage.lr
    return made


def _made(stage: StageSpec, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    lr, decay = stage.lr, stage.weight_decay
    match stage.optimizer:  # foreach makes a Nadam step a third faster
        case "nadam":
            return torch.optim.NAdam(parameters, lr, weight_decay=decay, foreach=True)
        case "adam":
            return torch.optim.Adam(parameters, lr, weight_decay=decay, foreach=True)
        case "sgd":
            return torch.optim.SGD(parameters, lr, stage.momentum, weight_decay=decay, foreach=True)
        case OptimizerSpec(name=name) if parse_reference(name):
            return _own(stage, stage.optimizer, parameters)
        case OptimizerSpec():
            return _of_torch(stage, stage.optimizer, parameters)


def _own(stage: StageSpec, spec: OptimizerSpec, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    sources, name = own_sources(spec.name), without_digests(spec.name)
    assert sources is not None  # read with the sweep file
    takes = sources.signature.keywords
    if stage.weight_decay and "weight_decay" not in takes:
        raise InputError(f"weight_decay = {stage.weight_decay:g}: {name} has no keyword weight_decay")
    if "lr" not in takes:
        raise InputError(f"{name}: an optimizer needs the keyword lr")
    supplied = {"lr": stage.lr, **({"weight_decay": stage.weight_decay} if "weight_decay" in takes else {})}
    with named_errors(sources, "failed"):
        made = load(spec.name)(parameters, **supplied, **as_keywords(spec.keywords))
    if not isinstance(made, torch.optim.Optimizer):
        raise InputError(f"{name}: must return a torch.optim.Optimizer, not {_shown(made)}")
    return made


def _of_torch(stage: StageSpec, spec: OptimizerSpec, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    known = [
        name for name, kind in vars(torch.optim).items() if inspect.isclass(kind) and name not in _CANNOT
    ]
    if spec.name in _CANNOT:
        raise InputError(f"optimizer.name = {spec.name}: cannot be used in our loop: it {_CANNOT[spec.name]}")
    if spec.name not in known:
        match = difflib.get_close_matches(spec.name.lower(), [name.lower() for name in known], n=1)
        named = [name for name in known if [name.lower()] == match] or sorted(known)
        hint = f"did you mean {named[0]}?" if match else f"there are {', '.join(named)}"
        raise InputError(f"optimizer.name = {spec.name}: torch.optim has no such optimizer; {hint}")
    kind: Any = getattr(torch.optim, spec.name)
    takes = [name for name in inspect.signature(kind).parameters if name != "params"]
    keywords = spec.keywords
    for key in keywords:
        if key not in takes or key == "lr":
            rule = "is the stage's key" if key == "lr" else f"{spec.name} takes {', '.join(takes)}"
            raise InputError(f"optimizer.{key}: {rule}")
    if stage.weight_decay:
        if "weight_decay" in keywords:
            raise InputError("optimizer.weight_decay: the stage has a weight_decay, too; drop one")
        if "weight_decay" not in takes:
            raise InputError(f"weight_decay = {stage.weight_decay:g}: {spec.name} has no weight decay")
        keywords = {**keywords, "weight_decay": stage.weight_decay}
    try:
        return kind(parameters, lr=stage.lr, **as_keywords(keywords))  # type: ignore[no-any-return]
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"optimizer = {spec.name}: {error}") from None


def _shown(value: object) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
