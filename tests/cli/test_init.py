"""`lightsweep init` writes what runs as it is: for pictures, npz files and digits, of every kind."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from lightsweep.cli.main import cli
from lightsweep.data.datasets import describe
from lightsweep.errors import InputError
from lightsweep.front import plan
from lightsweep.sweepfile.reading import load_sweep


def init(folder: Path, *arguments: object) -> str:
    done = CliRunner().invoke(cli, ["init", str(folder), *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def pictures(folder: Path) -> Path:
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(np.full((12, 10 + number % 2, 3), number, np.uint8)).save(
                folder / name / f"{number}.png"
            )
    return folder


@pytest.mark.parametrize("kind", ["grid", "ablation", "search"])
def test_what_it_writes_can_be_planned_as_it_is(tmp_path: Path, kind: str) -> None:
    said = init(tmp_path / "mine", "--kind", kind)
    assert f"next: lightsweep plan {tmp_path / 'mine/sweep.yaml'}" in said
    sweep = load_sweep(tmp_path / "mine/sweep.yaml")
    assert getattr(sweep, kind) is not None
    planned = plan(sweep, tmp_path)
    if kind != "search":
        assert all(cost.parameters for cost in planned.costs.values())


def test_every_line_of_the_sweep_file_has_a_comment(tmp_path: Path) -> None:
    for kind in ("grid", "ablation", "search"):
        init(tmp_path / kind, "--kind", kind)
        lines = (tmp_path / kind / "sweep.yaml").read_text().splitlines()
        assert len(lines) > 15
        assert [line for line in lines if " # " not in line] == []


def test_it_looks_at_pictures_first_and_says_and_fills_in_what_it_finds(tmp_path: Path) -> None:
    """Two widths, so that an image size is needed."""
    said = init(tmp_path / "mine", "--dataset", pictures(tmp_path / "pictures"))
    assert "32 training and 8 test images of 2 classes, 32×32 pixels, 3 channels" in said
    dataset = load_sweep(tmp_path / "mine/sweep.yaml").dataset
    assert (dataset.name, dataset.image_size) == ("imagefolder", 32)
    assert describe(dataset, tmp_path).classes == ("cat", "dog")


def test_npz_files_with_validation_images_of_their_own(tmp_path: Path) -> None:
    arrays = {}
    for part, count in (("train", 30), ("test", 9), ("val", 6)):
        arrays[f"{part}_images"] = np.zeros((count, 8, 8), np.uint8)
        arrays[f"{part}_labels"] = np.arange(count) % 3
    np.savez(tmp_path / "some.npz", **arrays)
    said = init(tmp_path / "mine", "--dataset", tmp_path / "some.npz")
    assert "30 training and 6 validation and 9 test images of 3 classes" in said
    assert load_sweep(tmp_path / "mine/sweep.yaml").dataset.validation is None


def test_nothing_is_overwritten_and_nothing_is_written_for_data_that_cannot_be_read(tmp_path: Path) -> None:
    init(tmp_path / "mine")
    before = (tmp_path / "mine/net.py").read_text()
    with pytest.raises(InputError, match="is already there"):
        init(tmp_path / "mine")
    assert (tmp_path / "mine/net.py").read_text() == before
    with pytest.raises(InputError):
        init(tmp_path / "other", "--dataset", tmp_path / "nowhere")
    with pytest.raises(InputError, match="the name of a run has"):
        init(tmp_path / "a name")
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "a name").exists()
