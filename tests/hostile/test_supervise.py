"""A run whose process is ended from outside, or by a library, still says how it ended."""

import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest
from waiting import HANGS_SECONDS, wait_until

START = """
import os, signal, sys, time
from lightsweep.system import supervise
def work():
{work}
status = supervise.supervised(work)
supervise.mean(status)
os._exit(status)
"""


def start(work: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START.format(work=textwrap.indent(textwrap.dedent(work), "    "))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def child_of(process: subprocess.Popen[str]) -> psutil.Process:
    assert process.stdout is not None
    return psutil.Process(int(process.stdout.readline()))


@pytest.mark.parametrize("status", [0, 1, 2, 3, 130])
def test_what_the_work_returns_is_the_status(status: int) -> None:
    process = start(f"return {status}")
    assert process.communicate(timeout=HANGS_SECONDS) == ("", "")
    assert process.returncode == status


@pytest.mark.parametrize(
    ("accident", "how"),
    [
        ("os._exit(1)", "was ended by Ray or another library"),
        ("os._exit(0)", "was ended by Ray or another library"),
        ("os.abort()", "was killed by SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
    ],
)
def test_any_other_end_is_one_line_and_lost(accident: str, how: str) -> None:
    process = start(accident)
    out, error = process.communicate(timeout=HANGS_SECONDS)
    assert (process.returncode, out) == (3, "")
    assert error == f"error: the run {how}; records are kept; run the same command again to continue\n"


def test_what_it_had_started_ends_with_it() -> None:
    process = start("""
        import subprocess
        print(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid, flush=True)
        os._exit(1)
    """)
    daemon = child_of(process)
    process.communicate(timeout=HANGS_SECONDS)
    assert process.returncode == 3
    wait_until(lambda: not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE)


def test_the_work_dies_with_the_process_that_was_called() -> None:
    process = start("print(os.getpid(), flush=True); time.sleep(1000)")
    child = child_of(process)
    process.kill()
    process.communicate(timeout=HANGS_SECONDS)
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_passed_on(number: signal.Signals) -> None:
    process = start(f"""
        heard = []
        signal.signal({int(number)}, lambda *_: heard.append(1))
        print(os.getpid(), flush=True)
        while not heard:
            time.sleep(0.01)
        return 101
    """)
    child_of(process)
    os.kill(process.pid, number)
    process.communicate(timeout=HANGS_SECONDS)
    assert process.returncode == 101
