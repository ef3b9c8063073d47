"""A stage whose training loop is the user's own: a generator that yields a record after each epoch.

We freeze what the stage does not train, seed torch before each epoch, validate after it, keep the best epoch,
and store the state from which it goes on. What happens within an epoch is the user's.
"""

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lightsweep.errors import InputError
from lightsweep.owncode.loading import as_keywords, load, named_errors, own_sources
from lightsweep.owncode.reference import without_digests
from lightsweep.seeding import derive
from lightsweep.store.stagefile import Checkpoint
from lightsweep.sweepfile.augmentation import TransformSpec
from lightsweep.sweepfile.stages import StageSpec
from lightsweep.training.augment import augment
from lightsweep.training.batches import Source, Split
from lightsweep.training.loop import DivergedError, evaluate, is_over, keep_best, set_modes, trained_heads
from lightsweep.training.state import EpochRecord, StageState

OWN = "own"
"""Part of a checkpoint that the user's loop keeps."""
PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class StageData:
    """What a training loop of the user's own gets."""

    train: Split
    """Training images: `images_of(positions)` and `labels_of(positions)`, positions 0 … len(train) - 1."""
    validation: Split
    """Validation images."""
    batch_size: int
    """The arm's batch size."""
    augment: Callable[[Tensor, torch.Generator], Tensor]
    """Applies the arm's augmentation to images, float32 [n, channels, height, width] in [0, 1]."""


@dataclass
class Kept:
    """What the user's loop keeps from epoch to epoch: its keyword `state`."""

    state: dict[str, Any] = field(default_factory=dict)

    def added_to(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return a checkpoint that also has the state.

        Raises:
            InputError: It holds something other than tensors, numbers, strings, lists, tuples and dicts.

        """
        tensors: dict[str, Tensor] = {}
        plain = _packed(self.state, tensors)
        named = {f"{OWN}.{name}": tensor for name, tensor in tensors.items()}
        return replace(
            checkpoint,
            tensors={**checkpoint.tensors, **named},
            optimizer={**checkpoint.optimizer, OWN: plain},
        )

    @staticmethod
    def of(checkpoint: Checkpoint | None) -> "Kept":
        """Return the state of a checkpoint; an empty one at the start."""
        plain = checkpoint.optimizer.get(OWN) if checkpoint else None
        if not plain or checkpoint is None:
            return Kept()
        tensors = {
            name.partition(".")[2]: tensor
            for name, tensor in checkpoint.tensors.items()
            if name.startswith(f"{OWN}.")
        }
        return Kept(_unpacked(plain, tensors))


def _packed(value: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[key, _packed(each, tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_packed(each, tensors) for each in value]}
    if isinstance(value, PLAIN):
        return {"value": value}
    raise InputError(
        f"state: {type(value).__name__} cannot be stored; keep tensors, numbers, strings, lists, tuples and "
        "dicts"
    )


def _unpacked(plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    match plain:
        case {"tensor": name}:
            return tensors[name]
        case {"dict": pairs}:
            return {key: _unpacked(each, tensors) for key, each in pairs}
        case {"list": parts}:
            return [_unpacked(each, tensors) for each in parts]
        case {"tuple": parts}:
            return tuple(_unpacked(each, tensors) for each in parts)
    return plain["value"]


def can_go_on(stage: StageSpec) -> bool:
    """Return whether a stage can go on from a checkpoint: ours always, the user's with a keyword `state`."""
    return stage.run is None or "state" in _takes(stage)


def _takes(stage: StageSpec) -> Mapping[str, Any]:
    sources = own_sources(str(stage.run))
    assert sources is not None  # read with the sweep file
    return sources.signature.keywords


def run_own_stage(
    state: StageState,
    kept: Kept,
    stage: StageSpec,
    trainable: frozenset[str],
    training: Split,
    validation: Split,
    transforms: Sequence[TransformSpec],
    batch_size: int,
    seed: int,
    stage_index: int,
) -> Iterator[EpochRecord]:
    """Train a stage's net in place by the user's loop; see `loop.train_stage` for the arguments and the rest.

    Raises:
        DivergedError: A loss is not finite; raised after the record of that epoch is yielded.
        InputError: The user's code fails, or yields something other than a mapping.

    """
    name, sources = without_digests(str(stage.run)), own_sources(str(stage.run))
    net, records, device = state.net, state.records, training.pixels.device
    shared = {key: getattr(stage, key) for key in StageSpec.shared}
    offered = {
        "epochs": stage.epochs,
        "seed": derive(seed, "own", stage_index),
        "state": kept.state,
        **shared,
    }
    supplied = {key: value for key, value in offered.items() if key in _takes(stage)}

    def augmented(images: Tensor, stream: torch.Generator) -> Tensor:
        return augment(images, transforms, stream)

    data = StageData(training, validation, batch_size, augmented)
    with named_errors(sources, "failed"):
        steps = load(str(stage.run))(net, data, **supplied, **as_keywords(stage.keywords))
    if not inspect.isgenerator(steps):
        raise InputError(f"{name}: must be a generator that yields a record after each epoch")
    while not is_over(records, stage):
        epoch, started = len(records), time.perf_counter()
        set_modes(net, trainable)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derive(seed, "own", stage_index, epoch))
            said = _next(steps, sources, name)
        if said is None:
            break
        result = evaluate(net, Source(validation))
        heads = trained_heads(stage, len(result.accuracies))
        loss, accuracy = said.get("loss"), said.get("accuracy")
        if accuracy is None:
            accuracy = sum(evaluate(net, Source(training)).accuracies[heads]) / len(result.accuracies[heads])
        val_loss = sum(result.losses[heads])
        record = EpochRecord(
            epoch=epoch + 1,
            learning_rate=said.get("learning_rate", stage.lr),
            train_loss=loss if loss is None or math.isfinite(loss) else None,
            train_accuracy=accuracy,
            val_loss=val_loss if math.isfinite(val_loss) else None,
            val_accuracy=sum(result.accuracies[heads]) / len(result.accuracies[heads]),
            val_accuracy_heads=result.accuracies,
            seconds=time.perf_counter() - started,
        )
        records.append(record)
        for what, value in (("training", loss), ("validation", val_loss)):
            if value is not None and not math.isfinite(value):
                yield record
                raise DivergedError(f"the {what} loss is {value} in epoch {epoch + 1}")
        keep_best(state, stage)
        yield record
    if not records:
        raise InputError(f"{name}: yielded no record, so nothing was trained")
    if state.best:
        net.load_state_dict(state.best)


def _next(steps: Iterator[Any], sources: Any, name: str) -> dict[str, Any] | None:
    """Return the next record of the user's loop; None at its end."""
    with named_errors(sources, "failed"):
        said = next(steps, _END)
    if said is _END:
        return None
    if not isinstance(said, Mapping):
        raise InputError(f"{name}: must yield a mapping such as {{'loss': 0.3}}, not {type(said).__name__}")
    found = {}
    for key in ("loss", "accuracy", "learning_rate"):
        if key in said:
            try:
                found[key] = float(said[key])
            except (TypeError, ValueError):
                raise InputError(f"{name}: {key} = {said[key]!r}: must be a number") from None
    if not 0 <= found.get("accuracy", 0) <= 1:
        raise InputError(f"{name}: accuracy = {found['accuracy']:g}: must be a fraction")
    return found


_END = object()
