"""Reference nets: their authors' layers, on small images, as nets of a sweep like any other."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets_of_specs import begin
from striped_images import CLASSES, SHAPE, some_split
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lightsweep.data.datasets import load
from lightsweep.data.imagedata import Dataset, Task
from lightsweep.errors import InputError
from lightsweep.nets.blocks import block_names, levels, trainable_blocks
from lightsweep.nets.cost import cost
from lightsweep.nets.models import Net, build
from lightsweep.owncode.sources import shipped_nets
from lightsweep.store.claims import LocalStore
from lightsweep.store.folder import FolderStore
from lightsweep.store.stagefile import Checkpoint
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.stages import StageSpec
from lightsweep.system.torchvision_import import import_torchvision
from lightsweep.training import batches as images_module
from lightsweep.training import chain as pipeline
from lightsweep.training.chain import run_trial
from lightsweep.training.loop import train_stage
from lightsweep.training.stagenets import final_net
from lightsweep.training.state import StageState
from lightsweep.trials.stages import stage_table
from lightsweep.trials.trial import Trial

ARCHITECTURES = tuple(name for name in shipped_nets() if name != "paper-cnn")
TORCHVISIONS = ("mobilenet-v2", "shufflenet-v2", "squeezenet", "mnasnet", "efficientnet-b0")
GREY, COLOUR = (1, 28, 28), (3, 32, 32)
CPU = torch.device("cpu")


def spec_of(architecture: Any, width: float = 1.0) -> ModelSpec:
    if architecture == "logistic-regression":
        return ModelSpec(net=architecture)
    return ModelSpec(net=architecture, width=width)


def small(architecture: Any, width: float = 0.1) -> ModelSpec:
    """Make it small enough to be trained in a test; logistic regression has no width."""
    return spec_of(architecture, 1.0 if architecture == "logistic-regression" else width)


def reference(
    architecture: Any,
    shape: tuple[int, int, int] = GREY,
    width: float = 1.0,
    seed: int = 0,
    classes: int = 10,
) -> Net:
    return build(spec_of(architecture, width), shape, classes, "heads", seed)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def images(shape: tuple[int, int, int], number: int, seed: int = 0) -> Tensor:
    return torch.rand(number, *shape, generator=torch.Generator().manual_seed(seed))


# numbers of weights


def of_torchvision(name: str, **settings: Any) -> nn.Module:
    """Make torchvision's own net by torchvision's own function."""
    net: nn.Module = getattr(import_torchvision().models, name)(weights=None, num_classes=10, **settings)
    return net


PUBLISHED: list[tuple[str, float, str, dict[str, Any], int]] = [
    # architecture, width, torchvision's function and its arguments, channels of the first convolution
    ("mobilenet-v2", 1.0, "mobilenet_v2", {}, 32),
    ("mobilenet-v2", 1.4, "mobilenet_v2", {"width_mult": 1.4}, 48),
    ("shufflenet-v2", 0.5, "shufflenet_v2_x0_5", {}, 24),
    ("shufflenet-v2", 1.0, "shufflenet_v2_x1_0", {}, 24),
    ("shufflenet-v2", 1.5, "shufflenet_v2_x1_5", {}, 24),
    ("shufflenet-v2", 2.0, "shufflenet_v2_x2_0", {}, 24),
    ("squeezenet", 1.0, "squeezenet1_1", {}, 64),
    ("mnasnet", 1.0, "mnasnet1_0", {}, 32),
    ("mnasnet", 1.3, "mnasnet1_3", {}, 40),
    ("efficientnet-b0", 1.0, "efficientnet_b0", {}, 32),
]


@pytest.mark.parametrize(("architecture", "width", "name", "arguments", "first"), PUBLISHED, ids=str)
def test_published_widths_have_torchvisions_number_of_weights(
    architecture: str, width: float, name: str, arguments: dict[str, Any], first: int
) -> None:
    """But for grey images: a channel in place of three for each 3×3 filter of the first convolution."""
    with torch.device("meta"):  # shapes alone
        published = count(of_torchvision(name, **arguments))
        assert count(reference(architecture, COLOUR, width)) == published
        assert count(reference(architecture, GREY, width)) == published - first * 9 * 2


@pytest.mark.parametrize(
    ("architecture", "name", "arguments", "inputs"),
    [("mobilenet-v2", "mobilenet_v2", {"width_mult": 0.5}, 160), ("mnasnet", "mnasnet0_5", {}, 160)],
)
def test_of_narrower_nets_the_last_convolution_shrinks_too(
    architecture: str, name: str, arguments: dict[str, Any], inputs: int
) -> None:
    """At half the width 640 channels, not 1,280: each costs its inputs, scale and shift, 10 outputs."""
    with torch.device("meta"):
        published = count(of_torchvision(name, **arguments))
        assert count(reference(architecture, COLOUR, 0.5)) == published - 640 * (inputs + 2 + 10)


@pytest.mark.parametrize(
    ("architecture", "shape", "parameters"),
    [
        ("lenet-5", GREY, 61_706),
        ("lenet-5", COLOUR, 62_006),
        ("logistic-regression", GREY, 7_850),
        ("logistic-regression", COLOUR, 30_730),
        ("plain-cnn", GREY, (9 * 16 + 32) + (16 * 9 * 32 + 64) + (32 * 9 * 64 + 128) + 650),
        ("plain-cnn", COLOUR, (27 * 16 + 32) + (16 * 9 * 32 + 64) + (32 * 9 * 64 + 128) + 650),
    ],
)
def test_the_floors_numbers_of_weights_by_hand(architecture: str, shape: Any, parameters: int) -> None:
    assert count(reference(architecture, shape)) == parameters


@pytest.mark.parametrize("architecture", ["lenet-5", "plain-cnn"])
def test_width_scales_the_floors_channels(architecture: str) -> None:
    net = reference(architecture, GREY, 0.5)
    channels = [len(m.weight) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert channels == {"lenet-5": [3, 8, 60, 42, 10], "plain-cnn": [8, 16, 32, 10]}[architecture]


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a != "logistic-regression"])
def test_a_wider_net_never_has_fewer_weights(architecture: str) -> None:
    """Or the search for the width of a given cost, by halving, would go astray."""
    widths = [0.05, 0.15, 0.4, 0.5, 0.7, 0.72, 1.0, 1.22, 1.24, 1.5, 1.9, 2.1]
    with torch.device("meta"):
        found = [count(reference(architecture, GREY, width)) for width in widths]
    assert found == sorted(found)
    assert found[-1] > 20 * found[0]


# what the nets compute


@pytest.mark.parametrize(
    ("architecture", "name"),
    [(architecture, name) for architecture, width, name, *_ in PUBLISHED if width == 1],
)
def test_with_all_halvings_left_it_computes_what_torchvisions_net_computes(
    architecture: str, name: str
) -> None:
    """Images of 96 pixels keep every halving: with the same numbers in it, the same logits come out."""
    net = reference(architecture, (3, 96, 96)).eval()
    with torch.no_grad():
        for index, buffer in enumerate(net.a.buffers()):  # running statistics that are used
            if buffer.is_floating_point():
                buffer.copy_(images(tuple(buffer.shape), 1, index)[0] + 0.5)
    with torch.device("meta"):
        other = of_torchvision(name)
    other.to_empty(device="cpu").eval()
    for its, ours in zip(other.state_dict().values(), net.a.state_dict().values(), strict=True):
        its.copy_(ours)
    batch = images((3, 96, 96), 2)
    with torch.no_grad():
        expected = other(batch)
        torch.testing.assert_close(net(batch, batch)[0], expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 1e-3


SIDES: dict[str, dict[int, int]] = {  # side of the images -> of the last map
    **{name: {4: 4, 8: 4, 28: 4, 32: 4, 64: 4, 96: 3} for name in TORCHVISIONS},
    "squeezenet": {4: 2, 8: 3, 28: 3, 32: 3, 64: 3, 96: 5},  # without padding
    "lenet-5": {12: 1, 28: 5, 32: 5, 64: 13, 96: 21},
    "plain-cnn": {4: 1, 8: 2, 28: 7, 32: 8, 64: 16, 96: 24},
}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "side", "last"),
    [(architecture, *pair) for architecture, sides in SIDES.items() for pair in sides.items()],
)
def test_the_last_map_is_of_some_4_pixels_a_side(architecture: str, side: int, last: int) -> None:
    with torch.device("meta"):
        net = reference(architecture, (1, side, side), 0.25)
        maps = net.first_maps(torch.zeros(2, 1, side, side), "a", len(net.a) - 1)
    assert tuple(maps.shape[2:]) == (last, last)


@pytest.mark.parametrize(
    ("architecture", "side", "runs"),
    [
        # of the five halvings in conv1, 3, 5, 8 and 15 the first two are out; then none is
        ("mobilenet-v2", 32, [(32, 4), (16, 3), (8, 7), (4, 5)]),
        ("mobilenet-v2", 96, [(48, 2), (24, 2), (12, 3), (6, 7), (3, 5)]),
        # in conv1, its pooling, and the first blocks of three stages of 4, 8 and 4
        ("shufflenet-v2", 32, [(32, 1), (16, 4), (8, 8), (4, 5)]),
        ("shufflenet-v2", 64, [(32, 1), (16, 4), (8, 8), (4, 5)]),
        ("shufflenet-v2", 96, [(24, 1), (12, 4), (6, 8), (3, 5)]),
        # in the stacks, of 3, 3, 3, 2, 4 and 1 blocks, the first, second, third and fifth
        ("mnasnet", 32, [(32, 5), (16, 3), (8, 5), (4, 6)]),
        # of 1, 2, 2, 3, 3, 4, 1
        ("efficientnet-b0", 32, [(32, 4), (16, 2), (8, 6), (4, 6)]),
        # in conv1 and the poolings behind conv1, conv3 and conv5
        ("squeezenet", 28, [(13, 2), (6, 2), (3, 5)]),
        ("squeezenet", 64, [(15, 2), (7, 2), (3, 5)]),
    ],
)
def test_the_first_halvings_are_those_taken_out(
    architecture: str, side: int, runs: list[tuple[int, int]]
) -> None:
    with torch.device("meta"):
        net, batch = reference(architecture, (3, side, side)), torch.zeros(2, 3, side, side)
        sides = []
        for block in list(net.a.children())[:-1]:
            batch = block(batch)
            sides.append(batch.shape[2])
    assert sides == [side for side, blocks in runs for _ in range(blocks)]


@pytest.mark.parametrize(("architecture", "least"), [("lenet-5", 12), ("plain-cnn", 4), ("squeezenet", 3)])
def test_images_that_are_too_small_are_refused_in_one_line(architecture: str, least: int) -> None:
    net = reference(architecture, (1, least, 40), 0.25).eval()
    assert net(images((1, least, 40), 2), images((1, least, 40), 2))[0].shape == (2, 10)
    for shape in [(1, least - 1, 40), (1, 40, least - 1)]:
        with pytest.raises(InputError) as caught:
            reference(architecture, shape, 0.25)
        assert str(caught.value) == (
            f"model.net = '{architecture}': images of {least - 1} pixels are too small; "
            f"it needs at least {least}"
        )


@given(
    st.sampled_from([a for a in ARCHITECTURES if a != "logistic-regression"]),
    st.integers(1, 20), st.integers(1, 40), st.integers(1, 4), st.sampled_from([0.01, 0.2, 0.7]),
)  # fmt: skip
@settings(max_examples=15)
def test_any_images_are_mapped_to_logits_or_refused(
    architecture: Any, height: int, width: int, channels: int, factor: float
) -> None:
    shape = (channels, height, width)
    with torch.device("meta"):
        try:
            net = reference(architecture, shape, factor, classes=3)
        except InputError:
            assert min(height, width) < {"lenet-5": 12, "plain-cnn": 4, "squeezenet": 3}[architecture]
            return
        (logits,) = net(torch.zeros(2, *shape), torch.zeros(2, *shape))
    assert logits.shape == (2, 3)


def test_batch_normalisation_can_be_evaluated_after_few_steps() -> None:
    """MNASNet's own running statistics take ten thousand."""
    for architecture in ARCHITECTURES:
        norms = [m for m in build(small(architecture), GREY, 10, "heads", 0).modules()
                 if isinstance(m, nn.BatchNorm2d)]  # fmt: skip
        assert {norm.momentum for norm in norms} <= {0.1}


def normal(fan_out: int) -> float:
    return (2 / fan_out) ** 0.5


# architecture -> standard deviation of the initial first and last weights, at half the width, grey images
SPREADS = {
    "mobilenet-v2": (normal(16 * 9), 0.01),
    "mnasnet": (normal(16 * 9), (1 / 10) ** 0.5),  # uniform by fan-out with a sigmoid's gain, 1
    "efficientnet-b0": (normal(16 * 9), (1 / 30) ** 0.5),  # uniform between ± 1/√10
    "shufflenet-v2": ((1 / 27) ** 0.5, (1 / (3 * 1024)) ** 0.5),  # torch's: between ± 1/√(fan in)
    "squeezenet": ((2 / 9) ** 0.5, 0.01),  # uniform by fan-in
}


@pytest.mark.parametrize("architecture", SPREADS)
def test_initial_weights_are_of_their_authors_distributions(architecture: str) -> None:
    """Also where torchvision's own layers were replaced: for grey images, and in a narrower net."""
    layers = [m for m in reference(architecture, GREY, 0.5).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    found = [layers[place].weight.std().item() for place in (0, -1)]
    assert found == pytest.approx(SPREADS[architecture], rel=0.2)
    assert layers[0].in_channels == 1
    assert layers[-1].bias is not None
    assert architecture == "shufflenet-v2" or not layers[-1].bias.any()
    if architecture in ("mobilenet-v2", "mnasnet"):
        assert layers[-2].weight.std().item() == pytest.approx(normal(640), rel=0.1)


def test_a_narrow_mobilenet_has_its_own_activation_throughout() -> None:
    """Relu6, in the last convolution too, which is not torchvision's there."""
    kinds = {type(m) for m in reference("mobilenet-v2", GREY, 0.25).modules() if "ReLU" in type(m).__name__}
    assert kinds == {nn.ReLU6}


# multiply-accumulates


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", [GREY, (3, 40, 33)], ids=str)
def test_cost_against_an_independent_count(architecture: str, shape: tuple[int, int, int]) -> None:
    """Torch's own counter, which counts a multiplication and an addition each."""
    spec = small(architecture, 0.3)
    found = cost(spec, shape, 7)
    net = build(spec, shape, 7, "fused", seed=0).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(images(shape, 1), images(shape, 1))
    assert counter.get_total_flops() == 2 * found.macs
    assert found.parameters == count(net)


@pytest.mark.parametrize(
    ("architecture", "shape", "macs"),
    [
        ("logistic-regression", GREY, 7_840),
        ("lenet-5", GREY, 28 * 28 * 6 * 25 + 10 * 10 * 16 * 150 + 48_000 + 10_080 + 840),
        ("plain-cnn", COLOUR, 32**2 * 16 * 27 + 16**2 * 32 * 144 + 8**2 * 64 * 288 + 640),
    ],
)
def test_the_floors_multiply_accumulates_by_hand(architecture: str, shape: Any, macs: int) -> None:
    assert cost(spec_of(architecture), shape, 10).macs == macs


# blocks and freezing


TRAINING, VALIDATION = some_split(32, 0), some_split(12, 1)


def stage(**settings: Any) -> StageSpec:
    return StageSpec.model_validate({"name": "s", "loss": "heads", "epochs": 1, "lr": 0.01, **settings})


def steps(state: StageState, spec: ModelSpec, row: StageSpec) -> Any:
    return train_stage(
        state, row, trainable_blocks(row, spec, SHAPE, CLASSES), TRAINING, VALIDATION, (), 8, 0, 0
    )


def trained(spec: ModelSpec, row: StageSpec) -> dict[str, Tensor]:
    state = begin(build(spec, SHAPE, CLASSES, "heads", 0), spec, row, SHAPE, CLASSES)
    list(steps(state, spec, row))
    return weights(state.net)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("network", ["heads", "fused"])
def test_every_block_is_one_that_can_be_frozen(architecture: str, network: Any) -> None:
    """Each has weights, and no weight is outside."""
    spec = spec_of(architecture)
    with torch.device("meta"):
        net = build(spec, GREY, 10, network, 0)
    assert [name for name, _ in net.a.named_children()] == list(levels(spec, GREY, 10, network))
    assert net.block_names() == tuple(f"a.{level}" for level in levels(spec, GREY, 10, network))
    of_blocks = [
        [id(p) for p in net.get_submodule(n).parameters()] for n in block_names(spec, SHAPE, CLASSES, network)
    ]
    assert all(of_blocks)
    assert sorted(itertools.chain(*of_blocks)) == sorted(map(id, net.parameters()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("train", ["last-1", "conv1", ["conv2", "head"]], ids=str)
def test_frozen_blocks_are_bit_equal_after_an_epoch_and_the_others_moved(
    architecture: str, train: Any
) -> None:
    """Weights and running statistics."""
    spec, row = small(architecture), stage(train=train, optimizer="adam")
    if architecture == "logistic-regression" and train != "last-1":
        with pytest.raises(InputError, match="matches no block of the net"):
            trainable_blocks(row, spec, SHAPE, CLASSES)
        return
    before = weights(build(spec, SHAPE, CLASSES, "heads", 0))
    moved = differing(before, trained(spec, row))
    blocks = {".".join(name.split(".")[:2]) for name in moved}
    assert blocks == {"last-1": {"a.head"}, "conv1": {"a.conv1"}}.get(str(train), {"a.conv2", "a.head"})
    if train == "conv1" and architecture != "lenet-5" and architecture != "squeezenet":
        assert {name.split(".")[-1] for name in moved} >= {"running_mean", "running_var"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_first_blocks_and_the_rest_are_the_whole_net(architecture: str) -> None:
    """Cut anywhere; and evaluation changes nothing."""
    spec = small(architecture)
    net = build(spec, SHAPE, CLASSES, "heads", 0).eval()
    batch, before = images(SHAPE, 4), weights(net)
    with torch.no_grad():
        whole = net(batch, batch)[0]
        blocks = len(list(net.a.children())) - 1
        for depth in {1, 2, blocks // 2, blocks} & set(range(1, blocks + 1)):
            maps = net.first_maps(batch, "a", depth)
            assert torch.equal(net(batch, maps, (0, depth))[0], whole)
    assert not differing(before, weights(net))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kept_maps_of_frozen_blocks_change_nothing_but_rounding(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the same stage with no room to keep them.

    torch's padded, depthwise and 1×1 convolutions may sum in another order in another batch.
    """
    spec, row = small(architecture), stage(train="last-1", optimizer="sgd", lr=0.1, epochs=2)
    kept = trained(spec, row)
    monkeypatch.setattr(images_module, "MAPS_BYTES", 0)
    for name, tensor in trained(spec, row).items():
        torch.testing.assert_close(kept[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["efficientnet-b0", "squeezenet", "mnasnet", "lenet-5"])
def test_a_stage_that_goes_on_from_a_checkpoint_ends_like_an_undisturbed_one(architecture: str) -> None:
    """Bit for bit, with the nets' own dropout and stochastic depth."""
    spec, row = small(architecture), stage(epochs=3)
    killed, again = (
        begin(build(spec, SHAPE, CLASSES, "heads", 0), spec, row, SHAPE, CLASSES) for _ in range(2)
    )
    list(itertools.islice(steps(killed, spec, row), 2))
    again.go_on_from(Checkpoint.from_bytes(killed.to_checkpoint(seconds=1.0).to_bytes("key"), "key"))
    assert len(list(steps(again, spec, row))) == 1
    assert not differing(trained(spec, row), weights(again.net))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_initial_weights_are_a_function_of_the_seed_alone(architecture: str) -> None:
    """Not of the global stream, which stays where it was."""
    spec = small(architecture)
    torch.manual_seed(1)
    one = weights(build(spec, SHAPE, CLASSES, "heads", 5))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert not differing(one, weights(build(spec, SHAPE, CLASSES, "fused", 5)))
    assert torch.equal(before, torch.get_rng_state())
    other = weights(build(spec, SHAPE, CLASSES, "heads", 6))
    matrices = {name for name, tensor in one.items() if tensor.dim() > 1 and name.startswith("a.")}
    assert differing(one, other) >= matrices


def test_images_are_normalised_by_the_net() -> None:
    net = build(small("mobilenet-v2"), SHAPE, CLASSES, "heads", 0).eval()
    batch = images(SHAPE, 3)
    plain = net(batch, batch)[0]
    net.mean.fill_(0.25)
    net.deviation.fill_(4.0)
    torch.testing.assert_close(net(batch, batch * 4 + 0.25)[0], plain, rtol=1e-4, atol=1e-5)


# trials

DIGITS = DatasetSpec(name="digits", validation=50, train_limit=60)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DIGITS, Path("nowhere"), download=False)


def trial(architecture: Any, **settings: Any) -> Trial:
    preset = {"preset": "paper", "epochs": {"dual": 1, "fusion": 1, "finetune": 1}}
    spec = {"model": small(architecture).model_dump(), "stages": preset, "augmentation": "shift", **settings}
    return Trial("reference", DIGITS, ArmSpec.model_validate(spec), Task((1, 28, 28), 10), 0)


def local(folder: Path) -> LocalStore:
    return LocalStore(FolderStore(folder))


@pytest.mark.parametrize("architecture", ["logistic-regression", "lenet-5", "mobilenet-v2"])
@pytest.mark.parametrize("preset", ["paper", "gradual"])
def test_a_reference_net_is_an_arm_like_any_other(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, preset: str
) -> None:
    """Trained, assessed, and looked up the second time."""
    stages = {"preset": preset, "epochs": {"dual": 1, "fusion": 1, "finetune": 3}}
    one = trial(architecture, stages=stages)
    result = run_trial(one, digits, local(tmp_path), CPU)
    assert [entry.origin for entry in result.entries] == ["trained"] * len(result.entries)
    assert sum(len(stage.epochs) for stage in result.stages) == 5
    net = final_net(one, result.stages[-1])
    assert result.assessment.metrics["val_accuracy"] == result.stages[-1].metrics["val_accuracy"]
    assert count(net) == cost(one.spec.model, GREY, 10).parameters
    monkeypatch.setattr(pipeline, "train_stage", lambda *_: pytest.fail("a stored stage was trained again"))
    again = run_trial(one, digits, local(tmp_path), CPU)
    assert [entry.origin for entry in again.entries] == ["stored"] * len(again.entries)
    assert again.assessment == result.assessment


def test_a_reference_net_sees_augmented_images_in_training(digits: Dataset, tmp_path: Path) -> None:
    results = [
        run_trial(trial("logistic-regression", augmentation=recipe), digits, local(tmp_path), CPU)
        for recipe in ("none", "shift")
    ]
    assert differing(results[0].stages[0].weights, results[1].stages[0].weights)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("paper", [("dual", "all", 5), ("finetune", "all", 6)]),
        ("frozen", [("dual", "all", 5), ("finetune", "last-1", 6)]),
        ("all-at-once", [("dual", "all", 5), ("finetune", "all", 6)]),
        ("scratch", [("scratch", "all", 5), ("finetune", "all", 6)]),
        (
            "gradual",
            [("dual", "all", 5), ("thaw-1", "last-1", 2), ("thaw-2", "last-2", 2), ("thaw-3", "all", 2)],
        ),
    ],
)  # fmt: skip
def test_presets_of_a_net_with_nothing_to_fuse(preset: str, expected: Any) -> None:
    """As many epochs as of any net; two blocks and a head thaw one by one."""
    stages = {"preset": preset, "epochs": {"dual": 3, "fusion": 2, "finetune": 6}}
    table = stage_table(
        ArmSpec.model_validate({"model": {"net": "lenet-5"}, "stages": stages}), Task(SHAPE, CLASSES)
    )
    assert [(row.name, row.train, row.epochs) for row in table] == expected
    assert {row.loss for row in table} == {"heads"}


def test_the_seed_reaches_a_reference_trial(digits: Dataset, tmp_path: Path) -> None:
    one = trial("plain-cnn")
    results = [run_trial(replace(one, seed=seed), digits, local(tmp_path), CPU) for seed in (0, 1)]
    assert differing(results[0].stages[0].weights, results[1].stages[0].weights)
