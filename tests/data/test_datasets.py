import io
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from lightsweep.data import datasets as module
from lightsweep.data.datasets import available, describe, load
from lightsweep.data.imagedata import as_tensor
from lightsweep.data.pictures import resize
from lightsweep.data.splits import split
from lightsweep.data.torchvision_files import FILES
from lightsweep.errors import InputError
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.system.torchvision_import import import_torchvision

NPZ = DatasetSpec(name="npz", path="some.npz")
FOLDER = DatasetSpec(name="imagefolder", path="pictures")


def refusal(action: Callable[[], object]) -> str:
    """Return the message of the InputError that an action raises, which must be one line."""
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def some_arrays(**changes: Any) -> dict[str, Any]:
    draws = np.random.default_rng(0)
    arrays = {
        "train_images": draws.integers(0, 256, (12, 6, 5, 3), np.uint8),
        "train_labels": np.arange(12) % 3,
        "test_images": draws.integers(0, 256, (4, 6, 5, 3), np.uint8),
        "test_labels": np.arange(4) % 3,
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def write_image(file: Path, mode: str = "L", size: tuple[int, int] = (5, 4), value: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(file)


def authors_format(name: str, file: Path, images: np.ndarray) -> bytes:
    """Make the content of a file of a data set with images [10, side, side, 3] of classes 0 to 9."""
    if name == "svhn":
        content = io.BytesIO()
        labels = np.array([10, *range(1, 10)], np.uint8)[:, None]  # digit 0 is class 10 there
        scipy.io.savemat(content, {"X": images.transpose(1, 2, 3, 0), "y": labels})
        return content.getvalue()
    if name == "stl10":  # columns before rows, classes from 1
        return bytes(range(1, 11)) if "_y" in file.name else images.transpose(0, 3, 2, 1).tobytes()
    if "meta" in file.name:
        return pickle.dumps({"label_names": list("0123456789"), "fine_label_names": list("0123456789")})
    key = "labels" if name == "cifar10" else "fine_labels"
    return pickle.dumps({"data": images.transpose(0, 3, 1, 2).reshape(10, -1), key: list(range(10))})


@pytest.fixture
def torchvision_datasets() -> ModuleType:
    import_torchvision()
    import torchvision.datasets

    return torchvision.datasets  # type: ignore[no-any-return]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, torchvision_datasets: ModuleType) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    for name in ("mnist", "cifar", "stl10", "utils"):
        monkeypatch.setattr(getattr(torchvision_datasets, name), "download_and_extract_archive", refuse)
    monkeypatch.setattr(torchvision_datasets.svhn, "download_url", refuse)


class TestNamed:
    def test_digits_need_no_files(self, tmp_path: Path) -> None:
        spec = DatasetSpec(name="digits")
        dataset = load(spec, tmp_path, download=False)
        assert dataset.info == describe(spec, tmp_path)
        assert dataset.train.pixels.shape == (1438, 28, 28, 1)
        assert dataset.test.pixels.shape == (359, 28, 28, 1)
        assert (dataset.train.pixels.dtype, dataset.train.labels.dtype) == (np.uint8, np.int64)
        assert dataset.train.pixels.flags.c_contiguous
        assert dataset.train.pixels.max() == 255
        shares = np.bincount(dataset.test.labels) / np.bincount(dataset.train.labels)
        assert shares.min() > 0.23
        assert shares.max() < 0.27

    def test_digits_in_their_own_size_are_scikit_learns(self, tmp_path: Path) -> None:
        dataset = load(DatasetSpec(name="digits", image_size=8), tmp_path, download=False)
        assert dataset.info.height == 8
        from sklearn.datasets import load_digits

        known = {image.tobytes() for image in load_digits().images.astype(np.uint8)}
        ours = np.rint(dataset.test.pixels[..., 0] * (16 / 255)).astype(np.uint8)
        assert all(image.tobytes() in known for image in ours)

    def test_fingerprint_follows_the_pixels_only(self, tmp_path: Path) -> None:
        first = load(DatasetSpec(name="digits"), tmp_path, download=False)
        again = load(DatasetSpec(name="digits", validation=0.3), tmp_path / "other", download=False)
        other = load(DatasetSpec(name="digits", image_size=20), tmp_path, download=False)
        assert first.fingerprint == again.fingerprint != other.fingerprint
        assert len(first.fingerprint) == 64

    def test_all_are_described_where_none_is(self, tmp_path: Path) -> None:
        for found in available(tmp_path):
            spec = DatasetSpec.model_validate({"name": found.info.name, "image_size": 40})
            info = describe(spec, tmp_path)
            assert (info.height, info.width) == (40, 40)
            assert found.here == (info.name == "digits")
            assert found.here or str(tmp_path) in found.where
        counts = {found.info.name: len(found.info.classes) for found in available(tmp_path)}
        assert counts["cifar100"] == 100
        assert counts["tiny-imagenet"] == 200
        assert all(count == 10 for name, count in counts.items() if name not in ("cifar100", "tiny-imagenet"))

    @pytest.mark.parametrize("name", FILES)
    def test_missing_files_are_named_with_the_remedy(self, name: str, tmp_path: Path) -> None:
        spec = DatasetSpec.model_validate({"name": name})
        message = refusal(lambda: load(spec, tmp_path, download=False))
        assert FILES[name][0] in message
        assert str(tmp_path) in message
        assert f"lightsweep datasets --download {name}" in message
        assert ("cifar10.npz" in message) == (name == "cifar10")

    @pytest.mark.usefixtures("no_network")
    @pytest.mark.parametrize("name", FILES)
    def test_failed_download_gives_the_reason(self, name: str, tmp_path: Path) -> None:
        spec = DatasetSpec.model_validate({"name": name})
        message = refusal(lambda: load(spec, tmp_path, download=True))
        assert "its download failed (<urlopen error Name or service not known>)" in message
        assert str(tmp_path) in message

    def test_downloaded_files_are_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torchvision_datasets: ModuleType
    ) -> None:
        def deliver(url: str, download_root: str, **_: object) -> None:
            images, count = "images" in url, 10 if "train" in url else 4
            header = [0x803, count, 28, 28] if images else [0x801, count]
            body = bytes(count * 784) if images else bytes(range(count))
            file = Path(download_root) / Path(url).stem
            file.write_bytes(b"".join(number.to_bytes(4, "big") for number in header) + body)

        monkeypatch.setattr(torchvision_datasets.mnist, "download_and_extract_archive", deliver)
        message = refusal(lambda: load(DatasetSpec(name="kmnist"), tmp_path, download=True))
        assert "found images (10, 28, 28, 1)" in message  # a part is not taken for the whole
        info = module.replace(module._NAMED["kmnist"], train_count=10, test_count=4)
        monkeypatch.setitem(module._NAMED, "kmnist", info)
        dataset = load(DatasetSpec(name="kmnist"), tmp_path, download=False)
        assert dataset.test.labels.tolist() == [0, 1, 2, 3]

    @pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "svhn", "stl10"])
    @pytest.mark.parametrize("content", [b"", b"rubbish"])
    def test_damaged_file_is_named(self, name: str, content: bytes, tmp_path: Path) -> None:
        for file in FILES[name]:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes(content)
        message = refusal(lambda: load(DatasetSpec.model_validate({"name": name}), tmp_path, download=False))
        assert any(str(tmp_path / file) in message for file in FILES[name])
        assert "delete it and fetch it again" in message

    def test_cifar10_as_npz(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        draws = np.random.default_rng(0)
        images = draws.integers(0, 256, (20, 32, 32, 3), np.uint8)
        labels = np.arange(20) % 10
        np.savez(
            tmp_path / "cifar10.npz",
            train_images=images,
            train_labels=labels,
            test_images=images[:10],
            test_labels=labels[:10],
        )
        assert "instead of (50000, 32, 32, 3)" in refusal(
            lambda: load(DatasetSpec(name="cifar10"), tmp_path, download=False)
        )
        info = module.replace(module._NAMED["cifar10"], train_count=20, test_count=10)
        monkeypatch.setitem(module._NAMED, "cifar10", info)
        dataset = load(DatasetSpec(name="cifar10"), tmp_path, download=False)
        assert np.array_equal(dataset.train.pixels, images)
        assert dataset.info.classes[3] == "cat"
        assert [found.here for found in available(tmp_path) if found.info.name == "cifar10"] == [True]

    @pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "stl10"])
    def test_pixels_are_in_their_places(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torchvision_datasets: ModuleType
    ) -> None:
        side = 96 if name == "stl10" else 32
        draws = np.random.default_rng(0)
        images = draws.integers(0, 256, (10, side, side, 3), np.uint8)
        for file in FILES[name]:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes(authors_format(name, Path(file), images))
        for each in ("cifar", "svhn", "stl10"):  # these files are others than the public ones
            monkeypatch.setattr(getattr(torchvision_datasets, each), "check_integrity", lambda *_: True)
        repeats = 5 if name == "cifar10" else 1
        info = module.replace(module._NAMED[name], train_count=10 * repeats, test_count=10)
        monkeypatch.setitem(module._NAMED, name, info)
        dataset = load(DatasetSpec.model_validate({"name": name}), tmp_path, download=False)
        assert np.array_equal(dataset.train.pixels, np.concatenate([images] * repeats))
        assert np.array_equal(dataset.test.pixels, images)
        assert dataset.test.labels.tolist() == list(range(10))
        assert dataset.test.pixels.flags.c_contiguous

    def test_tiny_imagenet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "tiny-imagenet-200"
        for number, wnid in enumerate(("n02", "n01")):
            for index in range(3):
                mode, value = ("L", 10 * index) if number else ("RGB", 200)
                write_image(folder / "train" / wnid / "images" / f"{index}.JPEG", mode, (64, 64), value)
        write_image(folder / "val" / "images" / "val_0.JPEG", "RGB", (64, 64))
        (folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01\t0\t0\t62\t62\n")
        (folder / "wnids.txt").write_text("n02\nn01\n")
        (folder / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tnewt\n")
        info = module.replace(module._NAMED["tiny-imagenet"], train_count=6, test_count=1)
        monkeypatch.setitem(module._NAMED, "tiny-imagenet", info)
        spec = DatasetSpec(name="tiny-imagenet")
        dataset = load(spec, tmp_path, download=False)
        assert dataset.info == describe(spec, tmp_path)
        assert dataset.info.classes == ("newt", "goldfish")
        assert dataset.train.pixels.shape == (6, 64, 64, 3)
        assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert dataset.test.labels.tolist() == [1]
        (folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn99\n")
        assert "val_annotations.txt is damaged" in refusal(lambda: load(spec, tmp_path, download=False))


class TestNpz:
    def check(self, folder: Path, **changes: Any) -> str:
        np.savez(folder / "some.npz", **some_arrays(**changes))
        message = refusal(lambda: describe(NPZ, folder))
        assert refusal(lambda: load(NPZ, folder, download=False)) == message
        assert "some.npz" in message
        return message

    @pytest.mark.parametrize("channels", [None, 1, 2, 3, 5])
    @pytest.mark.parametrize("column", [False, True])
    def test_any_channels_and_medmnist_labels(
        self, channels: int | None, column: bool, tmp_path: Path
    ) -> None:
        shape = (6, 5) if channels is None else (6, 5, channels)
        draws = np.random.default_rng(0)
        arrays = some_arrays(
            train_images=draws.integers(0, 256, (12, *shape), np.uint8),
            test_images=draws.integers(0, 256, (4, *shape), np.uint8),
            train_labels=(np.arange(12, dtype=np.uint8) % 3)[:, *[None] * column],
        )
        np.savez_compressed(tmp_path / "some.npz", **arrays, val_images=np.zeros(3))
        dataset = load(NPZ, tmp_path, download=False)
        assert dataset.info == describe(NPZ, tmp_path)
        assert dataset.info.channels == (channels or 1)
        assert dataset.info.classes == ("0", "1", "2")
        assert np.array_equal(dataset.train.pixels.reshape(12, *shape), arrays["train_images"])
        assert dataset.train.labels.tolist() == [0, 1, 2] * 4

    def test_path_is_looked_for_here_then_in_the_data_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here, data = tmp_path / "here", tmp_path / "data"
        here.mkdir()
        data.mkdir()
        monkeypatch.chdir(here)
        message = refusal(lambda: describe(NPZ, data))
        assert str(here / "some.npz") in message
        assert str(data / "some.npz") in message
        np.savez(data / "some.npz", **some_arrays())
        assert describe(NPZ, data).train_count == 12
        np.savez(here / "some.npz", **some_arrays(test_images=np.zeros((4, 6, 5, 3), np.uint8)[:4]))
        assert not load(NPZ, data, download=False).test.pixels.any()

    def test_wrong_arrays_are_refused(self, tmp_path: Path) -> None:
        assert "no array test_labels" in self.check(tmp_path, test_labels=None)
        assert "train_images is float64" in self.check(tmp_path, train_images=np.zeros((12, 6, 5)))
        assert "must be uint8 [n, height, width]" in self.check(
            tmp_path, train_images=np.zeros((12, 6), np.uint8)
        )
        assert "train_labels is int64 (11,)" in self.check(tmp_path, train_labels=np.arange(11))
        assert "(12, 14)" in self.check(tmp_path, train_labels=np.zeros((12, 14), int))
        assert "must be integers" in self.check(tmp_path, train_labels=np.zeros(12))
        assert "same shape" in self.check(tmp_path, test_images=np.zeros((4, 7, 5, 3), np.uint8))
        assert "labels must be 0, 1, …" in self.check(tmp_path, train_labels=1 + np.arange(12) % 3)
        assert "labels must be 0, 1, …" in self.check(tmp_path, train_labels=np.arange(12) * 10**9)
        assert "test labels -1 to 2" in self.check(tmp_path, test_labels=np.arange(4) - 1)
        assert "every class needs training images" in self.check(tmp_path, test_labels=np.arange(4))

    def test_objects_are_never_unpickled(self, tmp_path: Path) -> None:
        labels = np.array([None] * 12)
        assert "train_labels is object" in self.check(tmp_path, train_labels=labels)

    @pytest.mark.parametrize("keep", [0, 100, 600])
    def test_damaged_file_is_named(self, keep: int, tmp_path: Path) -> None:
        np.savez(tmp_path / "some.npz", **some_arrays())
        content = (tmp_path / "some.npz").read_bytes()
        (tmp_path / "some.npz").write_bytes(content[:keep])
        assert "some.npz is damaged" in refusal(lambda: load(NPZ, tmp_path, download=False))
        middle = len(content) // 4
        (tmp_path / "some.npz").write_bytes(
            content[:middle]
            + bytes(byte ^ 255 for byte in content[middle : middle + 9])
            + content[middle + 9 :]
        )
        assert "some.npz is damaged" in refusal(lambda: load(NPZ, tmp_path, download=False))


class TestImageFolder:
    def test_train_and_test_folders(self, tmp_path: Path) -> None:
        for label, name in enumerate(("cat", "dog")):
            for index in range(3):
                write_image(tmp_path / "pictures/train" / name / f"{index}.png", value=10 * label + index)
        write_image(tmp_path / "pictures/test/dog/0.PNG", value=99)
        (tmp_path / "pictures/train/cat/notes.txt").write_text("not an image")
        (tmp_path / "pictures/train/.hidden").mkdir()
        dataset = load(FOLDER, tmp_path, download=False)
        assert dataset.info == describe(FOLDER, tmp_path)
        assert dataset.info.classes == ("cat", "dog")
        assert dataset.train.pixels.shape == (6, 4, 5, 1)
        assert dataset.train.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 12]
        assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert (dataset.test.pixels == 99).all()
        assert dataset.test.labels.tolist() == [1]

    def test_without_test_folder_a_fixed_stratified_fifth(self, tmp_path: Path) -> None:
        for label, name in enumerate("abc"):
            for index in range(10):
                write_image(tmp_path / "pictures" / name / f"{index}.png", value=10 * label + index)
        dataset = load(FOLDER, tmp_path, download=False)
        assert np.bincount(dataset.test.labels).tolist() == [2, 2, 2]
        assert np.bincount(dataset.train.labels).tolist() == [8, 8, 8]
        values = np.concatenate([dataset.train.pixels, dataset.test.pixels])[:, 0, 0, 0]
        assert sorted(values.tolist()) == list(range(30))
        assert load(FOLDER, tmp_path, download=False).fingerprint == dataset.fingerprint

    @pytest.mark.parametrize(
        ("modes", "channels"),
        [(("L", "1"), 1), (("L", "RGB"), 3), (("L", "P"), 3), (("RGB", "RGBA"), 4), (("L", "LA"), 4)],
    )
    def test_channels_by_modes(self, modes: tuple[str, str], channels: int, tmp_path: Path) -> None:
        for name, mode in zip("ab", modes, strict=True):
            for index in range(5):
                write_image(tmp_path / "pictures" / name / f"{index}.png", mode)
        dataset = load(FOLDER, tmp_path, download=False)
        assert dataset.info == describe(FOLDER, tmp_path)
        assert dataset.info.channels == dataset.train.pixels.shape[3] == channels

    def test_sizes_may_differ_with_image_size_only(self, tmp_path: Path) -> None:
        for name, side in (("a", 6), ("b", 9)):
            for index in range(5):
                write_image(tmp_path / "pictures" / name / f"{index}.png", size=(side, 7), value=128)
        message = refusal(lambda: describe(FOLDER, tmp_path))
        assert "6×7, 9×7" in message
        assert "set dataset.image_size" in message
        spec = DatasetSpec(name="imagefolder", path="pictures", image_size=8)
        dataset = load(spec, tmp_path, download=False)
        assert dataset.train.pixels.shape == (8, 8, 8, 1)
        assert (dataset.train.pixels == 128).all()

    def test_wrong_folders_are_refused(self, tmp_path: Path) -> None:
        assert "no folder pictures" in refusal(lambda: describe(FOLDER, tmp_path))
        (tmp_path / "pictures").mkdir()
        assert "has 0 class folders" in refusal(lambda: describe(FOLDER, tmp_path))
        write_image(tmp_path / "pictures/train/a/0.png")
        assert "has train but no folder test; there must be both" in refusal(
            lambda: describe(FOLDER, tmp_path)
        )
        (tmp_path / "pictures/test").mkdir()
        assert "has 1 class folders" in refusal(lambda: describe(FOLDER, tmp_path))
        (tmp_path / "pictures/train/c").mkdir()
        assert "no images" in refusal(lambda: describe(FOLDER, tmp_path))
        write_image(tmp_path / "pictures/train/c/0.png")
        assert "test: no class folders" in refusal(lambda: describe(FOLDER, tmp_path))
        write_image(tmp_path / "pictures/test/b/0.png")
        write_image(tmp_path / "pictures/test/c/0.png")
        assert "no such class" in refusal(lambda: describe(FOLDER, tmp_path))

    def test_damaged_and_deep_images_are_named(self, tmp_path: Path) -> None:
        for index in range(5):
            write_image(tmp_path / f"pictures/a/{index}.png", size=(64, 64))
            write_image(tmp_path / f"pictures/b/{index}.png", size=(64, 64))
        damaged = tmp_path / "pictures/b/2.png"
        content = damaged.read_bytes()
        damaged.write_bytes(content[:-30])
        message = refusal(lambda: load(FOLDER, tmp_path, download=False))
        assert f"{damaged} is damaged" in message
        damaged.write_bytes(b"no image")
        assert f"{damaged} is damaged" in refusal(lambda: describe(FOLDER, tmp_path))
        write_image(damaged, "I;16", (64, 64))
        assert f"{damaged}: mode I;16; images must have 8 bits" in refusal(lambda: describe(FOLDER, tmp_path))


def test_resize_in_chunks_is_the_same_and_plausible() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 12, 10, 3), np.uint8)
    assert np.array_equal(resize(pixels, 6, chunk=2), resize(pixels, 6))
    even = np.kron(np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1) * 10, np.ones((1, 2, 2, 1), np.uint8))
    halved = resize(even, 4).astype(int)
    assert np.abs(halved - even[:, ::2, ::2].astype(int)).max() <= 13  # blurred a little: antialiased
    square = pixels[:, :10]
    assert resize(square, 10) is square


def test_as_tensor_shares_memory_and_never_warns() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    tensor = as_tensor(array)
    array[0, 0] = 9
    assert tensor[0, 0] == 9
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(as_tensor(array), tensor)
        assert as_tensor(array).data_ptr() == array.ctypes.data


@st.composite
def _labels(draw: st.DrawFn) -> np.ndarray:
    sizes = draw(st.lists(st.integers(2, 40), min_size=2, max_size=6))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)


def shares_are_within_one(labels: np.ndarray, part: np.ndarray, of: np.ndarray) -> bool:
    """Whether each class has its share of a part of some images, to within one image."""
    counts = np.bincount(labels[part], minlength=labels.max() + 1)
    sizes = np.bincount(labels[of], minlength=labels.max() + 1)
    return bool((np.abs(counts - sizes * (len(part) / len(of))) < 1 + 1e-9).all())


class TestSplit:
    @given(_labels(), st.integers(0, 2**70), st.data())
    def test_parts_are_disjoint_stratified_and_repeatable(
        self, labels: np.ndarray, seed: int, data: st.DataObject
    ) -> None:
        classes = labels.max() + 1
        assume(classes <= len(labels) - classes)
        count = data.draw(st.integers(classes, len(labels) - classes))
        spec = DatasetSpec(name="digits", validation=int(count))
        train, validation = split(labels, spec, seed, None, None)
        everything = np.arange(len(labels))
        assert np.array_equal(np.sort(np.concatenate([train, validation])), everything)
        assert len(validation) == count
        assert (train.dtype, validation.dtype) == (np.int64, np.int64)
        assert np.array_equal(train, np.sort(train))
        assert shares_are_within_one(labels, validation, everything)
        assert all(map(np.array_equal, split(labels, spec, seed, None, None), (train, validation)))

    @given(_labels(), st.integers(0, 9), st.data())
    def test_folds_partition(self, labels: np.ndarray, seed: int, data: st.DataObject) -> None:
        folds = data.draw(st.integers(2, int(np.bincount(labels).min())))
        spec = DatasetSpec(name="digits")
        parts = [split(labels, spec, seed, fold, folds) for fold in range(folds)]
        everything = np.arange(len(labels))
        assert np.array_equal(np.sort(np.concatenate([part[1] for part in parts])), everything)
        for train, validation in parts:
            assert np.array_equal(np.sort(np.concatenate([train, validation])), everything)
            counts = np.bincount(labels[validation], minlength=labels.max() + 1)
            assert (np.abs(counts - np.bincount(labels) / folds) < 1).all()

    @given(_labels(), st.integers(0, 9), st.data())
    def test_limits_are_nested_and_stratified(
        self, labels: np.ndarray, seed: int, data: st.DataObject
    ) -> None:
        classes = int(labels.max()) + 1
        whole, validation = split(labels, DatasetSpec(name="digits", validation=classes), seed, None, None)
        assume(classes <= len(whole))
        previous: set[int] = set()
        for limit in sorted(data.draw(st.sets(st.integers(classes, len(labels)), min_size=1, max_size=4))):
            spec = DatasetSpec(name="digits", validation=classes, train_limit=limit)
            train, same = split(labels, spec, seed, None, None)
            assert np.array_equal(same, validation)
            assert len(train) == len(set(train)) == min(limit, len(whole))
            assert previous <= set(train) <= set(whole)
            assert shares_are_within_one(labels, train, whole)
            previous = set(train)

    @given(_labels(), st.integers(1, 60), st.integers(0, 99), st.integers(0, 99), st.sampled_from([None, 3]))
    def test_whether_it_can_be_is_no_matter_of_seeds(
        self, labels: np.ndarray, count: int, seed: int, other: int, folds: int | None
    ) -> None:
        """So that trying one seed before Ray starts is trying them all."""
        spec = DatasetSpec(name="digits", validation=count)

        def outcome(seed: int) -> str:
            try:
                split(labels, spec, seed, None if folds is None else 0, folds)
            except InputError as error:
                return str(error)
            return "it can be"

        assert outcome(seed) == outcome(other)

    def test_seeds_differ(self) -> None:
        labels = np.arange(100) % 4
        first, second = (split(labels, DatasetSpec(name="digits"), seed, None, None) for seed in (0, 1))
        assert not np.array_equal(first[1], second[1])

    def test_fraction_is_rounded(self) -> None:
        labels = np.arange(104) % 4
        assert len(split(labels, DatasetSpec(name="digits", validation=0.1), 0, None, None)[1]) == 10

    def test_too_few_images_are_refused(self) -> None:
        labels = np.arange(40) % 4

        def refused(labels: np.ndarray, folds: int | None = None, **fields: Any) -> str:
            spec = DatasetSpec(name="digits", **fields)
            return refusal(lambda: split(labels, spec, 0, None if folds is None else 0, folds))

        assert "holding out 40 of 40 images" in refused(labels, validation=40)
        assert "set 4 to 36" in refused(labels, validation=38)
        assert "holding out 2 of 40" in refused(labels, validation=0.05)
        assert "class 9 has only 1 image" in refused(np.append(labels, 9), validation=8)
        assert "set folds to at most 10" in refused(labels, folds=11)
        assert "set it to 4 or more" in refused(labels, validation=8, train_limit=3)


PLAIN = """
import sys, torch, warnings
warnings.simplefilter("error")
from lightsweep.system.torchvision_import import import_torchvision
assert import_torchvision() is import_torchvision() is sys.modules["torchvision"]
import torchvision.datasets, torchvision.transforms.v2.functional
"""
COMPLETE = """
import sys, torch, types
sys.modules["torchvision"] = complete = types.ModuleType("torchvision")
from lightsweep.system.torchvision_import import import_torchvision
assert import_torchvision() is complete
assert not hasattr(torch.ops.torchvision, "nms")
"""
OTHERWISE_BROKEN = """
import pathlib, sys, torch
folder = pathlib.Path(sys.argv[1])
(folder / "torchvision.py").write_text("raise RuntimeError('some other failure')")
sys.path.insert(0, str(folder))
from lightsweep.system.torchvision_import import import_torchvision
try:
    import_torchvision()
except RuntimeError as error:
    assert str(error) == "some other failure"
else:
    raise AssertionError("no error")
assert not hasattr(torch.ops.torchvision, "nms")
"""


@pytest.mark.parametrize("code", [PLAIN, COMPLETE, OTHERWISE_BROKEN], ids=["here", "complete", "broken"])
def test_import_of_torchvision(code: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_real_data(name: str, real_data: Path) -> None:
    spec = DatasetSpec.model_validate({"name": name})
    dataset = load(spec, real_data, download=False)
    assert dataset.info == describe(spec, real_data)
    counts = np.bincount(dataset.test.labels)
    assert len(counts) == 10
    assert counts.sum() == 10_000
    assert 0.1 < dataset.train.pixels[:1000].mean() / 255 < 0.6
    train, validation = split(dataset.train.labels, spec, 0, None, None)
    assert len(validation) == len(dataset.train.labels) // 10
    assert len(train) + len(validation) == len(dataset.train.labels)
