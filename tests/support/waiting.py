"""Waiting for a state, never for a time: the only bound is one that nothing but a hang meets."""

import time
from collections.abc import Callable

HANGS_SECONDS = 900.0
LOOKS_SECONDS = 0.02


def wait_until(
    happened: Callable[[], bool], told: Callable[[], object] = lambda: "", every: float = LOOKS_SECONDS
) -> None:
    """Wait until something is so.

    Args:
        happened: Whether it is so; may raise where it can no longer become so.
        told: What to say if it never happens.
        every: Seconds between looks: more where a look is work, which the others have to wait for.

    """
    until = time.monotonic() + HANGS_SECONDS
    while not happened():
        assert time.monotonic() < until, f"it does not happen: {told()}"
        time.sleep(every)
