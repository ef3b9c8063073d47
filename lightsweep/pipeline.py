"""One trial: its chain of stages, each looked up in the store before it is trained, then the assessment.

The test images are touched here, in `_assess`, at the end of a trial, and nowhere else.
"""

import platform
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightsweep.augment import transforms
from lightsweep.datasets import Dataset
from lightsweep.imagefiles import Images, as_tensor
from lightsweep.models import build, fuse
from lightsweep.schedule import network_of
from lightsweep.spec import Network, StageSpec
from lightsweep.splits import split
from lightsweep.store import StageResult, StageStore
from lightsweep.train import EpochRecord, Split, evaluate, kept_epoch, train_stage
from lightsweep.trial import Trial, stage_keys


@dataclass(frozen=True)
class TrialResult:
    """What became of a trial: a result per stage and, last, the assessment."""

    stages: tuple[StageResult, ...]
    assessment: StageResult
    keys: tuple[str, ...]
    """Of the stages and the assessment."""
    reused: tuple[bool, ...]
    """For each stage, whether it was looked up instead of trained."""


def run_trial(trial: Trial, dataset: Dataset, store: StageStore, device: torch.device) -> TrialResult:
    """Train a trial's stages one after the other, or look them up, and assess the final net.

    Raises:
        DivergedError: A stage's loss is not finite.
        InputError: The validation split cannot be made.

    """
    steps = trial_steps(trial, dataset, store, device)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: TrialResult = end.value
            return result


def trial_steps(
    trial: Trial, dataset: Dataset, store: StageStore, device: torch.device
) -> Generator[EpochRecord, None, TrialResult]:
    """Do what `run_trial` does, yielding each epoch's record as it ends and returning the result."""
    keys = stage_keys(trial, dataset.fingerprint, device.type)
    chain = _Chain(trial, dataset, device)
    results: list[StageResult] = []
    reused = []
    for index, key in enumerate(keys[:-1]):
        result = store.get(key)
        reused.append(result is not None)
        if result is None:
            clock = _Clock(device)
            result = clock.stamp((yield from chain.train(index, results)))
            store.put(key, result)
        results.append(result)
    assessment = store.get(keys[-1])
    if assessment is None:
        clock = _Clock(device)
        assessment = clock.stamp(chain.assess(results[-1]))
        store.put(keys[-1], assessment)
    return TrialResult(tuple(results), assessment, keys, tuple(reused))


class _Chain:
    """A trial's data on the device, made when the first stage needs it, and the training of one stage."""

    def __init__(self, trial: Trial, dataset: Dataset, device: torch.device) -> None:
        self.trial, self.dataset, self.device = trial, dataset, device
        self._splits: tuple[Split, Split] | None = None

    def splits(self) -> tuple[Split, Split]:
        """Return the training and the validation split."""
        if self._splits is None:
            trial = self.trial
            parts = split(self.dataset.train.labels, trial.dataset, trial.seed, trial.fold, trial.folds)
            training, validation = (_split(self.dataset.train, part).to(self.device) for part in parts)
            self._splits = training, validation
        return self._splits

    def start(self, network: Network, previous: StageResult | None) -> nn.Module:
        """Return the net that a stage begins with.

        It is freshly initialised and normalises by the training images, or the previous stage's, fused if
        it was not yet.
        """
        info, spec = self.dataset.info, self.trial.spec.model
        shape = (info.channels, info.height, info.width)
        net = build(spec, shape, len(info.classes), network, self.trial.seed).to(self.device)
        if previous is None:
            mean, deviation = channel_statistics(self.splits()[0])
            net.load_state_dict({"mean": mean, "deviation": deviation}, strict=False)
        else:
            was_heads = previous.metrics["network"] == "heads"
            fresh = network == "fused" and was_heads and spec.fusion == "fresh"
            fuse(previous.weights, net, transfer_heads=not fresh)
        return net

    def train(self, index: int, results: list[StageResult]) -> Generator[EpochRecord, None, StageResult]:
        """Train one stage from the results of those before it, epoch by epoch."""
        stage, spec = self.trial.stages[index], self.trial.spec
        net = self.start(network_of(stage), results[-1] if results else None)
        training, validation = self.splits()
        records = []
        for record in train_stage(
            net, spec.model, stage, training, validation, transforms(spec.augmentation),
            spec.batch_size, self.trial.seed, index,
        ):  # fmt: skip
            records.append(record)
            yield record
        return StageResult(
            weights={name: tensor.cpu().contiguous() for name, tensor in net.state_dict().items()},
            epochs=[asdict(record) for record in records],
            metrics=_stage_metrics(stage, records),
        )

    def assess(self, last: StageResult) -> StageResult:
        """Evaluate the final net on training, validation and, for the only time, test images."""
        net = self.start("fused", last)
        training, validation = self.splits()
        everything = _split(self.dataset.test, np.arange(len(self.dataset.test.labels)))
        results = {
            "train": evaluate(net, training),
            "val": evaluate(net, validation),
            "test": evaluate(net, everything.to(self.device)),
        }
        metrics: dict[str, Any] = {f"{name}_accuracy": r.accuracies[0] for name, r in results.items()}
        metrics |= {f"{name}_loss": r.losses[0] for name, r in results.items()}
        metrics["test_confusion"] = _confusion(
            self.dataset.test.labels, results["test"].predictions[0].numpy(), len(self.dataset.info.classes)
        )
        return StageResult(weights={}, metrics=metrics)


class _Clock:
    """Notes how long a result took, where, and since when."""

    def __init__(self, device: torch.device) -> None:
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.started, self.device = time.perf_counter(), device

    def stamp(self, result: StageResult) -> StageResult:
        """Return a result with its time and place."""
        provenance = {"host": platform.node(), "device": self.device.type, "started_at": self.started_at}
        return replace(result, seconds=time.perf_counter() - self.started, provenance=provenance)


def _stage_metrics(stage: StageSpec, records: list[EpochRecord]) -> dict[str, Any]:
    kept = kept_epoch(records, stage.patience)
    return {
        "network": network_of(stage),
        "kept_epoch": kept + 1,
        "val_accuracy": records[kept].val_accuracy,
        "val_loss": records[kept].val_loss,
    }


def _split(images: Images, index: np.ndarray) -> Split:
    return Split(as_tensor(images.pixels), as_tensor(images.labels), torch.from_numpy(index))


def channel_statistics(training: Split, chunk: int = 2048) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the training images, float32 [channels, 1, 1], white being 1."""
    count = 0
    total = squares = torch.zeros(training.pixels.shape[3], dtype=torch.float64)
    for index in training.index.cpu().split(chunk):
        pixels = training.pixels.cpu().index_select(0, index).flatten(0, 2).double() / 255
        count += len(pixels)
        total, squares = total + pixels.sum(0), squares + pixels.square().sum(0)
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
    deviation = torch.where(deviation < 1e-6, 1.0, deviation)  # a channel that never varies
    return mean.float()[:, None, None], deviation.float()[:, None, None]


def _confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> list[list[int]]:
    """Return counts [true class][predicted class]."""
    counts = np.bincount(labels * classes + predictions, minlength=classes * classes)
    table: list[list[int]] = counts.reshape(classes, classes).tolist()
    return table
