"""How good a search is at equal epochs: samplers and early stopping against random search, repeated.

python benchmarks/search_quality.py OUT [REPEATS]     needs Fashion-MNIST under $LIGHTSWEEP_DATA

Each way searches the same space on the same images (of Fashion-MNIST's training images the first 2,000, half
of them for validation) until its trials come to as many epochs; repeats differ in the sampler's seed, and so
in the seed that nets are trained with. It prints the hypervolume at that budget, at half and at a quarter of
it, and the epochs that each way needs for what random search and TPE reach at the end: means with 95%
intervals (Student's t) over the repeats. What is done already under OUT is looked up.
"""

import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy import stats

from analysis.search.course import hypervolume_course
from analysis.tables import load_run
from lightsweep.data import datasets
from lightsweep.distributed.on_ray import OnRay
from lightsweep.planning.plan import plan
from lightsweep.runs.run import run_sweep
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.sweep import Sweep

BUDGET = 300  # epochs
LIMIT = 15_000
IMAGES = "images.npz"
REFERENCE = (LIMIT, 0.0)
STOPPING = {"first": 1, "factor": 3}
WAYS: dict[str, dict[str, Any]] = {
    "random": {"sampler": "random"},
    "random, halving by rank": {"sampler": "random", "early_stopping": STOPPING},
    "tpe": {"sampler": "tpe"},
    "tpe, halving by rank": {"sampler": "tpe", "early_stopping": STOPPING},
    "tpe, halving by rank, told failed": {
        "sampler": "tpe",
        "early_stopping": {**STOPPING, "tell": "failed"},
    },
    "tpe, halving by accuracy": {"sampler": "tpe", "early_stopping": {**STOPPING, "compare": "accuracy"}},
}
SPACE = {
    "model.filters": {"low": 2, "high": 32, "log": True, "length": [1, 3]},
    "model.kernel": [3, 5],
    "model.batch_norm": [False, True],
    "model.separable": [False, True],
    "model.head": ["flatten", "average"],
    "model.inputs": ["single", "dual"],
    "model.fusion": {"choices": ["conv1x1", "concatenate", "average"], "when": {"model.inputs": "dual"}},
    "augmentation": ["none", "shift", "flip"],
    "stages.preset": ["paper", "all-at-once", "scratch"],
    "stages.lr": {"low": 5e-4, "high": 2e-2, "log": True},
    "stages.finetune_lr": {"low": 1e-3, "high": 5e-2, "log": True},
}


def write_images(path: Path, data: Path) -> None:
    """Write the subset of Fashion-MNIST; few test images, since nobody looks at them here."""
    whole = datasets.load(DatasetSpec(name="fashion-mnist"), data, download=False)
    np.savez(
        path,
        train_images=whole.train.pixels[:2000], train_labels=whole.train.labels[:2000],
        test_images=whole.test.pixels[:200], test_labels=whole.test.labels[:200],
    )  # fmt: skip


def sweep(way: str, repeat: int, images: Path) -> Sweep:
    """Return one search."""
    name = way.replace(", ", "-").replace(" ", "-")
    search = {
        "space": SPACE, "limits": {"parameters": LIMIT}, "budget": {"epochs": BUDGET},
        "seed": 1000 + repeat, "confirmation": None, **WAYS[way],
    }  # fmt: skip
    epochs = {"dual": 5, "fusion": 2, "finetune": 3}
    base = {
        "model": {"inputs": "single", "fusion": "none"},
        "batch_size": 64,
        "stages": {"preset": "paper", "epochs": epochs, "patience": None, "schedule": "cosine"},
    }
    dataset = {"name": "npz", "path": str(images), "validation": 1000}
    return Sweep.model_validate(
        {"name": f"{name}-{repeat}", "dataset": dataset, "seeds": 1, "base": base, "search": search}
    )


def course(way: str, repeat: int, out: Path, data: Path) -> np.ndarray:
    """Search, or look it up; return [n, 2]: epochs spent and hypervolume after each trial."""
    wanted = sweep(way, repeat, (out / IMAGES).absolute())
    planned = plan(wanted, lambda spec: datasets.describe(spec, data))
    own = out / wanted.name  # a store of its own: what is looked up is never stopped early
    with (out / "log.txt").open("a") as log:
        summary = run_sweep(planned, own, data, OnRay(), False, False, Console(file=log))
    if summary.interrupted:
        raise KeyboardInterrupt
    found = hypervolume_course(load_run(summary.folder).trials, REFERENCE)
    return found[["epochs", "hypervolume"]].to_numpy(dtype=np.float64)


def at(found: np.ndarray, epochs: float) -> float:
    """Return the hypervolume when so many epochs were spent."""
    behind = found[found[:, 0] <= epochs]
    return float(behind[-1, 1]) if len(behind) else 0.0


def needed(found: np.ndarray, hypervolume: float) -> float:
    """Return the epochs spent when the hypervolume was reached first; infinite if it never was."""
    reached = found[found[:, 1] >= hypervolume]
    return float(reached[0, 0]) if len(reached) else math.inf


def interval(values: list[float]) -> str:
    """Return mean and half the width of its 95% interval."""
    width = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{np.mean(values):.4f} ± {width:.4f}"


def main() -> None:
    """Run what is asked on the command line."""
    out, repeats = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    out.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ["LIGHTSWEEP_DATA"])
    if not (out / IMAGES).exists():
        write_images(out / IMAGES, data)
    courses: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
    for repeat in range(repeats):  # in turn, so that a break leaves as many of each
        for way in WAYS:
            courses[way].append(course(way, repeat, out, data))
            print(f"repeat {repeat + 1} of {repeats}: {way}: {courses[way][-1][-1, 1]:.4f}", flush=True)
    print(
        f"\nhypervolume (decades of parameters × accuracy, reference {LIMIT:,} parameters and accuracy 0), "
        f"n = {repeats} searches each, mean ± 95% interval"
    )
    marks = (BUDGET / 4, BUDGET / 2, BUDGET)
    print("| search | " + " | ".join(f"{mark:.0f} epochs" for mark in marks) + " | against random, paired |")
    goals = [at(found, BUDGET) for found in courses["random"]]
    for way, found in courses.items():
        cells = [interval([at(one, mark) for one in found]) for mark in marks]
        paired = [at(one, BUDGET) - goal for one, goal in zip(found, goals, strict=True)]
        print(f"| {way} | {' | '.join(cells)} | {interval(paired) if way != 'random' else '–'} |")
    for other in ("random", "tpe"):
        goal = float(np.mean([at(found, BUDGET) for found in courses[other]]))
        print(f"\nepochs until the mean hypervolume that {other} has in the end, {goal:.4f}:")
        for way, found in courses.items():
            epochs = [needed(one, goal) for one in found]
            reached = sum(math.isfinite(value) for value in epochs)
            print(f"- {way}: median {np.median(epochs):.0f}, reached by {reached} of {len(epochs)}")


if __name__ == "__main__":
    main()
