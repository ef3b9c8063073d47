"""Where the workers' time went: training, waiting for each other, wasted work, and what look-ups saved.

Computed from `Run.stages`, which records how each trial obtained the result of each stage. Times are
worker-seconds: two workers that train for a second each have spent two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from analysis.tables import Run

STORED, CONTINUED = "stored", "continued"
"""Origins of a result: looked up, and continued from a checkpoint. The trial itself computed all but the
first."""
FAILED, STOPPED = "failed", "early_stopped"
ASSESSMENT = "assessment"
UNFINISHED, ALL = "unfinished stages", "all"


@dataclass(frozen=True)
class StageTime:
    """Time that a stage took in all trials of a run, in worker-seconds."""

    stage: str
    trained_seconds: float = 0.0
    """Worker-seconds for computing it, in trials that completed."""
    stopped_seconds: float = 0.0
    """Worker-seconds for computing it, in trials that were stopped early."""
    failed_seconds: float = 0.0
    """Worker-seconds for computing it, in trials that failed."""
    waited_seconds: float = 0.0
    """Worker-seconds until another worker had computed it, including the time to ask for it."""
    saved_seconds: float = 0.0
    """Worker-seconds that results which were looked up took where they were computed: not spent here."""
    made: int = 0
    """Number of trials that computed it."""
    looked_up: int = 0
    """Number of trials that looked it up."""

    @property
    def spent_seconds(self) -> float:
        """Worker-seconds spent here: all but what look-ups saved."""
        return self.trained_seconds + self.stopped_seconds + self.failed_seconds + self.waited_seconds


SUMMED = tuple(field.name for field in fields(StageTime) if field.name != "stage")


@dataclass(frozen=True)
class TimeUse:
    """Where a run's time went, in worker-seconds."""

    stages: tuple[StageTime, ...]
    """Stages in the order of their latest index in a trial, the assessment last; then, if it is not zero, the
    remaining time of trials that failed or were stopped early, named `UNFINISHED`."""
    total: StageTime
    """The sum of `stages`."""
    between_seconds: float
    """Remaining worker-seconds of trials that completed: loading images, looking up, handing over."""
    n_trials: int
    n_failed: int
    n_stopped: int
    n_continued: int
    """Number of stages that continued from a checkpoint: their seconds include those before it."""
    span_seconds: float | None
    """Seconds from the first start to the last end of a trial; None unless known for every trial."""


def time_use(run: Run) -> TimeUse | None:
    """Add up where a run's time went; None if its folder does not record it (`run.stages` is empty).

    A trial's remaining time is its own seconds minus those that its stages took and waited, but at least
    zero: time from before a checkpoint was not spent in the trial that continued from it.
    """
    if run.stages.empty:
        return None
    trials, stages = run.trials, _sort_times(run)
    times = [
        _add_up(str(name), rows)
        for name, rows in sorted(stages.groupby("stage", sort=False), key=lambda each: _place(*each))
    ]
    of_stages = stages["spent_seconds"].groupby(stages["trial_id"]).sum()
    spent = trials["trial_id"].map(of_stages).fillna(0.0)
    rest = (trials["seconds"].fillna(0.0) - spent).clip(lower=0.0)
    is_failed, is_stopped = trials["status"] == FAILED, trials["status"] == STOPPED
    unfinished = StageTime(
        UNFINISHED,
        stopped_seconds=float(rest[is_stopped].sum()),
        failed_seconds=float(rest[is_failed].sum()),
    )
    if unfinished.spent_seconds > 0:
        times.append(unfinished)
    return TimeUse(
        stages=tuple(times),
        total=_total(times),
        between_seconds=float(rest[~is_failed & ~is_stopped].sum()),
        n_trials=len(trials),
        n_failed=int(is_failed.sum()),
        n_stopped=int(is_stopped.sum()),
        n_continued=int((stages["origin"] == CONTINUED).sum()),
        span_seconds=_span(trials),
    )


def _sort_times(run: Run) -> pd.DataFrame:
    """Return `run.stages` in stage order, with a column for each field of `StageTime`."""
    stages = run.stages.sort_values("stage_index", kind="stable")
    status = stages["trial_id"].map(run.trials.set_index("trial_id")["status"])
    is_stored, is_failed, is_stopped = stages["origin"] == STORED, status == FAILED, status == STOPPED
    seconds, waited = stages["seconds"].fillna(0.0), stages["waited_seconds"].fillna(0.0)
    made = seconds.mask(is_stored, 0.0)
    return stages.assign(
        trained_seconds=made.mask(is_failed | is_stopped, 0.0),
        stopped_seconds=made.where(is_stopped, 0.0),
        failed_seconds=made.where(is_failed, 0.0),
        waited_seconds=waited,
        saved_seconds=seconds.where(is_stored, 0.0),
        spent_seconds=made + waited,
        made=~is_stored,
        looked_up=is_stored,
    )


def _place(name: Any, rows: pd.DataFrame) -> tuple[bool, int]:
    return name == ASSESSMENT, int(rows["stage_index"].max())


def _add_up(name: str, rows: pd.DataFrame) -> StageTime:
    sums: dict[str, Any] = {column: sum(rows[column].tolist()) for column in SUMMED}
    return StageTime(name, **sums)


def _total(times: Sequence[StageTime]) -> StageTime:
    return StageTime(ALL, **{name: sum(getattr(each, name) for each in times) for name in SUMMED})


def _span(trials: pd.DataFrame) -> float | None:
    starts = pd.to_datetime(trials["started_at"], format="ISO8601", utc=True, errors="coerce")
    ends = starts + pd.to_timedelta(trials["seconds"], unit="s")
    if trials.empty or ends.isna().any():
        return None
    return float((ends.max() - starts.min()).total_seconds())
