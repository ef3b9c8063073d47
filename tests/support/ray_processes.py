"""The processes that a run started, Ray's among them."""

import contextlib
import os
import signal
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from forked import Child, Setting, start, start_training
from waiting import wait_until

WORKER, BROKER = "ray::ResourceTrainable", "ray::_Home"
RAYS_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@dataclass
class RayRun:
    """Runs on Ray in a folder, whose processes are told by a mark in their environment."""

    folder: Path
    address: str | None = None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        (self.folder / "tmp").mkdir(exist_ok=True)
        self.gate = self.folder / "gate"
        self.gate.mkdir(exist_ok=True)

    def start(self, *overrides: str) -> Child:
        """Start a run whose trials wait at the gate."""
        return start_training(self.folder, *overrides, setting=self._setting(self.gate))

    def start_command(self, *words: object) -> Child:
        """Start the command line, whose trials wait at the gate."""
        return start(*words, cwd=self.folder, setting=self._setting(self.gate))

    def _setting(self, gate: Path) -> Setting:
        marks = {"LIGHTSWEEP_TEST_MARK": self.mark, "TMPDIR": str(self.folder / "tmp")}
        return Setting(marks, gate=gate, ray=True, address=self.address)

    def await_waiting(self, count: int, child: Child) -> None:
        """Wait until so many trials wait at the gate."""
        child.await_state(lambda: len(list(self.gate.iterdir())) >= count)

    def open_gate(self) -> None:
        (self.gate / "open").touch()

    def processes(self, name: str = "") -> dict[int, str]:
        """All processes that the runs' own processes started, by number: their command lines."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and self.mark.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return {number: command for number, command in found.items() if command.startswith(name)}

    def kill(self, name: str) -> None:
        """Kill one process of this name; Ray changes names at every call, and for a moment there is none."""
        found = dict[int, str]()
        wait_until(lambda: found.update(self.processes(name)) or bool(found), self.processes)
        number = next(iter(found))
        os.kill(number, signal.SIGKILL)
        wait_until(lambda: number not in self.processes(name))

    def await_silence(self) -> None:
        """Wait until none is left, as they must without anybody's help.

        Two of Ray's own agents try for a minute to tell a killed cluster's dead server that it is dead
        (ray/_private/process_watcher.py) and end then; they are not waited for.
        """
        wait_until(
            lambda: not [c for c in self.processes().values() if not c.startswith(RAYS_AGENTS)],
            self.processes,
        )
