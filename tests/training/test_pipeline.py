"""A trial as a chain of stages: looked up where it can be, paired, and the same every time."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from lightsweep.data.datasets import load
from lightsweep.data.imagedata import Dataset, DatasetInfo, Images, Task
from lightsweep.deliver.export import some_images
from lightsweep.store.claims import LocalStore
from lightsweep.store.folder import FolderStore
from lightsweep.store.stagefile import StageResult
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.training import chain as pipeline
from lightsweep.training.batches import Split, channel_statistics
from lightsweep.training.chain import TrialResult, run_trial
from lightsweep.training.loop import DivergedError
from lightsweep.training.stagenets import final_net
from lightsweep.trials.trial import Trial

CPU = torch.device("cpu")
DIGITS = DatasetSpec(name="digits", validation=100, train_limit=150)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DIGITS, Path("nowhere"), download=False)


def trial(seed: int = 0, arm: str = "base", **spec: object) -> Trial:
    settings = {
        "model": {"filters": [2, 3]},
        "stages": {"preset": "paper", "epochs": {"dual": 2, "fusion": 1, "finetune": 1}},
    }
    return Trial(arm, DIGITS, ArmSpec.model_validate({**settings, **spec}), Task((1, 28, 28), 10), seed)


def local(folder: Path) -> LocalStore:
    return LocalStore(FolderStore(folder))


def reused(result: TrialResult) -> tuple[bool, ...]:
    return tuple(entry.origin == "stored" for entry in result.entries[:-1])


def chains_equal(first: TrialResult, second: TrialResult) -> bool:
    return all(weights_equal(a, b) for a, b in zip(first.stages, second.stages, strict=True))


def weights_equal(first: StageResult, second: StageResult) -> bool:
    return first.weights.keys() == second.weights.keys() and all(
        torch.equal(first.weights[name], second.weights[name]) for name in first.weights
    )


def test_a_trial_has_a_result_per_stage_and_an_assessment(digits, tmp_path):
    result = run_trial(trial(), digits, local(tmp_path), CPU)
    assert [len(stage.epochs) for stage in result.stages] == [2, 1, 1]
    assert reused(result) == (False, False, False)
    metrics = result.assessment.metrics
    assert sum(map(sum, metrics["test_confusion"])) == len(digits.test.labels)
    hits = sum(metrics["test_confusion"][k][k] for k in range(10))
    assert metrics["test_accuracy"] == pytest.approx(hits / len(digits.test.labels))
    assert metrics["val_accuracy"] == pytest.approx(result.stages[-1].metrics["val_accuracy"])


def test_the_same_seed_twice_gives_equal_weights_bit_for_bit(digits, tmp_path):
    results = [run_trial(trial(), digits, local(tmp_path / name), CPU) for name in "ab"]
    assert chains_equal(results[0], results[1])
    other = run_trial(trial(seed=1), digits, local(tmp_path / "c"), CPU)
    assert not weights_equal(results[0].stages[0], other.stages[0])


def test_a_second_run_trains_nothing(digits, tmp_path, monkeypatch):
    first = run_trial(trial(), digits, local(tmp_path), CPU)
    monkeypatch.setattr(pipeline, "train_stage", lambda *_: pytest.fail("a stored stage was trained again"))
    monkeypatch.setattr(pipeline, "evaluate", lambda *_: pytest.fail("a stored trial was assessed again"))
    second = run_trial(trial(arm="renamed"), digits, local(tmp_path), CPU)
    assert reused(second) == (True, True, True)
    assert second.assessment.metrics == first.assessment.metrics


def test_arms_share_their_first_stage_and_equal_training_from_the_start(digits, tmp_path):
    """A stage that goes on from a looked-up one is bit-equal to one that goes on from a trained one."""
    run_trial(trial(), digits, local(tmp_path / "shared"), CPU)
    average = trial(model={"filters": [2, 3], "hidden": 8})
    shared = run_trial(average, digits, local(tmp_path / "shared"), CPU)
    alone = run_trial(average, digits, local(tmp_path / "alone"), CPU)
    assert reused(shared) == (True, False, False)
    assert reused(alone) == (False, False, False)
    assert weights_equal(shared.stages[-1], alone.stages[-1])


def test_a_damaged_stage_is_trained_again_to_the_same_bits(digits, tmp_path):
    store = local(tmp_path)
    first = run_trial(trial(), digits, store, CPU)
    file = next(tmp_path.rglob(f"{first.entries[1].key}.stage"))
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="discarded and trained again"):
        second = run_trial(trial(), digits, store, CPU)
    assert reused(second) == (True, False, True)
    assert weights_equal(first.stages[1], store.claim(first.entries[1].key).result)


class Interrupted(Exception):
    pass


class Flaky(LocalStore):
    """A store whose worker is lost when it has handed over so many checkpoints."""

    def __init__(self, folder: Path, checkpoints: int) -> None:
        super().__init__(FolderStore(folder), checkpoint_seconds=0)
        self.left = checkpoints
        self.released: list[str] = []

    def put_checkpoint(self, key, checkpoint):
        super().put_checkpoint(key, checkpoint)
        self.left -= 1
        if not self.left:
            raise Interrupted

    def release(self, key):
        self.released.append(key)


LONG = {"stages": {"preset": "paper", "epochs": {"dual": 5, "fusion": 3, "finetune": 2}, "patience": 2}}


@pytest.mark.parametrize(("checkpoints", "epochs_before"), [(1, 1), (4, 4), (5, 1), (7, 1)])
def test_a_lost_stage_goes_on_from_its_checkpoint_to_the_same_bits(
    digits, tmp_path, checkpoints, epochs_before
):
    """Checkpoints are made after all epochs but a stage's last: 4, 2 and 1 of them."""
    whole = run_trial(trial(**LONG), digits, local(tmp_path / "whole"), CPU)
    store = Flaky(tmp_path / "lost", checkpoints)
    with pytest.raises(Interrupted):
        run_trial(trial(**LONG), digits, store, CPU)
    again = run_trial(trial(**LONG), digits, local(tmp_path / "lost"), CPU)
    assert chains_equal(whole, again)
    (entry,) = [entry for entry in again.entries if entry.origin == "continued"]
    assert store.released == [entry.key]
    assert entry.epochs_trained == entry.epochs - epochs_before
    assert [entry.epochs for entry in again.entries] == [entry.epochs for entry in whole.entries]
    assert again.assessment.metrics == whole.assessment.metrics
    assert not list(tmp_path.rglob("*.checkpoint"))


def test_checkpoints_come_no_more_often_than_is_asked(digits, tmp_path, monkeypatch):
    store = local(tmp_path)
    monkeypatch.setattr(LocalStore, "put_checkpoint", lambda *_: pytest.fail("too early"))
    run_trial(trial(), digits, store, CPU)


def test_a_stage_that_left_the_finite_numbers_is_stored_as_such(digits, tmp_path, monkeypatch):
    """It would again, so nobody trains it again; the message has the name that the arm gives the stage."""
    store = local(tmp_path)

    def arm(name: str):
        tables = [{"name": "dual", "loss": "heads"}, {"name": name, "optimizer": "sgd", "lr": 1e30}]
        return trial(stages=[{**table, "epochs": 1} for table in tables])

    with pytest.raises(DivergedError, match="stage wild: the training loss is NaN in epoch 1"):
        run_trial(arm("wild"), digits, store, CPU)
    monkeypatch.setattr(pipeline, "train_stage", lambda *_: pytest.fail("trained again"))
    with pytest.raises(DivergedError, match="stage tame: the training loss is NaN in epoch 1"):
        run_trial(arm("tame"), digits, store, CPU)


def test_the_test_images_reach_the_assessment_alone(digits, tmp_path):
    """Other test images change no weights and no validation result."""
    swapped = replace(digits, test=Images(digits.test.pixels[::-1].copy(), np.zeros_like(digits.test.labels)))
    ours = run_trial(trial(), digits, local(tmp_path / "a"), CPU)
    theirs = run_trial(trial(), swapped, local(tmp_path / "b"), CPU)
    assert chains_equal(ours, theirs)
    assert ours.assessment.metrics["val_accuracy"] == theirs.assessment.metrics["val_accuracy"]
    assert ours.assessment.metrics["test_accuracy"] != theirs.assessment.metrics["test_accuracy"]


@pytest.mark.parametrize("fusion", ["conv1x1", "concatenate", "average", "fresh"])
@pytest.mark.parametrize("preset", ["paper", "gradual", "all-at-once", "frozen", "scratch"])
def test_every_fusion_trains_with_every_preset(digits, tmp_path, fusion, preset):
    stages = {"preset": preset, "epochs": {"dual": 1, "fusion": 1, "finetune": 2}}
    arm = trial(model={"filters": [2, 3], "fusion": fusion, "batch_norm": True}, stages=stages)
    result = run_trial(arm, digits, local(tmp_path), CPU)
    assert sum(len(stage.epochs) for stage in result.stages) == 4
    assert not any(weights_equal(*pair) for pair in pairwise(result.stages))  # every stage trains something
    net = final_net(arm, result.stages[-1])
    images, labels = some_images(digits.test)
    with torch.inference_mode():
        right = net(images, images)[0].argmax(1) == labels
    assert result.assessment.metrics["test_accuracy"] == int(right.sum()) / len(labels)


def test_a_single_submodel_without_fusion_trains(digits, tmp_path):
    arm = trial(model={"inputs": "single", "fusion": "none", "filters": [2, 3]})
    assert len(run_trial(arm, digits, local(tmp_path), CPU).stages) == 2


def test_images_of_any_shape_and_number_of_classes_train(tmp_path):
    """Five channels, not square, three classes."""
    rng = np.random.default_rng(0)
    images = Images(rng.integers(0, 256, (60, 20, 14, 5), dtype=np.uint8), np.arange(60) % 3)
    info = DatasetInfo("npz", 20, 14, 5, ("a", "b", "c"), 60, 60)
    spec = DatasetSpec(name="npz", path="x.npz", validation=12)
    arm = replace(trial(), dataset=spec, task=info.task)
    result = run_trial(arm, Dataset(info, images, images, "f" * 64), local(tmp_path), CPU)
    assert len(result.assessment.metrics["test_confusion"]) == 3


def test_channel_statistics_are_those_of_the_training_images_alone():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)
    pixels[..., 2] = 7
    index = np.arange(0, 50, 3)
    split = Split(torch.from_numpy(pixels), torch.zeros(50, dtype=torch.int64), torch.from_numpy(index))
    mean, deviation = channel_statistics(split, chunk=4)
    expected = pixels[index].astype(np.float64) / 255
    np.testing.assert_allclose(mean.flatten(), expected.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(deviation.flatten()[:2], expected.std((0, 1, 2))[:2], rtol=1e-5)
    assert deviation.flatten()[2] == 1  # a channel that never varies


def test_training_works_where_ray_is_not_installed():
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "import lightsweep.training.chain, lightsweep.runs.run, lightsweep.cli.main\n"
        "assert not [name for name in sys.modules if name.startswith('ray.')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
