"""One trial: its chain of stages, each looked up in the store before it is trained, then the assessment.

The test images are touched here, in `_assess`, at the end of a trial, and nowhere else.
"""

import platform
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightsweep.augment import transforms
from lightsweep.compress import prune_filters, prune_weights, quantise, shape_as_quantised
from lightsweep.datasets import Dataset
from lightsweep.imagefiles import DatasetInfo, Images, as_tensor
from lightsweep.images import EVALUATION_BATCH, Source, Split
from lightsweep.models import Net, build, fuse
from lightsweep.schedule import compressed, network_of
from lightsweep.seeding import derive
from lightsweep.spec import ModelSpec, NetSpec, Network, PruneStage, QuantiseStage, StageSpec
from lightsweep.splits import split
from lightsweep.stagefile import Checkpoint, StageResult
from lightsweep.store import StageStore
from lightsweep.train import DivergedError, EpochRecord, StageState, evaluate, kept_epoch, train_stage
from lightsweep.trial import Trial, stage_keys

CALIBRATION_IMAGES = 1024


@dataclass(frozen=True)
class StageEntry:
    """How a trial came by a stage's result, or by its assessment: a line of the ledger."""

    stage_index: int
    """From 0; the assessment comes after the last stage."""
    key: str
    origin: Literal["trained", "continued", "stored"]
    """Made here from the stage's start or from a checkpoint, or looked up."""
    epochs: int
    """Of the result."""
    epochs_trained: int
    """Of these, how many were trained here."""
    seconds: float
    """That the result took where it was made."""
    waited_seconds: float
    """For somebody else who was making it."""
    provenance: dict[str, Any]
    """Where and when the result was made."""
    warning: str | None = None


@dataclass(frozen=True)
class TrialResult:
    """What became of a trial: a result per stage and, last, the assessment."""

    stages: tuple[StageResult, ...]
    assessment: StageResult
    entries: tuple[StageEntry, ...]
    """For each stage and, last, for the assessment."""


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
) -> Generator[EpochRecord | StageEntry, None, TrialResult]:
    """Do what `run_trial` does, yielding each epoch's record as it ends and each stage's entry.

    Epochs that are looked up, with their stage or with a checkpoint of it, are yielded, too.
    """
    keys = stage_keys(trial, dataset.fingerprint, device.type)
    chain = _Chain(trial, dataset, device, keys)
    results: list[StageResult] = []
    entries: list[StageEntry] = []
    for index, key in enumerate(keys):
        answer = store.claim(key)
        result, trained = answer.result, 0
        for known in (answer.result, answer.checkpoint):
            yield from map(EpochRecord.from_plain, known.epochs if known else ())
        if result is None:
            try:
                result = yield from chain.make(index, results, answer.checkpoint, store)
                store.put(key, result)
            except BaseException:
                store.release(key)
                raise
            before = len(answer.checkpoint.epochs) if answer.checkpoint else 0
            trained = max(len(result.epochs) - before, 0)
        origin: Any = "stored" if answer.result else "continued" if answer.checkpoint else "trained"
        entries.append(
            StageEntry(
                index, key, origin, len(result.epochs), trained,
                result.seconds, answer.waited_seconds, result.provenance, answer.warning,
            )
        )  # fmt: skip
        yield entries[-1]
        _check_finite(trial, index, result)
        results.append(result)
    return TrialResult(tuple(results[:-1]), results[-1], tuple(entries))


def _check_finite(trial: Trial, index: int, result: StageResult) -> None:
    """Raise what a stage ended with that left the finite numbers, be it just now or when it was stored.

    Raises:
        DivergedError: It did.

    """
    if "diverged" in result.metrics:
        raise DivergedError(f"stage {trial.stages[index].name}: {result.metrics['diverged']}")


class _Chain:
    """A trial's data on the device, made when the first stage needs it, and the training of one stage."""

    def __init__(self, trial: Trial, dataset: Dataset, device: torch.device, keys: tuple[str, ...]) -> None:
        self.trial, self.dataset, self.device, self.keys = trial, dataset, device, keys
        self._splits: tuple[Split, Split] | None = None

    def splits(self) -> tuple[Split, Split]:
        """Return the training and the validation split."""
        if self._splits is None:
            trial = self.trial
            parts = split(self.dataset.train.labels, trial.dataset, trial.seed, trial.fold, trial.folds)
            training, validation = (_split(self.dataset.train, part).to(self.device) for part in parts)
            self._splits = training, validation
        return self._splits

    def start(self, index: int, previous: StageResult | None) -> Net:
        """Return the net that a stage begins with.

        It is freshly initialised and normalises by the training images, or the previous stage's: fused if
        it was not yet, pruned if the stage begins so.
        """
        stage = self.trial.stages[index]
        if previous is not None:
            net = _go_on(self.trial, self.dataset.info, stage, previous)
        else:
            net = _build(self.trial, self.dataset.info, self.trial.spec.model, network_of(stage))
            mean, deviation = channel_statistics(self.splits()[0])
            net.load_state_dict({"mean": mean, "deviation": deviation}, strict=False)
        if isinstance(stage, PruneStage) and stage.prune == "weights":
            prune_weights(net, stage.amount)
        return net.to(self.device)

    def make(
        self,
        index: int,
        results: list[StageResult],
        checkpoint: Checkpoint | None,
        store: StageStore,
    ) -> Generator[EpochRecord, None, StageResult]:
        """Train one stage, or assess after the last one, from the results of those before it."""
        started, started_at = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
        before = checkpoint.seconds if checkpoint else 0.0
        if index == len(self.trial.stages):
            result = self.assess(results[-1])
        elif isinstance(self.trial.stages[index], QuantiseStage):
            result = self.quantise(index, results[-1])
        else:
            try:
                result = yield from self.train(index, results, checkpoint, store)
            except DivergedError as error:  # it would again: that is a result, too
                result = StageResult(weights={}, metrics={"diverged": str(error)})
        return replace(
            result,
            seconds=before + time.perf_counter() - started,
            provenance={**describe_machine(self.device), "started_at": started_at},
        )

    def train(
        self,
        index: int,
        results: list[StageResult],
        checkpoint: Checkpoint | None,
        store: StageStore,
    ) -> Generator[EpochRecord, None, StageResult]:
        """Train one stage, epoch by epoch, handing checkpoints over now and then."""
        stage, spec = self.trial.stages[index], self.trial.spec
        net, model = self.start(index, results[-1] if results else None), _model_of(self.trial, stage)
        state = StageState.begin(net, model, stage)
        if checkpoint:
            state.go_on_from(checkpoint)
        training, validation = self.splits()
        before, started = checkpoint.seconds if checkpoint else 0.0, time.perf_counter()
        kept = started
        for record in train_stage(
            state, model, stage, training, validation, transforms(spec.augmentation),
            spec.batch_size, self.trial.seed, index,
        ):  # fmt: skip
            now = time.perf_counter()
            if now - kept >= store.checkpoint_seconds and record.epoch < stage.epochs:
                store.put_checkpoint(self.keys[index], state.to_checkpoint(before + now - started))
                kept = now
            yield record
        return StageResult(
            weights=_weights(net),
            epochs=[asdict(record) for record in state.records],
            metrics=_stage_metrics(stage, state.records),
        )

    def quantise(self, index: int, last: StageResult) -> StageResult:
        """Round the net to int8, its input ranges from training images; validate it."""
        training, validation = self.splits()
        net = self.start(index, last).eval()
        stream = torch.Generator().manual_seed(derive(self.trial.seed, "calibration"))
        chosen = torch.randperm(len(training), generator=stream)[:CALIBRATION_IMAGES].to(self.device)
        quantise(net, (training.images_of(positions) for positions in chosen.split(EVALUATION_BATCH)))
        result = evaluate(net, Source(validation))
        metrics = {"val_accuracy": result.accuracies[0], "val_loss": result.losses[0], "kept_epoch": 0}
        network = network_of(self.trial.stages[index])
        return StageResult(weights=_weights(net), metrics={"network": network, **metrics})

    def assess(self, last: StageResult) -> StageResult:
        """Evaluate the final net on training, validation and, for the only time, test images."""
        net = final_net(self.trial, self.dataset.info, last).to(self.device)
        training, validation = self.splits()
        everything = _split(self.dataset.test, np.arange(len(self.dataset.test.labels)))
        results = {
            "train": evaluate(net, Source(training)),
            "val": evaluate(net, Source(validation)),
            "test": evaluate(net, Source(everything.to(self.device))),
        }
        metrics: dict[str, Any] = {f"{name}_accuracy": r.accuracies[0] for name, r in results.items()}
        metrics |= {f"{name}_loss": r.losses[0] for name, r in results.items()}
        metrics["test_confusion"] = _confusion(
            self.dataset.test.labels, results["test"].predictions[0].numpy(), len(self.dataset.info.classes)
        )
        return StageResult(weights={}, metrics=metrics)


def final_net(trial: Trial, info: DatasetInfo, last: StageResult) -> Net:
    """Return the net that a trial ends with, on the processor, in evaluation mode.

    Args:
        trial: The trial.
        info: Of its data set.
        last: The result of its last stage.

    """
    return _go_on(trial, info, None, last).eval()


def _build(trial: Trial, info: DatasetInfo, model: NetSpec, network: Network) -> Net:
    return build(model, (info.channels, info.height, info.width), len(info.classes), network, trial.seed)


def _model_of(trial: Trial, stage: StageSpec | None) -> NetSpec:
    """Return the settings of the net in a stage, or at the end: narrower once filters were pruned."""
    is_compressing = stage is None or isinstance(stage, PruneStage | QuantiseStage)
    return compressed(trial.spec.model, trial.spec.compression if is_compressing else None)


def _go_on(trial: Trial, info: DatasetInfo, stage: StageSpec | None, previous: StageResult) -> Net:
    """Return the net of a stage, or of the assessment, with the weights of the result before it."""
    network: Network = network_of(stage) if stage else "fused"
    net, weights = _build(trial, info, _model_of(trial, stage), network), previous.weights
    if isinstance(stage, PruneStage) and stage.prune == "filters":
        assert isinstance(trial.spec.model, ModelSpec)  # `stage_table` says so
        weights = prune_filters(weights, trial.spec.model, stage.amount)
    if stage is None and isinstance(trial.stages[-1], QuantiseStage):
        shape_as_quantised(net)
    was_heads = previous.metrics["network"] == "heads"
    fresh = network == "fused" and was_heads and trial.spec.model.fusion == "fresh"
    fuse(weights, net, transfer_heads=not fresh)
    return net


def _weights(net: Net) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in net.state_dict().items()}


def describe_machine(device: torch.device) -> dict[str, str]:
    """Return what decides the rounding (device, hardware, torch), and the host."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return {"host": platform.node(), "device": device.type, "hardware": name, "torch": torch.__version__}


@cache
def cpu_name() -> str:
    """Return the processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


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
