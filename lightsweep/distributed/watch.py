"""Detection of a lost Ray cluster, sooner than Ray itself and with an error of one line.

Ray waits up to a minute for a lost head and then ends the process with a stack trace; it notices a dead
raylet only when a call fails. Here, both are probed twice a second by opening a connection.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lightsweep.errors import LostError
from lightsweep.system.supervise import end_descendants, mean

INTERVAL_SECONDS = 0.5
DYING_SECONDS = 3.0
"""Longest time between a raylet's loss of its workers and its own end."""
STUCK_SECONDS = 5.0
"""Time after which a main thread that does not react to the interrupt counts as stuck."""
IN_VAIN = 4
"""Failed probes in a row before a component counts as gone, which leaves a head time to restart."""
SILENCE_SECONDS = 60.0
"""Timeout of a connection, so that a shorter network outage is survived."""


class Watch:
    """Probes, on its own thread, whether the components of a cluster still accept connections."""

    def __init__(self, places: dict[str, tuple[str, int]]) -> None:
        """Set the components to watch.

        Args:
            places: Address (host, port) of each component, by its name in words.

        """
        self.places = places
        self.gone: str | None = None
        """Name of the component that is gone; None while all respond."""
        self._watched = threading.current_thread()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the body runs; if a component is gone, interrupt the body as Ctrl-C does.

        If the main thread is stuck in Ray's code, the watch ends the process.
        """
        self._watched = threading.current_thread()
        is_main = self._watched is threading.main_thread()
        before = signal.signal(signal.SIGUSR2, self._raise) if is_main else None
        self._thread.start()
        try:
            yield
        finally:
            self._end.set()
            self._thread.join()
            if is_main:
                signal.signal(signal.SIGUSR2, before)

    def error(self) -> LostError:
        """Return the error with which the run ends."""
        return LostError(f"Ray is gone: {self.gone} no longer responds")

    def _leave(self) -> None:
        """End the process, whose main thread is stuck in Ray's code."""
        message = f"{self.error()}; records are kept; run the same command again to continue"
        print(f"error: {message}", file=sys.stderr, flush=True)
        end_descendants()
        mean(LostError.status)
        os._exit(LostError.status)

    def _work(self) -> None:
        vain = dict.fromkeys(self.places, 0)
        while not self._end.wait(INTERVAL_SECONDS):
            for name, place in self.places.items():
                vain[name] = 0 if answers(place) else vain[name] + 1
                if vain[name] >= IN_VAIN:
                    self.gone = name
                    self._interrupt()
                    if not self._end.wait(STUCK_SECONDS):
                        self._leave()
                    return

    def _interrupt(self) -> None:
        """Raise KeyboardInterrupt in the watched thread; only the main thread receives signals."""
        thread = self._watched.ident or 0
        if self._watched is threading.main_thread():
            signal.pthread_kill(thread, signal.SIGUSR2)
        else:
            interrupt = ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), interrupt)

    def check(self) -> None:
        """Probe now, for `DYING_SECONDS`, since a component may be about to end.

        Raises:
            LostError: A component is gone.

        """
        until = time.monotonic() + DYING_SECONDS
        while self.gone is None and time.monotonic() < until:
            self.gone = next((name for name, place in self.places.items() if not answers(place)), None)
            time.sleep(INTERVAL_SECONDS / 5)
        if self.gone is not None:
            raise self.error()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt


def answers(place: tuple[str, int]) -> bool:
    """Return whether (host, port) accepts connections."""
    try:
        socket.create_connection(place, timeout=SILENCE_SECONDS).close()
    except OSError:
        return False
    return True
