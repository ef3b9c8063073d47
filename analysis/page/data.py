"""Data for the page's scripts, besides the figures that its templates add."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.arms import ARM_KEY, differing_settings
from analysis.course.figure import trial_figure
from analysis.front.figure import MOST_WITH_BARS, VIEWS, membership, reach_of_means
from analysis.front.result import COSTS
from analysis.page.dataset import DatasetPart, has_own_bytes
from analysis.page.payload import Payload, by_column, confusions, epochs_by_trial, stages_by_trial
from analysis.page.sources import read_sources
from analysis.reading import SEARCH_COLUMNS
from analysis.tables import Run


@dataclass(frozen=True)
class Column:
    """A column of the table of trials: its title, the trial's field, and the script's format for it."""

    title: str
    field: str
    kind: str
    number: bool = True


COLUMNS = (
    Column("Arm", "arm", "text", number=False),
    Column("Run", "run", "text", number=False),
    Column("Data set", "dataset", "text", number=False),
    Column("Seed", "seed", "value"),
    Column("Fold", "fold", "value"),
    Column("Phase", "phase", "text", number=False),
    Column("Study number", "study_number", "count"),
    Column("Status", "status", "status", number=False),
    Column("Parameters", "parameters", "count"),
    Column("Bytes", "weight_bytes", "count"),
    Column("MACs", "macs", "count"),
    Column("Latency", "latency_ms", "milliseconds"),
    Column("Validation", "val_accuracy", "percent"),
    Column("Test", "test_accuracy", "percent"),
    Column("Train", "train_accuracy", "percent"),
    Column("Epochs", "epochs_trained", "count"),
    Column("Time", "seconds", "seconds"),
    Column("Stages reused", "stages_reused", "count"),
    Column("Trial", "trial_id", "text", number=False),
)


def fill_payload(
    payload: Payload,
    runs: Sequence[Run],
    trials: pd.DataFrame,
    judged: pd.DataFrame,
    epochs: pd.DataFrame,
    sections: Sequence[DatasetPart],
    columns: Sequence[Column],
) -> None:
    """Add to the page's data everything except the figures that its templates add."""
    settings = [str(name) for name in trials if str(name).startswith("config.")]
    payload.add("trials", by_column(trials.drop(columns="test_confusion")))
    payload.add("settings", settings)
    payload.add("differing", differing_settings(trials))
    payload.add("columns", [asdict(column) for column in columns])
    payload.add("epochs", epochs_by_trial(epochs, trials))
    stages = [run.stages for run in runs if not run.stages.empty] or [run.stages for run in runs]
    payload.add("stages", stages_by_trial(pd.concat(stages, ignore_index=True), trials))
    payload.add("confusions", confusions(trials))
    payload.add("classes", {name: list(found) for run in runs for name, found in run.classes.items()})
    payload.add("folders", {run.name: shlex.quote(str(run.folder)) for run in runs})
    payload.add("sources", {key: text for run in runs for key, text in read_sources(run.folder).items()})
    payload.add("parts", [_part(section, trials, judged) for section in sections])
    payload.add_figure("trial-curves", trial_figure(epochs.iloc[:0]))


def _part(section: DatasetPart, trials: pd.DataFrame, judged: pd.DataFrame) -> dict[str, Any]:
    """Return the script's data on a data set: rows of its trials, arm of each trial, numbers of the arms."""
    rows = trials.index[trials["dataset"] == section.dataset]
    if section.arms is None:
        return {"trials": rows.tolist(), "armOf": [None] * len(rows), "arms": {"label": []}, "marks": {}}
    arms = section.arms
    place = pd.MultiIndex.from_frame(arms[ARM_KEY])
    owners = place.get_indexer(pd.MultiIndex.from_frame(trials.loc[rows, ARM_KEY])).tolist()
    is_judged = rows.isin(judged.index).tolist()
    views = {
        view: {
            "mean": _nullable(arms[f"{split}_mean"]),
            "reach": _nullable(pd.Series(reach_of_means(arms, view))),
        }
        for view, split in VIEWS.items()
    }
    return {
        "trials": rows.tolist(),
        "armOf": [
            owner if judge and owner >= 0 else None for owner, judge in zip(owners, is_judged, strict=True)
        ],
        "arms": {**by_column(arms[["label", *COSTS]]), **views},
        "marks": {
            cost: {"rank": _nullable(marked["front_rank"]), "probability": membership(marked).tolist()}
            for cost, marked in section.marks.items()
        },
        "allBars": int((arms["n_seeds"] > 0).sum()) <= MOST_WITH_BARS,
        "onFront": int(section.marks["parameters"]["on_front"].sum()),
    }


def _nullable(column: "pd.Series[Any]") -> list[Any]:
    return [None if pd.isna(value) else value for value in column.tolist()]


def shown_columns(trials: pd.DataFrame) -> list[Column]:
    """Choose the columns: hide those that say the same of every trial, add each setting that differs."""
    hidden = {field for field in ("run", "dataset") if trials[field].nunique() <= 1}
    if not has_own_bytes(trials):
        hidden.add("weight_bytes")
    hidden |= {field for field in ("fold", *SEARCH_COLUMNS) if trials[field].isna().all()}
    settings = [
        Column(field.removeprefix("config."), field, "value", pd.api.types.is_numeric_dtype(trials[field]))
        for field in differing_settings(trials)
    ]
    return [column for column in COLUMNS if column.field not in hidden] + settings
