"""Arms of an ablation are paired: with a seed they share all they can, so that a difference is their own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightsweep.data.datasets import describe, load
from lightsweep.data.imagedata import Dataset
from lightsweep.data.splits import split
from lightsweep.nets.models import build
from lightsweep.planning.plan import plan
from lightsweep.store.claims import LocalStore, NoStore
from lightsweep.store.folder import FolderStore
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.training.batches import Source
from lightsweep.training.chain import TrialResult, run_trial
from lightsweep.trials.trial import Trial

CPU = torch.device("cpu")
NOWHERE = Path("nowhere")
STAGES = [
    {"name": "dual", "loss": "heads", "epochs": 2},
    {"name": "fusion", "loss": "fused", "train": "last-2", "epochs": 1},
    {"name": "finetune", "loss": "fused", "epochs": 1},
]


def trials(changes: dict[str, Any]) -> tuple[Trial, Trial]:
    """Return base's trial and an arm's, of one seed, as an ablation plans them."""
    tree = {
        "name": "t",
        "dataset": {"name": "digits", "validation": 100, "train_limit": 150},
        "seeds": [4],
        "base": {"model": {"filters": [3, 4], "hidden": 8}, "stages": STAGES},
        "ablation": {"arms": {"arm": changes}},
    }
    planned = plan(Sweep.model_validate(tree), lambda spec: describe(spec, NOWHERE))
    found = {trial.arm: trial for trial in planned.trials}
    return found["base"], found["arm"]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(trials({"batch_size": 1})[0].dataset, NOWHERE, download=False)


def are_equal(one: TrialResult, other: TrialResult, index: int) -> bool:
    first, second = one.stages[index].weights, other.stages[index].weights
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_arms_that_differ_in_stage_3_have_equal_stages_1_and_2(digits: Dataset, tmp_path: Path) -> None:
    """Bit for bit when each is trained alone, and with a store the second arm takes the first one's."""
    pair = trials({"stages.finetune.lr": 0.01})
    alone = [run_trial(trial, digits, NoStore(), CPU) for trial in pair]
    assert [are_equal(alone[0], alone[1], index) for index in range(3)] == [True, True, False]
    store = LocalStore(FolderStore(tmp_path))
    shared = [run_trial(trial, digits, store, CPU) for trial in pair]
    assert [entry.origin for entry in shared[1].entries] == ["stored", "stored", "trained", "trained"]
    assert all(are_equal(shared[1], alone[1], index) for index in range(3))


@pytest.mark.parametrize(
    "changes",
    [
        {"model.inputs": "single"},
        {"model.fusion": "concatenate"},
        {"model.hidden": None},
        {"model.filters": [5, 4]},
    ],
    ids=str,
)
def test_arms_see_the_same_images_in_the_same_order_augmented_alike(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """In every epoch of every stage; also a single net, whose only images are the augmented ones."""
    seen: list[tuple[Tensor, Tensor]] = []
    inputs = Source.inputs

    def watched(self: Source, positions: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        first, second = inputs(self, positions, *arguments)
        if arguments:  # in training
            seen.append((positions, second))
        return first, second

    monkeypatch.setattr(Source, "inputs", watched)
    batches = []
    for trial in trials(changes):
        seen.clear()
        run_trial(trial, digits, NoStore(), CPU)
        batches.append(list(seen))
    assert len(batches[0]) == len(batches[1]) == 4 * 3
    for (positions, images), (other_positions, other_images) in zip(*batches, strict=True):
        assert torch.equal(positions, other_positions)
        assert torch.equal(images, other_images)


def test_arms_have_the_same_split_and_equal_weights_where_shapes_agree(digits: Dataset) -> None:
    base, arm = trials({"model.inputs": "single", "model.hidden": 5})
    splits = [split(digits.train.labels, trial.dataset, trial.seed, None, None) for trial in (base, arm)]
    assert all((one == other).all() for one, other in zip(*splits, strict=True))
    weights = [
        build(trial.spec.model, (1, 28, 28), 10, "fused", trial.seed).state_dict() for trial in (base, arm)
    ]
    common = {name for name in weights[1] if weights[0][name].shape == weights[1][name].shape}
    assert common >= {"a.conv1.convolution.weight", "a.conv2.convolution.weight", "a.head.weight"}
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in common)
