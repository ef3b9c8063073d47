"""A small imitation of a run with reference nets, compressed nets and measured costs: 11 arms × 8 seeds."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from imitation_run import NASTY, epoch_rows

SEEDS = 8
PRUNED_BYTES = 14_142  # near the geometric mean of 10,000 and 20,000 bytes

# arm: (parameters, bytes, validation and test accuracy, spread over seeds, settings)
# By hand: the front of the nets built small is small (10,000 bytes), middle, mobilenet and big (80,000).
# pruned: 0.970 against the line's 0.950: better. int8: 0.930 against 0.944: worse. tiny: below the front.
ARMS: dict[str, tuple[int, int, float, float, dict[str, Any]]] = {
    "small": (2_500, 10_000, 0.940, 0.930, {}),
    "middle": (5_000, 20_000, 0.970, 0.970, {}),
    "off": (4_500, 18_000, 0.900, 0.990, {}),
    "big": (20_000, 80_000, 0.985, 0.980, {}),
    "paper": (14_862, 59_448, 0.965, 0.960, {}),
    "middle, pruned": (3_300, PRUNED_BYTES, 0.975, 0.970, {"prune": "weights", "amount": 0.5}),
    "big, int8": (20_000, 12_000, 0.935, 0.930, {"amount": 0.5, "quantise": "int8"}),
    "tiny, both": (1_000, 1_200, 0.800, 0.790, {"prune": "filters", "amount": 0.25, "quantise": "int8"}),
    "lenet-5": (61_706, 246_824, 0.980, 0.975, {"net": "lenet-5"}),
    "logistic regression": (5_000, 20_000, 0.920, 0.915, {"net": "logistic-regression"}),
    f"mobilenet {NASTY}": (12_000, 48_000, 0.984, 0.985, {"net": "mobilenet-v2"}),
}


def write_alternatives(folder: Path, seeds: int = SEEDS) -> Path:
    folder.mkdir(parents=True)
    rows = [_row(arm, seed) for arm in ARMS for seed in range(seeds)]
    counts = ["fold", "parameters", "macs", "weight_bytes", "total_parameters", "int8_bytes"]
    pd.DataFrame(rows).astype(dict.fromkeys(counts, "Int64")).to_parquet(folder / "trials.parquet")
    epochs = [row for trial in rows for row in epoch_rows(trial)]
    pd.DataFrame(epochs).astype({"fold": "Int64"}).to_parquet(folder / "epochs.parquet")
    (folder / "sweep.yaml").write_text("name: alternatives\n")
    (folder / "environment.json").write_text("{}")
    (folder / "costs.json").write_text(json.dumps(costs_tree()))
    return folder


def jitter(arm: str, seed: int) -> float:
    """Differ a little from seed to seed, by amounts that sum to 0 over 8 seeds."""
    place = (seed * 3 + list(ARMS).index(arm)) % SEEDS
    return 0.0005 * (place - (SEEDS - 1) / 2)


def _row(arm: str, seed: int) -> dict[str, Any]:
    parameters, weight_bytes, val, test, settings = ARMS[arm]
    return {
        "trial_id": f"{list(ARMS).index(arm):02d}-{seed}",
        "arm": arm,
        "seed": seed,
        "fold": None,
        "dataset": "digits",
        "status": "completed",
        "error": None,
        "parameters": parameters,
        "total_parameters": parameters + 2,
        "macs": 40 * parameters,
        "weight_bytes": weight_bytes,
        "int8_bytes": parameters,
        "val_accuracy": val + jitter(arm, seed),
        "test_accuracy": test + jitter(arm, seed),
        "train_accuracy": val + 0.01,
        "epochs_trained": 15,
        "seconds": 8.25,
        "stages_total": 3,
        "stages_reused": 0,
        "host": "laptop",
        "device": "cpu",
        "spec_hash": "0" * 12,
        "commit": "ada5fb2",
        "started_at": "2026-03-01T12:00:00+00:00",
        "config.model.net": settings.get("net", "paper-cnn"),
        "config.model.inputs": "single",
        "config.model.fusion": "none",
        "config.compression.prune": settings.get("prune"),
        "config.compression.amount": settings.get("amount"),
        "config.compression.quantise": settings.get("quantise"),
    }


def costs_tree() -> dict[str, Any]:
    """Return the content of `costs.json`."""
    return {
        "machine": "an Intel Xeon with 2 cores",
        "torch": "2.13.0",
        "threads": 1,
        "measured_at": "2026-03-02T09:30:00+00:00",
        "nets": [
            net_tree(("paper", *(f"paper, rate {rate}" for rate in range(5))), 14_862),
            net_tree(
                ("big, int8",), 20_000, onnx_bytes=None, latency_256_ms=None,
                reasons={"onnx_bytes": "int8 nets are not exported", "latency_256_ms": "<b>too slow</b>"},
            ),
            net_tree((f"mobilenet {NASTY}",), 12_000, onnx_bytes=None, peak_1_bytes=None,
                     reasons={"onnx_bytes": "int8 nets are not exported"}),
        ],
    }  # fmt: skip


def net_tree(arms: tuple[str, ...], parameters: int, **changes: Any) -> dict[str, Any]:
    return {
        "dataset": "digits",
        "arms": list(arms),
        "parameters": parameters,
        "total_parameters": parameters + 2,
        "macs": 40 * parameters,
        "weight_bytes": 4 * parameters,
        "int8_bytes": parameters + 100,
        "training_bytes": 12 * parameters,
        "onnx_bytes": 4 * parameters + 999,
        "latency_1_ms": {"median": 0.5, "low": 0.25, "high": 0.75, "n": 200},
        "latency_256_ms": {"median": 12.345, "low": 12.0, "high": 13.0, "n": 50},
        "peak_1_bytes": 1536,
        "peak_256_bytes": 2**20 * 3 // 2,
        "reasons": {},
        **changes,
    }
