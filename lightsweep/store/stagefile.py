"""What a stage made, or has made so far, as bytes that can be checked: JSON and plain tensors, no code.

The checksum is of the key and the content: what stands under another key is as good as damaged.
"""

import hashlib
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_core import SchemaValidator, ValidationError, core_schema

if TYPE_CHECKING:  # the broker passes results on as bytes, and starts a second earlier without torch
    from torch import Tensor

_MAGIC = b"lightsweep stage 3\n"
_HEADER_BYTES = len(_MAGIC) + 65
_LENGTH_BYTES = 8


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

    def to_bytes(self, key: str) -> bytes:
        """Return the result of a key as bytes with a SHA-256 of both, some 100 KB for the nets at hand."""
        return _pack(key, _content(self, "epochs", "metrics", "seconds", "provenance"), self.weights)

    @staticmethod
    def from_bytes(data: bytes, key: str, with_weights: bool = True) -> "StageResult":
        """Read bytes of `to_bytes`; runs no code from them (`weights_only`).

        Args:
            data: The bytes.
            key: What they stand under.
            with_weights: Whether the weights are wanted; without them it takes a tenth of the time.

        Raises:
            DamagedResultError: The bytes are cut, altered, another key's, or something else.

        """
        content, tensors = _unpack(data, key, _RESULT, with_weights)
        return StageResult(tensors, **content)


@dataclass(frozen=True)
class Checkpoint:
    """A stage under way, after an epoch: all that its next epoch depends on, besides the settings."""

    tensors: "dict[str, Tensor]"
    """The net's, the optimizer's and the best epoch's state (`train.StageState`)."""
    epochs: list[dict[str, Any]]
    """A record per epoch so far."""
    seconds: float
    """Time that the stage took so far."""

    def to_bytes(self, key: str) -> bytes:
        """Return the checkpoint of a key as bytes with a SHA-256 of both."""
        return _pack(key, _content(self, "epochs", "seconds"), self.tensors)

    @staticmethod
    def from_bytes(data: bytes, key: str, with_tensors: bool = True) -> "Checkpoint":
        """Read bytes of `to_bytes`, as safely as a result's.

        Args:
            data: The bytes.
            key: What they stand under.
            with_tensors: Whether the tensors are wanted.

        Raises:
            DamagedResultError: The bytes are cut, altered, another key's, or something else.

        """
        content, tensors = _unpack(data, key, _CHECKPOINT, with_tensors)
        return Checkpoint(tensors, **content)


def _schema(*names: str) -> SchemaValidator:
    """Return what the JSON of a file must be: exactly these fields."""
    plain = core_schema.dict_schema(core_schema.str_schema())
    kinds: dict[str, Any] = {
        "epochs": core_schema.list_schema(plain),
        "metrics": plain,
        "seconds": core_schema.float_schema(ge=0, allow_inf_nan=False, strict=True),
        "provenance": plain,
    }
    fields = {name: core_schema.typed_dict_field(kinds[name]) for name in names}
    return SchemaValidator(core_schema.typed_dict_schema(fields, extra_behavior="forbid"))


_RESULT = _schema("epochs", "metrics", "seconds", "provenance")
_CHECKPOINT = _schema("epochs", "seconds")


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
        raise DamagedResultError("it is no stage file, or one of another version")
    if data[len(_MAGIC) : _HEADER_BYTES] != _checksum(key, memoryview(data)[_HEADER_BYTES:]) + b"\n":
        raise DamagedResultError("its checksum does not fit its content and its key")
    start = _HEADER_BYTES + _LENGTH_BYTES
    end = start + int.from_bytes(data[_HEADER_BYTES:start], "big")
    try:
        content: dict[str, Any] = schema.validate_json(data[start:end])
    except ValidationError:
        raise DamagedResultError("it cannot be read (other fields)") from None
    tensors: dict[str, Tensor] = {}
    if with_tensors and len(data) > end:
        import torch

        try:
            tree = torch.load(io.BytesIO(data[end:]), weights_only=True, map_location="cpu")
            tensors = {name: tensor.cpu() for name, tensor in tree.items()}
        except Exception as error:
            raise DamagedResultError(f"it cannot be read ({type(error).__name__})") from None
        if not all(isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in tensors.items()):
            raise DamagedResultError("it cannot be read (other tensors)")
    return content, tensors
