"""A small file system of memory, whose size and rights a test chooses."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from giving_up import give_up


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Callable[[str], None]]:
    """Mount it there; yields a function that mounts it again with other options."""
    folder.mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            give_up(f"this user may not mount: {done.stderr.strip()}")

    mount(options)
    try:
        yield lambda options: mount(f"remount,{options}")
    finally:
        if folder.is_mount():
            subprocess.run(["umount", folder], check=True)
