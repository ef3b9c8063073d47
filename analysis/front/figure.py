"""Accuracy against a cost as a layered plotly figure; style and escaping as in `style`.

A trace's `meta` describes it, so that a page can show another cost or view of the same figure: its `layer`,
what its `customdata` indexes (`of`: arms or trials, by row), and the views and costs that it is for (`views`,
`costs`; all if absent). `layout.meta` has the axes: for each view `y`, and `x` by cost.
"""

from collections.abc import Sequence
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy import special

from analysis import notation
from analysis.front.published import PublishedPoint
from analysis.front.result import BUDGETS, COSTS, Cost, Floats
from analysis.style import INK, PALETTE, RULE, SYMBOLS, layout, log_ticks, wrapped

View = Literal["validation", "test"]
VIEWS: dict[View, str] = {"validation": "val", "test": "test"}
AXES: dict[Cost, str] = {
    "parameters": "parameters",
    "macs": "MACs",
    "weight_bytes": "bytes of weights",
    "latency_ms": "latency for one image (ms)",
}
LAYERS = {
    "published": "published results",
    "paper": "the paper’s claim",
    "stopped": "stopped early",
    "failed": "failed",
    "front": "the front",
    "own": "arms",
    "reference": "reference nets",
    "budgets": "budgets",
}
PUBLISHED = "published (by others, on the test set)"
PAPER = "the paper’s claim (on the test set)"
OTHER_ENDS = {"early_stopped": "stopped early", "failed": "failed"}
FEWEST_FOR_BARS = 3  # with two seeds the interval is thirteen times as wide as their range
MOST_WITH_BARS = 300  # with more arms, only those on the front have bars
SMALLER_ABOVE = {200: 7, 1_000: 5}
MOST_NUMBERED = 30
RUG = 0.015  # height of the marks of failed trials, as a share of the figure's height


def pareto_figure(
    arms: pd.DataFrame,
    cost: Cost = "parameters",
    view: View = "validation",
    published: Sequence[PublishedPoint] = (),
    partial: pd.DataFrame | None = None,
) -> go.Figure:
    """Draw accuracy (percent) against a cost (log scale) for `mark_membership`'s rows of one data set.

    `arms` are marked by the same cost; those without a completed trial or without this cost are not drawn. In
    both views, mean validation and mean test accuracy, the front is that of validation accuracy, numbered by
    `front_rank`; the opacity of a point's fill is the probability that its arm is on the front. Bars are
    `reach_of_means` (95% intervals). `published` points are test accuracies against parameters, in the test
    view; the paper's own claim is a layer in both views. `partial` are rows of `partial_trials`, whose index
    identifies the trial.
    """
    figure = go.Figure(layout=layout())
    claims = [point for point in published if point.is_papers]
    others = [point for point in published if not point.is_papers]
    for layer, points, views in (("published", others, ["test"]), ("paper", claims, list(VIEWS))):
        if points:
            trace = _published_points(layer, points)
            figure.add_trace(trace.update(meta={"layer": layer, "views": views, "costs": ["parameters"]}))
    if partial is not None:
        for status, layer, views in (
            ("early_stopped", "stopped", ["validation"]),
            ("failed", "failed", [*VIEWS]),
        ):
            rows = partial[partial["status"] == status]
            if not rows.empty:
                trace = _partial_points(layer, rows, cost)
                figure.add_trace(trace.update(meta={"layer": layer, "of": "trials", "views": views}))
    completed = arms.reset_index(drop=True).query("n_seeds > 0")
    figure.add_trace(_front_line(completed, cost, view).update(meta={"layer": "front", "of": "arms"}))
    for place, ((run, is_reference), rows) in enumerate(
        completed.groupby(["run", "is_reference"], sort=False)
    ):
        layer = "reference" if is_reference else "own"
        name = LAYERS[layer] if completed["run"].nunique() == 1 else f"{run}: {LAYERS[layer]}"
        trace = _arm_points(rows, cost, view, place, name, len(completed))
        figure.add_trace(trace.update(meta={"layer": layer, "of": "arms"}))
    for trace in figure.data:
        fits = view in trace.meta.get("views", VIEWS) and cost in trace.meta.get("costs", COSTS)
        trace.visible = fits
    known = [one for one in COSTS if completed[one].notna().any()]
    axes = {
        str(one): {
            "x": {str(each): _cost_axis(completed, each, one, published) for each in known},
            "y": _accuracy_axis(completed, one, published),
        }
        for one in VIEWS
    }
    figure.update_xaxes(type="log", **axes[view]["x"].get(cost, {}))
    figure.update_yaxes(**axes[view]["y"])
    rug = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    return figure.update_layout(
        meta=axes,
        shapes=_budget_lines() if cost == "parameters" else [],
        yaxis2=rug,
        hoverdistance=30,
    )


def partial_trials(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the trials that did not complete, with the accuracy they reached.

    New column: reached (validation accuracy after the last epoch, a fraction; null if there is none).
    """
    partial = trials[trials["status"] != "completed"]
    last = epochs.sort_values("trial_epoch").drop_duplicates(["run", "trial_id"], keep="last")
    reached = last[["run", "trial_id", "val_accuracy"]].rename(columns={"val_accuracy": "reached"})
    merged = partial[["run", "trial_id"]].merge(reached, on=["run", "trial_id"], how="left")
    return partial.assign(reached=merged["reached"].to_numpy())


def reach_of_means(arms: pd.DataFrame, view: View) -> Floats:
    """Return the half-width of the 95% interval of each arm's mean accuracy, float64 [n arms].

    A fraction; Student's t over seeds (folds averaged first), NaN for fewer than three seeds.
    """
    seeds = arms["n_seeds"].to_numpy(np.float64)
    deviations = arms[f"{VIEWS[view]}_std"].to_numpy(np.float64, na_value=np.nan)
    is_enough = seeds >= FEWEST_FOR_BARS
    quantiles = special.stdtrit(np.where(is_enough, seeds - 1, 1), 0.975)
    return np.where(is_enough, quantiles * deviations / np.sqrt(np.maximum(seeds, 1)), np.nan)


def fill(color: str, probability: float) -> str:
    """Return the colour, `#rrggbb`, with the probability of being on the front as its opacity."""
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{round(probability, 2):g})"


def membership(arms: pd.DataFrame) -> Floats:
    """Return each arm's probability of being on the front, float64 [n arms], else membership as 1 or 0."""
    on_front = arms["on_front"].to_numpy(np.float64)
    if "front_probability" not in arms:
        return on_front
    known = arms["front_probability"].to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isnan(known), on_front, known)


def describe_arm(arm: dict[Any, Any]) -> str:
    """Describe an arm and its results in escaped lines for a hover text."""
    others = [f"{arm[f'n_{status}']} {text}" for status, text in OTHER_ENDS.items() if arm[f"n_{status}"]]
    costs = [f"{notation.count(arm['parameters'])} parameters, {notation.count(arm['macs'])} MACs"]
    if pd.notna(arm["weight_bytes"]) and arm["weight_bytes"] != 4 * arm["parameters"]:
        costs.append(notation.amount("weight_bytes", arm["weight_bytes"]))
    if pd.notna(arm["latency_ms"]):
        costs.append(notation.amount("latency_ms", arm["latency_ms"]))
    lines = [
        f"<b>{escape(arm['label'])}</b>",
        ", ".join([f"n = {notation.seeds_of(arm)}", *others]),
        *costs,
        f"validation {notation.percent_spread(arm['val_mean'], arm['val_std'])}",
        f"test {notation.percent_spread(arm['test_mean'], arm['test_std'])}",
        *(escape(line) for line in arm["config"].splitlines()),
    ]
    return "<br>".join(lines)


def _front_line(arms: pd.DataFrame, cost: Cost, view: View) -> go.Scatter:
    """Draw the front: the best accuracy within each cost, as numbered steps."""
    front = arms[arms["on_front"]].sort_values("front_rank").dropna(subset=f"{VIEWS[view]}_mean")
    return go.Scatter(
        x=front[cost].tolist(),
        y=(100 * front[f"{VIEWS[view]}_mean"]).tolist(),
        mode="lines+text",
        line={"shape": "hv", "color": INK, "width": 1.5},
        text=[str(rank) for rank in front["front_rank"]] if len(front) <= MOST_NUMBERED else None,
        textposition="top left",
        name=LAYERS["front"],
        hoverinfo="skip",
    )


def _arm_points(rows: pd.DataFrame, cost: Cost, view: View, place: int, name: str, total: int) -> go.Scatter:
    """Draw arms of one run and kind."""
    color = PALETTE[place % len(PALETTE)]
    rows = rows[rows[cost].notna() & rows[f"{VIEWS[view]}_mean"].notna()]
    has_bars = (
        np.ones(len(rows), np.bool_) if total <= MOST_WITH_BARS else rows["on_front"].to_numpy(np.bool_)
    )
    bars = np.where(has_bars, 100 * reach_of_means(rows, view), np.nan)
    size = min([10, *(size for bound, size in SMALLER_ABOVE.items() if total > bound)])
    return go.Scatter(
        x=rows[cost].tolist(),
        y=(100 * rows[f"{VIEWS[view]}_mean"]).tolist(),
        error_y={
            "array": [None if np.isnan(bar) else bar for bar in bars.tolist()],
            "color": color,
            "thickness": 1.5,
            "width": 0,  # with caps, a missing bar would be drawn as a bar of length zero
        },
        mode="markers",
        marker={
            "color": [fill(color, probability) for probability in membership(rows).tolist()],
            "size": size,
            "symbol": SYMBOLS[place % len(SYMBOLS)],
            "line": {"color": color, "width": 2 if size == 10 else 1},
        },
        customdata=rows.index.tolist(),
        hovertext=[describe_arm(arm) for arm in rows.to_dict("records")],
        hovertemplate="%{hovertext}<extra></extra>",
        name=escape(name),
    )


def _partial_points(layer: str, rows: pd.DataFrame, cost: Cost) -> go.Scatter:
    """Draw trials that were stopped early at the accuracy they reached, and failed ones at the lower edge."""
    is_failed = layer == "failed"
    rows = rows[rows[cost].notna() & (is_failed | rows["reached"].notna())]
    return go.Scatter(
        x=rows[cost].tolist(),
        y=[RUG] * len(rows) if is_failed else (100 * rows["reached"]).tolist(),
        yaxis="y2" if is_failed else "y",
        mode="markers",
        marker={"color": INK, "size": 7, "symbol": "x-thin-open" if is_failed else "triangle-down-open"},
        customdata=rows.index.tolist(),
        hovertext=[_describe_partial(trial) for trial in rows.to_dict("records")],
        hovertemplate="%{hovertext}<extra></extra>",
        name=LAYERS[layer],
        legendrank=1_500,  # after the arms
    )


def _published_points(layer: str, points: Sequence[PublishedPoint]) -> go.Scatter:
    is_paper = layer == "paper"
    return go.Scatter(
        x=[point.parameters for point in points],
        y=[100 * point.accuracy for point in points],
        mode="markers",
        marker={
            "color": PALETTE[1] if is_paper else INK,
            "size": 13 if is_paper else 9,
            "symbol": "star" if is_paper else "star-open",
            "line": {"color": PALETTE[1] if is_paper else INK, "width": 1.2},
        },
        hovertext=[_describe_published(point) for point in points],
        hovertemplate="%{hovertext}<extra></extra>",
        name=PAPER if is_paper else PUBLISHED,
        legendrank=2_000,
    )


def _describe_partial(trial: dict[Any, Any]) -> str:
    fold = "" if pd.isna(trial["fold"]) else f", fold {trial['fold']}"
    lines = [
        f"<b>{escape(trial['arm'])}</b>, seed {trial['seed']}{fold}",
        f"{notation.count(trial['parameters'])} parameters",
    ]
    if trial["status"] == "failed":
        error = notation.MISSING if pd.isna(trial["error"]) else str(trial["error"])
        return "<br>".join([*lines, f"failed: {wrapped(error[:200], 50)}"])
    epochs = notation.counted(int(trial["epochs_trained"]), "epoch")
    return "<br>".join(
        [*lines, f"stopped early after {epochs} at {notation.percent(trial['reached'])} validation"]
    )


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


def _budget_lines() -> list[dict[str, Any]]:
    line = {"color": RULE, "width": 1, "dash": "dot"}
    place = {"type": "line", "layer": "below", "yref": "paper", "y0": 0, "y1": 1, "line": line}
    return [{**place, "name": "budgets", "x0": budget, "x1": budget} for budget in BUDGETS]


def _seen(published: Sequence[PublishedPoint], view: View) -> list[PublishedPoint]:
    return [point for point in published if view == "test" or point.is_papers]


def _cost_axis(
    arms: pd.DataFrame, cost: Cost, view: View, published: Sequence[PublishedPoint]
) -> dict[str, Any]:
    """Return title, range and ticks of a cost's axis, which covers arms and points."""
    sizes = arms[cost].dropna().tolist()
    if cost == "parameters":
        sizes += [point.parameters for point in _seen(published, view) if point.parameters is not None]
    return {"title": {"text": f"{AXES[cost]} (log scale)"}, **log_ticks(min(sizes), max(sizes))}


def _accuracy_axis(arms: pd.DataFrame, view: View, published: Sequence[PublishedPoint]) -> dict[str, Any]:
    """Return title and range of the accuracy axis, which covers arms, bars and points."""
    means, reach = arms[f"{VIEWS[view]}_mean"], pd.Series(reach_of_means(arms, view), arms.index).fillna(0)
    points = [100 * point.accuracy for point in _seen(published, view)]
    low = min([100 * (means - reach).min(), *points])
    high = max([100 * (means + reach).max(), *points])
    title = {"title": {"text": f"mean {view} accuracy (%)"}}
    if pd.isna(low):
        return title
    room = max(0.08 * (high - low), 0.1)
    return {**title, "range": [low - room, min(high + 1.5 * room, 100 + 0.3 * room)]}
