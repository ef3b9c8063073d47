"""The store's folder: whole files or none, claims that end with their process, limits and leftovers."""

import errno
import fcntl
import hashlib
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from stage_results import some_result

from lightsweep.errors import InputError, WriteError
from lightsweep.store.claims import ClaimReply, LocalStore, LookUps, NotStoredError
from lightsweep.store.folder import CHECKPOINT, TEMPORARY, FolderStore, stage_file
from lightsweep.store.stagefile import Checkpoint

KEY, OTHER_KEY = "ab" * 32, "cd" * 32
MAGIC = b"lightsweep stage 3\n"


def files(store: FolderStore) -> list[Path]:
    """List all files but the one whose bytes are locked."""
    return sorted(path for path in store.folder.rglob("*") if path.is_file() and path.name != "claims")


def test_a_store_gives_back_what_was_put(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "new" / "folder")
    assert store.read(KEY) is None
    store.write(KEY, some_result().to_bytes(KEY))
    assert store.read(KEY) == some_result().to_bytes(KEY)
    assert FolderStore(store.folder).read(KEY) == some_result().to_bytes(KEY)
    assert store.read(OTHER_KEY) is None
    store.write(KEY, some_result(9).to_bytes(KEY))
    assert store.read(KEY) == some_result(9).to_bytes(KEY)
    assert files(store) == [stage_file(store.folder, KEY)]


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
    store.write(KEY, some_result().to_bytes(KEY))
    store.write(OTHER_KEY, some_result().to_bytes(OTHER_KEY))
    path = stage_file(tmp_path, KEY)
    path.write_bytes(damage(path.read_bytes()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert store.read(KEY) is None
    (said,) = [str(warning.message) for warning in caught]
    assert said.startswith(f"stage result {path} is discarded and trained again: it")
    assert not path.exists()
    assert store.read(KEY) is None  # without a warning, which would be an error
    store.write(KEY, some_result().to_bytes(KEY))
    assert store.read(KEY) == some_result().to_bytes(KEY)
    assert store.read(OTHER_KEY) == some_result().to_bytes(OTHER_KEY)


@pytest.mark.parametrize("method", ["replace", "write_bytes"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["fault", "interrupted"])
def test_a_failing_write_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, error: BaseException
) -> None:
    store = FolderStore(tmp_path)
    store.write(OTHER_KEY, some_result().to_bytes(OTHER_KEY))
    before = files(store)
    real_write = Path.write_bytes

    def fail(self: Path, argument: Any) -> None:
        if method == "write_bytes":
            real_write(self, argument[: len(argument) // 2])
        raise error

    monkeypatch.setattr(Path, method, fail)
    for key in (KEY, OTHER_KEY):
        with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
            store.write(key, some_result(9).to_bytes(key))
    monkeypatch.undo()
    assert files(store) == before
    assert store.read(KEY) is None
    assert store.read(OTHER_KEY) == some_result().to_bytes(OTHER_KEY)


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
        assert store.read(KEY) is None


CLAIM = """
import sys
from pathlib import Path
from lightsweep.store.folder import FolderStore
store = FolderStore(Path(sys.argv[1]))
for line in sys.stdin:
    what, key = line.split()
    print(getattr(store, what)(key), flush=True)
"""


class OtherProcess:
    """A store on the same folder in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, what: str, key: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what} {key}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[OtherProcess]:
    process = OtherProcess(tmp_path)
    yield process
    process.kill()


def test_a_claim_is_of_one_process_until_it_is_given_back(tmp_path: Path, other: OtherProcess) -> None:
    store = FolderStore(tmp_path)
    assert other("try_claim", KEY) == "True"
    assert not store.try_claim(KEY)
    assert store.try_claim(OTHER_KEY)
    assert other("try_claim", OTHER_KEY) == "False"
    assert other("try_claim", KEY) == "True"  # its own
    other("give_back", KEY)
    assert store.try_claim(KEY)
    assert other("try_claim", KEY) == "False"


def test_a_killed_process_claims_nothing(tmp_path: Path, other: OtherProcess) -> None:
    store = FolderStore(tmp_path)
    assert other("try_claim", KEY) == "True"
    other.kill()
    assert store.try_claim(KEY)


def test_leftovers_of_killed_writers_go_and_those_of_living_ones_stay(
    tmp_path: Path, other: OtherProcess
) -> None:
    store = FolderStore(tmp_path)
    store.write(KEY, some_result().to_bytes(KEY))
    drafts = [store.path(key, TEMPORARY) for key in (KEY, OTHER_KEY)]
    for draft in drafts:
        draft.parent.mkdir(exist_ok=True)
        draft.write_bytes(b"half")
    assert other("try_claim", OTHER_KEY) == "True"
    store.remove_leftovers()
    assert [draft.exists() for draft in drafts] == [False, True]
    other.kill()
    store.remove_leftovers()
    assert files(store) == [stage_file(tmp_path, KEY)]


def test_what_somebody_makes_just_now_is_not_removed(tmp_path: Path, other: OtherProcess) -> None:
    store = FolderStore(tmp_path)
    for key in (KEY, OTHER_KEY):
        store.write(key, some_result().to_bytes(key))
    assert other("try_claim", KEY) == "True"
    assert [entry.key for entry in store.remove(list(store.entries()))] == [OTHER_KEY]
    assert [entry.key for entry in store.entries()] == [KEY]


def test_a_result_takes_its_checkpoints_place(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    data = Checkpoint({"net.w": torch.ones(2)}, [{"epoch": 1}], 3.0).to_bytes(KEY)
    store.write(KEY, data, CHECKPOINT)
    assert store.read(KEY, CHECKPOINT) == data
    assert not store.has(KEY)
    assert [(entry.key, entry.is_checkpoint, entry.size_bytes) for entry in store.entries()] == [
        (KEY, True, len(data))
    ]
    store.write(KEY, some_result().to_bytes(KEY))
    assert store.read(KEY, CHECKPOINT) is None
    assert [entry.is_checkpoint for entry in store.entries()] == [False]


def test_a_damaged_checkpoint_is_discarded_with_one_warning(tmp_path: Path) -> None:
    said: list[str] = []
    store = FolderStore(tmp_path, said.append)
    store.write(KEY, some_result().to_bytes(KEY), CHECKPOINT)  # whole, but no checkpoint
    assert store.read(KEY, CHECKPOINT) is None
    path = store.path(KEY, CHECKPOINT)
    why = "it cannot be read (unexpected fields)"
    assert said == [f"checkpoint {path} is discarded and trained again: {why}"]
    assert files(store) == []


def test_foreign_files_are_no_entries(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for name in ("README.md", "ab/notes.stage", "ab/x.tmp", f"abc/{KEY}.stage"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = files(store)
    store.remove_leftovers()
    assert list(store.entries()) == []
    assert files(store) == before


@pytest.mark.parametrize("text", ["", "[]", "{", '{"limit_bytes": "much"}', "{}"])
def test_settings_that_cannot_be_read_set_no_limit(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    assert FolderStore(tmp_path).limit_bytes() is None


def test_a_limit_is_kept(tmp_path: Path) -> None:
    assert FolderStore(tmp_path).limit_bytes() is None
    FolderStore(tmp_path).set_limit(12345)
    assert FolderStore(tmp_path).limit_bytes() == 12345
    FolderStore(tmp_path).set_limit(None)
    assert FolderStore(tmp_path).limit_bytes() is None


def test_look_ups_answer_without_weights_and_have_nobody_train(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.write(KEY, some_result().to_bytes(KEY))
    answer = LookUps(store).claim(KEY)
    assert answer.result is not None
    assert answer.result.weights == {}
    assert answer.result.epochs == some_result().epochs
    with pytest.raises(NotStoredError):
        LookUps(store).claim(OTHER_KEY)


def test_a_right_checksum_on_what_is_no_result_is_noticed_by_who_reads_the_tensors(tmp_path: Path) -> None:
    said: list[str] = []
    store = FolderStore(tmp_path, said.append)
    whole = some_result().to_bytes(KEY)
    payload = whole[len(MAGIC) + 65 :].replace(b"PK", b"KP")
    store.write(KEY, MAGIC + hashlib.sha256(KEY.encode() + payload).hexdigest().encode() + b"\n" + payload)
    assert LocalStore(store).claim(KEY) == ClaimReply()
    (line,) = said
    assert line.startswith(
        f"stage result {stage_file(tmp_path, KEY)} is discarded and trained again: it cannot"
    )
    assert files(store) == []


def test_a_file_system_without_locks_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(WriteError, match=r"files cannot be locked there \(No locks available\).*--out"):
        FolderStore(tmp_path)
