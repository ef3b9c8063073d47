"""The page's text on folds: how much those of each arm differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis import notation
from analysis.course.signs import FOLD_SPREAD
from analysis.folds.figure import NamedFolds, folds_figure, row_rem
from analysis.folds.result import ArmFolds, gather_folds
from analysis.style import Plot

ARMS_SHOWN = 30


@dataclass(frozen=True)
class FoldsRow:
    """An arm in the table."""

    label: str
    on_front: bool
    seeds: int
    folds: str
    """Number of folds of a seed, `"5"`, or `"4 to 5"` if seeds differ."""
    validation: str
    test: str
    lowest: str
    highest: str
    spread: str
    """Largest spread within a seed, in points, without the unit."""
    widest_seed: int | None
    exceeds: bool


@dataclass(frozen=True)
class FoldsPart:
    """The folds of the arms on one data set, on the page."""

    title: str
    dataset: str
    finding: str
    spread: Plot
    rows: Sequence[FoldsRow]
    note: str


def lay_out_folds(trials: pd.DataFrame, arms: pd.DataFrame, place: str) -> FoldsPart | None:
    """Describe the folds of one data set in words and a figure; None if no trial on a fold completed.

    `trials` are its rows of `Run.trials`, or of several concatenated, `arms` the result of `mark_front` on
    them; `place` distinguishes data sets in headings. At most `ARMS_SHOWN` arms are shown: those on the
    front, from small to large, then those with the highest mean validation accuracy.
    """
    found = gather_folds(trials)
    if not found:
        return None
    named = _name(found, arms)
    shown = named[:ARMS_SHOWN]
    limit = f"{100 * FOLD_SPREAD:g} points"
    spread = Plot(
        folds_figure(shown),
        "Validation accuracy of each fold, by arm; the table has the numbers",
        "A mark is one fold of one seed: its accuracy on the training images that this fold holds out; "
        "the folds of a seed are on one line. A diamond is the mean over seeds of their means over folds. "
        f"Folds of a seed that are more than {limit} apart are a failure sign of arXiv 2501.15547.",
        max(14.0, 8 + row_rem(shown) * len(shown)),
    )
    return FoldsPart(
        title=f"Folds{place}",
        dataset=found[0].dataset,
        finding=_find(named, limit),
        spread=spread,
        rows=[_row(each) for each in shown],
        note=_explain(shown, len(named) - len(shown)),
    )


def _name(found: Sequence[ArmFolds], arms: pd.DataFrame) -> list[NamedFolds]:
    """Label the arms and sort them in the order in which they are shown."""
    columns = ["run", "arm", "label", "front_rank"]
    known = {(run, arm): (label, rank) for run, arm, label, rank in arms[columns].itertuples(index=False)}
    ranked = []
    for result in found:
        label, rank = known.get((result.run, result.arm), (result.arm, pd.NA))
        on_front = not pd.isna(rank)
        order = (not on_front, int(rank) if on_front else -result.val_mean, str(label))
        ranked.append((order, NamedFolds(str(label), on_front, result)))
    return [each for _, each in sorted(ranked, key=lambda pair: pair[0])]


def _row(arm: NamedFolds) -> FoldsRow:
    result = arm.result
    sizes = sorted(len(seed.folds) for seed in result.seeds)
    return FoldsRow(
        label=arm.label,
        on_front=arm.on_front,
        seeds=len(result.seeds),
        folds=" to ".join(str(size) for size in dict.fromkeys([sizes[0], sizes[-1]])),
        validation=notation.percent_spread(result.val_mean, result.val_deviation),
        test=notation.percent_spread(result.test_mean, result.test_deviation),
        lowest=notation.percent(result.lowest),
        highest=notation.percent(result.highest),
        spread=notation.MISSING if result.spread is None else f"{100 * result.spread:.2f}",
        widest_seed=result.widest_seed,
        exceeds=result.exceeds,
    )


def _find(arms: Sequence[NamedFolds], limit: str) -> str:
    """State how many arms have a seed whose folds are too far apart, and which spread is the largest."""
    with_spread = [arm for arm in arms if arm.result.spread is not None]
    if not with_spread:
        return "No seed has two completed folds yet, so the spread between folds is unknown."
    widest = max(with_spread, key=lambda arm: arm.result.spread or 0.0)
    named = f"{widest.label} at seed {widest.result.widest_seed}"
    by, of = notation.points(widest.result.spread), notation.counted(len(with_spread), "arm")
    n_wide = sum(arm.result.exceeds for arm in with_spread)
    if not n_wide:
        return (
            f"None of {of} has folds of a seed more than {limit} apart; the largest spread, {by}, is of "
            f"{named}."
        )
    return (
        f"{n_wide} of {of} {'has' if n_wide == 1 else 'have'} folds of a seed more than {limit} apart; the "
        f"largest spread, {by}, is of {named}."
    )


def _explain(shown: Sequence[NamedFolds], n_left_out: int) -> str:
    sentences = [
        "Mean: over seeds, of their means over folds. ±: sample standard deviation over the folds of a seed, "
        "pooled over seeds, because each seed draws its own folds. Lowest and highest: validation accuracy "
        "of a single fold. Folds of a seed share most of their training images, so they are not independent "
        "runs: n counts seeds. All folds have the same test images.",
    ]
    if n_left_out:
        sentences.append(
            f"Shown are {notation.counted(len(shown), 'arm')}: those on the front first, then the best by "
            f"mean validation accuracy; {notation.counted(n_left_out, 'arm')} more with folds "
            f"{'is' if n_left_out == 1 else 'are'} not shown."
        )
    return " ".join(sentences)
