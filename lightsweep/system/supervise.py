"""A process that outlives whatever a run's libraries do to theirs, and says how that ended.

Ray's core ends the process that uses it, in C++, when its node or its head is gone; a library may crash, the
kernel may kill what takes too much memory. So a run is a child of the process that was called, which trains
nothing, imports nothing, and keeps the contract of exit statuses.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from lightsweep.errors import LostError

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_meant: int | None = None
"""Of a child: where it says which status it means."""


def supervised(work: Callable[[], int], clean_up: Callable[[], None] = lambda: None) -> int:
    """Do work in a child process; return its status there, and the status that it ended with here.

    The child dies with this process, and all that it has started is ended with it.

    Args:
        work: What is done.
        clean_up: Called here after a child that was lost, when all that it had started is gone.

    """
    global _meant
    if sys.platform != "linux":
        return work()
    heard = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
    read, write = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(read)
        _meant = write
        _set_process_option(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return work()
    os.close(write)
    _set_process_option(_PR_SET_CHILD_SUBREAPER, 1)
    ended = _await(child, heard)
    said = os.read(read, 1)
    if said and said[0] != LostError.status:
        return said[0]
    end_descendants()
    with suppress(OSError):
        clean_up()
    if said:
        return LostError.status
    with suppress(OSError):
        if sys.stdout.isatty():
            print("\x1b[?25h", end="", flush=True)  # a progress bar had hidden the cursor
        how = f"was killed by {_name(-ended)}" if ended < 0 else "was ended by Ray or another library"
        print(
            f"error: the run {how}; what was recorded stays, and the same command goes on",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    return LostError.status


def mean(status: int) -> None:
    """Say in a child, right before its end, which status it means: every other end is an accident."""
    if _meant is not None:
        os.write(_meant, bytes([status & 255]))


def _await(child: int, signals: set[signal.Signals]) -> int:
    """Wait for the child's end and pass signals on to it; return its status, or minus its signal."""
    while True:
        heard = signal.sigwaitinfo(signals)
        if heard.si_signo != signal.SIGCHLD:
            if heard.si_code <= 0:  # of a process; a terminal's goes to the whole group
                os.kill(child, heard.si_signo)
            continue
        while True:
            try:
                number, ended = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if number == child:
                return os.waitstatus_to_exitcode(ended)
            if number == 0:
                break


def end_descendants() -> None:
    """Kill what this process has started, and what that has started: half of a cluster is of no use."""
    import psutil  # nothing is imported in vain

    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _set_process_option(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
