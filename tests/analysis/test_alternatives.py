import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imitation_alternatives import ARMS, SEEDS, jitter, write_alternatives
from imitation_run import NASTY
from page_reading import text_of

from analysis import load_run, render_report
from analysis.alternatives.result import compare_alternatives, dominances
from analysis.alternatives.words import lay_out_alternatives
from analysis.arms import NET
from analysis.front.result import pareto_front
from analysis.statistics.paired import interval

MOBILENET = f"mobilenet {NASTY}"


@pytest.fixture
def trials(tmp_path):
    return load_run(write_alternatives(tmp_path / "alternatives")).trials


def test_who_dominates_whom_by_hand(trials):
    (found,) = compare_alternatives(trials)
    assert (found.dataset, found.own) == ("digits", 8)
    assert [reference.net.label for reference in found.references] == [
        "logistic regression", MOBILENET, "lenet-5"
    ]  # fmt: skip
    floor, mobilenet, lenet = found.references
    # at most 5,000 parameters and at least 92.0%: small, middle, pruned; the best of them is pruned (97.5%)
    assert (floor.dominated.better.label, floor.dominated.dominating) == ("middle, pruned", 3)
    assert (mobilenet.dominated, mobilenet.dominates) == (None, 2)
    assert (lenet.dominated.better.label, lenet.dominated.dominating, lenet.dominates) == ("big", 1, 0)
    assert [(pair.worse.label, pair.better.label) for pair in found.beaten] == [
        ("paper", MOBILENET),
        ("big, int8", MOBILENET),
    ]


def test_differences_of_test_accuracy_are_paired_by_seed(trials):
    (found,) = compare_alternatives(trials)
    pair = found.beaten[0]
    differences = [0.985 + jitter(MOBILENET, s) - 0.960 - jitter("paper", s) for s in range(SEEDS)]
    assert pair.seeds == tuple(range(SEEDS))
    assert pair.difference == pytest.approx(np.mean(differences))
    bounds = interval(differences)
    assert (pair.bounds.low, pair.bounds.high) == pytest.approx((bounds.low, bounds.high))
    apart = trials[(trials["arm"] != "paper") | (trials["seed"] > 5)]
    pair = compare_alternatives(apart)[0].beaten[0]
    assert pair.seeds == (6, 7)
    assert pair.difference == pytest.approx(np.mean(differences[6:]))


def test_seeds_in_common_are_needed_for_a_difference_and_two_for_its_interval(trials):
    is_paper = trials["arm"] == "paper"
    for kept, n in ((trials["seed"] == 3, 1), (trials["seed"] < 0, 0)):
        some = pd.concat([trials[~is_paper | kept], trials[is_paper & (trials["seed"] == 0)].assign(seed=99)])
        (found,) = compare_alternatives(some)
        pair = found.beaten[0]
        assert pair.worse.label == "paper"
        assert (len(pair.seeds), pair.difference is None, pair.bounds) == (n, n == 0, None)
        note = lay_out_alternatives(found, "").note
        assert "Pairs with fewer than two seeds in common have no interval." in note


POINTS = st.lists(
    st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from([0.5, 0.6, 0.7])), min_size=1, max_size=9
)


@given(POINTS)
def test_dominance_agrees_with_the_definition_and_with_the_front(points):
    found = dominances(np.array(points))
    for i, (cost, accuracy) in enumerate(points):
        for j, (other_cost, other_accuracy) in enumerate(points):
            expected = (
                cost <= other_cost
                and accuracy >= other_accuracy
                and (cost, accuracy) != (other_cost, other_accuracy)
            )
            assert found[i, j] == expected
    front = pareto_front(np.array(points), ["minimise", "maximise"])
    assert front.tolist() == (~found.any(axis=0)).tolist()


def test_equal_accuracies_do_not_hang_on_rounding(trials):
    """Means of float32 accuracies may differ in the eighth digit."""
    trials.loc[trials["arm"] == "lenet-5", "val_accuracy"] = 0.985 + 3e-8
    trials.loc[trials["arm"] == "big", "val_accuracy"] = 0.985
    (found,) = compare_alternatives(trials)
    assert found.references[2].dominated.better.label == "big"


def test_only_completed_trials_count(trials):
    """A net that was stopped at 99.9% dominates nobody."""
    row = trials[trials["arm"] == "small"].iloc[[0]]
    planted = row.assign(
        arm="stopped", trial_id="x", status="early_stopped", parameters=10, val_accuracy=0.999
    )
    assert compare_alternatives(pd.concat([trials, planted])) == compare_alternatives(trials)


def test_without_both_kinds_there_is_nothing_to_compare(trials):
    assert compare_alternatives(trials.drop(columns=NET)) == ()
    assert compare_alternatives(trials[trials[NET] == "paper-cnn"]) == ()
    assert compare_alternatives(trials[trials[NET] != "paper-cnn"]) == ()
    assert compare_alternatives(trials.assign(**{NET: None})) == ()
    nets = trials.assign(**{NET: trials[NET].replace("paper-cnn", None)})
    assert compare_alternatives(nets) == compare_alternatives(trials)


def test_runs_are_pooled_as_in_the_front_and_paired_by_seed(tmp_path):
    """References of one run, own nets of another; with folds in one of them."""
    folder = write_alternatives(tmp_path / "own")
    other = shutil.copytree(folder, tmp_path / "theirs")
    rows = pd.read_parquet(folder / "trials.parquet")
    is_own = rows["config.model.net"] == "paper-cnn"
    rows[is_own].to_parquet(folder / "trials.parquet")
    theirs = rows[~is_own]
    folds = [theirs.assign(fold=fold, trial_id=theirs["trial_id"] + f"-{fold}") for fold in (0, 1)]
    pd.concat(folds).astype({"fold": "Int64"}).to_parquet(other / "trials.parquet")
    runs = [load_run(folder), load_run(other)]
    (found,) = compare_alternatives(pd.concat([run.trials for run in runs]))
    assert found.references[0].net.label == "theirs · logistic regression"
    assert found.references[0].dominated.better.label == "own · middle, pruned"
    assert len(found.references[0].dominated.seeds) == SEEDS


def test_the_page_says_who_dominates_whom(tmp_path):
    page = render_report([load_run(write_alternatives(tmp_path / "alternatives"))])
    text = text_of(page)
    assert (
        "2 of 3 reference nets on digits are dominated by an own net; 1 reference net dominates 2 of the "
        "8 own nets."
    ) in text
    assert "2 own nets that a reference net dominates" in text
    assert "paired by the n seeds that both have, with its 95% interval over seeds (Student's t)" in text
    assert NASTY not in page


def test_without_a_beaten_net_it_says_so(trials):
    trials = trials[trials["arm"] != MOBILENET]
    part = lay_out_alternatives(compare_alternatives(trials)[0], "")
    assert part.finding == (
        "2 of 2 reference nets on digits are dominated by an own net; no reference net dominates any of the "
        "8 own nets."
    )


def test_of_many_reference_nets_the_largest_are_folded(tmp_path):
    folder = write_alternatives(tmp_path / "alternatives", seeds=1)
    rows = pd.read_parquet(folder / "trials.parquet")
    lenet = rows[rows["arm"] == "lenet-5"]
    many = [lenet.assign(arm=f"lenet {i}", trial_id=f"l{i}", parameters=70_000 + i) for i in range(27)]
    pd.concat([rows, *many]).astype({"parameters": "Int64"}).to_parquet(folder / "trials.parquet")
    page = render_report([load_run(folder)])
    section = page.split("<h2>Against the alternatives</h2>")[1].split("<section>")[0]
    shown, folded = section.split("<details>")[:2]
    assert (shown.count("<tr><td"), folded.count("<tr><td")) == (25, 5)
    assert "5 more, with more parameters" in folded


def test_every_arm_of_the_imitation_is_of_one_kind():
    assert sum("net" in settings for *_, settings in ARMS.values()) == 3
