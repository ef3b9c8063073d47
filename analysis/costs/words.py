"""The page's text on measured costs: a row per net, and why values are missing."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis import notation
from analysis.costs.result import LATENCIES, Costs, Latency, NetCosts

PAPER_PARAMETERS = 14_862
PAPER_MEMORY = (
    "The “0.17 MB” that arXiv 2501.15547 gives for its net of 14,862 parameters are the weights and Nadam’s "
    "two moments in float32 (178,344 bytes, 0.170 MiB); the weights alone are 59,448 bytes (0.057 MiB)."
)
IMAGES = {"1 image": "latency_1_ms", "256 images": "latency_256_ms"}
NOT_SAID = "not measured; costs.json gives no reason"
TITLES = {
    "parameters": "Parameters",
    "total_parameters": "All stored numbers",
    "macs": "MACs",
    "weight_bytes": "Bytes as stored",
    "int8_bytes": "Bytes in int8",
    "training_bytes": "Bytes with Nadam’s moments",
    "onnx_bytes": "Bytes of the ONNX file",
    "latency_1_ms": "Latency, 1 image, ms",
    "latency_256_ms": "Latency, 256 images, ms",
    "peak_1_bytes": "Peak memory, 1 image, KiB",
    "peak_256_bytes": "Peak memory, 256 images, KiB",
}


@dataclass(frozen=True)
class CostCell:
    """A formatted value, with the number of the footnote that says why it is missing."""

    text: str
    quartiles: str = ""
    footnote: int | None = None


@dataclass(frozen=True)
class CostRow:
    """A net in the table."""

    dataset: str
    arms: Sequence[str]
    cells: Sequence[CostCell]


@dataclass(frozen=True)
class CostsPart:
    """The costs of a run's nets, on the page."""

    title: str
    headings: Sequence[str]
    rows: Sequence[CostRow]
    """Rows of the nets, in ascending order of parameters."""
    footnotes: Sequence[str]
    caption: str
    several_datasets: bool


def lay_out_costs(costs: Costs | None, place: str) -> CostsPart | None:
    """Put a run's costs into rows; None if none were measured. `place` names the run in the heading."""
    if costs is None or not costs.nets:
        return None
    footnotes: list[str] = []
    nets = sorted(costs.nets, key=lambda net: (net.dataset, net.counts["parameters"] or 0, net.arms))
    rows = [CostRow(net.dataset, net.arms, [_cell(net, name, footnotes) for name in TITLES]) for net in nets]
    return CostsPart(
        title=f"What the nets cost{place}",
        headings=tuple(TITLES.values()),
        rows=rows,
        footnotes=footnotes,
        caption=_caption(costs),
        several_datasets=len({net.dataset for net in nets}) > 1,
    )


def _cell(net: NetCosts, name: str, footnotes: list[str]) -> CostCell:
    """Format a value; a missing one adds a footnote with its reason, shared by equal reasons."""
    found = net.latencies[name] if name in LATENCIES else net.counts[name]
    if found is None:
        reason = net.reasons.get(name, NOT_SAID)
        if reason not in footnotes:
            footnotes.append(reason)
        return CostCell(notation.MISSING, footnote=footnotes.index(reason) + 1)
    if isinstance(found, Latency):
        return CostCell(
            notation.significant(found.median),
            f"{notation.significant(found.low)} to {notation.significant(found.high)}",
        )
    return CostCell(notation.kibibytes(found) if name.startswith("peak") else notation.count(found))


def _repeats(costs: Costs, name: str) -> str:
    """Return the number of repeats of a latency, `"200"` or `"50 to 200"`; empty if not measured."""
    found = sorted({latency.n for net in costs.nets if (latency := net.latencies[name])})
    return " to ".join(f"{n:,}" for n in dict.fromkeys([*found[:1], *found[-1:]]))


def _caption(costs: Costs) -> str:
    measured = pd.to_datetime(costs.measured_at, utc=True, errors="coerce")
    when = "" if pd.isna(measured) else f", {measured.day} {measured:%B %Y}"
    sentences = [
        f"Measured on {costs.machine} with torch {costs.torch} on "
        f"{notation.counted(costs.threads, 'thread')}{when}."
    ]
    repeats = [f"{n} with {images}" for images, name in IMAGES.items() if (n := _repeats(costs, name))]
    if repeats:
        sentences.append(
            f"Latency: median (first to third quartile) over repeats, n = {' and '.join(repeats)}."
        )
    sentences.append(
        "Parameters: the trained ones; all stored numbers: also pruned weights and running statistics. "
        "Bytes are of the weights: as stored, after rounding to int8, in float32 with "
        "both moments of Nadam (as in training), and as an ONNX file. "
        "Peak memory: the most that torch allocates while the net runs, excluding weights and images."
    )
    if any(net.counts["parameters"] == PAPER_PARAMETERS for net in costs.nets):
        sentences.append(PAPER_MEMORY)
    return " ".join(sentences)
