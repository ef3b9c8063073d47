import re
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any

import pytest

from lightsweep.data.imagedata import Task
from lightsweep.nets.models import build
from lightsweep.owncode.sources import shipped_nets
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.augmentation import TransformSpec
from lightsweep.sweepfile.called import Called
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.search import Axis, Budget, Confirmation, EarlyStopping, Search
from lightsweep.sweepfile.settings import Spec
from lightsweep.sweepfile.stages import (
    Compression,
    LossSpec,
    OptimizerSpec,
    PresetEpochs,
    ScheduleSpec,
    StagePreset,
    StageSpec,
)
from lightsweep.sweepfile.sweep import Ablation, Resources, Sweep
from lightsweep.trials import sources as module
from lightsweep.trials.keys import stage_keys
from lightsweep.trials.sources import training_code
from lightsweep.trials.trial import Trial

FINGERPRINT = "f" * 64
TASK = Task((1, 28, 28), 10)
DATASET: dict[str, Any] = {"name": "npz", "path": "some.npz"}
MODEL: dict[str, Any] = {"inputs": "dual", "filters": [4, 8], "fusion": "conv1x1"}
STAGES: list[dict[str, Any]] = [
    {"name": "dual", "loss": "heads", "epochs": 5},
    {"name": "fusion", "loss": "fused", "train": "last-2", "epochs": 5},
    {"name": "finetune", "loss": "fused", "optimizer": "sgd", "momentum": 0.9, "epochs": 5, "patience": 3},
]
STAGE_NAMES = ["dual", "fusion", "finetune", "assessment"]


def trial(
    dataset: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    stages: dict[int, dict[str, Any]] | None = None,
    **settings: Any,
) -> Trial:
    """Make the base trial with changes: of the data set, the net, single stages, the arm."""
    table = [{**row, **(stages or {}).get(index, {})} for index, row in enumerate(STAGES)]
    spec = {"model": {**MODEL, **(model or {})}, "stages": table, **settings}
    return Trial(
        "base",
        DatasetSpec.model_validate({**DATASET, **(dataset or {})}),
        ArmSpec.model_validate(spec),
        TASK,
        0,
    )


def keys(some: Trial, fingerprint: str = FINGERPRINT, device: str = "cpu") -> tuple[str, ...]:
    return stage_keys(some, fingerprint, device)


def changed(one: tuple[str, ...], other: tuple[str, ...]) -> list[str]:
    """Name the stages whose keys differ."""
    assert len(one) == len(other) == len(STAGE_NAMES)
    return [name for name, a, b in zip(STAGE_NAMES, one, other, strict=True) if a != b]


def preset(**settings: Any) -> Trial:
    """Make the base trial with a preset in place of its table."""
    spec = {"model": MODEL, "stages": {"preset": "paper", **settings}}
    return replace(trial(), spec=ArmSpec.model_validate(spec))


def reference(**settings: Any) -> Trial:
    """Make a trial of a reference net with as many stages."""
    stages = [{"name": name, "epochs": 2} for name in STAGE_NAMES[:-1]]
    spec = {"model": {"net": "lenet-5", **settings}, "stages": stages}
    return replace(trial(), spec=ArmSpec.model_validate(spec))


# (class, field) -> (a trial with the field changed, the first stage that it changes)
RELEVANT: dict[tuple[type[Spec], str], tuple[Trial, str]] = {
    (DatasetSpec, "validation"): (trial(dataset={"validation": 0.2}), "dual"),
    (DatasetSpec, "train_limit"): (trial(dataset={"train_limit": 100}), "dual"),
    (ModelSpec, "inputs"): (trial(model={"inputs": "single"}), "dual"),
    (ModelSpec, "filters"): (trial(model={"filters": [4, 9]}), "dual"),
    (ModelSpec, "convolutions"): (trial(model={"convolutions": 2}), "dual"),
    (ModelSpec, "kernel"): (trial(model={"kernel": 5}), "dual"),
    (ModelSpec, "batch_norm"): (trial(model={"batch_norm": True}), "dual"),
    (ModelSpec, "separable"): (trial(model={"separable": True}), "dual"),
    (ModelSpec, "head"): (trial(model={"head": "average"}), "dual"),
    (ModelSpec, "fusion"): (trial(model={"fusion": "fresh"}), "fusion"),
    (ModelSpec, "hidden"): (trial(model={"hidden": 16}), "fusion"),
    (ModelSpec, "dropout"): (trial(model={"dropout": 0.3}), "fusion"),
    (ArmSpec, "augmentation"): (trial(augmentation="rotate"), "dual"),
    (ArmSpec, "batch_size"): (trial(batch_size=32), "dual"),
    (ArmSpec, "kernels"): (trial(kernels="images-last"), "dual"),
    (StageSpec, "train"): (trial(stages={2: {"train": "last-3"}}), "finetune"),
    (StageSpec, "loss"): (trial(stages={0: {"loss": "head-b"}}), "dual"),
    (StageSpec, "optimizer"): (trial(stages={1: {"optimizer": "adam"}}), "fusion"),
    (StageSpec, "lr"): (trial(stages={2: {"lr": 0.01}}), "finetune"),
    (StageSpec, "momentum"): (trial(stages={2: {"momentum": 0.8}}), "finetune"),
    (StageSpec, "weight_decay"): (trial(stages={1: {"weight_decay": 0.1}}), "fusion"),
    (StageSpec, "schedule"): (trial(stages={2: {"schedule": "cosine"}}), "finetune"),
    (StageSpec, "warmup_epochs"): (trial(stages={2: {"warmup_epochs": 0.5}}), "finetune"),
    (StageSpec, "epochs"): (trial(stages={1: {"epochs": 6}}), "fusion"),
    (StageSpec, "patience"): (trial(stages={2: {"patience": None}}), "finetune"),
}
FLIP = {"transform": "flip", "probability": 0.5}
TURN = {"transform": "rotate", "range": [-9, 9]}
# (class, field) of what stands inside lists and presets -> (a trial, the same with the field changed, from)
INNER: dict[tuple[type[Spec], str], tuple[Trial, Trial, str]] = {
    (TransformSpec, "transform"): (
        trial(augmentation=[TURN]), trial(augmentation=[{**TURN, "transform": "shear"}]), "dual"
    ),
    (TransformSpec, "range"): (
        trial(augmentation=[TURN]), trial(augmentation=[{**TURN, "range": [-9, 8]}]), "dual"
    ),
    (TransformSpec, "probability"): (
        trial(augmentation=[FLIP]), trial(augmentation=[{**FLIP, "probability": 0.4}]), "dual"
    ),
    (ModelSpec, "net"): (reference(), reference(net="plain-cnn"), "dual"),
    (ModelSpec, "width"): (reference(), reference(width=2), "dual"),
    (StagePreset, "preset"): (preset(), preset(preset="all-at-once"), "fusion"),
    (StagePreset, "epochs"): (preset(), preset(epochs={"dual": 6}), "dual"),
    (StagePreset, "patience"): (preset(), preset(patience=4), "dual"),
    (StagePreset, "lr"): (preset(), preset(lr=0.002), "dual"),
    (StagePreset, "schedule"): (preset(), preset(schedule="cosine"), "dual"),
    (StagePreset, "finetune_lr"): (preset(), preset(finetune_lr=0.002), "finetune"),
    (PresetEpochs, "dual"): (preset(), preset(epochs={"dual": 49}), "dual"),
    (PresetEpochs, "fusion"): (preset(), preset(epochs={"fusion": 19}), "fusion"),
    (PresetEpochs, "finetune"): (preset(), preset(epochs={"finetune": 49}), "finetune"),
}  # fmt: skip
# (class, field) -> (a trial with the field changed or None, why that changes no key by itself)
IRRELEVANT: dict[tuple[type[Spec], str], tuple[Trial | None, str]] = {
    (DatasetSpec, "name"): (trial(dataset={"name": "digits", "path": None}), "the fingerprint stands for it"),
    (DatasetSpec, "path"): (trial(dataset={"path": "other.npz"}), "the fingerprint stands for it"),
    (DatasetSpec, "image_size"): (trial(dataset={"image_size": 8}), "the fingerprint is of resized images"),
    (ArmSpec, "tf32"): (trial(tf32=True), "processors never do; on a GPU it changes every key, see below"),
    (ArmSpec, "model"): (None, "its fields stand here one by one"),
    (ArmSpec, "stages"): (None, "its fields stand here one by one"),
    (ArmSpec, "compression"): (None, "its fields stand here one by one"),
    (StageSpec, "name"): (trial(stages={0: {"name": "other"}}), "a name changes no result"),
    (LossSpec, "name"): (None, "tests/owncode: what it does is in the key"),
    (LossSpec, "of"): (None, "as StageSpec.loss"),
    (StageSpec, "run"): (None, "tests/owncode: what it does is in the key"),
    (OptimizerSpec, "name"): (None, "tests/owncode: what it does is in the key"),
    (ScheduleSpec, "name"): (None, "tests/owncode: what it does is in the key"),
    (Sweep, "name"): (None, "a name changes no result; a trial does not know it"),
    (Sweep, "dataset"): (None, "its fields stand here one by one"),
    (Sweep, "seeds"): (None, "each trial has one seed, which is in the key"),
    (Sweep, "folds"): (None, "each trial has its fold and their number, which are in the key"),
    (Sweep, "base"): (None, "its fields stand here one by one"),
    (Sweep, "grid"): (None, "it makes arms, whose settings are in the key"),
    (Sweep, "ablation"): (None, "it makes arms, whose settings are in the key"),
    **{
        (Ablation, name): (None, "it makes arms, whose settings are in the key")
        for name in Ablation.model_fields
    },
    (Sweep, "search"): (None, "it chooses arms, whose settings are in the key"),
    **{
        (part, name): (None, "it chooses arms, whose settings are in the key")
        for part in (Search, Axis, Budget, EarlyStopping, Confirmation)
        for name in part.model_fields
    },
    (Sweep, "resources"): (None, "its fields stand here one by one"),
    (Resources, "cpus"): (None, "training is on one thread; a trial does not know it"),
    (Resources, "gpus"): (None, "the device type is in the key, not a share of it"),
    (Resources, "device"): (None, "the device type is in the key, not how it was asked for"),
    (Resources, "retries"): (None, "a trial that is tried again gives the same bits"),
    (Sweep, "tracking"): (None, "where results are shown changes none"),
    (Resources, "checkpoint_seconds"): (None, "going on from a checkpoint changes no bit"),
}


PRUNED = {"prune": "weights", "optimizer": "sgd", "epochs": 4}
# field of Compression -> (its other value, index of the first key that it changes; 3 is pruning)
COMPRESSION: dict[str, tuple[Any, int]] = {
    "prune": ("filters", 3),
    "amount": (0.6, 3),
    "optimizer": ("adam", 3),
    "lr": (0.01, 3),
    "schedule": ("cosine", 3),
    "epochs": (5, 3),
    "patience": (None, 3),
    "quantise": ("int8", 4),
}


@pytest.mark.parametrize("field", COMPRESSION)
def test_a_setting_of_compression_changes_no_key_before_its_stage(field: str) -> None:
    """All arms share the trained net, whatever is done to it; the assessment is of what it became."""
    value, first = COMPRESSION[field]
    one, other = keys(trial(compression=PRUNED)), keys(trial(compression={**PRUNED, field: value}))
    assert len(one) == 5
    assert one[:first] == other[:first]
    assert not set(one[first:]) & set(other[first:])
    assert one[:3] == keys(trial())[:3]


@pytest.mark.parametrize(
    "change",
    [{"amount": 0.7}, {"optimizer": "adam"}, {"lr": 1.0}, {"epochs": 3}, {"patience": None}],
    ids=str,
)
def test_settings_of_pruning_are_not_used_by_rounding_alone(change: dict[str, Any]) -> None:
    base = {"quantise": "int8"}
    assert keys(trial(compression=base)) == keys(trial(compression={**base, **change}))


def test_rounding_shares_the_pruned_net_and_does_not_depend_on_the_recipe() -> None:
    """But for the net that it rounds, which was trained on augmented images."""
    pruned = keys(trial(compression=PRUNED))
    both = keys(trial(compression={**PRUNED, "quantise": "int8"}))
    alone = keys(trial(compression={"quantise": "int8"}))
    assert both[:4] == pruned[:4]
    assert len({*keys(trial()), *pruned, *both, *alone}) == 3 + 1 + 2 + 4
    only_a: dict[str, Any] = {
        "model": {"fusion": "average"},
        "stages": {0: {"loss": "head-a"}, 1: {"loss": "head-a", "train": "all"}, 2: {"loss": "head-a"}},
        "compression": {"quantise": "int8"},
    }
    one, other = (keys(trial(augmentation=recipe, **only_a)) for recipe in ("none", "affine"))
    assert one == other


@pytest.mark.parametrize(("field", "case"), RELEVANT.items(), ids=lambda x: str(x)[:60])
def test_a_setting_changes_exactly_the_keys_from_its_first_use_on(
    field: tuple[type[Spec], str], case: tuple[Trial, str]
) -> None:
    other, first = case
    assert changed(keys(trial()), keys(other)) == STAGE_NAMES[STAGE_NAMES.index(first) :]


@pytest.mark.parametrize(("field", "case"), IRRELEVANT.items(), ids=lambda x: str(x)[:60])
def test_what_cannot_change_a_result_changes_no_key(
    field: tuple[type[Spec], str], case: tuple[Trial | None, str]
) -> None:
    other, reason = case
    assert reason
    if other is not None:
        assert keys(other) == keys(trial())


@pytest.mark.parametrize(("field", "case"), INNER.items(), ids=lambda x: str(x)[:60])
def test_a_setting_inside_changes_exactly_the_keys_from_its_first_use_on(
    field: tuple[type[Spec], str], case: tuple[Trial, Trial, str]
) -> None:
    one, other, first = case
    assert changed(keys(one), keys(other)) == STAGE_NAMES[STAGE_NAMES.index(first) :]


def test_every_setting_stands_in_one_of_the_tables() -> None:
    """A new setting must be added here: whether and from where on it changes the keys."""
    own = [(ModelSpec, name) for net in ("paper-cnn", "lenet-5") for name in ModelSpec(net=net).keywords]
    specs = [spec for spec in (*Spec.__subclasses__(), *Called.__subclasses__()) if spec is not Called]
    fields = [*((spec, name) for spec in specs for name in spec.model_fields), *own]
    tables = [*RELEVANT, *INNER, *IRRELEVANT, *((Compression, name) for name in COMPRESSION)]
    assert set(tables) == set(fields)
    assert len(tables) == len(set(tables))


def test_trials_know_nothing_of_their_sweep() -> None:
    """What is said of Sweep and Resources above holds because a trial has none of their fields."""
    names = {field.name for field in fields_of(Trial)}
    assert names == {"arm", "dataset", "spec", "seed", "fold", "folds", "changes", "task"}


def test_names_of_arms_and_recorded_changes_are_in_no_key() -> None:
    base = trial()
    assert keys(replace(base, arm="another", changes={"batch_size": 64})) == keys(base)


@pytest.mark.parametrize(
    "other",
    [
        keys(replace(trial(), seed=1)),
        keys(trial(), fingerprint="e" * 64),
        keys(trial(), device="cuda"),
        keys(replace(trial(), fold=0, folds=5)),
    ],
    ids=["seed", "data", "device", "folds"],
)
def test_seed_data_device_and_folds_change_every_key(other: tuple[str, ...]) -> None:
    assert changed(keys(trial()), other) == STAGE_NAMES


def test_each_fold_has_keys_of_its_own() -> None:
    found = [keys(replace(trial(), fold=fold, folds=folds)) for folds in (2, 3) for fold in range(folds)]
    assert len({key for some in found for key in some}) == 5 * 4


def test_with_folds_the_validation_share_is_not_used() -> None:
    one, other = (replace(trial(dataset={"validation": v}), fold=0, folds=5) for v in (0.1, 0.2))
    assert keys(one) == keys(other)
    limited = replace(trial(dataset={"train_limit": 50}), fold=0, folds=5)
    assert changed(keys(one), keys(limited)) == STAGE_NAMES


@pytest.mark.parametrize("name", ["source", "torch", "numpy", "scikit-learn"])
def test_another_source_or_version_of_what_computes_or_draws_changes_every_key(name: str) -> None:
    code = training_code()
    assert stage_keys(trial(), FINGERPRINT, "cpu", code) == keys(trial())
    assert changed(keys(trial()), stage_keys(trial(), FINGERPRINT, "cpu", {**code, name: "0"})) == STAGE_NAMES


def test_torchvisions_version_is_in_the_keys_of_its_nets_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(architecture: str) -> tuple[str, ...]:
        stages = [{"name": "only", "epochs": 5}]
        spec = ArmSpec.model_validate({"model": {"net": architecture}, "stages": stages})
        return keys(Trial("base", DatasetSpec.model_validate(DATASET), spec, TASK, 0))

    nets = shipped_nets()
    before = {net: of(net) for net in nets}
    version_of = module.version_of
    monkeypatch.setattr(
        module, "version_of", lambda package: version_of(package) + "x" * (package == "torchvision")
    )
    own = {net for net in nets if of(net) == before[net]}
    assert own == {"paper-cnn", "lenet-5", "plain-cnn", "logistic-regression"}
    for net in nets:
        layers = build(ModelSpec(net=net), (3, 32, 32), 10, "fused", 0).modules()
        assert any(type(layer).__module__.startswith("torchvision") for layer in layers) == (net not in own)


def test_tf32_is_in_the_keys_of_gpus_alone() -> None:
    assert keys(trial(tf32=True)) == keys(trial())
    assert changed(keys(trial(), device="cuda"), keys(trial(tf32=True), device="cuda")) == STAGE_NAMES


def test_kernels_are_in_the_keys_of_processors_and_of_nets_that_they_know() -> None:
    assert keys(trial(kernels="images-last"), device="cuda") == keys(trial(), device="cuda")
    by_torch, ours = (trial(), trial(kernels="images-last"))
    assert changed(keys(by_torch), keys(ours)) == STAGE_NAMES
    unknown = [
        {"net": "mobilenet-v2", "inputs": "dual", "fusion": "conv1x1"},
        {"fusion": "concatenate"},
    ]
    for model in unknown:
        one, other = (
            replace(each, spec=each.spec.model_copy(update={"model": ModelSpec.model_validate(model)}))
            for each in (by_torch, ours)
        )
        assert keys(one) == keys(other)
    assert trial(kernels="images-last").trial_id != trial().trial_id


def test_ids_of_trials_are_those_that_older_runs_have_recorded() -> None:
    """Else none of their records would be found again."""
    assert trial().trial_id == "4abcffaff83c"
    assert trial(tf32=True).trial_id != trial().trial_id


def test_keys_are_distinct_sha256_digits() -> None:
    found = keys(trial())
    assert len(set(found)) == 4
    assert all(re.fullmatch(r"[0-9a-f]{64}", key) for key in found)


@pytest.mark.parametrize("model", [{"fusion": "concatenate"}, {"hidden": None}, {"dropout": 0.0}], ids=str)
def test_the_submodels_stage_is_shared_by_all_fusions(model: dict[str, Any]) -> None:
    assert changed(keys(trial()), keys(trial(model=model))) == ["fusion", "finetune", "assessment"]


def test_dropout_without_a_hidden_layer_is_not_used() -> None:
    one, other = (trial(model={"hidden": None, "dropout": share}) for share in (0.1, 0.2))
    assert keys(one) == keys(other)


@pytest.mark.parametrize("change", [{"hidden": 7}, {"hidden": None}, {"dropout": 0.5}], ids=str)
def test_hidden_and_dropout_are_not_used_by_an_average(change: dict[str, Any]) -> None:
    base = {"fusion": "average"}
    stages = {1: {"train": "last-1"}}
    assert keys(trial(model=base, stages=stages)) == keys(trial(model=base | change, stages=stages))


def test_a_stage_that_sees_no_augmented_image_does_not_depend_on_the_recipe() -> None:
    """Submodel A alone is trained on original images; a single net's only input is augmented."""
    head_a = {0: {"loss": "head-a"}}
    one, other = (keys(trial(stages=head_a, augmentation=recipe)) for recipe in ("none", "affine"))
    assert changed(one, other) == ["fusion", "finetune", "assessment"]
    one, other = (
        keys(trial(model={"inputs": "single"}, stages=head_a, augmentation=recipe))
        for recipe in ("none", "affine")
    )
    assert changed(one, other) == STAGE_NAMES


def test_a_recipe_and_its_transforms_are_the_same() -> None:
    flip = [{"transform": "flip", "probability": 0.5}]
    assert keys(trial(augmentation="flip")) == keys(trial(augmentation=flip))
    assert keys(trial(augmentation="none")) == keys(trial(augmentation=[]))


def test_a_preset_and_its_table_are_the_same() -> None:
    spec = {"model": MODEL, "stages": "paper"}
    preset = replace(trial(), spec=ArmSpec.model_validate(spec))
    table = [stage.model_dump() for stage in preset.stages]
    assert keys(preset) == keys(replace(trial(), spec=ArmSpec.model_validate({**spec, "stages": table})))
    assert (
        preset.spec_hash == replace(trial(), spec=ArmSpec.model_validate({**spec, "stages": table})).spec_hash
    )


def test_the_order_of_stages_matters() -> None:
    first = {"name": "a", "loss": "head-a", "epochs": 1}
    second = {"name": "b", "loss": "head-b", "epochs": 1}
    last = {"name": "c", "loss": "fused", "epochs": 1}
    orders = [[first, second, last], [second, first, last]]
    one, other = (keys(replace(trial(), spec=ArmSpec.model_validate({"stages": order}))) for order in orders)
    assert not set(one) & set(other)


def test_spec_hash_is_of_the_settings_alone() -> None:
    base = trial()
    assert replace(base, arm="x", seed=4, fold=1, folds=3).spec_hash == base.spec_hash
    others = [trial(batch_size=2), trial(model={"hidden": 5}), trial(dataset={"train_limit": 9})]
    assert len({base.spec_hash, *(other.spec_hash for other in others)}) == 4


def test_trial_ids_tell_arm_seed_and_fold_apart_and_are_stable() -> None:
    base = trial()
    members = [base, replace(base, arm="x"), replace(base, seed=1), replace(base, fold=0, folds=2)]
    members.append(replace(base, fold=1, folds=2))
    assert len({member.trial_id for member in members}) == 5
    assert all(re.fullmatch(r"[0-9a-f]{12}", member.trial_id) for member in members)
    assert trial().trial_id == base.trial_id


def test_labels_in_words() -> None:
    assert replace(trial(), seed=2).label == "base (seed 2)"
    assert replace(trial(), fold=1, folds=3).label == "base (seed 0, fold 1)"
