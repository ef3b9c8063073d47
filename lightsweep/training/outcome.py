"""The outcome of a trial, as a worker reports it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lightsweep.training.chain import StageEntry, TrialResult


@dataclass(frozen=True)
class Outcome:
    """The outcome of a trial as plain values."""

    status: str
    """Status of the trial: completed, early_stopped or failed."""
    error: str | None
    """Reason of the failure in one line; None if the trial did not fail."""
    started_at: str
    """Start time in UTC, ISO 8601."""
    seconds: float
    """Time that the trial took in this run, including reading stored stages."""
    host: str
    """Name of the machine."""
    device: str
    """Type of the device: cpu or cuda."""
    accuracies: dict[str, float] = field(default_factory=dict)
    """val_accuracy, test_accuracy, train_accuracy as fractions."""
    stages: list[dict[str, Any]] = field(default_factory=list)
    """Ledger rows of the stages reached and of the assessment.

    Each is a `training.chain.StageEntry` with the provenance's fields inlined.
    """
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """Record of each epoch, with `stage_index`, `trial_epoch` and `is_kept`."""
    test_confusion: list[list[int]] | None = None
    """Counts of test images, [true class][predicted class]."""
    test_hits: str | None = None
    """Whether each test image was classified correctly, as bits in base64.

    The bits are in image order, with the highest bit of each byte first.
    """
    failure: Literal["diverged", "lost", "error"] | None = None
    """Kind of failure: the training diverged, the machine was lost, or another error."""

    @property
    def epochs_behind(self) -> int:
        """Number of epochs in the trial's results so far."""
        return len(self.epochs) or sum(stage["epochs"] for stage in self.stages)

    @property
    def warnings(self) -> list[str]:
        """Warnings about damaged store files that were discarded."""
        return [stage["warning"] for stage in self.stages if stage["warning"]]


def completed(result: TrialResult, started_at: str, seconds: float, host: str, device: str) -> Outcome:
    """Return the outcome of a completed trial."""
    epochs = [
        {**record, "stage_index": index, "is_kept": record["epoch"] == stage.metrics["kept_epoch"]}
        for index, stage in enumerate(result.stages)
        for record in stage.epochs
    ]
    names = ("val_accuracy", "test_accuracy", "train_accuracy")
    return Outcome(
        "completed", None, started_at, seconds, host, device,
        accuracies={name: result.assessment.metrics[name] for name in names},
        test_confusion=result.assessment.metrics["test_confusion"],
        test_hits=result.assessment.metrics["test_hits"],
        stages=[_plain(entry) for entry in result.entries],
        epochs=[{**epoch, "trial_epoch": number} for number, epoch in enumerate(epochs, 1)],
    )  # fmt: skip


def early_stopped(
    epochs: Sequence[dict[str, Any]],
    started_at: str,
    seconds: float,
    host: str,
    device: str,
    entries: Sequence[StageEntry],
) -> Outcome:
    """Return the outcome of a trial stopped after these epochs, given in the format of `Outcome.epochs`.

    It has no accuracies, since its last epoch's net is not the final net.
    """
    return Outcome(
        "early_stopped", None, started_at, seconds, host, device,
        stages=[_plain(entry) for entry in entries], epochs=list(epochs),
    )  # fmt: skip


def failed(
    error: str,
    failure: Literal["diverged", "lost", "error"],
    started_at: str,
    seconds: float,
    host: str,
    device: str,
    entries: Sequence[StageEntry] = (),
    epochs: Sequence[dict[str, Any]] = (),
) -> Outcome:
    """Return the outcome of a failed trial, with the stages and epochs that it reached."""
    return Outcome(
        "failed", " ".join(error.split())[:500], started_at, seconds, host, device, failure=failure,
        stages=[_plain(entry) for entry in entries], epochs=list(epochs),
    )  # fmt: skip


def _plain(entry: StageEntry) -> dict[str, Any]:
    tree = asdict(entry)
    return {**tree.pop("provenance"), **tree}
