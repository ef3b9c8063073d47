"""A run on Ray whose trials wait at a gate, and whose processes can be killed."""

import os
import signal
from dataclasses import dataclass, replace
from typing import Any

from forked import Child, Setting, start, start_training
from marked import Marked
from waiting import wait_until


@dataclass
class RayRun(Marked):
    """Runs on Ray in a folder."""

    address: str | None = None

    def __post_init__(self) -> None:
        (self.folder / "tmp").mkdir(exist_ok=True)
        self.gate = self.folder / "gate"
        self.gate.mkdir(exist_ok=True)

    def start(self, *overrides: str, **setting: Any) -> Child:
        """Start a run whose trials wait at the gate, unless the setting has another `attempt`."""
        return start_training(self.folder, *overrides, setting=replace(self._setting(), **setting))

    def start_command(self, *words: object) -> Child:
        """Start the command line, whose trials wait at the gate."""
        return start(*words, cwd=self.folder, setting=self._setting())

    def _setting(self) -> Setting:
        return Setting(self.marks, gate=self.gate, ray=True, address=self.address)

    def await_waiting(self, count: int, child: Child) -> None:
        """Wait until so many trials wait at the gate."""
        child.await_state(lambda: len(list(self.gate.iterdir())) >= count)

    def open_gate(self) -> None:
        (self.gate / "open").touch()

    def kill(self, name: str) -> None:
        """Kill one process of this name; Ray changes names at every call, and for a moment there is none."""
        found: list[int] = []

        def is_seen() -> bool:
            found.extend(self.processes(name))
            return bool(found)

        wait_until(is_seen, self.processes)
        number = found[0]
        os.kill(number, signal.SIGKILL)
        wait_until(lambda: number not in self.processes(name))
