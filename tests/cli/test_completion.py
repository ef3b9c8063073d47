"""The shell completes `--set`: what it proposes are keys that `--set` takes, with their present values."""

from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from lightsweep.cli.main import cli
from lightsweep.sweepfile.reading import load_sweep

NET = """
def build(shape, classes, *, width: int = 3, steep: bool = False):
    raise AssertionError("never called")
"""
SWEEP = """\
name: own
dataset: {name: digits}
base:
  model: {net: net.py:build, steep: true}
  stages: [{name: first, epochs: 2}, {name: second, epochs: 3, train: last-1}]
ablation: {arms: {no dropout: {model.dropout: 0}, wide: {model.width: 9}}}
"""


def proposed(*words: str) -> list[str]:
    completion = BashComplete(cli, {}, "lightsweep", "_LIGHTSWEEP_COMPLETE")
    return [item.value for item in completion.get_completions(list(words[:-1]), words[-1])]


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "t.yaml").write_text(SWEEP)
    return str(tmp_path / "t.yaml")


def test_keys_of_the_net_and_of_stages_are_proposed_with_their_values(file: str) -> None:
    assert proposed("run", file, "--set", "base.model.") == [
        "base.model.net=net.py:build", "base.model.inputs=single", "base.model.fusion=none",
        "base.model.hidden=32", "base.model.dropout=0.2", "base.model.steep=true", "base.model.width=3",
    ]  # fmt: skip
    assert proposed("plan", file, "--out", "x", "--set", "seeds=2", "--set", "base.stages.second.e") == [
        "base.stages.second.epochs=3"
    ]


def test_whatever_is_proposed_is_taken_and_changes_nothing(file: str) -> None:
    settings = proposed("run", file, "--set", "")
    assert len(settings) > 20
    assert not [setting for setting in settings if "no dropout" in setting]  # needs quotes
    for setting in settings:
        assert load_sweep(Path(file), [setting]) == load_sweep(Path(file)), setting


@pytest.mark.parametrize("words", [("run", "--set", "b"), ("run", "nowhere.yaml", "--set", "b")])
def test_without_a_sweep_file_nothing_is_proposed(words: tuple[str, ...]) -> None:
    assert proposed(*words) == []
