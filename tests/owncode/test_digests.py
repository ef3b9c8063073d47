"""What changes the digest of the user's own code, and so the stage keys: what it does, and nothing else."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from own_code import FILES, NET, plan_own, write_files

from lightsweep.errors import InputError
from lightsweep.owncode.reference import Reference, parse_reference, references_in, without_digests
from lightsweep.owncode.sources import Sources, read_sources, shipped_nets, shipped_sources
from lightsweep.trials.keys import stage_keys

IMPORTING = (
    "import helper\nfrom parts.blocks import width_of\n\ndef build(shape, classes, *, width: int = 4):\n"
)
IMPORTING += "    return helper.make(shape, classes, width_of(width))\n"
SOURCES = {
    "nets/tiny.py": IMPORTING,
    "nets/helper.py": '"""Makes nets."""\nfrom torch import nn\n\ndef make(shape, classes, width):\n'
    "    return nn.Sequential(nn.Conv2d(shape[0], width, 3), nn.Flatten(), nn.LazyLinear(classes))\n",
    "parts/blocks.py": "from . import numbers\n\ndef width_of(width):\n    return numbers.FACTOR * width\n",
    "parts/numbers.py": "FACTOR = 2\n",
    "parts/unused.py": "FACTOR = 3\n",
}


def digest(folder: Path, file: str = "nets/tiny.py", function: str = "build") -> str:
    return read_sources(folder, Reference(file, function, None)).digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, SOURCES)
    return tmp_path


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


NEW_WORK = [
    ("nets/tiny.py", "width: int = 4", "width: int = 5"),
    ("nets/tiny.py", "width_of(width)", "width_of(width + 1)"),
    ("nets/helper.py", ", 3)", ", 5)"),
    ("parts/blocks.py", "numbers.FACTOR * width", "width"),
    ("parts/numbers.py", "2", "3"),
    ("nets/tiny.py", "import helper\n", "import helper\nimport numpy\n"),
]
NOTHING = [
    ("nets/tiny.py", "import helper\n", "# a comment\nimport helper\n"),
    ("nets/tiny.py", "    return", '    """Return it."""\n\n    return'),
    ("nets/helper.py", '"""Makes nets."""', '"""Makes other nets."""'),
    ("parts/numbers.py", "FACTOR = 2", "FACTOR   =   2  # two"),
    ("parts/unused.py", "3", "4"),
]


@pytest.mark.parametrize(("file", "old", "new"), NEW_WORK)
def test_an_edit_of_a_file_or_of_a_module_that_it_imports_is_new_work(
    folder: Path, file: str, old: str, new: str
) -> None:
    before = digest(folder)
    edit(folder / file, old, new)
    assert digest(folder) != before


@pytest.mark.parametrize(("file", "old", "new"), NOTHING)
def test_comments_docstrings_layout_and_other_files_change_nothing(
    folder: Path, file: str, old: str, new: str
) -> None:
    before = digest(folder)
    edit(folder / file, old, new)
    assert digest(folder) == before


def test_a_file_that_is_renamed_or_moved_is_the_same_and_so_is_a_renamed_function(folder: Path) -> None:
    before = digest(folder)
    (folder / "nets/tiny.py").rename(folder / "nets/other.py")
    assert digest(folder, "nets/other.py") == before
    (folder / "elsewhere").mkdir()
    for name in ("other.py", "helper.py"):
        (folder / "nets" / name).rename(folder / "elsewhere" / name)
    assert digest(folder, "elsewhere/other.py") == before
    edit(folder / "elsewhere/other.py", "def build", "def make_it")
    assert digest(folder, "elsewhere/other.py", "make_it") == before
    (folder / "parts/blocks.py").rename(folder / "parts/bricks.py")
    edit(folder / "elsewhere/other.py", "parts.blocks", "parts.bricks")
    assert digest(folder, "elsewhere/other.py", "make_it") == before


def test_two_functions_of_one_file_are_two(folder: Path) -> None:
    write_files(folder, {"two.py": "def one(a, b):\n    return a\n\ndef two(a, b):\n    return b\n"})
    assert digest(folder, "two.py", "one") != digest(folder, "two.py", "two")


def test_files_that_import_one_another_have_a_digest(folder: Path) -> None:
    write_files(folder, {"a.py": "import b\n\ndef build(s, c): pass\n", "b.py": "import a\nX = 1\n"})
    before = digest(folder, "a.py")
    edit(folder / "b.py", "1", "2")
    assert digest(folder, "a.py") != before


def test_a_shipped_net_that_is_wrapped_is_followed_too(folder: Path) -> None:
    text = "from lightsweep.zoo.plain_cnn import build as inner\n\ndef build(shape, classes):\n"
    write_files(folder, {"wrap.py": text + "    return inner(shape, classes, width=0.5)\n"})
    sources = read_sources(folder, Reference("wrap.py", "build", None))
    assert {"lightsweep/zoo/plain_cnn.py", "lightsweep/zoo/_small_images.py"} < set(sources.files)


def test_packages_are_named_and_the_standard_library_and_lightsweep_are_not(folder: Path) -> None:
    text = (
        "import os, torch.nn as nn, numpy\nfrom lightsweep import Range\n\ndef build(shape, classes): pass\n"
    )
    write_files(folder, {"some.py": text})
    assert read_sources(folder, Reference("some.py", "build", None)).packages == ("numpy", "torch")
    torchvisions = {name for name in shipped_nets() if "torchvision" in shipped_sources(name).packages}
    assert torchvisions == {"mobilenet-v2", "shufflenet-v2", "squeezenet", "mnasnet", "efficientnet-b0"}


def laid_out(tree: ast.Module, draw: st.DrawFn) -> str:
    """Write a syntax tree with drawn comments, blank lines and docstrings."""
    lines = []
    for line in ast.unparse(tree).split("\n"):
        indent = re.match(" *", line)[0]  # type: ignore[index]
        lines += draw(st.lists(st.sampled_from(["", f"{indent}# note"]), max_size=2))
        lines.append(line)
        if line.rstrip().endswith(":") and line.lstrip().startswith("def "):
            lines += draw(st.lists(st.just(f'{indent}    """Text."""'), max_size=1))
    return "\n".join(lines) + "\n"


@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equal_sources_have_equal_digests_and_another_number_another(tmp_path: Path, data: Any) -> None:
    """However they are laid out; any one number of the file that is another makes another digest."""
    tree = ast.parse(NET)
    texts = [data.draw(st.composite(lambda draw: laid_out(tree, draw))()) for _ in range(2)]
    write_files(tmp_path, {"one.py": texts[0], "other/name.py": texts[1]})
    assert digest(tmp_path, "one.py") == digest(tmp_path, "other/name.py")
    numbers = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is int]
    chosen = data.draw(st.sampled_from(numbers))
    chosen.value += data.draw(st.integers(1, 5))  # type: ignore[operator]
    write_files(tmp_path, {"edited.py": ast.unparse(tree)})
    assert digest(tmp_path, "edited.py") != digest(tmp_path, "one.py")


def keys_of(folder: Path) -> dict[str, tuple[str, ...]]:
    """Keys of an ablation whose arms use one file of their own each."""
    arms: dict[str, Any] = {
        "net": {"model": {"net": "net.py:build"}},
        "augmentation": {"augmentation": [{"transform": "aug.py:darken"}]},
        "optimizer": {"stages": [{"name": "a", "epochs": 1, "optimizer": "opt.py:slow"}]},
        "loss": {"stages": [{"name": "a", "epochs": 1, "loss": "loss.py:focal"}]},
        "schedule": {"stages": [{"name": "a", "epochs": 1, "schedule": "schedule.py:steps"}]},
        "none": {"model.hidden": 5},
    }
    base = {"model": {"filters": [3]}}
    planned = plan_own(folder, base, ablation={"arms": arms})
    return {trial.arm: stage_keys(trial, "f" * 64, "cpu") for trial in planned.trials}


EDITS = {
    "net": ("net.py", "WIDER = 2", "WIDER = 3"),
    "augmentation": ("aug.py", "1 - most", "2 - most"),
    "optimizer": ("opt.py", "0.01", "0.02"),
    "loss": ("loss.py", "(1 - ", "(1.5 - "),
    "schedule": ("schedule.py", "epochs / 2", "epochs / 3"),
}


def test_editing_a_number_changes_the_keys_of_exactly_the_arms_that_use_the_file(tmp_path: Path) -> None:
    write_files(tmp_path, FILES)
    before = keys_of(tmp_path)
    for arm, (file, old, new) in EDITS.items():
        edit(tmp_path / file, old, new)
        after = keys_of(tmp_path)
        assert {name for name in after if after[name] != before[name]} == {arm}
        edit(tmp_path / file, new, old)
        assert keys_of(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net.py:build", Reference("net.py", "build", None)),
        ("a b/net.py:Net", Reference("a b/net.py", "Net", None)),
        ("../n.py:f@0123456789abcdef", Reference("../n.py", "f", "0123456789abcdef")),
        (r"C:\nets\n.py:f", Reference(r"C:\nets\n.py", "f", None)),
        ("mobilenet-v2", None),
        ("net.py", None),
        ("net.py:", None),
        (".py:f", None),
        ("net.py:f@0123", None),
        (3, None),
    ],
)
def test_what_is_a_reference(text: Any, expected: Reference | None) -> None:
    assert parse_reference(text) == expected


def test_references_are_found_anywhere_and_shown_without_digests() -> None:
    tree = {"a": ["x.py:f", {"b": ("y.py:g@0123456789abcdef", 3)}], "c": "plain"}
    assert {each.function for each in references_in(tree)} == {"f", "g"}
    assert without_digests("net y.py:g@0123456789abcdef, width 3") == "net y.py:g, width 3"


@pytest.mark.parametrize(
    ("files", "reference", "message"),
    [
        ({"nett.py": NET}, ("net.py", "build"), "net.py: no such file in .*; did you mean nett.py?"),
        ({"net.py": "def f(:\n"}, ("net.py", "f"), "net.py, line 1: not valid Python: "),
        (
            {"net.py": NET},
            ("net.py", "bild"),
            "net.py: defines no function bild at its top level; did you mean",
        ),
        ({"net.py": "X = 1\n"}, ("net.py", "f"), "net.py: defines no function f at its top level$"),
        ({"net.py": "def f(a, **k): pass\n"}, ("net.py", "f"), "takes \\*\\*k, whose keys cannot be checked"),
        (
            {"net.py": "import b\ndef f(a): pass\n", "b.py": "1 +\n"},
            ("net.py", "f"),
            "b.py, line 1: not valid",
        ),
    ],
)
def test_files_that_cannot_be_read_are_refused(
    tmp_path: Path, files: dict[str, str], reference: tuple[str, str], message: str
) -> None:
    write_files(tmp_path, files)
    with pytest.raises(InputError, match=message):
        read_sources(tmp_path, Reference(*reference, None))


def test_sources_are_a_value() -> None:
    one = Sources({"a.py": "x = 1"}, "a.py", "f", "0" * 16, ())
    assert one.text_hash == Sources({"a.py": "x = 1"}, "b.py", "g", "1" * 16, ()).text_hash
    assert one.text_hash != Sources({"a.py": "x = 2"}, "a.py", "f", "0" * 16, ()).text_hash
