"""Plans as text in a terminal and as JSON."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from lightsweep.data.imagedata import DatasetInfo
from lightsweep.errors import InputError
from lightsweep.planning.design import dataset_labels, design_tree
from lightsweep.planning.plan import Plan, check_splits, plan_keys
from lightsweep.planning.stagetree import StageNode, count_stages, stage_tree
from lightsweep.runs.planned import likely_device
from lightsweep.runs.run import data_notes, load_all
from lightsweep.store.folder import STORE, stage_file
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.system.terminal import cell, say

TREE_LINES = 200  # maximum number of stages printed


def plan_tree(planned: Plan, out: Path, data_dir: Path) -> dict[str, Any]:
    """Return a plan as plain content: trials with costs and stages, and a summary of the stages.

    If the data is missing, it is unknown (null) which stages are stored, and the reason is given.
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
        "data": {labels[spec]: _data_text(spec, info) for spec, info in planned.infos.items()},
        "notes": [*data_notes(planned, loaded), *_kernel_notes(planned)],
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


def _data_text(spec: DatasetSpec, info: DatasetInfo) -> str:
    own = f", {info.validation_count:,} validation" if info.validation_count else ""
    limit = f"; a trial trains on {spec.train_limit:,} (train_limit)" if spec.train_limit is not None else ""
    return (
        f"{info.train_count:,} training{own} and {info.test_count:,} test images of {len(info.classes)} "
        f"classes, {info.size_text}{limit}"
    )


def _kernel_notes(planned: Plan) -> list[str]:
    """Return which arms are computed by kernels of our own, if any arm asks for them."""
    asked = {trial.arm: trial.has_images_last for trial in planned.trials if trial.spec.kernels != "torch"}
    ways = {True: "images-last", False: "torch's, since theirs are no plain sequences of known layers"}
    named = {way: [arm for arm, is_ours in asked.items() if is_ours is way] for way in ways}
    return [f"kernels of {', '.join(arms)}: {ways[way]}" for way, arms in named.items() if arms]


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
    """Print a plan: an arm per row, then the tree and a summary of its stages."""
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
        f"stages: {stages['total']} in total, {stages['unique']} unique, "
        f"{stages['total'] - stages['unique']} shared, {stored} already stored",
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
    """Print the stages as a tree: each once, with its number of seeds and folds; arms at the leaves."""
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
