"""What a trial costs the launcher, by the number of trials; the training function is empty.

python benchmarks/growth.py 100 1000 10000
"""

import io
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import analysis
from lightsweep.data import datasets
from lightsweep.distributed.on_ray import OnRay
from lightsweep.planning.plan import Plan, plan
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runs.run import run_sweep
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.training.chain import StageEntry
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial

EPOCHS, ARMS = 12, 10


def sweep(trials: int) -> Sweep:
    """Return a sweep of so many trials: ten arms of three stages, the rest are seeds."""
    stages = [
        {"name": "dual", "loss": "heads", "epochs": 4},
        {"name": "fusion", "loss": "fused", "train": "last-2", "epochs": 4},
        {"name": "finetune", "loss": "fused", "epochs": 4},
    ]
    grid = {"stages.finetune.lr": [0.001 * (index + 1) for index in range(ARMS)]}
    return Sweep.model_validate(
        {
            "name": "growth", "dataset": {"name": "digits"}, "seeds": trials // ARMS, "grid": grid,
            "base": {"stages": stages},
        }
    )  # fmt: skip


def train_nothing(trial: Trial, *_: Any) -> Generator[object, None, Outcome]:
    """Return at once what a trial of three stages would be recorded as."""
    accuracies = dict.fromkeys(("val_accuracy", "test_accuracy", "train_accuracy"), 0.5)
    where = {"host": "h", "device": "cpu", "hardware": "c", "torch": "t", "started_at": ""}
    stages = [
        StageEntry(i, f"{i}" * 64, "trained", EPOCHS // 3 * (i < 3), 0, 0.0, 0.0, where) for i in range(4)
    ]
    plain = [{**where, **{k: v for k, v in asdict(stage).items() if k != "provenance"}} for stage in stages]
    epochs = [
        {
            "epoch": 1 + index % 4, "learning_rate": 0.001, "train_loss": 1 / 3, "train_accuracy": 0.5,
            "val_loss": 1 / 3, "val_accuracy": 0.5, "val_accuracy_heads": [0.5, 0.5], "seconds": 0.1,
            "stage_index": index // 4, "is_kept": index % 4 == 3, "trial_epoch": index + 1,
        }
        for index in range(EPOCHS)
    ]  # fmt: skip
    yield from ()
    return Outcome("completed", None, "", 0.0, "h", "cpu", accuracies, plain, epochs)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return a function's result, its wall time and this process's processor time, in seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - processor


def measure(trials: int, out: Path) -> str:
    """Plan, run and load so many trials; return a line of the table."""
    planned: Plan
    planned, plan_wall, _ = timed(lambda: plan(sweep(trials), lambda spec: datasets.describe(spec, out)))
    assert len(planned.trials) == trials
    console = Console(file=io.StringIO())
    summary, run_wall, run_processor = timed(
        lambda: run_sweep(planned, out, out, OnRay(), False, False, console, train_nothing)
    )
    assert summary.completed == trials
    records, journal_wall, _ = timed(RunFolder(summary.folder).journal.records)
    tables, tables_wall, _ = timed(lambda: analysis.load_run(summary.folder))
    assert len(records) == len(tables.trials) == trials
    return (
        f"{trials:7,} {1e3 * plan_wall / trials:10.2f} {1e3 * run_wall / trials:10.2f} "
        f"{1e3 * run_processor / trials:14.2f} {journal_wall:12.2f} {tables_wall:11.2f}"
    )


def main() -> None:
    """Print a line for each number of trials."""
    torch.set_num_threads(1)
    print("milliseconds a trial: plan, run (wall), run (launcher's processor); seconds: load journal, tables")
    print(f"{'trials':>7} {'plan':>10} {'run':>10} {'launcher':>14} {'journal':>12} {'tables':>11}")
    for trials in map(int, sys.argv[1:] or ("100", "1000")):
        with tempfile.TemporaryDirectory() as out:
            print(measure(trials, Path(out)), flush=True)


if __name__ == "__main__":
    main()
