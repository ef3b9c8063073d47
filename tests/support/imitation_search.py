"""A small imitation of a finished search's folder: 8 nets at seed 1000, 4 confirmed with seeds 0 and 1."""

import json
import warnings
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from imitation_run import epoch_rows

SEED = 1000

# net: (status, parameters, validation accuracy in the search, epochs, confirmed with seeds 0 and 1)
# By hand: the search's front is 3, 1, 6, 7, 0; the confirmed front is 3, 1, 7, since 7 beats 0 with fewer.
NETS: dict[int, tuple[str, int, float | None, int, tuple[float, ...]]] = {
    0: ("completed", 10_000, 0.97, 15, (0.94, 0.96)),
    1: ("completed", 2_000, 0.90, 15, (0.86, 0.88)),
    2: ("early_stopped", 1_000, None, 4, ()),
    3: ("completed", 500, 0.60, 15, (0.56, 0.58)),
    4: ("completed", 3_000, 0.85, 15, ()),
    5: ("failed", 9_000, None, 7, ()),
    6: ("completed", 5_000, 0.93, 15, ()),
    7: ("completed", 8_000, 0.95, 15, (0.95, 0.97)),
}
SEARCH: dict[str, Any] = {
    "objectives": {"val_accuracy": "maximise", "parameters": "minimise"},
    "limits": {"parameters": 10_000},
    "sampler": "tpe",
    "seed": SEED,
    "trials": 8,
    "budget": None,
    "keys": ["model.filters", "stages.lr"],
    "early_stopping": "rank",
    "margin": 0.003,
    "seeds": [0, 1],
}


def write_search(folder: Path) -> Path:
    """Write the folder, with its study."""
    folder.mkdir(parents=True)
    rows = [_row(net, SEED) for net in NETS]
    rows += [_row(net, seed) for net in NETS for seed in range(len(NETS[net][4]))]
    counts = ["fold", "parameters", "macs", "study_number"]
    trials = pd.DataFrame(rows).astype({**dict.fromkeys(counts, "Int64"), "latency_ms": "float64"})
    trials.to_parquet(folder / "trials.parquet")
    epochs = [row for trial in rows for row in _epochs(trial)]
    pd.DataFrame(epochs).astype({"fold": "Int64"}).to_parquet(folder / "epochs.parquet")
    (folder / "sweep.yaml").write_text("name: hunt\n")
    (folder / "environment.json").write_text("{}")
    write_design(folder)
    _write_study(folder / "study.db")
    return folder


def write_design(folder: Path, **changes: Any) -> None:
    """Write what was searched, with changes to ``SEARCH``."""
    design = dict.fromkeys(["design", "base", "significance", "equivalence", "order", "folds"])
    tree = {**design, "seeds": [0, 1], "factors": [], "arms": [], "test_images": {"digits": 359}}
    (folder / "design.json").write_text(json.dumps({**tree, "search": {**SEARCH, **changes}}))


def frozen(params: dict[str, float], values: list[float] | None, status: str) -> optuna.trial.FrozenTrial:
    """Make an Optuna trial as the search leaves it; without values it failed."""
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL if values is None else optuna.trial.TrialState.COMPLETE,
        values=values,
        params=params,
        distributions={name: optuna.distributions.FloatDistribution(0, 1) for name in params},
        user_attrs={"status": status},
    )


def _row(net: int, seed: int) -> dict[str, Any]:
    status, parameters, accuracy, epochs, confirmed = NETS[net]
    is_search = seed == SEED
    if not is_search:
        status, accuracy, epochs = "completed", confirmed[seed], 15
    return {
        "trial_id": f"{net}-{seed}",
        "arm": f"net {net}",
        "seed": seed,
        "fold": None,
        "dataset": "digits",
        "status": status,
        "error": "ValueError: loss is nan" if status == "failed" else None,
        "parameters": parameters,
        "macs": 40 * parameters,
        "weight_bytes": 4 * parameters,
        "val_accuracy": accuracy,
        "test_accuracy": None if accuracy is None else accuracy - 0.01,
        "train_accuracy": None if accuracy is None else accuracy + 0.01,
        "epochs_trained": epochs,
        "seconds": 8.25,
        "stages_total": 3,
        "stages_reused": 0,
        "host": "laptop",
        "device": "cpu",
        "spec_hash": "0" * 12,
        "commit": "ada5fb2",
        "started_at": "2026-03-01T12:00:00+00:00",
        "phase": "search" if is_search else "confirmation",
        "study_number": net,
        "latency_ms": None,
        "config.model.filters": f"[{net}]",
    }


def _epochs(trial: dict[str, Any]) -> list[dict[str, Any]]:
    """Imitate the epochs; those of the net that was stopped reach 99.9%, better than any that completed."""
    if trial["status"] == "failed":
        return []
    rows = epoch_rows({**trial, "val_accuracy": trial["val_accuracy"] or 0.999})[: trial["epochs_trained"]]
    return [row | ({"val_accuracy": 0.999} if trial["status"] == "early_stopped" else {}) for row in rows]


def _write_study(path: Path) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions = ["maximize", "minimize"]
    study = optuna.create_study(study_name="hunt", storage=storage, directions=directions)
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(["val_accuracy", "parameters"])
    for net, (status, parameters, accuracy, _, _) in NETS.items():
        values = None if accuracy is None else [accuracy, float(parameters)]
        study.add_trial(frozen({"stages.lr": net / 10}, values, status))
    for _ in range(3):  # made-up values, better than any that was trained
        study.add_trial(frozen({"stages.lr": 0.5}, [1.0, 1.0], "infeasible"))
    study.add_trial(frozen({"stages.lr": 0.0}, [0.97, 10_000.0], "repeated"))
    storage.remove_session()
    storage.engine.dispose()
    optuna.logging.set_verbosity(before)
