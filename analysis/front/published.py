"""Published results for comparison: `references.csv`, checked, and which of its rows fit a figure.

They are test accuracies that others measured in other ways, so they are shown beside the arms of a run and
never enter a front, a hypervolume or a test.
"""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

Trust = Literal["A", "B", "C"]
GRADES: dict[Trust, str] = {
    "A": "peer-reviewed, or the authors’ own table with code or weights that can be run",
    "B": "a public repository with logs or weights, or a paper without code",
    "C": "self-reported, without code or repeats",
}

PAPER = "arxiv.org/abs/2501.15547"
SHIPPED = Path(__file__).with_name("references.csv")
COLUMNS = ("dataset", "model", "parameters", "accuracy", "measured", "source", "url", "trust")
REACH = 10.0  # factor by which a figure may extend beyond the arms' parameters, on either side
LEAST_DEPTH = 0.02  # accuracy, a fraction, by which a figure of nearly equal arms may extend downwards


@dataclass(frozen=True)
class PublishedPoint:
    """A row of `references.csv`."""

    dataset: str
    model: str
    parameters: int | None
    """Number of parameters; None if the source does not say."""
    accuracy: float
    """Test accuracy, a fraction."""
    measured: str
    """How the accuracy was measured, in words."""
    source: str
    url: str
    trust: Trust
    """Grade of trust; see `GRADES`."""

    @property
    def is_papers(self) -> bool:
        """Whether it is the claim of the paper whose method lightsweep implements."""
        return PAPER in self.url


def read_published(path: Path = SHIPPED) -> tuple[PublishedPoint, ...]:
    """Read and check the table of published results, in its order.

    Raises:
        ValueError: The table is invalid; the message gives file, line, value and rule. A test checks the
            shipped table.

    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise ValueError(
                f"{path}: the columns are {', '.join(header)}; they must be {', '.join(COLUMNS)}"
            )
        points: list[PublishedPoint] = []
        for row in reader:
            try:
                point = _parse(row)
                if point in points:
                    raise ValueError("duplicate of an earlier row")
            except ValueError as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
            points.append(point)
    return tuple(points)


def on_dataset(points: Iterable[PublishedPoint], dataset: str) -> tuple[PublishedPoint, ...]:
    """Return the points of one data set in ascending order of parameters; unknown numbers come last."""
    chosen = [point for point in points if point.dataset == dataset]
    return tuple(sorted(chosen, key=lambda point: (point.parameters or math.inf, point.model)))


def near(points: Iterable[PublishedPoint], arms: pd.DataFrame) -> tuple[PublishedPoint, ...]:
    """Return the points that a figure of one data set's arms can show and stay readable.

    `arms` are rows of `summarise_arms`. A point is kept if its parameters are within a factor of ten of the
    range of the arms with a result, and if it is not further below the least accurate arm than that is below
    the best (2 points in any case). None are kept if no arm has a test accuracy, since there is nothing to
    compare.
    """
    drawn = arms[arms["n_seeds"] > 0]
    sizes, tests = drawn["parameters"].dropna(), drawn["test_mean"].dropna()
    if sizes.empty or tests.empty:
        return ()
    low, high = float(sizes.min()) / REACH, float(sizes.max()) * REACH
    floor = tests.min() - max(tests.max() - tests.min(), LEAST_DEPTH)
    return tuple(
        point
        for point in points
        if point.parameters is not None and low <= point.parameters <= high and point.accuracy >= floor
    )


def _parse(row: list[str]) -> PublishedPoint:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} fields; there must be {len(COLUMNS)}")
    fields = dict(zip(COLUMNS, row, strict=True))
    empty = [name for name, text in fields.items() if name != "parameters" and not text.strip()]
    if empty:
        raise ValueError(f"{', '.join(empty)} is empty; only parameters may be")
    parameters = int(fields["parameters"]) if fields["parameters"] else None
    if parameters is not None and parameters < 1:
        raise ValueError(f"parameters is {parameters}; it must be 1 or more, or empty if unknown")
    accuracy = float(fields["accuracy"])
    if not 0 < accuracy <= 1:
        raise ValueError(f"accuracy is {accuracy}; it must be a fraction, above 0 and at most 1")
    if not fields["url"].startswith(("https://", "http://")):
        raise ValueError(f"url is {fields['url']!r}; it must start with https:// or http://")
    trust = next((grade for grade in get_args(Trust) if grade == fields["trust"]), None)
    if trust is None:
        raise ValueError(f"trust is {fields['trust']!r}; it must be one of {', '.join(GRADES)}")
    return PublishedPoint(
        fields["dataset"], fields["model"], parameters, accuracy,
        fields["measured"], fields["source"], fields["url"], trust,
    )  # fmt: skip
