"""Record of a trial: its outcome as reported by a worker, and its rows of the three tables."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import CoreSchema, SchemaValidator, ValidationError, core_schema

if TYPE_CHECKING:
    from lightsweep.nets.cost import Cost
    from lightsweep.training.outcome import Outcome
    from lightsweep.trials.trial import Trial


TRIAL_COLUMNS = {
    "trial_id": "str", "arm": "str", "seed": "int64", "fold": "Int64", "dataset": "str",
    "data_fingerprint": "str", "status": "str", "error": "str", "failure": "str", "parameters": "Int64",
    "total_parameters": "Int64", "macs": "Int64", "weight_bytes": "Int64", "int8_bytes": "Int64",
    "training_bytes": "Int64",
    "val_accuracy": "float64", "test_accuracy": "float64", "train_accuracy": "float64",
    "test_confusion": "str", "test_hits": "str",
    "epochs_trained": "Int64", "seconds": "float64", "training_seconds": "float64",
    "stages_total": "Int64", "stages_reused": "Int64", "waited_seconds": "float64",
    "host": "str", "device": "str", "spec_hash": "str", "result_key": "str", "commit": "str",
    "started_at": "str", "uncounted": "str", "phase": "str", "study_number": "Int64", "latency_ms": "float64",
}  # fmt: skip
STAGE_COLUMNS = {
    "trial_id": "str", "arm": "str", "seed": "int64", "fold": "Int64", "stage": "str",
    "stage_index": "int64", "key": "str", "origin": "str", "epochs": "int64", "epochs_trained": "int64",
    "seconds": "float64", "waited_seconds": "float64", "host": "str", "device": "str",
    "hardware": "str", "torch": "str", "source": "str", "started_at": "str",
}  # fmt: skip
EPOCH_COLUMNS = {
    "trial_id": "str", "arm": "str", "seed": "int64", "fold": "Int64", "stage": "str",
    "stage_index": "int64", "epoch": "int64", "trial_epoch": "int64", "learning_rate": "float64",
    "train_loss": "float64", "train_accuracy": "float64", "val_loss": "float64",
    "val_accuracy": "float64", "val_accuracy_a": "float64", "val_accuracy_b": "float64",
    "seconds": "float64", "is_kept": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class SearchPart:
    """Role of a trial in a search."""

    phase: Literal["search", "confirmation"] | None = None
    """Whether the search drew the trial or it confirms the front; None outside a search."""
    study_number: int | None = None
    """Number of the Optuna trial that drew its configuration."""
    latency_ms: float | None = None
    """Latency in milliseconds, if it is an objective or has a limit; otherwise None."""


@dataclass(frozen=True)
class Record:
    """One trial's journal line: its rows of the three tables."""

    trial: dict[str, Any]
    """Row of `trials.parquet`."""
    stages: list[dict[str, Any]]
    """Rows of `stages.parquet`."""
    epochs: list[dict[str, Any]]
    """Rows of `epochs.parquet`."""


_NEEDED = {
    "trial": {
        "trial_id", "arm", "seed", "dataset", "status", "error", "started_at", "seconds", "host", "device",
    },
    "stages": {"trial_id", "stage", "stage_index", "origin", "epochs", "seconds", "waited_seconds"},
    "epochs": {
        "trial_id", "stage", "stage_index", "epoch", "trial_epoch", "seconds", "val_accuracy", "is_kept",
    },
}  # fmt: skip
"""Columns that every version has written to the journal."""
_NEVER_NULL = {"trial_id", "arm", "stage", "status", "dataset", "origin"}
_OF_COMPLETED = ("val_accuracy", "test_accuracy", "parameters")
_STATUSES = ["completed", "early_stopped", "failed"]


def _row(columns: Mapping[str, str], needed: Collection[str], is_open: bool = False) -> CoreSchema:
    """Return the schema of a table's row; an open one also allows config.* columns."""
    whole = core_schema.int_schema(ge=-(2**63), lt=2**63, strict=True)
    kinds: dict[str, CoreSchema] = {
        "str": core_schema.str_schema(strict=True),
        "int64": whole,
        "Int64": whole,
        "float64": core_schema.float_schema(allow_inf_nan=False, strict=True),
        "bool": core_schema.bool_schema(strict=True),
    }
    plain: list[CoreSchema | tuple[CoreSchema, str]] = [
        kinds[kind] for kind in ("bool", "int64", "float64", "str")
    ]
    special: dict[str, CoreSchema] = {
        "status": core_schema.literal_schema(_STATUSES),
        "key": core_schema.str_schema(pattern="^[0-9a-f]{64}$"),
    }
    fields = {}
    for name, kind in columns.items():
        schema = special.get(name, kinds[kind])
        if kind not in ("int64", "bool") and name not in _NEVER_NULL:
            schema = core_schema.nullable_schema(schema)
        fields[name] = core_schema.typed_dict_field(schema, required=name in needed)
    return core_schema.typed_dict_schema(
        fields,
        extra_behavior="allow" if is_open else "ignore",
        extras_schema=core_schema.nullable_schema(core_schema.union_schema(plain)) if is_open else None,
    )


_RECORD = SchemaValidator(
    core_schema.typed_dict_schema(
        {
            "trial": core_schema.typed_dict_field(_row(TRIAL_COLUMNS, _NEEDED["trial"], is_open=True)),
            "stages": core_schema.typed_dict_field(
                core_schema.list_schema(_row(STAGE_COLUMNS, _NEEDED["stages"]))
            ),
            "epochs": core_schema.typed_dict_field(
                core_schema.list_schema(_row(EPOCH_COLUMNS, _NEEDED["epochs"]))
            ),
        }
    )
)


def read_record(line: bytes) -> Record | None:
    """Return the record in a journal line, or None if the line is damaged."""
    try:
        found = Record(**_RECORD.validate_json(line))
    except ValidationError:
        return None
    row = found.trial
    for columns, rows in ((TRIAL_COLUMNS, [row]), (STAGE_COLUMNS, found.stages)):
        for each in rows:
            for name in columns.keys() - each.keys():  # written before these columns existed
                each[name] = None
    is_whole = row["status"] != "completed" or (
        len(found.stages) > 1 and all(row[name] is not None for name in _OF_COMPLETED)
    )
    is_one = all(each["trial_id"] == row["trial_id"] for each in (*found.stages, *found.epochs))
    return found if is_whole and is_one else None


@dataclass(frozen=True)
class DataIdentity:
    """Identity of a data set within a run."""

    label: str
    """Name shown to the reader (`planning.design.dataset_labels`)."""
    fingerprint: str
    """Hash of the images and labels (`data.imagedata.Dataset.fingerprint`)."""


def record(
    trial: "Trial",
    cost: "Cost",
    outcome: "Outcome",
    commit: str,
    data: DataIdentity,
    part: SearchPart | None = None,
) -> Record:
    """Return the record of a trial.

    Args:
        trial: The trial.
        cost: Costs of its final net.
        outcome: Its outcome, as reported by the worker.
        commit: Commit of lightsweep, or "".
        data: Identity of its data set.
        part: Its role in a search; None outside a search.

    """
    identity = {"trial_id": trial.trial_id, "arm": trial.arm, "seed": trial.seed, "fold": trial.fold}
    is_completed = outcome.status == "completed"
    trained = [stage for stage in outcome.stages if stage["stage_index"] < len(trial.stages)]
    row = {
        **identity, "dataset": data.label, "data_fingerprint": data.fingerprint,
        "status": outcome.status, "error": outcome.error, "failure": outcome.failure,
        **asdict(cost), **outcome.accuracies,
        "test_confusion": json.dumps(outcome.test_confusion) if outcome.test_confusion else None,
        "test_hits": outcome.test_hits,
        "epochs_trained": len(outcome.epochs) or None,
        "seconds": outcome.seconds,
        "training_seconds": sum(stage["seconds"] for stage in outcome.stages) if is_completed else None,
        "stages_total": len(trial.stages),
        "stages_reused": sum(stage["origin"] == "stored" for stage in trained),
        "waited_seconds": sum(stage["waited_seconds"] for stage in outcome.stages),
        "host": outcome.host, "device": outcome.device, "spec_hash": trial.spec_hash,
        "result_key": outcome.stages[-1]["key"] if is_completed else None,
        "commit": commit, "started_at": outcome.started_at,
        **asdict(part or SearchPart()),
        **config_columns(trial),
    }  # fmt: skip
    names = [*(stage.name for stage in trial.stages), "assessment"]
    stages = [
        {
            **identity,
            "stage": names[stage["stage_index"]],
            **{k: v for k, v in stage.items() if k != "warning"},
        }
        for stage in outcome.stages
    ]
    return Record(row, stages, [{**identity, **_epoch_row(trial, epoch)} for epoch in outcome.epochs])


def outcome_of(found: Record) -> "Outcome":
    """Return the outcome from which a record was made."""
    from lightsweep.training.outcome import Outcome  # which imports torch

    trial = found.trial
    names = ("val_accuracy", "test_accuracy", "train_accuracy")
    confusion = trial.get("test_confusion")
    return Outcome(
        trial["status"], trial["error"], trial["started_at"], trial["seconds"],
        trial["host"], trial["device"],
        accuracies={name: trial[name] for name in names if trial.get(name) is not None},
        test_confusion=json.loads(confusion) if confusion else None,
        test_hits=trial.get("test_hits"),
        stages=found.stages, epochs=found.epochs, failure=trial.get("failure"),
    )  # fmt: skip


def config_columns(trial: "Trial") -> dict[str, Any]:
    """Return a trial's settings as `config.<key>` columns: lists as JSON strings, stages by name."""
    tree = trial.spec.model_dump(mode="json")
    if isinstance(tree["stages"], list):
        tree["stages"] = {stage["name"]: stage for stage in tree["stages"]}
    tree["dataset"] = trial.dataset.model_dump(mode="json")
    return dict(_leaf_columns(tree, "config"))


def _leaf_columns(tree: dict[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaf_columns(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", json.dumps(value) if isinstance(value, list) else value


def _epoch_row(trial: "Trial", epoch: dict[str, Any]) -> dict[str, Any]:
    row = {key: value for key, value in epoch.items() if key != "val_accuracy_heads"}
    heads = epoch["val_accuracy_heads"]
    first, second = heads if len(heads) == 2 else (None, None)
    stage = trial.stages[epoch["stage_index"]].name
    return {**row, "stage": stage, "val_accuracy_a": first, "val_accuracy_b": second}
