"""Every setting on its way from an ablation's arm in the sweep file into the trainer, where it must act.

A tuner that loses a hyperparameter on the way compares base with itself. Here each setting is an arm; stages
before the one that it concerns must be base's, bit for bit, and that one must not.
"""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from small_images import write_images

from lightsweep.data.datasets import describe, load
from lightsweep.planning.plan import plan
from lightsweep.store.claims import NoStore
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.augmentation import TransformSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.reading import load_sweep
from lightsweep.sweepfile.settings import Spec
from lightsweep.sweepfile.stages import Compression, PresetEpochs, StagePreset, StageSpec
from lightsweep.training.chain import TrialResult, run_trial
from lightsweep.trials.trial import Trial

STAGES = [
    {"name": "dual", "loss": "heads", "epochs": 2},
    {"name": "fusion", "loss": "fused", "train": "last-2", "epochs": 2},
    {"name": "finetune", "loss": "fused", "optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "epochs": 4},
]
TABLE = {"stages": STAGES}
PRESET: dict[str, Any] = {
    "stages": {"preset": "paper", "epochs": {"dual": 2, "fusion": 2, "finetune": 3}, "finetune_lr": 0.05}
}
# learning rates so high that the last epoch is not the best
WILD_TABLE = {"stages": [*STAGES[:2], {**STAGES[2], "lr": 0.5}]}
WILD_PRESET = {"stages": {**PRESET["stages"], "finetune_lr": 0.5}}
PRUNED = {**TABLE, "compression": {"prune": "weights", "epochs": 3, "lr": 0.02}}
WILD_PRUNED = {**TABLE, "compression": {"prune": "weights", "epochs": 4, "lr": 0.15, "patience": None}}
PLAIN = {"model": {"net": "plain-cnn", "width": 0.5}, "stages": [{"name": "only", "epochs": 2}]}
TURN = {"augmentation": [{"transform": "rotate", "range": [-20, 20], "probability": 0.5}]}
# (class, field) -> (base, key below base, its value in the arm, index of the first stage that it changes)
Case = tuple[dict[str, Any], str, Any, int]
CASES: dict[tuple[type[Spec], str], Case] = {
    (DatasetSpec, "validation"): (TABLE, "dataset.validation", 40, 0),
    (DatasetSpec, "train_limit"): (TABLE, "dataset.train_limit", 50, 0),
    (DatasetSpec, "image_size"): (TABLE, "dataset.image_size", 12, 0),
    (ModelSpec, "inputs"): (TABLE, "model.inputs", "single", 0),
    (ModelSpec, "filters"): (TABLE, "model.filters", [3, 5], 0),
    (ModelSpec, "convolutions"): ({**TABLE, "model": {"filters": [3]}}, "model.convolutions", 2, 0),
    (ModelSpec, "kernel"): (TABLE, "model.kernel", 2, 0),
    (ModelSpec, "batch_norm"): (TABLE, "model.batch_norm", True, 0),
    (ModelSpec, "separable"): (TABLE, "model.separable", True, 0),
    (ModelSpec, "head"): ({**TABLE, "model": {"filters": [3]}}, "model.head", "average", 0),
    (ModelSpec, "fusion"): (TABLE, "model.fusion", "fresh", 1),
    (ModelSpec, "hidden"): (TABLE, "model.hidden", 7, 1),
    (ModelSpec, "dropout"): (TABLE, "model.dropout", 0.5, 1),
    (ArmSpec, "augmentation"): (TABLE, "augmentation", "noise", 0),
    (ArmSpec, "batch_size"): (TABLE, "batch_size", 20, 0),
    (StageSpec, "train"): (TABLE, "stages.finetune.train", "last-3", 2),
    (StageSpec, "loss"): (TABLE, "stages.dual.loss", "head-b", 0),
    (StageSpec, "optimizer"): (TABLE, "stages.fusion.optimizer", "adam", 1),
    (StageSpec, "lr"): (TABLE, "stages.finetune.lr", 0.02, 2),
    (StageSpec, "momentum"): (TABLE, "stages.finetune.momentum", 0.5, 2),
    (StageSpec, "weight_decay"): (TABLE, "stages.fusion.weight_decay", 0.1, 1),
    (StageSpec, "schedule"): (TABLE, "stages.finetune.schedule", "cosine", 2),
    (StageSpec, "warmup_epochs"): (TABLE, "stages.finetune.warmup_epochs", 1.5, 2),
    (StageSpec, "epochs"): (TABLE, "stages.fusion.epochs", 3, 1),
    (StageSpec, "patience"): (WILD_TABLE, "stages.finetune.patience", 1, 2),
    (ModelSpec, "net"): (PLAIN, "model.net", "squeezenet", 0),
    (ModelSpec, "width"): (PLAIN, "model.width", 0.7, 0),
    (Compression, "prune"): (PRUNED, "compression.prune", "filters", 3),
    (Compression, "amount"): (PRUNED, "compression.amount", 0.6, 3),
    (Compression, "optimizer"): (PRUNED, "compression.optimizer", "adam", 3),
    (Compression, "lr"): (PRUNED, "compression.lr", 0.01, 3),
    (Compression, "schedule"): (PRUNED, "compression.schedule", "cosine", 3),
    (Compression, "epochs"): (
        {**PRUNED, **{"compression": {**PRUNED["compression"], "patience": None}}},
        "compression.epochs",
        2,
        3,
    ),
    (Compression, "patience"): (WILD_PRUNED, "compression.patience", 1, 3),
    (Compression, "quantise"): (PRUNED, "compression.quantise", "int8", 4),
    (ArmSpec, "kernels"): (TABLE, "kernels", "images-last", 0),
    (TransformSpec, "transform"): ({**TABLE, **TURN}, "augmentation.0.transform", "shear", 0),
    (TransformSpec, "range"): ({**TABLE, **TURN}, "augmentation.0.range", [-20, 10], 0),
    (TransformSpec, "probability"): ({**TABLE, **TURN}, "augmentation.0.probability", 1.0, 0),
    (StagePreset, "preset"): (PRESET, "stages.preset", "all-at-once", 1),
    (StagePreset, "patience"): (WILD_PRESET, "stages.patience", None, 2),
    (StagePreset, "lr"): (PRESET, "stages.lr", 0.003, 0),
    (StagePreset, "finetune_lr"): (PRESET, "stages.finetune_lr", 0.01, 2),
    (StagePreset, "schedule"): (PRESET, "stages.schedule", "linear", 0),
    (PresetEpochs, "dual"): (PRESET, "stages.epochs.dual", 1, 0),
    (PresetEpochs, "fusion"): (PRESET, "stages.epochs.fusion", 1, 1),
    (PresetEpochs, "finetune"): (PRESET, "stages.epochs.finetune", 2, 2),
}
NO_HYPERPARAMETERS = {
    (ArmSpec, "tf32"): "processors never round so",
    (DatasetSpec, "name"): "another data set is no arm of an ablation",
    (DatasetSpec, "path"): "another data set is no arm of an ablation",
    (ArmSpec, "model"): "its fields stand here one by one",
    (ArmSpec, "stages"): "its fields stand here one by one",
    (ArmSpec, "compression"): "its fields stand here one by one",
    (StageSpec, "name"): "a name changes no result",
    (StagePreset, "epochs"): "its fields stand here one by one",
    (StageSpec, "run"): "tests/owncode/test_own_loop.py",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "some.npz")


BASES: dict[str, TrialResult] = {}
"""Results of the trials that many cases compare with, by what their sweep file says of base."""


def base_and_arm(images: Path, base: str, key: str, value: str) -> tuple[TrialResult, TrialResult]:
    """Write a sweep file whose ablation has one arm, read it, and train base and the arm."""
    settings = {"model": {"filters": [3, 4], "hidden": 6, "dropout": 0.2}, "batch_size": 16}
    tree = {
        "name": "t",
        "dataset": {"name": "npz", "path": str(images), "validation": 30},
        "seeds": 1,
        "base": {**settings, **YAML(typ="safe").load(base)},
        "ablation": {"arms": {"arm": {key: YAML(typ="safe").load(value)}}},
    }
    if "net" not in tree["base"].get("model", {}):  # type: ignore[attr-defined]
        tree["base"]["model"] = {**settings["model"], **tree["base"].get("model", {})}  # type: ignore[dict-item, index]
    file = images.parent / "t.yaml"
    with file.open("w") as stream:
        YAML().dump(tree, stream)
    planned = plan(load_sweep(file), lambda dataset: describe(dataset, images.parent))
    trials = {trial.arm: trial for trial in planned.trials}
    if base not in BASES:
        BASES[base] = train(trials["base"], images)
    return BASES[base], train(trials["arm"], images)


def train(trial: Trial, images: Path) -> TrialResult:
    return run_trial(trial, load(trial.dataset, images.parent, False), NoStore(), torch.device("cpu"))


def text(value: Any) -> str:
    stream = StringIO()
    YAML(typ="safe").dump(value, stream)
    return stream.getvalue()


def is_same_stage(one: TrialResult, other: TrialResult, index: int) -> bool:
    if len(one.stages) <= index or len(other.stages) <= index:  # a stage that the other has not
        return False
    first, second = one.stages[index].weights, other.stages[index].weights
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("setting", "case"), CASES.items(), ids=lambda x: str(x)[:50])
def test_a_setting_of_the_sweep_file_acts_in_the_trainer(
    images: Path, setting: tuple[type[Spec], str], case: Case
) -> None:
    base, key, value, first = case
    one, other = base_and_arm(images, text(base), key, text(value))
    assert [is_same_stage(one, other, index) for index in range(first)] == [True] * first
    assert not is_same_stage(one, other, first)


def test_no_setting_is_forgotten() -> None:
    specs = (
        DatasetSpec, ModelSpec, ArmSpec, StageSpec, TransformSpec, StagePreset, PresetEpochs,
        Compression,
    )  # fmt: skip
    assert {*CASES, *NO_HYPERPARAMETERS} == {
        *((spec, name) for spec in specs for name in spec.model_fields),
        *((ModelSpec, name) for name in ModelSpec(net="lenet-5").keywords),
        *((ModelSpec, name) for name in ModelSpec().keywords),
    }
