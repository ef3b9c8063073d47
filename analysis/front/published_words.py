"""What the page says of published results: which are drawn, and what their grades mean."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis import notation
from analysis.front.published import GRADES, REACH, PublishedPoint


@dataclass(frozen=True)
class PublishedPart:
    """The published results of one data set, on the page."""

    points: Sequence[PublishedPoint]
    """From few to many parameters."""
    drawn: Sequence[PublishedPoint]
    """Those of them that stand in the figure."""
    caption: str
    """What is to be said below the figure."""
    grades: str


def lay_out_published(
    points: Sequence[PublishedPoint], drawn: Sequence[PublishedPoint]
) -> PublishedPart | None:
    """Put a data set's published points into words; ``drawn`` are ``near``'s. None if there are none."""
    if not points:
        return None
    grades = "; ".join(f"{grade}: {meaning}" for grade, meaning in GRADES.items())
    return PublishedPart(points, drawn, _caption(points, drawn), f"Grades of trust. {grades}.")


def _caption(points: Sequence[PublishedPoint], drawn: Sequence[PublishedPoint]) -> str:
    results = notation.counted(len(points), "published result")
    if not drawn:
        return (
            f"{results} on this data set {'stands' if len(points) == 1 else 'stand'} in the table below and "
            "not in the figure, being far from these nets in size or accuracy."
        )
    papers = (
        " The filled star, the paper’s own claim, stands in both views."
        if any(point.is_papers for point in drawn)
        else ""
    )
    shown = "all" if len(drawn) == len(points) else f"{len(drawn):,}"
    rest = (
        ""
        if len(drawn) == len(points)
        else f" The others, beyond {REACH:g} times this figure’s parameters or far less accurate, stand in "
        "the table alone."
    )
    return (
        f"Stars: {shown} of {results} on this data set. They are accuracies on the test images, "
        "measured by others in other ways, so they stand in the test view only, and have no part in the "
        f"front, its probabilities or its hypervolume.{rest}{papers}"
    )
