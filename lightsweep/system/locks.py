"""File locks of the operating system, which are released when the process ends for any reason."""

from types import ModuleType

from lightsweep.errors import InputError


def posix_locks() -> ModuleType:
    """Return the module `fcntl`.

    Raises:
        InputError: This system has no POSIX locks (Windows).

    """
    try:
        import fcntl
    except ImportError:
        raise InputError(
            "this command needs POSIX locks, which Windows does not have: plan, status, show and report work "
            "here; for the others, use WSL or another machine"
        ) from None
    return fcntl
