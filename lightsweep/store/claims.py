"""The store's interface to a trial: claims on keys, replies, and stores for a single process."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from lightsweep.store.folder import CHECKPOINT, RESULT, FolderStore
from lightsweep.store.stagefile import Checkpoint, DamagedResultError, StageResult


@dataclass(frozen=True)
class ClaimReply:
    """Reply to a claim: the stored result, or the exclusive right to compute it."""

    result: StageResult | None = None
    """The stored result; None if the caller is to compute it."""
    checkpoint: Checkpoint | None = None
    """Checkpoint to resume from, if there is no result and an earlier run has left one."""
    waited_seconds: float = 0.0
    """Time spent waiting for another trial that was computing the result."""
    warning: str | None = None
    """Damaged files that were discarded."""


class StageStore(Protocol):
    """Interface of a store in which stage results are looked up and kept."""

    checkpoint_seconds: float
    """Minimum time between two checkpoints of a stage, which are written between epochs."""
    gives_weights: bool
    """Whether results are returned with their weights."""

    def claim(self, key: str) -> ClaimReply:
        """Return a key's result or, if there is none, give the caller the exclusive right to compute it."""

    def put(self, key: str, result: StageResult) -> None:
        """Store a claimed key's result and release the claim."""

    def put_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        """Store a checkpoint of a claimed key's stage."""

    def release(self, key: str) -> None:
        """Release a claim without a result."""

    def discard(self, key: str, kind: str, reason: str) -> None:
        """Remove an intact file that does not fit its key; `kind` is RESULT or CHECKPOINT."""


class NoStore:
    """A store that keeps nothing: every stage is trained."""

    checkpoint_seconds = math.inf
    gives_weights = True

    def claim(self, key: str) -> ClaimReply:
        """Return an empty reply."""
        return ClaimReply()

    def put(self, key: str, result: StageResult) -> None:
        """Do nothing."""

    def put_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        """Do nothing."""

    def release(self, key: str) -> None:
        """Do nothing."""

    def discard(self, key: str, kind: str, reason: str) -> None:
        """Do nothing."""


def unpack(
    key: str, result: bytes | None, checkpoint: bytes | None, discard: Callable[[str, str], None]
) -> ClaimReply:
    """Return a reply from bytes; call `discard` with kind and reason for what cannot be read."""
    if result is not None:
        try:
            return ClaimReply(StageResult.from_bytes(result, key))
        except DamagedResultError as error:
            discard(RESULT, str(error))
    if checkpoint is not None:
        try:
            return ClaimReply(checkpoint=Checkpoint.from_bytes(checkpoint, key))
        except DamagedResultError as error:
            discard(CHECKPOINT, str(error))
    return ClaimReply()


class LocalStore:
    """A folder store for trials that run one after the other in this process."""

    gives_weights = True

    def __init__(self, folder: FolderStore, checkpoint_seconds: float = 10.0) -> None:
        self.folder, self.checkpoint_seconds = folder, checkpoint_seconds

    def claim(self, key: str) -> ClaimReply:
        """Return a key's result or checkpoint, without waiting for other processes."""
        stored = self.folder.read(key), self.folder.read(key, CHECKPOINT)
        return unpack(key, *stored, partial(self.folder.discard, key))

    def put(self, key: str, result: StageResult) -> None:
        """Store a result."""
        self.folder.write(key, result.to_bytes(key))

    def put_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        """Store a checkpoint."""
        self.folder.write(key, checkpoint.to_bytes(key), CHECKPOINT)

    def release(self, key: str) -> None:
        """Do nothing: this store has no claims."""

    def discard(self, key: str, kind: str, reason: str) -> None:
        """Remove a file that does not fit its key."""
        self.folder.discard(key, kind, reason)


class NotStoredError(Exception):
    """A looked-up result is not in the store."""


class LookUps:
    """A read-only folder store: returns results without weights, and never lets a stage be trained."""

    checkpoint_seconds = math.inf
    gives_weights = False

    def __init__(self, folder: FolderStore) -> None:
        self.folder = folder

    def claim(self, key: str) -> ClaimReply:
        """Return a key's result.

        Raises:
            NotStoredError: The store has no result for the key.

        """
        data = self.folder.read(key)
        if data is None:
            raise NotStoredError(key)
        return ClaimReply(StageResult.from_bytes(data, key, with_weights=False))

    def put(self, key: str, result: StageResult) -> None:
        """Never called."""
        raise AssertionError(key)

    def put_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        """Never called."""
        raise AssertionError(key)

    def release(self, key: str) -> None:
        """Never called."""
        raise AssertionError(key)

    def discard(self, key: str, kind: str, reason: str) -> None:
        """Remove a file that does not fit its key."""
        self.folder.discard(key, kind, reason)
