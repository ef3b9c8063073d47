"""Costs of nets, and results of an export, as text in a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from lightsweep.deliver.export import Choice, Exported

PAPERS_TRAINING_BYTES = 3 * 59_448
PAPERS_SIZE = (
    "arXiv 2501.15547 gives its net as 0.17 MB: that is the weights with Nadam's two moments, 3 × 59,448 "
    "bytes = 0.170 MiB; the weights alone are 0.057 MiB"
)


def net_name(net: dict[str, Any]) -> str:
    """Return the name of a net in `costs.json`: data set, first arm, and the number of further arms."""
    more = len(net["arms"]) - 1
    return f"{net['dataset']}: {net['arms'][0]}{f' and {more} more' if more else ''}"


def print_costs(tree: dict[str, Any], console: Console) -> None:
    """Print the content of `costs.json`: counts, sizes, speed and memory, with a numbered net per row."""
    counts = _table("numbers", "parameters", "all numbers", "MACs")
    sizes = _table("KiB", "weights", "weights in int8", "weights with Nadam's two moments", "ONNX file")
    speeds = _table(
        "milliseconds: median (quartiles); peak KiB, without weights and images",
        "latency, batch 1", "batch 256", "memory, batch 1", "batch 256",
    )  # fmt: skip
    for number, net in enumerate(tree["nets"], 1):
        name = str(number)
        counts.add_row(name, *(f"{net[key]:,}" for key in ("parameters", "total_parameters", "macs")))
        kibs = ("weight_bytes", "int8_bytes", "training_bytes", "onnx_bytes")
        sizes.add_row(name, *(_kib(net[key]) for key in kibs))
        latencies = (_latency(net[key]) for key in ("latency_1_ms", "latency_256_ms"))
        speeds.add_row(name, *latencies, *(_kib(net[key]) for key in ("peak_1_bytes", "peak_256_bytes")))
    for table in (counts, sizes, speeds):
        console.print(table)
    lines = [f"measured on {tree['machine']}, torch {tree['torch']}, {tree['threads']} thread"]
    if any(net["training_bytes"] == PAPERS_TRAINING_BYTES for net in tree["nets"]):
        lines.append(PAPERS_SIZE)
    lines += [
        f"net {number} has no {key}: {why}"
        for number, net in enumerate(tree["nets"], 1)
        for key, why in net["reasons"].items()
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("net", *columns):
        table.add_column(column, justify="right")
    return table


def _kib(size_bytes: int | None) -> str:
    return "–" if size_bytes is None else f"{size_bytes / 1024:,.1f}"


def _latency(latency: dict[str, float] | None) -> str:
    if latency is None:
        return "–"
    return f"{latency['median']:.3g} ({latency['low']:.3g}–{latency['high']:.3g})"


def choice_line(choice: Choice, most_parameters: int) -> str:
    """Return in words which trial was chosen for a budget, and why."""
    among = "the only arm" if choice.arms == 1 else f"best of {choice.arms} arms"
    over = (
        "one trial"
        if choice.trials == 1
        else f"the mean of {choice.trials} trials, of which this is the best"
    )
    return (
        f"trial {choice.trial_id}: {choice.arm}, {among} with at most {most_parameters:,} parameters by "
        f"validation accuracy, {choice.val_mean:.2%} ({over})"
    )


def exported_lines(made: Exported) -> list[str]:
    """Return in words what was exported, and how it agrees with PyTorch."""
    info, row, agreement = made.info, made.record.trial, made.agreement
    shape, classes = f"{info.channels}, {info.height}, {info.width}", len(info.classes)
    outdated = (
        "warning: the trial was trained with different training code or images: check that the two "
        "accuracies below agree"
    )
    return [
        *([] if made.is_current else [outdated]),
        f"{made.path}: {made.size_bytes:,} bytes, {row['parameters']:,} parameters: {made.trial.label}",
        f"images float32 [n, {shape}] in [0, 1] to logits float32 [n, {classes}], for any n",
        f"checked on {agreement.images:,} test images against PyTorch: predictions are equal, logits differ "
        f"by at most {agreement.largest_difference:.2g}",
        f"accuracy on these images {agreement.accuracy:.2%} (recorded on all {info.test_count:,}: "
        f"{row['test_accuracy']:.2%})",
    ]
