"""The page's text on where the workers' time went."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis import notation
from analysis.style import Plot
from analysis.tables import Run
from analysis.time.figure import KINDS, duration, time_figure
from analysis.time.result import StageTime, TimeUse, time_use


@dataclass(frozen=True)
class TimeRow:
    """A stage in the table, with its times as text."""

    stage: str
    made: int
    looked_up: int
    times: Sequence[str]
    """Time of each kind, in the order of `TimePart.headings`."""
    is_total: bool = False


@dataclass(frozen=True)
class TimePart:
    """Where a run's time went, on the page."""

    title: str
    finding: str
    bars: Plot
    headings: Sequence[str]
    """Headings of the columns of times."""
    rows: Sequence[TimeRow]


def lay_out_time(run: Run, place: str) -> TimePart | None:
    """Describe in words and a figure where a run's time went; None if its folder does not record it.

    `place` distinguishes it from other runs in headings.
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
    """State what time was spent on training and waiting, saved and lost."""
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
        "Trained: computing a stage’s result, in trials that completed; the assessment is the final "
        "evaluation of the net.",
    ]
    if use.n_stopped or use.n_failed:
        sentences.append(
            "Time in trials that were stopped early or failed is counted separately, and what they spent "
            "beyond the stages they finished has a row of its own."
        )
    sentences.append("Waited: until another worker had computed the same result.")
    if total.looked_up:
        sentences.append(
            "Saved, hollow: time that results which were looked up took to compute elsewhere; not spent here."
        )
    if use.n_continued:
        sentences.append(
            f"{notation.counted(use.n_continued, 'stage')} continued from a checkpoint and "
            f"{'includes' if use.n_continued == 1 else 'include'} the time before it."
        )
    sentences.append(
        f"Not drawn: {duration(use.between_seconds)} that completed trials spent outside their stages, on "
        "loading, looking up and handing over."
    )
    return " ".join(sentences)
