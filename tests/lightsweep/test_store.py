import hashlib
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightsweep.models import build
from lightsweep.spec import InputError, ModelSpec
from lightsweep.store import DamagedResultError, FolderStore, StageResult, stage_file

KEY, OTHER_KEY = "ab" * 32, "cd" * 32
MAGIC = b"lightsweep stage 1\n"


def some_result(size: int = 5) -> StageResult:
    return StageResult(
        weights={"a.head.weight": torch.arange(size, dtype=torch.float32), "steps": torch.tensor(3)},
        epochs=[{"epoch": 1, "val_accuracy": 0.1 + 0.2, "val_accuracy_heads": [0.5, 0.25]}],
        metrics={"network": "heads", "kept_epoch": 1, "reason": None},
        seconds=1.5,
        provenance={"host": "h", "device": "cpu"},
    )


def assert_same(one: StageResult | None, other: StageResult) -> None:
    assert one is not None
    assert one.weights.keys() == other.weights.keys()
    for name, tensor in other.weights.items():
        found = one.weights[name]
        assert (found.dtype, found.shape, found.device) == (tensor.dtype, tensor.shape, tensor.device)
        assert found.numpy(force=True).tobytes() == tensor.numpy(force=True).tobytes()
    for field in ("epochs", "metrics", "seconds", "provenance"):
        assert getattr(one, field) == getattr(other, field)


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
    assert_same(StageResult.from_bytes(result.to_bytes()), result)


def test_a_nets_weights_survive() -> None:
    net = build(ModelSpec(batch_norm=True), (1, 28, 28), 10, "fused", seed=0)
    result = StageResult(weights={name: t.contiguous() for name, t in net.state_dict().items()})
    data = result.to_bytes()
    assert_same(StageResult.from_bytes(data), result)
    assert len(data) < 100_000
    net.load_state_dict(StageResult.from_bytes(data).weights)


def test_every_truncation_is_noticed() -> None:
    data = some_result().to_bytes()
    for length in range(len(data)):
        with pytest.raises(DamagedResultError):
            StageResult.from_bytes(data[:length])


def test_every_flipped_bit_is_noticed() -> None:
    """In the first and last kilobyte each bit, in between each byte."""
    data = bytearray(some_result().to_bytes())
    for index in range(len(data)):
        edge = index < 1024 or index >= len(data) - 1024
        for bit in range(8) if edge else [index % 8]:
            data[index] ^= 1 << bit
            with pytest.raises(DamagedResultError):
                StageResult.from_bytes(bytes(data))
            data[index] ^= 1 << bit
    assert_same(StageResult.from_bytes(bytes(data)), some_result())


@pytest.mark.parametrize("more", [b"\0", b"\n", MAGIC, some_result().to_bytes()])
def test_bytes_too_many_are_noticed(more: bytes) -> None:
    with pytest.raises(DamagedResultError):
        StageResult.from_bytes(some_result().to_bytes() + more)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_result(data: bytes) -> None:
    for some in (data, MAGIC + data, signed(data)):
        with pytest.raises(DamagedResultError):
            StageResult.from_bytes(some)


def signed(payload: bytes) -> bytes:
    """Give foreign content the header that a result has."""
    return MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


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
        StageResult.from_bytes(signed(payload))
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
        StageResult.from_bytes(signed(saved(tree)))


def test_a_store_gives_back_what_was_put(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "new" / "folder")
    assert store.get(KEY) is None
    store.put(KEY, some_result())
    assert_same(store.get(KEY), some_result())
    assert_same(FolderStore(store.folder).get(KEY), some_result())
    assert store.get(OTHER_KEY) is None
    store.put(KEY, some_result(9))
    assert_same(store.get(KEY), some_result(9))
    assert [path for path in store.folder.rglob("*") if path.is_file()] == [stage_file(store.folder, KEY)]


def test_stage_files_are_spread_over_folders() -> None:
    assert stage_file(Path("s"), KEY) == Path("s") / "ab" / f"{KEY}.stage"


@pytest.mark.parametrize("key", ["", "ab", "../" + KEY, KEY.upper(), KEY + "0", "g" * 64])
def test_what_is_no_key_is_no_file(key: str) -> None:
    with pytest.raises(AssertionError):
        stage_file(Path("s"), key)


DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "a byte short": lambda data: data[:-1],
    "altered": lambda data: data[:-200] + bytes([data[-200] ^ 4]) + data[-199:],
    "zeros": lambda data: bytes(len(data)),
    "foreign": lambda data: b"PK\3\4" + data,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_discarded_with_one_warning(tmp_path: Path, damage: Any) -> None:
    store = FolderStore(tmp_path)
    store.put(KEY, some_result())
    store.put(OTHER_KEY, some_result())
    path = stage_file(tmp_path, KEY)
    path.write_bytes(damage(path.read_bytes()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert store.get(KEY) is None
    assert [str(warning.message) for warning in caught] == [
        f"stage result {path} is discarded and trained again: its checksum does not fit its content"
    ]
    assert not path.exists()
    assert store.get(KEY) is None  # without a warning, which would be an error
    store.put(KEY, some_result())
    assert_same(store.get(KEY), some_result())
    assert_same(store.get(OTHER_KEY), some_result())


@pytest.mark.parametrize("method", ["replace", "write_bytes"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["fault", "interrupted"])
def test_a_failing_write_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, error: BaseException
) -> None:
    store = FolderStore(tmp_path)
    store.put(OTHER_KEY, some_result())
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    real_write = Path.write_bytes

    def fail(self: Path, argument: Any) -> None:
        if method == "write_bytes":
            real_write(self, argument[: len(argument) // 2])
        raise error

    monkeypatch.setattr(Path, method, fail)
    for key in (KEY, OTHER_KEY):
        with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
            store.put(key, some_result(9))
    monkeypatch.undo()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    assert store.get(KEY) is None
    assert_same(store.get(OTHER_KEY), some_result())


def test_a_folder_that_cannot_be_made_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError) as caught:
        FolderStore(tmp_path / "file" / "store")
    assert str(caught.value) == (
        f"{tmp_path / 'file' / 'store'}: cannot be written (Not a directory); --out says where runs go"
    )
    with pytest.raises(InputError, match=r"cannot be written \(File exists\)"):
        FolderStore(tmp_path / "file")


def test_a_folder_in_the_place_of_a_result_is_no_result(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    stage_file(tmp_path, KEY).mkdir(parents=True)
    with pytest.warns(UserWarning, match="discarded"):
        assert store.get(KEY) is None
