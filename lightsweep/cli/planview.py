"""Plans, trials and data sets as tables in a terminal and as JSON."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from lightsweep.data import datasets
from lightsweep.data.imagedata import DatasetInfo
from lightsweep.deliver.verify import Verification
from lightsweep.errors import InputError
from lightsweep.plan.design import dataset_labels, design_tree
from lightsweep.plan.plan import Plan, check_splits, plan_keys
from lightsweep.plan.stagetree import StageNode, count_stages, stage_tree
from lightsweep.runfolder.records import Record
from lightsweep.runs.planned import likely_device
from lightsweep.runs.run import STORE, data_notes, load_all
from lightsweep.store.folder import stage_file
from lightsweep.store.keeping import Amount, Summary
from lightsweep.system.terminal import cell, say

TREE_LINES = 200  # of a plan's stages in a terminal


def plan_tree(planned: Plan, out: Path, data_dir: Path) -> dict[str, Any]:
    """Return a plan as plain content: trials with costs and stages, and what the stages come to.

    Works where the data is not here; what is stored is then unknown (null), with the reason.
    """
    missing = None
    try:
        loaded = load_all(planned, data_dir, download=False)
        fingerprints = {spec: data.fingerprint for spec, data in loaded.items()}
    except InputError as error:
        loaded, fingerprints, missing = {}, None, str(error)
    check_splits(planned, {spec: data.train.labels for spec, data in loaded.items()})
    keys = plan_keys(planned.trials, fingerprints, likely_device(planned.sweep.resources))
    labels = dataset_labels(planned, fingerprints)
    is_stored = partial(_is_stored, out / STORE) if fingerprints else None
    stages = count_stages(planned, keys, is_stored)
    return {
        "name": planned.sweep.name,
        "data": {labels[spec]: _data_text(info) for spec, info in planned.infos.items()},
        "notes": data_notes(planned, loaded),
        "design": design_tree(planned, fingerprints),
        "trials": [
            {
                "trial_id": trial.trial_id,
                "arm": trial.arm,
                "seed": trial.seed,
                "fold": trial.fold,
                "dataset": labels[trial.dataset],
                **asdict(planned.costs[trial.trial_id]),
                "epochs_at_most": sum(stage.epochs for stage in trial.stages),
                "stages": [
                    {
                        **stage.model_dump(
                            mode="json", include={"name", "train", "loss", "optimizer", "lr", "epochs"}
                        ),
                        "key": key,
                        "stored": None if is_stored is None else is_stored(key),
                    }
                    for stage, key in zip(trial.stages, keys[trial.trial_id], strict=False)
                ],
            }
            for trial in planned.trials
        ],
        "tree": [_plain_node(node, is_stored) for node in stage_tree(planned, keys)],
        "stages": {**asdict(stages), "stored_unknown_because": missing},
    }


def _data_text(info: DatasetInfo) -> str:
    own = f", {info.validation_count:,} validation" if info.validation_count else ""
    return (
        f"{info.train_count:,} training{own} and {info.test_count:,} test images of {len(info.classes)} "
        f"classes, {info.size_text}"
    )


def _is_stored(store: Path, key: str) -> bool:
    return stage_file(store, key).exists()


def _plain_node(node: StageNode, is_stored: Callable[[str], bool] | None) -> dict[str, Any]:
    return {
        "name": node.name,
        "epochs_at_most": node.epochs,
        "times": len(node.keys),
        "stored": None if is_stored is None else sum(map(is_stored, node.keys)),
        "arms": list(node.arms),
        "children": [_plain_node(child, is_stored) for child in node.children],
    }


def print_plan(tree: dict[str, Any], console: Console) -> None:
    """Print a plan: an arm per row, then what the stages come to."""
    table = Table(title=f"{tree['name']}: {len(tree['trials'])} trials", title_justify="left")
    for name in ("arm", "trials", "parameters", "MACs", "weights", "stages (epochs at most)"):
        table.add_column(name, justify="left" if name.startswith(("arm", "stages")) else "right")
    arms: dict[tuple[str, str], list[dict[str, Any]]] = {
        (arm["dataset"], arm["arm"]): [] for arm in tree["design"]["arms"]
    }
    for trial in tree["trials"]:
        arms[trial["dataset"], trial["arm"]].append(trial)
    several = len({dataset for dataset, _ in arms}) > 1
    for (dataset, arm), trials in arms.items():
        first = trials[0]
        table.add_row(
            cell(f"{dataset}: {arm}" if several else arm),
            str(len(trials)),
            f"{first['parameters']:,}",
            f"{first['macs']:,}",
            f"{first['weight_bytes'] / 1024:.1f} KiB",
            cell(" → ".join(f"{stage['name']} {stage['epochs']}" for stage in first["stages"])),
        )
    console.print(table)
    _print_tree(tree["tree"], console)
    for line in (*(f"{label}: {data}" for label, data in tree["data"].items()), *tree["notes"]):
        say(console, line)
    stages = tree["stages"]
    stored = "unknown" if stages["stored"] is None else str(stages["stored"])
    console.print(
        f"stages: {stages['total']} in all, {stages['unique']} unique, {stages['total'] - stages['unique']} "
        f"shared, {stored} stored already",
        highlight=False,
        soft_wrap=True,
    )
    left = stages["epochs_unique"] if stages["epochs_left"] is None else stages["epochs_left"]
    console.print(
        f"epochs at most: {left:,} to train, against {stages['epochs_alone']:,} if each trial trained alone: "
        f"{stages['epochs_alone'] - left:,} saved",
        highlight=False,
        soft_wrap=True,
    )
    if stages["stored_unknown_because"]:
        console.print(stages["stored_unknown_because"], markup=False, highlight=False, soft_wrap=True)


def _print_tree(nodes: list[dict[str, Any]], console: Console) -> None:
    """Print the stages as a tree, each once with its number of seeds and folds, arms at their ends."""
    root = Tree("stages: epochs at most × seeds and folds")
    left = TREE_LINES

    def grow(branch: Tree, nodes: list[dict[str, Any]]) -> None:
        nonlocal left
        for node in nodes:
            left -= 1
            if left < 0:
                return
            text = f"{node['name']} {node['epochs_at_most']} × {node['times']}"
            if len(node["arms"]) > 1:
                text += f", shared by {len(node['arms'])} arms"
            if node["stored"]:
                text += ", stored" if node["stored"] == node["times"] else f", {node['stored']} stored"
            ends = {arm for child in node["children"] for arm in child["arms"]}
            arms = "; ".join(arm for arm in node["arms"] if arm not in ends)
            grow(branch.add(cell(f"{text} → {arms}" if arms else text)), node["children"])

    grow(root, nodes)
    console.print(root, highlight=False)
    if left < 0:
        console.print("… and more; --json has all", highlight=False)


def print_verification(found: Verification, console: Console) -> None:
    """Print whether a trial that was trained again is what was recorded."""
    lines = [f"{found.label}: trained again without the store in {found.seconds:.1f} s"]
    lines += [
        f"{name}: {_show(name, before)} was recorded, {_show(name, after)} now"
        for name, (before, after) in found.accuracies.items()
    ]
    lines.append(f"weights compared with stored ones: of {found.weights_compared} of {found.stages} stages")
    lines.append(f"expected: {found.expected}")
    if found.is_bit_equal:
        lines.append("confirmed: bit-equal")
    else:
        lines += [f"differs: {difference}" for difference in found.differences]
        lines.append("confirmed within that" if found.is_confirmed else "NOT confirmed")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_trial(record: Record, console: Console) -> None:
    """Print one trial, whole: its row, its settings, and its stages."""
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
        shown = kept or epochs[-1]  # nothing is kept of a trial that was stopped early
        curves.add_row(
            cell(name), str(len(epochs)), str(kept["epoch"]) if kept else "–",
            _show("loss", shown["train_loss"]),
            *(_show("accuracy", shown[key]) for key in ("val_accuracy", "val_accuracy_a", "val_accuracy_b")),
            f"{sum(epoch['seconds'] for epoch in epochs):.1f}",
        )  # fmt: skip
    console.print(curves)


def print_datasets(found: list[datasets.Availability], console: Console) -> None:
    """Print which data sets are here, and where they are or what is missing."""
    table = Table("data set", "here", "train", "test", "shape", "classes", "where")
    for item in found:
        info = item.info
        table.add_row(
            info.name, "yes" if item.here else "no", f"{info.train_count:,}", f"{info.test_count:,}",
            f"{info.channels}×{info.height}×{info.width}", str(len(info.classes)), cell(item.where),
        )  # fmt: skip
    console.print(table)
    console.print("npz and imagefolder take a path in the sweep file", highlight=False)


def print_store(summary: Summary, console: Console) -> None:
    """Print what the stage store holds: in all, then a run per row; several runs may refer to the same."""
    limit = "none" if summary.limit_bytes is None else size_text(summary.limit_bytes)
    console.print(
        f"{summary.folder}: results {amount_text(summary.results)}, "
        f"checkpoints {amount_text(summary.checkpoints)}, limit {limit}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    table = Table("referred to by")
    for name in ("entries", "size", "of it alone"):
        table.add_column(name, justify="right")
    for share in summary.runs:
        held = share.held
        table.add_row(
            cell(share.run), f"{held.entries:,}", size_text(held.size_bytes), size_text(share.alone_bytes)
        )
    table.add_section()
    unreferenced = summary.unreferenced
    table.add_row("no run", f"{unreferenced.entries:,}", size_text(unreferenced.size_bytes), "")
    console.print(table)


def amount_text(amount: Amount) -> str:
    """Return how many entries of the store, and their size."""
    return f"{amount.entries:,} ({size_text(amount.size_bytes)})"


def size_text(size_bytes: int) -> str:
    """Return a size with the unit that suits it.

    >>> size_text(1536)
    '1.5 KiB'
    """
    for unit, unit_bytes in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:,.1f} {unit}"
    return f"{size_bytes} B"


def _show(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if "accuracy" in key:
        return f"{value:.2%}"
    if isinstance(value, float):
        return f"{value:.4f}" if key == "loss" else f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
