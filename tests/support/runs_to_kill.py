"""A `lightsweep run` that can be killed, with all that it started."""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from forked import lightsweep
from marked import WORKER, Marked
from run_reading import results, table
from waiting import HANGS_SECONDS, wait_until


@dataclass
class Run(Marked):
    """A `lightsweep run` in a process group of its own."""

    sweep: str

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        (self.folder / "tmp").mkdir(exist_ok=True)
        (self.folder / "sweep.yaml").write_text(self.sweep)
        return subprocess.Popen(
            [sys.executable, "-m", "lightsweep", "run", "sweep.yaml", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **self.marks, **environment},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
        )

    def to_the_end(self, *arguments: str, status: int = 0, **environment: str) -> str:
        process = self.start(*arguments, **environment)
        output = process.communicate(timeout=HANGS_SECONDS)[0]
        assert process.returncode == status, output
        self.await_silence()
        return output

    def kill(self, name: str) -> None:
        """Kill a process of this name, if there is one."""
        for number in list(self.processes(name))[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def await_worker(self, process: subprocess.Popen[str]) -> None:
        wait_until(lambda: process.poll() is not None or WORKER in "".join(self.processes().values()))

    def await_results(self, process: subprocess.Popen[str], count: int) -> None:
        wait_until(lambda: process.poll() is not None or len(self.results) >= count)

    @property
    def results(self) -> dict[str, Path]:
        return results(self.folder)

    def table(self, name: str) -> pd.DataFrame:
        return table(self.folder, name)


class PlainRun(Run):
    """A `lightsweep run` without Ray, in a forked process."""

    def to_the_end(self, *arguments: str, status: int = 0, **environment: str) -> str:
        (self.folder / "sweep.yaml").write_text(self.sweep)
        done = lightsweep("run", "sweep.yaml", *arguments, cwd=self.folder, **environment)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr
