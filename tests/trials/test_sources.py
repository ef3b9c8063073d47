"""The fingerprint of the code that decides results: what can change one changes it, and nothing else."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lightsweep
from lightsweep.trials.sources import fingerprint_of, read_sources, source_fingerprint, training_sources

PACKAGE = Path(lightsweep.__file__).parent
KEPT_APART = {
    "lightsweep.sweepfile.dataset": "the data's fingerprint stands for it",
    "lightsweep.echo": "says it",
    "lightsweep.errors": "says what is wrong",
    "lightsweep.system.files": "reads what is checked afterwards",
    "lightsweep.system.locks": "keeps others out",
    "lightsweep.trials.sources": "makes the fingerprint",
    "lightsweep.training.stagecheck": "refuses what is stored, and makes nothing",
    "lightsweep.store.stagefile": "has a version of its own in each file",
    "lightsweep.store.claims": "keeps results as they are",
    "lightsweep.store.folder": "keeps results as they are",
    "lightsweep.owncode.trust": "refuses what must not run",
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the package, to be edited."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "lightsweep", ignore=shutil.ignore_patterns("*.pyc")))


def place(package: Path, module: str) -> Path:
    """Return the file of a module, such as lightsweep.training.loop."""
    return package.joinpath(*module.split(".")[1:]).with_suffix(".py")


def fingerprint(package: Path) -> str:
    return fingerprint_of(read_sources(package).values())


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_another_folder_and_comments_docstrings_and_messages_change_nothing(copy: Path) -> None:
    assert fingerprint(copy) == source_fingerprint()
    for name in training_sources():
        file = place(copy, name)
        file.write_text(
            '"""Another docstring."""\n' + file.read_text().partition('"""')[2].partition('"""')[2]
        )
        with file.open("a") as end:
            end.write("\n\n\n# one more line")
    edit(copy / "training/state.py", '"""One epoch of a stage.', '"""An epoch.')
    edit(copy / "training/state.py", '"""Number of the epoch within the stage, from 1."""', '"""From 1."""')
    edit(copy / "training/loop.py", "loss is {is_} in epoch", "loss is now {is_}, epoch")
    assert fingerprint(copy) == source_fingerprint()


def test_a_file_that_is_moved_changes_nothing(copy: Path) -> None:
    room = copy / "elsewhere"
    room.mkdir()
    (room / "__init__.py").write_text('"""A room."""\n')
    (copy / "training/loop.py").rename(room / "moved.py")
    for file in copy.rglob("*.py"):
        text = file.read_text().replace(
            "from lightsweep.training.loop import", "from lightsweep.elsewhere.moved import"
        )
        file.write_text(text)
    assert set(read_sources(copy)) == set(training_sources()) - {"lightsweep.training.loop"} | {
        "lightsweep.elsewhere.moved"
    }
    assert fingerprint(copy) == source_fingerprint()


def test_a_definition_that_is_moved_to_another_file_changes_nothing(copy: Path) -> None:
    text = (copy / "training/loop.py").read_text()
    moved = next(node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))
    edit(copy / "training/loop.py", ast.get_source_segment(text, moved) or "", "")
    edit(
        copy / "training/loop.py",
        "import math\n",
        f"import math\nfrom lightsweep.moved import {moved.name}\n",
    )
    (copy / "moved.py").write_text(
        '"""Moved."""\n\nimport math\nimport torch\n\n' + ast.unparse(moved) + "\n"
    )
    assert set(read_sources(copy)) == {*training_sources(), "lightsweep.moved"}
    assert fingerprint(copy) == source_fingerprint()


@pytest.mark.parametrize("name", training_sources())
def test_an_edit_of_any_file_that_decides_results_is_another_code(copy: Path, name: str) -> None:
    """A number that is one larger, or a name that is bound, where there is no number."""
    file = place(copy, name)
    tree = ast.parse(file.read_text())
    numbers = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is int]
    if numbers:
        numbers[0].value += 1  # type: ignore[operator]
        file.write_text(ast.unparse(tree))
    else:
        with file.open("a") as end:
            end.write("\nNEW = None\n")
    assert fingerprint(copy) != source_fingerprint()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("sweepfile/dataset.py", '"kmnist",', '"kmnist", "notmnist",'),
        ("data/datasets.py", "import hashlib", "import hashlib as h"),
        ("runs/run.py", "PATIENCE_SECONDS, AT", "PATIENCE_SECONDS, AT_"),
        ("store/stagefile.py", "import hashlib", "import hashlib as h"),
    ],
)
def test_an_edit_of_what_decides_no_result_changes_nothing(copy: Path, file: str, old: str, new: str) -> None:
    edit(copy / file, old, new)
    assert fingerprint(copy) == source_fingerprint()


def test_a_file_that_training_begins_to_import_is_one_of_them(copy: Path) -> None:
    (copy / "new.py").write_text("FACTOR = 2\n")
    edit(copy / "training/loop.py", "import math\n", "import math\nfrom lightsweep import new\n")
    assert set(read_sources(copy)) == {*training_sources(), "lightsweep.new"}


def test_what_training_imports_decides_results_or_is_named_here_with_the_reason() -> None:
    code = "import sys, lightsweep.training.chain; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.startswith("lightsweep.")}
    rooms = {module for module in loaded if any(other.startswith(f"{module}.") for other in loaded)}
    assert loaded - rooms == {*training_sources(), *KEPT_APART}
