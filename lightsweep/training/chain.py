"""One trial: a chain of stages, each looked up in the store before it is trained, then the assessment.

The test images are used only here, in `_Chain.assess`, at the end of a trial.
"""

import base64
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightsweep.data.imagedata import Dataset, Images, as_tensor
from lightsweep.data.splits import split
from lightsweep.kernels.library import require_library
from lightsweep.nets.blocks import network_of
from lightsweep.nets.compress import prune_weights, quantise
from lightsweep.nets.models import Net
from lightsweep.seeding import derive
from lightsweep.store.claims import StageStore
from lightsweep.store.stagefile import Checkpoint, StageResult
from lightsweep.sweepfile.augmentation import transforms
from lightsweep.sweepfile.stages import PruneStage, QuantiseStage, StageSpec
from lightsweep.system.machine import allow_tf32, describe_machine
from lightsweep.training.batches import EVALUATION_BATCH, Source, Split, channel_statistics
from lightsweep.training.loop import DivergedError, evaluate, kept_epoch, train_stage
from lightsweep.training.ownloop import Kept, can_go_on, run_own_stage
from lightsweep.training.stagecheck import claim
from lightsweep.training.stagenets import build_net, final_net, go_on, moved, trainable_in, weights_of
from lightsweep.training.state import EpochRecord, StageState
from lightsweep.trials.keys import stage_keys
from lightsweep.trials.sources import source_fingerprint
from lightsweep.trials.trial import Trial

CALIBRATION_IMAGES = 1024


@dataclass(frozen=True)
class StageEntry:
    """Origin of a stage's result, or of the assessment, in a trial: one row of the stage ledger."""

    stage_index: int
    """Index of the stage, from 0; the assessment comes after the last stage."""
    key: str
    origin: Literal["trained", "continued", "stored"]
    """Trained here from the start, continued here from a checkpoint, or read from the store."""
    epochs: int
    """Number of epochs in the result."""
    epochs_trained: int
    """Number of those epochs that this trial trained itself."""
    seconds: float
    """Time that it took to compute the result, wherever that was."""
    waited_seconds: float
    """Time spent waiting for another trial that was computing the result."""
    provenance: dict[str, Any]
    """Where and when the result was computed."""
    warning: str | None = None
    """Damaged files of this stage that were discarded from the store."""


@dataclass(frozen=True)
class TrialResult:
    """Results of a trial: one per stage and, last, the assessment."""

    stages: tuple[StageResult, ...]
    assessment: StageResult
    entries: tuple[StageEntry, ...]
    """Ledger rows of each stage and, last, of the assessment."""


def run_trial(trial: Trial, dataset: Dataset, store: StageStore, device: torch.device) -> TrialResult:
    """Train or look up a trial's stages one after the other, and assess the final net.

    Raises:
        DivergedError: A stage's loss is not finite.
        InputError: The images cannot be split into training and validation images.

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
    """Like `run_trial`, but yield each epoch's record as the epoch ends, and each stage's entry.

    Epochs read from a stored result or checkpoint are yielded as well.
    """
    keys = stage_keys(trial, dataset.fingerprint, device.type)
    chain = _Chain(trial, dataset, device, keys)
    results: list[StageResult] = []
    entries: list[StageEntry] = []
    for index, key in enumerate(keys):
        answer = claim(trial, index, key, dataset.info, store)
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
    """Raise if a stage diverged, now or when its result was stored.

    Raises:
        DivergedError: The stage diverged.

    """
    if "diverged" in result.metrics:
        raise DivergedError(f"stage {trial.stages[index].name}: {result.metrics['diverged']}")


class _Chain:
    """A trial's data, moved to the device when a stage first needs it, and the training of one stage."""

    def __init__(self, trial: Trial, dataset: Dataset, device: torch.device, keys: tuple[str, ...]) -> None:
        self.trial, self.dataset, self.device, self.keys = trial, dataset, device, keys
        self._splits: tuple[Split, Split] | None = None

    def splits(self) -> tuple[Split, Split]:
        """Return the training and the validation split."""
        if self._splits is None:
            trial = self.trial
            own, images = self.dataset.validation, self.dataset.train
            own_count = 0 if own is None else len(own.labels)
            parts = split(images.labels, trial.dataset, trial.seed, trial.fold, trial.folds, own_count)
            training, validation = (_split(images, part, self.device) for part in parts)
            if own is not None and not len(validation):
                validation = _split(own, np.arange(own_count), self.device)
            self._splits = training, validation
        return self._splits

    def start(self, index: int, previous: StageResult | None) -> Net:
        """Return the net that a stage starts with.

        For the first stage it is freshly initialised and normalises by the training images' statistics. For
        a later stage it is the previous stage's net, fused or pruned as the stage requires.
        """
        stage = self.trial.stages[index]
        if previous is not None:
            net = go_on(self.trial, stage, previous)
        else:
            net = build_net(self.trial, self.trial.spec.model, network_of(stage))
            mean, deviation = channel_statistics(self.splits()[0])
            net.load_state_dict({"mean": mean, "deviation": deviation}, strict=False)
        if isinstance(stage, PruneStage) and stage.prune == "weights":
            prune_weights(net, stage.amount)
        if isinstance(stage, QuantiseStage):
            return moved(net, self.device)  # its layers are watched, and then replaced
        return self.placed(net)

    def placed(self, net: Net) -> Net:
        """Return a net as it is computed: on the device, and on a processor by the trial's kernels.

        Raises:
            MachineError: There are no such kernels here.

        """
        if self.device.type == "cpu" and self.trial.has_images_last:
            require_library()
            net.put_images_last()
        return moved(net, self.device)

    def make(
        self,
        index: int,
        results: list[StageResult],
        checkpoint: Checkpoint | None,
        store: StageStore,
    ) -> Generator[EpochRecord, None, StageResult]:
        """Train one stage, or assess after the last one, given the results of the earlier stages."""
        started, started_at = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
        before = checkpoint.seconds if checkpoint else 0.0
        if self.device.type == "cuda":
            allow_tf32(self.trial.spec.tf32)
        if index == len(self.trial.stages):
            result = self.assess(results[-1])
        elif isinstance(self.trial.stages[index], QuantiseStage):
            result = self.quantise(index, results[-1])
        else:
            result = yield from self.train(index, results, checkpoint, store)
        return replace(
            result,
            seconds=before + time.perf_counter() - started,
            provenance={
                **describe_machine(self.device),
                "source": source_fingerprint(),
                "started_at": started_at,
            },
        )

    def train(
        self,
        index: int,
        results: list[StageResult],
        checkpoint: Checkpoint | None,
        store: StageStore,
    ) -> Generator[EpochRecord, None, StageResult]:
        """Train one stage epoch by epoch, and store a checkpoint from time to time.

        Divergence is deterministic, so it is stored like a result.
        """
        stage, spec = self.trial.stages[index], self.trial.spec
        net, trainable = self.start(index, results[-1] if results else None), trainable_in(self.trial, stage)
        state = StageState.begin(net, stage, trainable)
        if checkpoint:
            state.go_on_from(checkpoint)
        training, validation = self.splits()
        before, started = checkpoint.seconds if checkpoint else 0.0, time.perf_counter()
        kept, goes_on = started, can_go_on(stage)
        common = (
            stage, trainable, training, validation, transforms(spec.augmentation), spec.batch_size,
            self.trial.seed, index,
        )  # fmt: skip
        kept_state = Kept.of(checkpoint)
        steps = run_own_stage(state, kept_state, *common) if stage.run else train_stage(state, *common)
        try:
            for record in steps:
                now = time.perf_counter()
                is_due = now - kept >= store.checkpoint_seconds and record.epoch < stage.epochs and goes_on
                is_finite = record.val_loss is not None and bool(stage.run or record.train_loss is not None)
                if is_due and is_finite:
                    reached = state.to_checkpoint(before + now - started)
                    store.put_checkpoint(
                        self.keys[index], kept_state.added_to(reached) if stage.run else reached
                    )
                    kept = now
                yield record
        except DivergedError as error:
            metrics, weights = {"diverged": str(error)}, {}
        else:
            metrics, weights = _stage_metrics(stage, state.records), weights_of(net)
        return StageResult(weights, [asdict(record) for record in state.records], metrics)

    def quantise(self, index: int, last: StageResult) -> StageResult:
        """Quantise the net to int8, calibrated on training images, and validate it."""
        training, validation = self.splits()
        net = self.start(index, last).eval()
        stream = torch.Generator().manual_seed(derive(self.trial.seed, "calibration"))
        chosen = torch.randperm(len(training), generator=stream)[:CALIBRATION_IMAGES].to(self.device)
        quantise(net, (training.images_of(positions) for positions in chosen.split(EVALUATION_BATCH)))
        result = evaluate(net, Source(validation))
        metrics = {"val_accuracy": result.accuracies[0], "val_loss": result.losses[0], "kept_epoch": 0}
        network = network_of(self.trial.stages[index])
        return StageResult(weights=weights_of(net), metrics={"network": network, **metrics})

    def assess(self, last: StageResult) -> StageResult:
        """Evaluate the final net on training and validation images and, only here, on test images."""
        net = self.placed(final_net(self.trial, last))
        training, validation = self.splits()
        everything = _split(self.dataset.test, np.arange(len(self.dataset.test.labels)), self.device)
        results = {
            "train": evaluate(net, Source(training)),
            "val": evaluate(net, Source(validation)),
            "test": evaluate(net, Source(everything)),
        }
        metrics: dict[str, Any] = {f"{name}_accuracy": r.accuracies[0] for name, r in results.items()}
        metrics |= {f"{name}_loss": r.losses[0] for name, r in results.items()}
        labels, predictions = self.dataset.test.labels, results["test"].predictions[0].numpy()
        metrics["test_confusion"] = _confusion(labels, predictions, len(self.dataset.info.classes))
        metrics["test_hits"] = base64.b64encode(np.packbits(predictions == labels).tobytes()).decode()
        return StageResult(weights={}, metrics=metrics)


def _stage_metrics(stage: StageSpec, records: list[EpochRecord]) -> dict[str, Any]:
    kept = kept_epoch(records, stage.patience)
    return {
        "network": network_of(stage),
        "kept_epoch": kept + 1,
        "val_accuracy": records[kept].val_accuracy,
        "val_loss": records[kept].val_loss,
    }


def _split(images: Images, index: np.ndarray, device: torch.device) -> Split:
    return Split(*_on_device(images, device), torch.from_numpy(index).to(device))


@lru_cache(maxsize=6)  # training, validation and test images of two data sets
def _on_device(images: Images, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return pixels and labels on a device: the only copy there; splits are index tensors into it."""
    return as_tensor(images.pixels).to(device), as_tensor(images.labels).to(device)


def _confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> list[list[int]]:
    """Return counts [true class][predicted class]."""
    counts = np.bincount(labels * classes + predictions, minlength=classes * classes)
    table: list[list[int]] = counts.reshape(classes, classes).tolist()
    return table
