"""What a user is told in one line: every error that a command ends with, and does not trace back."""

from lightsweep.echo import masked, one_line


class InputError(Exception):
    """The user's input is wrong; the message is one line with place, value, rule and remedy."""

    status = 2
    """Of the command that ends with it."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(masked(message)))  # what comes from files may hold anything


class WriteError(InputError):
    """A file cannot be written: what was written before stays."""


class MachineError(InputError):
    """A machine cannot do what is asked of it, so that no trial has a chance on it."""


class LostError(InputError):
    """What a run needs is gone, such as Ray, a disk or a database: the same command goes on later."""

    status = 3
