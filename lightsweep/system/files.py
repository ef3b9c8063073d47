"""Files in a folder that anybody may have made: only plain ones are read, and whole ones written.

In a run folder or a store that was received, a file may be a link to another place, a pipe that never ends,
a device, or larger than the memory. Here no link at a file's own name is followed, nothing but a regular file
is opened, and no more is read than its kind can need.
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
"""Most of a file that is read at once: the plan of a million trials."""
LINE_BYTES = 16 * 2**20
"""Most of a line of a journal: a trial of a hundred thousand epochs."""
TABLE_BYTES = 8 * 2**30

PLAIN = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
"""Flags to open a plain file with, as far as this system has them."""


class UnreadableError(InputError):
    """A file is there and cannot be read: it is no plain file, too large, or the system refuses it."""


def open_plain(path: Path, most_bytes: int = TABLE_BYTES) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        FileNotFoundError: There is nothing of this name.
        UnreadableError: It is a link, a folder, a pipe, a device, too large, or cannot be opened.

    """
    return _opened(path, os.O_RDONLY, "rb", most_bytes)


def read_bytes(path: Path, most_bytes: int = TEXT_BYTES) -> bytes:
    """Read a regular file; raises as `open_plain` does."""
    with open_plain(path, most_bytes) as file:
        try:
            data = file.read(most_bytes + 1)
        except OSError as error:
            raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > most_bytes:  # it grew
        raise _too_large(path, most_bytes)
    return data


def read_text(path: Path, most_bytes: int = TEXT_BYTES) -> str:
    """Read a regular file as UTF-8; raises as `open_plain` does, UnreadableError also for other bytes."""
    try:
        return read_bytes(path, most_bytes).decode()
    except UnicodeDecodeError:
        raise UnreadableError(f"{path}: not a text file in UTF-8") from None


def read_lines(path: Path) -> Iterator[bytes | None]:
    """Yield a regular file's lines, those that are blank left out; None for each that is too long.

    Nothing is yielded where there is no file.

    Raises:
        UnreadableError: As `open_plain`.

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
    """Refuse what is to be written by others, a library or a database, and is a link to another place.

    Raises:
        UnreadableError: It is one.

    """
    if path.is_symlink():
        raise _a_link(path)


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a regular file; it is on disk when this returns.

    It begins with its own line break where a killed process, or a full disk, left the last one cut.

    Raises:
        OSError, UnreadableError: It cannot be written, or is no plain file.

    """
    with open_to_append(path) as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        cut = file.read(1) not in (b"", b"\n")
        file.write(b"\n" * cut + line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def open_to_append(path: Path) -> BinaryIO:
    """Open a regular file, made if it is not there, for reading and for writing at its end.

    Raises:
        OSError, UnreadableError: It cannot be written, or is no plain file.

    """
    return _opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, "a+b", TABLE_BYTES)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all."""
    write_together({path: write})


def write_together(files: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write files that belong together: none of them gets its name before all are written.

    Args:
        files: Path -> what writes the file to the path that it is given.

    """
    with ExitStack() as stack:
        drafts = {path: path.with_name(f"{path.name}.{os.getpid()}.tmp") for path in files}
        for path, draft in drafts.items():
            draft.unlink(missing_ok=True)  # a link of that name would be followed
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
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise UnreadableError(f"{path}: is {kind}")
    if found.st_size > most_bytes:
        os.close(descriptor)
        raise _too_large(path, most_bytes)
    return os.fdopen(descriptor, mode)  # type: ignore[return-value]


def _a_link(path: Path) -> UnreadableError:
    return UnreadableError(f"{path}: is a link, and links are not followed here; remove it")


def _too_large(path: Path, most_bytes: int) -> UnreadableError:
    return UnreadableError(f"{path}: is larger than {most_bytes / 2**20:,.0f} MiB, which no such file is")
