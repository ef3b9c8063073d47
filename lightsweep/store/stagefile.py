"""Stage results and checkpoints as checksummed bytes: JSON and plain tensors, no code.

The checksum covers the key and the content, so a file stored under another key counts as damaged.
"""

import hashlib
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_core import SchemaValidator, ValidationError, core_schema

if TYPE_CHECKING:  # the broker passes results on as bytes and starts a second faster without torch
    from torch import Tensor

_MAGIC = b"lightsweep stage 3\n"
_HEADER_BYTES = len(_MAGIC) + 65
_LENGTH_BYTES = 8


class DamagedResultError(Exception):
    """Bytes are not an intact stage result."""


@dataclass(frozen=True)
class StageResult:
    """Result of a stage: weights for the next stage, numbers for the report."""

    weights: "dict[str, Tensor]"
    """The net's state after the stage, on the CPU; empty for an assessment."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """One record per epoch (`training.loop.EpochRecord`)."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Final metrics; for a stage that diverged only `diverged`, the reason."""
    seconds: float = 0.0
    """Time that the training of the stage took."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where and when it was trained: host, device, hardware, torch, source, started_at."""

    def to_bytes(self, key: str) -> bytes:
        """Return the result as bytes with a SHA-256 of key and content; about 100 KB for small nets."""
        return _pack(key, _content(self, "epochs", "metrics", "seconds", "provenance"), self.weights)

    @staticmethod
    def from_bytes(data: bytes, key: str, with_weights: bool = True) -> "StageResult":
        """Read the bytes of `to_bytes`, without running code from them (`weights_only`).

        Args:
            data: The bytes.
            key: Key under which they are stored.
            with_weights: Whether to read the weights; without them it takes a tenth of the time.

        Raises:
            DamagedResultError: The bytes are truncated, altered, of another key, or not a stage result.

        """
        content, tensors = _unpack(data, key, _RESULT, with_weights)
        return StageResult(tensors, **content)


@dataclass(frozen=True)
class Checkpoint:
    """State of an unfinished stage after an epoch: with the settings, all that its next epoch needs."""

    tensors: "dict[str, Tensor]"
    """State of the net, the optimizer and the best epoch (`training.loop.StageState`)."""
    epochs: list[dict[str, Any]]
    """One record per epoch so far."""
    seconds: float
    """Training time of the stage so far."""
    optimizer: dict[str, Any] = field(default_factory=dict)
    """Plain content of the optimizer's state: `state` by parameter, and `groups`."""

    def to_bytes(self, key: str) -> bytes:
        """Return the checkpoint as bytes with a SHA-256 of key and content.

        Raises:
            TypeError: The optimizer's state is neither tensors nor plain content.

        """
        return _pack(key, _content(self, "epochs", "seconds", "optimizer"), self.tensors)

    @staticmethod
    def from_bytes(data: bytes, key: str, with_tensors: bool = True) -> "Checkpoint":
        """Read the bytes of `to_bytes`, without running code from them (`weights_only`).

        Args:
            data: The bytes.
            key: Key under which they are stored.
            with_tensors: Whether to read the tensors.

        Raises:
            DamagedResultError: The bytes are truncated, altered, of another key, or not a checkpoint.

        """
        content, tensors = _unpack(data, key, _CHECKPOINT, with_tensors)
        return Checkpoint(tensors, **content)


def _schema(*names: str) -> SchemaValidator:
    """Return a validator of a file's JSON, which must have exactly these fields."""
    plain = core_schema.dict_schema(core_schema.str_schema())
    kinds: dict[str, Any] = {
        "epochs": core_schema.list_schema(plain),
        "metrics": plain,
        "seconds": core_schema.float_schema(ge=0, allow_inf_nan=False, strict=True),
        "provenance": plain,
        "optimizer": plain,
    }
    newer = ("optimizer",)  # absent in older files
    fields = {name: core_schema.typed_dict_field(kinds[name], required=name not in newer) for name in names}
    return SchemaValidator(core_schema.typed_dict_schema(fields, extra_behavior="forbid"))


_RESULT = _schema("epochs", "metrics", "seconds", "provenance")
_CHECKPOINT = _schema("epochs", "seconds", "optimizer")


def _checksum(key: str, payload: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(payload)
    return digest.hexdigest().encode()


def _content(item: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(item, name) for name in names}


def _pack(key: str, content: dict[str, Any], tensors: "dict[str, Tensor]") -> bytes:
    import torch

    text = json.dumps(content).encode()
    buffer = io.BytesIO()
    buffer.write(len(text).to_bytes(_LENGTH_BYTES, "big") + text)
    if tensors:
        saved = io.BytesIO()
        torch.save(tensors, saved)
        buffer.write(saved.getvalue())
    payload = buffer.getvalue()
    return _MAGIC + _checksum(key, payload) + b"\n" + payload


def _unpack(
    data: bytes, key: str, schema: SchemaValidator, with_tensors: bool
) -> "tuple[dict[str, Any], dict[str, Tensor]]":
    if not data.startswith(_MAGIC):
        raise DamagedResultError("it is not a stage file, or has another version")
    if data[len(_MAGIC) : _HEADER_BYTES] != _checksum(key, memoryview(data)[_HEADER_BYTES:]) + b"\n":
        raise DamagedResultError("its checksum does not match its content and key")
    start = _HEADER_BYTES + _LENGTH_BYTES
    end = start + int.from_bytes(data[_HEADER_BYTES:start], "big")
    try:
        content: dict[str, Any] = schema.validate_json(data[start:end])
    except ValidationError:
        raise DamagedResultError("it cannot be read (unexpected fields)") from None
    tensors: dict[str, Tensor] = {}
    if with_tensors and len(data) > end:
        import torch

        try:
            tree = torch.load(io.BytesIO(data[end:]), weights_only=True, map_location="cpu")
            tensors = {name: tensor.cpu() for name, tensor in tree.items()}
        except Exception as error:
            raise DamagedResultError(f"it cannot be read ({type(error).__name__})") from None
        if not all(isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in tensors.items()):
            raise DamagedResultError("it cannot be read (unexpected tensors)")
    return content, tensors
