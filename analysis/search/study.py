"""Read a search's Optuna study from a copy, because the file itself may be in use."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightsweep.system.files import UnreadableError, open_plain

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STUDY_FILE = "study.db"


@dataclass(frozen=True)
class StudyCopy:
    """Content of a study, or the reason why it cannot be read.

    A trial's user attribute `status` is completed, early_stopped, failed, infeasible (never trained, with
    placeholder values) or repeated (answered from an earlier trial).
    """

    trials: "tuple[FrozenTrial, ...]" = ()
    objectives: tuple[str, ...] = ()
    """Names of the objectives, in the order of each trial's values."""
    problem: str | None = None
    """Why the study cannot be read, as part of a sentence; None if it was read."""

    @property
    def counts(self) -> Counter[str]:
        """Number of trials by status."""
        return Counter(trial.user_attrs["status"] for trial in self.trials if "status" in trial.user_attrs)


def read_study(folder: Path) -> StudyCopy:
    """Read the study in the run folder `folder`; if that fails, `problem` says why."""
    path = folder / STUDY_FILE
    if not path.exists():
        return StudyCopy(problem=f"the run folder has no {STUDY_FILE}")
    try:
        import optuna  # takes half a second to import
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return StudyCopy(problem=f"Optuna, which reads {STUDY_FILE}, is not installed")
    with quiet_optuna(), tempfile.TemporaryDirectory() as place:
        storage = None
        try:
            copy = Path(place) / STUDY_FILE
            with open_plain(path) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target)
            storage = optuna.storages.RDBStorage(f"sqlite:///{copy}")
            study = optuna.load_study(study_name=None, storage=storage)
            trials = tuple(study.get_trials(deepcopy=False))
            return StudyCopy(trials, tuple(study.metric_names or ()))
        except (
            SQLAlchemyError,
            optuna.exceptions.OptunaError,
            UnreadableError,
            OSError,
            KeyError,
            RuntimeError,
            ValueError,
            TypeError,
        ):
            return StudyCopy(problem=f"{STUDY_FILE} cannot be read")
        finally:
            if storage is not None:
                storage.remove_session()
                storage.engine.dispose()


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence Optuna's log messages."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
