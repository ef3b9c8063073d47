"""The page's text on an ablation: evidence in words, rows and figures."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from analysis import notation
from analysis.ablation.figure import (
    PAIRS_SHOWN,
    forest_figure,
    interaction_figure,
    path_figure,
    spread_figure,
)
from analysis.ablation.judging import Comparison, JudgedFamily
from analysis.ablation.result import Evidence
from analysis.statistics.contrasts import Kind
from analysis.style import Plot

TITLES: dict[Kind, str] = {
    "differences": "Against base",
    "main effects": "Main effects",
    "interactions": "Interactions",
    "steps": "The path, step by step",
    "Shapley values": "Shapley values over all orders",
}


@dataclass(frozen=True)
class FamilyPart:
    """A family of comparisons on the page."""

    title: str
    finding: str
    warnings: Sequence[str]
    plots: Sequence[Plot]
    rows: Sequence[Comparison]


@dataclass(frozen=True)
class EvidencePart:
    """An ablation on one data set, on the page."""

    title: str
    families: Sequence[FamilyPart]
    spread: Plot | None
    evidence: Evidence
    lost: Sequence[str]
    """Why seeds have no result, one line each."""
    sampling: str
    """How much the test set's size limits what differences show; empty if that is unknown."""


def lay_out_evidence(evidence: Evidence, place: str) -> EvidencePart:
    """Describe an ablation's evidence in words and figures; `place` distinguishes it in headings."""
    families = [_lay_out_family(evidence, family) for family in evidence.families]
    arms = [arm for arm in evidence.arms if arm.mean is not None]
    images = evidence.design.test_images.get(evidence.dataset)
    spread = (
        Plot(
            spread_figure(evidence),
            "Test accuracy of each arm at each seed; the table below has the numbers",
            "Each dot is a seed (folds averaged). The diamond is the mean over seeds with its 95% interval: "
            "what other seeds might give."
            + (f" The table shows what other test sets of {images:,} images might give." if images else ""),
            _height(len(arms)),
        )
        if arms
        else None
    )
    lost = [reason for arm in evidence.arms for reason in arm.lost]
    title = f"What each change is worth{place}"
    return EvidencePart(title, families, spread, evidence, lost, _sampling_of_differences(evidence))


def _sampling_of_differences(evidence: Evidence) -> str:
    """State how much other test images of the same kind could change a difference.

    If it is recorded which images were classified correctly, the table shows it. Otherwise, twice the
    variance of an accuracy p over n images, p (1 − p) / n, at the arm where it is largest: an upper bound,
    since two arms are tested on the same images and mostly fail on the same ones.
    """
    images = evidence.design.test_images.get(evidence.dataset)
    means = [arm.mean for arm in evidence.arms if arm.mean is not None]
    if not images or not means:
        return ""
    rows = [row for family in evidence.families for row in family.comparisons]
    if any(row.crossed for row in rows):
        return (
            f"Over seeds and test images: what other seeds and other {images:,} test images of the same kind "
            "might give, from which images each net classified correctly (two crossed random factors; for "
            "one seed, McNemar’s)."
        )
    reach = 1.96 * math.sqrt(2 * max(mean * (1 - mean) for mean in means) / images)
    return (
        f"All of this is from one test set: another {images:,} images could move a difference by up to "
        f"±{notation.points(reach)} (95%, if the arms’ errors were independent; on the same images, less). "
        "Which images were classified correctly is not recorded here."
    )


def _lay_out_family(evidence: Evidence, family: JudgedFamily) -> FamilyPart:
    design = evidence.design
    rows = [*family.comparisons, *([evidence.placebo] if evidence.placebo else [])]
    n = sorted({row.judgement.n for row in family.comparisons})
    seeds = notation.counted(n[-1], "seed") if len(n) == 1 else f"{n[0]} to {n[-1]} seeds"
    methods = sorted({row.judgement.interval.method for row in family.comparisons if row.judgement.interval})
    caption = (
        f"Mean over paired seeds (n = {seeds}; each small dot is one) with its 95% interval "
        f"({'; '.join(methods) or 'none'}), for each comparison alone. Differences inside the grey band, "
        f"±{notation.points(design.equivalence)}, do not matter. Verdicts are by the "
        f"two-sided sign-flip test at {design.significance:g}, Holm-corrected over the "
        f"{notation.counted(len(family.comparisons), 'comparison')} here."
    )
    if evidence.placebo:
        caption += (
            f" {evidence.placebo.contrast.name}: {evidence.placebo.contrast.meaning}, which is noise only; "
            "since its seeds differ, it varies at least as much as paired seeds do."
        )
    label, height = "Differences with intervals; the table has the numbers", _height(len(rows))
    plots = [Plot(forest_figure(rows, design.equivalence), label, caption, height)]
    if family.kind in ("steps", "Shapley values"):
        text = (
            "From the net without any of the components to base: each bar is what a component adds to those "
            "before it, every net trained from scratch. Error bars are the intervals of the steps."
            if family.kind == "steps"
            else "From the net without any of the components to base: each bar is a component’s share, "
            "averaged over all orders of adding them; the shares sum to the whole difference."
        )
        if any(row.lost for row in family.comparisons):
            text += " Bars use the seeds at which their arms have results, so they may not meet base’s mark."
        plots.insert(0, Plot(path_figure(evidence, family), "The path as a waterfall", text, 26))
    if family.kind == "interactions":
        text = (
            "Parallel lines: the two effects simply add up. A steeper line: one factor increases the other’s "
            "effect. Each point is a mean over the arms with these two levels, and over their seeds."
        )
        pairs = math.comb(len(design.factors), 2)
        panels = min(PAIRS_SHOWN, pairs)
        if panels < pairs:
            text += f" Shown are the {panels} strongest of {pairs} pairs; the table has all."
        height = 6 + 17 * math.ceil(panels / 3)
        plots.insert(
            0, Plot(interaction_figure(evidence, family), "Interactions", text, height, is_wide=True)
        )
    return FamilyPart(TITLES[family.kind], _finding(family), family.warnings, plots, rows)


def _finding(family: JudgedFamily) -> str:
    """State how many comparisons had which verdict, and name those that are decided."""
    counts = Counter(row.verdict for row in family.comparisons)
    total = notation.counted(len(family.comparisons), "comparison")
    parts = [f"{count} {verdict}" for verdict, count in counts.most_common()]
    short = sum(bool(row.lost) for row in family.comparisons)
    decided = [row for row in family.comparisons if row.judgement.verdict in ("helps", "hurts")]
    decided.sort(key=lambda row: -abs(row.judgement.mean or 0.0))
    named = [f"{row.contrast.name} ({notation.signed_points(row.judgement.mean)})" for row in decided[:5]]
    largest = f" Largest: {', '.join(named)}." if named else ""
    lacking = notation.counted(short, "comparison")
    lost = f" Some seeds of {lacking} have no result: see what is left out below." if short else ""
    return f"{total}: {', '.join(parts)}.{largest}{lost}"


def _height(rows: int) -> float:
    return max(16.0, 7 + 3.2 * rows)
