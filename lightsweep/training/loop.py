"""The training loop and the evaluation of a net.

Data, order and augmentation are tensors on the net's device; within an epoch nothing synchronises with
the device until the epoch's end.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lightsweep.nets.compress import matrix_layers
from lightsweep.nets.models import Net
from lightsweep.seeding import derive
from lightsweep.sweepfile.augmentation import TransformSpec
from lightsweep.sweepfile.stages import PruneStage, StageSpec
from lightsweep.training.batches import EVALUATION_BATCH, Source, Split, freeze
from lightsweep.training.functions import RATIO, criterion_of
from lightsweep.training.schedules import learning_rate
from lightsweep.training.state import EpochRecord, StageState, blocks_of


class DivergedError(Exception):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Evaluation:
    """A net's results on a split, per head."""

    losses: tuple[float, ...]
    """Mean cross-entropy over the images in nats, per head."""
    accuracies: tuple[float, ...]
    """Accuracy as a fraction, per head."""
    predictions: Tensor
    """Predicted classes, int64 [heads, n], on the CPU."""


def train_stage(
    state: StageState,
    stage: StageSpec,
    trainable: frozenset[str],
    training: Split,
    validation: Split,
    transforms: Sequence[TransformSpec],
    batch_size: int,
    seed: int,
    stage_index: int,
) -> Iterator[EpochRecord]:
    """Train a stage's net in place from its current state, yielding a record after each epoch.

    With patience, the epoch with the best validation accuracy (ties: lowest loss) is restored at the end.
    In a stage that pruned weights, zero weights stay zero.
    Random streams are derived from (seed, purpose, stage_index, epoch), so a stage resumed from a checkpoint
    ends like one that was never interrupted. The output of frozen first blocks for images without
    augmentation is computed once.

    Raises:
        DivergedError: The loss is not finite; raised after the record of that epoch is yielded.

    """
    net, optimizer, records = state.net, state.optimizer, state.records
    device = training.pixels.device
    set_modes(net, trainable)
    train_source = freeze(net, trainable, training, is_augmented=bool(transforms))
    net.eval()
    val_source = freeze(net, trainable, validation, is_augmented=False)
    masks = _masks(net) if isinstance(stage, PruneStage) and stage.prune == "weights" else []
    while not is_over(records, stage):
        epoch = len(records)
        started = time.perf_counter()
        set_modes(net, trainable)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derive(seed, "dropout", stage_index, epoch))
            loss, accuracy = train_epoch(
                net, stage, train_source, transforms, batch_size, optimizer, epoch,
                order=derive(seed, "order", stage_index, epoch),
                draws=derive(seed, "augmentation", stage_index, epoch),
                masks=masks,
            )  # fmt: skip
        result = evaluate(net, val_source)
        trained = trained_heads(stage, len(result.accuracies))
        record = EpochRecord(
            epoch=epoch + 1,
            learning_rate=optimizer.param_groups[0]["lr"],
            train_loss=_finite(loss),
            train_accuracy=accuracy,
            val_loss=_finite(sum(result.losses[trained])),
            val_accuracy=sum(result.accuracies[trained]) / len(result.accuracies[trained]),
            val_accuracy_heads=result.accuracies,
            seconds=time.perf_counter() - started,
        )
        records.append(record)
        for name, value in (("training", loss), *(("validation", each) for each in result.losses)):
            if not math.isfinite(value):
                yield record
                is_ = "NaN" if math.isnan(value) else "infinite"
                raise DivergedError(f"the {name} loss is {is_} in epoch {epoch + 1} (lr {stage.lr:g})")
        keep_best(state, stage)
        yield record
    if state.best:
        net.load_state_dict(state.best)


def keep_best(state: StageState, stage: StageSpec) -> None:
    """Keep the net's state if the last epoch is the best so far, for a stage with patience."""
    if stage.patience is not None and kept_epoch(state.records, stage.patience) == len(state.records) - 1:
        state.best = {name: tensor.clone() for name, tensor in state.net.state_dict().items()}


def _finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


def is_over(records: Sequence[EpochRecord], stage: StageSpec) -> bool:
    """Return whether a stage has had all its epochs, or enough of them without a better one."""
    if not records or stage.patience is None:
        return len(records) == stage.epochs
    waited = len(records) - 1 - kept_epoch(records, stage.patience)
    return len(records) == stage.epochs or waited >= stage.patience


def _masks(net: Net) -> list[tuple[Tensor, Tensor]]:
    """Return each layer's weight of a pruned net with its mask: 1 where the weight is not 0."""
    weights = [layer.weight for layer in matrix_layers(net).values()]
    return [(weight, (weight != 0).to(weight.dtype)) for weight in weights]


def set_modes(net: Net, trainable: frozenset[str]) -> None:
    """Set training mode except for frozen blocks, whose running statistics must not change either."""
    net.train()
    for name, block in blocks_of(net).items():
        block.train(name in trainable)


def kept_epoch(records: Sequence[EpochRecord], patience: int | None) -> int:
    """Return the index of the epoch whose weights are kept: the last, or with patience the best."""
    if patience is None:
        return len(records) - 1

    def rank(index: int) -> tuple[float, float]:
        loss = records[index].val_loss
        return records[index].val_accuracy, -math.inf if loss is None else -loss

    return max(range(len(records)), key=rank)


def train_epoch(
    net: Net,
    stage: StageSpec,
    source: Source,
    transforms: Sequence[TransformSpec],
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    order: int,
    draws: int,
    masks: Sequence[tuple[Tensor, Tensor]] = (),
) -> tuple[float, float]:
    """Train for one epoch; return its mean loss in nats and its accuracy.

    After each step, each weight in `masks` is multiplied by its mask of zeros and ones.
    """
    count, device = len(source.split), source.split.pixels.device
    generator = torch.Generator(device).manual_seed(draws)
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(order)).to(device)
    batches = shuffled.split(batch_size)
    criterion = criterion_of(stage)
    loss_sum = torch.zeros((), device=device)
    correct = torch.zeros((), device=device)
    for step, positions in enumerate(batches):
        rate = learning_rate(stage, epoch + step / len(batches))
        for group in optimizer.param_groups:
            group["lr"] = rate * group[RATIO]
        labels = source.split.labels_of(positions)
        outputs = net(*source.inputs(positions, transforms, generator), source.starts)
        outputs = outputs[trained_heads(stage, len(outputs))]
        loss = torch.stack([criterion(logits, labels) for logits in outputs]).sum()
        optimizer.zero_grad(set_to_none=not net.has_images_last)  # which may have gradients in one tensor
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for weight, mask in masks:
                weight.mul_(mask)
        loss_sum += loss.detach() * len(positions)
        correct += sum((logits.argmax(1) == labels).sum() for logits in outputs) / len(outputs)
    return float(loss_sum) / count, float(correct) / count


@torch.inference_mode()
def evaluate(net: Net, source: Source) -> Evaluation:
    """Evaluate a net on a split, with the original image for both inputs (arXiv 2501.15547, section 3)."""
    net.eval()
    split, device = source.split, source.split.pixels.device
    losses, predictions = [], []
    for positions in torch.arange(len(split), device=device).split(EVALUATION_BATCH):
        labels = split.labels_of(positions)
        outputs = torch.stack(net(*source.inputs(positions), source.starts))
        losses.append(torch.stack([functional.cross_entropy(o, labels, reduction="sum") for o in outputs]))
        predictions.append(outputs.argmax(2))
    predicted = torch.cat(predictions, 1)
    hits = (predicted == split.labels[split.index]).sum(1)
    loss = torch.stack(losses).sum(0) / len(split)
    accuracies = tuple(
        count / len(split) for count in hits.tolist()
    )  # in float64, so equal counts tie exactly
    return Evaluation(tuple(loss.tolist()), accuracies, predicted.cpu())


def trained_heads(stage: StageSpec, heads: int) -> slice:
    """Return which of a net's heads a stage trains."""
    return {"head-a": slice(0, 1), "head-b": slice(1, 2)}.get(stage.of or "", slice(0, heads))
