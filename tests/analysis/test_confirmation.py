import math

import pandas as pd
import pytest
from imitation_search import NETS

from analysis import load_run
from analysis.search.confirmation import confirmed_nets, judged_trials, regression_to_the_mean, searched_nets


@pytest.fixture
def trials(search_folder):
    return load_run(search_folder).trials


def test_confirmation_by_hand(trials):
    """The search's own trial is not among the seeds that confirm its net."""
    nets = {net.arm: net for net in confirmed_nets(trials)}
    assert list(nets) == ["net 3", "net 1", "net 7", "net 0"]  # by parameters
    assert {arm: net.on_front for arm, net in nets.items()} == {
        "net 3": True,
        "net 1": True,
        "net 7": True,
        "net 0": False,  # the search's most accurate net is beaten by a smaller one
    }
    net = nets["net 1"]
    assert (net.searched, net.accuracies, net.parameters) == (0.90, (0.86, 0.88), 2_000)
    assert net.mean == pytest.approx(0.87)
    assert net.deviation == pytest.approx(0.01 * math.sqrt(2))
    assert net.difference == pytest.approx(-0.03)
    assert net.test_mean == pytest.approx(0.86)
    reach = 12.7062 * 0.01  # Student's t with one degree of freedom; the standard error is 0.01
    assert (net.bounds.low, net.bounds.high) == pytest.approx((0.87 - reach, 0.87 + reach), abs=1e-5)


def test_the_regression_by_hand(trials):
    """Of -0.02, -0.03, -0.03, +0.01; without an interval, since the nets share their seeds."""
    found = regression_to_the_mean(confirmed_nets(trials))
    assert (found.n, found.mean) == (4, pytest.approx(-0.0175))
    assert regression_to_the_mean([]) is None


def test_a_net_is_confirmed_by_completed_trials_only(trials):
    is_one = (trials["arm"] == "net 1") & (trials["seed"] == 1)
    trials.loc[is_one, "status"] = "early_stopped"
    trials.loc[is_one, "val_accuracy"] = 0.999
    trials.loc[(trials["arm"] == "net 3") & (trials["phase"] == "confirmation"), "status"] = "failed"
    nets = {net.arm: net for net in confirmed_nets(trials)}
    assert (nets["net 1"].accuracies, nets["net 1"].deviation, nets["net 1"].bounds) == ((0.86,), None, None)
    assert "net 3" not in nets


def test_folds_are_averaged_within_their_seed(trials):
    folds = [
        trials.assign(
            fold=pd.array([fold] * len(trials), dtype="Int64"),
            val_accuracy=trials["val_accuracy"] + change,
            trial_id=trials["trial_id"] + f"-{fold}",
            folds=2,
        )
        for fold, change in enumerate((-0.01, 0.01))
    ]
    nets = {net.arm: net for net in confirmed_nets(pd.concat(folds, ignore_index=True))}
    assert nets["net 1"].accuracies == pytest.approx((0.86, 0.88))
    assert nets["net 1"].searched == pytest.approx(0.90)


def test_the_search_is_seen_without_its_confirmation(trials):
    nets = searched_nets(trials).set_index("arm")
    completed = {f"net {net}": accuracy for net, (status, _, accuracy, *_) in NETS.items() if accuracy}
    assert nets["val_mean"].to_dict() == completed
    front = nets[nets["on_front"]].sort_values("front_rank")
    assert front.index.tolist() == ["net 3", "net 1", "net 6", "net 7", "net 0"]


def test_a_front_is_made_of_confirmation_alone_where_there_is_any(trials):
    assert judged_trials(trials)["phase"].unique().tolist() == ["confirmation"]
    assert len(judged_trials(trials)) == 8


def test_a_front_without_results_of_the_confirmation_is_the_searches(trials):
    """A confirmation that was killed before its first result must not empty the page."""
    trials.loc[trials["phase"] == "confirmation", "status"] = "failed"
    assert judged_trials(trials)["trial_id"].tolist() == [f"{net}-1000" for net in NETS]


def test_runs_that_are_no_search_are_judged_whole(trials, run_folder):
    grid = load_run(run_folder).trials
    both = judged_trials(pd.concat([trials, grid], ignore_index=True))
    assert both["run"].value_counts().to_dict() == {"imitation": 24, "hunt": 8}
    unconfirmed = trials.assign(run="other")[trials["phase"] == "search"]
    both = judged_trials(pd.concat([trials, unconfirmed], ignore_index=True))
    assert both.groupby("run")["phase"].unique().map(list).to_dict() == {
        "hunt": ["confirmation"],
        "other": ["search"],
    }
    assert judged_trials(grid.iloc[:0]).empty
