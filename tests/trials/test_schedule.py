import math
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightsweep.data.imagedata import Task
from lightsweep.errors import InputError
from lightsweep.nets.blocks import block_names, compressed, network_of, trainable_blocks
from lightsweep.nets.blocks import levels as levels_of
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.stages import PresetEpochs, PruneStage, QuantiseStage, StagePreset, StageSpec
from lightsweep.training.schedules import learning_rate
from lightsweep.trials.stages import expand, stage_table

SHAPE, CLASSES = (1, 47, 47), 10
TASK = Task(SHAPE, CLASSES)
PRESETS = ["paper", "gradual", "all-at-once", "frozen", "scratch"]
FUSIONS = ["conv1x1", "concatenate", "average", "fresh", "none"]
PAPER = ModelSpec()
HEADS = {"a.conv1", "a.conv2", "a.head", "b.conv1", "b.conv2", "b.head"}


def stage(**settings: Any) -> StageSpec:
    return StageSpec.model_validate({"name": "s", "epochs": 10, **settings})


def arm(model: ModelSpec, *stages: dict[str, Any]) -> ArmSpec:
    named = [{"name": f"s{index}", "epochs": 1, **settings} for index, settings in enumerate(stages)]
    return ArmSpec.model_validate({"model": model, "stages": named})


def model_of(fusion: Any, inputs: Any = None, **settings: Any) -> ModelSpec:
    return ModelSpec(fusion=fusion, inputs=inputs or ("single" if fusion == "none" else "dual"), **settings)


def refusal(spec: ArmSpec) -> str:
    with pytest.raises(InputError) as caught:
        stage_table(spec, TASK)
    return str(caught.value)


# (name, train, loss, optimizer, epochs) of each preset with epochs 8, 4, 6 and the paper's net
PAPERS_NET = {
    "paper": [
        ("dual", "all", "heads", "nadam", 8),
        ("fusion", "last-2", "fused", "nadam", 4),
        ("finetune", "all", "fused", "sgd", 6),
    ],
    "gradual": [
        ("dual", "all", "heads", "nadam", 8),
        ("fusion", "last-2", "fused", "nadam", 4),
        ("thaw-3", "last-3", "fused", "sgd", 2),
        ("thaw-4", "last-4", "fused", "sgd", 2),
        ("thaw-5", "all", "fused", "sgd", 2),
    ],
    "all-at-once": [
        ("dual", "all", "heads", "nadam", 8),
        ("fusion", "all", "fused", "nadam", 4),
        ("finetune", "all", "fused", "sgd", 6),
    ],
    "frozen": [
        ("dual", "all", "heads", "nadam", 8),
        ("fusion", "last-2", "fused", "nadam", 4),
        ("finetune", "last-2", "fused", "sgd", 6),
    ],
    "scratch": [
        ("scratch", "all", "fused", "nadam", 12),
        ("finetune", "all", "fused", "sgd", 6),
    ],
}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_with_the_papers_net(preset: Any) -> None:
    spec = StagePreset(
        preset=preset,
        epochs=PresetEpochs(dual=8, fusion=4, finetune=6),
        lr=0.1,
        finetune_lr=0.2,
        schedule="cosine",
    )
    table = expand(spec, PAPER, TASK)
    assert [(s.name, s.train, s.loss, s.optimizer, s.epochs) for s in table] == PAPERS_NET[preset]
    for row in table:
        assert (row.lr, row.momentum) == ((0.1, 0.0) if row.optimizer == "nadam" else (0.2, 0.9))
        assert row.patience == (None if row.name == "fusion" else 5)
        assert row.schedule == "cosine"


NETS = [
    (fusion, inputs)
    for fusion in FUSIONS
    for inputs in ("single", "dual")
    if (fusion, inputs) not in [("none", "dual"), ("average", "single")]
]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("fusion", "inputs"), NETS)
@given(
    hidden=st.none() | st.just(32),
    filters=st.integers(1, 4),
    epochs=st.builds(
        PresetEpochs, dual=st.integers(1, 9), fusion=st.integers(1, 9), finetune=st.integers(1, 9)
    ),
)
@settings(max_examples=10)
def test_presets_train_as_many_epochs_and_every_block(
    preset: Any, fusion: Any, inputs: Any, hidden: int | None, filters: int, epochs: PresetEpochs
) -> None:
    model = model_of(fusion, inputs, hidden=hidden, filters=(4,) * filters)
    table = stage_table(ArmSpec(model=model, stages=StagePreset(preset=preset, epochs=epochs)), TASK)
    assert sum(row.epochs for row in table) == epochs.dual + epochs.fusion + epochs.finetune
    assert len({row.name for row in table}) == len(table)
    trained = Counter(name for row in table for name in trainable_blocks(row, model, SHAPE, CLASSES))
    assert set(block_names(model, SHAPE, CLASSES, "fused")) <= set(trained)
    last = trainable_blocks(table[-1], model, SHAPE, CLASSES)
    if preset == "frozen":
        top = {"output"} if model.has_trunk else {"a.head"}
        assert top <= last < set(block_names(model, SHAPE, CLASSES, "fused"))
        convolutions = {name for name in trained if ".conv" in name}
        assert all(trained[name] == 1 for name in convolutions)  # in the first stage only
    else:
        assert last == set(block_names(model, SHAPE, CLASSES, "fused"))


@pytest.mark.parametrize(("fusion", "inputs"), NETS)
def test_gradual_thaws_one_level_more_per_stage(fusion: Any, inputs: Any) -> None:
    model = model_of(fusion, inputs)
    table = stage_table(ArmSpec(model=model, stages="gradual"), TASK)
    thawing = [trainable_blocks(row, model, SHAPE, CLASSES) for row in table[1:]]
    for fewer, more in pairwise(thawing):
        assert fewer < more
        assert len({name.split(".")[-1] for name in more - fewer}) == 1


@pytest.mark.parametrize(
    ("train", "loss", "expected"),
    [
        ("all", "heads", HEADS),
        ("all", "fused", HEADS | {"hidden", "output"}),
        ("last-1", "fused", {"output"}),
        ("last-2", "fused", {"hidden", "output"}),
        ("last-3", "fused", {"hidden", "output", "a.head", "b.head"}),
        ("last-5", "fused", HEADS | {"hidden", "output"}),
        ("last-1", "heads", {"a.head", "b.head"}),
        ("last-2", "heads", {"a.head", "b.head", "a.conv2", "b.conv2"}),
        ("conv1", "heads", {"a.conv1", "b.conv1"}),
        ("a.conv1", "fused", {"a.conv1"}),
        ("conv*", "fused", {"a.conv1", "a.conv2", "b.conv1", "b.conv2"}),
        ("b.*", "fused", {"b.conv1", "b.conv2", "b.head"}),
        ("*.head", "fused", {"a.head", "b.head"}),
        (("hidden", "b.conv2"), "fused", {"hidden", "b.conv2"}),
        (("last-1", "b.*"), "fused", {"output", "b.conv1", "b.conv2", "b.head"}),
        ("all", "head-a", {"a.conv1", "a.conv2", "a.head"}),
        ("all", "head-b", {"b.conv1", "b.conv2", "b.head"}),
        ("last-1", "head-b", {"b.head"}),
        (("a.conv1", "b.conv1"), "head-a", {"a.conv1"}),
    ],
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_what_a_pattern_trains(train: Any, loss: Any, expected: set[str]) -> None:
    assert trainable_blocks(stage(train=train, loss=loss), PAPER, SHAPE, CLASSES) == expected


@pytest.mark.parametrize(
    ("train", "loss", "message"),
    [
        ("conv3", "fused", "here = 'conv3': matches no block of the net; did you mean conv2?"),
        ("hiden", "fused", "here = 'hiden': matches no block of the net; did you mean hidden?"),
        (("output", "c.*"), "fused", "here = 'c.*': matches no block of the net; "),
        ("hidden", "heads", "here = 'hidden': matches no block of the net; "),
        ("last-0", "heads", "here = 'last-0': the net has 3 levels in this stage (conv1, conv2, head): "),
        ("last-6", "fused", "here = 'last-6': the net has 5 levels in this stage "),
        ("", "heads", "here = '': matches no block of the net; "),
        ("b.*", "head-a", "here = 'b.*': freezes every block that loss head-a uses"),
    ],
)
def test_a_pattern_that_trains_nothing_is_refused(train: Any, loss: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        trainable_blocks(stage(train=train, loss=loss), PAPER, SHAPE, CLASSES, "here")
    assert str(caught.value).startswith(message)


@given(st.from_type(ModelSpec), st.sampled_from(["heads", "fused"]), st.data())
@settings(max_examples=50)
def test_the_last_levels_are_the_levels_from_the_output(
    model: ModelSpec, loss: Any, data: st.DataObject
) -> None:
    """Brute force: the blocks, grouped by level, counted from the end."""
    row = stage(loss=loss if model.fusion != "none" else "heads", train="all")
    names, levels = (f(model, SHAPE, CLASSES, network_of(row)) for f in (block_names, levels_of))
    count = data.draw(st.integers(1, len(levels)))
    expected = {name for name in names if name.split(".")[-1] in levels[len(levels) - count :]}
    assert (
        trainable_blocks(row.model_copy(update={"train": f"last-{count}"}), model, SHAPE, CLASSES) == expected
    )
    assert trainable_blocks(
        row.model_copy(update={"train": f"last-{len(levels)}"}), model, SHAPE, CLASSES
    ) == set(names)


def test_default_losses() -> None:
    """Heads in the first of several stages, else fused; heads wherever nothing is fused."""
    single = model_of("none")
    assert [s.loss for s in stage_table(arm(PAPER, {}, {}, {}), TASK)] == ["heads", "fused", "fused"]
    assert [s.loss for s in stage_table(arm(PAPER, {}), TASK)] == ["fused"]
    assert [s.loss for s in stage_table(arm(single, {}), TASK)] == ["heads"]
    assert [s.loss for s in stage_table(arm(single, {}, {}), TASK)] == ["heads", "heads"]


def test_given_losses_stay() -> None:
    losses = ["head-a", "head-b", "heads", "fused"]
    assert [s.loss for s in stage_table(arm(PAPER, *({"loss": loss} for loss in losses)), TASK)] == losses


def test_a_fusion_without_layers_of_its_own_needs_no_fused_stage() -> None:
    assert [s.loss for s in stage_table(arm(model_of("average"), {"loss": "heads"}), TASK)] == ["heads"]


COMPRESSION: dict[str, Any] = {
    "prune": "weights", "amount": 0.3, "lr": 0.02, "schedule": "linear", "epochs": 7, "patience": 2,
    "quantise": "int8",
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "loss"), [(PAPER, "fused"), (model_of("none"), "heads")], ids=["dual", "single"]
)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_compression_is_further_stages_of_the_trained_net(
    model: ModelSpec, loss: str, optimizer: str
) -> None:
    """Pruning first, and all blocks learn; both on the loss of the final net."""
    spec = ArmSpec.model_validate(
        {"model": model, "compression": {**COMPRESSION, "optimizer": optimizer}, "stages": "paper"}
    )
    *before, prune, quantise = stage_table(spec, TASK)
    assert before == list(stage_table(spec.model_copy(update={"compression": None}), TASK))
    assert prune == PruneStage.model_validate(
        dict(
            name="prune", loss=loss, optimizer=optimizer, lr=0.02, schedule="linear", epochs=7, patience=2,
            momentum=0.9 if optimizer == "sgd" else 0.0, prune="weights", amount=0.3,
        )
    )  # fmt: skip
    assert trainable_blocks(prune, model, SHAPE, CLASSES) == set(
        block_names(model, SHAPE, CLASSES, network_of(prune))
    )
    assert (quantise.name, quantise.loss, quantise.epochs) == ("quantise", loss, 0)
    assert isinstance(quantise, QuantiseStage)


def test_compression_may_prune_or_round_alone() -> None:
    for kept in ("prune", "quantise"):
        alone = {key: value for key, value in COMPRESSION.items() if key in (kept, "amount")}
        table = stage_table(ArmSpec.model_validate({"compression": alone}), TASK)
        assert [row.name for row in table[3:]] == [kept]


def test_a_stage_may_have_the_name_of_a_stage_that_compression_does_not_add() -> None:
    spec = {"stages": [{"name": "quantise", "epochs": 1}], "compression": {"prune": "weights"}}
    assert [row.name for row in stage_table(ArmSpec.model_validate(spec), TASK)] == ["quantise", "prune"]


def test_filters_of_a_reference_net_are_not_pruned() -> None:
    spec = ArmSpec.model_validate({"model": {"net": "lenet-5"}, "compression": {"prune": "filters"}})
    assert refusal(spec) == (
        "compression.prune = 'filters': lenet-5 does not say how (methods narrower and pruned); its weights "
        "can be pruned (prune: weights)"
    )


def test_only_pruned_filters_make_a_net_narrower() -> None:
    for prune, filters in [("weights", [10, 20]), ("filters", [7, 14]), (None, [10, 20])]:
        spec = ArmSpec.model_validate({"compression": {**COMPRESSION, "prune": prune}})
        narrow = compressed(PAPER, spec.compression, SHAPE, CLASSES)
        assert narrow == PAPER.model_copy(update={"filters": filters})
    assert compressed(PAPER, None, SHAPE, CLASSES) == PAPER


@pytest.mark.parametrize(
    ("model", "losses", "message"),
    [
        (PAPER, ["fused", "heads"], "stages.1.loss (stage s1) = 'heads': the submodels are already fused"),
        (PAPER, ["fused", "head-a"], "stages.1.loss (stage s1) = 'head-a': the submodels are already fused"),
        (PAPER, ["heads"], "stages: none trains loss fused, so the layers of fusion conv1x1"),
        (model_of("none"), ["fused"], "stages.0.loss (stage s0) = 'fused': model.fusion is none"),
        (model_of("none"), ["head-b"], "stages.0.loss (stage s0) = 'head-b': model.inputs is single"),
        (
            model_of("fresh", "single"),
            ["head-b", "fused"],
            "stages.0.loss (stage s0) = 'head-b': model.inputs",
        ),
    ],
)
def test_orders_that_cannot_be_are_refused(model: ModelSpec, losses: list[str], message: str) -> None:
    assert refusal(arm(model, *({"loss": loss} for loss in losses))).startswith(message)


def test_a_refused_pattern_is_placed_in_the_table() -> None:
    message = refusal(arm(PAPER, {}, {"train": "conv7"}))
    assert message.startswith("stages.1.train (stage s1) = 'conv7': matches no block of the net")


@pytest.mark.parametrize(
    ("settings", "epoch", "expected"),
    [
        ({}, 0, 0.8),
        ({}, 9.9, 0.8),
        ({"schedule": "linear"}, 0, 0.8),
        ({"schedule": "linear"}, 5, 0.4),
        ({"schedule": "linear"}, 10, 0.0),
        ({"schedule": "cosine"}, 0, 0.8),
        ({"schedule": "cosine"}, 2.5, 0.4 * (1 + math.sqrt(0.5))),
        ({"schedule": "cosine"}, 5, 0.4),
        ({"schedule": "cosine"}, 10, 0.0),
        ({"warmup_epochs": 2}, 0, 0.0),
        ({"warmup_epochs": 2}, 0.5, 0.2),
        ({"warmup_epochs": 2}, 2, 0.8),
        ({"warmup_epochs": 2, "schedule": "linear"}, 1, 0.4),
        ({"warmup_epochs": 2, "schedule": "linear"}, 2, 0.8),
        ({"warmup_epochs": 2, "schedule": "linear"}, 6, 0.4),
        ({"warmup_epochs": 2, "schedule": "cosine"}, 6, 0.4),
        ({"warmup_epochs": 2, "schedule": "cosine"}, 4, 0.4 * (1 + math.sqrt(0.5))),
    ],
    ids=str,
)
def test_learning_rate_by_hand(settings: dict[str, Any], epoch: float, expected: float) -> None:
    assert learning_rate(stage(lr=0.8, **settings), epoch) == pytest.approx(expected, abs=1e-12)


@given(st.from_type(StageSpec), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=50)
def test_learning_rate_rises_to_lr_and_never_rises_again(row: StageSpec, one: float, other: float) -> None:
    early, late = sorted((one * row.epochs, other * row.epochs))
    rates = learning_rate(row, early), learning_rate(row, late)
    assert all(0 <= rate <= row.lr for rate in rates)
    if late < row.warmup_epochs:
        assert rates[0] <= rates[1]
    if early >= row.warmup_epochs:
        assert rates[0] >= rates[1]
