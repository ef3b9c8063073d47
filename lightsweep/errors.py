"""Errors that end a command with a one-line message and no traceback."""

from lightsweep.echo import masked, one_line


class InputError(Exception):
    """The user's input is invalid; the message is one line with location, value, rule and remedy."""

    status = 2
    """Exit status of the command."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(masked(message)))  # text from files may contain anything


class WriteError(InputError):
    """A file cannot be written; what was written before is kept."""


class MachineError(InputError):
    """A machine lacks what every trial needs, so no trial can succeed on it."""


class LostError(InputError):
    """Something that a run needs is gone, such as Ray, a disk or a database; run again to continue."""

    status = 3
