"""Range of a keyword, written in a signature's annotation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Valid values of a number, or of each number of a list: `Annotated[int, Range(4, 64, log=True)]`.

    A search draws from this range where the sweep file gives none.
    """

    low: float
    """Lowest valid value."""
    high: float
    """Highest valid value."""
    log: bool = False
    """Whether a search draws on a logarithmic scale."""
