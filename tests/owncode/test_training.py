"""Nets, data and functions of the user's own train like ours: the method on any net, resumed bit for bit."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from own_code import FILES, data_of, plan_own, write_files

from lightsweep.data.datasets import describe, load
from lightsweep.nets.cost import cost
from lightsweep.nets.models import build
from lightsweep.store.claims import LocalStore
from lightsweep.store.folder import FolderStore
from lightsweep.store.stagefile import Checkpoint
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.reading import dump_sweep, load_sweep
from lightsweep.training import batches
from lightsweep.training.chain import TrialResult, run_trial, trial_steps
from lightsweep.training.state import EpochRecord

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, FILES)
    return tmp_path


def train(folder: Path, base: dict[str, Any], store: str = "store") -> TrialResult:
    planned = plan_own(folder, base)
    return run_trial(
        planned.trials[0], data_of(planned, folder), LocalStore(FolderStore(folder / store)), CPU
    )


METHODS: list[tuple[dict[str, Any], int]] = [
    # by hand: 36 + 4, 288 + 8, 24 + 3 weights of the net of width 4 with three classes: 363
    ({}, 363),
    ({"inputs": "single", "fusion": "conv1x1", "hidden": None}, 363 + 12),
    ({"inputs": "dual"}, 2 * 363 + 6 * 32 + 32 + 32 * 3 + 3),
    ({"inputs": "dual", "fusion": "fresh", "hidden": 5}, 2 * 363 + 35 + 18),
    ({"inputs": "dual", "fusion": "average"}, 2 * 363),
    ({"inputs": "dual", "fusion": "concatenate", "hidden": None}, 2 * (363 - 27) + 16 * 3 + 3),
]


@pytest.mark.parametrize(("method", "parameters"), METHODS, ids=str)
@pytest.mark.parametrize("preset", ["paper", "gradual"])
def test_the_method_applies_to_a_net_of_ones_own(
    folder: Path, method: dict[str, Any], parameters: int, preset: str
) -> None:
    base = {"model": {"net": "net.py:build", **method}}
    stages = {"preset": preset, "epochs": {"dual": 1, "fusion": 1, "finetune": 3}, "patience": None}
    planned = plan_own(folder, {**base, "stages": stages})
    trial = planned.trials[0]
    assert planned.costs[trial.trial_id].parameters == parameters
    result = run_trial(trial, data_of(planned, folder), LocalStore(FolderStore(folder / "s")), CPU)
    assert sum(len(stage.epochs) for stage in result.stages) == 5
    weights = result.stages[-1].weights
    assert sum(w.numel() for name, w in weights.items() if name not in ("mean", "deviation")) == parameters
    assert ("b.first.weight" in weights) == (method.get("inputs") == "dual")


LAZY = """
from torch import nn

def build(shape, classes):
    return nn.Sequential(nn.LazyConv2d(3, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(classes))
"""


def test_a_file_of_ones_own_may_import_torchvision_also_where_its_operators_do_not_load(
    folder: Path,
) -> None:
    text = (
        "from torchvision.models.squeezenet import Fire\ndef build(shape, classes): return Fire(1, 2, 3, 4)\n"
    )
    (folder / "fire.py").write_text(text)
    command = """
from pathlib import Path
from lightsweep.owncode.loading import load
from lightsweep.sweepfile.reading import with_digests
net = load(with_digests("fire.py:build", Path()))((1, 8, 8), 7)
print(sum(weights.numel() for weights in net.parameters()))
"""  # a process of its own: in this one another test may have imported torchvision
    said = subprocess.run([sys.executable, "-c", command], cwd=folder, capture_output=True, text=True)
    assert said.stdout == f"{(2 + 2) + (2 * 3 + 3) + (2 * 4 * 9 + 4)}\n", said.stderr


def test_lazy_layers_get_their_shapes(folder: Path) -> None:
    """Weights 3·9 + 3, 3 + 3 and 300·3 + 3; statistics of normalisation stay as they begin."""
    write_files(folder, {"lazy.py": LAZY})
    planned = plan_own(folder, {"model": {"net": "lazy.py:build"}})
    trial = planned.trials[0]
    assert planned.costs[trial.trial_id].parameters == 30 + 6 + 903
    built = build(trial.spec.model, (1, 12, 12), 3, "heads", 0).state_dict()
    assert not built["a.1.running_mean"].any()
    assert len(train(folder, {"model": {"net": "lazy.py:build"}}).stages) == 2


def test_asking_for_features_changes_no_statistics() -> None:
    spec = ModelSpec(fusion="concatenate", batch_norm=True)
    built = build(spec, (1, 28, 28), 10, "fused", 0).state_dict()
    assert not built["a.conv1.norm.running_mean"].any()
    assert int(built["a.conv1.norm.num_batches_tracked"]) == 0


def test_macs_of_a_net_of_ones_own_by_hand(folder: Path) -> None:
    """On 12 pixels: 5·5·4 of 9, 2·2·8 of 36, and the head."""
    planned = plan_own(folder, {"model": {"net": "net.py:build"}})
    assert planned.costs[planned.trials[0].trial_id].macs == 5 * 5 * 4 * 9 + 2 * 2 * 8 * 36 + 24


def test_a_frozen_block_of_a_net_of_ones_own_stays_and_the_others_learn(folder: Path) -> None:
    stages = [{"name": "all", "epochs": 1}, {"name": "last", "epochs": 1, "train": "last-2"}]
    result = train(folder, {"model": {"net": "net.py:build"}, "stages": stages})
    before, after = (stage.weights for stage in result.stages)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"a.second.weight", "a.second.bias", "a.head.weight", "a.head.bias"}


def test_submodels_start_from_streams_of_their_own_and_a_does_not_depend_on_b(folder: Path) -> None:
    planned = plan_own(folder, {"model": {"net": "net.py:build", "inputs": "dual"}})
    dual = planned.trials[0].spec.model
    single = dual.model_copy(update={"inputs": "single"})
    one, other = (build(spec, (1, 12, 12), 3, "fused", 5).state_dict() for spec in (dual, single))
    assert torch.equal(one["a.first.weight"], other["a.first.weight"])
    assert not torch.equal(one["a.first.weight"], one["b.first.weight"])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_maps_kept_of_a_sequence_change_no_bit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, dropout: float
) -> None:
    """Its second convolution is child 4; dropout before it draws anew each time, so maps end before it."""
    base = {
        "model": {"net": "sequence.py:build", "width": 3, "drop": dropout},
        "stages": [{"name": "all", "epochs": 1}, {"name": "last", "epochs": 2, "train": ["8"]}],
        "augmentation": "none",
    }
    kept = train(folder, base, "kept")
    monkeypatch.setattr(batches, "MAPS_BYTES", 0)
    recomputed = train(folder, base, "recomputed")
    for one, other in zip(kept.stages, recomputed.stages, strict=True):
        assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


FUNCTIONS: dict[str, dict[str, Any]] = {
    "augmentation": {"augmentation": [{"transform": "aug.py:darken", "most": 0.9}]},
    "partly": {"augmentation": [{"transform": "aug.py:darken", "probability": 0.5}, {"transform": "flip"}]},
    "optimizer": {"stages": [{"name": "a", "epochs": 3, "optimizer": {"name": "opt.py:slow", "beta": 0.5}}]},
    "torch's": {"stages": [{"name": "a", "epochs": 3, "optimizer": {"name": "AdamW", "betas": [0.9, 0.95]}}]},
    "adafactor": {"stages": [{"name": "a", "epochs": 3, "optimizer": "Adafactor"}]},
    "loss": {"stages": [{"name": "a", "epochs": 3, "loss": {"name": "loss.py:focal", "gamma": 1.0}}]},
    "smoothing": {"stages": [{"name": "a", "epochs": 3, "loss": {"label_smoothing": 0.2}}]},
    "schedule": {"stages": [{"name": "a", "epochs": 3, "schedule": "schedule.py:steps", "lr": 0.01}]},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_ones_own_acts_and_with_it_a_killed_stage_ends_with_the_same_bits(
    folder: Path, name: str
) -> None:
    base = {"model": {"net": "net.py:build"}, "augmentation": "none", **FUNCTIONS[name]}
    base.setdefault("stages", [{"name": "a", "epochs": 3}])
    whole = train(folder, base, "whole")
    plain = train(folder, {**base, "augmentation": "none", "stages": [{"name": "a", "epochs": 3}]}, "plain")
    assert not torch.equal(whole.stages[0].weights["a.head.weight"], plain.stages[0].weights["a.head.weight"])
    planned = plan_own(folder, base)
    store = LocalStore(FolderStore(folder / "killed"), checkpoint_seconds=0)
    steps = trial_steps(planned.trials[0], data_of(planned, folder), store, CPU)
    epochs = [next(steps) for _ in range(3)]  # the third comes when the second is kept
    assert [step.epoch for step in epochs if isinstance(step, EpochRecord)] == [1, 2, 3]
    steps.close()
    again = run_trial(planned.trials[0], data_of(planned, folder), store, CPU)
    assert again.entries[0].origin == "continued"
    for key, tensor in whole.stages[0].weights.items():
        assert torch.equal(tensor, again.stages[0].weights[key])


def test_the_learning_rate_is_what_the_schedule_says(folder: Path) -> None:
    result = train(folder, {"model": {"net": "net.py:build"}, **FUNCTIONS["schedule"]})
    rates = [epoch["learning_rate"] for epoch in result.stages[0].epochs]
    assert rates == pytest.approx([0.01, 0.001, 0.001])


def test_label_smoothing_is_torchs(folder: Path) -> None:
    """Smoothing by all that there is leaves the uniform distribution: a loss of at least ln 3."""
    stages = [{"name": "a", "epochs": 1, "loss": {"label_smoothing": 1.0}}]
    result = train(folder, {"model": {"net": "net.py:build"}, "stages": stages})
    assert result.stages[0].epochs[0]["train_loss"] >= 1.0986


def test_checkpoints_keep_numbers_lists_and_groups_of_an_optimizer() -> None:
    state = {"state": {"0": {"steps": 3, "last": [0.5]}}, "groups": [{"lr": 0.1, "betas": [0.9, 0.95]}]}
    data = Checkpoint({"net.x": torch.zeros(2)}, [], 1.0, state).to_bytes("k")
    assert Checkpoint.from_bytes(data, "k").optimizer == state


def test_weights_are_pruned_and_rounded_and_filters_only_where_the_net_says_how(folder: Path) -> None:
    compression = {"prune": "weights", "amount": 0.5, "epochs": 1, "quantise": "int8"}
    result = train(folder, {"model": {"net": "net.py:build", "inputs": "dual"}, "compression": compression})
    assert result.stages[-1].weights["b.second.weight"].dtype == torch.int8
    zeros = (result.stages[-2].weights["b.second.weight"] == 0).sum()
    assert 0 < zeros < 288


def test_a_match_scales_the_only_whole_number_or_the_one_that_is_named(folder: Path) -> None:
    arms = {"equal": {"model.inputs": "dual", "model.hidden": None, "model.fusion": "conv1x1",
                      "match": "parameters", "within": 0.15}}  # fmt: skip
    base = {"model": {"net": "net.py:build", "width": 8}}
    planned = plan_own(folder, base, ablation={"arms": arms})
    costs = {trial.arm: planned.costs[trial.trial_id].parameters for trial in planned.trials}
    assert costs["equal"] == pytest.approx(costs["base"], rel=0.15)
    assert planned.arms[1].spec.model.keywords["width"] < 8
    named = {"equal": {**arms["equal"], "over": "width"}}
    assert plan_own(folder, base, ablation={"arms": named}).arms[1].spec == planned.arms[1].spec


def test_grids_over_nets_and_their_keywords(folder: Path) -> None:
    """Another net has its own defaults, the base's own net keeps its keywords; the method stays."""
    base = {"model": {"net": "net.py:build", "width": 8, "inputs": "dual", "fusion": "average"}}
    planned = plan_own(folder, base, grid={"model.net": ["net.py:build", "sequence.py:build", "plain-cnn"]})
    assert [arm.name for arm in planned.arms] == [
        "net net.py:build",
        "net sequence.py:build",
        "net plain-cnn",
    ]
    assert [arm.spec.model.keywords for arm in planned.arms] == [
        {"width": 8}, {"width": 4, "drop": 0.0}, {"width": 1.0},
    ]  # fmt: skip
    assert {arm.spec.model.fusion for arm in planned.arms} == {"average"}


def test_a_resolved_sweep_comes_back_from_its_file(folder: Path) -> None:
    planned = plan_own(folder, {"model": {"net": "net.py:build"}, **FUNCTIONS["partly"]})
    (folder / "resolved.yaml").write_text(dump_sweep(planned.sweep))
    assert load_sweep(folder / "resolved.yaml") == planned.sweep


def test_set_changes_keywords_and_nets(folder: Path) -> None:
    plan_own(folder, {"model": {"net": "net.py:build"}})
    changed = load_sweep(folder / "sweep.yaml", ["base.model.width=6", "dataset.count=30"])
    assert changed.base.model.keywords == {"width": 6}
    assert describe(changed.dataset, folder).train_count == 24
    other = load_sweep(folder / "sweep.yaml", ["base.model.net=plain-cnn", "base.model.width=0.5"])
    assert (other.base.model.net, other.base.model.keywords) == ("plain-cnn", {"width": 0.5})


RETURNS = {
    "data": "Data(images, labels, images[:9], labels[:9], classes=list('abc'))",
    "mapping": "{'train_images': images, 'train_labels': labels, **TEST}",
    "three": "(images, np.array(list('abc'))[labels], list('abc'))",
    "five": "(images, labels, images[:9], labels[:9], ['a', 'b', 'c'])",
    "tensors": "(torch.from_numpy(images), torch.from_numpy(labels), None)",
    "files": "(write(images), labels, None)",
}
MAKE = """
from pathlib import Path
import numpy as np, torch
from PIL import Image
from lightsweep import Data

def write(images):
    for number, image in enumerate(images):
        Image.fromarray(image).save(HERE / f"{number}.png")
    return [f"{number}.png" for number in range(len(images))]

def load(data_dir):
    global HERE
    HERE = data_dir
    images = np.arange(30 * 64, dtype=np.uint8).reshape(30, 8, 8)
    labels = np.arange(30) % 3
    TEST = {"test_images": images[:9], "test_labels": labels[:9]}
    return WHAT
"""


@pytest.mark.parametrize("what", RETURNS)
def test_data_of_ones_own_may_be_returned_in_any_of_these_forms(tmp_path: Path, what: str) -> None:
    write_files(tmp_path, {"own.py": MAKE.replace("WHAT", RETURNS[what])})
    sweep = "name: t\ndataset: {name: own.py:load, validation: 6}\n"
    (tmp_path / "s.yaml").write_text(sweep)
    spec = load_sweep(tmp_path / "s.yaml").dataset
    found = load(spec, tmp_path, False)
    assert found.info == describe(spec, tmp_path)
    assert found.info.name == "own.py:load"
    assert found.info.shape == (1, 8, 8)
    assert len(found.info.classes) == 3
    is_split = what in ("data", "mapping", "five")
    assert (found.info.train_count, found.info.test_count) == ((30, 9) if is_split else (24, 6))
    values = set(found.train.pixels[:, 0, 0, 0].tolist())  # images begin with multiples of 64
    assert values <= {0, 64, 128, 192}
    whole = load(spec.model_copy(update={"image_size": 16}), tmp_path, False)
    assert whole.train.pixels.shape[1:] == (16, 16, 1)


def test_the_papers_net_has_the_papers_numbers_of_weights() -> None:
    assert cost(ModelSpec(), (1, 28, 28), 10).parameters == 14_862
    assert cost(ModelSpec(), (3, 32, 32), 10).parameters == 19_622
