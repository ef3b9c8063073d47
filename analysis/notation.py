"""Format values for people: percent with two decimals, thousands separators, "–" for missing."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

MISSING = "–"


def percent(fraction: Any) -> str:
    """Write an accuracy (a fraction in [0, 1], or missing) in percent, for example `"98.12%"`."""
    return MISSING if pd.isna(fraction) else f"{100 * float(fraction):.2f}%"


def percent_spread(mean: Any, std: Any) -> str:
    """Write a mean accuracy with its standard deviation (both fractions), `"98.12 ± 0.11%"`."""
    if pd.isna(mean) or pd.isna(std):
        return percent(mean)
    return f"{100 * float(mean):.2f} ± {100 * float(std):.2f}%"


def count(number: Any) -> str:
    """Write a whole number (or missing) with thousands separators, `"14,862"`."""
    return MISSING if pd.isna(number) else f"{int(number):,}"


def seconds(duration_seconds: Any) -> str:
    """Write a duration in seconds (or missing) with one decimal, `"1,234.5 s"`."""
    return MISSING if pd.isna(duration_seconds) else f"{float(duration_seconds):,.1f} s"


def significant(number: Any) -> str:
    """Write a positive number without unit (or missing) with three significant digits, `"1,230"`."""
    if pd.isna(number):
        return MISSING
    rounded = float(f"{float(number):.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.3g}"


def kibibytes(size_bytes: Any) -> str:
    """Write a size in bytes (or missing) in KiB, without the unit, with three significant digits."""
    return MISSING if pd.isna(size_bytes) else significant(float(size_bytes) / 2**10)


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, which is plural unless the number is one: `"3 seeds"`, `"1 arm"`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def seeds_of(arm: Mapping[str, Any]) -> str:
    """Write the number of seeds in an arm's mean, `"3"`, or `"3 of 5"` if some seeds have no result."""
    have, tried = int(arm["n_seeds"]), int(arm["n_seeds_tried"])
    return f"{have:,}" if have == tried else f"{have:,} of {tried:,}"


OWN_CODE = re.compile(r"(\.py:\w+)@[0-9a-f]{16}\b")
"""A reference to code of the user's own, with its digest."""


def value(anything: Any) -> str:
    """Write a hyperparameter's value; a whole float (an integer column with gaps) without its `.0`."""
    if isinstance(anything, float):
        return MISSING if pd.isna(anything) else f"{anything:.10g}"
    return MISSING if anything is None or anything is pd.NA else str(anything)


def points(fraction: Any) -> str:
    """Write a difference of accuracies (a fraction, or missing) in percentage points, `"0.52 points"`."""
    return MISSING if pd.isna(fraction) else f"{100 * float(fraction):.2f} points"


def signed_points(fraction: Any) -> str:
    """Write a difference of accuracies (a fraction, or missing) in points with its sign, `"+0.52"`."""
    return MISSING if pd.isna(fraction) else f"{100 * float(fraction):+.2f}"


def interval_points(interval: Any, signed: bool = True) -> str:
    """Write an interval (`paired.Interval`, fractions, or None) in points, `"-0.10 to +0.32"`."""
    if interval is None:
        return MISSING
    form = "+.2f" if signed else ".2f"
    return f"{100 * interval.low:{form}} to {100 * interval.high:{form}}"


def p_value(probability: Any) -> str:
    """Write a p value (or missing) with two significant digits, `"0.0039"`."""
    return MISSING if pd.isna(probability) else f"{float(probability):.2g}"


def decimals(number: Any) -> str:
    """Write a number without unit (or missing) with two decimals."""
    return MISSING if pd.isna(number) else f"{float(number):.2f}"


def share(fraction: Any) -> str:
    """Write a fraction (or missing) in whole percent, `"90%"`."""
    return MISSING if pd.isna(fraction) else f"{100 * float(fraction):.0f}%"


OBJECTIVES = {
    "val_accuracy": "validation accuracy",
    "parameters": "parameters",
    "macs": "MACs",
    "weight_bytes": "bytes of weights",
    "latency_ms": "latency",
}


def objective(name: str) -> str:
    """Return the display name of a search objective, `"validation accuracy"`; unknown names are unchanged."""
    return OBJECTIVES.get(name, name)


def listed(words: Sequence[str]) -> str:
    """Write words as a list, `"a, b and c"`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def milliseconds(duration_ms: Any) -> str:
    """Write a duration in milliseconds (or missing), `"0.84 ms"`."""
    return MISSING if pd.isna(duration_ms) else f"{float(duration_ms):,.2f} ms"


def amount(cost: str, number: Any) -> str:
    """Write a cost of a net (or missing) with its unit, `"9,610 MACs"` or `"0.35 ms for one image"`."""
    if cost == "latency_ms":
        return f"{milliseconds(number)} for one image"
    return f"{count(number)} {objective(cost)}"
