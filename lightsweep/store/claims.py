"""The store as a trial sees it: claims of keys and their answers; stores without workers beside."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from lightsweep.store.folder import CHECKPOINT, RESULT, FolderStore
from lightsweep.store.stagefile import Checkpoint, DamagedResultError, StageResult


@dataclass(frozen=True)
class ClaimReply:
    """What a store says to who asks for a key: its result, or that it is theirs to make."""

    result: StageResult | None = None
    checkpoint: Checkpoint | None = None
    """Without a result: where to go on from, if somebody had begun."""
    waited_seconds: float = 0.0
    """For somebody else who was making it."""
    warning: str | None = None
    """What was found damaged, and discarded."""


class StageStore(Protocol):
    """Where stage results are looked up and kept."""

    checkpoint_seconds: float
    """How often a stage under way hands over what it has, between epochs."""
    gives_weights: bool
    """Whether results come with their weights."""

    def claim(self, key: str) -> ClaimReply:
        """Return a key's result or, without one, make the caller the only one who makes it."""

    def put(self, key: str, result: StageResult) -> None:
        """Keep a claimed key's result, and give the claim back."""

    def put_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        """Keep what a claimed key's stage has made so far."""

    def release(self, key: str) -> None:
        """Give a claim back without a result."""

    def discard(self, key: str, kind: str, reason: str) -> None:
        """Remove what is whole and yet not what its key stands for; `kind` is RESULT or CHECKPOINT."""


class NoStore:
    """Keeps nothing and knows nothing: every stage is trained."""

    checkpoint_seconds = math.inf
    gives_weights = True

    def claim(self, key: str) -> ClaimReply:
        """Return that there is nothing."""
        return ClaimReply()

    def put(self, key: str, result: StageResult) -> None:
        """Forget it."""

    def put_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        """Forget it."""

    def release(self, key: str) -> None:
        """Do nothing."""

    def discard(self, key: str, kind: str, reason: str) -> None:
        """Do nothing."""


def unpack(
    key: str, result: bytes | None, checkpoint: bytes | None, discard: Callable[[str, str], None]
) -> ClaimReply:
    """Return an answer from bytes; what cannot be read is not in it, but discarded by its kind and why."""
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
    """A store's folder for trials that run in this process, one after the other."""

    gives_weights = True

    def __init__(self, folder: FolderStore, checkpoint_seconds: float = 10.0) -> None:
        self.folder, self.checkpoint_seconds = folder, checkpoint_seconds

    def claim(self, key: str) -> ClaimReply:
        """Return a key's result; no other process is waited for."""
        stored = self.folder.read(key), self.folder.read(key, CHECKPOINT)
        return unpack(key, *stored, partial(self.folder.discard, key))

    def put(self, key: str, result: StageResult) -> None:
        """Keep a result."""
        self.folder.write(key, result.to_bytes(key))

    def put_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint."""
        self.folder.write(key, checkpoint.to_bytes(key), CHECKPOINT)

    def release(self, key: str) -> None:
        """Do nothing: nothing is claimed."""

    def discard(self, key: str, kind: str, reason: str) -> None:
        """Remove what its key does not stand for."""
        self.folder.discard(key, kind, reason)


class NotStoredError(Exception):
    """A look-up found nothing."""


class LookUps:
    """A store's folder that only answers, without weights, and has nobody train."""

    checkpoint_seconds = math.inf
    gives_weights = False

    def __init__(self, folder: FolderStore) -> None:
        self.folder = folder

    def claim(self, key: str) -> ClaimReply:
        """Return a key's result.

        Raises:
            NotStoredError: There is none.

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
        """Remove what its key does not stand for."""
        self.folder.discard(key, kind, reason)
