"""What the page says of where the workers' time went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis import notation
from analysis.style import INK, PALETTE, Plot, layout, wrapped
from analysis.tables import Run
from analysis.time.result import StageTime, TimeUse, time_use

# Kind of time -> its name, and the colour and hatch of its bars.
KINDS: Mapping[str, tuple[str, str, str]] = {
    "trained_seconds": ("trained", PALETTE[0], ""),
    "stopped_seconds": ("of trials stopped early", PALETTE[4], "/"),
    "failed_seconds": ("of trials that failed", PALETTE[1], "x"),
    "waited_seconds": ("waited for another worker", INK, "."),
    "saved_seconds": ("saved by look-ups, not spent", PALETTE[2], "\\"),
}
HOLLOW = "rgba(0, 0, 0, 0)"
SHORTEST_SECONDS = 0.1
UNITS = (("h", 3600.0), ("min", 60.0), ("s", 1.0))
ENOUGH = 2.0  # an axis has the largest unit of which it reaches so many


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


def duration(duration_seconds: Any) -> str:
    """Write a duration in seconds (or missing) in the unit that suits it: ``"12.3 s"``, ``"3.1 min"``.

    Less than a tenth of a second, but not nothing, is ``"under 0.1 s"``.
    """
    if pd.isna(duration_seconds):
        return notation.MISSING
    seconds = float(duration_seconds)
    if seconds == 0:
        return "0 s"
    if seconds < SHORTEST_SECONDS:
        return f"under {SHORTEST_SECONDS:g} s"
    # What is rounded to sixty of a unit is one of the next.
    unit, size = next(
        (unit, size) for unit, size in UNITS if round(seconds * 60 / size, 1) >= 60 or size == 1
    )
    return f"{seconds / size:,.1f} {unit}"


def time_figure(stages: Sequence[StageTime]) -> go.Figure:
    """Draw a bar per stage, of its kinds of time one after the other; what look-ups saved comes last, hollow.

    A kind of which there is less than ``SHORTEST_SECONDS`` in all is left out.
    """
    figure, rows = go.Figure(layout=layout()), list(reversed(stages))  # plotly draws upwards
    unit, size = axis_unit(max(each.spent_seconds + each.saved_seconds for each in rows))
    for kind, (name, color, hatch) in KINDS.items():
        times = [float(getattr(each, kind)) for each in rows]
        if sum(times) < SHORTEST_SECONDS:
            continue
        face, strokes = (HOLLOW, color) if kind == "saved_seconds" else (color, "#ffffff")
        figure.add_trace(
            go.Bar(
                x=[seconds / size or None for seconds in times], y=list(range(len(rows))),
                orientation="h", width=0.62, name=name,
                marker={
                    "color": face,
                    "line": {"color": color, "width": 1},
                    "pattern": {
                        "shape": hatch, "size": 6, "solidity": 0.25, "bgcolor": face, "fgcolor": strokes,
                    },
                },
                hovertext=[_describe(each, name, seconds) for each, seconds in zip(rows, times, strict=True)],
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_xaxes(title=f"time of workers ({unit})", rangemode="tozero")
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=[wrapped(each.stage) for each in rows],
        range=[-0.6, len(rows) - 0.4], showgrid=False,
    )  # fmt: skip
    return figure


def axis_unit(longest_seconds: float) -> tuple[str, float]:
    """Choose an axis's unit for times of up to ``longest_seconds``; returns its name and its seconds."""
    return next((unit, size) for unit, size in UNITS if longest_seconds >= ENOUGH * size or size == 1)


def _describe(stage: StageTime, name: str, seconds: float) -> str:
    made = f"made in {notation.counted(stage.made, 'trial')}, looked up in {notation.count(stage.looked_up)}"
    lines = [f"<b>{escape(stage.stage)}</b>", f"{name}: {duration(seconds)}"]
    return "<br>".join([*lines, made] if stage.made or stage.looked_up else lines)


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
