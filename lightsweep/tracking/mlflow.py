"""MLflow tracker: an experiment with a run per trial, and one for the sweep's progress."""

import hashlib
import logging
import os
import re
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightsweep.errors import InputError
from lightsweep.runfolder.records import Record
from lightsweep.system.files import read_text, refuse_link, write_text
from lightsweep.tracking.words import (
    EPOCH_METRICS,
    FINAL_METRICS,
    TAGS,
    as_setting,
    config_names,
    cut,
    end_of,
    import_optional,
    present,
    stage_names,
    start_of,
    timed_epochs,
    trial_name,
    version_of_record,
    without_secrets,
)

# MLflow's limits, in characters and in entries per call
_MOST_NAME, _MOST_PARAM, _MOST_TAG, _MOST_PARAMS, _MOST_ENTRIES = 250, 6000, 5000, 100, 1000
RUN_STATUS = {"completed": "FINISHED", "failed": "FAILED", "early_stopped": "KILLED"}


# Fail fast on an unreachable server when the sweep starts; be patient while it runs.
HTTP_AT_START = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


HTTP_AT_WORK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


class MLflow:
    """An experiment named after the sweep: a run per trial, and the run `sweep` for its progress."""

    def __init__(self, run_folder: Path, sweep_name: str, sweep_text: str) -> None:
        # MLflow sends usage telemetry, and prints each run's URL including the password
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        self.mlflow = import_optional("mlflow", "mlflow")
        self.entities = import_optional("mlflow.entities", "mlflow")
        refuse_link(run_folder / "mlflow.db")
        local = f"sqlite:///{_quoted(run_folder.resolve() / 'mlflow.db')}"
        self.uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or local
        self.is_remote = self.uri != local
        if not self.uri.startswith(("http:", "https:")):
            _prepare_database()
        self.label = f"MLflow ({without_secrets(self.uri)})"
        self.run_folder, self.name, self.text = run_folder, sweep_name, sweep_text
        self.shown: dict[str, tuple[str, str]] = {}
        """Version (empty if the run is incomplete) and MLflow run id of each trial shown, by trial id."""
        self.sweep_run: str | None = None
        """MLflow run id of the sweep's own run; None before `connect`."""

    def connect(self) -> None:
        """Connect, and find out which trials are already shown."""
        self.folder_id = _folder_id(self.run_folder)
        self.client = self.mlflow.MlflowClient(self.uri)
        found = self.client.get_experiment_by_name(self.name)
        if found is not None and found.lifecycle_stage != "active":
            raise InputError(f"experiment {self.name} was deleted there; restore it or rename the sweep")
        self.experiment = found.experiment_id if found else self.client.create_experiment(self.name)
        for run in self._runs():
            self._note(run)
        if self.sweep_run is None:
            tags = {"run_folder_id": self.folder_id, "kind": "sweep", "mlflow.note.content": self.text}
            created = self.client.create_run(self.experiment, tags=_tags(tags), run_name="sweep")
            self.sweep_run = created.info.run_id
        else:
            self.client.update_run(self.sweep_run, status="RUNNING")

    def _runs(self) -> Iterator[Any]:
        """Yield the runs of this run folder, oldest first."""
        page = None
        while True:
            page = self.client.search_runs(
                [self.experiment], f"tags.run_folder_id = '{self.folder_id}'", max_results=1000,
                order_by=["attributes.start_time ASC"], page_token=page.token if page else None,
            )  # fmt: skip
            yield from page
            if not page.token:
                return

    def _note(self, run: Any) -> None:
        tags, run_id = run.data.tags, run.info.run_id
        if tags.get("kind") == "sweep":
            self.sweep_run = run_id
            return
        if tags["trial_id"] in self.shown:  # a kill between two calls left a second run
            self.client.delete_run(self.shown[tags["trial_id"]][1])
        is_whole = run.info.status in RUN_STATUS.values()
        self.shown[tags["trial_id"]] = (version_of_record(tags) if is_whole else "", run_id)

    def show(self, record: Record) -> None:
        """Show a trial, replacing an older record of it."""
        trial = record.trial
        trial_id, version = trial["trial_id"], version_of_record(trial)
        if trial_id in self.shown:
            if self.shown[trial_id][0] == version:
                return
            self.client.delete_run(self.shown.pop(trial_id)[1])
        tags = {name: trial[name] for name in present(trial, TAGS)}
        tags |= {"run_folder_id": self.folder_id, "kind": "trial", "stages": stage_names(record)}
        run = self.client.create_run(
            self.experiment,
            start_time=_milliseconds(start_of(trial)),
            tags=_tags(tags),
            run_name=trial_name(trial),
        )
        run_id = run.info.run_id
        for params, metrics in self._batches(record):
            self.client.log_batch(run_id, metrics, params)
        end, status = _milliseconds(end_of(trial)), RUN_STATUS[trial["status"]]
        self.client.set_terminated(run_id, status, end)  # last: a run still open is incomplete
        self.shown[trial_id] = (version, run_id)

    def _batches(self, record: Record) -> Iterator[tuple[list[Any], list[Any]]]:
        """Yield params and metrics in batches that fit into one MLflow call."""
        params = [
            self.entities.Param(_key(name), cut(as_setting(record.trial[name]), _MOST_PARAM))
            for name in config_names(record.trial)
        ]
        metrics, at_once = self._metrics(record), _MOST_ENTRIES - _MOST_PARAMS
        for number in range(max(-(-len(params) // _MOST_PARAMS), -(-len(metrics) // at_once))):
            yield (
                params[number * _MOST_PARAMS : (number + 1) * _MOST_PARAMS],
                metrics[number * at_once : (number + 1) * at_once],
            )

    def _metrics(self, record: Record) -> list[Any]:
        metric, trial = self.entities.Metric, record.trial
        series = [
            metric(f"epoch/{name}", float(epoch[name]), _milliseconds(moment), epoch["trial_epoch"])
            for epoch, moment in timed_epochs(record)
            for name in present(epoch, EPOCH_METRICS)
        ]
        end, last = _milliseconds(end_of(trial)), len(record.epochs)
        finals = [metric(name, float(trial[name]), end, last) for name in present(trial, FINAL_METRICS)]
        return [*series, *finals]

    def show_counts(self, counts: dict[str, float], step: int) -> None:
        """Show the sweep's progress after `step` trials."""
        metric, now = self.entities.Metric, _milliseconds(time.time())
        metrics = [metric(f"sweep/{name}", float(value), now, step) for name, value in counts.items()]
        self.client.log_batch(self.sweep_run, metrics)

    def finish(self) -> None:
        """Mark the sweep as finished for now."""
        self.client.set_terminated(self.sweep_run, "FINISHED")


def _prepare_database() -> None:
    """Import MLflow's database code here, where its warnings can be suppressed."""
    with warnings.catch_warnings():
        # mlflow 3.17 still uses it with SQLAlchemy 2.1; the user cannot change that
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
        import_optional("mlflow.store.tracking.sqlalchemy_store", "mlflow")
    for name in ("mlflow.store.db.utils", "alembic.runtime.migration", "alembic.runtime.plugins"):
        logging.getLogger(name).setLevel(logging.ERROR)  # hides table creation and retries


def _quoted(path: Path) -> str:
    """Return a path for a database URL with minimal quoting, since MLflow creates the folder from it."""
    return str(path).replace("%", "%25").replace("?", "%3F")


def _folder_id(run_folder: Path) -> str:
    """Return a run folder's unique id, which stays the same when the folder is moved."""
    path = run_folder / "tracking-id"
    if not path.exists():
        write_text(path, uuid.uuid4().hex)
    return read_text(path).strip()


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _key(name: str) -> str:
    """Return a unique name that MLflow accepts: letters, digits, _, -, ., space, limited length."""
    clean = re.sub(r"[^\w\-. ]", "_", name)
    if clean == name and len(name) <= _MOST_NAME:
        return name
    return f"{clean[: _MOST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _tags(values: dict[str, Any]) -> dict[str, str]:
    return {name: cut(as_setting(value), _MOST_TAG) for name, value in values.items()}
