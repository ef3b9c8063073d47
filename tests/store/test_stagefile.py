"""Stage results as bytes: given back bit for bit, or noticed as damaged; never code."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_results import assert_same, some_result
from torch import Tensor

from lightsweep.nets.models import build
from lightsweep.store.stagefile import Checkpoint, DamagedResultError, StageResult
from lightsweep.sweepfile.net import ModelSpec

MAGIC = b"lightsweep stage 3\n"
KEY, OTHER_KEY = "ab" * 32, "cd" * 32
DTYPES = [torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Draw tensors of all kinds, infinities and NaN included, with and without dimensions."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    tensor = (torch.randn(shape, generator=generator) * 9).to(dtype)
    if dtype.is_floating_point and tensor.numel() and draw(st.booleans()):
        tensor.flatten()[0] = draw(st.sampled_from([float("inf"), float("nan"), -0.0, 1e-45]))
    return tensor


numbers = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
json_values = st.recursive(
    numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=3)
results = st.builds(
    StageResult,
    weights=st.dictionaries(st.text(), tensors(), max_size=3),
    epochs=st.lists(json_objects, max_size=3),
    metrics=json_objects,
    seconds=st.floats(0, 1e9),
    provenance=json_objects,
)


@given(results)
@settings(max_examples=50)
def test_bytes_give_the_result_back_bit_for_bit(result: StageResult) -> None:
    assert_same(StageResult.from_bytes(result.to_bytes(KEY), KEY), result)


def test_a_nets_weights_survive() -> None:
    net = build(ModelSpec(batch_norm=True), (1, 28, 28), 10, "fused", seed=0)
    result = StageResult(weights={name: t.contiguous() for name, t in net.state_dict().items()})
    data = result.to_bytes(KEY)
    assert_same(StageResult.from_bytes(data, KEY), result)
    assert len(data) < 100_000
    net.load_state_dict(StageResult.from_bytes(data, KEY).weights)


def test_every_truncation_is_noticed() -> None:
    data = some_result().to_bytes(KEY)
    for length in range(len(data)):
        with pytest.raises(DamagedResultError):
            StageResult.from_bytes(data[:length], KEY)


def test_every_flipped_bit_is_noticed() -> None:
    """In the first and last kilobyte each bit, in between each byte."""
    data = bytearray(some_result().to_bytes(KEY))
    for index in range(len(data)):
        edge = index < 1024 or index >= len(data) - 1024
        for bit in range(8) if edge else [index % 8]:
            data[index] ^= 1 << bit
            with pytest.raises(DamagedResultError):
                StageResult.from_bytes(bytes(data), KEY)
            data[index] ^= 1 << bit
    assert_same(StageResult.from_bytes(bytes(data), KEY), some_result())


@pytest.mark.parametrize("more", [b"\0", b"\n", MAGIC, some_result().to_bytes(KEY)])
def test_bytes_too_many_are_noticed(more: bytes) -> None:
    with pytest.raises(DamagedResultError):
        StageResult.from_bytes(some_result().to_bytes(KEY) + more, KEY)


def test_another_keys_result_is_noticed() -> None:
    """Two files of a store that were exchanged: each is whole, and neither is what its name says."""
    with pytest.raises(DamagedResultError, match="its checksum does not match its content and key"):
        StageResult.from_bytes(some_result().to_bytes(OTHER_KEY), KEY)
    checkpoint = Checkpoint({}, [], 1.0).to_bytes(OTHER_KEY)
    with pytest.raises(DamagedResultError, match="content and key"):
        Checkpoint.from_bytes(checkpoint, KEY)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_result(data: bytes) -> None:
    for some in (data, MAGIC + data, signed(data)):
        with pytest.raises(DamagedResultError):
            StageResult.from_bytes(some, KEY)


def signed(payload: bytes) -> bytes:
    """Give foreign content the header that a result has."""
    return MAGIC + hashlib.sha256(KEY.encode() + payload).hexdigest().encode() + b"\n" + payload


def saved(tree: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    return buffer.getvalue()


class Bomb:
    """What a pickle that runs code consists of."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("where", ["pickle", "saved", "inside"])
def test_a_foreign_pickle_is_refused_and_its_code_not_run(tmp_path: Path, where: str) -> None:
    ran = tmp_path / "ran"
    bomb = Bomb(ran)
    payload = {
        "pickle": lambda: pickle.dumps(bomb),
        "saved": lambda: saved(bomb),
        "inside": lambda: saved({"weights": {"w": torch.zeros(1)}, "json": "{}", "more": bomb}),
    }[where]()
    with pytest.raises(DamagedResultError, match=r"it cannot be read \("):
        StageResult.from_bytes(signed(payload), KEY)
    assert not ran.exists()
    if where == "pickle":
        pickle.loads(payload)
        assert ran.exists()  # the bomb is a real one


@pytest.mark.parametrize(
    "tree",
    [[], {}, {"weights": {}}, {"weights": {}, "json": "{"}, {"weights": {}, "json": "[]"},
     {"weights": {}, "json": '{"other": 1}'}, torch.zeros(3)],
    ids=str,
)  # fmt: skip
def test_whole_files_of_something_else_are_refused(tree: Any) -> None:
    with pytest.raises(DamagedResultError):
        StageResult.from_bytes(signed(saved(tree)), KEY)
