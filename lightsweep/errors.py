"""Errors that end a command with a one-line message and no traceback."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from lightsweep.echo import masked, one_line


class InputError(Exception):
    """The user's input is invalid; the message is one line with location, value, rule and remedy."""

    status = 2
    """Exit status of the command."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(masked(message)))  # text from files may contain anything


class WriteError(InputError):
    """A file cannot be written; what was written before is kept."""


def not_writable(path: Path, error: OSError) -> WriteError:
    """Return the error for a file or folder below --out that cannot be written."""
    return WriteError(f"{path}: cannot be written ({error.strerror}); --out says where runs go")


class MachineError(InputError):
    """A machine lacks what every trial needs, so no trial can succeed on it."""


class LostError(InputError):
    """Something that a run needs is gone, such as Ray, a disk or a database; run again to continue."""

    status = 3


def nearest(name: object, choices: Iterable[str]) -> str:
    """Return the closest choice to a name as the end of an error message, or all choices if none is close.

    >>> nearest("filtres", ["filters", "kernel"])
    'did you mean filters?'
    """
    known = sorted(choices)
    match = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {match[0]}?" if match else f"there are {', '.join(known)}"
