"""The stage store: a folder with one file per stage result, by content key, and claims on keys.

Files are written atomically and checked when they are read. A claim is the exclusive right to compute a
key's result. It is a lock that the operating system releases when its process ends, so several runs can
share a folder and a killed run blocks none of them. Only the holder of a claim writes its key's files.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import warnings
import weakref
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from lightsweep.errors import WriteError, not_writable
from lightsweep.store.stagefile import Checkpoint, DamagedResultError, StageResult
from lightsweep.system.files import PLAIN, UnreadableError, read_bytes, read_text, write_text
from lightsweep.system.locks import posix_locks

RESULT, CHECKPOINT, TEMPORARY = ".stage", ".checkpoint", ".tmp"
_KEY = re.compile(r"[0-9a-f]{64}")
_PROBE = "0" * 64  # not a reachable digest; used only to probe locking
MOST_BYTES = 4 * 2**30  # limit of a stage file: half a billion parameters with optimizer state
SETTINGS_BYTES = 2**16

STORE = ".stages"
"""Name of the stage store's folder, beside those of the runs that share it."""


@dataclass(frozen=True)
class Entry:
    """A result or checkpoint file of the store."""

    key: str
    path: Path
    size_bytes: int
    modified: float
    """Modification time in seconds since the Unix epoch."""

    @property
    def is_checkpoint(self) -> bool:
        """Whether the file is a checkpoint of an unfinished stage."""
        return self.path.suffix == CHECKPOINT


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


class FolderStore:
    """The store's folder; one object per process, since closing one releases all the process's claims."""

    def __init__(self, folder: Path, warn: Callable[[str], None] = _warn) -> None:
        """Open a folder, and create it if it does not exist.

        Args:
            folder: Folder of the store.
            warn: Called with a one-line message when a damaged file is discarded.

        Raises:
            InputError: This system has no POSIX locks.
            WriteError: The folder cannot be created or written.

        """
        self.folder, self.warn = folder, warn
        self._locks = posix_locks()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._claims = os.open(folder / "claims", os.O_RDWR | os.O_CREAT | PLAIN, 0o666)
        except OSError as error:
            raise not_writable(folder, error) from None
        weakref.finalize(self, os.close, self._claims)
        try:
            self.try_claim(_PROBE)
            self.give_back(_PROBE)
        except OSError as error:
            raise WriteError(
                f"{folder}: files cannot be locked there ({error.strerror}), so runs cannot share it; name a "
                "folder on another file system with --out"
            ) from None

    def path(self, key: str, kind: str = RESULT) -> Path:
        """Return the path of a key's file, in a subfolder named by the key's first two digits."""
        return stage_file(self.folder, key).with_suffix(kind)

    def has(self, key: str) -> bool:
        """Return whether a result file exists, without checking that it is intact."""
        return self.path(key).exists()

    def read(self, key: str, kind: str = RESULT) -> bytes | None:
        """Return a file's bytes if it is intact; remove a damaged file with a warning.

        Tensors are not parsed here; faults in them that the checksum does not reveal show up at the caller.
        """
        try:
            return read_entry(self.folder, key, kind)
        except DamagedResultError as error:
            self.discard(key, kind, str(error))
        return None

    def discard(self, key: str, kind: str, reason: str) -> None:
        """Remove a file that cannot be used, with a warning."""
        path, what = self.path(key, kind), "stage result" if kind == RESULT else "checkpoint"
        self.warn(f"{what} {path} is discarded and trained again: {reason}")
        with contextlib.suppress(OSError):
            _remove_whatever(path)

    def write(self, key: str, data: bytes, kind: str = RESULT) -> None:
        """Write a file of a claimed key atomically; a result replaces its checkpoint.

        Raises:
            WriteError: The file cannot be written.

        """
        path, temporary = self.path(key, kind), self.path(key, TEMPORARY)
        try:
            path.parent.mkdir(exist_ok=True)
            if path.parent.is_symlink():
                raise OSError(errno.ELOOP, f"{path.parent.name} is a link")
            try:
                _remove_whatever(temporary)
                temporary.write_bytes(data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            if kind == RESULT:
                self.path(key, CHECKPOINT).unlink(missing_ok=True)
        except OSError as error:
            raise not_writable(path, error) from None

    def try_claim(self, key: str) -> bool:
        """Claim a key unless another process holds it; return whether this process now holds it."""
        try:
            self._locks.lockf(self._claims, self._locks.LOCK_EX | self._locks.LOCK_NB, 1, _offset(key))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def give_back(self, key: str) -> None:
        """Release a claim."""
        self._locks.lockf(self._claims, self._locks.LOCK_UN, 1, _offset(key))

    def entries(self) -> Iterator[Entry]:
        """Yield the results and checkpoints in arbitrary order."""
        for path in self._files():
            if path.suffix in (RESULT, CHECKPOINT):
                with contextlib.suppress(OSError):
                    stat = path.lstat()
                    yield Entry(path.stem, path, stat.st_size, stat.st_mtime)

    def remove(self, entries: Collection[Entry]) -> list[Entry]:
        """Remove entries except those claimed by other processes; return the removed ones."""
        return [entry for entry in entries if self._remove(entry.path)]

    def remove_leftovers(self) -> None:
        """Remove what killed writers left behind: temporary files, and checkpoints beside results."""
        for path in self._files():
            if path.suffix == TEMPORARY or (path.suffix == CHECKPOINT and self.has(path.stem)):
                self._remove(path)

    def limit_bytes(self) -> int | None:
        """Return the size to which the store is cut before and after a run; None for no limit."""
        try:
            limit = json.loads(read_text(self.folder / "settings.json", SETTINGS_BYTES))["limit_bytes"]
        except (OSError, UnreadableError, ValueError, LookupError, TypeError, RecursionError):
            return None
        return limit if type(limit) is int and limit >= 0 else None

    def set_limit(self, limit_bytes: int | None) -> None:
        """Set the size limit in bytes; None removes it.

        Raises:
            WriteError: The setting cannot be written.

        """
        path = self.folder / "settings.json"
        try:
            write_text(path, json.dumps({"limit_bytes": limit_bytes}))
        except OSError as error:
            raise not_writable(path, error) from None

    def _files(self) -> Iterator[Path]:
        for folder in os.scandir(self.folder):
            if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False):
                for file in os.scandir(folder):
                    path = Path(file.path)
                    if _KEY.fullmatch(path.stem):
                        yield path

    def _remove(self, path: Path) -> bool:
        if not self.try_claim(path.stem):
            return False
        try:
            _remove_whatever(path)
        except OSError as error:
            raise not_writable(path, error) from None
        finally:
            self.give_back(path.stem)
        return True


def stage_file(folder: Path, key: str) -> Path:
    """Return the path of a key's result in a store's folder, whether or not it exists."""
    assert _KEY.fullmatch(key), key
    return folder / key[:2] / f"{key}{RESULT}"


def read_entry(folder: Path, key: str, kind: str = RESULT) -> bytes | None:
    """Return the bytes of a key's file in a store's folder, or None if there is none; change nothing.

    Raises:
        DamagedResultError: The file exists but is damaged or cannot be read.

    """
    try:
        data = read_bytes(stage_file(folder, key).with_suffix(kind), MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnreadableError as error:
        raise DamagedResultError(str(error)) from None
    if kind == RESULT:
        StageResult.from_bytes(data, key, with_weights=False)
    else:
        Checkpoint.from_bytes(data, key, with_tensors=False)
    return data


def _remove_whatever(path: Path) -> None:
    """Remove whatever is at a path: a file, a link (not its target), a pipe or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _offset(key: str) -> int:
    """Return the offset in the claims file of the byte whose lock is the key's claim."""
    return int(key[:15], 16)
