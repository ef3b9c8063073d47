"""A run of many trials, as `lightsweep run` would have written it: made-up accuracies, quick to make."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

STAGES = (("dual", 8), ("fusion", 3), ("finetune", 4))
CLASSES = 10
STOPPED_AFTER = 5


def write_large(folder: Path, n_arms: int, n_seeds: int, random_seed: int = 0) -> Path:
    """Write a run folder of n_arms × n_seeds trials, some of which failed or were stopped early."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(random_seed)
    count = n_arms * n_seeds
    arm = np.repeat(np.arange(n_arms), n_seeds)
    parameters = np.repeat(np.round(10 ** draws.uniform(3, 5, n_arms)).astype(int), n_seeds)
    ceiling = 0.8 + 0.17 * (np.log10(parameters) - 3) / 2
    quality = np.repeat(draws.beta(2, 2, n_arms) * 0.03, n_seeds)
    validation = np.round((ceiling + quality - draws.normal(0, 0.003, count)).clip(0, 1), 4)
    status = np.where(draws.uniform(size=count) < 0.02, "failed", "completed")
    status = np.where(draws.uniform(size=count) < 0.05, "early_stopped", status)
    is_done = status == "completed"
    chances = np.full((CLASSES, CLASSES), 0.01) + 0.9 * np.eye(CLASSES)
    confusion = draws.multinomial(100, chances, size=(count, CLASSES))
    trials = pd.DataFrame(
        {
            "trial_id": [f"{place:012x}" for place in range(count)],
            "arm": [f"net {place:05d}" for place in arm.tolist()],
            "seed": np.tile(np.arange(n_seeds), n_arms),
            "fold": pd.array([pd.NA] * count, "Int64"),
            "dataset": "mnist",
            "status": status,
            "error": np.where(status == "failed", "NaN loss in epoch 2 (lr 0.5)", None),
            "parameters": parameters,
            "macs": parameters * 40,
            "weight_bytes": parameters * 4,
            "latency_ms": np.round(0.1 + parameters / 50_000, 4),
            "val_accuracy": np.where(is_done, validation, np.nan),
            "test_accuracy": np.where(is_done, (validation - 0.004).clip(0, 1), np.nan),
            "train_accuracy": np.where(is_done, (validation + 0.01).clip(0, 1), np.nan),
            "test_confusion": [
                json.dumps(table.tolist()) if done else None
                for table, done in zip(confusion, is_done, strict=True)
            ],
            "epochs_trained": 15,
            "seconds": np.round(draws.uniform(5, 50, count), 3),
            "stages_total": 3,
            "stages_reused": draws.integers(0, 3, count),
            "host": "laptop",
            "device": "cpu",
            "spec_hash": "0" * 12,
            "commit": "ada5fb2",
            "started_at": "2026-03-01T12:00:00+00:00",
            "config.model.filters": [json.dumps([8 + place % 9, 16 + place % 7]) for place in arm.tolist()],
            "config.batch_size": 32 + arm % 3 * 16,
            "config.stages.lr": np.round(10 ** draws.uniform(-4, -1, n_arms), 6)[arm],
            "config.augmentation": np.where(arm % 2, "affine", "none"),
        }
    )
    trials.to_parquet(folder / "trials.parquet")
    _epochs(trials, validation).to_parquet(folder / "epochs.parquet")
    _stages(trials, draws).to_parquet(folder / "stages.parquet")
    (folder / "sweep.yaml").write_text("name: large\ndataset: {name: mnist}\n")
    (folder / "environment.json").write_text(json.dumps({"commit": "ada5fb2", "versions": {}}))
    (folder / "plan.json").write_text(json.dumps([{}] * count))
    return folder


def _epochs(trials: pd.DataFrame, validation: np.ndarray) -> pd.DataFrame:
    names = [name for name, length in STAGES for _ in range(length)]
    index = [place for place, (_, length) in enumerate(STAGES) for _ in range(length)]
    within = [epoch for _, length in STAGES for epoch in range(1, length + 1)]
    total, count = len(names), len(trials)
    rows = trials.loc[trials.index.repeat(total), ["trial_id", "arm", "seed", "fold"]].reset_index(drop=True)
    step = np.tile(np.arange(1, total + 1), count)
    accuracy = np.round(np.repeat(validation, total) - 0.4 / (step + 1) + 0.025, 4).clip(0, 1)
    is_dual = np.tile(np.array(index) == 0, count)
    status = trials["status"].repeat(total).to_numpy()
    is_recorded = (status == "completed") | ((status == "early_stopped") & (step <= STOPPED_AFTER))
    rows = rows.assign(
        stage=np.tile(names, count),
        stage_index=np.tile(index, count),
        epoch=np.tile(within, count),
        trial_epoch=step,
        learning_rate=0.001,
        train_loss=1 / step,
        train_accuracy=accuracy,
        val_loss=1.1 / step,
        val_accuracy=accuracy,
        val_accuracy_a=np.where(is_dual, (accuracy - 0.01).clip(0, 1), np.nan),
        val_accuracy_b=np.where(is_dual, (accuracy - 0.02).clip(0, 1), np.nan),
        seconds=0.5,
        is_kept=np.tile([name != names[place + 1] if place + 1 < total else True
                         for place, name in enumerate(names)], count),
    )  # fmt: skip
    return rows[is_recorded]


def _stages(trials: pd.DataFrame, draws: np.random.Generator) -> pd.DataFrame:
    names = [*(name for name, _ in STAGES), "assessment"]
    count, total = len(trials), len(names)
    rows = trials.loc[trials.index.repeat(total), ["trial_id", "arm", "seed", "fold", "host", "started_at"]]
    epochs = np.tile([*(length for _, length in STAGES), 0], count)
    is_stored = draws.uniform(size=count * total) < 0.3
    return rows.reset_index(drop=True).assign(
        stage=np.tile(names, count),
        stage_index=np.tile(np.arange(total), count),
        origin=np.where(is_stored, "stored", "trained"),
        epochs=epochs,
        epochs_trained=np.where(is_stored, 0, epochs),
        seconds=np.round(draws.uniform(1, 9, count * total), 3),
        waited_seconds=0.0,
    )
