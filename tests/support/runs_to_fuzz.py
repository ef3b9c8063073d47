"""A small sweep and a small search whose folders are damaged."""

import json
from pathlib import Path
from typing import Any

from small_images import SPEC, write_images

SWEEP: dict[str, Any] = {
    "name": "fuzzed",
    "dataset": SPEC,
    "seeds": 2,
    "base": {
        "model": {"filters": [2, 3], "hidden": 4},
        "stages": {"preset": "paper", "epochs": {"dual": 2, "fusion": 1, "finetune": 1}, "patience": None},
    },
    "ablation": {"arms": {"wide": {"model.hidden": 8}}},
    "resources": {"checkpoint_seconds": 0},
}
SEARCH: dict[str, Any] = {
    **{key: value for key, value in SWEEP.items() if key != "ablation"},
    "search": {
        "space": {
            "model.hidden": {"low": 4, "high": 9},
            "stages.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        },
        "trials": 4,
        "sampler": "random",
        "early_stopping": {"first": 2, "factor": 2},
        "confirmation": {"at_most": 1},
    },
}
SWEEPS = {"sweep": SWEEP, "search": SEARCH}


def begin(folder: Path, sweep: dict[str, Any]) -> None:
    """Write a sweep file, which is JSON, and its data."""
    folder.mkdir(exist_ok=True)
    (folder / "sweep.yaml").write_text(json.dumps(sweep))
    write_images(folder / "data/images.npz")
