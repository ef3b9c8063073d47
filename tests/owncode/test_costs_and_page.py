"""What MACs leave out is named; ranges come from signatures; the page shows own code as text."""

import json
import zipfile
from pathlib import Path

import pytest
from own_code import FILES, NET, plan_own, write_files

from analysis.page.sources import read_sources
from lightsweep.errors import InputError
from lightsweep.owncode.archive import write_archive
from lightsweep.owncode.reference import Reference
from lightsweep.owncode.sources import read_sources as sources_of_file

ATTENTION = """
import torch
from torch import nn

class Mix(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.to_keys = nn.Linear(width, width)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        keys = self.to_keys(x)
        return (torch.softmax(x @ keys.transpose(1, 2), 2) @ x).mean(1)

def build(shape, classes, *, width: int = 4):
    return nn.Sequential(nn.Conv2d(shape[0], width, 3, stride=3), Mix(width), nn.Linear(width, classes))
"""


def uncounted(folder: Path, text: str) -> str:
    write_files(folder, {**FILES, "net.py": text})
    planned = plan_own(folder, {"model": {"net": "net.py:build"}})
    return planned.costs[planned.trials[0].trial_id].uncounted


def test_what_the_counter_of_layers_leaves_out_is_named(tmp_path: Path) -> None:
    """Twice 16 positions by 16 positions by 4 channels of matrix products outside layers."""
    assert uncounted(tmp_path / "a", NET) == ""
    expected = f"{2 * 16 * 16 * 4:,} in operations outside convolutions and dense layers"
    assert uncounted(tmp_path / "b", ATTENTION) == expected
    transposed = NET.replace(
        "nn.Conv2d(width, WIDER * width, 3, stride=2)", "nn.ConvTranspose2d(width, WIDER * width, 3)"
    )
    assert uncounted(tmp_path / "c", transposed).startswith("ConvTranspose2d, ")


RANGED = "from typing import Annotated\nfrom lightsweep import Range\n" + NET.replace(
    "width: int = 4", "width: Annotated[int, Range(2, 16, log=True)] = 4, free: int = 3"
)


def test_a_key_of_the_space_without_a_range_takes_that_of_the_signature(tmp_path: Path) -> None:
    write_files(tmp_path, {**FILES, "net.py": RANGED})
    base = {"model": {"net": "net.py:build"}}
    search = {"space": {"model.width": None, "batch_size": [16, 32]}, "trials": 3}
    planned = plan_own(tmp_path, base, search=search)
    axis = planned.sweep.search.space["model.width"]  # type: ignore[union-attr]
    assert (axis.low, axis.high, axis.log) == (2, 16, True)
    with pytest.raises(
        InputError, match=r"line 19: search.space.model.free = null: .* and net.py:build gives none"
    ):
        plan_own(tmp_path, base, search={"space": {"model.free": None}, "trials": 3})


def test_the_page_has_the_texts_of_own_code_and_passes_over_what_is_damaged(tmp_path: Path) -> None:
    write_files(
        tmp_path, {"net.py": "import helper\ndef build(s, c): pass\n", "helper.py": "X = '</script>'\n"}
    )
    sources = sources_of_file(tmp_path, Reference("net.py", "build", None))
    code = tmp_path / "run/code"
    code.mkdir(parents=True)
    write_archive(sources, code / f"{sources.digest}.zip")
    (code / f"{'0' * 16}.zip").write_bytes(b"not a zip")
    with zipfile.ZipFile(code / f"{'1' * 64}.zip", "w") as training:
        training.writestr("chain.py", "")
    with zipfile.ZipFile(code / f"{'2' * 16}.zip", "w") as large:
        large.comment = json.dumps({"entry": "a.py", "function": "f"}).encode()
        large.writestr("a.py", "#" * 2**20)
    found = read_sources(tmp_path / "run")
    assert found == {sources.digest: {"net.py": sources.files["net.py"], "helper.py": "X = '</script>'\n"}}
    assert list(found[sources.digest]) == ["net.py", "helper.py"]
    assert read_sources(tmp_path) == {}
