"""Figures of learning curves: of arms, and of one trial."""

from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis import notation
from analysis.course.curves import LearningCurves
from analysis.style import DASHES, INK, PALETTE, layout

TRIAL_SERIES = {
    "validation": ("val_accuracy", PALETTE[0], "solid"),
    "training": ("train_accuracy", INK, "dot"),
    "submodel A, validation": ("val_accuracy_a", PALETTE[1], "dash"),
    "submodel B, validation": ("val_accuracy_b", PALETTE[2], "dashdot"),
}
"""Name -> column of `Run.epochs`, colour and dash, of a trial's curves."""


def learning_curves_figure(curves: LearningCurves) -> go.Figure:
    """Draw validation accuracy (percent) over a trial's epochs: trials thin, their mean thick, seeds a band.

    `meta["arm"]` is an arm's index in `curves.labels`, `meta["row"]` its index in the table of arms; arms on
    the front are visible at first. Vertical lines separate the stages if all trials agree on their starts,
    else a diamond marks each start.
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
    """Draw one trial's accuracies (percent) over its epochs, with its stages separated.

    `epochs` are its rows of `Run.epochs`. Traces: validation, training, and, where a stage has two heads, the
    validation accuracy of submodels A and B; diamonds mark the epochs whose weights a stage keeps.
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
    """Name the stages that begin at these epochs, and draw lines between them."""
    for epoch, stage in starts:
        if epoch > 1:
            figure.add_vline(x=epoch - 0.5, line={"color": INK, "width": 1, "dash": "dot"})
        note = {"text": escape(stage), "x": epoch - 0.5, "xanchor": "left", "xshift": 4, "showarrow": False}
        figure.add_annotation(**note, y=1, yref="paper", yanchor="bottom", font_size=12)


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
    """Draw ± one standard deviation over seeds around the mean, where there are two or more."""
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
