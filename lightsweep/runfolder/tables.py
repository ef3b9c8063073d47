"""The tables of a run, built from its records: trials.parquet, stages.parquet and epochs.parquet."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lightsweep.runfolder.records import EPOCH_COLUMNS, STAGE_COLUMNS, TRIAL_COLUMNS, Record
from lightsweep.system.files import write_together


def write_tables(folder: Path, records: Collection[Record]) -> None:
    """Write all tables together, with rows in the order of the records.

    Raises:
        OSError: The folder cannot be written; in that case no table is written.

    """
    tables = {
        "trials": ([record.trial for record in records], TRIAL_COLUMNS),
        "stages": ([row for record in records for row in record.stages], STAGE_COLUMNS),
        "epochs": ([row for record in records for row in record.epochs], EPOCH_COLUMNS),
    }
    frames = {name: _table(rows, columns) for name, (rows, columns) in tables.items()}
    write_together(
        {folder / f"{name}.parquet": partial(table.to_parquet, index=False) for name, table in frames.items()}
    )


def _table(rows: list[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    """Return rows as a table: the given columns with their types, then any config.* columns."""
    extra = dict.fromkeys(key for row in rows for key in row if key not in columns)
    frame = pd.DataFrame(rows, columns=[*columns, *extra], dtype=object)
    frame = frame.astype(columns)
    for key in extra:
        kinds = {type(value) for value in frame[key] if not pd.isna(value)}
        if not kinds:
            frame[key] = frame[key].astype("str")
        elif kinds <= {int, float}:
            frame[key] = frame[key].astype("float64" if float in kinds else "Int64")
        else:
            frame[key] = frame[key].astype("boolean" if kinds == {bool} else "str")
    return frame
