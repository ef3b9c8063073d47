"""A trial's record, and its verification, as text in a terminal."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from lightsweep.runfolder.records import Record
from lightsweep.system.terminal import cell

if TYPE_CHECKING:
    from lightsweep.deliver.verify import Verification


def print_verification(found: "Verification", console: Console) -> None:
    """Print whether a trial that was trained again agrees with its record."""
    lines = [f"{found.label}: trained again without the store in {found.seconds:.1f} s"]
    lines += [
        f"{name}: {_show(name, before)} was recorded, {_show(name, after)} now"
        for name, (before, after) in found.accuracies.items()
    ]
    lines.append(f"weights compared with the stored ones: {found.weights_compared} of {found.stages} stages")
    lines.append(f"expected: {found.expected}")
    if found.is_bit_equal:
        lines.append("confirmed: bit-equal")
    else:
        lines += [f"differs: {difference}" for difference in found.differences]
        lines.append("confirmed within that tolerance" if found.is_confirmed else "NOT confirmed")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_trial(record: Record, console: Console) -> None:
    """Print the whole record of a trial: its row, its settings and its stages."""
    row = record.trial
    table = Table(show_header=False, box=None)
    for key, value in row.items():
        if not key.startswith("config."):
            table.add_row(cell(key), cell(_show(key, value)))
    for key, value in row.items():
        if key.startswith("config."):
            table.add_row(cell(key), cell(_show(key, value)))
    console.print(table)
    stages: dict[str, list[dict[str, Any]]] = {}
    for epoch in record.epochs:
        stages.setdefault(epoch["stage"], []).append(epoch)
    curves = Table("stage", "epochs", "kept", "train loss", "val accuracy", "A", "B", "seconds")
    for name, epochs in stages.items():
        kept = next((epoch for epoch in epochs if epoch["is_kept"]), None)
        shown = kept or epochs[-1]  # no epoch is kept if the trial was stopped early
        curves.add_row(
            cell(name), str(len(epochs)), str(kept["epoch"]) if kept else "–",
            _show("loss", shown["train_loss"]),
            *(_show("accuracy", shown[key]) for key in ("val_accuracy", "val_accuracy_a", "val_accuracy_b")),
            f"{sum(epoch['seconds'] for epoch in epochs):.1f}",
        )  # fmt: skip
    console.print(curves)


def _show(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if key == "test_hits":
        return "a bit for each test image: in trials.parquet"
    if "accuracy" in key:
        return f"{value:.2%}"
    if isinstance(value, float):
        return f"{value:.4f}" if key == "loss" else f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
