"""Plotly figures of an ablation: forest, path, interactions, spread; style and escaping as in `style`."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import notation
from analysis.ablation.judging import Comparison, JudgedFamily
from analysis.ablation.result import ArmResult, Evidence
from analysis.style import INK, PALETTE, RULE, SYMBOLS, layout, wrapped

VERDICT_STYLES: Mapping[str, tuple[str, str]] = {
    "helps": ("#009E73", "triangle-right"),
    "hurts": ("#D55E00", "triangle-left"),
    "equivalent": ("#0072B2", "square"),
    "not decided": (INK, "circle-open"),
}
PAIRS_SHOWN = 12  # interactions drawn, the strongest ones


def forest_figure(comparisons: Sequence[Comparison], margin: float) -> go.Figure:
    """Draw each comparison's mean difference (points) with its interval, and single seeds as dots.

    `margin` is the equivalence margin, a fraction: the band in which a difference does not matter.
    Comparisons without a seed have a name but no mark.
    """
    figure = go.Figure(layout=layout())
    rows = list(reversed(comparisons))  # plotly draws upwards
    places = range(len(rows))
    figure.add_vrect(x0=-100 * margin, x1=100 * margin, fillcolor=RULE, line_width=0, layer="below")
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    dots = [(100 * value, place) for place, row in zip(places, rows, strict=True) for value in row.values]
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in dots],
            y=[y - 0.22 for _, y in dots],
            mode="markers",
            name="single seeds",
            marker={"color": INK, "size": 4, "opacity": 0.6},
            hoverinfo="skip",
        )
    )
    for verdict, (color, symbol) in VERDICT_STYLES.items():
        chosen = [
            (place, row) for place, row in zip(places, rows, strict=True)
            if row.judgement.verdict == verdict and row.judgement.mean is not None
        ]  # fmt: skip
        if not chosen:
            continue
        figure.add_trace(
            go.Scatter(
                x=[100 * (row.judgement.mean or 0.0) for _, row in chosen],
                y=[place for place, _ in chosen],
                error_x=_bars([row for _, row in chosen]),
                mode="markers",
                name=chosen[0][1].verdict,
                marker={"color": color, "symbol": symbol, "size": 11, "line": {"color": color, "width": 2}},
                hovertext=[_describe(row) for _, row in chosen],
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
    figure.update_xaxes(title="difference (points)", zeroline=False)
    figure.update_yaxes(
        tickvals=list(places), ticktext=[wrapped(row.contrast.name) for row in rows],
        range=[-0.6, len(rows) - 0.4], showgrid=False,
    )  # fmt: skip
    return figure


def path_figure(evidence: Evidence, family: JudgedFamily) -> go.Figure:
    """Draw what each component adds (percent of test accuracy) from the plain net to base.

    For a path in one order, each bar ends at the next net's mean and is drawn with its interval. Shapley
    values are stacked in the same way and end at base, because they sum to the whole difference. If some
    seeds have no result, steps and ends are means over different seeds and need not meet.
    """
    plain, base = _ends(evidence)
    figure = go.Figure(layout=layout())
    if plain.mean is None or base.mean is None:
        text = "not drawn: one end of the path has no result"
        figure.add_annotation(x=0.5, y=0.5, xref="paper", yref="paper", text=text, showarrow=False)
        return figure.update_xaxes(visible=False).update_yaxes(visible=False)
    level, names, heights, starts, colors, texts = plain.mean, [], [], [], [], []
    for row in family.comparisons:
        mean = row.judgement.mean or 0.0
        names.append(wrapped(row.contrast.name, 16))
        starts.append(100 * level)
        heights.append(100 * mean)
        colors.append(VERDICT_STYLES[row.judgement.verdict][0])
        texts.append(_describe(row))
        level += mean
    steps = go.Bar(
        x=list(range(1, len(names) + 1)), y=heights, base=starts, width=0.6,
        marker={"color": colors, "opacity": 0.75},
        error_y=_bars(family.comparisons, 1.5),
        hovertext=texts, hovertemplate="%{hovertext}<extra></extra>", showlegend=False,
    )  # fmt: skip
    figure.add_trace(steps)
    ends = [(0, plain), (len(names) + 1, base)]
    figure.add_trace(
        go.Scatter(
            x=[place for place, _ in ends],
            y=[100 * (arm.mean or 0.0) for _, arm in ends],
            error_y=_bars_of([arm for _, arm in ends]),
            mode="markers",
            marker={"color": INK, "size": 10, "symbol": "diamond"},
            hovertext=[_describe_arm(arm) for _, arm in ends],
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
        )
    )
    tops = [start + height for start, height in zip(starts, heights, strict=True)]
    bars = steps.error_y
    reaches = [tops[i] + (bars.array[i] or 0) for i in range(len(tops))]
    reaches += [tops[i] - (bars.arrayminus[i] or 0) for i in range(len(tops))]
    reaches += [100 * end for _, arm in ends for end in _reach(arm)]
    low, high = min([*starts, *reaches]), max([*starts, *reaches])
    room = max(0.06 * (high - low), 0.1)
    figure.update_xaxes(
        tickvals=list(range(len(names) + 2)),
        ticktext=["none of them", *(f"+ {name}" for name in names), "all: base"],
        showgrid=False,
    )
    figure.update_yaxes(title="test accuracy (%)", range=[low - room, high + room])
    return figure


def interaction_figure(evidence: Evidence, family: JudgedFamily) -> go.Figure:
    """Draw mean test accuracy (percent) for pairs of factors: parallel lines mean no interaction.

    A panel for each pair, the strongest interaction first, at most `PAIRS_SHOWN`; each point is the mean over
    the arms with these two levels, and over their seeds.
    """
    design, arms = evidence.design, {arm.arm: arm for arm in evidence.arms}
    strength: dict[tuple[str, ...], float] = {}
    for row in family.comparisons:
        pair = row.contrast.factors
        strength[pair] = max(strength.get(pair, 0.0), abs(row.judgement.mean or 0.0))
    pairs = sorted(strength, key=lambda pair: -strength[pair])[:PAIRS_SHOWN]
    columns = min(3, len(pairs))
    titles = [wrapped(f"{one} × {other}", 26) for one, other in pairs]
    figure = make_subplots(
        rows=math.ceil(len(pairs) / columns), cols=columns, subplot_titles=titles, shared_yaxes="all"
    )
    figure.update_layout(layout(), margin_t=64)
    factors = {factor.name: factor for factor in design.factors}
    for place, (one, other) in enumerate(pairs):
        cell = {"row": place // columns + 1, "col": place % columns + 1}
        last = len(factors[one].levels) - 1
        figure.update_xaxes(range=[-0.3 * last, 2.1 * last], **cell)  # the right half is for the lines' names
        for second in range(len(factors[other].levels)):
            means = []
            for first in range(len(factors[one].levels)):
                cells = [
                    arms[arm].mean for arm, levels in design.arms[evidence.dataset].items()
                    if levels and levels[one] == first and levels[other] == second
                ]  # fmt: skip
                known = [mean for mean in cells if mean is not None]
                means.append(100 * sum(known) / len(known) if len(known) == len(cells) and known else None)
            level = _level_name(factors[other].levels, factors[other].is_component, other, second)
            ticks = [
                _level_name(factors[one].levels, factors[one].is_component, one, first)
                for first in range(len(factors[one].levels))
            ]
            figure.add_trace(
                go.Scatter(
                    x=[wrapped(tick, 14) for tick in ticks], y=means, mode="lines+markers",
                    line={"color": PALETTE[second % len(PALETTE)]},
                    marker={"symbol": SYMBOLS[second % len(SYMBOLS)], "size": 9},
                    name=escape(level), showlegend=False,
                    hovertemplate=f"%{{x}}, {escape(level)}: %{{y:.2f}}%<extra></extra>",
                ),
                **cell,
            )  # fmt: skip
            ends = [(tick, mean) for tick, mean in zip(ticks, means, strict=True) if mean is not None][-1:]
            for tick, mean in ends:
                figure.add_annotation(
                    x=wrapped(tick, 14), y=mean, text=wrapped(level, 18), showarrow=False,
                    xanchor="left", xshift=8, font_size=11, **cell,
                )  # fmt: skip
    figure.update_xaxes(showgrid=False, linecolor=INK, showline=True, automargin=True)
    figure.update_yaxes(gridcolor=RULE, zeroline=False, automargin=True)
    figure.update_yaxes(title="test accuracy (%)", col=1)
    return figure


def spread_figure(evidence: Evidence) -> go.Figure:
    """Draw each arm's test accuracy (percent) at each seed, its mean and interval; folds as small ticks."""
    figure = go.Figure(layout=layout())
    rows = [arm for arm in reversed(evidence.arms) if arm.mean is not None]
    folds = [(100 * accuracy, place) for place, arm in enumerate(rows) for _, _, accuracy in arm.folds]
    if folds:
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in folds], y=[y + 0.25 for _, y in folds], mode="markers",
                name="folds (validation accuracy)", hoverinfo="skip",
                marker={"color": PALETTE[4], "symbol": "line-ns-open", "size": 8},
            )
        )  # fmt: skip
    seeds = [
        (100 * accuracy, place, seed)
        for place, arm in enumerate(rows)
        for seed, accuracy in zip(arm.seeds, arm.accuracies, strict=True)
    ]
    figure.add_trace(
        go.Scatter(
            x=[x for x, _, _ in seeds], y=[y for _, y, _ in seeds], mode="markers", name="seeds",
            marker={"color": PALETTE[0], "size": 6, "opacity": 0.55},
            hovertext=[f"seed {seed}: {x:.2f}%" for x, _, seed in seeds],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[100 * (arm.mean or 0.0) for arm in rows], y=[place - 0.22 for place in range(len(rows))],
            error_x=_bars_of(rows), mode="markers", name="mean over seeds, 95% interval",
            marker={"color": INK, "symbol": "diamond", "size": 8},
            hovertext=[_describe_arm(arm) for arm in rows], hovertemplate="%{hovertext}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title="test accuracy (%)")
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=[wrapped(arm.arm) for arm in rows],
        range=[-0.6, len(rows) - 0.4], showgrid=False,
    )  # fmt: skip
    return figure


def _ends(evidence: Evidence) -> tuple[ArmResult, ArmResult]:
    """Return the results of the two ends of a path: without any component, and base."""
    design, arms = evidence.design, {arm.arm: arm for arm in evidence.arms}
    plain = design.arm_at(evidence.dataset, {factor.name: 1 for factor in design.factors})
    return arms[plain], arms[design.base]


def _reach(arm: ArmResult) -> tuple[float, float]:
    """Return the ends of an arm's interval, or its mean twice if it has none."""
    mean = arm.mean or 0.0
    return (arm.interval.low, arm.interval.high) if arm.interval else (mean, mean)


def _level_name(levels: Sequence[str], is_component: bool, factor: str, level: int) -> str:
    if is_component:
        return f"with {factor}" if level == 0 else levels[1]
    return f"{factor}: base's" if level == 0 else levels[level]


def _bars(rows: Sequence[Comparison], thickness: float = 2.0) -> dict[str, object]:
    """Return error bars from each mean to the ends of its interval, in points."""
    high, low = [], []
    for row in rows:
        bounds, mean = row.judgement.interval, row.judgement.mean or 0.0
        high.append(100 * (bounds.high - mean) if bounds else None)
        low.append(100 * (mean - bounds.low) if bounds else None)
    return {"array": high, "arrayminus": low, "symmetric": False, "thickness": thickness, "width": 4}


def _bars_of(arms: Sequence[ArmResult]) -> dict[str, object]:
    high = [100 * (arm.interval.high - (arm.mean or 0.0)) if arm.interval else None for arm in arms]
    low = [100 * ((arm.mean or 0.0) - arm.interval.low) if arm.interval else None for arm in arms]
    return {"array": high, "arrayminus": low, "symmetric": False, "thickness": 2, "width": 4}


def _describe(row: Comparison) -> str:
    judged = row.judgement
    lines = [f"<b>{escape(row.contrast.name)}</b>", wrapped(row.contrast.meaning, 60)]
    lines.append(f"{notation.signed_points(judged.mean)} points, n = {notation.counted(judged.n, 'seed')}")
    if judged.interval:
        lines.append(f"95% interval {notation.interval_points(judged.interval)} ({judged.interval.method})")
    if row.crossed:
        lines.append(f"over seeds and test images: {notation.interval_points(row.crossed)}")
    if judged.p_corrected is not None:
        lines.append(f"p = {judged.p:.2g}, corrected {judged.p_corrected:.2g} (sign-flip, Holm)")
    return "<br>".join([*lines, *(wrapped(text, 60) for text in (row.sentence, *row.remarks))])


def _describe_arm(arm: ArmResult) -> str:
    lines = [f"<b>{escape(arm.arm)}</b>", f"mean {notation.percent_spread(arm.mean, arm.deviation)}"]
    lines.append(f"n = {notation.counted(len(arm.seeds), 'seed')}")
    if arm.interval:
        low, high = notation.percent(arm.interval.low), notation.percent(arm.interval.high)
        lines.append(f"95% interval {low} to {high} ({arm.interval.method})")
    return "<br>".join(lines)
