"""Data embedded in the page: tables by column, learning curves as whole numbers, compressed.

`data.js` reads it. Accuracies of epochs are whole numbers of 1/10,000 (the precision that the page shows);
everything else is as in the run folders.
"""

import base64
import gzip
import json
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

ACCURACY_STEPS = 10_000
MOST_CLASSES = 20  # a larger confusion matrix is unreadable and would dominate the page's size
LEVEL = 6  # level 9 takes three times as long and saves 1%


class Payload:
    """Data for the page's scripts, collected while its template is rendered."""

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}
        self.figures: dict[str, go.Figure] = {}
        """Figures by the id of the element that they are drawn in."""

    def add(self, name: str, content: Any) -> None:
        """Add plain content (what JSON can hold) under a name."""
        self._parts[name] = json.dumps(content, allow_nan=False, separators=(",", ":"))

    def add_figure(self, name: str, figure: go.Figure) -> Markup:
        """Add a figure; return empty markup, so that a template can call it."""
        self.figures[name] = figure
        return Markup("")

    def packed(self) -> Markup:
        """Return everything that was added as gzip in base64, which is safe inside a <script>."""
        figures = ",".join(f"{json.dumps(name)}:{figure.to_json()}" for name, figure in self.figures.items())
        parts = [f"{json.dumps(name)}:{text}" for name, text in self._parts.items()]
        return pack("{" + ",".join([*parts, f'"figures":{{{figures}}}']) + "}")


def pack(text: str) -> Markup:
    """Compress a string: gzip (deterministic) in base64."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), LEVEL, mtime=0)).decode())


@lru_cache
def packed_plotly() -> Markup:
    """Return plotly's script, compressed: 2 MB instead of 5."""
    return pack(get_plotlyjs())


def by_column(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table as columns: each a list of values (None for missing), or distinct values with codes.

    A column with few distinct values is `{"of": values, "at": codes}`.
    """
    return {str(name): _column(table[name]) for name in table}


def _column(column: "pd.Series[Any]") -> Any:
    values = column.astype(object).where(column.notna(), None).tolist()
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    codes, different = pd.factorize(pd.Series([repr(value) for value in values]))
    if len(different) >= len(values) / 4:
        return values
    first = pd.Series(codes).drop_duplicates()
    return {"of": [values[place] for place in first.index], "at": codes.tolist()}


def epochs_by_trial(epochs: pd.DataFrame, trials: pd.DataFrame) -> dict[str, Any]:
    """Return the epochs of `trials`, in the order of the trials.

    Epochs `start[i]` to `start[i + 1]` belong to trial i. Series: stage (codes into `stages`), val, train, a,
    b (accuracies, a and b of submodels where the net has two) in 1/10,000 or None, kept (1 where the stage
    keeps the epoch's weights).
    """
    rows, start = _rows_of(epochs, trials, "trial_epoch")
    codes, stages = pd.factorize(rows["stage"])
    series = {"val": "val_accuracy", "train": "train_accuracy", "a": "val_accuracy_a", "b": "val_accuracy_b"}
    return {
        "start": start,
        "stages": stages.tolist(),
        "stage": codes.tolist(),
        "kept": rows["is_kept"].astype(int).tolist(),
        **{name: _in_steps(rows[column]) for name, column in series.items()},
    }


def stages_by_trial(stages: pd.DataFrame, trials: pd.DataFrame) -> dict[str, Any]:
    """Return the stages of `trials` by column; `start[i]` to `start[i + 1]` belong to trial i."""
    rows, start = _rows_of(stages, trials, "stage_index")
    columns = ["stage", "origin", "epochs", "epochs_trained", "seconds", "waited_seconds", "host"]
    return {"start": start, **by_column(rows[columns].round({"seconds": 2, "waited_seconds": 2}))}


def confusions(trials: pd.DataFrame) -> list[list[int] | None]:
    """Return each trial's confusion matrix of the test images, row by row; None if unknown or large."""
    found: list[list[int] | None] = []
    for text in trials["test_confusion"]:
        table: list[list[int]] = [] if pd.isna(text) else json.loads(text)
        found.append([count for row in table for count in row] if 0 < len(table) <= MOST_CLASSES else None)
    return found


def _rows_of(table: pd.DataFrame, trials: pd.DataFrame, order: str) -> tuple[pd.DataFrame, list[int]]:
    """Sort the rows that belong to `trials` by trial; return them and where each trial's rows begin."""
    place = pd.MultiIndex.from_frame(trials[["run", "trial_id"]])
    owners = place.get_indexer(pd.MultiIndex.from_frame(table[["run", "trial_id"]]))
    rows = table.assign(owner=owners).query("owner >= 0").sort_values(["owner", order], kind="stable")
    lengths = np.bincount(rows["owner"].to_numpy(np.int64), minlength=len(trials))
    return rows, [0, *np.cumsum(lengths).tolist()]


def _in_steps(column: "pd.Series[Any]") -> list[int | None]:
    steps = (column * ACCURACY_STEPS).round()
    return [None if pd.isna(step) else int(step) for step in steps.tolist()]
