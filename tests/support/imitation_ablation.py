"""Small imitations of ablation runs: `design.json` as `lightsweep run` writes it, and accuracies as asked."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from imitation_run import epoch_rows

from analysis.reading import EPOCH_COLUMNS, TRIAL_COLUMNS
from analysis.tables import Run, load_run

Tree = dict[str, Any]
Outcome = float | str | None
"""A test accuracy; or the error of a failed trial; or None for a trial that has not run."""

WITHOUT_TEST = "completed, but without test accuracy"


def design_tree(
    kind: str | None,
    components: Sequence[str] = (),
    alternatives: Mapping[str, Sequence[str]] | None = None,
    **options: Any,
) -> Tree:
    """Return the content of `design.json`; options: order, free (arms), datasets, seeds, folds, and margins.

    Arms have the names and the order that `lightsweep.planning.arms` gives them.
    """
    order = options.get("order", components)
    named = [(name, True, [f"without {name}"]) for name in components]
    named += [(key, False, [f"{key} {value}" for value in values])
              for key, values in (alternatives or {}).items()]  # fmt: skip
    arms = {"base": {name: 0 for name, _, _ in named}}
    for levels in _levels(kind, named, order):
        arms[_arm_name(named, levels)] = levels
    arms |= dict.fromkeys(options.get("free", ()))
    datasets = options.get("datasets", ("digits",))
    return {
        "design": kind,
        "base": "base",
        "significance": options.get("significance", 0.05),
        "equivalence": options.get("equivalence", 0.005),
        "order": None if kind != "path" else order if order == "all" else list(order),
        "seeds": list(options.get("seeds", range(6))),
        "folds": options.get("folds"),
        "factors": [
            {"name": name, "is_component": is_component, "levels": ["base", *others]}
            for name, is_component, others in named
        ],
        "arms": [
            {"dataset": dataset, "arm": arm, "changes": {}, "match": None, "levels": levels}
            | {"parameters": 1_000, "macs": 40_000}
            for dataset in datasets
            for arm, levels in arms.items()
        ],
        "test_images": dict.fromkeys(datasets, 1_000),
    }


def _levels(
    kind: str | None, named: Sequence[tuple[str, bool, list[str]]], order: Sequence[str] | str
) -> Iterable[dict[str, int]]:
    names = [name for name, _, _ in named]
    if kind == "factorial" or order == "all":
        counts = [range(1 + len(others)) for _, _, others in named]
        cells = (dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*counts))
        return [levels for levels in cells if any(levels.values())]
    if kind == "path":
        return [{name: int(name in order[step:]) for name in names} for step in range(len(order))]
    return [
        {other: level * (other == name) for other in names}
        for name, _, others in named
        for level in range(1, 1 + len(others))
    ]


def _arm_name(named: Sequence[tuple[str, bool, list[str]]], levels: Mapping[str, int]) -> str:
    changed = [(name, is_component, others) for name, is_component, others in named if levels[name]]
    out = [name for name, is_component, _ in changed if is_component]
    others = [others[levels[name] - 1] for name, is_component, others in changed if not is_component]
    return ", ".join([*others, f"without {', '.join(out)}"] if out else others)


def imitate(
    folder: Path, tree: Tree, outcome: Callable[[str, int, int | None, str], Outcome], **train: float
) -> Run:
    """Write a run folder, and read it as the analysis does.

    ``outcome`` gives what each trial (arm, seed, fold, data set) came to. Its validation accuracy is half
    its test accuracy, so that the two cannot be taken for one another; ``train`` may set ``train_accuracy``.
    """
    rows: list[Tree] = []
    folds = [None] if tree["folds"] is None else range(tree["folds"])
    for arm, seed, fold in itertools.product(tree["arms"], tree["seeds"], folds):
        came_to = outcome(arm["arm"], seed, fold, arm["dataset"])
        if came_to is not None:
            rows.append(_trial_row(len(rows), arm, seed, fold, came_to) | train)
    rows = rows[::2] + rows[1::2]  # trials end in any order
    trials = pd.DataFrame(rows, columns=[*TRIAL_COLUMNS]).astype(TRIAL_COLUMNS)
    epochs = [row for trial in rows if trial["status"] == "completed" for row in epoch_rows(trial)]
    folder.mkdir(parents=True)
    trials.to_parquet(folder / "trials.parquet")
    pd.DataFrame(epochs, columns=[*EPOCH_COLUMNS]).astype(EPOCH_COLUMNS).to_parquet(folder / "epochs.parquet")
    (folder / "design.json").write_text(json.dumps(tree))
    (folder / "sweep.yaml").write_text(f"name: {folder.name}\n")
    (folder / "environment.json").write_text(json.dumps({"commit": "ada5fb2"}))
    return load_run(folder)


def _trial_row(
    number: int, arm: Mapping[str, Any], seed: int, fold: int | None, came_to: float | str
) -> Tree:
    is_failed = isinstance(came_to, str) and came_to != WITHOUT_TEST
    test = None if isinstance(came_to, str) else came_to
    return {
        **dict.fromkeys(TRIAL_COLUMNS),
        "trial_id": f"t{number:03d}",
        **{"arm": arm["arm"], "dataset": arm["dataset"], "seed": seed, "fold": fold},
        **{"parameters": arm["parameters"], "macs": arm["macs"]},
        "status": "failed" if is_failed else "completed",
        "error": came_to if is_failed else None,
        "test_accuracy": test,
        "val_accuracy": None if is_failed else 0.5 * (test or 0.9),
        "train_accuracy": test,
        "seconds": 1.0,
        "started_at": "2026-03-01T12:00:00+00:00",
    }


def table(accuracies: Mapping[str, Sequence[Outcome]]) -> Callable[[str, int, int | None, str], Outcome]:
    """Return outcomes from a table: arm -> what each seed, counted from 0, came to."""
    return lambda arm, seed, fold, dataset: accuracies[arm][seed]
