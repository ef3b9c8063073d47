"""What became of a trial, as a worker says it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lightsweep.training.chain import StageEntry, TrialResult


@dataclass(frozen=True)
class Outcome:
    """What a worker says of a trial, as plain values."""

    status: str
    """completed, early_stopped or failed."""
    error: str | None
    """Why it failed, in one line."""
    started_at: str
    seconds: float
    """That the trial took in this run, looked-up stages included."""
    host: str
    device: str
    accuracies: dict[str, float] = field(default_factory=dict)
    """val_accuracy, test_accuracy, train_accuracy as fractions."""
    stages: list[dict[str, Any]] = field(default_factory=list)
    """An entry of the ledger per stage and for the assessment, as far as the trial came
    (`pipeline.StageEntry`, its provenance spread out)."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """One per epoch, with `stage_index`, `trial_epoch` and `is_kept`."""
    test_confusion: list[list[int]] | None = None
    """Test images by [true class][predicted class]."""
    test_hits: str | None = None
    """Base64 of a bit for each test image, in their order, the first byte's highest bit first: whether it
    was classified right."""
    failure: Literal["diverged", "lost", "error"] | None = None
    """What kind of failure it is: of the training itself, of the machine that trained, or another error."""

    @property
    def epochs_behind(self) -> int:
        """Epochs that the trial's results hold, as far as it came."""
        return len(self.epochs) or sum(stage["epochs"] for stage in self.stages)

    @property
    def warnings(self) -> list[str]:
        """What was found damaged in the store, and discarded."""
        return [stage["warning"] for stage in self.stages if stage["warning"]]


def completed(result: TrialResult, started_at: str, seconds: float, host: str, device: str) -> Outcome:
    """Return the outcome of a trial that ran to its end."""
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
    """Return the outcome of a trial that ends after these epochs, as `Outcome.epochs` has them.

    It has no accuracies: those of its epochs are not the final net's.
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
    """Return the outcome of a trial that did not reach its end, with the stages and epochs that it had."""
    return Outcome(
        "failed", " ".join(error.split())[:500], started_at, seconds, host, device, failure=failure,
        stages=[_plain(entry) for entry in entries], epochs=list(epochs),
    )  # fmt: skip


def _plain(entry: StageEntry) -> dict[str, Any]:
    tree = asdict(entry)
    return {**tree.pop("provenance"), **tree}
