"""Read the files of a run folder into checked tables and plain content.

The columns are described in `lightsweep.runfolder.records`, which writes them.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from lightsweep.echo import plain
from lightsweep.errors import InputError
from lightsweep.system.files import UnreadableError, open_plain, read_text

MOST_CELLS = 500_000_000  # per table; enough for a hundred thousand trials of 250 epochs


STATUSES = ("completed", "early_stopped", "failed")


PHASES = ("search", "confirmation")


# Required columns with their dtypes. Missing values are NaN in str and float64, NA in Int64.
TRIAL_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("trial_id", "arm", "dataset", "status", "error", "host", "device"), "str"),
    **dict.fromkeys(("spec_hash", "commit", "started_at"), "str"),
    **dict.fromkeys(("seed", "fold", "parameters", "macs", "weight_bytes"), "Int64"),
    **dict.fromkeys(("epochs_trained", "stages_total", "stages_reused"), "Int64"),
    **dict.fromkeys(("val_accuracy", "test_accuracy", "train_accuracy", "seconds"), "float64"),
}


# Optional columns: null in folders that predate searches, and in runs that are not searches.
SEARCH_COLUMNS: Mapping[str, str] = {"phase": "str", "study_number": "Int64", "latency_ms": "float64"}


# Optional columns, absent from folders that predate fingerprints: SHA-256 of the images, kind of failure, and
# base64 of one bit per test image (most significant bit first): whether it was classified correctly.
IDENTITY_COLUMNS: Mapping[str, str] = dict.fromkeys(("data_fingerprint", "failure", "test_hits"), "str")


# Optional columns, absent from folders that predate reference nets.
COST_COLUMNS: Mapping[str, str] = {
    "total_parameters": "Int64",
    "int8_bytes": "Int64",
    "uncounted": "str",
}


# Optional column: JSON of the number of test images by [true class][predicted class].
CONFUSION_COLUMNS: Mapping[str, str] = {"test_confusion": "str"}


EPOCH_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("trial_id", "arm", "stage"), "str"),
    **dict.fromkeys(("seed", "fold", "stage_index", "epoch", "trial_epoch"), "Int64"),
    **dict.fromkeys(("learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy"), "float64"),
    **dict.fromkeys(("val_accuracy_a", "val_accuracy_b", "seconds"), "float64"),
    "is_kept": "bool",
}


STAGE_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("trial_id", "arm", "stage", "origin", "host", "started_at"), "str"),
    **dict.fromkeys(("seed", "fold", "stage_index", "epochs", "epochs_trained"), "Int64"),
    **dict.fromkeys(("seconds", "waited_seconds"), "float64"),
}


NEVER_NULL = ("trial_id", "arm", "seed", "dataset", "status", "stage", "stage_index", "epoch", "trial_epoch")


Parsed = TypeVar("Parsed")


class RunError(InputError):
    """A run folder cannot be used; the message names the file, the problem and the remedy."""


def no_rows(columns: Mapping[str, str]) -> pd.DataFrame:
    """Return an empty table with these columns."""
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})


def parse_file(path: Path, parse: Callable[[Any], Parsed], what: str, remedy: str) -> Parsed | None:
    """Read and parse an optional JSON file; None if it does not exist.

    Raises:
        RunError: The file cannot be read, is not JSON, or `parse` rejects its content.

    """
    if not path.exists():
        return None
    try:
        return parse(printable(json.loads(read_plain_text(path))))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RunError(f"{path}: not {what} ({error!r}); {remedy}") from error


def read_plain_text(path: Path) -> str:
    """Read a text file of a run folder.

    Raises:
        RunError: The file is missing or is not a regular file.

    """
    try:
        return read_text(path)
    except FileNotFoundError as error:
        raise RunError(
            f"{path}: missing; repeat the run to rewrite it, or name another run folder"
        ) from error
    except UnreadableError as error:
        raise RunError(f"{error}; repeat the run to rewrite it") from error


def printable(tree: Any) -> Any:
    """Return plain content with the control characters in its strings escaped, as in `read_table`."""
    if isinstance(tree, str):
        return plain(tree)
    if isinstance(tree, list):
        return [printable(part) for part in tree]
    if isinstance(tree, dict):
        return {plain(key): printable(part) for key, part in tree.items()}
    return tree


def read_table(
    path: Path, columns: Mapping[str, str], optional: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a table and cast its columns to their dtypes; `optional` columns that are absent become null.

    Control characters in strings are escaped (`lightsweep.echo.plain`): on a page they could reverse the
    direction of the text.

    Raises:
        RunError: The file is missing or unreadable, a column is missing, or a column has the wrong type.

    """
    try:
        with open_plain(path) as file:
            size = pa.parquet.ParquetFile(file).metadata  # a small file can hold a table of any size
            if size.num_rows * size.num_columns > MOST_CELLS:
                raise ValueError(f"{size.num_rows:,} rows and {size.num_columns:,} columns are too many")
            file.seek(0)
            table = pd.read_parquet(file)
    except UnreadableError as error:
        raise RunError(f"{error}; repeat the run to rewrite it") from error
    except FileNotFoundError as error:
        raise RunError(
            f"{path}: missing; repeat the run to rewrite it, or name another run folder"
        ) from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError(
            f"{path}: not a readable Parquet file ({error}); repeat the run to rewrite it"
        ) from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise RunError(
            f"{path}: no column {', '.join(missing)}; was it written by another version? Repeat the run"
        )
    optional = optional or {}
    table = table.assign(**{column: None for column in optional if column not in table})
    dtypes = {**columns, **optional}
    table = table.assign(**{column: _cast(path, table[column], dtype) for column, dtype in dtypes.items()})
    return _without_controls(table).rename(columns=lambda name: plain(str(name)))


def _without_controls(table: pd.DataFrame) -> pd.DataFrame:
    texts = [str(name) for name in table if pd.api.types.is_string_dtype(table[name])]
    changes = {}
    for name in texts:
        found = {text: plain(text) for text in table[name].dropna().unique() if text != plain(text)}
        if found:
            changes[name] = table[name].replace(found)
    return table.assign(**changes)


def _cast(path: Path, column: "pd.Series[Any]", dtype: str) -> "pd.Series[Any]":
    """Cast a column; reject strings for numbers, numbers for strings, and nulls where none are allowed."""
    present = column.dropna()
    if len(present) < len(column) and (column.name in NEVER_NULL or dtype == "bool"):
        raise RunError(f"{path}: column {column.name} has missing values but must have none; repeat the run")
    is_text = pd.api.types.is_string_dtype(present) and not present.empty
    is_bool = pd.api.types.is_bool_dtype(present) and not present.empty
    fits = present.empty or (is_text == (dtype == "str") and is_bool == (dtype == "bool"))
    try:
        if fits:
            return column.astype(dtype)  # type: ignore[call-overload,no-any-return]
    except (TypeError, ValueError):
        pass
    raise RunError(
        f"{path}: column {column.name} holds {column.dtype} where {dtype} is expected; repeat the run"
    )
