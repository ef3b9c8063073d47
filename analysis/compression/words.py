"""What the page says of compressed nets against nets built small."""

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
    """Put the comparisons into words and a figure; ``place`` tells them from others in headings."""
    compared = evidence.family.comparisons
    forest = None
    if any(row.judgement.n for row in compared):
        forest = Plot(
            forest_figure(evidence.family.comparisons, evidence.rule.equivalence),
            "Compressed nets minus nets built small at equal bytes; the table has the numbers",
            "Test accuracy of each compressed net minus that of nets built small, at its bytes: right of "
            "zero compressing is better. Mean over paired seeds (each small dot is one) with its 95% "
            "interval where there are two or more, for each comparison alone. In the grey band, "
            f"±{notation.points(evidence.rule.equivalence)}, a difference does not matter.",
            max(14.0, 7 + 3.2 * len(compared)),
        )
    return CompressionPart(
        f"Built small or made small{place}", _find(evidence), forest, evidence, _explain(evidence)
    )


def verdict_of(arm: CompressedArm) -> str:
    """Say in words what an arm's comparison came to, or why there is none."""
    return arm.comparison.sentence if arm.comparison else f"not compared: {arm.reason}"


def _find(evidence: BuiltOrCompressed) -> str:
    """Say how many of the compressed arms beat the nets built small."""
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
        "test accuracy took no part in choosing them. What they would reach at a compressed net’s bytes lies "
        "on a line, straight in the logarithm of bytes, between the neighbours named, drawn for each seed by "
        "itself; nothing is said beyond the front’s ends, nor between neighbours more than a factor of "
        f"{WIDEST_GAP:g} apart. Fronts are mostly concave, so the line lies below what a net built small "
        "would reach, and speaks for compressing by some tenths of a point.",
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
        sentences.append("A single seed has no interval, and decides nothing.")
    return " ".join(sentences)
