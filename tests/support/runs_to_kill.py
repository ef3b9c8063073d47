"""A `lightsweep run` that can be killed, with all that it started."""

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from forked import lightsweep
from waiting import HANGS_SECONDS, wait_until

from lightsweep.store import RESULT

WORKER, BROKER = "ray::ResourceTrainable", "ray::_Home"
RAYS_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@dataclass
class Run:
    """A `lightsweep run` in a process group of its own, with a folder of its own for temporary files."""

    folder: Path
    sweep: str
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        (self.folder / "tmp").mkdir(exist_ok=True)
        (self.folder / "sweep.yaml").write_text(self.sweep)
        marks = {"LIGHTSWEEP_TEST_MARK": self.mark, "TMPDIR": str(self.folder / "tmp")}
        return subprocess.Popen(
            [sys.executable, "-m", "lightsweep", "run", "sweep.yaml", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **marks, **environment},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
        )

    def to_the_end(self, *arguments: str, status: int = 0, **environment: str) -> str:
        process = self.start(*arguments, **environment)
        output = process.communicate(timeout=HANGS_SECONDS)[0]
        assert process.returncode == status, output
        self.await_silence()
        return output

    def processes(self) -> dict[int, str]:
        """All processes that this run started, or that they started, by number: their command lines."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and self.mark.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def await_silence(self) -> None:
        """Wait until none is left, as they must without anybody's help.

        Two of Ray's own agents try for a minute to tell a killed cluster's dead server that it is dead
        (ray/_private/process_watcher.py) and end then; they are not waited for.
        """
        wait_until(
            lambda: not [c for c in self.processes().values() if not c.startswith(RAYS_AGENTS)],
            self.processes,
        )

    def kill(self, name: str) -> None:
        """Kill a process of this name, if there is one."""
        for number, command in self.processes().items():
            if command.startswith(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
                return

    def await_worker(self, process: subprocess.Popen[str]) -> None:
        wait_until(lambda: process.poll() is not None or WORKER in "".join(self.processes().values()))

    def await_results(self, process: subprocess.Popen[str], count: int) -> None:
        wait_until(lambda: process.poll() is not None or len(self.results) >= count)

    @property
    def results(self) -> dict[str, Path]:
        return {path.stem: path for path in (self.folder / "runs/.stages").rglob(f"*{RESULT}")}

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / f"runs/killed/{name}.parquet")


class PlainRun(Run):
    """A `lightsweep run` without Ray, in a forked process."""

    def to_the_end(self, *arguments: str, status: int = 0, **environment: str) -> str:
        (self.folder / "sweep.yaml").write_text(self.sweep)
        done = lightsweep("run", "sweep.yaml", *arguments, cwd=self.folder, **environment)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr
