"""What a page says first."""

import dataclasses

import pandas as pd
import pytest
from imitation_ablation import design_tree, imitate
from imitation_run import plant_partial_trials

from analysis import gather_evidence, load_run
from analysis.course.signs import find_signs
from analysis.page.summary import describe_varied, list_findings, list_warnings, summarise_run
from analysis.search.confirmation import judged_trials


@pytest.fixture
def run(run_folder):
    return load_run(run_folder)


def warnings_of(run):
    signs = find_signs(run.trials, run.epochs)
    return [remark.text for remark in list_warnings([run], judged_trials(run.trials), signs)]


def test_a_run_in_words(run):
    found = summarise_run(run)
    assert (found.plan, found.varied) == ("8 arms × 3 seeds", "augmentation (2 values)")
    assert (found.n_trials, found.n_left, found.hosts) == (24, 0, "laptop")
    assert found.started == "1 March 2026, 12:00 UTC"


def test_of_many_settings_the_first_are_named():
    settings = {f"config.s{place}": range(2 + place) for place in range(9)}
    trials = pd.DataFrame({name: [*values, *[0] * (10 - len(values))] for name, values in settings.items()})
    assert describe_varied(trials) == (
        "s0 (2 values), s1 (3 values), s2 (4 values), s3 (5 values), s4 (6 values) and 4 more settings"
    )
    assert describe_varied(trials.iloc[:1]) == ""


def test_what_to_beware_of_is_counted(run, run_folder):
    few = "8 of 8 arms have 2 to 3 seeds: with fewer than 6, no sign-flip test can be significant at 5%."
    assert warnings_of(run) == [
        "1 trial failed and is excluded from all averages, which flatters arms that diverge.",
        few,
    ]
    plant_partial_trials(run_folder)
    (run_folder / "plan.json").write_text("[" + ", ".join(["{}"] * 40) + "]")
    assert warnings_of(load_run(run_folder)) == [
        "Not run yet: 10 planned trials.",
        "4 trials failed and are excluded from all averages, which flatters arms that diverge.",
        "3 trials were stopped early and are excluded from all averages and fronts.",
        few,
    ]


@pytest.mark.parametrize(
    ("seeds", "text"), [(1, "1 of 1 arm has one seed: the spread of results"), (6, None)]
)
def test_few_seeds_are_warned_of(run, seeds, text):
    completed = run.trials[run.trials["arm"] == "tiny"].iloc[[0] * seeds]
    trials = completed.assign(seed=range(seeds), trial_id=[str(seed) for seed in range(seeds)])
    found = warnings_of(
        dataclasses.replace(run, trials=trials.reset_index(drop=True), epochs=run.epochs.iloc[:0])
    )
    assert [remark for remark in found if "seed" in remark] == [
        remark for remark in found if text and remark.startswith(text)
    ]
    assert bool(found) == (text is not None)


def test_failure_signs_are_counted_by_kind(run):
    gap = run.trials.assign(train_accuracy=1.0, test_accuracy=0.7)
    found = warnings_of(dataclasses.replace(run, trials=gap))
    assert "Failure sign in 8 arms: train/test gap." in found


@pytest.fixture
def worked(tmp_path):
    tree = design_tree("leave-one-out", ["a", "b", "c"], seeds=range(8))
    worth = {"base": 0.9, "without a": 0.85, "without b": 0.9, "without c": 0.95}
    return imitate(
        tmp_path / "run", tree, lambda arm, seed, *_: worth[arm] + 0.001 * (seed * 7 % 5) * (arm != "base")
    )


class TestFindings:
    def test_decided_comparisons_come_first_with_their_intervals(self, worked):
        evidence = gather_evidence(worked)
        remarks = list_findings(evidence, "digits")
        verdicts = [remark.text.split(": ")[1].split(",")[0] for remark in remarks if not remark.more]
        decided = [verdict != "not decided" for verdict in verdicts]
        assert decided == sorted(decided, reverse=True)
        rows = [row for family in evidence[0].families for row in family.comparisons]
        assert len(verdicts) == min(len(rows), 8)
        for row in rows:
            (text,) = [remark.text for remark in remarks if remark.text.startswith(f"{row.contrast.name}: ")]
            assert (
                f"{100 * row.judgement.mean:+.2f} points (n = {row.judgement.n} seeds, "
                "individual 95% interval " in text
            )
        assert remarks[-1].more == "evidence-1"

    def test_another_data_set_has_none(self, worked):
        assert list_findings(gather_evidence(worked), "mnist") == []
