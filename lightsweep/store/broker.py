"""The store for many workers: one of them computes each key, and the others wait for it.

One broker runs beside each launching process and is the only part of its run that touches the store's
folder. It does not depend on Ray: `distributed.launch` makes an actor of it, and results pass through it as
bytes. It logs each grant before it replies, so a broker restarted after a kill still honours it.
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
"""Lines of the broker's memory file: `owned KEY OWNER`, `ended KEY`, `made KEY`."""


@dataclass(frozen=True)
class Reply:
    """A `store.claims.ClaimReply` as bytes."""

    result: bytes | None
    """The stored result; None if the caller now has the claim."""
    checkpoint: bytes | None
    """Checkpoint to resume from, if there is no result."""
    waited_seconds: float
    """Time spent waiting for another owner of the key."""
    warning: str | None
    """Damaged files that were discarded."""


class Broker:
    """Holds the claims of one run's workers, and reads and writes the store's folder."""

    def __init__(self, folder: str, fresh: bool, memory: Path) -> None:
        """Open the store.

        Args:
            folder: Folder of the store.
            fresh: Ignore what was stored earlier, but use what this broker's workers store.
            memory: Log of the claims granted by earlier brokers of the same run; appended to.

        """
        self._warnings: list[str] = []
        self._store = FolderStore(Path(folder), self._warnings.append)
        self._fresh = fresh
        self._made: set[str] = set()
        self._owners: dict[str, str] = {}
        self._memory = memory
        for line in (
            memory.read_text().split("\n")[:-1] if memory.exists() else ()
        ):  # the last line may be cut
            self._remember(*line.split(" "))
        for key in self._owners:
            self._store.try_claim(key)  # the previous broker held it until it ended

    async def claim(self, key: str, owner: str) -> Reply:
        """Return a key's result, or claim the key; wait while another owner computes it."""
        began = time.monotonic()
        while True:
            if self._owners.get(key, owner) == owner:
                result = self._read(key)
                if result is None and self._store.try_claim(key):
                    result = self._read(key)  # another run may have stored it just before the claim
                    if result is None:
                        self._own(key, owner)
                        checkpoint = None if self._fresh else self._store.read(key, CHECKPOINT)
                        return self._reply(None, checkpoint, began)
                    self._store.give_back(key)
                if result is not None:
                    return self._reply(result, None, began)
            await asyncio.sleep(POLL_SECONDS)

    def put(self, key: str, owner: str, data: bytes) -> str | None:
        """Store a result and end the claim; return an error message if the store cannot be written."""
        fault = self._write(key, owner, data, RESULT)
        self.release(key, owner)
        return fault

    def put_checkpoint(self, key: str, owner: str, data: bytes) -> str | None:
        """Store a checkpoint; return an error message if the store cannot be written."""
        return self._write(key, owner, data, CHECKPOINT)

    def discard(self, key: str, kind: str, reason: str) -> None:
        """Remove a file that a worker could not use although its checksum is right."""
        self._store.discard(key, kind, reason)

    def release(self, key: str, owner: str) -> None:
        """End a claim if the owner holds it."""
        if self._owners.get(key) == owner:
            self._note(_ENDED, key)
            self._store.give_back(key)

    def drop(self, owner: str) -> None:
        """End all claims of an owner that no longer runs."""
        for key in [key for key, holder in self._owners.items() if holder == owner]:
            self.release(key, owner)

    def _read(self, key: str) -> bytes | None:
        return None if self._fresh and key not in self._made else self._store.read(key)

    def _write(self, key: str, owner: str, data: bytes, kind: str) -> str | None:
        """Write for an owner unless another one holds the claim; a restarted broker may know no owner."""
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
        """Log an event and apply it, so that a later broker can replay it."""
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
    """The launching process's stage store, used by one trial in a worker through the broker."""

    gives_weights = True

    def __init__(self, ask: Callable[..., Any], owner: str, checkpoint_seconds: float) -> None:
        """Connect a trial to the broker.

        Args:
            ask: Calls a method of the broker by name, with arguments, and returns its reply.
            owner: Id of the trial.
            checkpoint_seconds: Minimum time between two checkpoints of a stage.

        """
        self.ask, self.owner, self.checkpoint_seconds = ask, owner, checkpoint_seconds

    def claim(self, key: str) -> ClaimReply:
        """Return a key's result, or claim the key; wait while another trial computes it."""
        reply: Reply = self.ask("claim", key, self.owner)
        answer = unpack(key, reply.result, reply.checkpoint, partial(self.discard, key))
        if reply.result is not None and answer.result is None:
            return self.claim(key)  # unusable and discarded: claim the key instead
        return replace(answer, waited_seconds=reply.waited_seconds, warning=reply.warning)

    def put(self, key: str, result: StageResult) -> None:
        """Store a claimed key's result and release the claim.

        Raises:
            WriteError: The store cannot be written.

        """
        self._hand_over("put", key, result.to_bytes(key))

    def put_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        """Store a checkpoint of a claimed key's stage.

        Raises:
            WriteError: The store cannot be written.

        """
        self._hand_over("put_checkpoint", key, checkpoint.to_bytes(key))

    def release(self, key: str) -> None:
        """Release a claim without a result."""
        self.ask("release", key, self.owner)

    def discard(self, key: str, kind: str, reason: str) -> None:
        """Remove a file that does not fit its key."""
        self.ask("discard", key, kind, reason)

    def _hand_over(self, call: str, key: str, data: bytes) -> None:
        fault = self.ask(call, key, self.owner, data)
        if fault is not None:
            raise WriteError(fault)
