"""Whether the Ray that a run is attached to is still there: nobody else says so in time, nor in one line.

Ray itself waits up to a minute for a head that is gone and then ends the process with a stack trace; a dead
raylet it notices call by call. Here both are asked for every second, as anybody is who listens: by a
connection.
"""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lightsweep.errors import LostError

INTERVAL_SECONDS = 0.5
IN_VAIN = 4
"""Tries in a row that nobody answers before it is gone; a head that restarts has that long."""
SILENCE_SECONDS = 60.0
"""How long a connection may take: a machine that is cut off for less comes back."""


class RayIsGoneError(BaseException):
    """Raised in the main thread, wherever it is, as Ctrl-C is: no library passes over it."""


class Watch:
    """Asks in a thread of its own whether places are listened at."""

    def __init__(self, places: dict[str, tuple[str, int]]) -> None:
        """Name what is watched.

        Args:
            places: What it is, in words, and where it listens.

        """
        self.places = places
        self.gone: str | None = None
        """What is gone, in words."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the body runs, which is left with RayIsGoneError at once if something is gone."""
        before = signal.signal(signal.SIGUSR2, self._raise)
        self._thread.start()
        try:
            yield
        finally:
            self._end.set()
            self._thread.join()
            signal.signal(signal.SIGUSR2, before)

    def error(self) -> LostError:
        """Return what a run ends with."""
        return LostError(f"Ray is gone: {self.gone} does not answer any more")

    def _work(self) -> None:
        vain = dict.fromkeys(self.places, 0)
        while not self._end.wait(INTERVAL_SECONDS):
            for name, place in self.places.items():
                vain[name] = 0 if answers(place) else vain[name] + 1
                if vain[name] >= IN_VAIN:
                    self.gone = name
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
                    return

    def _raise(self, number: int, frame: FrameType | None) -> None:
        raise RayIsGoneError


def answers(place: tuple[str, int]) -> bool:
    """Tell whether somebody listens at (host, port)."""
    try:
        socket.create_connection(place, timeout=SILENCE_SECONDS).close()
    except OSError:
        return False
    return True
