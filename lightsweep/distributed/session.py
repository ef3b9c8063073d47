"""Where a Ray that a run uses keeps what nobody needs afterwards, and who removes it.

Each launching process has a folder of its own below one that belongs to its user alone, locked while it
lives. Whoever comes next removes the folders that nobody has locked: no note of any other place is read.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightsweep.errors import InputError
from lightsweep.system.locks import posix_locks

LOCK = ".lock"
_SOCKET = "/session_2026-11-27_08-00-00_123456_1234567/sockets/plasma_store"
_MOST = 107  # bytes of a socket's path, man 7 unix


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder of this process's own, and remove it at the end; first those of processes that are gone.

    Raises:
        InputError: It cannot be made, or its path is too long for the sockets that Ray has in it.

    """
    root = _root()
    folder = root / str(os.getpid())
    surplus = len(os.fsencode(folder)) + len(_SOCKET) - _MOST
    if surplus > 0:
        raise InputError(
            f"{root}: is too long by {surplus} characters for the sockets that Ray has in it; set a shorter "
            "TMPDIR, such as /tmp"
        )
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(root)
        with _locked(root):
            _remove_left_behind(root)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            lock = _lock(folder.with_suffix(LOCK))
    except OSError as error:
        raise InputError(
            f"{root}: Ray's temporary files cannot be written there ({error.strerror}); set TMPDIR to a "
            "folder that can"
        ) from None
    try:
        yield folder
    finally:
        with _locked(root):
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_suffix(LOCK).unlink(missing_ok=True)
            os.close(lock)


def remove_left_behind() -> None:
    """Remove the folders of processes that are gone, where there are any."""
    root = _root()
    if root.is_dir() and not root.is_symlink():
        with _locked(root):
            _remove_left_behind(root)


def _root() -> Path:
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / f"lightsweep-{os.getuid()}"


def _remove_left_behind(root: Path) -> None:
    """Remove the folders of processes that were killed, and what their Ray wrote after their end."""
    for name in {path.stem for path in root.iterdir()}:
        mark = root / f"{name}{LOCK}"
        try:
            lock = _lock(mark)
        except OSError:  # it lives
            continue
        shutil.rmtree(root / name, ignore_errors=True)
        mark.unlink(missing_ok=True)
        os.close(lock)


def _lock(path: Path) -> int:
    """Lock a file, made if it is not there; raise BlockingIOError where another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        posix_locks().flock(descriptor, posix_locks().LOCK_EX | posix_locks().LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Have a folder alone, after waiting for others, which need it for moments."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        posix_locks().flock(descriptor, posix_locks().LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_owner(root: Path) -> None:
    """Refuse a folder that others could have made, in a place where everybody may.

    Raises:
        InputError: It is a link, another user's, or others may write into it.

    """
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise InputError(
            f"{root}: is not a folder that only you can write into; remove it, or set another TMPDIR"
        )
