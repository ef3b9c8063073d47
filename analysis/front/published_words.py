"""The page's text on published results: which are drawn, and what their grades mean."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis import notation
from analysis.front.published import GRADES, REACH, PublishedPoint


@dataclass(frozen=True)
class PublishedPart:
    """The published results of one data set, on the page."""

    points: Sequence[PublishedPoint]
    """The published results, in ascending order of parameters."""
    drawn: Sequence[PublishedPoint]
    """Those of `points` that are in the figure."""
    caption: str
    """Text below the figure."""
    grades: str


def lay_out_published(
    points: Sequence[PublishedPoint], drawn: Sequence[PublishedPoint]
) -> PublishedPart | None:
    """Describe a data set's published points; `drawn` are `near`'s. None if there are no points."""
    if not points:
        return None
    grades = "; ".join(f"{grade}: {meaning}" for grade, meaning in GRADES.items())
    return PublishedPart(points, drawn, _caption(points, drawn), f"Grades of trust. {grades}.")


def _caption(points: Sequence[PublishedPoint], drawn: Sequence[PublishedPoint]) -> str:
    results = notation.counted(len(points), "published result")
    if not drawn:
        return (
            f"{results} on this data set {'is' if len(points) == 1 else 'are'} in the table below but "
            "not in the figure, being too far from these nets in size or accuracy."
        )
    papers = (
        " The filled star, the paper’s own claim, is in both views."
        if any(point.is_papers for point in drawn)
        else ""
    )
    shown = "all" if len(drawn) == len(points) else f"{len(drawn):,}"
    rest = (
        ""
        if len(drawn) == len(points)
        else f" The others, beyond {REACH:g} times this figure’s parameters or far less accurate, are "
        "only in the table."
    )
    return (
        f"Stars: {shown} of {results} on this data set. They are test accuracies "
        "measured by others in other ways, so they are in the test view only and do not affect the "
        f"front, its probabilities or its hypervolume.{rest}{papers}"
    )
