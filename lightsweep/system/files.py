"""Safe files in untrusted folders: reads only regular files, writes only whole ones.

In a run folder or store from somebody else, a file may be a link to somewhere else, an endless pipe, a
device, or larger than memory. These functions do not follow a link at the file's own name, open only regular
files, and read no more than a file of that kind can need.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from lightsweep.errors import InputError

TEXT_BYTES = 256 * 2**20
"""Maximum size of a file that is read at once: the plan of a million trials."""
LINE_BYTES = 16 * 2**20
"""Maximum length of a journal line: a trial of a hundred thousand epochs."""
TABLE_BYTES = 8 * 2**30
"""Maximum size of any other file."""

PLAIN = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
"""Flags to open a regular file with, as far as this system has them."""


class UnreadableError(InputError):
    """A file exists but cannot be read: it is not a regular file, is too large, or access is denied."""


def open_plain(path: Path, most_bytes: int = TABLE_BYTES) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        FileNotFoundError: The file does not exist.
        UnreadableError: The file is a link, folder, pipe or device, is too large, or cannot be opened.

    """
    return _opened(path, os.O_RDONLY, "rb", most_bytes)


def read_bytes(path: Path, most_bytes: int = TEXT_BYTES) -> bytes:
    """Read a regular file; raise the same errors as `open_plain`."""
    with open_plain(path, most_bytes) as file:
        try:
            data = file.read(most_bytes + 1)
        except OSError as error:
            raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > most_bytes:  # it grew since it was opened
        raise _too_large(path, most_bytes)
    return data


def read_text(path: Path, most_bytes: int = TEXT_BYTES) -> str:
    """Read a regular file as UTF-8; raise as `open_plain` does, and UnreadableError if it is not UTF-8."""
    try:
        return read_bytes(path, most_bytes).decode()
    except UnicodeDecodeError:
        raise UnreadableError(f"{path}: not a text file in UTF-8") from None


def read_lines(path: Path) -> Iterator[bytes | None]:
    """Yield the lines of a regular file, without blank ones; None for each line that is too long.

    Yields nothing if there is no file.

    Raises:
        UnreadableError: As in `open_plain`.

    """
    try:
        file = open_plain(path)
    except FileNotFoundError:
        return
    with file:
        while line := file.readline(LINE_BYTES):
            if len(line) < LINE_BYTES or line.endswith(b"\n"):
                if line.strip():
                    yield line
                continue
            while line and not line.endswith(b"\n"):
                line = file.readline(LINE_BYTES)
            yield None


def refuse_link(path: Path) -> None:
    """Refuse a link at a path to which a library or a database will write.

    Raises:
        UnreadableError: The path is a link.

    """
    if path.is_symlink():
        raise _a_link(path)


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a regular file; it is on disk when this returns.

    If a killed process or a full disk left the last line truncated, a line break is written first.

    Raises:
        OSError: The file cannot be written.
        UnreadableError: The file is not a regular file.

    """
    with open_to_append(path) as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        cut = file.read(1) not in (b"", b"\n")
        file.write(b"\n" * cut + line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def open_to_append(path: Path) -> BinaryIO:
    """Open a regular file, created if missing, for reading and appending.

    Raises:
        OSError: The file cannot be written.
        UnreadableError: The file is not a regular file.

    """
    return _opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, "a+b", TABLE_BYTES)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all."""
    write_together({path: write})


def write_together(files: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write files that belong together: all drafts are written before any is renamed.

    Args:
        files: For each path, a function that writes the file to the path passed to it.

    """
    with ExitStack() as stack:
        drafts = {path: path.with_name(f"{path.name}.{os.getpid()}.tmp") for path in files}
        for path, draft in drafts.items():
            draft.unlink(missing_ok=True)  # a link at that path would be followed
            stack.callback(draft.unlink, missing_ok=True)
            files[path](draft)
        for path, draft in drafts.items():
            draft.replace(path)


def _opened(path: Path, flags: int, mode: str, most_bytes: int) -> BinaryIO:
    try:
        descriptor = os.open(path, flags | PLAIN, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _a_link(path) from None
        if error.errno == errno.ENOENT or flags & os.O_APPEND:
            raise
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise UnreadableError(f"{path}: is {kind}")
    if found.st_size > most_bytes:
        os.close(descriptor)
        raise _too_large(path, most_bytes)
    return os.fdopen(descriptor, mode)  # type: ignore[return-value]


def _a_link(path: Path) -> UnreadableError:
    return UnreadableError(f"{path}: is a link, and links are not followed here; remove it")


def _too_large(path: Path, most_bytes: int) -> UnreadableError:
    return UnreadableError(f"{path}: is larger than {most_bytes / 2**20:,.0f} MiB, the limit for such a file")
