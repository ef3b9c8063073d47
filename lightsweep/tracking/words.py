"""Names and values that trackers take from a record, and the wording of their failures."""

import importlib
import itertools
import json
import os
import re
import urllib.parse
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from lightsweep.errors import InputError
from lightsweep.runfolder.records import Record

EPOCH_METRICS = ("val_accuracy", "train_accuracy", "val_loss", "train_loss", "learning_rate")


FINAL_METRICS = (
    "val_accuracy", "test_accuracy", "train_accuracy", "parameters", "macs", "int8_bytes", "latency_ms",
    "seconds",
)  # fmt: skip


TAGS = (
    "trial_id", "arm", "seed", "fold", "dataset", "status", "error", "host", "device", "commit", "phase",
    "result_key", "started_at",
)  # fmt: skip


_UNANSWERED = ("ConnectionError", "ConnectTimeout", "ReadTimeout")  # exceptions of `requests`, used by MLflow


def import_optional(module: str, package: str) -> Any:
    """Import a module of an optional package.

    Raises:
        InputError: The package is not installed, or cannot be imported.

    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"tracking: {package}: its package cannot be imported ({without_secrets(str(error))}); "
            "pip install 'lightsweep[tracking]'"
        ) from None


def without_secrets(text: str) -> str:
    """Return a text without known passwords, and without the user part and query of URLs.

    >>> without_secrets("cannot reach http://me:secret@host:5000/x?token=abc at all")
    'cannot reach http://host:5000/x at all'
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    secrets = [os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("PASSWORD", "TOKEN")]
    if "@" in uri:
        secrets.append(uri.partition("://")[2].rpartition("@")[0].partition(":")[2])
    text = re.sub(r"://\S*@", "://", text)
    text = re.sub(r"(://[^\s?]*)\?[^\s)]*", r"\1", text)
    for secret in filter(None, itertools.chain(secrets, map(urllib.parse.unquote, secrets))):
        text = text.replace(secret, "***")
    return text


def reason_of(error: BaseException) -> str:
    """Return why a tracker failed, in one line without secrets."""
    cause: BaseException | None = error
    while cause is not None:
        kind = type(cause)
        if kind.__module__ == "requests.exceptions" and kind.__name__ in _UNANSWERED:
            return "it does not answer"
        cause = cause.__cause__ or cause.__context__
    text = without_secrets(" ".join(str(error).split()))
    return cut(text, 300) or type(error).__name__


def version_of_record(trial: dict[str, Any]) -> str:
    """Return a string that distinguishes a trial's record from older and newer ones."""
    return " ".join(str(trial.get(name)) for name in ("status", "started_at", "result_key"))


def present(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Return the names that have a value in a row."""
    return [name for name in names if row.get(name) is not None]


def config_names(trial: dict[str, Any]) -> list[str]:
    """Return the column names of a trial's settings."""
    return [name for name in trial if name.startswith("config.")]


def trial_name(trial: dict[str, Any]) -> str:
    """Return arm, seed and fold in words."""
    fold = "" if trial["fold"] is None else f", fold {trial['fold']}"
    return f"{trial['arm']} (seed {trial['seed']}{fold})"


def stage_names(record: Record) -> str:
    """Return the names of the stages, joined by commas."""
    return ", ".join(stage["stage"] for stage in record.stages if stage["stage"] != "assessment")


def start_of(trial: dict[str, Any]) -> float:
    """Return the start time of a trial, in seconds since the Unix epoch."""
    return datetime.fromisoformat(trial["started_at"]).timestamp()


def end_of(trial: dict[str, Any]) -> float:
    """Return the end time of a trial, in seconds since the Unix epoch."""
    return start_of(trial) + float(trial["seconds"])


def timed_epochs(record: Record) -> list[tuple[dict[str, Any], float]]:
    """Return each epoch with its end time in seconds since the Unix epoch, at most the trial's end.

    The durations of looked-up stages come from another trial, so their sum may exceed the trial's own.
    """
    ends = itertools.accumulate(float(epoch["seconds"]) for epoch in record.epochs)
    start, last = start_of(record.trial), end_of(record.trial)
    return [(epoch, min(start + end, last)) for epoch, end in zip(record.epochs, ends, strict=True)]


def as_code(text: str) -> str:
    """Return a text as a code block in Markdown."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def as_setting(value: Any) -> str:
    """Return a setting's value as written in a sweep file."""
    return value if isinstance(value, str) else json.dumps(value)


def cut(text: str, most: int) -> str:
    """Return a text shortened to at most `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"
