"""Folders and npz files as people have them: what is read, what is skipped, and what is said of it."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import lightsweep
from PIL import Image
from small_images import write_images

from lightsweep.data.datasets import describe, load
from lightsweep.data.folder import scan_folder
from lightsweep.data.imagedata import Dataset
from lightsweep.data.splits import split
from lightsweep.errors import InputError
from lightsweep.sweepfile.dataset import DatasetSpec

NPZ = DatasetSpec(name="npz", path="some.npz")
FOLDER = DatasetSpec(name="imagefolder", path="pictures")


def picture(
    path: Path, value: int = 0, mode: str = "L", size: tuple[int, int] = (6, 4), **saving: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour: Any = value if mode == "L" else (value, 10, 20, 255)[: len(mode)]
    Image.new(mode, size, colour).save(path, **saving)
    return path


def classes(folder: Path, names: str = "a b c", count: int = 10, start: int = 0) -> Path:
    """Write a folder of pictures for each class, all of different brightness."""
    for label, name in enumerate(names.split()):
        for index in range(count):
            picture(folder / name / f"{index}.png", (start + 20 * label + index) % 256)
    return folder


def loaded(folder: Path, spec: DatasetSpec = FOLDER) -> Dataset:
    dataset = load(spec, folder, download=False)
    assert dataset.info == describe(spec, folder)
    return dataset


class TestHidden:
    @pytest.mark.parametrize(
        "name", [".ipynb_checkpoints", ".thumbnails", ".cache", ".Trash-1000", ".git", "__MACOSX", "@eaDir"]
    )
    @pytest.mark.parametrize("place", ["", "a", "a/deep"])
    def test_folders_are_passed_over_at_any_depth(self, tmp_path: Path, name: str, place: str) -> None:
        pictures = classes(tmp_path / "pictures")
        for index in range(5):
            picture(pictures / place / name / f"{index}.png", index)
        dataset = loaded(tmp_path)
        assert len(dataset.train.labels) + len(dataset.test.labels) == 30
        assert "skipped: 1 hidden folders" in dataset.notes
        assert dataset.shared_with_test() == 0

    def test_files_are_passed_over_and_counted_by_kind(self, tmp_path: Path) -> None:
        pictures = classes(tmp_path / "pictures")
        (pictures / "a/._1.png").write_bytes(b"of a Mac")
        (pictures / "a/notes.txt").write_text("")
        (pictures / "b/Thumbs.db").write_text("")
        (pictures / "b/x.heic").write_text("")
        (pictures / "c/link").symlink_to(pictures / "a")
        (pictures / "c/gone.png").symlink_to("nowhere")
        dataset = loaded(tmp_path)
        assert set(dataset.notes) == {
            "skipped: 1 hidden files",
            "skipped: 1 files that are not pictures (.txt)",
            "skipped: 1 files that are not pictures (.db)",
            "skipped: 1 files that are not pictures (.heic)",
            "skipped: 1 links to folders",
            "skipped: 1 pictures that are broken links or special files",
        }
        assert dataset.info.train_count + dataset.info.test_count == 30

    def test_equal_images_in_training_and_test_are_counted(self, tmp_path: Path) -> None:
        for part in ("train", "test"):
            classes(tmp_path / "pictures" / part, count=4)
        classes(tmp_path / "pictures/test", names="a", count=6)
        dataset = loaded(tmp_path)
        assert dataset.shared_with_test() == 12  # by brightness: all but the two that only test has
        assert len(dataset.test.labels) == 14


class TestSplits:
    @pytest.mark.parametrize(
        ("train", "test", "validation"),
        [
            ("Training", "Testing", None),
            ("train", "test", "val"),
            ("TRAIN", "Test", "Valid"),
            ("training", "testing", "validation"),
        ],
    )
    def test_by_other_names_are_splits(
        self, tmp_path: Path, train: str, test: str, validation: str | None
    ) -> None:
        pictures = tmp_path / "pictures"
        classes(pictures / train, count=6)
        classes(pictures / test, count=3, start=100)
        if validation:
            classes(pictures / validation, count=2, start=200)
        dataset = loaded(tmp_path)
        assert dataset.info.classes == ("a", "b", "c")
        assert (len(dataset.train.labels), len(dataset.test.labels)) == (18, 9)
        assert dataset.info.validation_count == (6 if validation else 0)
        if validation:
            assert dataset.validation is not None
            assert dataset.validation.pixels[:, 0, 0, 0].tolist() == [200, 201, 220, 221, 240, 241]

    def test_that_are_one_twice_are_refused(self, tmp_path: Path) -> None:
        for name in ("train", "Training", "test"):
            classes(tmp_path / "pictures" / name)
        with pytest.raises(
            InputError, match="Training and train are both train images; rename or remove one"
        ):
            describe(FOLDER, tmp_path)

    def test_without_test_are_refused(self, tmp_path: Path) -> None:
        for name in ("train", "val"):
            classes(tmp_path / "pictures" / name)
        with pytest.raises(InputError, match="has train and val but no folder test; there must be both"):
            describe(FOLDER, tmp_path)

    def test_class_folders_that_hold_only_folders_are_refused(self, tmp_path: Path) -> None:
        for name in ("first", "second"):
            classes(tmp_path / "pictures" / name)
        with pytest.raises(
            InputError, match=r"first: holds only folders, so it is not a class; set the path"
        ):
            describe(FOLDER, tmp_path)

    def test_folders_beside_the_splits_are_passed_over_and_said(self, tmp_path: Path) -> None:
        for name in ("train", "test", "unlabelled"):
            classes(tmp_path / "pictures" / name)
        assert "skipped: 1 folders beside the splits" in loaded(tmp_path).notes

    def test_one_class_is_refused(self, tmp_path: Path) -> None:
        classes(tmp_path / "pictures", names="a")
        with pytest.raises(InputError, match="has 1 class folders; it needs two or more"):
            describe(FOLDER, tmp_path)


class TestPictures:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_are_turned_as_their_exif_says(self, tmp_path: Path, orientation: int) -> None:
        """A bright corner ends where a viewer shows it (EXIF 2.3, tag 0x0112)."""
        corner = {
            1: (0, 0),
            2: (0, -1),
            3: (-1, -1),
            4: (-1, 0),
            5: (0, 0),
            6: (0, -1),
            7: (-1, -1),
            8: (-1, 0),
        }
        stored = np.zeros((8, 16), np.uint8)
        stored[:4, :4] = 255
        exif = Image.Exif()
        exif[0x0112] = orientation
        for name in "ab":
            for index in range(5):
                path = tmp_path / "pictures" / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(stored).save(path, exif=exif)
        dataset = loaded(tmp_path)
        is_turned = orientation >= 5
        assert (dataset.info.width, dataset.info.height) == ((8, 16) if is_turned else (16, 8))
        row, column = corner[orientation]
        assert dataset.train.pixels[0, row, column, 0] == 255
        assert dataset.train.pixels[0].sum() == 16 * 255
        assert any("turned upright" in note for note in dataset.notes) == (orientation > 1)

    def test_alpha_that_is_opaque_everywhere_is_dropped(self, tmp_path: Path) -> None:
        for name in "ab":
            for index in range(5):
                picture(tmp_path / f"pictures/{name}/{index}.png", index, "RGB")
        picture(tmp_path / "pictures/a/0.png", 7, "RGBA")
        dataset = loaded(tmp_path)
        assert dataset.info.channels == 3
        Image.new("RGBA", (6, 4), (1, 2, 3, 254)).save(tmp_path / "pictures/a/1.png")
        dataset = loaded(tmp_path)
        assert dataset.info.channels == 4
        assert "1 of 10 pictures have transparent pixels, so all have 4 channels" in dataset.notes

    @pytest.mark.parametrize("suffix", ["gif", "jfif", "jpe", "webp", "tif", "pbm", "GIF"])
    def test_of_many_formats_are_read(self, tmp_path: Path, suffix: str) -> None:
        pictures = classes(tmp_path / "pictures")
        kind = {"jfif": "jpeg", "jpe": "jpeg", "pbm": "ppm"}.get(suffix.lower(), suffix.lower())
        kind = {"tif": "tiff"}.get(kind, kind)
        Image.new("L" if suffix != "pbm" else "1", (6, 4), 1).save(pictures / f"a/more.{suffix}", format=kind)
        info = describe(FOLDER, tmp_path)
        assert info.train_count + info.test_count == 31

    def test_of_an_animation_the_first_is_read_and_that_is_said(self, tmp_path: Path) -> None:
        pictures = classes(tmp_path / "pictures")
        frames = [Image.new("L", (6, 4), value) for value in (200, 100)]
        frames[0].save(pictures / "a/x.gif", save_all=True, append_images=frames[1:])
        dataset = loaded(tmp_path)
        assert "1 pictures are animated; only the first frame is read" in dataset.notes
        values = {*dataset.train.pixels[:, 0, 0, 0].tolist(), *dataset.test.pixels[:, 0, 0, 0].tolist()}
        assert 200 in values
        assert 100 not in values

    def test_a_folder_called_like_a_picture_is_a_folder(self, tmp_path: Path) -> None:
        pictures = classes(tmp_path / "pictures")
        picture(pictures / "a/x.png/inside.png", 99)
        classes(tmp_path / "pictures", names="z.png", start=100)
        info = describe(FOLDER, tmp_path)
        assert info.classes == ("a", "b", "c", "z.png")
        assert info.train_count + info.test_count == 41

    @pytest.mark.parametrize(
        ("name", "shown"), [(b"caf\xe9", "caf\\xe9"), (b"\x1b[2J", "\\x1b[2J"), (b"a\nb", "a b")]
    )
    def test_names_that_no_terminal_can_show_are_shown(self, tmp_path: Path, name: bytes, shown: str) -> None:
        pictures = classes(tmp_path / "pictures")
        os.rename(pictures / "a", os.path.join(os.fsencode(pictures), name))
        os.rename(pictures / "b/0.png", os.path.join(os.fsencode(pictures / "b"), b"\xff.png"))
        dataset = loaded(tmp_path)
        assert shown in dataset.info.classes
        for text in dataset.info.classes:
            text.encode()


def arrays(folder: Path, **changes: Any) -> None:
    path = write_images(folder / "some.npz")
    with np.load(path) as file:
        np.savez(path, **{key: value for key, value in (dict(file) | changes).items() if value is not None})


class TestArrays:
    def test_channels_first_is_recognised_with_the_transposition(self, tmp_path: Path) -> None:
        arrays(tmp_path, train_images=np.zeros((120, 3, 32, 32), np.uint8))
        with pytest.raises(InputError) as caught:
            describe(NPZ, tmp_path)
        assert str(caught.value) == (
            f"{tmp_path}/some.npz: train_images is uint8 (120, 3, 32, 32): this looks like [n, channels, "
            "height, width], and it must be uint8 [n, height, width] or [n, height, width, channels]: "
            "np.transpose(train_images, (0, 2, 3, 1))"
        )

    @pytest.mark.parametrize("shape", [(120, 28, 28, 28), (120, 1, 28, 28, 28), (120, 8, 8, 8, 3)])
    def test_volumes_are_recognised(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        arrays(tmp_path, train_images=np.zeros(shape, np.uint8))
        with pytest.raises(InputError, match=r"these look like volumes, and it must be .*; save slices"):
            describe(NPZ, tmp_path)

    def test_one_class_is_refused(self, tmp_path: Path) -> None:
        arrays(tmp_path, train_labels=np.zeros(120, int), test_labels=np.zeros(30, int))
        with pytest.raises(
            InputError, match="all training images are of one class; there must be two or more"
        ):
            describe(NPZ, tmp_path)

    def test_medmnists_validation_images_are_used(self, tmp_path: Path) -> None:
        images = np.full((9, 10, 10), 7, np.uint8)
        arrays(tmp_path, val_images=images, val_labels=np.arange(9)[:, None] % 3, extra=np.zeros(3))
        dataset = loaded(tmp_path, NPZ)
        assert dataset.validation is not None
        assert (dataset.validation.pixels == 7).all()
        assert dataset.validation.labels.tolist() == [0, 1, 2] * 3
        assert dataset.info.validation_count == 9
        assert dataset.notes == ("skipped: the array extra",)
        other = load(
            NPZ.model_copy(update={"path": "other.npz"}), write_images(tmp_path / "other.npz").parent, False
        )
        assert other.fingerprint != dataset.fingerprint

    def test_validation_images_of_another_shape_or_without_labels_are_said(self, tmp_path: Path) -> None:
        arrays(tmp_path, val_images=np.zeros((9, 5, 5), np.uint8), val_labels=np.arange(9) % 3)
        with pytest.raises(InputError, match=r"training images are \(10, 10\) and val images \(5, 5\)"):
            describe(NPZ, tmp_path)
        arrays(tmp_path, val_images=np.zeros((9, 10, 10), np.uint8))
        assert loaded(tmp_path, NPZ).notes == ("skipped: the array val_images",)


class TestOwnValidation:
    """Images that the data brings along validate, unless the sweep file says otherwise."""

    LABELS = np.arange(60) % 3

    def test_all_training_images_train(self) -> None:
        train, validation = split(self.LABELS, NPZ, 0, None, None, own_count=9)
        assert train.tolist() == list(range(60))
        assert len(validation) == 0
        limited = NPZ.model_copy(update={"train_limit": 12})
        assert len(split(self.LABELS, limited, 0, None, None, own_count=9)[0]) == 12

    def test_a_number_or_folds_take_training_images(self) -> None:
        asked = NPZ.model_copy(update={"validation": 6})
        assert len(split(self.LABELS, asked, 0, None, None, own_count=9)[1]) == 6
        assert len(split(self.LABELS, NPZ, 0, 1, 3, own_count=9)[1]) == 20

    def test_without_them_it_is_a_tenth(self) -> None:
        assert len(split(self.LABELS, NPZ, 0, None, None)[1]) == 6


class TestCommands:
    """What a user is told, as text."""

    def test_datasets_path_shows_what_would_be_read(self, tmp_path: Path) -> None:
        pictures = tmp_path / "brain"
        classes(pictures / "Training", names="glioma healthy", count=12)
        classes(pictures / "Testing", names="glioma healthy", count=2)
        picture(pictures / "Training/glioma/.ipynb_checkpoints/0.png")
        done = lightsweep("datasets", "brain", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rows = [
            [cell.strip() for cell in line.split("│")[1:-1]]
            for line in done.stdout.splitlines()
            if "│" in line
        ]
        assert rows == [
            ["glioma", "12", "–", "2"],
            ["healthy", "12", "–", "2"],
            ["2 classes", "24", "–", "4"],
        ]
        assert done.stdout.splitlines()[-6:] == [
            "sizes: 6×4 (28)",
            "channels: 1 (L (28))",
            "validation images: a tenth of the training images by default",
            "skipped: 1 hidden folders",
            "warning: 4 of 4 test images are among the training or validation images, pixel for pixel: test "
            "accuracy is too high",
            "in a sweep file: dataset: {name: imagefolder, path: brain}",
        ]

    def test_a_run_uses_what_came_with_the_data_and_says_what_it_passed_over(self, tmp_path: Path) -> None:
        """Its validation images are all of one brightness, so that any net gives them one class."""
        arrays(
            tmp_path,
            val_images=np.full((30, 10, 10), 7, np.uint8),
            val_labels=np.zeros(30, int),
            extra=np.zeros(3),
        )
        (tmp_path / "sweep.yaml").write_text(
            "name: own\ndataset: {name: npz, path: some.npz}\nseeds: 2\n"
            "base:\n  model: {filters: [2, 3]}\n"
            "  stages: {preset: paper, epochs: {dual: 1, fusion: 1, finetune: 1}}\n"
        )
        planned = lightsweep("plan", "sweep.yaml", cwd=tmp_path)
        assert (
            "npz: 120 training, 30 validation and 30 test images of 3 classes, 10×10 pixels, 1 channel"
            in planned.stdout
        )
        done = lightsweep("run", "sweep.yaml", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "npz: skipped: the array extra" in done.stdout
        import pandas as pd

        trials = pd.read_parquet(tmp_path / "runs/own/trials.parquet")
        assert set(trials.val_accuracy) <= {0.0, 1.0}
        counted = lightsweep(
            "run", "sweep.yaml", "--set", "dataset.validation=30", "--set", "name=held", cwd=tmp_path
        )
        assert (
            "npz: its own validation images are not used, because dataset.validation is set" in counted.stdout
        )

    @pytest.mark.parametrize("value", ["5", "0.0001", "0.9999", "119"])
    def test_a_split_that_cannot_be_is_refused_by_plan_and_before_training(
        self, tmp_path: Path, value: str
    ) -> None:
        """Of ten classes, say, five validation images cannot have one of each."""
        write_images(tmp_path / "some.npz")
        (tmp_path / "sweep.yaml").write_text("name: own\ndataset: {name: npz, path: some.npz}\n")
        for command in ("plan", "run"):
            done = lightsweep(
                command,
                "sweep.yaml",
                "--set",
                f"dataset.validation={2 if value == '5' else value}",
                cwd=tmp_path,
            )
            assert done.returncode == 2, done.stdout
            assert "hold out at least one image of each class and leave at least one: 3 to 117" in done.stderr
            assert not (tmp_path / "runs").exists()

    def test_a_class_of_one_image_is_refused_by_plan_and_before_training(self, tmp_path: Path) -> None:
        labels = np.arange(120) % 2
        labels[0] = 2
        arrays(tmp_path, train_labels=labels, test_labels=np.arange(30) % 3)
        (tmp_path / "sweep.yaml").write_text("name: own\ndataset: {name: npz, path: some.npz}\n")
        for command in ("plan", "run"):
            done = lightsweep(command, "sweep.yaml", cwd=tmp_path)
            assert done.returncode == 2, done.stdout
            assert "dataset.validation: class 2 has only 1 image" in done.stderr


def test_a_scan_knows_the_sizes_that_a_folder_has(tmp_path: Path) -> None:
    pictures = classes(tmp_path / "pictures")
    picture(pictures / "a/large.png", size=(60, 40))
    found = scan_folder(pictures)
    assert found.looks.sizes == {(6, 4): 30, (60, 40): 1}
    with pytest.raises(InputError, match=r"images of 2 sizes \(6×4, 60×40, …\); set dataset.image_size"):
        found.describe(None)
    assert found.describe(8).train_count == 25
