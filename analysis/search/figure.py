"""Plotly figures of a search's results; style and escaping as in `style`.

Accuracies are drawn as errors on a log scale, because near 100% the ratios of errors matter; ticks, hover
texts and tables show accuracies.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis import notation
from analysis.search.confirmation import ConfirmedNet
from analysis.search.importance import Importances
from analysis.style import INK, PALETTE, layout, log_ticks

SETTINGS_SHOWN = 20
NO_ERROR = 0.5  # position of an accuracy of 100%, as a share of the smallest error above 0


def course_figure(course: pd.DataFrame) -> go.Figure:
    """Draw `hypervolume_course`'s rows: hypervolume over the epochs spent."""
    epochs, volumes = [0, *course["epochs"]], [0.0, *course["hypervolume"]]
    figure = go.Figure(layout=layout())
    figure.add_trace(
        go.Scatter(
            x=epochs,
            y=volumes,
            mode="lines",
            line={"shape": "hv", "color": PALETTE[0], "width": 2.5},
            hovertext=["before the first trial"]
            + [f"after {notation.counted(n, 'trial')}" for n in course["n_trials"].tolist()],
            hovertemplate="%{hovertext}<br>%{x:,} epochs<br>hypervolume %{y:.4f}<extra></extra>",
            showlegend=False,
        )
    )
    figure.update_xaxes(title="epochs spent by the search", range=[0, 1.03 * max(epochs)], showgrid=False)
    figure.update_yaxes(title="hypervolume (decades × accuracy)", range=[0, 1.08 * max(*volumes, 0.01)])
    return figure


def cloud_figure(nets: pd.DataFrame, confirmed: Sequence[ConfirmedNet]) -> go.Figure:
    """Draw each net of `searched_nets`, the search's front, and the confirmed nets.

    A line connects a confirmed net's search value to its mean over fresh seeds, which is drawn with its
    interval.
    """
    accuracies = [*nets["val_mean"], *(net.mean for net in confirmed)]
    bounds = [net.bounds for net in confirmed if net.bounds]
    scale = ErrorScale([*accuracies, *(end for one in bounds for end in (one.low, one.high))])
    figure = go.Figure(layout=layout())
    front = nets[nets["on_front"]].sort_values("front_rank")
    figure.add_trace(
        go.Scatter(
            x=front["parameters"].tolist(),
            y=scale.errors(front["val_mean"]),
            mode="lines",
            line={"shape": "hv", "color": INK, "width": 1.5, "dash": "dot"},
            name="the search’s front",
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=nets["parameters"].tolist(),
            y=scale.errors(nets["val_mean"]),
            mode="markers",
            marker={"color": INK, "symbol": "circle-open", "size": 8},
            name="in the search, one seed",
            hovertext=[_describe_net(net) for net in nets.to_dict("records")],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )
    if confirmed:
        figure.add_trace(_regression_lines(confirmed, scale))
        figure.add_trace(_confirmed_points(confirmed, scale))
    ticks = log_ticks(nets["parameters"].min(), nets["parameters"].max())
    figure.update_xaxes(title="parameters (log scale)", type="log", **ticks)
    figure.update_yaxes(title="validation accuracy (%)", type="log", **scale.axis())
    return figure


def importance_figure(found: Importances) -> go.Figure:
    """Draw the settings' relative importances (percent) for each objective, with the noise level."""
    means: dict[str, float] = {}
    for shares in found.by_objective.values():
        for setting, share in shares.items():
            means[setting] = means.get(setting, 0.0) + share
    settings = sorted(means, key=lambda setting: (means[setting], setting))[-SETTINGS_SHOWN:]
    figure = go.Figure(layout=layout())
    for place, (objective, shares) in reversed(list(enumerate(found.by_objective.items()))):  # drawn upwards
        figure.add_trace(
            go.Bar(
                x=[100 * shares[setting] for setting in settings],
                y=[escape(setting) for setting in settings],
                orientation="h",
                name=escape(notation.objective(objective)),
                marker={"color": PALETTE[place % len(PALETTE)]},
                error_x=error_reach(shares, found.bars.get(objective, {}), settings),
                hovertemplate="%{y}: %{x:.0f}%<extra>" + escape(notation.objective(objective)) + "</extra>",
            )
        )
        if objective in found.floors:
            line = {"color": PALETTE[place % len(PALETTE)], "width": 1.5, "dash": "dash"}
            figure.add_vline(x=100 * found.floors[objective], line=line)
    figure.update_layout(barmode="group", bargap=0.25, legend={"traceorder": "reversed"})
    figure.update_xaxes(title="relative importance (%)", rangemode="tozero")
    figure.update_yaxes(showgrid=False, ticksuffix=" ", showline=False)
    return figure


def error_reach(
    shares: Mapping[str, float], bars: Mapping[str, tuple[float, float]], settings: Sequence[str]
) -> dict[str, object]:
    """Return error bars, in percent, from each importance to its bootstrap bounds."""
    ends = [bars.get(setting, (shares[setting], shares[setting])) for setting in settings]
    return {
        "array": [100 * max(high - shares[s], 0) for s, (_, high) in zip(settings, ends, strict=True)],
        "arrayminus": [100 * max(shares[s] - low, 0) for s, (low, _) in zip(settings, ends, strict=True)],
        "symmetric": False, "thickness": 1.2, "width": 3,
    }  # fmt: skip


class ErrorScale:
    """A reversed log axis of errors that is labelled with accuracies (percent)."""

    def __init__(self, accuracies: Sequence[float]) -> None:
        errors = [min(1 - accuracy, 1.0) for accuracy in accuracies]
        positive = [error for error in errors if error > 1e-9] or [0.01]
        self.has_none = len(positive) < len(errors)
        self.least = NO_ERROR * min(positive) if self.has_none else min(positive)
        self.most = max(positive)

    def errors(self, accuracies: Iterable[float]) -> list[float]:
        """Return the positions of accuracies (fractions) on the axis."""
        return [min(max(1 - accuracy, self.least), self.most) for accuracy in accuracies]

    def axis(self) -> dict[str, Any]:
        """Return the axis' range and ticks."""
        low, high = self.least, self.most
        room = max(0.08 * math.log10(high / low), 0.02)
        start, end = math.log10(low) - room, math.log10(high) + room
        if end - start > 1:
            steps = (step * 10.0**decade for decade in range(-9, 1) for step in (1, 2, 5))
        else:  # a range so short that linear steps look even
            rough = (10**end - 10**start) / 5
            power = 10 ** math.floor(math.log10(rough))
            step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough)
            steps = (step * number for number in range(1, math.ceil(10**end / step) + 1))
        ticks = [tick for tick in steps if start <= math.log10(tick) <= end and tick <= 1]
        texts = [f"{100 * (1 - tick):.10g}" for tick in ticks]
        if self.has_none:
            kept = [(tick, text) for tick, text in zip(ticks, texts, strict=True) if tick > 1.3 * self.least]
            ticks, texts = [self.least, *(tick for tick, _ in kept)], ["100", *(text for _, text in kept)]
        return {"range": [end, start], "tickvals": ticks, "ticktext": texts}


def _regression_lines(confirmed: Sequence[ConfirmedNet], scale: ErrorScale) -> go.Scatter:
    x: list[int | None] = []
    y: list[float | None] = []
    for net in confirmed:
        x += [net.parameters, net.parameters, None]
        y += [*scale.errors([net.searched, net.mean]), None]
    line = {"color": PALETTE[1], "width": 6}
    return go.Scatter(
        x=x, y=y, mode="lines", line=line, opacity=0.45, name="change with fresh seeds", hoverinfo="skip"
    )


def _confirmed_points(confirmed: Sequence[ConfirmedNet], scale: ErrorScale) -> go.Scatter:
    means = scale.errors([net.mean for net in confirmed])
    lows = scale.errors([net.bounds.low if net.bounds else net.mean for net in confirmed])
    highs = scale.errors([net.bounds.high if net.bounds else net.mean for net in confirmed])
    return go.Scatter(
        x=[net.parameters for net in confirmed],
        y=means,
        error_y={
            "array": [low - mean for low, mean in zip(lows, means, strict=True)],
            "arrayminus": [mean - high for high, mean in zip(highs, means, strict=True)],
            "symmetric": False,
            "thickness": 1.5,
            "width": 4,
        },
        mode="markers",
        marker={"color": PALETTE[1], "symbol": "diamond", "size": 9},
        name="confirmed: mean over fresh seeds",
        hovertext=[_describe_confirmed(net) for net in confirmed],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _describe_net(net: dict[Any, Any]) -> str:
    lines = [
        f"<b>{escape(net['label'])}</b>",
        f"{notation.count(net['parameters'])} parameters",
        f"validation in the search {notation.percent(net['val_mean'])}",
        *(escape(line) for line in net["config"].splitlines()),
    ]
    return "<br>".join(lines)


def _describe_confirmed(net: ConfirmedNet) -> str:
    lines = [
        f"<b>{escape(net.arm)}</b>",
        f"{notation.count(net.parameters)} parameters",
        f"validation in the search {notation.percent(net.searched)}",
        f"confirmed {notation.percent_spread(net.mean, net.deviation)}, "
        f"n = {notation.counted(len(net.accuracies), 'fresh seed')}",
    ]
    if net.bounds:
        low, high = notation.percent(net.bounds.low), notation.percent(net.bounds.high)
        lines.append(f"95% interval {low} to {high} ({net.bounds.method})")
    return "<br>".join(lines)
