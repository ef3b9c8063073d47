import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from imitation_ablation import WITHOUT_TEST, Outcome, Tree, design_tree, imitate, table

from analysis.ablation.foresight import foresee, foresee_family
from analysis.ablation.judging import Comparison
from analysis.ablation.result import Evidence, gather_evidence, state_verdicts
from analysis.design import parse_design
from analysis.statistics.power import detectable_effect
from analysis.tables import Run

SEEDS = 7  # the fewest that can decide two comparisons
BROKEN = "ValueError: loss is nan"


def judged(run: Run) -> Evidence:
    (evidence,) = gather_evidence(run)
    refuse_nan(evidence)
    return evidence


def refuse_nan(result: Any) -> None:
    """Not computable is None: no number anywhere may be NaN or infinite."""
    if dataclasses.is_dataclass(result):
        for field in dataclasses.fields(result):
            refuse_nan(getattr(result, field.name))
    elif isinstance(result, tuple):
        for each in result:
            refuse_nan(each)
    elif isinstance(result, float):
        assert math.isfinite(result)


def rows(evidence: Evidence) -> dict[str, Comparison]:
    """Return the comparisons by name; names must not repeat over the families."""
    found = [row for family in evidence.families for row in family.comparisons]
    named = {row.contrast.name: row for row in found}
    assert len(named) == len(found)
    return named


def without_guess(sentence: str) -> str:
    """Leave out how many seeds would tell: a matter of `test_statistics.py`."""
    return re.sub(r"; if the estimate is right, about [\d,]+ seeds would decide$", "", sentence)


# By hand: "a" is worth 1, 2, ... 6 points at the seeds, "b" one point at five seeds and minus one at one.
A_TIMES = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
B_TIMES = [0.01, 0.01, 0.01, 0.01, 0.01, -0.01]
BASE = [0.90, 0.70, 0.80, 0.95, 0.75, 0.85]


def worked_example() -> dict[str, Sequence[Outcome]]:
    return {
        "base": BASE,
        "without a": [base - worth for base, worth in zip(BASE, A_TIMES, strict=True)],
        "without b": [base - worth for base, worth in zip(BASE, B_TIMES, strict=True)],
    }


def test_numbers_by_hand(tmp_path: Path) -> None:
    tree = design_tree("leave-one-out", ["a", "b"])
    evidence = judged(imitate(tmp_path / "run", tree, table(worked_example())))
    a, b = (row.judgement for row in rows(evidence).values())
    assert (a.n, b.n) == (6, 6)
    assert (a.mean, b.mean) == (pytest.approx(0.035), pytest.approx(0.04 / 6))
    assert a.deviation == pytest.approx(math.sqrt(0.00175 / 5))
    reach = 2.570582 * math.sqrt(0.00175 / 5 / 6)  # Student's t with 5 degrees of freedom
    assert a.interval is not None
    assert (a.interval.low, a.interval.high) == (pytest.approx(0.035 - reach), pytest.approx(0.035 + reach))
    assert a.p == 2 / 64  # all differences of one sign
    assert b.p == 14 / 64  # a sum of four cents or more: all signs alike, or all but one
    assert (a.p_corrected, b.p_corrected) == (4 / 64, 14 / 64)  # Holm
    assert (a.probability_of_improvement, b.probability_of_improvement) == (1, pytest.approx(5 / 6))
    assert (a.verdict, b.verdict) == ("not decided", "not decided")
    assert without_guess(rows(evidence)["a"].sentence) == (
        "not decided: 6 seeds are too few for 2 comparisons, 7 may suffice"
    )


def test_one_comparison_of_six_seeds_can_be_decided(tmp_path: Path) -> None:
    """Without a family to share the error with, the same six seeds tell."""
    tree = design_tree("leave-one-out", ["a"])
    (row,) = rows(judged(imitate(tmp_path / "run", tree, table(worked_example())))).values()
    assert (row.judgement.p, row.judgement.p_corrected) == (2 / 64, 2 / 64)
    assert (row.verdict, row.sentence) == ("helps", "helps by 3.50 points")
    assert row.values == pytest.approx(A_TIMES)


def test_seeds_are_paired_whatever_their_order(tmp_path: Path) -> None:
    """Arms that rise and fall together differ by little: unpaired, 20 points of spread would hide it."""
    seeds = [40, 7, 300, 0, 12, 5]
    levels = dict(zip(seeds, BASE, strict=True))
    tree = design_tree(None, free=["worse"], seeds=seeds, equivalence=0.001)
    run = imitate(
        tmp_path / "run", tree, lambda arm, seed, fold, dataset: levels[seed] - 0.002 * (arm == "worse")
    )
    (row,) = rows(judged(run)).values()
    assert row.seeds == tuple(seeds)
    assert row.values == pytest.approx([-0.002] * 6)
    assert (row.judgement.deviation, row.judgement.verdict) == (pytest.approx(0), "hurts")
    assert row.sentence == "hurts by 0.20 points"


def test_the_validation_difference_is_of_the_same_seeds(tmp_path: Path) -> None:
    outcomes = worked_example() | {"without a": [*worked_example()["without a"][:5], WITHOUT_TEST]}
    tree = design_tree("leave-one-out", ["a", "b"])
    found = rows(judged(imitate(tmp_path / "run", tree, table(outcomes))))
    assert found["a"].validation == pytest.approx(0.5 * sum(A_TIMES[:5]) / 5)
    assert found["b"].validation == pytest.approx(0.5 * sum(B_TIMES) / 6)


def test_a_difference_below_the_margin_is_said_to_be_so(tmp_path: Path) -> None:
    tree = design_tree("leave-one-out", ["a"])
    outcomes = {"base": BASE, "without a": [base - 0.004 for base in BASE]}
    (row,) = rows(judged(imitate(tmp_path / "run", tree, table(outcomes)))).values()
    assert row.sentence == "helps by 0.40 points, though by less than the 0.50 points that matter"


def test_folds_are_averaged_and_never_counted(tmp_path: Path) -> None:
    """6 seeds of 3 folds are 6, not 18: of 18, the same differences would be significant (p = 0.0075)."""
    by_fold = (-0.03, 0.00, 0.03)
    worth = [0.02, 0.02, 0.02, 0.02, 0.02, -0.02]
    tree = design_tree("leave-one-out", ["a"], folds=3)

    def outcome(arm: str, seed: int, fold: int | None, dataset: str) -> float:
        assert fold is not None
        return BASE[seed] + by_fold[fold] - worth[seed] * (arm == "without a")

    evidence = judged(imitate(tmp_path / "run", tree, outcome))
    (row,) = rows(evidence).values()
    assert row.judgement.n == 6
    assert row.values == pytest.approx(worth)
    assert row.judgement.p == 14 / 64  # at most one of six signs differs
    base = evidence.arms[0]
    assert base.seeds == (0, 1, 2, 3, 4, 5)
    assert base.accuracies == pytest.approx(BASE)
    assert base.folds[:3] == tuple(
        (0, fold, pytest.approx(0.5 * (BASE[0] + by_fold[fold]))) for fold in range(3)
    )
    assert len(base.folds) == 18


def test_an_arm_in_numbers(tmp_path: Path) -> None:
    tree = design_tree("leave-one-out", ["a", "b"])
    outcomes = worked_example() | {"without b": [0.8, None, None, None, None, BROKEN]}
    base, _, sparse = judged(imitate(tmp_path / "run", tree, table(outcomes))).arms
    assert (base.arm, base.parameters, base.macs, base.planned) == ("base", 1_000, 40_000, 6)
    assert base.mean == pytest.approx(0.825)
    assert base.deviation == pytest.approx(math.sqrt(0.04375 / 5))
    # Wilson: (825 + z²/2 ± z √(825 · 175 / 1000 + z²/4)) / (1000 + z²)
    z, reach = 1.959964, math.sqrt(825 * 175 / 1000 + 1.959964**2 / 4)
    wilson = [(825 + z**2 / 2 + sign * z * reach) / (1000 + z**2) for sign in (-1, 1)]
    assert base.sampling == pytest.approx(wilson)
    assert (base.folds, base.lost) == ((), ())
    assert (sparse.seeds, sparse.mean) == ((0,), pytest.approx(0.8))
    assert (sparse.deviation, sparse.interval) == (None, None)
    assert sparse.sampling is not None
    assert sparse.lost == (
        *(f"without b, seed {seed} has not run" for seed in range(1, 5)),
        f"without b, seed 5 failed: {BROKEN}",
    )


def losing(arm: str, seed: int, came_to: Outcome, fold: int | None = None) -> Any:
    """Return outcomes in which "a" and "b" help at every seed, but for one trial."""

    def outcome(of: str, at: int, in_fold: int | None, dataset: str) -> Outcome:
        if (of, at) == (arm, seed) and in_fold == fold:
            return came_to
        return 0.9 + 0.001 * at - {"base": 0, "without a": 0.02, "without b": 0.03}[of]

    return outcome


@pytest.mark.parametrize(
    ("folds", "came_to", "fold", "reason"),
    [
        (None, BROKEN, None, f" failed: {BROKEN}"),
        (None, None, None, " has not run"),
        (None, WITHOUT_TEST, None, " has no test accuracy"),
        (3, BROKEN, 1, f" failed (1 of 3 folds): {BROKEN}"),
        (3, None, 2, ": 2 of 3 folds have run"),
        (3, WITHOUT_TEST, 0, " has no test accuracy"),
    ],
)
def test_a_seed_that_is_lost_is_named(
    tmp_path: Path, folds: int | None, came_to: Outcome, fold: int | None, reason: str
) -> None:
    """The comparison that needs it goes on without it, and says so; the other one does not care."""
    tree = design_tree("leave-one-out", ["a", "b"], seeds=range(SEEDS), folds=folds)
    evidence = judged(imitate(tmp_path / "run", tree, losing("without a", 2, came_to, fold)))
    a, b = rows(evidence).values()
    assert (a.judgement.n, a.seeds, a.lost) == (6, (0, 1, 3, 4, 5, 6), (f"without a, seed 2{reason}",))
    assert a.sentence == "helps by 2.00 points"  # Holm: b is decided first, with all 7
    assert (b.judgement.n, b.lost, b.sentence) == (7, (), "helps by 3.00 points")
    assert [arm.lost for arm in evidence.arms] == [(), (f"without a, seed 2{reason}",), ()]


def test_two_failed_folds_are_counted(tmp_path: Path) -> None:
    tree = design_tree("leave-one-out", ["a"], folds=3)
    run = imitate(
        tmp_path / "run", tree, lambda arm, seed, fold, dataset: BROKEN if seed == 4 and fold else 0.9
    )
    (row,) = rows(judged(run)).values()
    assert row.lost == tuple(
        f"{arm}, seed 4 failed (2 of 3 folds): {BROKEN}" for arm in ("base", "without a")
    )


def test_a_seed_that_base_lost_is_lost_to_all(tmp_path: Path) -> None:
    tree = design_tree("leave-one-out", ["a", "b"], seeds=range(SEEDS))
    found = rows(judged(imitate(tmp_path / "run", tree, losing("base", 0, BROKEN))))
    assert [row.judgement.n for row in found.values()] == [6, 6]
    assert {without_guess(row.sentence) for row in found.values()} == {
        "not decided: 6 seeds are too few for 2 comparisons, 7 may suffice"
    }
    assert {row.lost for row in found.values()} == {(f"base, seed 0 failed: {BROKEN}",)}


def test_an_arm_that_always_fails(tmp_path: Path) -> None:
    """It counts in its family, so the others are not judged more easily for it."""
    outcomes = worked_example() | {"without b": [BROKEN] * 6}
    tree = design_tree("leave-one-out", ["a", "b"])
    evidence = judged(imitate(tmp_path / "run", tree, table(outcomes)))
    a, b = rows(evidence).values()
    assert a.judgement.p_corrected == 4 / 64
    assert (b.judgement.n, b.judgement.mean, b.judgement.p, b.validation) == (0, None, None, None)
    assert (b.values, b.sentence) == ((), "not decided: no seed has all its arms")
    assert b.lost == tuple(f"without b, seed {seed} failed: {BROKEN}" for seed in range(6))
    dead = evidence.arms[2]
    assert (dead.mean, dead.interval, dead.sampling) == (None, None, None)


def test_one_seed_tells_nothing(tmp_path: Path) -> None:
    tree = design_tree("leave-one-out", ["a"], seeds=[3])
    evidence = judged(imitate(tmp_path / "run", tree, lambda arm, *_: 0.9 - 0.1 * (arm != "base")))
    (row,) = rows(evidence).values()
    assert row.judgement.mean == pytest.approx(0.1)
    assert (row.judgement.interval, row.judgement.deviation, row.judgement.p) == (None, None, 1)
    assert row.sentence == "not decided: one seed says nothing about chance"


@pytest.mark.parametrize("folds", [None, 3])
def test_arms_that_tie_are_equivalent(tmp_path: Path, folds: int | None) -> None:
    """Sums of floats that should be equal, but for their last bits, are equal."""
    parts = (0.1, 0.2, 0.6)  # 0.1 + 0.2 + 0.6 is not 0.6 + 0.2 + 0.1

    def outcome(arm: str, seed: int, fold: int | None, dataset: str) -> float:
        if fold is not None:
            return parts[fold] if arm == "base" else parts[2 - fold]
        return 0.1 + 0.2 if arm == "base" else 0.3

    tree = design_tree("leave-one-out", ["a"], folds=folds)
    (row,) = rows(judged(imitate(tmp_path / "run", tree, outcome))).values()
    assert row.values == (0,) * 6
    assert (row.judgement.mean, row.judgement.p, row.judgement.effect_size) == (0, 1, None)
    assert row.judgement.probability_of_improvement == 0.5
    assert row.sentence == "equivalent: the difference is within ±0.50 points"


KINDS: Sequence[Tree] = (
    design_tree("leave-one-out", ["a", "b"], free=["wide"]),
    design_tree("one-at-a-time", alternatives={"a": ["1", "2"]}),
    design_tree("factorial", ["a", "b"], {"c": ["1", "2"]}),
    design_tree("path", ["a", "b"]),
    design_tree("path", ["a", "b"], order="all", folds=2),
    design_tree(None, free=["wide"]),
)


@pytest.mark.parametrize("tree", KINDS)
@pytest.mark.parametrize(("came_to", "reason"), [(BROKEN, "failed"), (None, "has not run")])
def test_no_completed_trial_is_no_error(tmp_path: Path, tree: Tree, came_to: Outcome, reason: str) -> None:
    run = imitate(tmp_path / "run", tree, lambda *_: came_to)
    evidence = judged(run)
    assert {row.sentence for family in evidence.families for row in family.comparisons} == {
        "not decided: no seed has all its arms"
    }
    assert all(arm.mean is None and len(arm.lost) == 6 for arm in evidence.arms)
    assert all(reason in line for arm in evidence.arms for line in arm.lost)
    assert state_verdicts(run)[0].startswith("digits, ")


def test_a_sweep_that_is_no_ablation_has_no_evidence(tmp_path: Path) -> None:
    run = imitate(tmp_path / "run", design_tree(None, free=["wide"]), lambda *_: 0.9)
    plain = dataclasses.replace(run, design=None)
    assert gather_evidence(plain) == ()
    assert state_verdicts(plain) == []


def test_steps_at_each_seed_sum_to_the_whole(tmp_path: Path) -> None:
    tree = design_tree("path", ["a", "b", "c"], order=["c", "a", "b"])
    worth = {"base": 0.09, "without b": 0.07, "without a, b": 0.08, "without a, b, c": 0.0}
    run = imitate(tmp_path / "run", tree, lambda arm, seed, *_: 0.8 + worth[arm] * (1 + 0.1 * seed))
    found = rows(judged(run))
    assert [*found] == ["c", "a", "b"]
    for seed in range(6):
        steps = [row.values[seed] for row in found.values()]
        assert steps == pytest.approx([worth * (1 + 0.1 * seed) for worth in (0.08, -0.01, 0.02)])
    assert {row.verdict for row in found.values()} == {"not decided"}  # 3 comparisons: 4 · 3 / 64


def test_a_shapley_value_needs_every_arm(tmp_path: Path) -> None:
    tree = design_tree("path", ["a", "b"], order="all", seeds=range(SEEDS))
    worth = {"base": 0.10, "without a": 0.06, "without b": 0.04, "without a, b": 0.0}

    def outcome(arm: str, seed: int, fold: int | None, dataset: str) -> Outcome:
        return BROKEN if (arm, seed) == ("without a", 1) else 0.8 + worth[arm]

    a, b = rows(judged(imitate(tmp_path / "run", tree, outcome))).values()
    assert (a.judgement.mean, b.judgement.mean) == (pytest.approx(0.04), pytest.approx(0.06))
    assert a.seeds == b.seeds == (0, 2, 3, 4, 5, 6)
    assert a.lost == b.lost == (f"without a, seed 1 failed: {BROKEN}",)


@pytest.mark.parametrize(
    ("neither", "spread", "sentence"),
    [
        (0.75, 0.0, "more together than apart by 5.00 points"),
        (0.60, 0.0, "less together than apart by 10.00 points"),
        (0.70, 0.0, "simply add up: the difference is within ±0.50 points"),
        (0.70, 0.1, "not decided: neither a difference nor equivalence is significant"),
        (
            0.703,
            0.0,
            "more together than apart by 0.30 points, though by less than the 0.50 points that matter",
        ),
    ],
)
def test_interactions_have_their_own_words(
    tmp_path: Path, neither: float, spread: float, sentence: str
) -> None:
    """By hand: "a" is worth 0.1 with "b", and 0.8 minus ``neither`` without it."""
    means = {"base": 0.9, "without a": 0.8, "without b": 0.8, "without a, b": neither}
    wobble = (1, -1, 1, -1, 0, 0)

    def outcome(arm: str, seed: int, fold: int | None, dataset: str) -> float:
        return means[arm] + spread * wobble[seed] * (arm == "base")

    evidence = judged(imitate(tmp_path / "run", design_tree("factorial", ["a", "b"]), outcome))
    family = evidence.families[1]
    assert family.kind == "interactions"
    assert without_guess(family.comparisons[0].sentence) == sentence
    assert family.comparisons[0].verdict == re.split(" by |:", sentence)[0]


def test_main_effects_by_hand(tmp_path: Path) -> None:
    """Two cells each: "a" is worth 0.10 with "b", 0.06 without; the interaction is the difference."""
    means = {"base": 0.9, "without a": 0.8, "without b": 0.82, "without a, b": 0.76}
    run = imitate(tmp_path / "run", design_tree("factorial", ["a", "b"]), lambda arm, *_: means[arm])
    worth = {name: row.judgement.mean for name, row in rows(judged(run)).items()}
    assert worth == pytest.approx({"a": 0.08, "b": 0.06, "a × b": 0.04})


def test_data_sets_are_judged_apart(tmp_path: Path) -> None:
    def outcome(arm: str, seed: int, fold: int | None, dataset: str) -> Outcome:
        if (arm, seed, dataset) == ("without a", 0, "mnist"):
            return BROKEN
        return 0.9 - 0.01 * (arm != "base") * (1 if dataset == "digits" else -1)

    tree = design_tree("leave-one-out", ["a"], datasets=("digits", "mnist"), seeds=range(SEEDS))
    run = imitate(tmp_path / "run", tree, outcome)
    digits, mnist = gather_evidence(run)
    assert [(each.run, each.dataset) for each in (digits, mnist)] == [("run", "digits"), ("run", "mnist")]
    assert (rows(digits)["a"].judgement.n, rows(digits)["a"].sentence) == (7, "helps by 1.00 points")
    assert (rows(mnist)["a"].judgement.n, rows(mnist)["a"].sentence) == (6, "hurts by 1.00 points")
    assert state_verdicts(run) == [
        "digits, differences:",
        "  a: helps by 1.00 points",
        "mnist, differences:",
        "  a: hurts by 1.00 points",
    ]


def test_a_terminal_hears_warnings_verdicts_and_signs(tmp_path: Path) -> None:
    tree = design_tree("factorial", ["a", "b"], seeds=range(6), free=["wide"])
    means = {"base": 0.7, "wide": 0.7, "without a": 0.6, "without b": 0.65, "without a, b": 0.55}
    run = imitate(tmp_path / "run", tree, lambda arm, *_: means[arm], train_accuracy=0.88)
    lines = [without_guess(line) for line in state_verdicts(run)]
    assert lines == [
        "digits, differences:",
        "  wide: equivalent: the difference is within ±0.50 points",
        "digits, main effects:",
        "  warning: main effects: 2 comparisons, 6 seeds: no p value can be below 0.062 (two-sided sign-flip "
        "test, Holm), so nothing can be shown at 0.05: 7 seeds are the fewest that can",
        "  a: not decided: 6 seeds are too few for 2 comparisons, 7 may suffice",
        "  b: not decided: 6 seeds are too few for 2 comparisons, 7 may suffice",
        "digits, interactions:",
        "  a × b: simply add up: the difference is within ±0.50 points",
        "failure signs: train/test gap in 3 arms; the report shows them with advice",
    ]


def test_too_few_seeds_are_warned_of_with_the_number_that_would_do(tmp_path: Path) -> None:
    """11 comparisons: 2 · 11 / 2**n is at most 0.05 from n = 9 on."""
    arms = [f"arm {number}" for number in range(11)]
    run = imitate(tmp_path / "run", design_tree(None, free=arms), lambda arm, *_: 0.9 - 0.1 * (arm != "base"))
    (family,) = judged(run).families
    assert family.warnings == (
        "warning: differences: 11 comparisons, 6 seeds: no p value can be below 0.34 (two-sided sign-flip "
        "test, Holm), so nothing can be shown at 0.05: 9 seeds are the fewest that can",
    )
    assert {without_guess(row.sentence) for row in family.comparisons} == {
        "not decided: 6 seeds are too few for 11 comparisons, 9 may suffice"
    }
    assert foresee_family("differences", 11, 8, 0.05).startswith("warning")
    assert not foresee_family("differences", 11, 9, 0.05).startswith("warning")


def test_the_number_named_does_decide(tmp_path: Path) -> None:
    arms = [f"arm {number}" for number in range(11)]
    tree = design_tree(None, free=arms, seeds=range(9))
    run = imitate(tmp_path / "run", tree, lambda arm, *_: 0.9 - 0.1 * (arm != "base"))
    (family,) = judged(run).families
    assert family.warnings == ()
    assert {row.sentence for row in family.comparisons} == {"hurts by 10.00 points"}


def test_a_design_says_what_it_can_show_before_it_is_trained() -> None:
    tree = design_tree(
        "factorial", ["a"], {"b": ["1", "2"]}, seeds=range(8), folds=5, datasets=("one", "two")
    )
    design = parse_design(tree)
    assert design is not None
    lines = foresee(design)  # once, not for each data set
    assert [re.sub(r"of \d\.\d standard", "of D standard", line) for line in lines] == [
        "main effects: 3 comparisons, 8 seeds: the smallest p value is 0.023; a difference of D standard "
        "deviations of the paired differences is found in about 3 of 4 such experiments",
        "interactions: 2 comparisons, 8 seeds: the smallest p value is 0.016; a difference of D standard "
        "deviations of the paired differences is found in about 3 of 4 such experiments",
        "the 5 folds of a seed are averaged: they are not independent runs",
    ]


def test_earlier_records_turn_it_into_points(tmp_path: Path) -> None:
    """6 seeds of "a" and "b" were recorded: their median scatter, in points, for a plan of 9 seeds."""
    run = imitate(tmp_path / "run", design_tree("leave-one-out", ["a", "b"]), table(worked_example()))
    design = parse_design(design_tree("leave-one-out", ["a", "b"], seeds=range(9)))
    assert design is not None
    effect = detectable_effect(9, 0.05, 2)
    assert effect is not None
    median = (math.sqrt(0.00175 / 5) + math.sqrt(6 * 0.01**2 / 5 - 0.04**2 / 30)) / 2
    lines = foresee(design, run.trials)
    assert lines[:1] == foresee(design)
    assert lines[1:] == (
        "digits, differences: by the seeds recorded so far, this is about "
        f"{100 * effect * median:.2f} points (median of 2 comparisons)",
    )


@pytest.mark.parametrize("came_to", [BROKEN, None, 0.9])
def test_records_that_do_not_help_are_passed_over(tmp_path: Path, came_to: Outcome) -> None:
    """Of failed trials, of none, or of one seed."""
    tree = design_tree("path", ["a", "b"], order="all", seeds=range(9))
    run = imitate(tmp_path / "run", tree, lambda arm, seed, *_: came_to if seed == 3 else None)
    assert run.design is not None
    assert foresee(run.design, run.trials) == foresee(run.design)


@pytest.mark.parametrize("significance", [1e-4, 0.05, 0.99])
def test_whatever_is_planned_is_foreseen(significance: float) -> None:
    """Above 30 seeds signs are drawn, so that a very large family has no p value that is small enough."""
    for seeds, contrasts in itertools.product((1, 2, 6, 30, 31, 100, 10_000), (1, 2, 66, 4_095)):
        line = foresee_family("interactions", contrasts, seeds, significance)
        assert not re.search(r"nan|inf\b|None", line)
        assert line.startswith("warning") or "the smallest p value is" in line


def test_a_family_too_large_for_drawn_signs_is_warned_of() -> None:
    assert foresee_family("differences", 600, 40, 0.005) == (
        "warning: differences: 600 comparisons, 40 seeds: nothing can be shown at 0.005: no p value of more "
        "than 30 seeds is below 0.006 (99,999 random sign flips, Holm)"
    )


def test_records_of_other_sweeps_are_left_out(tmp_path: Path) -> None:
    """A run that went on with fewer seeds still has the records of the others."""
    tree = design_tree("leave-one-out", ["a"], seeds=range(6))
    run = imitate(tmp_path / "run", tree, lambda arm, seed, *_: 0.9 - 0.1 * (arm != "base"))
    fewer = parse_design(design_tree("leave-one-out", ["a"], seeds=[1, 2]))
    (row,) = rows(judged(dataclasses.replace(run, design=fewer))).values()
    assert row.seeds == (1, 2)
