"""Training on a GPU: agrees with the processor, repeats itself, goes on, shares, and says what is too much.

`pytest -m cuda`, on a machine with a GPU that torch can use; Ray is not needed.
"""

import copy
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from giving_up import give_up
from small_images import SPEC, write_images

from lightsweep.data.datasets import load
from lightsweep.data.imagedata import Dataset, Task
from lightsweep.store.claims import NoStore
from lightsweep.store.stagefile import Checkpoint
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.system.machine import allow_tf32, make_repeatable
from lightsweep.training.attempt import attempt
from lightsweep.training.chain import TrialResult, run_trial, trial_steps
from lightsweep.trials.trial import Trial

pytestmark = pytest.mark.cuda
GPU, CPU = torch.device("cuda"), torch.device("cpu")
STAGES = {"preset": "paper", "epochs": {"dual": 3, "fusion": 1, "finetune": 2}, "patience": None}
NETS: dict[str, dict[str, Any]] = {
    "paper": {"model": {"filters": [4, 8]}, "stages": STAGES, "augmentation": "affine"},
    "mobilenet": {
        "model": {"net": "mobilenet-v2", "width": 0.25},
        "stages": [{"name": "only", "epochs": 2}],
        "augmentation": "crop-flip",
    },
}


@pytest.fixture(autouse=True)
def _needs_a_gpu() -> None:
    if not torch.cuda.is_available():
        give_up("needs a GPU that torch can use")
    make_repeatable()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder: Path = tmp_path_factory.mktemp("images")
    write_images(folder / "images.npz")
    return load(DatasetSpec(name="npz", path=str(folder / "images.npz")), folder, download=False)


def trial(name: str, **changes: Any) -> Trial:
    spec = ArmSpec.model_validate({**NETS[name], "batch_size": 16, **changes})
    return Trial(
        "arm", DatasetSpec.model_validate({**SPEC, "validation": 30}), spec, Task((1, 28, 28), 10), seed=0
    )


def weights(result: TrialResult) -> dict[str, torch.Tensor]:
    return result.stages[-1].weights


@pytest.mark.parametrize("name", NETS)
def test_a_trial_agrees_with_the_processor(dataset: Dataset, name: str) -> None:
    """Augmentation draws from the device's own stream, so it is off: the same images in the same order."""
    there, here = (run_trial(trial(name, augmentation="none"), dataset, NoStore(), to) for to in (GPU, CPU))
    for on_gpu, on_processor in zip(there.stages[0].epochs, here.stages[0].epochs, strict=True):
        assert on_gpu["train_loss"] == pytest.approx(on_processor["train_loss"], rel=0.05)
    assert there.assessment.metrics["test_accuracy"] == pytest.approx(
        here.assessment.metrics["test_accuracy"], abs=0.2
    )


@pytest.mark.parametrize("name", NETS)
def test_a_trial_repeats_itself_bit_for_bit(dataset: Dataset, name: str) -> None:
    one, other = (run_trial(trial(name), dataset, NoStore(), GPU) for _ in range(2))
    assert all(torch.equal(tensor, weights(other)[key]) for key, tensor in weights(one).items())
    assert one.assessment.metrics == other.assessment.metrics


class _Kept(NoStore):
    """Keeps each stage's first checkpoint, and hands it out when the stage is asked for again."""

    checkpoint_seconds = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.checkpoints: dict[str, Checkpoint] = {}

    def put_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        self.checkpoints.setdefault(key, copy.deepcopy(checkpoint))  # its tensors may be the net's own

    def claim(self, key: str) -> Any:
        return replace(super().claim(key), checkpoint=self.checkpoints.get(key))


def test_a_trial_that_goes_on_from_checkpoints_ends_as_if_undisturbed(dataset: Dataset) -> None:
    store = _Kept()
    whole = run_trial(trial("paper"), dataset, store, GPU)
    again = run_trial(trial("paper"), dataset, store, GPU)
    assert {entry.origin for entry in again.entries} == {"continued", "trained"}
    assert all(torch.equal(tensor, weights(again)[key]) for key, tensor in weights(whole).items())


def test_statistics_of_the_images_are_those_of_the_processor_to_the_bit(dataset: Dataset) -> None:
    there, here = (run_trial(trial("paper"), dataset, NoStore(), to).stages[0].weights for to in (GPU, CPU))
    assert torch.equal(there["mean"], here["mean"])
    assert torch.equal(there["deviation"], here["deviation"])


def test_the_images_are_on_the_gpu_once_for_all_trials(dataset: Dataset) -> None:
    steps = trial_steps(trial("paper"), dataset, NoStore(), GPU)
    next(steps)
    before = torch.cuda.memory_allocated()
    other = trial_steps(replace(trial("paper"), seed=1), dataset, NoStore(), GPU)
    next(other)
    assert torch.cuda.memory_allocated() - before < dataset.train.pixels.nbytes + 2**20


def test_memory_that_is_too_small_is_raised_and_no_outcome(dataset: Dataset) -> None:
    """It is for the launcher to try the trial on more of the GPU."""
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            list(attempt(trial("mobilenet"), dataset, NoStore(), GPU))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()
    assert list(attempt(trial("paper"), dataset, NoStore(), GPU))  # this process can go on


def _accuracy_of_its_own(dataset: Dataset, seed: int, told: Any) -> None:
    make_repeatable()
    result = run_trial(replace(trial("paper"), seed=seed), dataset, NoStore(), GPU)
    told.put(json.dumps([seed, result.assessment.metrics["test_confusion"]]))


def test_two_trials_on_one_gpu_are_those_of_each_alone(dataset: Dataset) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    both = [context.Process(target=_accuracy_of_its_own, args=(dataset, seed, told)) for seed in (0, 1)]
    for process in both:
        process.start()
    together = dict(json.loads(told.get()) for _ in both)
    for process in both:
        process.join()
    for seed in (0, 1):
        alone = run_trial(replace(trial("paper"), seed=seed), dataset, NoStore(), GPU)
        assert together[seed] == alone.assessment.metrics["test_confusion"]


def test_tf32_is_off_unless_the_arm_has_it_on() -> None:
    draws = torch.Generator(GPU).manual_seed(0)
    matrix = torch.randn(512, 512, device=GPU, generator=draws)
    exact = (matrix.double() @ matrix.double()).float()
    errors = []
    for is_allowed in (False, True):
        allow_tf32(is_allowed)
        errors.append(float((matrix @ matrix - exact).abs().max()))
    allow_tf32(False)
    assert errors[0] < 1e-3
    if torch.cuda.get_device_capability() >= (8, 0):
        assert errors[1] > 10 * errors[0]
