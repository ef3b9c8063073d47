"""What the page says of where the workers' time went."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis import notation
from analysis.style import Plot
from analysis.tables import Run
from analysis.time.figure import KINDS, duration, time_figure
from analysis.time.result import StageTime, TimeUse, time_use


@dataclass(frozen=True)
class TimeRow:
    """A stage in the table, its times as they are written."""

    stage: str
    made: int
    looked_up: int
    times: Sequence[str]
    """By kind, in the order of ``TimePart.headings``."""
    is_total: bool = False


@dataclass(frozen=True)
class TimePart:
    """Where a run's time went, on the page."""

    title: str
    finding: str
    bars: Plot
    headings: Sequence[str]
    """Of the columns of times."""
    rows: Sequence[TimeRow]


def lay_out_time(run: Run, place: str) -> TimePart | None:
    """Put into words and a figure where a run's time went; None if its folder does not say.

    ``place`` tells it from others in headings.
    """
    use = time_use(run)
    if use is None:
        return None
    bars = Plot(
        time_figure(use.stages),
        "Time of the workers, by stage and by what became of it; the table has the numbers",
        _caption(use),
        max(14.0, 8 + 2.4 * len(use.stages)),
    )
    rows = [_row(each) for each in use.stages]
    return TimePart(
        title=f"Where the time went{place}",
        finding=_find(use),
        bars=bars,
        headings=("Trained", "Stopped early", "Failed", "Waited", "Saved by look-ups"),
        rows=[*rows, _row(use.total, is_total=True)],
    )


def _row(stage: StageTime, is_total: bool = False) -> TimeRow:
    times = [duration(getattr(stage, kind)) for kind in KINDS]
    return TimeRow(stage.stage, stage.made, stage.looked_up, times, is_total)


def _find(use: TimeUse) -> str:
    """Say what was trained, saved, waited and lost."""
    total, results = use.total, use.total.made + use.total.looked_up
    saved = (
        f"look-ups saved {duration(total.saved_seconds)} more ({notation.count(total.looked_up)} of "
        f"{notation.counted(results, 'result')})"
        if total.looked_up
        else "no result was looked up"
    )
    took = [f"Waiting for another worker took {duration(total.waited_seconds)}"]
    if use.n_failed:
        trials = notation.counted(use.n_failed, "failed trial")
        took.append(f"{trials} took {duration(total.failed_seconds)}")
    if use.n_stopped:
        trials = notation.counted(use.n_stopped, "early-stopped trial")
        took.append(f"{trials} took {duration(total.stopped_seconds)}")
    sentences = [
        f"Workers trained for {duration(total.trained_seconds)}; {saved}.",
        f"{notation.listed(took)}{'' if use.n_failed else '; no trial failed'}.",
    ]
    if use.span_seconds is not None:
        span = duration(use.span_seconds)
        trials = "The trial" if use.n_trials == 1 else f"The {notation.counted(use.n_trials, 'trial')}"
        sentences.append(f"{trials} ran within {span}, from the first start to the last end.")
    return " ".join(sentences)


def _caption(use: TimeUse) -> str:
    total = use.total
    sentences = [
        "Worker-seconds, summed over trials: two workers that are busy for a second each spend two.",
        "Trained: making a stage’s result, in trials that completed; the assessment is the last look at the "
        "final net.",
    ]
    if use.n_stopped or use.n_failed:
        sentences.append(
            "In trials that were stopped early or failed the same time counts as theirs, and what they spent "
            "beyond the stages they ended stands in a row of its own."
        )
    sentences.append("Waited: until another worker had made the same result.")
    if total.looked_up:
        sentences.append(
            "Saved, hollow: what the results that were looked up took where they were made; not spent here."
        )
    if use.n_continued:
        sentences.append(
            f"{notation.counted(use.n_continued, 'stage')} went on from a checkpoint, and "
            f"{'counts' if use.n_continued == 1 else 'count'} with the time before it."
        )
    sentences.append(
        f"Not drawn: {duration(use.between_seconds)} of completed trials outside their stages, for loading, "
        "looking up and handing over."
    )
    return " ".join(sentences)
