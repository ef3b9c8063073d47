"""Records of trials that were never trained, whole enough to be read from a journal."""

from typing import Any

from lightsweep.runfolder.records import Record


def plain_record(trial_id: str, *keys: str, **columns: Any) -> Record:
    """Return a failed trial's record with a stage per key; `columns` are of its row."""
    row = {
        "trial_id": trial_id, "arm": "a", "seed": 0, "fold": None, "dataset": "digits", "status": "failed",
        "error": "of old age", "started_at": "2026-01-01T00:00:00+00:00", "seconds": 1.0, "host": "here",
        "device": "cpu",
    }  # fmt: skip
    stages = [
        {
            "trial_id": trial_id, "arm": "a", "seed": 0, "fold": None, "stage": "dual", "stage_index": index,
            "key": key, "origin": "trained", "epochs": 1, "seconds": 1.0, "waited_seconds": 0.0,
        }
        for index, key in enumerate(keys)
    ]  # fmt: skip
    return Record({**row, **columns}, stages, [])
