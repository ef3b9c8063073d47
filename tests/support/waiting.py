"""Waiting for a state, never for a time: the only bound is one that nothing but a hang meets."""

import time
from collections.abc import Callable

HANGS_SECONDS = 900.0


def wait_until(happened: Callable[[], bool], told: Callable[[], object] = lambda: "") -> None:
    """Wait until something is so.

    Args:
        happened: Whether it is so; may raise where it can no longer become so.
        told: What to say if it never happens.

    """
    until = time.monotonic() + HANGS_SECONDS
    while not happened():
        assert time.monotonic() < until, f"it does not happen: {told()}"
        time.sleep(0.02)
