"""What a user is told in one line: every error that a command ends with, and does not trace back."""


class InputError(Exception):
    """The user's input is wrong; the message is one line with place, value, rule and remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # what comes from files may hold line breaks


class WriteError(InputError):
    """A file cannot be written: what was written before stays."""


class MachineError(InputError):
    """A machine cannot do what is asked of it, so that no trial has a chance on it."""
