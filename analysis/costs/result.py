"""Measured costs of nets: `costs.json`, as `lightsweep costs` writes it, parsed and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COUNTS = ("parameters", "total_parameters", "macs", "weight_bytes", "int8_bytes", "training_bytes",
          "onnx_bytes", "peak_1_bytes", "peak_256_bytes")  # fmt: skip
ONE_IMAGE = "latency_1_ms"
LATENCIES = (ONE_IMAGE, "latency_256_ms")


@dataclass(frozen=True)
class Latency:
    """Time for one batch, in milliseconds."""

    median: float
    low: float
    """First quartile, in milliseconds."""
    high: float
    """Third quartile, in milliseconds."""
    n: int
    """Number of repeats."""


@dataclass(frozen=True)
class NetCosts:
    """Costs of a net, and the arms whose final net it is."""

    dataset: str
    arms: tuple[str, ...]
    counts: Mapping[str, int | None]
    """Value of each of `COUNTS`; None if it could not be determined."""
    latencies: Mapping[str, Latency | None]
    """Latency for each of `LATENCIES`, by batch size; None if it could not be measured."""
    reasons: Mapping[str, str]
    """Name of a missing value -> why it is missing."""


@dataclass(frozen=True)
class Costs:
    """Costs of a run's nets, measured on one machine."""

    machine: str
    torch: str
    threads: int
    measured_at: str
    """Time of the measurement, ISO 8601."""
    nets: tuple[NetCosts, ...]


def parse_costs(tree: Mapping[str, Any]) -> Costs:
    """Return the costs in the content of `costs.json`.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: The content is not what `lightsweep costs` writes.

    """
    return Costs(
        machine=str(tree["machine"]),
        torch=str(tree["torch"]),
        threads=int(tree["threads"]),
        measured_at=str(tree["measured_at"]),
        nets=tuple(_parse_net(net) for net in tree["nets"]),
    )


def _parse_net(net: Mapping[str, Any]) -> NetCosts:
    counts = {name: None if net[name] is None else int(net[name]) for name in COUNTS}
    negative = [name for name, number in counts.items() if number is not None and number < 0]
    if negative:
        raise ValueError(f"{negative[0]} is {counts[negative[0]]}; it must be 0 or more, or null")
    if isinstance(net["arms"], str):
        raise TypeError(f"arms is {net['arms']!r}; it must be a list")
    return NetCosts(
        dataset=str(net["dataset"]),
        arms=tuple(str(arm) for arm in net["arms"]),
        counts=counts,
        latencies={name: _parse_latency(net[name]) for name in LATENCIES},
        reasons={str(name): str(reason) for name, reason in (net.get("reasons") or {}).items()},
    )


def _parse_latency(latency: Mapping[str, Any] | None) -> Latency | None:
    if latency is None:
        return None
    median, low, high = (float(latency[name]) for name in ("median", "low", "high"))
    if not 0 <= low <= median <= high:
        raise ValueError(f"a latency has quartiles {low} and {high} about the median {median}")
    return Latency(median, low, high, int(latency["n"]))
