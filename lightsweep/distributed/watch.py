"""Whether the Ray that a run is attached to is still there: nobody else says so in time, nor in one line.

Ray itself waits up to a minute for a head that is gone and then ends the process with a stack trace; a dead
raylet it notices call by call. Here both are asked for every second, as anybody is who listens: by a
connection.
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
"""How long a raylet may take from losing its workers to its own end."""
STUCK_SECONDS = 5.0
IN_VAIN = 4
"""Tries in a row that nobody answers before it is gone; a head that restarts has that long."""
SILENCE_SECONDS = 60.0
"""How long a connection may take: a machine that is cut off for less comes back."""


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
        self._watched = threading.current_thread()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the body runs; if something is gone, it is left at once as with Ctrl-C.

        Where the main thread does not come back from Ray's own code, the process ends here.
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
        """Return what a run ends with."""
        return LostError(f"Ray is gone: {self.gone} does not answer any more")

    def _leave(self) -> None:
        """End the process: its main thread waits in Ray's own code for what does not come."""
        message = f"{self.error()}; what was recorded stays, and the same command goes on"
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
        """Raise KeyboardInterrupt in the watched thread; only the main one gets signals."""
        thread = self._watched.ident or 0
        if self._watched is threading.main_thread():
            signal.pthread_kill(thread, signal.SIGUSR2)
        else:
            interrupt = ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), interrupt)

    def check(self) -> None:
        """Look now, for as long as dying may take.

        Raises:
            LostError: Something is gone.

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
    """Tell whether somebody listens at (host, port)."""
    try:
        socket.create_connection(place, timeout=SILENCE_SECONDS).close()
    except OSError:
        return False
    return True
