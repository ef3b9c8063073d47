"""The page's text on repeated searches: the attainment surfaces of each kind of search."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis import notation
from analysis.attainment.figure import attainment_figure
from analysis.attainment.result import Repeats, settings_apart
from analysis.style import Plot


@dataclass(frozen=True)
class RepeatsPart:
    """Repeated searches on one data set, on the page."""

    title: str
    finding: str
    surfaces: Plot


def lay_out_repeats(found: Sequence[Repeats]) -> list[RepeatsPart]:
    """Describe repeated searches in words and figures, one part per data set and set of objectives."""
    groups: dict[tuple[str, frozenset[str]], list[Repeats]] = {}
    for one in found:
        groups.setdefault((one.dataset, frozenset(one.search.objectives)), []).append(one)
    parts = []
    for (dataset, _), repeats in groups.items():
        labels = _label(repeats)
        kinds = [
            f"{len(one.runs)} searches{' with ' if label else ''}{label} ({notation.listed(one.runs)})"
            for label, one in zip(labels, repeats, strict=True)
        ]
        caption = (
            "Empirical attainment surfaces: what at least 25%, 50% and 75% of the repeats reached or "
            "surpassed in both parameters and validation accuracy; the middle half of the repeats lies "
            "between the outer two. From the searches’ own completed trials, one seed each, without "
            "confirmations. The accuracy axis is a log scale of the error."
        )
        label = "Attainment surfaces of repeated searches"
        plot = Plot(attainment_figure(repeats, labels), label, caption, 30)
        title = "Repeated searches" + (f": {dataset}" if len(groups) > 1 else "")
        finding = f"What repeated searches reach on {dataset}: {'; '.join(kinds)}."
        parts.append(RepeatsPart(title, finding, plot))
    return parts


def _label(repeats: Sequence[Repeats]) -> list[str]:
    """Name each kind of search by the settings in which the kinds differ; "" if there is only one."""
    apart = settings_apart([one.search for one in repeats])
    return [
        ", ".join(f"{key.replace('_', ' ')} {_written(setting)}" for key, setting in one.items())
        for one in apart
    ]


def _written(setting: object) -> str:
    if isinstance(setting, dict):
        return " ".join(f"{key} {notation.value(size)}" for key, size in setting.items()) or "none"
    if isinstance(setting, list | tuple):
        return " ".join(map(str, setting)) or "none"
    return "none" if setting is None else str(setting)
