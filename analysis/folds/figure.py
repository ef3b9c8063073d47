"""Figure of the accuracy on each fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

from analysis import notation
from analysis.folds.result import ArmFolds, SeedFolds
from analysis.style import INK, PALETTE, layout, wrapped

SEEDS_TOLD_APART = 10  # with more seeds, all look the same


SYMBOLS = ("circle", "square", "triangle-up", "cross", "triangle-down")  # the diamond is the mean's


@dataclass(frozen=True)
class NamedFolds:
    """An arm's folds, with what a figure needs besides."""

    label: str
    on_front: bool
    result: ArmFolds


def folds_figure(arms: Sequence[NamedFolds]) -> go.Figure:
    """Draw the validation accuracy (percent) of each arm's folds, a row per arm, and its mean.

    Traces: the folds, one trace per seed (or a single one if there are more than `SEEDS_TOLD_APART`), then
    the means. The seeds of a row are drawn one above the other, because their folds are not the same images.
    """
    figure, rows = go.Figure(layout=layout()), list(reversed(arms))  # plotly draws upwards
    seeds = sorted({seed.seed for each in rows for seed in each.result.seeds})
    are_told_apart = len(seeds) <= SEEDS_TOLD_APART
    for number, group in enumerate([[seed] for seed in seeds] if are_told_apart else [seeds]):
        x: list[float | None] = []
        y: list[float | None] = []
        texts: list[str] = []
        for place, each in enumerate(rows):
            for seed in each.result.seeds:
                if seed.seed in group:
                    x += [*(100 * fold.val_accuracy for fold in seed.folds), None]
                    y += [*[place + _lift(seeds.index(seed.seed), len(seeds))] * len(seed.folds), None]
                    texts += [*_describe_folds(each.label, seed), ""]
        color = PALETTE[number % len(PALETTE)]
        figure.add_trace(
            go.Scatter(
                x=x, y=y, mode="lines+markers" if are_told_apart else "markers",
                name=f"folds of seed {group[0]}" if are_told_apart else "folds of a seed, in one line",
                line={"color": color, "width": 1},
                marker={
                    "color": color, "symbol": SYMBOLS[number % len(SYMBOLS)],
                    "size": 7 if are_told_apart else 5, "opacity": 0.75,
                },
                hovertext=texts, hovertemplate="%{hovertext}<extra></extra>",
            )
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[100 * each.result.val_mean for each in rows], y=[place - 0.28 for place in range(len(rows))],
            mode="markers", name="mean", marker={"color": INK, "symbol": "diamond", "size": 9},
            hovertext=[_describe_mean(each) for each in rows], hovertemplate="%{hovertext}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(legend_y=1 + min(0.06, 0.5 / len(rows)))  # near the rows, however high the figure
    figure.update_xaxes(title="validation accuracy (%)")
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=[wrapped(each.label) for each in rows],
        range=[-0.6, len(rows) - 0.4], showgrid=False,
    )  # fmt: skip
    return figure


def row_rem(arms: Sequence[NamedFolds]) -> float:
    """Return the height of a row, in rem, that fits the longest label."""
    return max(2.8, 0.6 + 1.1 * max(1 + wrapped(each.label).count("<br>") for each in arms))


def _lift(number: int, of: int) -> float:
    """Return how far above the middle of its row a seed is drawn; the first one is highest."""
    return 0.32 - 0.4 * number / max(of - 1, 1) if of > 1 else 0.1


def _describe_folds(label: str, seed: SeedFolds) -> list[str]:
    apart = "" if seed.spread is None else f"<br>the seed’s folds are {notation.points(seed.spread)} apart"
    return [
        f"<b>{escape(label)}</b><br>seed {seed.seed}, fold {fold.fold}<br>validation "
        f"{notation.percent(fold.val_accuracy)}, test {notation.percent(fold.test_accuracy)}{apart}"
        for fold in seed.folds
    ]


def _describe_mean(arm: NamedFolds) -> str:
    result = arm.result
    lines = [
        f"<b>{escape(arm.label)}</b>",
        f"mean {notation.percent(result.val_mean)} of n = {notation.counted(len(result.seeds), 'seed')}",
    ]
    if result.val_deviation is not None:
        lines.append(f"standard deviation over a seed’s folds {notation.points(result.val_deviation)}")
    return "<br>".join(lines)
