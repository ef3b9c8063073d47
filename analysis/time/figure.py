"""The figure of where a run's time went."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis import notation
from analysis.style import INK, PALETTE, layout, wrapped
from analysis.time.result import StageTime

HOLLOW = "rgba(0, 0, 0, 0)"


SHORTEST_SECONDS = 0.1


UNITS = (("h", 3600.0), ("min", 60.0), ("s", 1.0))


ENOUGH = 2.0  # an axis uses the largest unit of which it spans at least this many


def time_figure(stages: Sequence[StageTime]) -> go.Figure:
    """Draw a stacked bar per stage, one segment per kind of time; time saved by look-ups is last and hollow.

    A kind with less than `SHORTEST_SECONDS` in total is left out.
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
    """Choose an axis's unit for times of up to `longest_seconds`; returns its name and its seconds."""
    return next((unit, size) for unit, size in UNITS if longest_seconds >= ENOUGH * size or size == 1)


def _describe(stage: StageTime, name: str, seconds: float) -> str:
    made = (
        f"computed in {notation.counted(stage.made, 'trial')}, looked up in {notation.count(stage.looked_up)}"
    )
    lines = [f"<b>{escape(stage.stage)}</b>", f"{name}: {duration(seconds)}"]
    return "<br>".join([*lines, made] if stage.made or stage.looked_up else lines)


# Kind of time -> its name, and the colour and hatch of its bars.
KINDS: Mapping[str, tuple[str, str, str]] = {
    "trained_seconds": ("trained", PALETTE[0], ""),
    "stopped_seconds": ("in trials stopped early", PALETTE[4], "/"),
    "failed_seconds": ("in failed trials", PALETTE[1], "x"),
    "waited_seconds": ("waited for another worker", INK, "."),
    "saved_seconds": ("saved by look-ups, not spent", PALETTE[2], "\\"),
}


def duration(duration_seconds: Any) -> str:
    """Write a duration in seconds (or missing) in a suitable unit: `"12.3 s"`, `"3.1 min"`.

    Less than a tenth of a second, but more than zero, is `"under 0.1 s"`.
    """
    if pd.isna(duration_seconds):
        return notation.MISSING
    seconds = float(duration_seconds)
    if seconds == 0:
        return "0 s"
    if seconds < SHORTEST_SECONDS:
        return f"under {SHORTEST_SECONDS:g} s"
    # What rounds to sixty of a unit is shown as one of the next.
    unit, size = next(
        (unit, size) for unit, size in UNITS if round(seconds * 60 / size, 1) >= 60 or size == 1
    )
    return f"{seconds / size:,.1f} {unit}"
