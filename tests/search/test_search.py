"""The study: what it hands out and is told, and how it goes on after a crash. Nothing is trained here."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from lightsweep.data.datasets import describe
from lightsweep.errors import InputError
from lightsweep.planning.plan import Plan, plan
from lightsweep.search.draws import Draw
from lightsweep.search.space import survey
from lightsweep.search.study import Study
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.training.outcome import Outcome

SPACE: dict[str, Any] = {
    "model.filters": {"low": 2, "high": 30, "length": [1, 3]},
    "model.kernel": [3, 5],
    "stages.lr": {"low": 1e-4, "high": 1e-2, "log": True},
}
BASE = {"stages": {"preset": "paper", "epochs": {"dual": 4, "fusion": 1, "finetune": 5}}}
SMALL = {"model.hidden": {"low": 4, "high": 6}}  # three configurations


def planned(**search: Any) -> Plan:
    tree = {
        "name": "s",
        "dataset": {"name": "digits", "validation": 100},
        "seeds": 2,
        "base": BASE,
        "search": {"space": SPACE, "trials": 10, "sampler": "random"} | search,
    }
    return plan(Sweep.model_validate(tree), lambda spec: describe(spec, Path("nowhere")))


def begin(
    folder: Path,
    outcomes: dict[str, Outcome] | None = None,
    clock: Callable[[], float] = time.monotonic,
    **search: Any,
) -> Study:
    study = Study(planned(**search), folder, outcomes or {}, clock)
    study.at_once = 2
    return study


def ended(draw: Draw, accuracy: float | None = None, status: str = "completed", epochs: int = 10) -> Outcome:
    """Make up what became of a draw; by default more parameters are better."""
    value = 1 - 1000 / (2000 + draw.cost.parameters) if accuracy is None else accuracy
    accuracies = dict.fromkeys(("val_accuracy", "test_accuracy", "train_accuracy"), value)
    rows = [{"val_accuracy": value * (epoch + 1) / epochs} for epoch in range(epochs)]
    error = "NaN loss" if status == "failed" else None
    return Outcome(
        status, error, "", 1.0, "host", "cpu",
        accuracies=accuracies if status == "completed" else {}, epochs=[] if status == "failed" else rows,
    )  # fmt: skip


def draw_from(study: Study) -> Draw:
    draw = study.ask()
    assert isinstance(draw, Draw)
    return draw


def run_to_the_end(study: Study) -> list[Draw]:
    draws = []
    while (draw := study.ask()) is not None:
        assert isinstance(draw, Draw)
        study.tell(draw.trial.trial_id, ended(draw))
        draws.append(draw)
    return draws


def stored(folder: Path) -> optuna.Study:
    """Open the study as anybody would, from its file."""
    return optuna.load_study(study_name="s", storage=f"sqlite:///{folder / 'study.db'}")


def states(folder: Path) -> list[str]:
    """The states of trials that were handed out, in their order."""
    trials = possible(folder)
    return [trial.state.name for trial in trials if trial.user_attrs.get("status") != "repeated"]


def possible(folder: Path) -> list[FrozenTrial]:
    """The study's trials but for those that could not be trained: how many those are is luck."""
    trials = stored(folder).get_trials()
    return [trial for trial in trials if trial.user_attrs.get("status") != "infeasible"]


@pytest.fixture(autouse=True)
def quiet_optuna() -> Iterator[None]:
    yield
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_a_search_hands_out_as_many_trials_as_asked_for_and_knows_them_both_ways(tmp_path: Path) -> None:
    draws = run_to_the_end(begin(tmp_path))
    assert len(draws) == 10
    trials = stored(tmp_path).get_trials()
    for draw in draws:
        attributes = trials[draw.number].user_attrs
        expected = {"trial_id": draw.trial.trial_id, "arm": f"net {draw.number}", "seed": 1000}
        assert attributes["drawn"] == expected
        assert (attributes["status"], attributes["epochs"]) == ("completed", 10)
        assert trials[draw.number].values == [ended(draw).accuracies["val_accuracy"], draw.cost.parameters]
        assert list(draw.trial.spec.model.filters) == draw.trial.changes["model.filters"]


def test_what_exceeds_a_limit_or_cannot_be_built_is_never_handed_out_but_told(tmp_path: Path) -> None:
    draws = run_to_the_end(begin(tmp_path, trials=5, limits={"parameters": 12_000, "macs": 500_000}))
    assert len(draws) == 5
    assert all(draw.cost.parameters <= 12_000 and draw.cost.macs <= 500_000 for draw in draws)
    infeasible = [t for t in stored(tmp_path).get_trials() if t.user_attrs["status"] == "infeasible"]
    assert {t.number for t in infeasible} == set(range(max(d.number for d in draws))) - {
        d.number for d in draws
    }
    assert any("too many for images" in t.user_attrs["reason"] for t in infeasible)
    over = next(t for t in infeasible if t.user_attrs["reason"].startswith("parameters = "))
    assert over.constraints["parameters"] == pytest.approx(over.values[1] / 12_000 - 1)
    assert all(max(t.constraints.values()) > 0 for t in infeasible)
    feasible = {t.number for t in stored(tmp_path).best_trials}
    assert feasible <= {draw.number for draw in draws}  # samplers and dashboards leave the others out


def test_failures_and_nan_are_told_as_failures(tmp_path: Path) -> None:
    study = begin(tmp_path)
    draw = draw_from(study)
    study.tell(draw.trial.trial_id, ended(draw, status="failed"))
    (trial,) = stored(tmp_path).get_trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["reason"] == "NaN loss"


@pytest.mark.parametrize(
    ("tell", "state", "values"),
    [("failed", "FAIL", None), ("partial", "COMPLETE", 0.3), ("infeasible", "COMPLETE", 0.3)],
)
def test_what_the_sampler_is_told_of_a_stopped_trial(
    tmp_path: Path, tell: str, state: str, values: float | None
) -> None:
    study = begin(tmp_path, early_stopping={"tell": tell})
    draw = draw_from(study)
    outcome = ended(draw, 0.3, "early_stopped", epochs=4)
    study.tell(draw.trial.trial_id, outcome)
    (trial,) = stored(tmp_path).get_trials()
    assert (trial.state.name, trial.user_attrs["status"]) == (state, "early_stopped")
    assert (trial.values and trial.values[0]) == values
    if tell == "infeasible":  # 4 of 10 epochs
        assert trial.constraints == {"possible": 0, "epochs": pytest.approx(0.6)}
        assert stored(tmp_path).best_trials == []
    assert study.to_confirm({}) == []


def test_an_accuracy_below_its_limit_is_told_as_a_constraint_and_not_confirmed(tmp_path: Path) -> None:
    study = begin(tmp_path, limits={"val_accuracy": 0.9}, trials=2)
    accuracies = {}
    for accuracy in (0.85, 0.95):
        draw = draw_from(study)
        study.tell(draw.trial.trial_id, ended(draw, accuracy))
        accuracies[draw.trial.trial_id] = accuracy
    low, high = possible(tmp_path)
    assert (low.constraints, high.constraints) == (
        {"possible": 0, "val_accuracy": pytest.approx(0.05)},
        {"possible": 0, "val_accuracy": pytest.approx(-0.05)},
    )
    assert [draw.number for draw in study.to_confirm(accuracies)] == [high.number]


def test_no_more_are_under_way_than_there_is_room_for_and_none_beyond_the_number(tmp_path: Path) -> None:
    study = begin(tmp_path, trials=3)
    first, second = draw_from(study), draw_from(study)
    assert study.ask() == "wait"
    study.tell(first.trial.trial_id, ended(first))
    third = draw_from(study)
    study.tell(second.trial.trial_id, ended(second))
    assert study.ask() == "wait"  # the third is the last
    study.tell(third.trial.trial_id, ended(third))
    assert study.ask() is None
    assert study.share_done() == 1


def test_a_budget_of_epochs_counts_what_trials_trained(tmp_path: Path) -> None:
    study = begin(tmp_path, trials=None, budget={"epochs": 25}, early_stopping={})
    study.at_once = 9
    first, second, third = draw_from(study), draw_from(study), draw_from(study)
    assert study.ask() == "wait"  # three times ten epochs would be enough
    study.tell(first.trial.trial_id, ended(first, status="early_stopped", epochs=2))
    fourth = draw_from(study)
    assert study.ask() == "wait"
    for draw in (second, third, fourth):
        study.tell(draw.trial.trial_id, ended(draw))
    assert study.ask() is None  # 2 + 10 + 10 + 10


def test_a_budget_of_minutes_goes_on_where_it_was(tmp_path: Path) -> None:
    now = [0.0]
    limits: dict[str, Any] = {"clock": lambda: now[0], "trials": None, "budget": {"minutes": 2}}
    study = begin(tmp_path, **limits)
    draw = draw_from(study)
    now[0] = 90.0
    study.tell(draw.trial.trial_id, ended(draw))
    assert study.share_done() == pytest.approx(0.75)
    study = begin(tmp_path, {draw.trial.trial_id: ended(draw)}, **limits)
    assert study.share_done() == pytest.approx(0.75)
    draw_from(study)
    now[0] += 31.0
    assert study.ask() == "wait"


def test_a_repeated_configuration_is_answered_and_counts(tmp_path: Path) -> None:
    study = begin(tmp_path, space=SMALL, trials=12)
    draws = run_to_the_end(study)
    assert sorted(draw.trial.spec.model.hidden or 0 for draw in draws) == [4, 5, 6]
    trials = stored(tmp_path).get_trials()
    assert len(trials) == 12
    by_hidden = {draw.trial.spec.model.hidden: draw for draw in draws}
    for trial in trials:
        first = by_hidden[trial.params["model.hidden"]]
        assert trial.values == trials[first.number].values
        assert trial.user_attrs["drawn"]["trial_id"] == first.trial.trial_id
        assert trial.user_attrs["status"] == ("completed" if trial.number == first.number else "repeated")


def test_a_repetition_of_what_is_under_way_waits_for_it(tmp_path: Path) -> None:
    study = begin(tmp_path, space={"model.hidden": [4]}, trials=3)
    draw = draw_from(study)
    assert study.ask() == "wait"
    study.tell(draw.trial.trial_id, ended(draw, 0.5))
    assert study.ask() is None
    assert [trial.values[0] for trial in stored(tmp_path).get_trials()] == [0.5] * 3


def test_a_repeated_configuration_can_have_new_seeds(tmp_path: Path) -> None:
    """None of them is one of the confirmation's, here 0 and 1."""
    draws = run_to_the_end(begin(tmp_path, space={"model.hidden": [4]}, trials=4, repeats="new-seed"))
    assert [draw.trial.seed for draw in draws] == [1000, 1001, 1002, 1003]
    assert {draw.trial.arm for draw in draws} == {"net 0"}


def test_after_a_crash_nothing_stays_running_nothing_is_lost_and_nothing_is_twice(tmp_path: Path) -> None:
    """A trial of a killed run is told from its record, or is asked again as the same trial."""
    study = begin(tmp_path, start_from=[{}], space={"model.hidden": {"low": 4, "high": 64}})
    told, recorded, lost = draw_from(study), draw_from_after(study, 2), None
    study.tell(told.trial.trial_id, ended(told))
    lost = draw_from(study)
    del study  # killed: `recorded` was journalled, but the study was not told; `lost` was under way
    assert states(tmp_path) == ["COMPLETE", "RUNNING", "RUNNING"]
    outcomes = {draw.trial.trial_id: ended(draw) for draw in (told, recorded)}
    study = begin(tmp_path, outcomes, start_from=[{}], space={"model.hidden": {"low": 4, "high": 64}})
    assert states(tmp_path) == ["COMPLETE", "COMPLETE", "WAITING"]
    again = draw_from(study)
    assert (again.number, again.trial.trial_id) == (lost.number, lost.trial.trial_id)
    study.tell(again.trial.trial_id, ended(again))
    run_to_the_end(study)
    trials = possible(tmp_path)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 10
    firsts = [t.user_attrs["drawn"]["trial_id"] for t in trials if t.user_attrs["status"] == "completed"]
    assert len(set(firsts)) == len(firsts)


def draw_from_after(study: Study, at_once: int) -> Draw:
    study.at_once = at_once
    return draw_from(study)


def test_an_interrupted_run_leaves_nothing_running(tmp_path: Path) -> None:
    study = begin(tmp_path)
    draw_from(study), draw_from(study)
    study.leave(tmp_path)
    assert states(tmp_path) == ["WAITING"] * states(tmp_path).count("WAITING")
    assert "RUNNING" not in states(tmp_path)


def test_ctrl_c_between_a_record_and_the_study_does_not_train_twice(tmp_path: Path) -> None:
    study = begin(tmp_path)
    recorded = draw_from(study)
    study.leave(tmp_path)
    outcomes = {recorded.trial.trial_id: ended(recorded)}
    study = begin(tmp_path, outcomes)
    trial = stored(tmp_path).get_trials()[recorded.number]
    assert (trial.state.name, trial.user_attrs["status"]) == ("COMPLETE", "completed")
    assert recorded.trial.trial_id not in {draw.trial.trial_id for draw in run_to_the_end(study)}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "qmc", "random"])
def test_a_search_that_goes_on_draws_what_an_undisturbed_one_draws(tmp_path: Path, sampler: str) -> None:
    """Every draw has a stream of its own; so the random start is not drawn again, either."""
    limits = {"parameters": 60_000}
    ends = (4, 11) if sampler == "gp" else (4, 11, 12)  # the first ten are random; a draw of gp takes seconds
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    study = begin(whole, sampler=sampler, trials=ends[-1], limits=limits)
    at_once = run_to_the_end(study)
    outcomes: dict[str, Outcome] = {}
    found: list[Draw] = []
    for trials in ends:
        study = begin(parts, outcomes, sampler=sampler, trials=trials, limits=limits)
        found += run_to_the_end(study)
        outcomes |= {draw.trial.trial_id: ended(draw) for draw in found}
    assert [draw.trial.changes for draw in found] == [draw.trial.changes for draw in at_once]
    assert len({str(draw.trial.changes) for draw in found}) == len(found)


def test_more_trials_extend_a_search_and_another_search_is_refused(tmp_path: Path) -> None:
    run_to_the_end(begin(tmp_path, trials=3))
    assert len(run_to_the_end(begin(tmp_path, trials=5))) == 2
    for other in ({"space": SMALL}, {"limits": {"parameters": 9}}, {"seed": 7}):
        with pytest.raises(InputError, match="its study belongs to another search"):
            begin(tmp_path, **other)


def test_known_configurations_come_first_and_once(tmp_path: Path) -> None:
    start: list[dict[str, Any]] = [{}, {"model.filters": [7], "stages.lr": 0.002}]
    study = begin(tmp_path, start_from=start, trials=3)
    first, second = draw_from(study), draw_from(study)
    assert (first.cost.parameters, first.trial.spec.model.filters) == (14_862, [10, 20])
    assert (second.trial.spec.model.filters, second.trial.spec.model.kernel) == ([7], 3)
    study = begin(tmp_path, {}, start_from=start, trials=3)
    draws = run_to_the_end(study)
    assert [draw.trial.spec.model.filters for draw in draws[:2]] == [[10, 20], [7]]
    assert len(draws) == 3


def test_a_search_that_finds_nothing_to_train_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightsweep.search.study.MOST_IN_VAIN", 20)
    with pytest.raises(InputError, match="20 draws in a row could not be trained"):
        run_to_the_end(begin(tmp_path, space=SMALL, limits={"parameters": 10}))


def test_latency_is_an_objective(tmp_path: Path) -> None:
    objectives = {"val_accuracy": "maximise", "latency_ms": "minimise"}
    (draw,) = run_to_the_end(begin(tmp_path, trials=1, objectives=objectives))
    assert stored(tmp_path).get_trials()[0].values[1] == draw.costs["latency_ms"] > 0


def test_the_front_and_what_is_near_it_are_confirmed(tmp_path: Path) -> None:
    """Accuracies by parameters, ascending: 0.5, 0.8, 0.795, 0.7, 0.9; all but the fourth are near it."""
    study = begin(
        tmp_path, space={"model.hidden": [4, 5, 6, 7, 8]}, trials=30, confirmation={"margin": 0.0051}
    )
    draws = sorted(run_to_the_end(study), key=lambda draw: draw.cost.parameters)
    accuracies = dict(zip((d.trial.trial_id for d in draws), (0.5, 0.8, 0.795, 0.7, 0.9), strict=True))

    def hidden(found: list[Draw]) -> list[int]:
        return sorted(draw.trial.spec.model.hidden or 0 for draw in found)

    assert hidden(study.to_confirm(accuracies)) == [4, 5, 6, 8]
    study.search = planned(confirmation={"margin": 0.0}).sweep.search  # type: ignore[assignment]
    assert hidden(study.to_confirm(accuracies)) == [4, 5, 8]
    study.search = planned(confirmation={"at_most": 2}).sweep.search  # type: ignore[assignment]
    assert hidden(study.to_confirm(accuracies)) == [4, 8]  # both ends of the front
    study.search = planned(confirmation=None).sweep.search  # type: ignore[assignment]
    assert study.to_confirm(accuracies) == []


def test_a_survey_says_what_a_space_holds() -> None:
    found = survey(planned(limits={"parameters": 9000}, start_from=[{"model.filters": [3]}]))
    assert found.feasible == len(found.parameters) > 0
    assert max(found.parameters) <= 9000
    assert found.feasible + sum(found.reasons.values()) == found.draws
    assert "above the limit of parameters" in found.reasons
    ((changes, its_cost),) = found.start
    assert (changes, its_cost.parameters) == ({"model.filters": [3]}, 2 * (30 + 5_080) + 1_002)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"space": {"modle.hidden": [3]}},
            "search.space.modle.hidden: no such key below base (or dataset); did you mean model?",
        ),
        ({"space": {"model.hiden": [3]}}, "search.space.model.hiden"),
        ({"space": {"dataset.train_limit": [30]}}, "search.space.dataset.train_limit: a search is on one"),
        (
            {"limits": {"parameters": 1}},
            "none of 200 random draws can be trained; most often: above the limit",
        ),
        ({"start_from": [{"model.kernel": 4}]}, "search.start_from.0: model.kernel = 4: the space has 3, 5"),
        (
            {"start_from": [{"model.filters": [2, 2, 2], "model.kernel": 5}]},
            "search.start_from.0: model.filters = [2, 2, 2]: 3 blocks are too many",
        ),
    ],
)
def test_a_wrong_space_is_refused_before_anything_is_trained(search: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        survey(planned(**search))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_part_of_the_search_takes_none_of_its_minutes(tmp_path: Path) -> None:
    now = [0.0]
    study = begin(tmp_path, clock=lambda: now[0], trials=None, budget={"minutes": 2})
    draw = draw_from(study)
    now[0] = 30.0
    with study.time_out():  # as while a cluster is waited for
        now[0] = 1_000.0
    now[0] += 30.0
    study.tell(draw.trial.trial_id, ended(draw))
    assert study.share_done() == pytest.approx(0.5)


def test_a_failed_trials_epochs_count(tmp_path: Path) -> None:
    study = begin(tmp_path, trials=None, budget={"epochs": 20})
    draw = draw_from(study)
    rows = [{"val_accuracy": 0.1}] * 3
    lost = Outcome("failed", "NaN", "", 1.0, "host", "cpu", epochs=rows, failure="diverged")
    study.tell(draw.trial.trial_id, lost)
    assert study.share_done() == pytest.approx(3 / 20)
    again = begin(tmp_path, {draw.trial.trial_id: lost}, trials=None, budget={"epochs": 20})
    assert again.share_done() == pytest.approx(3 / 20)


def test_a_nets_latency_is_measured_once_in_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the database was told holds for limits and rungs of all later runs."""
    settings: dict[str, Any] = {
        "space": {"model.hidden": {"low": 4, "high": 40}},
        "objectives": {"val_accuracy": "maximise", "latency_ms": "minimise"},
        "limits": {"latency_ms": 5.5},
        "trials": 9,
    }
    measured = iter([3.0, 9.0, 4.0, 5.0, 6.0])
    monkeypatch.setattr("lightsweep.search.draws.latency_ms", lambda *_: next(measured))
    study = begin(tmp_path, **settings)
    first, second = draw_from(study), draw_from(study)  # between them one is above the limit
    study.tell(first.trial.trial_id, ended(first))
    monkeypatch.setattr("lightsweep.search.draws.latency_ms", lambda *_: pytest.fail("measured anew"))
    again = begin(tmp_path, {first.trial.trial_id: ended(first)}, **settings)
    assert again.draws[first.trial.trial_id].costs == {"latency_ms": 3.0}
    asked = again.ask()  # what was under way
    assert isinstance(asked, Draw)
    assert (asked.trial.trial_id, asked.costs) == (second.trial.trial_id, {"latency_ms": 4.0})
