import optuna
import pytest

from analysis.search.study import STUDY_FILE, read_study


def test_a_study_is_read_from_a_copy(search_folder):
    """The file may be in use: it is not opened, and nothing beside it is left."""
    path = search_folder / STUDY_FILE
    before, names = path.read_bytes(), sorted(search_folder.iterdir())
    path.chmod(0o444)
    verbosity = optuna.logging.get_verbosity()
    study = read_study(search_folder)
    assert study.problem is None
    assert study.objectives == ("val_accuracy", "parameters")
    assert study.counts == {
        "completed": 6,
        "early_stopped": 1,
        "failed": 1,
        "infeasible": 3,
        "repeated": 1,
    }
    assert path.read_bytes() == before
    assert sorted(search_folder.iterdir()) == names
    assert optuna.logging.get_verbosity() == verbosity


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0 cut off", b"text " * 1000])
def test_a_broken_study_is_a_problem_and_no_error(search_folder, content):
    (search_folder / STUDY_FILE).write_bytes(content)
    assert read_study(search_folder).problem == "study.db cannot be read"


def test_a_missing_study_is_a_problem(tmp_path):
    study = read_study(tmp_path)
    assert (study.problem, study.trials, sum(study.counts.values())) == (
        "the run folder has no study.db",
        (),
        0,
    )
