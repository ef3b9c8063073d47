"""Parent process that survives the death of a run's process and reports how it ended.

Ray's core, in C++, ends the process that uses it when its node or its head is gone; a library may crash; the
kernel may kill a process that uses too much memory. So the run is a child of the process that the user
started, which trains nothing, imports nothing heavy, and guarantees the exit status.
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
"""In a child process: the descriptor to which it writes its intended exit status."""


def supervised(work: Callable[[], int], clean_up: Callable[[], None] = lambda: None) -> int:
    """Do work in a child process; this returns in both: the work's status in the child, the final one here.

    The child dies with this process, and if it is lost, all its descendants are killed.

    Args:
        work: The work; returns an exit status.
        clean_up: Called in the parent after the child was lost and its descendants were killed.

    Returns:
        The exit status.

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
            print("\x1b[?25h", end="", flush=True)  # the progress bar has hidden the cursor
        how = f"was killed by {_name(-ended)}" if ended < 0 else "was ended by Ray or another library"
        print(
            f"error: the run {how}; records are kept; run the same command again to continue",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    return LostError.status


def mean(status: int) -> None:
    """Report a child's intended exit status, right before its end; without a report, it counts as lost."""
    if _meant is not None:
        os.write(_meant, bytes([status & 255]))


def _await(child: int, signals: set[signal.Signals]) -> int:
    """Wait for the child and forward signals to it; return its status, or its signal as a negative number."""
    while True:
        heard = signal.sigwaitinfo(signals)
        if heard.si_signo != signal.SIGCHLD:
            if heard.si_code <= 0:  # sent by a process; a terminal signals the whole group itself
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
    """Kill all descendants of this process, since half a cluster is of no use."""
    import psutil  # imported only when needed

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
