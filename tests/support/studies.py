"""Reading the study of a search that was started in a folder, and comparing it with the records."""

from pathlib import Path

import optuna
from optuna.trial import FrozenTrial
from run_reading import journal, made, table

STUDY = "runs/killed/study.db"


def trials_of(url: str) -> list[FrozenTrial]:
    """Read the study of a database, and leave no connection behind."""
    storage = optuna.storages.RDBStorage(url)
    try:
        return optuna.load_study(study_name="killed", storage=storage).get_trials()
    finally:
        storage.scoped_session.remove()
        storage.engine.dispose()


def study_trials(folder: Path) -> list[FrozenTrial]:
    return trials_of(f"sqlite:///{folder / STUDY}")


def states(folder: Path) -> set[str]:
    """The states of the study's trials; none where there is no study yet."""
    if not (folder / STUDY).exists():
        return set()
    try:
        return {trial.state.name for trial in study_trials(folder)}
    except KeyError:  # the database is there, the study not yet
        return set()


def assert_whole(folder: Path, trials: int, confirmed: int = 0, url: str | None = None) -> None:
    """Check that the study has ended, that it and the records agree, and that nothing was done twice.

    Args:
        folder: In which the search was started.
        trials: That the study was to have.
        confirmed: Nets that were to be trained with the fresh seeds 0 and 1.
        url: Of the study's database; None: it is in the run's folder.

    """
    found = trials_of(url or f"sqlite:///{folder / STUDY}")
    assert {trial.state.name for trial in found} <= {"COMPLETE", "FAIL"}
    counted = [trial for trial in found if trial.user_attrs["status"] != "infeasible"]
    assert len(counted) == trials
    firsts = {t.user_attrs["drawn"]["trial_id"]: t for t in counted if t.user_attrs["status"] != "repeated"}
    every = table(folder, "trials")
    rows = every.query("phase == 'search'").set_index("trial_id")
    assert set(rows.index) == set(firsts)
    for trial_id, trial in firsts.items():
        row = rows.loc[trial_id]
        assert (row["status"], row["study_number"]) == (trial.user_attrs["status"], trial.number)
        if row["status"] == "completed":
            assert trial.values == [row["val_accuracy"], row["parameters"]]
    journalled = [row["trial_id"] for row in journal(folder)]
    assert len(journalled) == len(set(journalled))
    assert made(folder).is_unique
    again = every.query("phase == 'confirmation'")
    assert again.groupby("arm").seed.apply(list).tolist() == [[0, 1]] * confirmed
    assert set(again.arm) <= set(rows.query("status == 'completed'").arm)
