"""The processes that a run started, Ray's among them, told by a mark in their environment."""

import contextlib
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from waiting import wait_until

WORKER, BROKER = "ray::ResourceTrainable", "ray::_Home"
RAYS_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@dataclass
class Marked:
    """Runs in a folder, whose processes can be found, with a folder of their own for temporary files."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex, kw_only=True)

    @property
    def marks(self) -> dict[str, str]:
        """The environment variables that mark a process and all that it starts."""
        return {"LIGHTSWEEP_TEST_MARK": self.mark, "TMPDIR": str(self.folder / "tmp")}

    def processes(self, name: str = "") -> dict[int, str]:
        """All marked processes whose command lines begin so: these, by number."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and self.mark.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return {number: command for number, command in found.items() if command.startswith(name)}

    def await_silence(self) -> None:
        """Wait until none is left, as they must without anybody's help.

        Two of Ray's own agents try for a minute to tell a killed cluster's dead server that it is dead
        (ray/_private/process_watcher.py) and end then; they are not waited for.
        """
        wait_until(
            lambda: not [c for c in self.processes().values() if not c.startswith(RAYS_AGENTS)],
            self.processes,
        )
