"""Parallel coordinates of a search's trials as a plotly figure; style and escaping as in `style`.

plotly's own parallel coordinates need WebGL, which many machines lack, so these are plain lines.
"""

import math
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis import notation
from analysis.parallel.result import BANDS, Floats, ParallelAxis, PlacedTrial, SideBySide
from analysis.style import INK, layout

# From matplotlib's plasma, ordered by lightness: the colours that are visible on black and on white.
BAND_COLORS = ("#7454cf", "#a340bd", "#cf4d86", "#e86a41", "#ef9020")
BAND_WIDTHS = (0.9, 1.1, 1.4, 1.8, 2.4)
BAND_OPACITIES = (0.7, 0.7, 0.8, 0.9, 1.0)
MANY_TRIALS = 60  # above, lines are thinner
SPREAD = 0.14  # how far trials are spread to each side if all have the same value
TITLES = 1.16  # height at which the names of axes begin
TITLE_WIDTH = 22  # characters of an axis' name
HALO = "0 0 3px var(--paper, transparent), 0 0 3px var(--paper, transparent)"  # lines pass behind the text


def parallel_figure(found: SideBySide) -> go.Figure:
    """Draw a line for each trial through its position on each axis, the most accurate last.

    One trace per band of accuracy. Trials with the same value on an axis are spread out there, the more
    accurate higher, so that their lines can be told apart.
    """
    figure = go.Figure(layout=layout())
    figure.add_trace(_axis_lines(found))
    figure.add_trace(_tick_marks(found))
    places = spread(found.positions)
    for band in range(BANDS):
        members = [row for row, trial in enumerate(found.trials) if trial.band == band]
        if members:
            figure.add_trace(_band_lines(found, places, band, members))
    for place, axis in enumerate(found.axes):
        figure.add_annotation(_title(place, axis, len(found.axes)))
        for tick, text in zip(axis.ticks, axis.texts, strict=True):
            figure.add_annotation(_tick_text(place, tick, text))
    last = len(found.axes) - 1
    figure.update_xaxes(visible=False, range=[-0.01 * last, 1.003 * last], fixedrange=True)
    figure.update_yaxes(visible=False, range=[-SPREAD, TITLES + 0.08 * _levels(len(found.axes))])
    figure.update_yaxes(fixedrange=True)
    return figure.update_layout(
        margin={"l": 8, "r": 60, "t": 24, "b": 8},
        legend={
            "title": {"text": "validation accuracy", "font": {"size": 13}},
            "traceorder": "reversed",
            "y": 1,
        },
    )


def spread(positions: Floats) -> Floats:
    """Spread out equal positions, [n trials, n axes], later rows upwards; others keep their order.

    Where there is room, the width of the spread shows how many trials share the value.
    """
    moved = positions.copy()
    for column in moved.T:  # views
        distinct, groups, sizes = np.unique(column, return_inverse=True, return_counts=True)
        gaps = np.concatenate([[np.inf], np.diff(distinct), [np.inf]])
        for group, size in enumerate(sizes.tolist()):
            if size > 1:
                room = 0.4 * float(min(gaps[group], gaps[group + 1]))
                reach = min(SPREAD * (size - 1) / (len(column) - 1), room)
                column[groups == group] += np.linspace(-reach, reach, size)
    return moved


def _band_lines(found: SideBySide, places: Floats, band: int, members: list[int]) -> go.Scatter:
    """Draw a band's trials as one trace, with a gap after each."""
    x: list[int | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for row in members:
        x += [*range(len(found.axes)), None]
        y += [*places[row].round(4).tolist(), None]
        texts += [*_describe(found, found.trials[row]), ""]
    thinner = min(1.0, max(0.6, math.sqrt(MANY_TRIALS / len(found.trials))))
    ends = [notation.percent(found.trials[row].accuracy) for row in (members[0], members[-1])]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": BAND_COLORS[band], "width": round(thinner * BAND_WIDTHS[band], 2)},
        opacity=BAND_OPACITIES[band],
        name=" to ".join(dict.fromkeys(ends)),
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _axis_lines(found: SideBySide) -> go.Scatter:
    x = [place for number in range(len(found.axes)) for place in (number, number, None)]
    y = [end for axis in found.axes for end in (axis.low, 1, None)]
    line = {"color": INK, "width": 1}
    return go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _tick_marks(found: SideBySide) -> go.Scatter:
    ticks = [(place, tick) for place, axis in enumerate(found.axes) for tick in axis.ticks]
    return go.Scatter(
        x=[place for place, _ in ticks],
        y=[tick for _, tick in ticks],
        mode="markers",
        marker={"symbol": "line-ew-open", "size": 7, "color": INK, "line": {"width": 1}},
        hoverinfo="skip",
        showlegend=False,
    )


def _title(place: int, axis: ParallelAxis, n_axes: int) -> dict[str, Any]:
    """Place an axis' name above it; neighbouring names differ in height, so that they do not overlap."""
    is_first, is_last = place == 0, place == n_axes - 1
    return {
        "text": f"<b>{escape(_shorten(axis.name))}</b>",
        "x": place,
        "y": TITLES + 0.08 * (place % _levels(n_axes)),
        "xanchor": "left" if is_first else "right" if is_last else "center",
        "xshift": 56 if is_last else -4 if is_first else 0,
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 12, "shadow": HALO},
    }


def _tick_text(place: int, tick: float, text: str) -> dict[str, Any]:
    return {
        "text": "<b>–</b>" if text == notation.MISSING else escape(text),
        "x": place,
        "y": tick,
        "xanchor": "left",
        "xshift": 4,
        "showarrow": False,
        "font": {"size": 11, "shadow": HALO},
    }


def _levels(n_axes: int) -> int:
    return 1 if n_axes <= 4 else 2 if n_axes <= 10 else 3


def _shorten(name: str) -> str:
    half = TITLE_WIDTH // 2
    return name if len(name) <= TITLE_WIDTH else f"{name[: half - 1]}…{name[-half:]}"


def _describe(found: SideBySide, trial: PlacedTrial) -> list[str]:
    """Describe a trial at each axis: its setting there; at the last two axes, all its settings."""
    head = [
        f"<b>{escape(trial.arm)}</b>",
        f"validation {notation.percent(trial.accuracy)}",
        f"{notation.count(trial.parameters)} parameters",
    ]
    lines = [
        f"{escape(axis.name)} = {escape(value)}"
        for axis, value in zip(found.axes[:-2], trial.settings, strict=True)
    ]
    whole = "<br>".join(
        [
            *head,
            *(line for line, value in zip(lines, trial.settings, strict=True) if value != notation.MISSING),
        ]
    )
    return [*("<br>".join([*head, line]) for line in lines), whole, whole]
