"""Libraries are made by whatever compiler is there, or none are; what is there already stays."""

import os
import stat
from pathlib import Path

import pytest
from giving_up import give_up

from lightsweep.kernels import compiling

LEVELS = compiling.levels()


@pytest.fixture(autouse=True)
def _kind() -> None:
    if not LEVELS:
        give_up("there are kernels for x86-64 and arm64 only")


@pytest.fixture
def compilers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, and no package index."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    for name in ("PIP_NO_INDEX", "PIP_DISABLE_PIP_VERSION_CHECK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def write_compiler(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod((folder / name).stat().st_mode | stat.S_IXUSR)


IMITATED = 'while [ "$1" != -o ]; do shift; done; echo made > "$2"'


def test_without_any_compiler_nothing_is_made_and_nothing_is_raised(compilers: Path, tmp_path: Path) -> None:
    assert compiling.compile_all(tmp_path) == []
    assert list(tmp_path.iterdir()) == [compilers]


def test_a_compiler_that_fails_is_passed_over_and_leaves_no_file(compilers: Path, tmp_path: Path) -> None:
    write_compiler(compilers, "cc", "exit 1")
    write_compiler(compilers, "gcc", IMITATED.replace("echo", "/bin/echo"))
    made = compiling.compile_all(tmp_path)
    assert made == [compiling.library_file(level, tmp_path) for level in LEVELS]
    assert {file.read_text() for file in made} == {"made\n"}
    (compilers / "gcc").unlink()
    for file in made:
        file.unlink()
    assert compiling.compile_all(tmp_path) == []
    assert list(tmp_path.iterdir()) == [compilers]


def test_what_is_newer_than_its_source_is_not_made_again(compilers: Path, tmp_path: Path) -> None:
    write_compiler(compilers, "cc", IMITATED)
    made = compiling.compile_all(tmp_path)
    write_compiler(compilers, "cc", IMITATED.replace("made", "again"))
    assert compiling.compile_all(tmp_path) == made
    assert {file.read_text() for file in made} == {"made\n"}
    os.utime(made[0], (1, 1))
    compiling.compile_all(tmp_path)
    assert {file.read_text() for file in made} == {"again\n"}
