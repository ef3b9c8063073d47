"""What the page shows for one data set: fronts, published results, budgets and learning curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.course.curves import LearningCurves, learning_curves
from analysis.course.figure import learning_curves_figure
from analysis.front.crosschoice import cross_tested_best, cross_tested_front
from analysis.front.figure import pareto_figure, partial_trials
from analysis.front.published import PublishedPoint, near, on_dataset
from analysis.front.published_words import PublishedPart, lay_out_published
from analysis.front.result import (
    COSTS,
    Cost,
    Floats,
    best_per_budget,
    mark_front,
    mark_membership,
    seed_table,
)
from analysis.front.words import caption_pareto, explain_probability, state_basis, state_finding

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class FrontPart:
    """The front for one cost, in words and as a table."""

    cost: Cost
    finding: str
    caption: str
    arms: Sequence[Mapping[str, Any]]
    """Rows of the arms on the front, from small to large."""
    note: str


@dataclass(frozen=True)
class DatasetPart:
    """What the page shows for one data set; there is no figure if no trial completed."""

    dataset: str
    finding: str
    bases: Sequence[str] = ()
    """Sentences on which trials the front is based on, if runs are searches."""
    arms: pd.DataFrame | None = None
    """Rows of `summarise_arms`, in the order that the figure's `customdata` indexes; None without any
    result."""
    marks: Mapping[Cost, pd.DataFrame] = field(default_factory=dict)
    """The same rows from `mark_membership`, for each informative cost; parameters come first."""
    fronts: Sequence[FrontPart] = ()
    """One part for each cost in `marks`."""
    figure: go.Figure | None = None
    has_test: bool = False
    layers: Sequence[str] = ()
    """Layers of the figure, as keys of `front.figure.LAYERS`."""
    published: PublishedPart | None = None
    budgets: Sequence[Mapping[str, Any]] = ()
    curves: go.Figure | None = None
    curve_labels: Sequence[str] = ()
    curves_caption: str = ""


def lay_out_dataset(
    dataset: str,
    arms: pd.DataFrame,
    judged: pd.DataFrame,
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    published: Sequence[PublishedPoint],
) -> DatasetPart:
    """Describe one data set in words and figures.

    `arms` are the data set's rows of `summarise_arms`, computed from the `judged` trials; `trials` are all
    trials. `judged`, `trials`, `epochs` and `published` may also cover other data sets.
    """
    if not arms["n_seeds"].any():
        return DatasetPart(
            dataset, f"No arm has a seed with a result on {dataset} yet, so there is no front to show."
        )
    arms = arms.reset_index(drop=True)
    points = on_dataset(published, dataset)
    drawn_points = near(points, arms)
    validation, test = (seed_table(arms, judged, f"{split}_accuracy") for split in ("val", "test"))
    marks = {
        cost: _cross_test(mark_membership(mark_front(arms, cost), judged, cost), validation, test, cost)
        for cost in telling_costs(arms)
    }
    marked = marks["parameters"]
    partial = partial_trials(trials[trials["dataset"] == dataset], epochs)
    figure = pareto_figure(marked, "parameters", "validation", drawn_points, partial)
    fronts = [_lay_out_front(dataset, rows, cost) for cost, rows in marks.items()]
    curves = learning_curves(epochs, judged, marked)
    return DatasetPart(
        dataset=dataset,
        finding=fronts[0].finding,
        bases=state_basis(judged[judged["dataset"] == dataset]),
        arms=arms,
        marks=marks,
        fronts=fronts,
        figure=figure,
        has_test=bool(arms["test_mean"].notna().any()),
        layers=[*dict.fromkeys(str(trace.meta["layer"]) for trace in figure.data), "budgets"],
        published=lay_out_published(points, drawn_points),
        budgets=_lay_out_budgets(marked, validation, test),
        curves=learning_curves_figure(curves) if curves.labels else None,
        curve_labels=curves.labels,
        curves_caption=_caption_curves(curves),
    )


def _cross_test(arms: pd.DataFrame, validation: Floats, test: Floats, cost: Cost) -> pd.DataFrame:
    """Add column cross_test: each arm's accuracy by `cross_tested_front` (a fraction, or NaN)."""
    sizes = arms[cost].to_numpy(np.float64, na_value=np.nan)
    found = cross_tested_front(sizes, validation, test)
    return arms.assign(cross_test=[each.accuracy if each else np.nan for each in found])


def _lay_out_budgets(arms: pd.DataFrame, validation: Floats, test: Floats) -> list[dict[str, Any]]:
    sizes = arms["parameters"].to_numpy(np.float64, na_value=np.nan)
    rows = records(best_per_budget(arms[arms["n_seeds"] > 0]))
    for row in rows:
        found = cross_tested_best(sizes, validation, test, row["budget_low"])
        row["cross_test"] = found.accuracy if found else None
    return rows


def telling_costs(arms: pd.DataFrame) -> list[Cost]:
    """List the costs that are known for some completed arm, parameters first.

    Bytes of weights are left out if they are four times the parameters for every arm.
    """
    drawn = arms[arms["n_seeds"] > 0]
    known = [cost for cost in COSTS if cost == "parameters" or drawn[cost].notna().any()]
    return [cost for cost in known if cost != "weight_bytes" or has_own_bytes(drawn)]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows for a template."""
    return [{str(key): field for key, field in row.items()} for row in table.to_dict("records")]


def has_own_bytes(table: pd.DataFrame) -> bool:
    """Return whether bytes of weights differ from four times the parameters in any row."""
    known = table.dropna(subset=["weight_bytes", "parameters"])
    return bool((known["weight_bytes"] != FLOAT32_BYTES * known["parameters"]).any())


def _lay_out_front(dataset: str, arms: pd.DataFrame, cost: Cost) -> FrontPart:
    """Lay out `mark_membership`'s rows by `cost`."""
    drawn = arms[(arms["n_seeds"] > 0) & arms[cost].notna()]
    front = arms[arms["on_front"]].sort_values("front_rank")
    return FrontPart(
        cost=cost,
        finding=state_finding(dataset, drawn, front, cost),
        caption=caption_pareto(arms, drawn, cost),
        arms=records(front),
        note=explain_probability(drawn, cost),
    )


def _caption_curves(curves: LearningCurves) -> str:
    sentences = [
        "Thin lines are single trials.",
        "A thick line is the mean over an arm’s seeds and ends with the shortest trial; its band is ± one "
        "sample standard deviation over seeds (folds averaged first).",
        "Diamonds mark where a trial’s next stage begins."
        if curves.shared_starts is None
        else "Dotted lines separate the stages.",
    ]
    if curves.left_out:
        sentences.append(
            f"Shown are {len(curves.labels):,} arms: those on the front, then the most accurate. "
            f"{curves.left_out:,} more are left out; click any trial to see its curve."
        )
    return " ".join(sentences)
