"""The figure of attainment surfaces."""

from collections.abc import Sequence
from html import escape

import pandas as pd
import plotly.graph_objects as go

from analysis import notation
from analysis.attainment.result import Repeats
from analysis.search.figure import ErrorScale
from analysis.style import PALETTE, layout, log_ticks

LEVEL_STYLES = {25: ("dot", 1.5), 50: ("solid", 2.5), 75: ("dash", 1.5)}


def attainment_figure(repeats: Sequence[Repeats], labels: Sequence[str]) -> go.Figure:
    """Draw the attainment surfaces of each kind of search; `labels` are their names."""
    surfaces = pd.concat([one.surfaces for one in repeats])
    scale = ErrorScale(surfaces["accuracy"].tolist())
    ticks = log_ticks(surfaces["parameters"].min(), surfaces["parameters"].max())
    figure = go.Figure(layout=layout())
    for place, (one, label) in enumerate(zip(repeats, labels, strict=True)):
        for level, (dash, width) in LEVEL_STYLES.items():
            rows = one.surfaces[one.surfaces["level"] == level]
            end = 10 ** ticks["range"][1]  # an accuracy reached is also reached with more parameters
            accuracies = [*rows["accuracy"], rows["accuracy"].iloc[-1]]
            name = f"{escape(label)}: {level}%" if label else f"reached by {level}%"
            color = PALETTE[place % len(PALETTE)]
            figure.add_trace(
                go.Scatter(
                    x=[*rows["parameters"], end],
                    y=scale.errors(accuracies),
                    mode="lines",
                    line={"shape": "hv", "dash": dash, "width": width, "color": color},
                    name=name,
                    hovertext=[notation.percent(accuracy) for accuracy in accuracies],
                    hovertemplate="%{x:,.0f} parameters, %{hovertext}<extra>" + name + "</extra>",
                )
            )
    figure.update_xaxes(title="parameters (log scale)", type="log", **ticks)
    figure.update_yaxes(title="validation accuracy (%)", type="log", **scale.axis())
    return figure
