"""What the page shows of one data set: its fronts, published results, budgets and learning curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.curves import LearningCurves, learning_curves
from analysis.figures import learning_curves_figure
from analysis.pareto import Cost, best_per_budget, mark_front, mark_membership
from analysis.pareto_figures import pareto_figure
from analysis.pareto_page import caption_pareto, explain_probability, state_basis, state_finding
from analysis.published import PublishedPoint, near, on_dataset
from analysis.published_page import PublishedPart, lay_out_published

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class FrontPart:
    """Accuracy against one cost: figure and table of the front."""

    cost: Cost
    finding: str
    figure: go.Figure
    has_test: bool
    caption: str
    arms: Sequence[Mapping[str, Any]]
    """The front's, from small to large."""
    note: str


@dataclass(frozen=True)
class DatasetPart:
    """What the page shows of one data set; there is no figure if no trial completed."""

    dataset: str
    finding: str
    bases: Sequence[str] = ()
    """What the front rests on, where runs are searches."""
    front: FrontPart | None = None
    published: PublishedPart | None = None
    budgets: Sequence[Mapping[str, Any]] = ()
    bytes_front: FrontPart | None = None
    """By bytes; None where these say no more than parameters."""
    curves: go.Figure | None = None
    curve_labels: Sequence[str] = ()
    curves_caption: str = ""


def lay_out_dataset(
    dataset: str,
    arms: pd.DataFrame,
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    published: Sequence[PublishedPoint],
) -> DatasetPart:
    """Put one data set into words and figures.

    ``arms`` are the data set's rows of ``summarise_arms``, made of ``trials``; ``epochs`` and ``published``
    may be of more data sets.
    """
    if not arms["n_completed"].any():
        return DatasetPart(
            dataset, f"No arm has a completed trial on {dataset} yet, so there is no front to show."
        )
    points = on_dataset(published, dataset)
    drawn_points = near(points, arms)
    marked = mark_membership(mark_front(arms), trials)
    front = _lay_out_front(dataset, marked, "parameters", drawn_points)
    curves = learning_curves(epochs, trials, marked)
    return DatasetPart(
        dataset=dataset,
        finding=front.finding,
        bases=state_basis(trials[trials["dataset"] == dataset]),
        front=front,
        published=lay_out_published(points, drawn_points),
        budgets=records(best_per_budget(marked[marked["n_completed"] > 0])),
        bytes_front=_lay_out_bytes(dataset, arms, trials),
        curves=learning_curves_figure(curves) if curves.labels else None,
        curve_labels=curves.labels,
        curves_caption=_caption_curves(curves),
    )


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows for a template."""
    return [{str(key): field for key, field in row.items()} for row in table.to_dict("records")]


def has_own_bytes(table: pd.DataFrame) -> bool:
    """Say whether bytes of weights tell more than parameters: of some row they are not four times as many."""
    known = table.dropna(subset=["weight_bytes", "parameters"])
    return bool((known["weight_bytes"] != FLOAT32_BYTES * known["parameters"]).any())


def _lay_out_bytes(dataset: str, arms: pd.DataFrame, trials: pd.DataFrame) -> FrontPart | None:
    """Lay out the front by bytes, None if these are four times the parameters of every arm drawn."""
    if not has_own_bytes(arms[arms["n_completed"] > 0]):
        return None
    return _lay_out_front(
        dataset, mark_membership(mark_front(arms, "weight_bytes"), trials, "weight_bytes"), "weight_bytes", ()
    )


def _lay_out_front(
    dataset: str, arms: pd.DataFrame, cost: Cost, published: Sequence[PublishedPoint]
) -> FrontPart:
    """Lay out ``mark_membership``'s rows by ``cost``."""
    drawn = arms[(arms["n_completed"] > 0) & arms[cost].notna()]
    front = arms[arms["on_front"]].sort_values("front_rank")
    return FrontPart(
        cost=cost,
        finding=state_finding(dataset, drawn, front, cost),
        figure=pareto_figure(arms, cost, published),
        has_test=bool(drawn["test_mean"].notna().any()),
        caption=caption_pareto(arms, drawn, cost),
        arms=records(front),
        note=explain_probability(drawn, cost),
    )


def _caption_curves(curves: LearningCurves) -> str:
    sentences = [
        "Thin lines are single trials.",
        "A thick line is the mean over an arm’s seeds and ends with the shortest trial; its band is one "
        "sample standard deviation over seeds (of their folds’ means) to both sides.",
        "Diamonds mark where a trial’s next stage begins."
        if curves.shared_starts is None
        else "Dotted lines bound the stages.",
    ]
    return " ".join(sentences)
