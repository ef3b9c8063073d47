import re
from collections.abc import Mapping, Sequence
from statistics import stdev

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imitation_run import ARMS, NASTY, trial_row
from page_reading import Page, text_of

from analysis import load_run, mark_front, notation, summarise_arms
from analysis.course.signs import FOLDS, find_signs
from analysis.folds.figure import SEEDS_TOLD_APART, SYMBOLS
from analysis.folds.result import gather_folds, pooled_deviation
from analysis.folds.words import ARMS_SHOWN, lay_out_folds
from analysis.page.payload import Payload
from analysis.page.report import templates
from analysis.reading import EPOCH_COLUMNS

Accuracies = Mapping[str, Mapping[int, Sequence[float | None]]]
"""Arm -> seed -> validation accuracy on each fold, None where the trial failed."""

# Of small seed 1 is the widest, by exactly 2 points: no sign. Of paper seed 0 has the sign.
FOLDED: Accuracies = {
    "tiny": {0: [0.90, 0.91, None], 1: [0.89, 0.90, 0.91]},
    "small": {0: [0.95, 0.95, 0.95], 1: [0.94, 0.95, 0.96]},
    "paper": {0: [0.94, 0.97, 0.99], 1: [0.96, 0.97, 0.98]},
}
NO_SPREAD: Accuracies = {"tiny": {0: [0.9], 1: [0.8]}, "small": {0: [0.7]}}


def table_of(accuracies: Accuracies, run: str = "folded") -> pd.DataFrame:
    """Return trials as ``Run.trials`` has them; test accuracies are 0.01 below those of validation."""
    trials = []
    for arm, seeds in accuracies.items():
        model = trial_row(arm if arm in ARMS else "tiny", 0)
        for seed, folds in seeds.items():
            for fold, accuracy in enumerate(folds):
                result = {f"{split}_accuracy": accuracy for split in ("val", "train")}
                result["test_accuracy"] = None if accuracy is None else accuracy - 0.01
                result["status"] = "failed" if accuracy is None else "completed"
                place = {"trial_id": f"{run}-{arm}-{seed}-{fold}", "arm": arm, "seed": seed, "fold": fold}
                trials.append({**model, **place, **result, "run": run})
    accuracies_of = {f"{split}_accuracy": "float64" for split in ("val", "test", "train")}
    counts = dict.fromkeys(["seed", "fold", "parameters", "macs", "weight_bytes"], "Int64")
    return pd.DataFrame(trials).astype({**counts, **accuracies_of, "latency_ms": "float64"})


def laid_out(trials: pd.DataFrame, place: str = ""):
    return lay_out_folds(trials, mark_front(summarise_arms(trials)), place)


def rendered(parts) -> str:
    template = templates().get_template("folds.html.jinja")
    return template.render(folds_parts=parts, notation=notation, payload=Payload())


@pytest.fixture
def folded_folder(run_folder):
    """A run folder with the folds of ``FOLDED``."""
    trials = table_of(FOLDED).drop(columns="run")
    trials.to_parquet(run_folder / "trials.parquet")
    return run_folder


def test_folds_are_gathered_by_arm_and_seed():
    tiny, small, paper = gather_folds(table_of(FOLDED))
    assert [arm.arm for arm in (tiny, small, paper)] == list(FOLDED)
    assert [[fold.fold for fold in seed.folds] for seed in tiny.seeds] == [[0, 1], [0, 1, 2]]
    assert [seed.val_mean for seed in tiny.seeds] == pytest.approx([0.905, 0.90])
    assert tiny.val_mean == pytest.approx((0.905 + 0.90) / 2)
    assert (tiny.lowest, tiny.highest, tiny.widest_seed) == (0.89, 0.91, 1)
    assert [seed.spread for seed in paper.seeds] == pytest.approx([0.05, 0.02])
    assert (paper.spread, paper.widest_seed) == (pytest.approx(0.05), 0)
    assert paper.test_mean == pytest.approx(paper.val_mean - 0.01)
    assert paper.test_deviation == pytest.approx(paper.val_deviation)
    assert [seed.test_mean for seed in paper.seeds] == pytest.approx(
        [seed.val_mean - 0.01 for seed in paper.seeds]
    )


def test_the_deviation_is_within_seeds():
    """Of small: (0 + (0.01² + 0 + 0.01²)) / (2 + 2); of tiny: (2 · 0.005² + 2 · 0.01²) / (1 + 2)."""
    tiny, small, _ = gather_folds(table_of(FOLDED))
    assert small.val_deviation == pytest.approx((0.0002 / 4) ** 0.5)
    assert tiny.val_deviation == pytest.approx((0.00025 / 3) ** 0.5)


def test_seeds_that_differ_do_not_widen_the_folds():
    """Each seed draws its own folds: what seeds differ by is not what folds differ by."""
    (arm,) = gather_folds(table_of({"tiny": {0: [0.5, 0.51], 1: [0.9, 0.91]}}))
    assert arm.spread == pytest.approx(0.01)
    assert arm.val_deviation == pytest.approx(stdev([0.5, 0.51]))


def test_the_sign_shows_above_two_points_and_not_at_them():
    """The same arms as ``find_signs`` says, float32's rounding included."""
    trials = table_of(FOLDED)
    exact = trials.assign(val_accuracy=trials["val_accuracy"].astype("float32").astype("float64"))
    epochs = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in EPOCH_COLUMNS.items()})
    for rows in (trials, exact):
        assert [arm.exceeds for arm in gather_folds(rows)] == [False, False, True]
        assert [sign.arm for sign in find_signs(rows, epochs.assign(run="folded")) if sign.kind == FOLDS] == [
            "paper"
        ]


def test_the_mean_is_that_of_the_table_of_arms():
    trials = table_of(FOLDED)
    arms = summarise_arms(trials).set_index("arm")
    small, paper = gather_folds(trials)[1:]  # those of which every fold completed
    for found in (small, paper):
        assert found.val_mean == pytest.approx(arms.loc[found.arm, "val_mean"])
        assert found.test_mean == pytest.approx(arms.loc[found.arm, "test_mean"])
        assert len(found.seeds) == arms.loc[found.arm, "n_seeds"]


def test_a_missing_test_accuracy_makes_its_mean_missing():
    trials = table_of(FOLDED)
    trials.loc[trials["trial_id"] == "folded-tiny-1-2", "test_accuracy"] = float("nan")
    tiny, small, _ = gather_folds(trials)
    assert [seed.test_mean is None for seed in tiny.seeds] == [False, True]
    assert (tiny.test_mean, tiny.test_deviation) == (None, None)
    assert small.test_mean is not None


def test_single_folds_have_no_spread():
    tiny, small = gather_folds(table_of(NO_SPREAD))
    assert (tiny.spread, tiny.widest_seed, tiny.val_deviation, tiny.exceeds) == (None, None, None, False)
    assert small.seeds[0].spread is None
    part = laid_out(table_of(NO_SPREAD))
    assert part.finding == ("No seed has two completed folds yet, so the spread between folds is unknown.")
    assert [(row.spread, row.validation) for row in part.rows] == [("–", "85.00%"), ("–", "70.00%")]


def test_trials_without_folds_are_none_of_this(run_folder):
    trials = load_run(run_folder).trials
    assert gather_folds(trials) == ()
    assert laid_out(trials) is None
    failed = table_of({"tiny": {0: [None, None]}})
    assert laid_out(failed) is None
    assert lay_out_folds(trials.iloc[:0], mark_front(summarise_arms(trials)), "") is None


SAMPLES = st.lists(st.lists(st.integers(0, 100).map(float), min_size=1, max_size=5), min_size=1, max_size=4)


@given(SAMPLES)
def test_the_pooled_deviation_is_that_of_distances_to_the_own_mean(samples):
    """By brute force: residuals of all samples together, a degree of freedom less for each mean."""
    residuals = np.concatenate([np.array(sample) - np.mean(sample) for sample in samples])
    freedom = len(residuals) - len(samples)
    found = pooled_deviation(samples)
    if freedom == 0:
        assert found is None
    else:
        assert found == pytest.approx(np.sqrt((residuals**2).sum() / freedom))
    if len(samples) == 1 and freedom:
        assert found == pytest.approx(stdev(samples[0]))


@given(
    st.dictionaries(
        st.sampled_from(["tiny", "small", "paper"]),
        st.dictionaries(
            st.integers(0, 3),
            st.lists(st.one_of(st.none(), st.integers(0, 100).map(lambda number: number / 100)), max_size=4),
            min_size=1,
        ),
    ).filter(lambda arms: any(folds for seeds in arms.values() for folds in seeds.values()))
)
def test_spreads_and_ends_are_those_of_all_pairs(accuracies):
    """By brute force over pairs of folds of one seed; pairs across seeds take no part."""
    found = {arm.arm: arm for arm in gather_folds(table_of(accuracies))}
    for arm, seeds in accuracies.items():
        known = [[value for value in folds if value is not None] for folds in seeds.values()]
        values = [value for folds in known for value in folds]
        assert (arm in found) == bool(values)
        if values:
            pairs = [
                one - other
                for folds in known
                for i, one in enumerate(folds)
                for j, other in enumerate(folds)
                if i != j
            ]
            assert found[arm].spread == max(pairs, default=None)
            assert (found[arm].lowest, found[arm].highest) == (min(values), max(values))


def test_the_front_comes_first_then_the_best_by_validation():
    """On the front by hand: tiny, small and paper, from small to large; wide is beaten by paper."""
    levels = {"wide": 0.96, "slow": 0.90, "paper": 0.97, "tiny": 0.91, "small": 0.95}
    part = laid_out(table_of({arm: {0: [level, level - 0.01]} for arm, level in levels.items()}))
    assert [(row.label, row.on_front) for row in part.rows] == [
        ("tiny", True), ("small", True), ("paper", True), ("wide", False), ("slow", False),
    ]  # fmt: skip
    assert list(part.spread.figure.layout.yaxis.ticktext) == ["slow", "wide", "paper", "small", "tiny"]
    assert "not shown" not in part.note


def test_at_most_thirty_arms_are_shown_and_the_others_counted():
    """All arms have tiny's parameters, so that the best alone is on the front."""
    part = laid_out(table_of({f"arm {n}": {0: [0.5 + n / 100, 0.51 + n / 100]} for n in range(33)}))
    assert [row.label for row in part.rows] == [f"arm {n}" for n in range(32, 32 - ARMS_SHOWN, -1)]
    assert part.note.endswith(
        "Shown are 30 arms: those on the front first, then the best by mean validation accuracy; 3 arms more "
        "with folds are not shown."
    )
    assert len(part.spread.figure.data[-1].x) == ARMS_SHOWN


def test_the_finding_counts_arms_that_are_not_shown_too():
    """The arm of the lowest mean is left out, and has the only sign."""
    arms = {f"arm {n}": {0: [0.9, 0.9]} for n in range(ARMS_SHOWN)}
    part = laid_out(table_of({**arms, "torn": {3: [0.4, 0.5]}}))
    assert "torn" not in [row.label for row in part.rows]
    assert part.finding == (
        "1 of 31 arms has folds of a seed more than 2 points apart; the largest spread, 10.00 points, "
        "is of torn at seed 3."
    )


def test_where_no_folds_lie_far_apart_the_finding_says_so():
    part = laid_out(table_of({"tiny": {0: [0.90, 0.91]}, "small": FOLDED["small"]}))
    assert part.finding == (
        "None of 2 arms has folds of a seed more than 2 points apart; the largest spread, 2.00 points, is of "
        "small at seed 1."
    )


def test_a_trace_per_seed_and_the_means_last():
    figure = laid_out(table_of(FOLDED)).spread.figure
    first, second, means = figure.data
    assert [trace.name for trace in figure.data] == ["folds of seed 0", "folds of seed 1", "mean"]
    assert first.x == pytest.approx((94, 97, 99, None, 95, 95, 95, None, 90, 91, None))
    assert means.x == pytest.approx(
        tuple(100 * mean for mean in (0.58 / 6 * 10 + 0.001666, 0.95, 0.9025)), abs=0.2
    )
    assert (first.marker.symbol, second.marker.symbol) == SYMBOLS[:2]
    assert first.marker.color != second.marker.color
    rows = [round(y) for y in first.y if y is not None]
    assert rows == [0, 0, 0, 1, 1, 1, 2, 2]
    assert first.hovertext[0] == (
        "<b>paper</b><br>seed 0, fold 0<br>validation 94.00%, test 93.00%<br>"
        "the seed’s folds are 5.00 points apart"
    )
    assert "n = 2 seeds" in means.hovertext[0]


def test_many_seeds_share_one_look():
    seeds = {seed: [0.9, 0.91] for seed in range(SEEDS_TOLD_APART + 1)}
    figure = laid_out(table_of({"tiny": seeds})).spread.figure
    assert [trace.name for trace in figure.data] == ["folds of a seed, in one line", "mean"]
    assert list(figure.data[0].x).count(None) == SEEDS_TOLD_APART + 1
    assert all(abs(y) < 0.5 for y in figure.data[0].y if y is not None)


def test_the_table_tells_the_same_in_words(folded_folder):
    trials = load_run(folded_folder).trials
    html = rendered([laid_out(trials, ": digits")])
    cells = [
        [
            " ".join(re.sub("<.*?>", " ", cell).split())
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)
        ]
        for line in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    ]
    assert [row[:4] for row in cells[1:]] == [
        ["tiny", "yes", "2", "2 to 3"], ["small", "yes", "2", "3"], ["paper", "yes", "2", "3"],
    ]  # fmt: skip
    assert cells[1][4:] == ["90.25 ± 0.91%", "89.00%", "91.00%", "2.00 seed 1", "89.25 ± 0.91%"]
    assert cells[3][7] == "5.00 a failure sign, seed 0"
    page = Page(html)
    assert [attributes.get("scope") for tag, attributes in page.elements if tag == "th"] == ["col"] * 9
    assert ("section", {"data-dataset": "digits"}) in page.elements
    assert ("div", "folds-1") in [(tag, attributes.get("id")) for tag, attributes in page.elements]
    text = text_of(html)
    assert "more than 2 points apart are a failure sign of arXiv 2501.15547" in text
    assert "not independent runs: n counts seeds" in text


def test_names_are_escaped():
    part = laid_out(table_of({NASTY: {0: [0.9, 0.99]}}), f": {NASTY}")
    html = rendered([part])
    assert "<img" not in html
    assert NASTY in text_of(html)
    assert not any(NASTY in str(trace) for trace in part.spread.figure.data)
    assert not any("<img" in text for text in part.spread.figure.layout.yaxis.ticktext)


def test_arms_of_several_runs_are_told_apart():
    trials = pd.concat([table_of(FOLDED, "one"), table_of({"tiny": FOLDED["paper"]}, "two")])
    part = laid_out(trials)
    assert {row.label for row in part.rows} == {"one · tiny", "one · small", "one · paper", "two · tiny"}
    assert part.finding.startswith("2 of 4 arms have folds")
