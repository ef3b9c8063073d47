"""The store seen by many workers: each key is made by one of them, and the others wait for it.

One broker stands beside each launching process and is the only one of its run that touches the store's
folder. It knows nothing of Ray: `distributed.launch` makes an actor of it, and results pass it as bytes. What
it has promised is written down before it is said, so that one that begins anew, after a kill, keeps it.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lightsweep.errors import WriteError
from lightsweep.store.claims import ClaimReply, unpack
from lightsweep.store.folder import CHECKPOINT, RESULT, FolderStore
from lightsweep.store.stagefile import Checkpoint, StageResult

POLL_SECONDS = 0.1
_OWNED, _ENDED, _MADE = "owned", "ended", "made"
"""Lines of the broker's memory: ``owned KEY OWNER``, ``ended KEY``, ``made KEY``."""


@dataclass(frozen=True)
class Reply:
    """`store.ClaimReply` as bytes."""

    result: bytes | None
    checkpoint: bytes | None
    waited_seconds: float
    warning: str | None


class Broker:
    """Claims of one run's workers, and the store's folder."""

    def __init__(self, folder: str, fresh: bool, memory: Path) -> None:
        """Open the store.

        Args:
            folder: Of the store.
            fresh: Pass over what was stored before now, but not what this broker's workers make.
            memory: File of what a broker before this one, of the same run, has promised; it is written on.

        """
        self._warnings: list[str] = []
        self._store = FolderStore(Path(folder), self._warnings.append)
        self._fresh = fresh
        self._made: set[str] = set()
        self._owners: dict[str, str] = {}
        self._memory = memory
        for line in memory.read_text().split("\n")[:-1] if memory.exists() else ():  # the last one may be cut
            self._remember(*line.split(" "))
        for key in self._owners:
            self._store.try_claim(key)  # the one before held it until it ended

    async def claim(self, key: str, owner: str) -> Reply:
        """Return a key's result, or claim it for the owner; waits while somebody else makes it."""
        began = time.monotonic()
        while True:
            if self._owners.get(key, owner) == owner:
                result = self._read(key)
                if result is None and self._store.try_claim(key):
                    result = self._read(key)  # another run may have put it just before the claim
                    if result is None:
                        self._own(key, owner)
                        checkpoint = None if self._fresh else self._store.read(key, CHECKPOINT)
                        return self._reply(None, checkpoint, began)
                    self._store.give_back(key)
                if result is not None:
                    return self._reply(result, None, began)
            await asyncio.sleep(POLL_SECONDS)

    def put(self, key: str, owner: str, data: bytes) -> str | None:
        """Keep a result and end the claim; return why the store could not be written, if so."""
        fault = self._write(key, owner, data, RESULT)
        self.release(key, owner)
        return fault

    def put_checkpoint(self, key: str, owner: str, data: bytes) -> str | None:
        """Keep a checkpoint; return why the store could not be written, if so."""
        return self._write(key, owner, data, CHECKPOINT)

    def discard(self, key: str, kind: str, reason: str) -> None:
        """Remove what a worker could not read, though its checksum is right."""
        self._store.discard(key, kind, reason)

    def release(self, key: str, owner: str) -> None:
        """End a claim, if it is the owner's."""
        if self._owners.get(key) == owner:
            self._note(_ENDED, key)
            self._store.give_back(key)

    def drop(self, owner: str) -> None:
        """End all claims of an owner that is gone."""
        for key in [key for key, holder in self._owners.items() if holder == owner]:
            self.release(key, owner)

    def _read(self, key: str) -> bytes | None:
        return None if self._fresh and key not in self._made else self._store.read(key)

    def _write(self, key: str, owner: str, data: bytes, kind: str) -> str | None:
        """Write for an owner unless another has the claim by now; a broker that began anew knows none."""
        if self._owners.get(key, owner) != owner or not self._store.try_claim(key):
            return None
        self._own(key, owner)
        try:
            self._store.write(key, data, kind)
        except WriteError as error:
            return str(error)
        if kind == RESULT:
            self._note(_MADE, key)
        return None

    def _own(self, key: str, owner: str) -> None:
        if self._owners.get(key) != owner:
            self._note(_OWNED, key, owner)

    def _note(self, *words: str) -> None:
        """Do something that a broker after this one must know of."""
        with self._memory.open("a") as file:
            file.write(" ".join(words) + "\n")
        self._remember(*words)

    def _remember(self, what: str, key: str = "", owner: str = "") -> None:
        if what == _OWNED:
            self._owners[key] = owner
        elif what == _ENDED:
            self._owners.pop(key, None)
        elif what == _MADE:
            self._made.add(key)

    def _reply(self, result: bytes | None, checkpoint: bytes | None, began: float) -> Reply:
        warning = "; ".join(self._warnings) or None
        self._warnings.clear()
        return Reply(result, checkpoint, time.monotonic() - began, warning)


class BrokerStore:
    """The launching process's stage store, as one trial in a worker sees it through the broker."""

    gives_weights = True

    def __init__(self, ask: Callable[..., Any], owner: str, checkpoint_seconds: float) -> None:
        """Name a trial.

        Args:
            ask: Calls the broker's method of this name with arguments, and returns its answer.
            owner: Id of the trial.
            checkpoint_seconds: How often a stage under way hands over what it has.

        """
        self.ask, self.owner, self.checkpoint_seconds = ask, owner, checkpoint_seconds

    def claim(self, key: str) -> ClaimReply:
        """Return a key's result or, without one, the right to make it; waits while another trial does."""
        reply: Reply = self.ask("claim", key, self.owner)
        answer = unpack(key, reply.result, reply.checkpoint, partial(self.discard, key))
        if reply.result is not None and answer.result is None:
            return self.claim(key)  # it was no result: now the key is claimed
        return replace(answer, waited_seconds=reply.waited_seconds, warning=reply.warning)

    def put(self, key: str, result: StageResult) -> None:
        """Keep a claimed key's result, and give the claim back.

        Raises:
            WriteError: The store cannot be written.

        """
        self._hand_over("put", key, result.to_bytes(key))

    def put_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        """Keep what a claimed key's stage has made so far.

        Raises:
            WriteError: The store cannot be written.

        """
        self._hand_over("put_checkpoint", key, checkpoint.to_bytes(key))

    def release(self, key: str) -> None:
        """Give a claim back without a result."""
        self.ask("release", key, self.owner)

    def discard(self, key: str, kind: str, reason: str) -> None:
        """Remove what its key does not stand for."""
        self.ask("discard", key, kind, reason)

    def _hand_over(self, call: str, key: str, data: bytes) -> None:
        fault = self.ask(call, key, self.owner, data)
        if fault is not None:
            raise WriteError(fault)
