"""Temporary folder of a run's Ray session, and its removal.

Each launching process has its own folder, locked while the process lives, below a folder that only its user
can write to. The next process removes all unlocked folders there, so no recorded path has to be trusted.
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
_MOST = 107  # maximum length of a socket's path in bytes, man 7 unix


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder for this process, removed at the end; first remove those of dead processes.

    Raises:
        InputError: The folder cannot be created, or its path is too long for Ray's sockets.

    """
    root = _root()
    folder = root / str(os.getpid())
    surplus = len(os.fsencode(folder)) + len(_SOCKET) - _MOST
    if surplus > 0:
        raise InputError(
            f"{root}: is {surplus} characters too long for the paths of Ray's sockets; set a shorter TMPDIR, "
            "such as /tmp"
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
            "writable folder"
        ) from None
    try:
        yield folder
    finally:
        with _locked(root):
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_suffix(LOCK).unlink(missing_ok=True)
            os.close(lock)


def remove_left_behind() -> None:
    """Remove the folders of dead processes, if there are any."""
    root = _root()
    if root.is_dir() and not root.is_symlink():
        with _locked(root):
            _remove_left_behind(root)


def _root() -> Path:
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / f"lightsweep-{os.getuid()}"


def _remove_left_behind(root: Path) -> None:
    """Remove the folders of killed processes, including what their Ray wrote after their end."""
    for name in {path.stem for path in root.iterdir()}:
        mark = root / f"{name}{LOCK}"
        try:
            lock = _lock(mark)
        except OSError:  # its process is alive
            continue
        shutil.rmtree(root / name, ignore_errors=True)
        mark.unlink(missing_ok=True)
        os.close(lock)


def _lock(path: Path) -> int:
    """Lock a file, created if missing; raise BlockingIOError if another process holds the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        posix_locks().flock(descriptor, posix_locks().LOCK_EX | posix_locks().LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder, after waiting for other processes, which hold the lock only briefly."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        posix_locks().flock(descriptor, posix_locks().LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_owner(root: Path) -> None:
    """Refuse a folder that another user could have created, since its parent may be world-writable.

    Raises:
        InputError: It is a link, belongs to another user, or others can write to it.

    """
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise InputError(
            f"{root}: is not a folder that only you can write to; remove it, or set another TMPDIR"
        )
