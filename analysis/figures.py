"""From computed tables to plotly figures; nothing is computed here but positions and labels.

Text from files is escaped, because plotly reads labels as a little HTML. Backgrounds are transparent and the
ink is a middle grey, so that a figure can be read on light and on dark; the report's styles refine that.
"""

import math
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis import notation
from analysis.curves import LearningCurves

# Okabe and Ito's palette for colour-blind readers (2008), those first that show on black and on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot")
INK, RULE = "#7a7f87", "rgba(128, 128, 128, 0.25)"

OTHER_ENDS = {"early_stopped": "stopped early", "failed": "failed"}
VIEWS = {"validation": "val", "test": "test"}


@dataclass(frozen=True)
class Plot:
    """A figure with what is said below it; its height goes with its rows."""

    figure: go.Figure
    label: str
    caption: str
    height_rem: float
    is_wide: bool = False
    """Whether it is drawn no narrower than several panels need, and scrolls on a narrow screen."""


def pareto_figure(arms: pd.DataFrame) -> go.Figure:
    """Draw accuracy (percent) against parameters (log scale) for ``mark_front``'s rows of one data set.

    Arms without a completed trial are not drawn. There are two views, of mean validation and of mean test
    accuracy; a trace's ``meta["view"]`` says to which it belongs, and only validation is visible at first. In
    both the front is that of validation accuracy, numbered by ``front_rank``. Error bars are one sample
    standard deviation over an arm's seeds, where there are two or more.
    """
    drawn = arms[arms["n_completed"] > 0]
    figure = go.Figure(layout=layout())
    for view, split in VIEWS.items():
        seen = drawn.dropna(subset=[f"{split}_mean"])
        front = seen[seen["on_front"]].sort_values("front_rank")
        if not front.empty:
            figure.add_trace(_front_line(front, split))
        for place, run in enumerate(drawn["run"].unique()):
            for on_front in (False, True):
                rows = seen[(seen["run"] == run) & (seen["on_front"] == on_front)]
                if not rows.empty:
                    run_label = str(run) if drawn["run"].nunique() > 1 else None
                    figure.add_trace(_arm_points(rows, split, place, run_label))
        figure.update_traces(
            meta={"view": view}, visible=view == "validation", selector=lambda trace: trace.meta is None
        )
    ticks = log_ticks(drawn["parameters"].min(), drawn["parameters"].max())
    figure.update_xaxes(title="parameters (log scale)", type="log", **ticks)
    figure.update_yaxes(title="mean validation accuracy (%)", range=_accuracy_range(drawn))
    return figure


def learning_curves_figure(curves: LearningCurves) -> go.Figure:
    """Draw validation accuracy (percent) over a trial's epochs: trials thin, their mean thick, seeds a band.

    ``meta["arm"]`` is an arm's place in ``curves.labels``; arms on the front are visible at first. Stages are
    bounded by vertical lines if all trials agree on their starts, else a diamond marks each start.
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
            figure.add_trace(trace.update(meta={"arm": place}, legendgroup=str(place), visible=is_visible))
    for epoch, stage in curves.shared_starts or ():
        if epoch > 1:
            figure.add_vline(x=epoch - 0.5, line={"color": INK, "width": 1, "dash": "dot"})
        note = {"text": escape(stage), "x": epoch - 0.5, "xanchor": "left", "xshift": 4, "showarrow": False}
        figure.add_annotation(**note, y=1, yref="paper", yanchor="bottom", font_size=12)
    figure.update_xaxes(title="epoch of the trial", range=[0.5, last + 0.5], showgrid=False)
    figure.update_yaxes(title="validation accuracy (%)")
    return figure


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


def _front_line(front: pd.DataFrame, split: str) -> go.Scatter:
    """Draw what the front's arms reach with at most so many parameters: steps from point to point."""
    line = {"shape": "hv", "color": INK, "width": 1.5}
    x, y = front["parameters"].tolist(), (100 * front[f"{split}_mean"]).tolist()
    return go.Scatter(x=x, y=y, mode="lines", line=line, name="front", hoverinfo="skip", showlegend=False)


def _arm_points(rows: pd.DataFrame, split: str, place: int, run: str | None) -> go.Scatter:
    """Draw arms of one run that are all on the front (full and numbered) or all off it (hollow)."""
    on_front = bool(rows["on_front"].iloc[0])
    color, symbol = PALETTE[place % len(PALETTE)], SYMBOLS[place % len(SYMBOLS)]
    name = "on the front (by validation)" if on_front else "off the front"
    return go.Scatter(
        x=rows["parameters"].tolist(),
        y=(100 * rows[f"{split}_mean"]).tolist(),
        error_y={
            "array": [None if pd.isna(std) else 100 * std for std in rows[f"{split}_std"]],
            "thickness": 1,
            "width": 3,
        },
        mode="markers+text" if on_front else "markers",
        marker={
            "color": color,
            "size": 10,
            "symbol": symbol if on_front else f"{symbol}-open",
            "line": {"color": color, "width": 2},
        },
        text=[str(rank) for rank in rows["front_rank"]] if on_front else None,
        textposition="top left",
        hovertext=[_describe_arm(arm) for arm in rows.to_dict("records")],
        hovertemplate="%{hovertext}<extra></extra>",
        name=name if run is None else f"{escape(run)}: {name}",
    )


def _describe_arm(arm: dict[Any, Any]) -> str:
    others = [f"{arm[f'n_{status}']} {text}" for status, text in OTHER_ENDS.items() if arm[f"n_{status}"]]
    lines = [
        f"<b>{escape(arm['label'])}</b>",
        ", ".join([f"n = {notation.counted(arm['n_completed'], 'completed trial')}", *others]),
        f"{notation.count(arm['parameters'])} parameters, {notation.count(arm['macs'])} MACs",
        f"validation {notation.percent_spread(arm['val_mean'], arm['val_std'])}",
        f"test {notation.percent_spread(arm['test_mean'], arm['test_std'])}",
        *(escape(line) for line in arm["config"].splitlines()),
    ]
    return "<br>".join(lines)


def log_ticks(low: int, high: int) -> dict[str, Any]:
    """Place round ticks over a log axis from ``low`` to ``high`` parameters, with some room on both sides."""
    room = max(0.06, 0.09 * math.log10(high / low))
    start, end = math.log10(low) - room, math.log10(high) + room
    if end - start > 1:
        decades = range(math.floor(start), math.ceil(end))
        candidates = [step * 10**decade for decade in decades for step in (1, 2, 5) if decade >= 0]
    else:  # so short that even steps look even
        rough = max((10**end - 10**start) / 5, 1)
        power = 10 ** math.floor(math.log10(rough))
        step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough)
        candidates = list(range(step, math.ceil(10**end), step))
    ticks = [tick for tick in candidates if start <= math.log10(tick) <= end]
    return {"range": [start, end], "tickvals": ticks, "ticktext": [notation.count(tick) for tick in ticks]}


def _accuracy_range(arms: pd.DataFrame) -> list[float]:
    """One range of percent for both views, with error bars, so that switching does not move the axis."""
    means = pd.concat([arms[f"{split}_mean"] for split in VIEWS.values()])
    bars = pd.concat([arms[f"{split}_std"] for split in VIEWS.values()]).fillna(0)
    low, high = 100 * (means - bars).min(), 100 * (means + bars).max()
    room = max(0.08 * (high - low), 0.1)
    return [low - room, high + 1.5 * room]


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
