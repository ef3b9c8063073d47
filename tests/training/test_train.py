import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets_of_specs import begin
from torch import Tensor, nn
from torch.nn import functional

from lightsweep.nets.blocks import block_names, trainable_blocks
from lightsweep.nets.models import Net, build
from lightsweep.store.stagefile import Checkpoint
from lightsweep.sweepfile.augmentation import TransformSpec
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.stages import StageSpec
from lightsweep.training import batches as images_module
from lightsweep.training.batches import Source, Split, freeze
from lightsweep.training.loop import DivergedError, evaluate, kept_epoch, train_stage
from lightsweep.training.schedules import learning_rate
from lightsweep.training.state import EpochRecord, StageState

SHAPE, CLASSES = (1, 12, 12), 3
MODEL = ModelSpec(filters=(2, 3), hidden=4, dropout=0.5, batch_norm=True)
FLIP = (TransformSpec(transform="flip", probability=0.5),)


def some_data(count: int = 60, seed: int = 0) -> tuple[Split, Split]:
    """Make stripes in three directions under much noise: learnable, but not at once."""
    draws = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pixels = draws.integers(0, 200, (count, 12, 12, 1), np.uint8)
    rows, columns = np.indices((12, 12))
    for index, label in enumerate(labels):
        stripes = (rows, columns, rows + columns)[label] % 4 == 0
        pixels[index, stripes] += 55
    order = torch.from_numpy(draws.permutation(count))
    everything = torch.from_numpy(pixels), torch.from_numpy(labels)
    return Split(*everything, order[: count * 2 // 3]), Split(*everything, order[count * 2 // 3 :])


TRAINING, VALIDATION = some_data()


def stage(**settings: Any) -> StageSpec:
    return StageSpec.model_validate({"name": "s", "loss": "fused", "epochs": 2, **settings})


def trainable(row: StageSpec, model: ModelSpec = MODEL) -> frozenset[str]:
    return trainable_blocks(row, model, SHAPE, CLASSES)


def train(
    row: StageSpec,
    model: ModelSpec = MODEL,
    seed: int = 0,
    transforms: Sequence[TransformSpec] = FLIP,
    batch_size: int = 8,
    net: Net | None = None,
    stage_index: int = 0,
) -> tuple[Net, list[EpochRecord]]:
    network: Any = "fused" if row.loss == "fused" else "heads"
    net = net or build(model, SHAPE, CLASSES, network, seed)
    state = begin(net, model, row, SHAPE, CLASSES)
    steps = train_stage(
        state, row, trainable(row, model), TRAINING, VALIDATION, transforms, batch_size, seed, stage_index
    )
    return net, list(steps)


def batch(split: Split, positions: Tensor) -> tuple[Tensor, Tensor]:
    return split.images_of(positions), split.labels_of(positions)


def weights(net: Net) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def without_seconds(records: Sequence[EpochRecord]) -> list[dict[str, Any]]:
    names = [field.name for field in fields(EpochRecord) if field.name != "seconds"]
    return [{name: getattr(record, name) for name in names} for record in records]


@pytest.mark.parametrize("loss", ["heads", "fused"])
def test_the_same_seed_gives_the_same_bits(loss: str) -> None:
    torch.manual_seed(1)
    one, records = train(stage(loss=loss, patience=1))
    torch.manual_seed(2)
    other, again = train(stage(loss=loss, patience=1))
    assert not differing(weights(one), weights(other))
    assert without_seconds(records) == without_seconds(again)


def test_seed_and_stage_index_change_order_augmentation_and_dropout() -> None:
    start = weights(build(MODEL, SHAPE, CLASSES, "fused", seed=0))

    def from_start(**settings: Any) -> dict[str, Tensor]:
        net = build(MODEL, SHAPE, CLASSES, "fused", seed=0)
        net.load_state_dict(start)
        return weights(train(stage(), net=net, **settings)[0])

    plain = from_start()
    assert not differing(plain, from_start())
    assert "a.conv1.convolution.weight" in differing(plain, from_start(seed=1))
    assert "a.conv1.convolution.weight" in differing(plain, from_start(stage_index=1))


@dataclass
class Seen:
    """What a net saw and did in one epoch."""

    order: list[int] = field(default_factory=list)
    """The images' places in their split."""
    flipped: list[bool] = field(default_factory=list)
    """Of each image, in the order of the batches."""
    active: list[bool] = field(default_factory=list)
    """Of each hidden unit for each image, in the order of the batches: whether it is above zero."""
    kept: list[bool] = field(default_factory=list)
    """Likewise, whether it still is after dropout."""

    def is_dropped_like(self, other: "Seen") -> bool:
        units = zip(self.active, other.active, self.kept, other.kept, strict=True)
        return all(mine == theirs for one, two, mine, theirs in units if one and two)


def watch(seed: int, stage_index: int, epochs: int) -> list[Seen]:
    """Train and return what was seen in each epoch."""
    seen = [Seen()]
    everything = TRAINING.images_of(torch.arange(len(TRAINING)))

    def note_images(net: nn.Module, images: tuple[Tensor, ...]) -> None:
        for original, augmented in zip(*images[:2], strict=True) if net.training else ():
            seen[-1].order.append(int((everything - original).abs().flatten(1).sum(1).argmin()))
            seen[-1].flipped.append(not torch.equal(original, augmented))

    def note_hidden(layer: nn.Module, _: object, output: Tensor) -> None:
        if layer.training:
            seen[-1].active += (output > 0).flatten().tolist()

    def note_dropped(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        if layer.training:
            seen[-1].kept += (inputs[0] > 0).flatten().tolist()

    net = build(MODEL, SHAPE, CLASSES, "fused", seed)
    assert net.hidden is not None
    assert net.output is not None
    net.register_forward_pre_hook(note_images)
    net.hidden.register_forward_hook(note_hidden)
    net.output.register_forward_pre_hook(note_dropped)
    row = stage(epochs=epochs)
    for _ in train_stage(
        begin(net, MODEL, row, SHAPE, CLASSES),
        row,
        trainable(row),
        TRAINING,
        VALIDATION,
        FLIP,
        8,
        seed,
        stage_index,
    ):
        seen.append(Seen())
    return seen[:-1]


def test_no_two_epochs_stages_or_seeds_share_an_order_an_augmentation_or_a_dropout() -> None:
    seen = [one for seed in (5, 6) for index in (0, 1) for one in watch(seed, index, epochs=2)]
    assert len(seen) == 8
    for one in seen:
        assert sorted(one.order) == list(range(len(TRAINING)))
        assert 0 < sum(one.flipped) < len(TRAINING)
        assert one.is_dropped_like(one)
    for one, other in itertools.combinations(seen, 2):
        assert one.order != other.order
        assert one.flipped != other.flipped
        assert not one.is_dropped_like(other)


def test_global_random_states_are_left_as_found() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    row = stage()
    net = build(MODEL, SHAPE, CLASSES, "fused", seed=0)
    torch.set_rng_state(before[0])
    for _ in train_stage(
        begin(net, MODEL, row, SHAPE, CLASSES), row, trainable(row), TRAINING, VALIDATION, FLIP, 8, 0, 0
    ):
        assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


@pytest.mark.parametrize(
    ("train_", "loss", "optimizer"),
    [
        ("last-2", "fused", "nadam"),
        ("last-2", "fused", "sgd"),
        ("conv2", "heads", "adam"),
        (("b.*", "output"), "fused", "nadam"),
        ("all", "head-a", "nadam"),
        ("all", "head-b", "sgd"),
        ("last-1", "head-a", "nadam"),
        ("all", "heads", "nadam"),
    ],
)
def test_frozen_blocks_are_bit_equal_and_trained_ones_moved(train_: Any, loss: str, optimizer: Any) -> None:
    """Weights and batch normalisation's statistics, even after a stage that trained everything."""
    network: Any = "fused" if loss == "fused" else "heads"
    net, _ = train(stage(loss="heads" if network == "heads" else "fused", epochs=1))
    before = weights(net)
    row = stage(train=train_, loss=loss, optimizer=optimizer, lr=0.05, weight_decay=0.1)
    train(row, net=net, stage_index=1)
    moved = differing(before, weights(net))
    expected = {
        ("last-2", "fused"): ["hidden.", "output."],
        ("conv2", "heads"): ["a.conv2.", "b.conv2."],
        (("b.*", "output"), "fused"): ["b.", "output."],
        ("all", "head-a"): ["a."],
        ("all", "head-b"): ["b."],
        ("last-1", "head-a"): ["a.head."],
        ("all", "heads"): ["a.", "b."],
    }[train_, loss]
    assert moved == {name for name in before if name.startswith(tuple(expected))}


def test_a_thawed_block_trains_again() -> None:
    net, _ = train(stage(train="last-1"))
    before = weights(net)
    train(stage(train="all"), net=net, stage_index=1)
    assert differing(before, weights(net)) == set(before) - {"mean", "deviation"}


FOLLOWED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lr": ({"lr": 0.001}, {"lr": 0.002}),
    "momentum": ({"optimizer": "sgd", "momentum": 0.0}, {"optimizer": "sgd", "momentum": 0.9}),
    "weight_decay": ({"weight_decay": 0.0}, {"weight_decay": 0.1}),
    "weight_decay of sgd": (
        {"optimizer": "sgd", "weight_decay": 0.0},
        {"optimizer": "sgd", "weight_decay": 0.1},
    ),
    "cosine": ({"schedule": "constant"}, {"schedule": "cosine"}),
    "linear": ({"schedule": "cosine"}, {"schedule": "linear"}),
    "warmup_epochs": ({"warmup_epochs": 0.0}, {"warmup_epochs": 1.0}),
    "optimizer": ({"optimizer": "nadam"}, {"optimizer": "adam"}),
    "optimizer sgd": ({"optimizer": "adam"}, {"optimizer": "sgd"}),
    "epochs": ({"epochs": 2}, {"epochs": 3}),
    "train": ({"train": "all"}, {"train": "last-4"}),
}


@pytest.mark.parametrize(("one", "other"), FOLLOWED.values(), ids=FOLLOWED)
def test_a_stages_settings_reach_the_weights(one: dict[str, Any], other: dict[str, Any]) -> None:
    """No hyperparameter is lost on the way to the trainer."""
    nets = [weights(train(stage(**settings))[0]) for settings in (one, other)]
    assert "a.conv1.convolution.weight" in differing(*nets)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"batch_size": 8}, {"batch_size": 16}),
        ({"transforms": ()}, {"transforms": FLIP}),
        ({"model": MODEL}, {"model": MODEL.model_copy(update={"dropout": 0.1})}),
    ],
    ids=["batch_size", "augmentation", "dropout"],
)
def test_an_arms_settings_reach_the_weights(one: dict[str, Any], other: dict[str, Any]) -> None:
    nets = [weights(train(stage(), **settings)[0]) for settings in (one, other)]
    assert {"b.conv1.convolution.weight", "output.weight"} <= differing(*nets)


def test_augmentation_reaches_submodel_b_alone() -> None:
    nets = [weights(train(stage(loss="heads"), transforms=t)[0]) for t in ((), FLIP)]
    moved = differing(*nets)
    assert "b.conv1.convolution.weight" in moved
    assert not any(name.startswith("a.") for name in moved)


@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.0), ("sgd", 0.9)])
def test_a_stage_against_a_plain_loop(optimizer: Any, momentum: float) -> None:
    """Full batches need no order: three steps of gradient descent, written out."""
    model = ModelSpec(filters=(2, 3), hidden=None)
    row = stage(loss="heads", optimizer=optimizer, momentum=momentum, lr=0.5, schedule="linear", epochs=3)
    trained, records = train(row, model=model, transforms=(), batch_size=1000)
    net = build(model, SHAPE, CLASSES, "heads", seed=0)
    images, labels = batch(TRAINING, torch.arange(len(TRAINING)))
    velocity = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for epoch in range(3):
        net.zero_grad()
        a, b = net(images, images)
        loss = functional.cross_entropy(a, labels) + functional.cross_entropy(b, labels)
        loss.backward()
        assert records[epoch].train_loss == pytest.approx(loss.item(), rel=1e-4)
        assert records[epoch].learning_rate == learning_rate(row, epoch)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                assert parameter.grad is not None
                velocity[name] = momentum * velocity[name] + parameter.grad
                parameter -= learning_rate(row, epoch) * velocity[name]
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


def test_evaluation_against_a_plain_loop() -> None:
    """More images than one evaluation batch, not a multiple of it."""
    training, _ = some_data(900, seed=3)
    assert len(training) == 600
    net = build(MODEL, SHAPE, CLASSES, "heads", seed=0)
    found = evaluate(net, Source(training))
    net.eval()
    for head in range(2):
        loss, right, predictions = 0.0, 0, []
        for index in training.index.tolist():
            image = training.pixels[index].permute(2, 0, 1)[None] / 255
            with torch.no_grad():
                logits = net(image, image)[head][0]
            loss -= float(logits.log_softmax(0)[training.labels[index]])
            predictions.append(int(logits.argmax()))
            right += predictions[-1] == int(training.labels[index])
        assert found.losses[head] == pytest.approx(loss / 600, rel=1e-5)
        assert found.accuracies[head] == pytest.approx(right / 600)
        assert found.predictions[head].tolist() == predictions


@pytest.mark.parametrize(("loss", "heads"), [("heads", [0, 1]), ("head-a", [0]), ("head-b", [1])])
def test_records_are_of_the_heads_that_train(loss: str, heads: list[int]) -> None:
    net, records = train(stage(loss=loss))
    found = evaluate(net, Source(VALIDATION))
    assert [record.epoch for record in records] == [1, 2]
    assert records[-1].val_accuracy_heads == found.accuracies
    assert records[-1].val_accuracy == pytest.approx(sum(found.accuracies[h] for h in heads) / len(heads))
    assert records[-1].val_loss == pytest.approx(sum(found.losses[h] for h in heads))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_early_stopping_keeps_the_best_epoch(seed: int) -> None:
    row = stage(optimizer="sgd", lr=0.5, epochs=40, patience=3)
    net, records = train(row, seed=seed)
    best = max(records, key=lambda record: (record.val_accuracy, -record.val_loss))
    assert best.epoch < len(records) < 40  # it stopped, and later epochs were worse
    assert len(records) - best.epoch == 3
    found = evaluate(net, Source(VALIDATION))
    assert (found.accuracies[0], found.losses[0]) == (best.val_accuracy, best.val_loss)
    shorter, _ = train(row.model_copy(update={"epochs": best.epoch, "patience": None}), seed=seed)
    assert not differing(weights(net), weights(shorter))


def test_without_patience_all_epochs_train_and_the_last_is_kept() -> None:
    best = []
    for seed in range(4):
        net, records = train(stage(optimizer="sgd", lr=0.5, epochs=9), seed=seed)
        assert len(records) == 9
        assert evaluate(net, Source(VALIDATION)).losses[0] == records[-1].val_loss
        best.append(kept_epoch(records, patience=3))
    assert min(best) < 8  # patience would have kept another epoch


def record_of(accuracy: float, loss: float) -> EpochRecord:
    return EpochRecord(1, 0.1, 0.0, 0.0, loss, accuracy, (accuracy,), 0.0)


@pytest.mark.parametrize(
    ("pairs", "kept"),
    [
        ([(0.5, 1.0)], 0),
        ([(0.5, 1.0), (0.6, 2.0), (0.4, 0.1)], 1),
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 1.1)], 1),  # as accurate: the lowest loss
        ([(0.5, 1.0), (0.5, 1.0)], 0),  # the same: the first
    ],
)
def test_kept_epoch_by_hand(pairs: list[tuple[float, float]], kept: int) -> None:
    records = [record_of(*pair) for pair in pairs]
    assert kept_epoch(records, patience=1) == kept
    assert kept_epoch(records, patience=None) == len(pairs) - 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=9))
def test_no_epoch_is_better_than_the_kept_one(pairs: list[tuple[int, int]]) -> None:
    kept = kept_epoch([record_of(a / 3, loss / 3) for a, loss in pairs], patience=2)
    accuracy, loss = pairs[kept]
    for index, (other, other_loss) in enumerate(pairs):
        assert (other, -other_loss, -index) <= (accuracy, -loss, -kept)


@pytest.mark.parametrize("patience", [None, 3])
def test_a_loss_that_is_not_finite_is_an_error_with_place_and_rate(patience: int | None) -> None:
    row = stage(optimizer="sgd", lr=1e30, epochs=3, patience=patience)
    with pytest.raises(DivergedError, match=r"epoch 1 \(lr 1e\+30\)"):
        train(row)


def test_the_last_step_may_not_leave_the_finite_numbers_either() -> None:
    """One batch: the training loss was finite, what the step made of the weights is not."""
    with pytest.raises(DivergedError, match="epoch 1"):
        train(stage(optimizer="sgd", lr=1e30, epochs=1), batch_size=len(TRAINING))


def test_batches_are_scaled_images_and_their_labels() -> None:
    images, labels = batch(TRAINING, torch.tensor([2, 0]))
    chosen = TRAINING.index[[2, 0]]
    assert images.shape == (2, 1, 12, 12)
    assert images.is_contiguous(memory_format=torch.channels_last)
    expected = TRAINING.pixels[chosen].double() / 255
    torch.testing.assert_close(images.double(), expected.permute(0, 3, 1, 2), rtol=1e-6, atol=0)
    assert torch.equal(labels, TRAINING.labels[chosen])


def test_training_leaves_the_data_as_it_is() -> None:
    pixels, labels, index = (t.clone() for t in (TRAINING.pixels, TRAINING.labels, TRAINING.index))
    train(stage(), transforms=(TransformSpec(transform="noise", range=(0, 0.5)),))
    assert torch.equal(pixels, TRAINING.pixels)
    assert torch.equal(labels, TRAINING.labels)
    assert torch.equal(index, TRAINING.index)


def test_blocks_of_the_test_net_are_those_that_the_tests_name() -> None:
    assert set(block_names(MODEL, SHAPE, CLASSES, "fused")) == {
        "a.conv1", "a.conv2", "a.head", "b.conv1", "b.conv2", "b.head", "hidden", "output"
    }  # fmt: skip


STAGES = {
    "nadam": {"optimizer": "nadam"},
    "adam with decay": {"optimizer": "adam", "weight_decay": 0.01, "schedule": "cosine"},
    "sgd": {"optimizer": "sgd", "lr": 0.05},
    "sgd with momentum": {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "warmup_epochs": 1.5},
    "partly frozen": {"train": "last-3"},
    "submodels": {"loss": "heads"},
    "patient": {"patience": 2, "lr": 0.05},
}


@pytest.mark.parametrize("settings", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("cut", [1, 2, 4, 5])
def test_a_stage_that_goes_on_from_a_checkpoint_ends_bit_for_bit_like_an_undisturbed_one(
    settings: dict[str, Any], cut: int
) -> None:
    row = stage(**{"epochs": 5, **settings})
    whole, records = train(row)
    network: Any = "fused" if row.loss == "fused" else "heads"

    def begun() -> StageState:
        return begin(build(MODEL, SHAPE, CLASSES, network, 0), MODEL, row, SHAPE, CLASSES)

    def steps(state: StageState) -> Iterator[EpochRecord]:
        return train_stage(state, row, trainable(row), TRAINING, VALIDATION, FLIP, 8, 0, 0)

    cut = min(cut, len(records))
    killed = begun()
    list(itertools.islice(steps(killed), cut))
    data = killed.to_checkpoint(seconds=7.0).to_bytes("key")
    again = begun()
    again.go_on_from(Checkpoint.from_bytes(data, "key"))
    went_on = list(steps(again))
    assert len(went_on) == len(records) - cut
    assert without_seconds(again.records) == without_seconds(records)
    assert again.records[:cut] == killed.records
    assert not differing(weights(whole), weights(again.net))


@pytest.mark.parametrize("recipe", [FLIP, ()], ids=["augmented", "plain"])
@pytest.mark.parametrize("inputs", ["dual", "single"])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("train_", ["last-2", "last-3", ["conv2", "output"], ["b.*", "hidden"]], ids=str)
def test_kept_maps_of_frozen_blocks_change_no_bit(
    monkeypatch: pytest.MonkeyPatch, train_: Any, batch_norm: bool, inputs: str, recipe: Any
) -> None:
    """Against the same stage with no room to keep them."""
    if inputs == "single" and train_ == ["b.*", "hidden"]:
        train_ = "last-1"
    model = MODEL.model_copy(update={"inputs": inputs, "batch_norm": batch_norm})
    row = stage(train=train_, epochs=2)
    kept, records = train(row, model, transforms=recipe)
    monkeypatch.setattr(images_module, "MAPS_BYTES", 0)
    computed, others = train(row, model, transforms=recipe)
    assert without_seconds(records) == without_seconds(others)
    assert not differing(weights(kept), weights(computed))


@pytest.mark.parametrize(
    ("train_", "is_augmented", "starts"),
    [
        ("last-2", True, (2, 0)),
        ("last-2", False, (2, 2)),
        (["a.conv2", "output"], False, (1, 2)),
        (["conv1", "output"], False, (0, 0)),
        ("all", False, (0, 0)),
    ],
    ids=str,
)
def test_frozen_first_blocks_run_once_a_stage_on_images_that_are_not_augmented(
    train_: Any, is_augmented: bool, starts: tuple[int, int]
) -> None:
    row = stage(train=train_)
    net = build(MODEL, SHAPE, CLASSES, "fused", 0).eval()
    source = freeze(net, trainable(row), TRAINING, is_augmented)
    assert source.starts == starts
    runs = {name: 0 for name in ("a.conv1", "a.conv2", "b.conv1", "b.conv2")}

    def count(name: str) -> Any:
        def hook(*_: Any) -> None:
            runs[name] += 1

        return hook

    for name in runs:
        net.get_submodule(name).register_forward_hook(count(name))
    inputs = source.inputs(torch.tensor([3, 1]), FLIP if is_augmented else (), torch.Generator())
    net(*inputs, source.starts)
    ran = {name for name, times in runs.items() if times}
    skipped = {f"{sub}.conv{i + 1}" for sub, depth in zip("ab", starts, strict=True) for i in range(depth)}
    assert ran == set(runs) - skipped


def test_frozen_blocks_run_without_gradients() -> None:
    row = stage(train="last-2")
    state = begin(build(MODEL, SHAPE, CLASSES, "fused", 0), MODEL, row, SHAPE, CLASSES)
    seen: list[bool] = []
    for name in ("a.conv2", "b.conv2", "b.head"):
        state.net.get_submodule(name).register_forward_hook(lambda *a: seen.append(a[2].requires_grad))
    list(train_stage(state, row, trainable(row), TRAINING, VALIDATION, FLIP, 8, 0, 0))
    assert seen
    assert not any(seen)
