"""The page's text on compressed nets against nets built small."""

from dataclasses import dataclass

from analysis import notation
from analysis.ablation.figure import forest_figure
from analysis.compression.result import WIDEST_GAP, BuiltOrCompressed, CompressedArm
from analysis.style import Plot


@dataclass(frozen=True)
class CompressionPart:
    """Compressed arms on one data set, on the page."""

    title: str
    finding: str
    forest: Plot | None
    """None if nothing could be compared."""
    evidence: BuiltOrCompressed
    note: str


def lay_out_compression(evidence: BuiltOrCompressed, place: str) -> CompressionPart:
    """Describe the comparisons in words and a figure; `place` distinguishes them in headings."""
    compared = evidence.family.comparisons
    forest = None
    if any(row.judgement.n for row in compared):
        forest = Plot(
            forest_figure(evidence.family.comparisons, evidence.rule.equivalence),
            "Compressed nets minus nets built small at equal bytes; the table has the numbers",
            "Test accuracy of each compressed net minus that of nets built small at the same bytes: right of "
            "zero, compressing is better. Mean over paired seeds (each small dot is one) with its individual "
            "95% interval if there are two or more. Differences inside the grey band, "
            f"±{notation.points(evidence.rule.equivalence)}, do not matter.",
            max(14.0, 7 + 3.2 * len(compared)),
        )
    return CompressionPart(
        f"Built small or compressed{place}", _find(evidence), forest, evidence, _explain(evidence)
    )


def verdict_of(arm: CompressedArm) -> str:
    """Return the verdict on an arm in words, or why it was not compared."""
    return arm.comparison.sentence if arm.comparison else f"not compared: {arm.reason}"


def _find(evidence: BuiltOrCompressed) -> str:
    """State how many of the compressed arms beat the nets built small."""
    verdicts = [row.judgement.verdict for row in evidence.family.comparisons]
    better = [row.contrast.name for row in evidence.family.comparisons if row.judgement.verdict == "helps"]
    named = f" ({notation.listed(better)})" if 0 < len(better) <= 5 else ""
    others = [
        (verdicts.count("hurts"), "beaten by them"),
        (verdicts.count("equivalent"), "equivalent"),
        (verdicts.count("not decided"), "not decided"),
        (len(evidence.arms) - len(verdicts), "not compared"),
    ]
    rest = ", ".join(f"{number} {what}" for number, what in others if number)
    of = notation.counted(len(evidence.arms), "compressed net")
    return (
        f"{len(better) or 'None'} of {of} on {evidence.dataset} "
        f"{'is' if len(better) == 1 else 'are'} shown to beat the nets built small at equal bytes{named}"
        f"{f'; {rest}' if rest else ''}."
    )


def _explain(evidence: BuiltOrCompressed) -> str:
    sentences = [
        "Built small: the uncompressed arms of this run on the front by bytes and mean validation accuracy; "
        "test accuracy was not used to choose them. Their accuracy at a compressed net’s bytes is "
        "interpolated, linearly in the logarithm of bytes, between the neighbours named, for each seed "
        "separately; not beyond the front’s ends, nor between neighbours more than a factor of "
        f"{WIDEST_GAP:g} apart. Fronts are mostly concave, so the interpolated accuracy is below what a net "
        "built small would reach, which favours compressing by some tenths of a point.",
    ]
    compared = evidence.family.comparisons
    if compared:
        methods = sorted({row.judgement.interval.method for row in compared if row.judgement.interval})
        intervals = f" Intervals: {'; '.join(methods)}." if methods else ""
        sentences.append(
            f"p: two-sided sign-flip test of paired seeds, Holm over the "
            f"{notation.counted(len(compared), 'comparison')} here, decided at "
            f"{evidence.rule.significance:g}.{intervals}"
        )
    if any(row.judgement.n < 2 for row in compared):
        sentences.append("A single seed gives no interval and decides nothing.")
    return " ".join(sentences)
