"""Training with the images last: the same net within rounding, and all that holds for training by torch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from giving_up import give_up
from own_code import FILES, STAGES, data_of, plan_own, write_files

from lightsweep.errors import MachineError
from lightsweep.kernels import library
from lightsweep.store.claims import LocalStore
from lightsweep.store.folder import FolderStore
from lightsweep.training import batches
from lightsweep.training.chain import TrialResult, run_trial, trial_steps
from lightsweep.training.state import EpochRecord

CPU = torch.device("cpu")
IMAGES_LAST = {"model": {"filters": [3, 4], "hidden": 6, "dropout": 0.0}, "kernels": "images-last"}

LOOP = """
import torch
from torch.nn.functional import cross_entropy

def descend(net, data, *, epochs, seed):
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for epoch in range(epochs):
        positions = torch.arange(len(data.train))
        images, labels = data.train.images_of(positions), data.train.labels_of(positions)
        loss = cross_entropy(net(images, images)[0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield {"loss": loss.item()}
"""


@pytest.fixture(autouse=True)
def _kernels() -> None:
    if library.library() is None:
        give_up("needs the kernels: there was no C compiler when lightsweep was installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, FILES)
    return tmp_path


def train(folder: Path, base: dict[str, Any], store: str) -> TrialResult:
    planned = plan_own(folder, base)
    trial, data = planned.trials[0], data_of(planned, folder)
    return run_trial(trial, data, LocalStore(FolderStore(folder / store)), CPU)


def test_a_trained_net_is_that_of_torch_within_rounding(folder: Path) -> None:
    ours, theirs = (
        train(folder, {**IMAGES_LAST, "kernels": kernels}, "store") for kernels in ("images-last", "torch")
    )
    for mine, other in zip(ours.stages, theirs.stages, strict=True):
        for name, weights in other.weights.items():
            assert torch.allclose(mine.weights[name], weights, rtol=1e-2, atol=1e-4), name
    assert not all(
        torch.equal(ours.stages[0].weights[name], theirs.stages[0].weights[name])
        for name in theirs.stages[0].weights
    )  # another way was taken
    assert [entry.origin for entry in theirs.entries] == ["trained"] * 4  # none was looked up


def test_the_same_bits_each_time_and_after_being_stopped(folder: Path) -> None:
    whole = train(folder, IMAGES_LAST, "whole")
    planned = plan_own(folder, IMAGES_LAST)
    store = FolderStore(folder / "stopped")
    for stop_after in (1, 2, 3):
        claims = LocalStore(store)
        claims.checkpoint_seconds = 0.0
        seen = 0
        for step in trial_steps(planned.trials[0], data_of(planned, folder), claims, CPU):
            seen += isinstance(step, EpochRecord)
            if seen == stop_after:
                break
    resumed = run_trial(planned.trials[0], data_of(planned, folder), LocalStore(store), CPU)
    for one, other in zip(whole.stages, resumed.stages, strict=True):
        assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    assert whole.assessment.metrics == resumed.assessment.metrics


def test_maps_kept_of_frozen_blocks_change_no_bit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = {**IMAGES_LAST, "stages": {**STAGES, "preset": "frozen"}, "augmentation": "none"}
    kept = train(folder, base, "kept")
    monkeypatch.setattr(batches, "MAPS_BYTES", 0)
    recomputed = train(folder, base, "recomputed")
    for one, other in zip(kept.stages, recomputed.stages, strict=True):
        assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


@pytest.mark.parametrize("prune", ["weights", "filters"])
def test_a_net_is_compressed_as_by_torch(folder: Path, prune: str) -> None:
    compression = {"prune": prune, "amount": 0.4, "epochs": 2, "quantise": "int8"}
    ours, theirs = (
        train(folder, {**IMAGES_LAST, "compression": compression, "kernels": kernels}, "store")
        for kernels in ("images-last", "torch")
    )
    for mine, other in zip(ours.stages[:-1], theirs.stages[:-1], strict=True):
        for name, weights in other.weights.items():
            assert torch.allclose(mine.weights[name], weights, rtol=1e-2, atol=1e-4), name
            assert torch.equal(mine.weights[name] == 0, weights == 0), name
    assert ours.stages[-1].weights.keys() == theirs.stages[-1].weights.keys()


@pytest.mark.parametrize("optimizer", ["nadam", "adam", "sgd", {"name": "AdamW"}, "opt.py:slow"])
def test_an_optimizer_goes_on_from_its_checkpoint(folder: Path, optimizer: Any) -> None:
    """Ours know one tensor with all parameters; a checkpoint has what is kept of each."""
    momentum = {"momentum": 0.9} if optimizer == "sgd" else {}
    stage = {"name": "a", "epochs": 3, "optimizer": optimizer, "weight_decay": 0.01, **momentum}
    if optimizer == "opt.py:slow":
        del stage["weight_decay"]
    base = {
        **IMAGES_LAST,
        "model": {"filters": [3, 4], "inputs": "single", "fusion": "none"},
        "stages": [stage],
    }
    whole = train(folder, base, "whole").stages[0].weights
    planned = plan_own(folder, base)
    store = FolderStore(folder / "stopped")
    claims = LocalStore(store)
    claims.checkpoint_seconds = 0.0
    steps = trial_steps(planned.trials[0], data_of(planned, folder), claims, CPU)
    assert next(step for step in steps if isinstance(step, EpochRecord) and step.epoch == 2)
    steps.close()
    again = run_trial(planned.trials[0], data_of(planned, folder), LocalStore(store), CPU)
    assert again.entries[0].origin == "continued"
    assert all(torch.equal(whole[name], weights) for name, weights in again.stages[0].weights.items())


def test_a_loop_of_ones_own_trains_such_a_net(folder: Path) -> None:
    write_files(folder, {"mine.py": LOOP})
    base = {**IMAGES_LAST, "model": {"filters": [3, 4], "inputs": "single", "fusion": "none"}}
    stages = [{"name": "mine", "run": "mine.py:descend", "epochs": 2}]
    ours, theirs = (
        train(folder, {**base, "stages": stages, "kernels": kernels}, "store").stages[0].weights
        for kernels in ("images-last", "torch")
    )
    assert all(torch.allclose(ours[name], theirs[name], rtol=1e-2, atol=1e-4) for name in theirs)


def test_without_a_library_a_trial_that_asks_for_it_fails_in_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightsweep.kernels.library.library", lambda: None)
    with pytest.raises(MachineError, match="without a C compiler, or for another processor"):
        train(folder, IMAGES_LAST, "store")
    assert train(folder, {**IMAGES_LAST, "kernels": "torch"}, "store").assessment.metrics["test_accuracy"] > 0
