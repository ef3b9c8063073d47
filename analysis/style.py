"""From computed tables to plotly figures; nothing is computed here but positions and labels.

Text from files is escaped, because plotly reads labels as a little HTML. Backgrounds are transparent and the
ink is a middle grey, so that a figure can be read on light and on dark; the report's styles refine that.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis import notation
from analysis.course.curves import LearningCurves

# Okabe and Ito's palette for colour-blind readers (2008), those first that show on black and on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot")
INK, RULE = "#7a7f87", "rgba(128, 128, 128, 0.25)"
TRIAL_SERIES = {
    "validation": ("val_accuracy", PALETTE[0], "solid"),
    "training": ("train_accuracy", INK, "dot"),
    "submodel A, validation": ("val_accuracy_a", PALETTE[1], "dash"),
    "submodel B, validation": ("val_accuracy_b", PALETTE[2], "dashdot"),
}
"""Name -> column of ``Run.epochs``, colour and dash, of a trial's curves."""


@dataclass(frozen=True)
class Plot:
    """A figure with what is said below it; its height goes with its rows."""

    figure: go.Figure
    label: str
    caption: str
    height_rem: float
    is_wide: bool = False
    """Whether it is drawn no narrower than several panels need, and scrolls on a narrow screen."""


def learning_curves_figure(curves: LearningCurves) -> go.Figure:
    """Draw validation accuracy (percent) over a trial's epochs: trials thin, their mean thick, seeds a band.

    ``meta["arm"]`` is an arm's place in ``curves.labels``, ``meta["row"]`` in the table of arms; arms on the
    front are visible at first. Stages are bounded by vertical lines if all trials agree on their starts, else
    a diamond marks each start.
    """
    figure, last = go.Figure(layout=layout()), max(curves.trials["trial_epoch"], default=1)
    for place, label in enumerate(curves.labels):
        rows = [table[table["label"] == label] for table in (curves.trials, curves.means, curves.starts)]
        style = {"color": PALETTE[place % len(PALETTE)], "dash": DASHES[place // len(PALETTE) % len(DASHES)]}
        traces = [_trial_lines(rows[0], style), _seed_band(rows[1], style), _mean_line(rows[1], label, style)]
        if curves.shared_starts is None:
            traces.append(_start_marks(rows[2], style))
        for trace in traces:
            is_visible = place < curves.on_front
            meta = {"arm": place, "row": curves.rows[place]}
            figure.add_trace(trace.update(meta=meta, legendgroup=str(place), visible=is_visible))
    _bound_stages(figure, curves.shared_starts or ())
    figure.update_xaxes(title="epoch of the trial", range=[0.5, last + 0.5], showgrid=False)
    figure.update_yaxes(title="validation accuracy (%)")
    return figure


def trial_figure(epochs: pd.DataFrame) -> go.Figure:
    """Draw one trial's accuracies (percent) over its epochs, its stages bounded.

    ``epochs`` are its rows of ``Run.epochs``. Traces: validation, training, and, where a stage has two heads,
    the validation accuracy of submodels A and B; diamonds mark the epochs whose weights a stage keeps.
    """
    rows = epochs.sort_values("trial_epoch")
    figure, x = go.Figure(layout=layout()), rows["trial_epoch"].tolist()
    for name, (column, color, dash) in TRIAL_SERIES.items():
        if len(rows) and rows[column].isna().all():
            continue
        figure.add_trace(
            go.Scatter(
                x=x, y=(100 * rows[column]).tolist(), mode="lines", name=name,
                line={"color": color, "dash": dash, "width": 2 if name == "validation" else 1.5},
                hovertemplate="epoch %{x}: %{y:.2f}%<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    kept = rows[rows["is_kept"]]
    figure.add_trace(
        go.Scatter(
            x=kept["trial_epoch"].tolist(), y=(100 * kept["val_accuracy"]).tolist(), mode="markers",
            name="kept", marker={"color": PALETTE[0], "symbol": "diamond", "size": 9},
            hovertemplate="epoch %{x} is kept: %{y:.2f}%<extra></extra>",
        )
    )  # fmt: skip
    starts = rows.drop_duplicates("stage_index")
    _bound_stages(figure, list(zip(starts["trial_epoch"].astype(int), starts["stage"], strict=True)))
    figure.update_xaxes(title="epoch of the trial", showgrid=False, rangemode="tozero")
    figure.update_yaxes(title="accuracy (%)")
    return figure


def _bound_stages(figure: go.Figure, starts: Sequence[tuple[int, str]]) -> None:
    """Name the stages that begin with these epochs, and draw lines between them."""
    for epoch, stage in starts:
        if epoch > 1:
            figure.add_vline(x=epoch - 0.5, line={"color": INK, "width": 1, "dash": "dot"})
        note = {"text": escape(stage), "x": epoch - 0.5, "xanchor": "left", "xshift": 4, "showarrow": False}
        figure.add_annotation(**note, y=1, yref="paper", yanchor="bottom", font_size=12)


def layout() -> dict[str, Any]:
    """Return what all figures have in common."""
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
    """Escape a text from a file and break it into lines of at most ``width`` characters, for plotly."""
    return "<br>".join(escape(line) for line in textwrap.wrap(text, width)) or escape(text)


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Place round ticks over a log axis from ``low`` to ``high``, with some room on both sides."""
    room = max(0.06, 0.09 * math.log10(high / low))
    start, end = math.log10(low) - room, math.log10(high) + room
    least = 1 if low >= 1 else 0  # counts have no fractions
    if end - start > 1:
        decades = range(math.floor(start), math.ceil(end))
        candidates = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    else:  # so short that even steps look even
        rough = max((10**end - 10**start) / 5, least)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough)
        candidates = [number * step for number in range(1, math.ceil(10**end / step) + 1)]
    ticks = [tick for tick in candidates if tick >= least and start <= math.log10(tick) <= end]
    texts = [notation.count(tick) if tick >= 100 else f"{tick:.3g}" for tick in ticks]
    return {"range": [start, end], "tickvals": ticks, "ticktext": texts}


def _trial_lines(rows: pd.DataFrame, style: dict[str, str]) -> go.Scatter:
    """Draw all trials of an arm as one trace of thin lines, with a gap after each trial."""
    x: list[int | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for _, trial in rows.groupby(["run", "trial_id"]):
        x += [*trial["trial_epoch"].astype(int), None]
        y += [*(100 * trial["val_accuracy"]), None]
        texts += [*(_describe_epoch(epoch) for epoch in trial.to_dict("records")), ""]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={**style, "width": 1},
        opacity=0.35,
        showlegend=False,
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _seed_band(rows: pd.DataFrame, style: dict[str, str]) -> go.Scatter:
    """Draw one standard deviation over seeds on both sides of the mean, where there are two or more."""
    known = rows.dropna(subset=["deviation"])
    x = known["trial_epoch"].tolist()
    high = (100 * (known["val_accuracy"] + known["deviation"])).tolist()
    low = (100 * (known["val_accuracy"] - known["deviation"])).tolist()
    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=style["color"],
        opacity=0.18,
        showlegend=False,
        hoverinfo="skip",
    )


def _mean_line(rows: pd.DataFrame, label: str, style: dict[str, str]) -> go.Scatter:
    texts = [f"{escape(label)}<br>mean of n = {notation.counted(n, 'seed')}" for n in rows["n"]]
    return go.Scatter(
        x=rows["trial_epoch"].tolist(),
        y=(100 * rows["val_accuracy"]).tolist(),
        mode="lines",
        name=escape(label),
        line={**style, "width": 2.5},
        hovertext=texts,
        hovertemplate="%{hovertext}: %{y:.2f}%<extra></extra>",
    )


def _start_marks(rows: pd.DataFrame, style: dict[str, str]) -> go.Scatter:
    later = rows[rows["stage_index"] > 0]
    return go.Scatter(
        x=later["trial_epoch"].tolist(),
        y=(100 * later["val_accuracy"]).tolist(),
        mode="markers",
        showlegend=False,
        marker={"color": style["color"], "symbol": "diamond-open", "size": 8},
        hovertext=[f"{_describe_epoch(epoch)}<br>stage begins" for epoch in later.to_dict("records")],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _describe_epoch(epoch: dict[Any, Any]) -> str:
    fold = "" if pd.isna(epoch["fold"]) else f", fold {epoch['fold']}"
    place = f"seed {epoch['seed']}{fold}, epoch {epoch['trial_epoch']}, stage {escape(epoch['stage'])}"
    return f"{escape(epoch['label'])}<br>{place}<br>{notation.percent(epoch['val_accuracy'])}"
