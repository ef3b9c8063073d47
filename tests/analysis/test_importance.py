import math

import numpy as np
import pytest
from imitation_search import SEARCH, frozen

from analysis.design import parse_search
from analysis.search.importance import Importances
from analysis.search.importance import importances as with_all_repeats
from analysis.search.study import StudyCopy, read_study


def importances(*arguments, **options) -> Importances:
    """With few repeats, where neither bars nor floors are looked at."""
    return with_all_repeats(*arguments, repeats=2, **options)


OBJECTIVES = ("val_accuracy", "parameters")


@pytest.fixture
def search():
    return parse_search({"search": SEARCH})


def drawn(n, status="completed"):
    """Make trials in which ``rate`` makes the accuracy, ``width`` the parameters, and ``nothing`` nothing."""
    random = np.random.default_rng(3)
    found = []
    for number in range(n):
        params = {name: float(random.random()) for name in ("rate", "width", "nothing")}
        if number % 2:
            params["sometimes"] = float(random.random())
        values = [0.5 + 0.4 * params["rate"], 10 ** (2 + 2 * params["width"])]
        found.append(frozen(params, values, status))
    return found


def test_the_setting_that_matters_is_found_for_each_objective(search):
    found = with_all_repeats(StudyCopy(tuple(drawn(30)), OBJECTIVES), search, repeats=5)
    assert (found.trials, found.of, found.problem, found.constant) == (30, 30, None, ())
    assert found.left_out == ("sometimes",)
    for objective, setting in (("val_accuracy", "rate"), ("parameters", "width")):
        shares = found.by_objective[objective]
        assert next(iter(shares)) == setting
        assert shares[setting] > 0.9
        assert sum(shares.values()) == pytest.approx(1)
        assert set(shares) == {"rate", "width", "nothing"}
        assert shares["nothing"] < found.floors[objective] < shares[setting]
        lowest, highest = found.bars[objective][setting]
        assert found.floors[objective] < lowest < highest <= 1


def test_only_what_was_trained_to_its_end_counts(search):
    """Made-up values of what could not be trained, and partial ones, would make ``nothing`` matter."""
    clean = drawn(20)
    planted = [
        frozen({"rate": 0.5, "width": 0.5, "nothing": place / 20}, [place / 20, 10.0**place], status)
        for place in range(20)
        for status in ("infeasible", "early_stopped", "repeated")
    ]
    failed = [frozen({"rate": 0.1, "width": 0.1, "nothing": 0.1}, None, "failed")]
    found = importances(StudyCopy((*clean, *planted, *failed), OBJECTIVES), search)
    assert found == importances(StudyCopy(tuple(clean), OBJECTIVES), search)


def test_few_trials_say_nothing(search):
    found = importances(StudyCopy(tuple(drawn(9)), OBJECTIVES), search)
    assert found.by_objective == {}
    assert found.problem == (
        "it takes 15 completed trials of the study (5 for each of 3 settings); there are 9"
    )
    assert importances(StudyCopy(tuple(drawn(14)), OBJECTIVES), search).problem is not None
    assert importances(StudyCopy(tuple(drawn(15)), OBJECTIVES), search).problem is None


def test_an_unreadable_study_says_why(search, tmp_path):
    assert importances(read_study(tmp_path), search).problem == "the run folder has no study.db"


def test_an_objective_without_variance_is_named(search):
    trials = [frozen(dict(trial.params), [0.5, trial.values[1]], "completed") for trial in drawn(15)]
    found = importances(StudyCopy(tuple(trials), OBJECTIVES), search)
    assert (list(found.by_objective), found.constant) == (["parameters"], ("val_accuracy",))
    trials = [frozen(dict(trial.params), [0.5, 100.0], "completed") for trial in drawn(15)]
    found = importances(StudyCopy(tuple(trials), OBJECTIVES), search)
    assert found.problem == "the objectives are the same in all trials"


def test_without_a_setting_in_all_trials_there_is_nothing(search):
    trials = [frozen({f"p{place % 2}": 0.5}, [place / 20, 10.0], "completed") for place in range(12)]
    assert importances(StudyCopy(tuple(trials), OBJECTIVES), search).problem == "no setting is in every trial"


def test_of_many_trials_some_are_drawn(search):
    """The method's time grows with the square of the trials; the page says how many were used."""
    study = StudyCopy(tuple(drawn(40)), OBJECTIVES)
    found = importances(study, search, most=30)
    assert (found.trials, found.of) == (30, 40)
    assert found == importances(study, search, most=30)
    assert next(iter(found.by_objective["val_accuracy"])) == "rate"
    assert math.isclose(sum(found.by_objective["parameters"].values()), 1)


def test_objectives_are_named_by_the_search_where_the_study_does_not(search):
    assert list(importances(StudyCopy(tuple(drawn(15))), search).by_objective) == list(OBJECTIVES)
