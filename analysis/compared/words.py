"""The page's text on the comparison of several runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis import notation
from analysis.compared.result import (
    ANOTHER_NET,
    SAME_TRIALS,
    SWEEP_FILE,
    ComparedArm,
    Fact,
    FrontShare,
    SharedArm,
    differing_facts,
    front_shares,
    shared_arms,
)
from analysis.front.result import REFERENCE_PARAMETERS
from analysis.tables import Run

SHOWN = 40  # rows of a table that are always visible
MOST = 1_000  # rows of the table of arms, including collapsed ones
NAMED = 10  # arms named in a sentence


@dataclass(frozen=True)
class ArmRow:
    """A row of the table of shared arms: an arm in a run."""

    dataset: str
    arm: str
    is_first: bool
    """Whether it is the first row of its arm, which the rows of other runs are compared with."""
    result: ComparedArm


@dataclass(frozen=True)
class ComparisonPart:
    """Comparison of several runs, on the page. Its tables have two parts; the second is collapsed."""

    title: str
    sentences: Sequence[str]
    runs: Sequence[str]
    facts: tuple[Sequence[Fact], Sequence[Fact]]
    arms: tuple[Sequence[ArmRow], Sequence[ArmRow]]
    several_datasets: bool
    note: str
    """How to read the table of arms."""


def lay_out_comparison(runs: Sequence[Run]) -> ComparisonPart | None:
    """Describe what runs have in common and where they differ; None for a single run."""
    if len(runs) < 2:
        return None
    facts, shared = differing_facts(runs), shared_arms(runs)
    comparable = [arm for arm in shared if arm.is_comparable]
    rows = [
        ArmRow(arm.dataset, arm.arm, place == 0, result)
        for arm in comparable
        for place, result in enumerate(arm.results)
    ]
    cut, end = (_between_arms(rows, place) for place in (SHOWN, MOST))
    sentences = [
        *_state_facts(facts),
        *_state_arms(shared, comparable),
        *_state_differences(comparable),
        *_state_fronts(front_shares(runs)),
    ]
    return ComparisonPart(
        title="The runs compared",
        sentences=sentences,
        runs=[run.name for run in runs],
        facts=(facts[:SHOWN], facts[SHOWN:]),
        arms=(rows[:cut], rows[cut:end]),
        several_datasets=len({row.dataset for row in rows}) > 1,
        note=_explain(comparable, len(rows) - end),
    )


def _between_arms(rows: Sequence[ArmRow], place: int) -> int:
    """Return the first row index from `place` on that does not split an arm."""
    while place < len(rows) and not rows[place].is_first:
        place += 1
    return min(place, len(rows))


def _state_facts(facts: Sequence[Fact]) -> list[str]:
    known = [fact for fact in facts if fact.key != SWEEP_FILE]
    sentences = []
    if len(known) < len(facts):
        sentences.append(f"A {SWEEP_FILE} could not be read: the settings of its run are not compared.")
    if known:
        number = f"{len(known):,} entries differ" if len(known) > 1 else "1 entry differs"
        sentences.append(
            f"{number} between the runs (settings of {SWEEP_FILE}, commits, versions and processors); "
            "identical entries are left out."
        )
    else:
        sentences.append(
            "No known setting, commit, version or processor differs between the runs, only their results."
        )
    return sentences


def _state_arms(shared: Sequence[SharedArm], comparable: Sequence[SharedArm]) -> list[str]:
    if not shared:
        return ["No arm has completed trials in two or more of the runs."]
    has = "has" if len(shared) == 1 else "have"
    sentences = [
        f"{notation.counted(len(shared), 'arm')} {has} completed trials in two or more runs, matched by data "
        "set and name."
    ]
    same = [arm for arm in comparable if all(other.remark == SAME_TRIALS for other in arm.results[1:])]
    if same:
        sentences.append(
            f"{_number_of(same, shared)} the same trials: equal settings and, at every seed in common, equal "
            "results, as in a copy or an exact repeat. They add no evidence."
        )
    others = [arm for arm in shared if not arm.is_comparable]
    if others:
        names = [arm.arm for arm in others[:NAMED]]
        if len(others) > NAMED:
            names.append(f"{len(others) - NAMED:,} more")
        sentences.append(
            f"{_number_of(others, shared)} {ANOTHER_NET} in each run, and not compared: "
            f"{notation.listed(names)}."
        )
    return sentences


def _number_of(some: Sequence[SharedArm], arms: Sequence[SharedArm]) -> str:
    if len(some) == len(arms):
        return "It is" if len(arms) == 1 else "All of them are"
    return f"{len(some):,} of them {'is' if len(some) == 1 else 'are'}"


def _state_differences(comparable: Sequence[SharedArm]) -> list[str]:
    """State how many differences have an interval without zero, and how many would by chance."""
    bounds = [
        result.difference.bounds
        for arm in comparable
        for result in arm.results
        if result.difference and result.remark != SAME_TRIALS
    ]
    known = [each for each in bounds if each]
    if not known:
        return ["No difference has an interval: that needs two seeds in common."] if bounds else []
    apart = sum(each.low > 0 or each.high < 0 for each in known)
    return [
        f"Of {notation.counted(len(known), 'difference')} in test accuracy with an interval, {apart:,} "
        f"{'excludes' if apart == 1 else 'exclude'} zero. The intervals are individual: where nothing "
        "differs, one in twenty excludes zero by chance."
    ]


def _state_fronts(shares: Sequence[FrontShare]) -> list[str]:
    sentences = []
    for dataset in dict.fromkeys(each.dataset for each in shares):
        own = sorted((each for each in shares if each.dataset == dataset), key=lambda each: -each.share)
        covered = [f"{each.run} {each.share:.4f} ({notation.counted(each.n_arms, 'arm')})" for each in own]
        most = [each.run for each in own if f"{each.share:.4f}" == f"{own[0].share:.4f}"]
        if len(most) == len(own):
            finding = f"the fronts of {notation.listed(most)} cover the same"
        elif len(most) > 1:
            finding = f"the fronts of {notation.listed(most)} cover the most"
        else:
            finding = f"the front of {most[0]} covers {'more' if len(own) == 2 else 'the most'}"
        sentences.append(f"On {dataset}, {finding}: {notation.listed(covered)}.")
    if sentences:
        sentences.append(
            "That is the normalised hypervolume over log parameters and mean validation accuracy, up to "
            f"{notation.count(REFERENCE_PARAMETERS)} parameters and 0%; a run with more arms covers more for "
            "that reason alone."
        )
    return sentences


def _explain(comparable: Sequence[SharedArm], n_left: int) -> str:
    methods = sorted(
        {
            result.difference.bounds.method
            for arm in comparable
            for result in arm.results
            if result.difference and result.difference.bounds
        }
    )
    sentences = [
        "Mean ± sample standard deviation over n seeds with a completed trial, folds averaged within their "
        "seed. Difference: test accuracy minus that in the first run that has the arm, paired by seed, over "
        "the seeds at which both completed the same folds."
    ]
    if methods:
        sentences.append(f"95% intervals: {'; '.join(methods)}; individual, not corrected for their number.")
    if n_left:
        sentences.append(f"Not shown, to keep the table short: {notation.counted(n_left, 'more row')}.")
    return " ".join(sentences)
