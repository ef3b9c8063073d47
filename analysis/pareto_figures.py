"""Accuracy against a cost as a plotly figure; style and escaping as in `figures`."""

from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis import notation
from analysis.figures import INK, PALETTE, SYMBOLS, layout, log_ticks, wrapped
from analysis.pareto import Cost
from analysis.published import PublishedPoint

OTHER_ENDS = {"early_stopped": "stopped early", "failed": "failed"}
VIEWS = {"validation": "val", "test": "test"}
PUBLISHED = "published (by others, on the test set)"


def pareto_figure(
    arms: pd.DataFrame, cost: Cost = "parameters", published: Sequence[PublishedPoint] = ()
) -> go.Figure:
    """Draw accuracy (percent) against a cost (log scale) for ``mark_front``'s rows of one data set.

    ``arms`` are marked by the same cost. Arms without a completed trial are not drawn. There are two views,
    of mean validation and of mean test accuracy; a trace's ``meta["view"]`` says to which it belongs, and
    only validation is visible at first; ``layout.meta["views"]`` has what else changes with the view, as
    arguments of plotly's relayout. In both the front is that of validation accuracy, numbered by
    ``front_rank``. Error bars are one sample standard deviation over an arm's seeds, where there are two or
    more. ``published`` points, against parameters only, are test accuracies and in that view alone.
    """
    drawn = arms[(arms["n_completed"] > 0) & arms[cost].notna()]
    figure = go.Figure(layout=layout())
    if published:  # first, so that it is drawn below the arms
        figure.add_trace(_published_points(published).update(meta={"view": "test"}, visible=False))
    for view, split in VIEWS.items():
        seen = drawn.dropna(subset=[f"{split}_mean"])
        front = seen[seen["on_front"]].sort_values("front_rank")
        if not front.empty:
            figure.add_trace(_front_line(front, split, cost))
        for place, run in enumerate(drawn["run"].unique()):
            for on_front in (False, True):
                rows = seen[(seen["run"] == run) & (seen["on_front"] == on_front)]
                if not rows.empty:
                    run_label = str(run) if drawn["run"].nunique() > 1 else None
                    figure.add_trace(_arm_points(rows, split, cost, place, run_label))
        figure.update_traces(
            meta={"view": view}, visible=view == "validation", selector=lambda trace: trace.meta is None
        )
    x, y = _axes(drawn, cost, ())
    figure.update_xaxes(title=f"{notation.objective(cost)} (log scale)", type="log", **x)
    figure.update_yaxes(title="mean validation accuracy (%)", range=y)
    views: dict[str, dict[str, Any]] = {
        view: {"yaxis.title.text": f"mean {view} accuracy (%)"} for view in VIEWS
    }
    if published:  # else both views have the same axes, and switching does not move them
        for view, points in (("validation", ()), ("test", tuple(published))):
            x, y = _axes(drawn, cost, points)
            views[view] |= {f"xaxis.{name}": value for name, value in x.items()} | {"yaxis.range": y}
    return figure.update_layout(meta={"views": views})


def _front_line(front: pd.DataFrame, split: str, cost: Cost) -> go.Scatter:
    """Draw what the front's arms reach with at most so much cost: steps from point to point."""
    line = {"shape": "hv", "color": INK, "width": 1.5}
    x, y = front[cost].tolist(), (100 * front[f"{split}_mean"]).tolist()
    return go.Scatter(x=x, y=y, mode="lines", line=line, name="front", hoverinfo="skip", showlegend=False)


def _arm_points(rows: pd.DataFrame, split: str, cost: Cost, place: int, run: str | None) -> go.Scatter:
    """Draw arms of one run that are all on the front (full and numbered) or all off it (hollow)."""
    on_front = bool(rows["on_front"].iloc[0])
    color, symbol = PALETTE[place % len(PALETTE)], SYMBOLS[place % len(SYMBOLS)]
    name = "on the front (by validation)" if on_front else "off the front"
    return go.Scatter(
        x=rows[cost].tolist(),
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
        hovertext=[_describe_arm(arm, cost) for arm in rows.to_dict("records")],
        hovertemplate="%{hovertext}<extra></extra>",
        name=name if run is None else f"{escape(run)}: {name}",
    )


def _published_points(points: Sequence[PublishedPoint]) -> go.Scatter:
    return go.Scatter(
        x=[point.parameters for point in points],
        y=[100 * point.accuracy for point in points],
        mode="markers",
        marker={"color": INK, "size": 9, "symbol": "star-open", "line": {"color": INK, "width": 1.2}},
        hovertext=[_describe_published(point) for point in points],
        hovertemplate="%{hovertext}<extra></extra>",
        name=PUBLISHED,
        legendrank=2_000,  # after the arms
    )


def _describe_arm(arm: dict[Any, Any], cost: Cost) -> str:
    others = [f"{arm[f'n_{status}']} {text}" for status, text in OTHER_ENDS.items() if arm[f"n_{status}"]]
    lines = [
        f"<b>{escape(arm['label'])}</b>",
        ", ".join([f"n = {notation.counted(arm['n_completed'], 'completed trial')}", *others]),
        f"{notation.count(arm['parameters'])} parameters, {notation.count(arm['macs'])} MACs",
        *([] if cost == "parameters" else [f"{notation.count(arm[cost])} {notation.objective(cost)}"]),
        f"validation {notation.percent_spread(arm['val_mean'], arm['val_std'])}",
        f"test {notation.percent_spread(arm['test_mean'], arm['test_std'])}",
        *(escape(line) for line in arm["config"].splitlines()),
    ]
    return "<br>".join(lines)


def _describe_published(point: PublishedPoint) -> str:
    lines = [
        f"<b>{escape(point.model)}</b>, published",
        f"{notation.count(point.parameters)} parameters",
        f"test {notation.percent(point.accuracy)}",
        wrapped(f"measured: {point.measured}", 40),
        wrapped(f"source: {point.source}", 40),
        f"trust {point.trust} (explained below)",
    ]
    return "<br>".join(lines)


def _axes(
    arms: pd.DataFrame, cost: Cost, published: Sequence[PublishedPoint]
) -> tuple[dict[str, Any], list[float]]:
    """Return the x axis with its ticks, and the range of percent, that hold arms, bars and points."""
    sizes = [*arms[cost], *(point.parameters for point in published if point.parameters is not None)]
    means = pd.concat([arms[f"{split}_mean"] for split in VIEWS.values()])
    bars = pd.concat([arms[f"{split}_std"] for split in VIEWS.values()]).fillna(0)
    accuracies = [100 * point.accuracy for point in published]
    low = min([100 * (means - bars).min(), *accuracies])
    high = max([100 * (means + bars).max(), *accuracies])
    room = max(0.08 * (high - low), 0.1)
    return log_ticks(min(sizes), max(sizes)), [low - room, high + 1.5 * room]
