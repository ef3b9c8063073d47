"""Check whether a stored result or checkpoint fits the stage that its key identifies.

A store file may have the right checksum and still hold another stage's numbers, if a faulty program or a
person wrote it. What does not fit never reaches a net or a record.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from lightsweep.data.imagedata import DatasetInfo
from lightsweep.errors import WriteError
from lightsweep.nets.blocks import network_of
from lightsweep.store.claims import ClaimReply, StageStore
from lightsweep.store.folder import CHECKPOINT, RESULT
from lightsweep.store.stagefile import Checkpoint, StageResult
from lightsweep.sweepfile.stages import QuantiseStage, StageSpec
from lightsweep.training.stagenets import blank_net, trainable_in
from lightsweep.training.state import EpochRecord, StageState
from lightsweep.trials.trial import Trial

_EPOCHS = TypeAdapter(list[EpochRecord])
_EPOCH_FIELDS = {field.name for field in fields(EpochRecord)}
_PROVENANCE = ("host", "device", "hardware", "torch", "source", "started_at")


MOST_DISCARDED = 4  # attempts per stage: a result, a checkpoint, and files that others write meanwhile


def claim(trial: Trial, index: int, key: str, info: DatasetInfo, store: StageStore) -> ClaimReply:
    """Claim a stage, or the assessment; discard stored files that do not fit it.

    Args:
        trial: The trial.
        index: Index of the stage; the assessment comes after the last one.
        key: Key of the stage.
        info: Description of the data set.
        store: Store in which the key is claimed.

    Raises:
        WriteError: A file that does not fit cannot be discarded.

    """
    warnings = list[str]()
    for _ in range(MOST_DISCARDED):
        answer = store.claim(key)
        warnings += [answer.warning] if answer.warning else []
        kind = RESULT if answer.result is not None else CHECKPOINT
        fault = fault_of(answer, trial, index, info, store.gives_weights)
        if fault is None:
            return replace(answer, warning="; ".join(warnings) or None)
        store.discard(key, kind, fault)
        if kind == CHECKPOINT:
            store.release(key)
    raise WriteError(f"stage {key}: its stored file is unusable and cannot be removed ({fault})")


def fault_of(
    answer: ClaimReply, trial: Trial, index: int, info: DatasetInfo, with_weights: bool
) -> str | None:
    """Return why a reply does not fit a stage; None if it fits or nothing is stored.

    Args:
        answer: The store's reply to the claim.
        trial: The trial.
        index: Index of the stage; the assessment comes after the last one.
        info: Description of the data set.
        with_weights: Whether the store returns results with their weights.

    """
    stage = trial.stages[index] if index < len(trial.stages) else None
    if answer.result is not None:
        expected = blank_net(trial, stage).state_dict() if stage and with_weights else None
        return fault_of_result(answer.result, stage, info, expected)
    if answer.checkpoint is None:
        return None
    if stage is None or isinstance(stage, QuantiseStage):
        return "it is of a stage that has no epochs"
    net = blank_net(trial, stage)
    parameters = StageState.begin(net, stage, trainable_in(trial, stage)).parameters()
    return fault_of_checkpoint(answer.checkpoint, stage, net, parameters)


def fault_of_result(
    result: StageResult, stage: StageSpec | None, info: DatasetInfo, expected: Mapping[str, Tensor] | None
) -> str | None:
    """Return why a result does not fit a stage or the assessment; None if it fits.

    Args:
        result: The stored result.
        stage: The stage; None for the assessment.
        info: Description of the data set.
        expected: State of a net like the stage's, compared by names, shapes and dtypes; None if the weights
            were not read.

    """
    if any(not isinstance(result.provenance.get(name), str) for name in _PROVENANCE):
        return "it does not say where it was made"
    if stage is None:
        return _fault_of_assessment(result.metrics, info)
    most = 0 if isinstance(stage, QuantiseStage) else stage.epochs
    if fault := _fault_of_epochs(result.epochs, most):
        return fault
    metrics = result.metrics
    if "diverged" in metrics:
        return (
            None if isinstance(metrics["diverged"], str) and set(metrics) == {"diverged"} else "its metrics"
        )
    kept = metrics.get("kept_epoch")
    if metrics.get("network") != network_of(stage) or type(kept) is not int:
        return "its metrics are another stage's"
    if not 0 <= kept <= len(result.epochs) or (most and not kept):
        return f"it keeps epoch {kept} of {len(result.epochs)}"
    if not _is_fraction(metrics.get("val_accuracy")):
        return "its validation accuracy is none"
    return None if expected is None else _fault_of_tensors(result.weights, expected)


def fault_of_checkpoint(
    checkpoint: Checkpoint, stage: StageSpec, net: nn.Module, parameters: Sequence[Tensor]
) -> str | None:
    """Return why a checkpoint does not fit a stage; None if it fits.

    Args:
        checkpoint: The stored checkpoint.
        stage: The stage.
        net: A net of the stage's structure; its values are ignored.
        parameters: Parameters that the stage's optimizer trains.

    """
    if fault := _fault_of_epochs(checkpoint.epochs, stage.epochs - 1):
        return fault
    if not checkpoint.epochs:
        return "it has no epochs"
    parts: dict[str, dict[str, Tensor]] = {"net": {}, "best": {}, "optimizer": {}, "own": {}}
    for full_name, tensor in checkpoint.tensors.items():
        part, _, name = full_name.partition(".")
        if part not in parts:
            return f"it has a tensor {full_name}"
        parts[part][name] = tensor
    shapes = {str(index): parameter.shape for index, parameter in enumerate(parameters)}
    for name, tensor in parts["optimizer"].items():
        number = name.partition(".")[0]
        is_ours = isinstance(stage.optimizer, str)  # others may keep states of any shape
        if number not in shapes or (is_ours and tensor.dim() and tensor.shape != shapes[number]):
            return "its optimizer has other parameters"
    state = net.state_dict()
    best = parts["best"]
    return _fault_of_tensors(parts["net"], state) or (_fault_of_tensors(best, state) if best else None)


def _fault_of_epochs(epochs: list[dict[str, Any]], most: int) -> str | None:
    try:
        found = _EPOCHS.validate_python(epochs)
    except ValidationError:
        return "its epochs are no epochs"
    if any(epoch.keys() != _EPOCH_FIELDS for epoch in epochs):
        return "its epochs have other fields"
    if [record.epoch for record in found] != list(range(1, len(found) + 1)) or len(found) > most:
        return f"it has {len(found)} epochs of {most}, or in another order"
    fractions = [each for record in found for each in (record.train_accuracy, record.val_accuracy)]
    return None if all(map(_is_fraction, fractions)) else "an accuracy of its epochs is none"


def _fault_of_assessment(metrics: Mapping[str, Any], info: DatasetInfo) -> str | None:
    if not all(_is_fraction(metrics.get(f"{part}_accuracy")) for part in ("train", "val", "test")):
        return "an accuracy of its is none"
    confusion, classes = metrics.get("test_confusion"), len(info.classes)
    try:
        counts = TypeAdapter(list[list[int]]).validate_python(confusion, strict=True)
        hits = base64.b64decode(metrics.get("test_hits") or "", validate=True)
    except (ValidationError, TypeError, ValueError):
        return "its test images are none"
    is_square = len(counts) == classes and all(len(row) == classes for row in counts)
    if not is_square or sum(map(sum, counts)) != info.test_count or len(hits) != -(-info.test_count // 8):
        return "it is of other test images"
    return None


def _fault_of_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    if found.keys() != expected.keys():
        return "its weights have other names"
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            return f"its weights {name} are {_shown(tensor)}, not {_shown(expected[name])}"
        if tensor.layout != torch.strided:
            return f"its weights {name} are {tensor.layout}"
    return None


def _shown(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _is_fraction(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1
