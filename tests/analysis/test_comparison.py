import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imitation_run import ARMS, NASTY
from page_reading import Page, table_under, text_of

from analysis import load_run, notation
from analysis.arms import summarise_arms
from analysis.compared import words as comparison_page
from analysis.compared.result import (
    ANOTHER_NET,
    NOT_PAIRED,
    OTHER_SETTINGS,
    SAME_TRIALS,
    UNREADABLE,
    differing_facts,
    front_shares,
    shared_arms,
)
from analysis.compared.words import lay_out_comparison
from analysis.front.result import covered_share
from analysis.page.payload import Payload
from analysis.page.report import templates
from analysis.tables import Run


@pytest.fixture
def run(run_folder):
    return load_run(run_folder, "one")


@pytest.fixture
def other(run):
    return copied(run, "two")


def copied(run: Run, name: str, **changes) -> Run:
    """Return a run under another name, as if its folder had been copied, with other columns of trials."""
    return replace(run, name=name, trials=run.trials.assign(run=name, **changes))


def with_text(run: Run, text: str, **environment) -> Run:
    return replace(run, sweep_text=text, environment=environment)


def facts_of(runs) -> dict[str, tuple[str, ...]]:
    return {fact.key: fact.values for fact in differing_facts(runs)}


def arm_named(arms, name):
    return next(arm for arm in arms if arm.arm == name)


def rendered(runs) -> str:
    template = templates().get_template("comparison.html.jinja")
    return template.render(comparison=lay_out_comparison(runs), notation=notation, payload=Payload())


def test_only_what_differs_is_a_fact(run):
    one = with_text(
        run,
        "name: a\nseeds: 3\nfolds: null\nbase: {lr: 0.10, batch_norm: true, model: {filters: [10, 20]}}\n"
        "stages:\n- {name: dual, epochs: 4}\n- {name: fusion, epochs: 2}\ncompression:\n",
    )
    two = with_text(
        run,
        "name: b\nseeds: 5\nbase: {lr: 1.0e-1, batch_norm: false, model: {filters: [10, 40], kernel: 3}}\n"
        "stages:\n- {name: dual, epochs: 4}\n- {name: fusion, epochs: 3}\ncompression: {bits: 8}\n",
    )
    assert facts_of([one, two]) == {
        "seeds": ("3", "5"),
        "base.batch_norm": ("true", "false"),
        "base.model.filters": ("[10, 20]", "[10, 40]"),
        "base.model.kernel": ("–", "3"),
        "stages.fusion.epochs": ("2", "3"),
        "compression.bits": ("–", "8"),
    }


def test_of_the_environment_what_may_change_results_counts(run):
    tree = {
        "started_at": "a", "command": "b", "commit": "ada5fb2", "versions": {"torch": "2.13.0", "ray": "2"},
        "hardware": {"host": "laptop", "cpu": "a CPU", "cores": 2, "memory_bytes": 1, "gpus": []},
    }  # fmt: skip
    hardware = {"host": "server", "cpu": "a CPU", "cores": 16, "memory_bytes": 2, "gpus": ["H100"]}
    changed = {
        "started_at": "c", "command": "d", "commit": "bed4711", "versions": {"torch": "2.14.0", "ray": "2"},
        "hardware": hardware,
    }  # fmt: skip
    one, two = replace(run, environment=tree), replace(run, environment=changed)
    assert facts_of([one, two]) == {
        "commit": ("ada5fb2", "bed4711"),
        "versions.torch": ("2.13.0", "2.14.0"),
        "hardware.cores": ("2", "16"),
        "hardware.gpus": ("none", "H100"),
    }
    assert facts_of([one, one]) == {}
    odd = replace(run, environment={"commit": "", "versions": "none", "hardware": [1]})
    assert facts_of([odd, odd]) == {}
    assert facts_of([one, odd])["hardware.cpu"] == ("a CPU", "–")


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: 1\na: 2",
        "- a",
        "just text",
        "&a [*a]",
        "a: &b {c: *b}",
        "a: &b [*b]",
        "\x00",
        "a: 2026-99-99",
    ],
)
def test_a_sweep_that_cannot_be_read_is_said_and_the_others_are_compared(run, text):
    runs = [with_text(run, "seeds: 3"), with_text(run, text), with_text(run, "seeds: 4")]
    facts = facts_of(runs)
    assert facts["sweep.yaml"] == ("–", UNREADABLE, "–")
    assert facts["seeds"] == ("3", UNREADABLE, "4")
    assert facts_of(runs[:2]) == {"sweep.yaml": ("–", UNREADABLE)}
    sentences = lay_out_comparison(runs[:2]).sentences
    assert sentences[0] == "A sweep.yaml could not be read: the settings of its run are not compared."
    assert sentences[1].startswith("No known setting, commit, version or processor differs")


@given(st.text(alphabet="ab: -[]{}&*!|>'\"\n\t#%,?0.~<1=é", max_size=40))
def test_no_text_of_a_sweep_is_an_error(text):
    fresh = Run("a", Path(), pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), text, {}, None)
    for fact in differing_facts([fresh, replace(fresh, sweep_text="a: 1")]):
        assert len(fact.values) == 2


TREES = st.recursive(
    st.none() | st.integers(-9, 9) | st.booleans() | st.sampled_from(["a", "b"]),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["k", "m", "name"]), below, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip


@given(TREES, TREES)
def test_facts_are_symmetric_and_nothing_differs_from_itself(tree, other):
    one = Run("a", Path(), pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), json.dumps({"x": tree}), {}, None)
    two = replace(one, sweep_text=json.dumps({"x": other}))
    assert differing_facts([one, one]) == []
    forth, back = facts_of([one, two]), facts_of([two, one])
    assert forth == {key: values[::-1] for key, values in back.items()}
    assert all(len(set(values)) == 2 for values in forth.values())


def test_a_copy_is_the_same_trials(run, other):
    arms = shared_arms([run, other])
    assert [arm.arm for arm in arms] == list(ARMS)
    for arm in arms:
        first, second = arm.results
        assert (first.run, second.run) == ("one", "two")
        assert (first.difference, first.remark) == (None, "")
        assert second.remark == SAME_TRIALS
        assert second.difference.mean == 0
    assert arm_named(arms, "dead").results[1].difference.n == 2  # seed 2 failed
    sentences = " ".join(lay_out_comparison([run, other]).sentences)
    assert "No known setting, commit, version or processor differs" in sentences
    assert "8 arms have completed trials in two or more runs" in sentences
    assert "All of them are the same trials" in sentences
    assert "interval" not in sentences
    assert "the fronts of one and two cover the same" in sentences


def test_differences_are_paired_by_seed(run):
    """The test accuracy of "paper" is 0.970, 0.972 and 0.974 in one; the third seed of two is another one."""
    trials = run.trials.assign(run="two", seed=run.trials["seed"].replace(2, 7))
    paper = trials["arm"] == "paper"
    trials.loc[paper, "test_accuracy"] = [0.980, 0.972, 0.986]
    two = replace(run, name="two", trials=trials)
    result = arm_named(shared_arms([run, two]), "paper").results[1]
    assert result.remark == ""
    assert result.n_seeds == 3
    assert result.test_mean == pytest.approx((0.980 + 0.972 + 0.986) / 3)
    assert result.difference.n == 2
    assert result.difference.mean == pytest.approx(0.005)
    reach = 12.7062 * 0.005  # Student's t for one degree of freedom; the deviation of 0.01 and 0 over √2
    assert result.difference.bounds.low == pytest.approx(0.005 - reach, abs=1e-6)
    assert result.difference.bounds.high == pytest.approx(0.005 + reach, abs=1e-6)


def test_without_a_common_seed_nothing_is_paired(run):
    arms = shared_arms([run, copied(run, "two", seed=run.trials["seed"] + 10)])
    assert {(arm.results[1].difference, arm.results[1].remark) for arm in arms} == {(None, NOT_PAIRED)}
    assert arms[0].results[1].n_seeds == 3
    text = " ".join(lay_out_comparison([run, copied(run, "two", seed=run.trials["seed"] + 10)]).sentences)
    assert "interval" not in text


def test_one_common_seed_has_a_difference_but_no_interval(run):
    trials = run.trials[run.trials["seed"] == 1]
    two = replace(
        run, name="two", trials=trials.assign(run="two", test_accuracy=trials["test_accuracy"] + 0.004)
    )
    result = arm_named(shared_arms([run, two]), "tiny").results[1]
    assert (result.difference.n, result.difference.bounds) == (1, None)
    assert result.difference.mean == pytest.approx(0.004)
    assert (result.val_std, result.test_std) == (None, None)
    assert (
        "No difference has an interval: that needs two seeds in common."
        in lay_out_comparison([run, two]).sentences
    )


def test_folds_are_averaged_within_their_seed_and_unequal_folds_are_not_paired(run):
    """Seed 0 has folds 0 and 1 in both runs, seed 1 lacks fold 1 in the second: one pair, of means."""
    base = run.trials[run.trials["arm"] == "tiny"].iloc[[0, 0, 1, 1]]
    base = base.assign(fold=pd.array([0, 1, 0, 1], "Int64"), folds=2, trial_id=list("abcd"))
    one = replace(run, trials=base.assign(test_accuracy=[0.80, 0.90, 0.5, 0.5]))
    two = base.assign(run="two", test_accuracy=[0.84, 0.92, 0.9, 0.9]).iloc[:3]
    result = shared_arms([one, replace(run, name="two", trials=two)])[0].results[1]
    assert result.n_seeds == 1
    assert result.difference.n == 1
    assert result.difference.mean == pytest.approx(0.88 - 0.85)


def test_other_parameters_are_another_net_and_other_settings_are_named(run):
    trials = run.trials.assign(run="two")
    trials.loc[trials["arm"] == "tiny", ["parameters", "macs"]] = [2_400, 1]
    trials.loc[trials["arm"] == "small", "spec_hash"] = "1" * 12
    two = replace(run, name="two", trials=trials)
    arms = shared_arms([run, two])
    tiny, small = arm_named(arms, "tiny").results[1], arm_named(arms, "small").results[1]
    assert (tiny.difference, tiny.remark) == (None, ANOTHER_NET)
    assert (small.difference.mean, small.remark) == (0, OTHER_SETTINGS)
    part = lay_out_comparison([run, two])
    assert "tiny" not in [row.arm for row in part.arms[0]]
    text = " ".join(part.sentences)
    assert "1 of them is a different net in each run, and not compared: tiny." in text
    assert "6 of them are the same trials" in text


def test_in_three_runs_the_first_that_has_the_arm_is_the_reference(run):
    absent = copied(run, "zero")
    absent = replace(absent, trials=absent.trials[absent.trials["arm"] != "tiny"])
    better = copied(run, "two", test_accuracy=run.trials["test_accuracy"] + 0.01)
    another = copied(run, "three", parameters=run.trials["parameters"] + 1)
    results = arm_named(shared_arms([absent, run, better, another]), "tiny").results
    assert [result.run for result in results] == ["one", "two", "three"]
    assert results[1].difference.mean == pytest.approx(0.01)
    assert results[2].remark == ANOTHER_NET
    part = lay_out_comparison([absent, run, better, another])
    assert [row.is_first for row in part.arms[0]][:4] == [True, False, False, False]  # "small" is in all four


def test_same_results_of_unknown_settings_are_not_called_the_same_trials(run):
    arms = shared_arms([copied(run, "a", spec_hash=None), copied(run, "b", spec_hash=None)])
    assert {arm.results[1].remark for arm in arms} == {""}


def test_a_missing_test_accuracy_pairs_nothing(run, other):
    one = copied(run, "a", test_accuracy=float("nan"))
    result = shared_arms([one, other])[0]
    assert result.results[0].test_mean is None
    assert (result.results[1].difference, result.results[1].remark) == (None, NOT_PAIRED)


def test_nets_that_searches_number_are_the_same_only_by_their_settings(search_folder):
    one = load_run(search_folder, "one")
    two = copied(one, "two", spec_hash="1" * 12)
    assert {arm.results[1].remark for arm in shared_arms([one, two])} == {ANOTHER_NET}
    same = shared_arms([one, copied(one, "two")])
    assert [arm.arm for arm in same] == ["net 0", "net 1", "net 3", "net 7"]  # the confirmed ones
    assert {arm.results[1].remark for arm in same} == {SAME_TRIALS}
    assert {arm.results[0].n_seeds for arm in same} == {2}
    part = lay_out_comparison([one, two])
    assert part.arms == ([], [])
    assert (
        "All of them are a different net in each run, and not compared: net 0, net 1, net 3 and net 7."
        in part.sentences
    )


def test_nothing_shared_is_said(run):
    two = copied(run, "two", arm="new " + run.trials["arm"])
    part = lay_out_comparison([run, two])
    assert "No arm has completed trials in two or more of the runs." in part.sentences
    assert shared_arms([run, copied(run, "two", dataset="mnist")]) == []
    assert front_shares([run, copied(run, "two", dataset="mnist")]) == []
    failed = copied(run, "two", status="failed")
    assert shared_arms([run, failed]) == []
    assert front_shares([run, failed]) == []
    empty = replace(run, name="none", trials=run.trials.iloc[:0])
    assert shared_arms([run, empty]) == []
    assert lay_out_comparison([empty, empty]) is not None


def test_fronts_are_compared_by_what_they_cover(run):
    """A front with better nets covers more; the arms that the share is of are counted."""
    worse = copied(run, "two", val_accuracy=run.trials["val_accuracy"] - 0.1)
    shares = front_shares([run, worse])
    assert [(each.dataset, each.run, each.n_arms) for each in shares] == [
        ("digits", "one", 8),
        ("digits", "two", 8),
    ]
    assert shares[0].share == pytest.approx(covered_share(summarise_arms(run.trials)))
    assert shares[0].share > shares[1].share
    text = " ".join(lay_out_comparison([worse, run]).sentences)
    first, second = (f"{each.share:.4f} (8 arms)" for each in shares)
    assert f"On digits, the front of one covers more: one {first} and two {second}." in text
    three = " ".join(lay_out_comparison([worse, run, copied(run, "three")]).sentences)
    assert "the fronts of one and three cover the most" in three


def test_intervals_that_leave_zero_out_are_counted_with_what_chance_does(run):
    better = copied(run, "two")
    gains = (
        better.trials["seed"].map({0: 0.010, 1: 0.011, 2: 0.012}).where(better.trials["arm"] == "tiny", 0.0)
    )
    noise = (
        better.trials["seed"].map({0: 0.010, 1: -0.011, 2: 0.0}).where(better.trials["arm"] == "small", 0.0)
    )
    trials = better.trials.assign(test_accuracy=better.trials["test_accuracy"] + gains + noise)
    text = " ".join(lay_out_comparison([run, replace(better, trials=trials)]).sentences)
    assert "Of 2 differences in test accuracy with an interval, 1 excludes zero." in text
    assert "one in twenty excludes zero by chance" in text
    assert "6 of them are the same trials" in text


def test_one_run_is_not_compared(run):
    assert lay_out_comparison([run]) is None
    assert lay_out_comparison([]) is None
    assert rendered([run]).strip() == ""


def test_the_page_has_both_tables(run):
    trials = run.trials.assign(run="two", test_accuracy=run.trials["test_accuracy"] + 0.004)
    two = replace(run, name="two", trials=trials, sweep_text="seeds: 5\n")
    page = rendered([run, two])
    header, *facts = table_under(page, "Differences between the runs")
    assert header == ["Key", "one", "two"]
    assert facts == [["dataset.name", "digits", "–"], ["seeds", "3", "5"]]
    header, *rows = table_under(page, "Shared arms")
    assert len(rows) == 16
    assert rows[:2] == [
        ["tiny", "one", "2,350", "90.20 ± 0.20%", "89.20 ± 0.20%", "3", "–", "–", "–", ""],
        ["", "two", "2,350", "90.20 ± 0.20%", "89.60 ± 0.20%", "3", "+0.40", "–", "3", ""],
    ]
    assert "2 entries differ between the runs (settings of sweep.yaml, commits, versions and" in text_of(page)
    headings = [attributes for tag, attributes in Page(page).elements if tag == "th"]
    assert headings
    assert all(attributes.get("scope") == "col" for attributes in headings)
    assert "<details>" not in page


def test_long_tables_are_folded_and_no_arm_is_torn_apart(run, monkeypatch):
    monkeypatch.setattr(comparison_page, "SHOWN", 5)
    settings = "".join(f"s{place}: {{}}\n" for place in range(9))
    runs = [
        replace(copied(run, name), sweep_text=settings.replace("{}", str(number)))
        for number, name in enumerate(["one", "two"])
    ]
    part = lay_out_comparison(runs)
    assert [len(rows) for rows in part.facts] == [5, 4]
    assert [len(rows) for rows in part.arms] == [6, 10]
    assert part.arms[1][0].is_first
    page = rendered(runs)
    assert page.count("<details>") == 2
    assert "<summary>4 more rows</summary>" in page
    assert "<summary>10 more rows</summary>" in page
    assert "Not shown" not in part.note
    monkeypatch.setattr(comparison_page, "MOST", 9)
    part = lay_out_comparison(runs)
    assert [len(rows) for rows in part.arms] == [6, 4]
    assert part.note.endswith("Not shown, to keep the table short: 6 more rows.")


def test_nothing_of_a_run_becomes_markup(run):
    name = f"{NASTY} run"
    two = replace(copied(run, name), sweep_text=json.dumps({NASTY: NASTY}), environment={"commit": NASTY})
    page = rendered([run, two])
    assert NASTY not in page
    assert Page(page).text.count(NASTY) >= 5


def test_folders_are_compared_as_they_are_read(run_folder, tmp_path):
    """From files to sentences: a copied folder whose environment and sweep were changed."""
    again = Path(shutil.copytree(run_folder, tmp_path / "again"))
    (again / "sweep.yaml").write_text("name: imitation\ndataset: {name: digits}\nseeds: 4\n")
    part = lay_out_comparison([load_run(run_folder), load_run(again)])
    assert [(fact.key, fact.values) for fact in part.facts[0]] == [("seeds", ("3", "4"))]
    assert "1 entry differs between the runs" in part.sentences[0]
    assert part.runs == ["imitation", "again"]
