"""Locks of the operating system: they end with the process that holds them, however it ends."""

from types import ModuleType

from lightsweep.errors import InputError


def posix_locks() -> ModuleType:
    """Return the module `fcntl`.

    Raises:
        InputError: This system has none: it is Windows.

    """
    try:
        import fcntl
    except ImportError:
        raise InputError(
            "this command needs POSIX locks, which Windows does not have: plan, status, show and report work "
            "here, for the others use WSL or another machine"
        ) from None
    return fcntl
