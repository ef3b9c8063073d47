"""The training loop, the only one, and the evaluation of a net.

Data, order and augmentation are tensors on the net's device, and nothing in an epoch waits for the
device before the epoch's end.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsweep.augment import augment
from lightsweep.schedule import block_names, learning_rate, network_of, trainable_blocks
from lightsweep.seeding import derive
from lightsweep.spec import ModelSpec, StageSpec, TransformSpec

EVALUATION_BATCH = 256


class DivergedError(Exception):
    """Training left the finite numbers."""


@dataclass(frozen=True)
class Split:
    """Some of the images of a data set."""

    pixels: Tensor
    """uint8 [n, height, width, channels], all images."""
    labels: Tensor
    """int64 [n]."""
    index: Tensor
    """int64 [m], the images that belong to this split."""

    def to(self, device: torch.device) -> "Split":
        """Return the split on a device."""
        return Split(self.pixels.to(device), self.labels.to(device), self.index.to(device))

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return images float32 [batch, channels, height, width] in [0, 1], channels last, and labels."""
        chosen = self.index[positions]
        images = self.pixels.index_select(0, chosen).permute(0, 3, 1, 2)
        return images.float().div_(255), self.labels[chosen]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.index)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a stage. Losses in nats, accuracies as fractions."""

    epoch: int
    """From 1 within the stage."""
    learning_rate: float
    """At the epoch's last step."""
    train_loss: float
    """Mean over the epoch's images, in training mode, summed over the heads that train."""
    train_accuracy: float
    """Mean over the heads that train, likewise."""
    val_loss: float
    val_accuracy: float
    """Mean over the heads that train."""
    val_accuracy_heads: tuple[float, ...]
    """Of each of the net's heads."""
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """A net's results on a split, per head."""

    losses: tuple[float, ...]
    """Cross-entropy, mean over the images, in nats."""
    accuracies: tuple[float, ...]
    """Fractions."""
    predictions: Tensor
    """int64 [heads, n], on the CPU."""


def train_stage(
    net: nn.Module,
    model: ModelSpec,
    stage: StageSpec,
    training: Split,
    validation: Split,
    transforms: Sequence[TransformSpec],
    batch_size: int,
    seed: int,
    stage_index: int,
) -> Iterator[EpochRecord]:
    """Train a net in place for one stage, yielding a record after each epoch.

    With patience, the epoch of the best validation accuracy (then lowest loss) is restored at the end.
    Random streams are derived from (seed, purpose, stage_index, epoch).

    Raises:
        DivergedError: The loss is not finite.

    """
    trainable = trainable_blocks(stage, model)
    blocks = {name: net.get_submodule(name) for name in block_names(model, network_of(stage))}
    for name, block in blocks.items():
        block.requires_grad_(name in trainable)
    optimizer = _optimizer(stage, [p for p in net.parameters() if p.requires_grad])
    device = training.pixels.device
    records: list[EpochRecord] = []
    best: dict[str, Tensor] = {}
    for epoch in range(stage.epochs):
        started = time.perf_counter()
        net.train()
        for name, block in blocks.items():
            block.train(name in trainable)  # frozen whole: its running statistics stand still, too
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derive(seed, "dropout", stage_index, epoch))
            loss, accuracy = train_epoch(
                net, stage, training, transforms, batch_size, optimizer, epoch,
                order=derive(seed, "order", stage_index, epoch),
                draws=derive(seed, "augmentation", stage_index, epoch),
            )  # fmt: skip
        result = evaluate(net, validation)
        if not all(map(math.isfinite, (loss, *result.losses))):
            raise DivergedError(f"NaN loss in epoch {epoch + 1} of stage {stage.name} (lr {stage.lr:g})")
        trained = _trained_heads(stage, len(result.accuracies))
        record = EpochRecord(
            epoch=epoch + 1,
            learning_rate=optimizer.param_groups[0]["lr"],
            train_loss=loss,
            train_accuracy=accuracy,
            val_loss=sum(result.losses[trained]),
            val_accuracy=sum(result.accuracies[trained]) / len(result.accuracies[trained]),
            val_accuracy_heads=result.accuracies,
            seconds=time.perf_counter() - started,
        )
        records.append(record)
        yield record
        if stage.patience is not None:
            kept = kept_epoch(records, stage.patience)
            if kept == epoch:
                best = {name: tensor.clone() for name, tensor in net.state_dict().items()}
            elif epoch - kept >= stage.patience:
                break
    if best:
        net.load_state_dict(best)


def kept_epoch(records: Sequence[EpochRecord], patience: int | None) -> int:
    """Return the index of the epoch whose weights a stage keeps: the last, or with patience the best."""
    if patience is None:
        return len(records) - 1
    return max(range(len(records)), key=lambda i: (records[i].val_accuracy, -records[i].val_loss))


def train_epoch(
    net: nn.Module,
    stage: StageSpec,
    training: Split,
    transforms: Sequence[TransformSpec],
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    order: int,
    draws: int,
) -> tuple[float, float]:
    """Train for one epoch; return its mean loss in nats and its accuracy."""
    device = training.pixels.device
    generator = torch.Generator(device).manual_seed(draws)
    shuffled = torch.randperm(len(training), generator=torch.Generator().manual_seed(order)).to(device)
    batches = shuffled.split(batch_size)
    loss_sum = torch.zeros((), device=device)
    correct = torch.zeros((), device=device)
    for step, positions in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(stage, epoch + step / len(batches))
        images, labels = training.batch(positions)
        outputs = net(images, augment(images, transforms, generator))
        outputs = outputs[_trained_heads(stage, len(outputs))]
        loss = torch.stack([functional.cross_entropy(logits, labels) for logits in outputs]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(positions)
        correct += sum((logits.argmax(1) == labels).sum() for logits in outputs) / len(outputs)
    return float(loss_sum) / len(training), float(correct) / len(training)


@torch.inference_mode()
def evaluate(net: nn.Module, split: Split) -> Evaluation:
    """Evaluate a net on a split, both inputs getting the original image (arXiv 2501.15547, section 3)."""
    net.eval()
    device = split.pixels.device
    losses, predictions = [], []
    for positions in torch.arange(len(split), device=device).split(EVALUATION_BATCH):
        images, labels = split.batch(positions)
        outputs = torch.stack(net(images, images))
        losses.append(torch.stack([functional.cross_entropy(o, labels, reduction="sum") for o in outputs]))
        predictions.append(outputs.argmax(2))
    predicted = torch.cat(predictions, 1)
    right = (predicted == split.labels[split.index]).float().mean(1)
    loss = torch.stack(losses).sum(0) / len(split)
    return Evaluation(tuple(loss.tolist()), tuple(right.tolist()), predicted.cpu())


def _trained_heads(stage: StageSpec, heads: int) -> slice:
    return {"head-a": slice(0, 1), "head-b": slice(1, 2)}.get(stage.loss or "", slice(0, heads))


def _optimizer(stage: StageSpec, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    lr, decay = stage.lr, stage.weight_decay
    match stage.optimizer:  # foreach takes a third off a Nadam step
        case "nadam":
            return torch.optim.NAdam(parameters, lr, weight_decay=decay, foreach=True)
        case "adam":
            return torch.optim.Adam(parameters, lr, weight_decay=decay, foreach=True)
        case "sgd":
            return torch.optim.SGD(parameters, lr, stage.momentum, weight_decay=decay, foreach=True)
