"""The folder of Ray's temporary files: one for each process, and only those of dead processes are removed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANGS_SECONDS

from lightsweep.distributed.session import remove_left_behind, temporary_folder
from lightsweep.errors import InputError

HOLD = """
import sys
from lightsweep.distributed.session import temporary_folder
with temporary_folder() as folder:
    (folder / "session_x" / "sockets").mkdir(parents=True)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def root(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(short_folder))
    return short_folder / f"lightsweep-{os.getuid()}"


def other(root: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that has a folder, and return both."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(root.parent)},
    )  # fmt: skip
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_goes_at_the_end_with_all_that_is_in_it(root: Path) -> None:
    with temporary_folder() as folder:
        assert folder.parent == root
        assert root.stat().st_mode & 0o777 == 0o700
        (folder / "session_x").mkdir()
    assert list(root.iterdir()) == []


def test_a_killed_process_leaves_its_folder_to_the_next_one(root: Path) -> None:
    process, left = other(root)
    living, alive = other(root)
    process.kill()
    process.communicate(timeout=HANGS_SECONDS)
    assert left.is_dir()
    (root / "31").mkdir()  # written by a Ray that outlived its folder
    with temporary_folder() as folder:
        assert sorted(path.name for path in root.iterdir() if path.is_dir()) == sorted(
            [alive.name, folder.name]
        )
    living.communicate("", timeout=HANGS_SECONDS)
    assert list(root.iterdir()) == []


def test_what_a_killed_process_left_can_be_removed_without_a_folder_of_ones_own(root: Path) -> None:
    remove_left_behind()  # there is nothing yet
    process, left = other(root)
    living, alive = other(root)
    process.kill()
    process.communicate(timeout=HANGS_SECONDS)
    remove_left_behind()
    assert (left.exists(), alive.exists()) == (False, True)
    living.communicate("", timeout=HANGS_SECONDS)


def test_links_are_removed_not_followed(root: Path) -> None:
    (root.parent / "mine").mkdir()
    (root.parent / "mine/letters").touch()
    root.mkdir(mode=0o700)
    (root / "1").symlink_to(root.parent / "mine")
    (root / "2.lock").symlink_to(root.parent / "mine/letters")
    with temporary_folder():
        pass
    assert (root.parent / "mine/letters").exists()


@pytest.mark.parametrize("trap", ["a link", "open to all", "a file"])
def test_a_root_that_others_could_have_made_is_refused(root: Path, trap: str) -> None:
    if trap == "a link":
        (root.parent / "theirs").mkdir()
        root.symlink_to(root.parent / "theirs")
    elif trap == "open to all":
        root.mkdir()
        root.chmod(0o777)
    else:
        root.touch()
    with pytest.raises(
        InputError, match=r"is not a folder that only you can write to|cannot be written there"
    ):
        temporary_folder().__enter__()


def test_a_path_too_long_for_sockets_is_refused_with_the_remedy(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(root.parent / ("x" * 80)))
    with pytest.raises(InputError, match=r"is \d+ characters too long.*set a shorter TMPDIR, such as /tmp"):
        temporary_folder().__enter__()


def test_a_missing_temporary_folder_is_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(root.parent / "a/b"))
    with temporary_folder() as folder:
        assert folder.is_dir()
