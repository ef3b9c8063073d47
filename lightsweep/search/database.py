"""The study's database: SQLite in the run folder, or PostgreSQL; the launching process is its only writer.

Everything beyond asking the study is here, through public methods of Optuna's storage and of `optuna.Trial`:
trials of an earlier run are told, queued again and constrained by their number.
"""

import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from lightsweep.echo import one_line
from lightsweep.errors import InputError, WriteError
from lightsweep.hashing import content_hash
from lightsweep.search.draws import Draw, Objectives, search_of
from lightsweep.sweepfile.search import ACCURACY, Search
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.system.files import open_plain
from lightsweep.training.outcome import Outcome

STUDY_FILE = "study.db"
ENDED = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)

optuna.logging.set_verbosity(optuna.logging.ERROR)  # users see failures in the records


class StudyDatabase:
    """One sweep's Optuna study in its database; trials are identified by their number in the study."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        """Open the study, or create it.

        Args:
            sweep: A sweep with a search.
            folder: The run's folder.

        Raises:
            InputError: The existing study belongs to another search.
            WriteError: The database cannot be used.

        """
        self.sweep, self.folder = sweep, folder
        search = search_of(sweep)
        with self.errors():
            self.storage = _storage(search, folder)
            self.study = optuna.create_study(
                study_name=sweep.name,
                storage=self.storage,
                load_if_exists=True,
                directions=[
                    StudyDirection.MINIMIZE if way == "minimise" else StudyDirection.MAXIMIZE
                    for way in search.objectives.values()
                ],
            )
            self.study.set_metric_names(list(search.objectives))
            self._check_identity()
            self._study_id = self.storage.get_study_id_from_name(sweep.name)

    @property
    def where(self) -> str:
        """The database's location, for messages."""
        return _where(self.sweep)

    def errors(self) -> AbstractContextManager[None]:
        """Turn errors of the database into a WriteError with a one-line message."""
        return _one_line_errors(self.sweep)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the study's trials in these states; all trials if no state is given."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial in its current state."""
        return self.storage.get_trial(self._id(number))

    def annotate(self, number: int, **attributes: Any) -> None:
        """Set a trial's user attributes, except those that are None."""
        trial_id = self._id(number)
        for key, value in attributes.items():
            if value is not None:
                self.storage.set_trial_user_attr(trial_id, key, value)

    def constrain(self, number: int, constraints: Mapping[str, float]) -> None:
        """Set a trial's constraints, where a value above 0 is a violation."""
        trial, known = optuna.Trial(self.study, self._id(number)), self.trial(number).constraints or {}
        for key, value in constraints.items():
            if key not in known:  # a killed run may have set it
                trial.set_constraint(key, value)

    def finish(self, number: int, values: Sequence[float] | None) -> None:
        """Tell the study a trial's objective values, or None if it failed."""
        self.study.tell(number, values, TrialState.FAIL if values is None else TrialState.COMPLETE)

    def requeue(self, number: int) -> None:
        """Queue a trial to be asked for again, with the same parameters."""
        self.storage.set_trial_state_values(self._id(number), TrialState.WAITING)

    def resume(self, number: int) -> FrozenTrial:
        """Mark a queued trial as running, without asking for it, and return it."""
        self.storage.set_trial_state_values(self._id(number), TrialState.RUNNING)
        return self.trial(number)

    def copy(self, path: Path) -> None:
        """Write the study as an SQLite file, atomically."""
        _copy(self.sweep.name, self.storage, path)

    def _id(self, number: int) -> int:
        """Return a trial's id in the database, which may hold several studies."""
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _check_identity(self) -> None:
        """Raise if the existing study belongs to another search."""
        sweep, search, study = self.sweep, search_of(self.sweep), self.study
        content = content_hash(
            {
                "dataset": sweep.dataset.model_dump(mode="json"),
                "base": sweep.base.model_dump(mode="json"),
                **search.model_dump(mode="json", include={"space", "objectives", "limits", "seed"}),
            }
        )
        home = f"{platform.node()}:{self.folder.absolute()}"
        before = study.user_attrs.get("search")
        if before is None:
            study.set_user_attr("search", content)
            study.set_user_attr("run_folder", home)
        elif search.storage is not None and study.user_attrs.get("run_folder") != home:
            raise InputError(
                f"search.storage = {search.storage}: already has a study {sweep.name}, of "
                f"{study.user_attrs.get('run_folder')}; give this sweep another name"
            )
        elif before != content:
            raise InputError(
                f"{self.folder}: its study belongs to another search (data, base, space, objectives, limits "
                "or seed differ); give this one another name, or remove the folder"
            )


def copy_study(sweep: Sweep, folder: Path, path: Path) -> None:
    """Write a sweep's study, wherever it is stored, as an SQLite file.

    Raises:
        WriteError: The database cannot be used.

    """
    with _one_line_errors(sweep):
        _copy(sweep.name, _storage(search_of(sweep), folder), path)


def _copy(name: str, storage: optuna.storages.RDBStorage, path: Path) -> None:
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=f"sqlite:///{draft.absolute()}")
    draft.replace(path)


def _storage(search: Search, folder: Path) -> optuna.storages.RDBStorage:
    if search.storage is None:
        path = (folder / STUDY_FILE).absolute()
        with suppress(FileNotFoundError):
            open_plain(path).close()
        return optuna.storages.RDBStorage(f"sqlite:///{path}")
    url = search.storage.replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except ImportError:
        raise InputError(
            "search.storage: PostgreSQL needs psycopg; pip install 'lightsweep[postgresql]'"
        ) from None


@contextmanager
def _one_line_errors(sweep: Sweep) -> Iterator[None]:
    try:
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            yield
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        cause = one_line(error.__cause__ or error, 200)
        raise WriteError(f"{_where(sweep)}: the study's database cannot be used ({cause})") from None


def _where(sweep: Sweep) -> str:
    storage = search_of(sweep).storage
    return f"search.storage = {storage}" if storage else STUDY_FILE


class Teller:
    """Tells the study about trials that ended, were repeated, or cannot be trained."""

    def __init__(self, database: StudyDatabase, objectives: Objectives) -> None:
        self.database, self.objectives, self.search = database, objectives, objectives.search

    def ended(self, number: int, draw: Draw, outcome: Outcome) -> int:
        """Tell a trial's outcome; return its number of epochs."""
        epochs = outcome.epochs_behind
        self.database.annotate(number, status=outcome.status, epochs=epochs, reason=outcome.error)
        accuracy = outcome.accuracies.get(ACCURACY)
        stopping, missed = self.search.early_stopping, 0.0
        if outcome.status == "early_stopped" and stopping and stopping.tell != "failed":
            accuracy = max(epoch[ACCURACY] for epoch in outcome.epochs)
            if stopping.tell == "infeasible":
                missed = 1 - epochs / sum(stage.epochs for stage in draw.trial.stages)
        if accuracy is None:
            self.database.finish(number, None)
        else:
            self.database.constrain(number, self.objectives.constraints(draw.costs, accuracy, missed))
            self.database.finish(number, self.objectives.values(draw.costs, accuracy))
        return epochs

    def repeated(self, number: int, draw: Draw) -> None:
        """Tell the result of the first draw for a repetition of it."""
        first = self.database.trial(draw.number)
        self.database.annotate(number, status="repeated", epochs=0, reason=f"as trial {draw.number}")
        self.database.constrain(number, first.constraints or {})
        self.database.finish(number, first.values)

    def infeasible(self, number: int, reason: str, costs: Mapping[str, float]) -> None:
        """Tell that a draw cannot be trained: with its constraints, and with the worst values so far."""
        self.database.annotate(
            number, latency_ms=costs.get("latency_ms"), status="infeasible", epochs=0, reason=reason
        )
        impossible = 0.0 if costs else 1.0
        self.database.constrain(number, self.objectives.constraints(costs, None, 0.0, impossible))
        known = [trial.values for trial in self.database.trials(TrialState.COMPLETE)]
        worst = [
            (min if direction == "maximise" else max)((values[place] for values in known), default=0.0)
            for place, direction in enumerate(self.search.objectives.values())
        ]
        values = [costs.get(key, bad) for key, bad in zip(self.search.objectives, worst, strict=True)]
        self.database.finish(number, values)
