"""The rows of a small imitation of what `lightsweep run` writes: 8 arms × 3 seeds, 3 stages each."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

NASTY = "</script><img src=x onerror=alert(1)>"

# arm: (parameters, validation accuracy of seed 0, test accuracy of seed 0); a seed adds 0.002.
# On the front by hand: tiny, small, paper. "wide" has the best test accuracy, but not the best validation.
ARMS = {
    "tiny": (2_350, 0.900, 0.890),
    "small": (6_930, 0.950, 0.940),
    "slow": (6_930, 0.940, 0.945),
    "paper": (14_862, 0.980, 0.970),
    "wide": (21_000, 0.970, 0.990),
    NASTY: (14_862, 0.960, 0.955),
    "wider": (101_770, 0.975, 0.968),
    "dead": (9_000, 0.930, 0.925),
}
STAGES = (("dual", 6), ("fusion", 4), ("finetune", 5))


def trial_row(arm: str, seed: int) -> dict[str, Any]:
    parameters, val, test = ARMS[arm]
    is_failed = arm == "dead" and seed == 2
    return {
        "trial_id": f"{list(ARMS).index(arm):02d}-{seed}",
        "arm": arm,
        "seed": seed,
        "fold": None,
        "dataset": "digits",
        "status": "failed" if is_failed else "completed",
        "error": "ValueError: loss is <b>nan</b>\nin stage dual" if is_failed else None,
        "parameters": parameters,
        "macs": None if is_failed else 40 * parameters,
        "weight_bytes": 4 * parameters,
        "latency_ms": None,
        "val_accuracy": None if is_failed else val + 0.002 * seed,
        "test_accuracy": None if is_failed else test + 0.002 * seed,
        "train_accuracy": None if is_failed else val + 0.01,
        "epochs_trained": 2 if is_failed else 15,
        "seconds": 8.25 + seed,
        "stages_total": 3,
        "stages_reused": seed % 2,
        "host": "laptop",
        "device": "cpu",
        "spec_hash": "0" * 12,
        "commit": "ada5fb2",
        "started_at": f"2026-03-01T12:{seed:02d}:00+00:00",
        "config.model.filters": json.dumps([10, 20]),
        "config.batch_size": 64,
        "config.augmentation": None if arm == "tiny" else "affine",
    }


def epoch_rows(trial: dict[str, Any]) -> list[dict[str, Any]]:
    rows, trial_epoch = [], 0
    for stage_index, (stage, length) in enumerate(STAGES):
        for epoch in range(1, length + 1):
            trial_epoch += 1
            accuracy = trial["val_accuracy"] - 0.4 / (trial_epoch + 1) + 0.4 / 16
            is_dual = stage == "dual"
            rows.append(
                {key: trial[key] for key in ("trial_id", "arm", "seed", "fold")}
                | {"stage": stage, "stage_index": stage_index, "epoch": epoch, "trial_epoch": trial_epoch}
                | {"learning_rate": 0.001, "train_loss": 1 / trial_epoch, "train_accuracy": accuracy}
                | {"val_loss": 1.1 / trial_epoch, "val_accuracy": accuracy}
                | {f"val_accuracy_{head}": accuracy - 0.01 if is_dual else None for head in "ab"}
                | {"seconds": 0.5, "is_kept": epoch == length}
            )
    return rows


def plant_partial_trials(folder: Path) -> None:
    """Add to a run trials that reached 99.9%, but did not complete: of new small arms, and of an old one."""
    trials = pd.read_parquet(folder / "trials.parquet")
    model = trials[trials["arm"] == "slow"].iloc[[0]].assign(val_accuracy=0.999, test_accuracy=0.999)
    planted = [
        model.assign(arm="stopped", trial_id="p0", status="early_stopped", parameters=1_200, seed=0),
        model.assign(arm="stopped", trial_id="p1", status="early_stopped", parameters=1_200, seed=1),
        model.assign(arm="crashed", trial_id="p2", status="failed", parameters=1_100, seed=0),
        model.assign(arm="crashed", trial_id="p3", status="failed", parameters=1_100, seed=1),
        model.assign(trial_id="p4", status="early_stopped", seed=7),
        model.assign(trial_id="p5", status="failed", seed=8),
    ]
    pd.concat([trials, *planted], ignore_index=True).to_parquet(folder / "trials.parquet")
