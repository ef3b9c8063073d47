"""What a trial's chain of stages gives: their results, and how it came by each."""

from dataclasses import dataclass
from typing import Any, Literal

from lightsweep.store.stagefile import StageResult


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
