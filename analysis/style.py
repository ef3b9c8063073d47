"""Style that all plotly figures share; nothing is computed here but positions and labels.

Text from files is escaped, because plotly interprets a subset of HTML in labels. Backgrounds are transparent
and the ink is a mid grey, so that figures are readable on light and dark; the report's CSS refines that.
"""

import math
import textwrap
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from analysis import notation

# Okabe and Ito's palette for colour-blind readers (2008); colours visible on black and white come first.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot")
INK, RULE = "#7a7f87", "rgba(128, 128, 128, 0.25)"


@dataclass(frozen=True)
class Plot:
    """A figure with its label, caption and height, which depends on the number of rows."""

    figure: go.Figure
    label: str
    caption: str
    height_rem: float
    is_wide: bool = False
    """Whether the figure keeps the width that several panels need, and scrolls on a narrow screen."""


def layout() -> dict[str, Any]:
    """Return the layout settings that all figures share."""
    axis = {"automargin": True, "gridcolor": RULE, "linecolor": INK, "zeroline": False}
    return {
        "template": "none",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "margin": {"l": 8, "r": 8, "t": 24, "b": 8},
        "xaxis": {**axis, "showline": True, "ticks": "outside", "tickcolor": INK},
        "yaxis": {**axis, "ticksuffix": " "},
        "legend": {"orientation": "h", "x": 0, "y": 1.06, "yanchor": "bottom", "bgcolor": "rgba(0, 0, 0, 0)"},
        "hoverlabel": {"bgcolor": "#22262d", "bordercolor": "#22262d", "align": "left"}
        | {"font": {"color": "#f4f4f2", "size": 13}},
        "hovermode": "closest",
    }


def wrapped(text: str, width: int = 28) -> str:
    """Escape a string from a file and break it into lines of at most `width` characters, for plotly."""
    return "<br>".join(escape(line) for line in textwrap.wrap(text, width)) or escape(text)


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Return range and round ticks of a log axis from `low` to `high`, with a margin on both sides."""
    room = max(0.06, 0.09 * math.log10(high / low))
    start, end = math.log10(low) - room, math.log10(high) + room
    least = 1 if low >= 1 else 0  # counts have no fractions
    if end - start > 1:
        decades = range(math.floor(start), math.ceil(end))
        candidates = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    else:  # a range so short that linear steps look even
        rough = max((10**end - 10**start) / 5, least)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough)
        candidates = [number * step for number in range(1, math.ceil(10**end / step) + 1)]
    ticks = [tick for tick in candidates if tick >= least and start <= math.log10(tick) <= end]
    texts = [notation.count(tick) if tick >= 100 else f"{tick:.3g}" for tick in ticks]
    return {"range": [start, end], "tickvals": ticks, "ticktext": texts}
