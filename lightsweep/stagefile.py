"""What a stage made, or has made so far, as bytes that can be checked: JSON and plain tensors, no code."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # the broker passes results on as bytes, and starts a second earlier without torch
    from torch import Tensor

_MAGIC = b"lightsweep stage 2\n"
_HEADER_BYTES = len(_MAGIC) + 65
_LENGTH_BYTES = 8
_Kind = TypeVar("_Kind")


class DamagedResultError(Exception):
    """Bytes are not a whole stage result."""


@dataclass(frozen=True)
class StageResult:
    """What a stage made: weights for the next stage, numbers for the report."""

    weights: "dict[str, Tensor]"
    """The net's state after the stage, on the CPU; empty for an assessment."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """A record per epoch (`train.EpochRecord`)."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Final numbers; of a stage that left the finite numbers only `diverged`, the reason."""
    seconds: float = 0.0
    """Time that the stage took where it was trained."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where and when it was trained: host, device, hardware, torch, started_at."""

    def to_bytes(self) -> bytes:
        """Return the result as bytes with a SHA-256 of their content, some 100 KB for the nets at hand."""
        return _pack(_content(self, "epochs", "metrics", "seconds", "provenance"), self.weights)

    @staticmethod
    def from_bytes(data: bytes, with_weights: bool = True) -> "StageResult":
        """Read bytes of `to_bytes`; runs no code from them (`weights_only`).

        Args:
            data: The bytes.
            with_weights: Whether the weights are wanted; without them it takes a tenth of the time.

        Raises:
            DamagedResultError: The bytes are cut, altered, or something else.

        """
        content, tensors = _unpack(data, with_weights)
        return _build(StageResult, content, weights=tensors)


@dataclass(frozen=True)
class Checkpoint:
    """A stage under way, after an epoch: all that its next epoch depends on, besides the settings."""

    tensors: "dict[str, Tensor]"
    """The net's, the optimizer's and the best epoch's state (`train.StageState`)."""
    epochs: list[dict[str, Any]]
    """A record per epoch so far."""
    seconds: float
    """Time that the stage took so far."""

    def to_bytes(self) -> bytes:
        """Return the checkpoint as bytes with a SHA-256 of their content."""
        return _pack(_content(self, "epochs", "seconds"), self.tensors)

    @staticmethod
    def from_bytes(data: bytes, with_tensors: bool = True) -> "Checkpoint":
        """Read bytes of `to_bytes`, as safely as a result's.

        Args:
            data: The bytes.
            with_tensors: Whether the tensors are wanted.

        Raises:
            DamagedResultError: The bytes are cut, altered, or something else.

        """
        content, tensors = _unpack(data, with_tensors)
        return _build(Checkpoint, content, tensors=tensors)


def _check(data: bytes) -> None:
    payload = memoryview(data)[_HEADER_BYTES:]
    if data[:_HEADER_BYTES] != _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n":
        raise DamagedResultError("its checksum does not fit its content")


def _content(item: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(item, name) for name in names}


def _pack(content: dict[str, Any], tensors: "dict[str, Tensor]") -> bytes:
    import torch

    text = json.dumps(content).encode()
    buffer = io.BytesIO()
    buffer.write(len(text).to_bytes(_LENGTH_BYTES, "big") + text)
    if tensors:
        saved = io.BytesIO()
        torch.save(tensors, saved)
        buffer.write(saved.getvalue())
    payload = buffer.getvalue()
    return _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def _unpack(data: bytes, with_tensors: bool) -> "tuple[dict[str, Any], dict[str, Tensor]]":
    _check(data)
    start = _HEADER_BYTES + _LENGTH_BYTES
    end = start + int.from_bytes(data[_HEADER_BYTES:start], "big")
    try:
        content: dict[str, Any] = json.loads(data[start:end])
        tensors: dict[str, Tensor] = {}
        if with_tensors and len(data) > end:
            import torch

            tree = torch.load(io.BytesIO(data[end:]), weights_only=True, map_location="cpu")
            tensors = {name: tensor.cpu() for name, tensor in tree.items()}
    except Exception as error:
        raise DamagedResultError(f"it cannot be read ({type(error).__name__})") from None
    return content, tensors


def _build(kind: Callable[..., _Kind], content: dict[str, Any], **tensors: "dict[str, Tensor]") -> _Kind:
    try:
        return kind(**tensors, **content)
    except TypeError:
        raise DamagedResultError("it cannot be read (other fields)") from None
