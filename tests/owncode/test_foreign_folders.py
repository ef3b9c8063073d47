"""Reading a run's folder runs no code; code of a folder from elsewhere runs only where it is asked for."""

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from own_code import FILES, write_files, write_sweep
from plain_cluster import ThisProcess
from rich.console import Console

from lightsweep import front
from lightsweep.cli.main import cli
from lightsweep.errors import InputError
from lightsweep.owncode import sources, trust
from lightsweep.owncode.archive import read_archive
from lightsweep.owncode.reference import parse_reference
from lightsweep.runs.run import run_sweep

MARK = "from pathlib import Path\nPath({!r}).write_text('it ran')\n"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a user who has run nothing yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    forget(monkeypatch)
    return tmp_path / "state"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget all code, as a new process has."""
    monkeypatch.setattr(trust, "_TRUSTED", set())
    monkeypatch.setattr(sources, "_KNOWN", {})
    for name, module in list(sys.modules.items()):
        if name.startswith("lightsweep."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


@pytest.fixture
def foreign(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Make a run's folder whose code writes a mark wherever it is loaded; forget that it ran here."""
    mark = tmp_path / "mark"
    files = {name: MARK.format(str(mark)) + text for name, text in FILES.items()}
    write_files(tmp_path / "theirs", files)
    base = {"model": {"net": "net.py:build"}, "augmentation": [{"transform": "aug.py:darken"}]}
    sweep = write_sweep(tmp_path / "theirs", base)
    planned = front.plan(front.load_sweep(sweep), tmp_path)
    console = Console(quiet=True)
    folder = run_sweep(planned, tmp_path / "runs", tmp_path, ThisProcess(), False, False, console).folder
    assert mark.is_file()
    mark.unlink()
    shutil.rmtree(state)
    forget(monkeypatch)
    return folder, mark


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def trial_of(folder: Path) -> str:
    entries = json.loads((folder / "plan.json").read_text())
    return str(entries[0]["trial_id"])


def test_reading_commands_run_nothing_of_a_folder(foreign: tuple[Path, Path]) -> None:
    folder, mark = foreign
    for command in (
        ("status", folder),
        ("show", folder, trial_of(folder)),
        ("report", folder),
        ("store", "--out", folder.parent),
    ):
        assert call(*command).exit_code == 0, command
    assert not mark.exists()


def test_commands_that_need_the_code_refuse_it_and_say_which_file(
    foreign: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, mark = foreign
    trial = trial_of(folder)
    commands = [
        ("verify", folder, trial, "--data-dir", tmp_path),
        ("export", folder, trial, "-o", tmp_path / "net.onnx", "--data-dir", tmp_path),
        ("costs", folder, "--data-dir", tmp_path),
        ("plan", folder / "sweep.yaml", "--data-dir", tmp_path),
    ]
    for command in commands:
        error = call(*command).exception
        assert isinstance(error, InputError), command
        assert "holds code that was never run here (" in str(error)
        assert "--trust-code" in str(error)
    assert not mark.exists()
    assert not (tmp_path / "net.onnx").exists()


def test_code_runs_after_it_is_trusted_and_from_then_on(
    foreign: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, mark = foreign
    plan = ("plan", folder / "sweep.yaml", "--data-dir", tmp_path)
    assert call(*plan, "--trust-code").exit_code == 0
    assert mark.exists()
    forget(monkeypatch)
    assert call(*plan).exit_code == 0
    assert call("verify", folder, trial_of(folder), "--data-dir", tmp_path).exit_code == 0


def test_an_archive_that_holds_other_code_is_refused(foreign: tuple[Path, Path]) -> None:
    folder, mark = foreign
    text = (folder / "sweep.yaml").read_text()
    reference = parse_reference(next(word.strip('"') for word in text.split() if "net.py:build" in word))
    assert reference is not None
    archive = folder / "code" / f"{reference.digest}.zip"
    with zipfile.ZipFile(archive, "w") as planted:
        planted.comment = json.dumps({"entry": "net.py", "function": "build"}).encode()
        planted.writestr("net.py", MARK.format(str(mark)) + "def build(s, c): pass\n")
    with pytest.raises(InputError, match="holds other code than its name says"):
        read_archive(folder, reference)
    archive.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(InputError, match="is damaged"):
        read_archive(folder, reference)
    assert not mark.exists()


def test_what_is_trusted_is_the_exact_text(foreign: tuple[Path, Path], tmp_path: Path) -> None:
    """A comment does not change what code does, but what was read by a person is the text."""
    folder, _ = foreign
    assert call("plan", folder / "sweep.yaml", "--data-dir", tmp_path, "--trust-code").exit_code == 0
    hashes = (tmp_path / "state/lightsweep/trusted-code").read_text().split()
    assert len(hashes) == len(set(hashes)) == 3
    assert all(trust.is_trusted(each) for each in hashes)
