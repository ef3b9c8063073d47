"""Where the trials of a search are on parallel axes of settings, parameters and accuracy.

Parallel coordinates (Inselberg 1985, Visual Computer 1:69): an axis for each setting, a line for each trial.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import notation
from analysis.arms import differing_settings

Floats = npt.NDArray[np.float64]
Kind = Literal["linear", "log", "error", "categories"]
"""Kind of an axis; `error` is a reversed log scale of 1 − accuracy."""

MOST_TRIALS = 300
BANDS = 5
MOST_NAMES = 12  # names of categories on an axis
NAME_WIDTH = 12  # characters of a category's name
FLOOR = 0.14  # where values begin on an axis that has missing values, which are at 0
LOG_SPAN = 10  # positive values that differ by more than this factor are on a log scale
FEW_VALUES = 6  # up to this number of values, each value of a setting has a tick
GAP = 0.07  # smallest distance between ticks
NO_ERROR = 0.5  # position of an accuracy of 100%, as a share of the smallest error above 0


@dataclass(frozen=True)
class ParallelAxis:
    """One axis, from 0 (its lower end) to 1."""

    name: str
    """Dotted key of a setting, `"parameters"` or `"validation accuracy"`."""
    kind: Kind
    ticks: tuple[float, ...]
    """Positions of the ticks, ascending; the first is 0, labelled "–", if a trial lacks the setting."""
    texts: tuple[str, ...]
    """Labels of the ticks."""
    low: float
    """Position where values begin: 0, or `FLOOR` if 0 is for trials without a value."""


@dataclass(frozen=True)
class PlacedTrial:
    """A trial that is drawn."""

    arm: str
    accuracy: float
    """Validation accuracy, a fraction."""
    parameters: int
    band: int
    """Band of accuracy, from 0, the least accurate fifth of the trials, to `BANDS` − 1."""
    settings: tuple[str, ...]
    """Value on each axis but the last two, as a string; "–" if it has none."""


@dataclass(frozen=True)
class SideBySide:
    """The trials of a search on their axes."""

    axes: tuple[ParallelAxis, ...]
    """Axes of the settings, in search order, then of parameters and validation accuracy."""
    positions: Floats
    """Positions in [0, 1], [n trials, n axes]."""
    trials: tuple[PlacedTrial, ...]
    """The drawn trials, from the least to the most accurate."""
    of: int
    """Number of completed trials of the search, including those that are not drawn."""


def place_side_by_side(trials: pd.DataFrame, keys: Sequence[str]) -> SideBySide | None:
    """Place a search's completed trials on axes of the settings in which they differ.

    `trials` are those of one run (`Run.trials`), of which only completed ones of the phase "search" count,
    and of these the `MOST_TRIALS` with the highest validation accuracy; `keys` are the dotted keys that were
    searched. The key of a group stands for the settings in it. Each setting with two or more values among the
    completed trials, where missing counts as a value, has an axis. None if there is no such setting.
    """
    completed = trials[(trials["phase"] == "search") & (trials["status"] == "completed")]
    columns = _searched_columns(completed, keys)
    if not columns:
        return None
    drawn = completed.sort_values("val_accuracy", kind="stable").tail(MOST_TRIALS)
    accuracies = drawn["val_accuracy"].tolist()
    sizes = drawn["parameters"].astype(int).tolist()
    placed = [
        *(_place_setting(column.removeprefix("config."), drawn[column].tolist()) for column in columns),
        _place_numbers("parameters", sizes, is_log=min(sizes) > 0),
        _place_accuracies(accuracies),
    ]
    settings = [[notation.value(found) for found in drawn[column].tolist()] for column in columns]
    return SideBySide(
        axes=tuple(axis for axis, _ in placed),
        positions=np.column_stack([positions for _, positions in placed]),
        trials=tuple(
            PlacedTrial(str(arm), accuracy, size, band, found)
            for arm, accuracy, size, band, found in zip(
                drawn["arm"],
                accuracies,
                sizes,
                bands_of(accuracies),
                zip(*settings, strict=True),
                strict=True,
            )
        ),
        of=len(completed),
    )


def bands_of(accuracies: Sequence[float]) -> list[int]:
    """Return the fifth that each accuracy belongs to, from 0 for the least accurate; ties share a band."""
    bounds = np.quantile(accuracies, np.arange(1, BANDS) / BANDS, method="lower")
    return [int(band) for band in np.searchsorted(bounds, accuracies, side="right")]


def _searched_columns(trials: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """List the columns of the searched settings that differ, in the order of the keys."""
    differing = differing_settings(trials)
    found = [column for key in keys for column in differing if f"{column}.".startswith(f"config.{key}.")]
    return list(dict.fromkeys(found))


def _place_setting(name: str, values: Sequence[Any]) -> tuple[ParallelAxis, Floats]:
    """Place values by size if all are numbers, else in order."""
    present = [value for value in values if notation.value(value) != notation.MISSING]
    if present and all(_is_number(value) for value in present):
        low, high = float(min(present)), float(max(present))
        return _place_numbers(name, values, is_log=low > 0 and high / low > LOG_SPAN)
    return _place_categories(name, [notation.value(value) for value in values])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e308


def _place_numbers(name: str, values: Sequence[Any], is_log: bool) -> tuple[ParallelAxis, Floats]:
    numbers = [None if notation.value(value) == notation.MISSING else float(value) for value in values]
    present = sorted({number for number in numbers if number is not None})
    ticks = present if len(present) <= FEW_VALUES else round_steps(present[0], present[-1], is_log)
    shares = _shares([math.nan if number is None else number for number in numbers], present, is_log)
    return _axis(name, "log" if is_log else "linear", shares, _shares(ticks, present, is_log), _texts(ticks))


def _place_accuracies(accuracies: Sequence[float]) -> tuple[ParallelAxis, Floats]:
    """Place accuracies by the logarithm of their errors, because near 100% the ratios of errors matter."""
    errors = [1 - accuracy if 1 - accuracy > 1e-9 else 0.0 for accuracy in accuracies]
    least = NO_ERROR * min((error for error in errors if error), default=0.02)
    has_none = 0.0 in errors
    shown = sorted({max(error, least) if has_none else error for error in errors})
    steps = [
        step for step in round_steps(shown[0], shown[-1], is_log=True) if not has_none or step > 2 * least
    ]
    texts = [f"{round(100 * (1 - step), 3):g}%" for step in steps]
    if has_none:
        steps, texts = [least, *steps], ["100%", *texts]
    shares = 1 - _shares([max(error, least) for error in errors], shown, is_log=True)
    return _axis("validation accuracy", "error", shares, 1 - _shares(steps, shown, is_log=True), texts)


def _place_categories(name: str, values: Sequence[str]) -> tuple[ParallelAxis, Floats]:
    """Place strings evenly in their order; if there are many, some have no name on the axis."""
    present = sorted(set(values) - {notation.MISSING}, key=_order)
    middle = {value: share for value, share in zip(present, _even(len(present)), strict=True)}
    shares = np.array([middle.get(value, math.nan) for value in values])
    named = present
    if len(present) > MOST_NAMES:
        named = [present[round(share * (len(present) - 1))] for share in _even(MOST_NAMES)]
    places = np.array([middle[value] for value in named])
    return _axis(name, "categories", shares, places, [_shorten(value) for value in named])


def _axis(
    name: str, kind: Kind, shares: Floats, ticks: Floats, texts: Sequence[str]
) -> tuple[ParallelAxis, Floats]:
    """Make an axis of shares of its length in [0, 1], with room at the bottom for NaN if there is any."""
    is_missing = np.isnan(shares)
    low = FLOOR if is_missing.any() else 0.0
    positions = np.where(is_missing, 0.0, low + (1 - low) * shares)
    shown = [(0.0, notation.MISSING)] if low else []
    for tick, text in sorted(zip((low + (1 - low) * ticks).tolist(), texts, strict=True)):
        if kind == "categories" or not shown or tick - shown[-1][0] >= GAP:
            shown.append((tick, text))
    return ParallelAxis(name, kind, tuple(t for t, _ in shown), tuple(t for _, t in shown), low), positions


def _shares(values: Sequence[float], present: Sequence[float], is_log: bool) -> Floats:
    """Return where values lie between the ends of the ascending `present`, in [0, 1]; NaN stays NaN."""
    ends = np.array([present[0], present[-1]])
    places = np.array(values, dtype=np.float64)
    if is_log:
        ends, places = np.log10(ends), np.log10(places)
    largest = np.abs(ends).max() or 1.0  # divided by first: the difference of two huge numbers is infinite
    low, high = ends / largest
    if low == high:
        return np.where(np.isnan(places), np.nan, 0.5)
    shares: Floats = np.clip((places / largest - low) / (high - low), 0.0, 1.0)
    return shares


def _even(n: int) -> list[float]:
    return [place / (n - 1) for place in range(n)] if n > 1 else [0.5] * n


def round_steps(low: float, high: float, is_log: bool) -> list[float]:
    """Return a few round numbers from `low` to `high`; the ends if there is no room for two."""
    found: list[float] = []
    if is_log and high / low > LOG_SPAN:
        first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
        stride, steps = max(1, (last - first) // 6), (1, 2, 5) if last - first <= 2 else (1,)
        found = [step * 10.0**decade for decade in range(first, last + 1, stride) for step in steps]
    else:
        rough = high / 5 - low / 5
        if rough > 1e-300:
            power = 10.0 ** math.floor(math.log10(rough))
            step = next((size * power for size in (1, 2, 5) if size * power >= rough), 10 * power)
            found = [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    kept = [number for number in found if low <= number <= high]
    return kept if len(kept) > 1 else sorted({low, high})


def _texts(numbers: Sequence[float]) -> list[str]:
    """Write numbers with as few digits as distinguish them."""
    texts: list[str] = []
    for digits in (3, 5, 10, 17):
        texts = [
            f"{number:,.0f}" if number.is_integer() and abs(number) < 1e7 else f"{number:.{digits}g}"
            for number in numbers
        ]
        if len(set(texts)) == len(numbers):
            break
    return texts


def _order(text: str) -> tuple[int, int, list[float], str]:
    """Return the sort key of a category: numbers, short lists of numbers, longer ones, other strings."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    numbers = value if isinstance(value, list) else [value]
    if all(_is_number(number) for number in numbers):
        return int(isinstance(value, list)), len(numbers), numbers, text
    return 2, 0, [], text


def _shorten(text: str) -> str:
    """Shorten a category's name; lists lose their brackets, long names their middle."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1].replace(", ", ",") or text
    if len(text) <= NAME_WIDTH:
        return text
    return f"{text[: NAME_WIDTH - 5]}…{text[-4:]}"
