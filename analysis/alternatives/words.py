"""The page's text on reference nets against the sweep's own."""

from dataclasses import dataclass

from analysis import notation
from analysis.alternatives.result import Alternatives


@dataclass(frozen=True)
class AlternativesPart:
    """Reference nets on one data set, on the page."""

    title: str
    finding: str
    found: Alternatives
    note: str


def lay_out_alternatives(found: Alternatives, place: str) -> AlternativesPart:
    """Describe which nets dominate which; `place` distinguishes data sets in headings."""
    return AlternativesPart(f"Against the alternatives{place}", _find(found), found, _explain(found))


def _find(found: Alternatives) -> str:
    dominated = sum(reference.dominated is not None for reference in found.references)
    others = sum(reference.dominates > 0 for reference in found.references)
    of = notation.counted(len(found.references), "reference net")
    own = notation.counted(found.own, "own net")
    first = (
        f"{dominated or 'None'} of {of} on {found.dataset} {'is' if dominated == 1 else 'are'} dominated by "
        "an own net"
    )
    if not found.beaten:
        return f"{first}; no reference net dominates any of the {own}."
    verb = "dominates" if others == 1 else "dominate"
    return f"{first}; {notation.counted(others, 'reference net')} {verb} {len(found.beaten):,} of the {own}."


def _explain(found: Alternatives) -> str:
    pairs = [*(each.dominated for each in found.references if each.dominated), *found.beaten]
    methods = sorted({pair.bounds.method for pair in pairs if pair.bounds})
    sentences = [
        "A net dominates another if it has no more parameters and no lower mean validation accuracy, and is "
        "better in one of them; if several do, the most accurate is named. Validation and test: mean ± "
        "sample standard deviation over a net’s seeds."
    ]
    if pairs:
        sentences.append(
            "Difference: test accuracy of the net that dominates minus that of the other, in points, paired "
            "by the n seeds that both have, with its 95% interval over seeds "
            f"({'; '.join(methods) or 'none'}), for each pair alone and not corrected for their number: "
            "these are not verdicts. Test accuracy is not used to decide which net dominates."
        )
    if any(len(pair.seeds) < 2 for pair in pairs):
        sentences.append("Pairs with fewer than two seeds in common have no interval.")
    return " ".join(sentences)
