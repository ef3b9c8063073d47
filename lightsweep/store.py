"""Stage results by their key: what a stage made, as bytes that can be checked, and where they are kept."""

import contextlib
import hashlib
import io
import json
import os
import re
import uuid
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lightsweep.spec import InputError

_MAGIC = b"lightsweep stage 1\n"
_KEY = re.compile(r"[0-9a-f]{64}")


class DamagedResultError(Exception):
    """Bytes are not a whole stage result."""


@dataclass(frozen=True)
class StageResult:
    """What a stage made: weights for the next stage, numbers for the report. Plain tensors and JSON."""

    weights: dict[str, Tensor]
    """The net's state after the stage, on the CPU; empty for an assessment."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """A record per epoch (`train.EpochRecord`)."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Final numbers."""
    seconds: float = 0.0
    """Time that the stage took where it was trained."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where and when it was trained: host, device, started_at."""

    def to_bytes(self) -> bytes:
        """Return the result as bytes with a SHA-256 of their content, some 100 KB for the nets at hand."""
        content = {"epochs": self.epochs, "metrics": self.metrics, "seconds": self.seconds}
        text = json.dumps({**content, "provenance": self.provenance})
        buffer = io.BytesIO()
        torch.save({"weights": self.weights, "json": text}, buffer)
        payload = buffer.getvalue()
        return _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload

    @staticmethod
    def from_bytes(data: bytes) -> "StageResult":
        """Read bytes of `to_bytes`; runs no code from them (`weights_only`).

        Raises:
            DamagedResultError: The bytes are cut, altered, or something else.

        """
        header, payload = data[: len(_MAGIC) + 65], data[len(_MAGIC) + 65 :]
        if header != _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n":
            raise DamagedResultError("its checksum does not fit its content")
        try:
            tree = torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
            weights: dict[str, Tensor] = {name: tensor.cpu() for name, tensor in tree["weights"].items()}
            return StageResult(weights=weights, **json.loads(tree["json"]))
        except Exception as error:
            raise DamagedResultError(f"it cannot be read ({type(error).__name__})") from None


class StageStore(Protocol):
    """Where stage results are looked up and kept."""

    def get(self, key: str) -> StageResult | None:
        """Return the result of a key, or None where there is none."""

    def put(self, key: str, result: StageResult) -> None:
        """Keep a result under its key."""


def stage_file(folder: Path, key: str) -> Path:
    """Return the file of a key; two of its digits are a folder, so that none gets too full."""
    assert _KEY.fullmatch(key), key
    return folder / key[:2] / f"{key}.stage"


class FolderStore:
    """A folder with a file per stage result, written atomically and checked when read."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, made if it is not there.

        Raises:
            InputError: The folder cannot be made or written.

        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be written ({error.strerror}); --out says where runs go"
            ) from None

    def get_bytes(self, key: str) -> bytes | None:
        """Return a result's bytes if they are whole; a damaged file is removed with a warning."""
        path = stage_file(self.folder, key)
        try:
            data = path.read_bytes()
            StageResult.from_bytes(data)
        except FileNotFoundError:
            return None
        except (OSError, DamagedResultError) as error:
            warnings.warn(f"stage result {path} is discarded and trained again: {error}", stacklevel=2)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        return data

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write a result's bytes: whole or not at all, whatever happens meanwhile.

        Raises:
            InputError: The file cannot be written.

        """
        path = stage_file(self.folder, key)
        temporary = path.with_suffix(f".{os.getpid()}-{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); --out says where runs go"
            ) from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def get(self, key: str) -> StageResult | None:
        """Return the result of a key, or None."""
        data = self.get_bytes(key)
        return None if data is None else StageResult.from_bytes(data)

    def put(self, key: str, result: StageResult) -> None:
        """Keep a result."""
        self.put_bytes(key, result.to_bytes())
