"""Pruning and rounding to int8: against hand-computed values, brute force and integer arithmetic."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets_of_specs import begin, pruned, slim
from striped_images import CLASSES, SHAPE, some_split
from torch import Tensor, nn

from lightsweep.data.datasets import load
from lightsweep.data.imagedata import Dataset, DatasetInfo, Images, Task
from lightsweep.data.splits import split
from lightsweep.nets.blocks import compressed, trainable_blocks
from lightsweep.nets.compress import (
    Quantised,
    matrix_layers,
    prune_weights,
    quantise,
    shape_as_quantised,
)
from lightsweep.nets.cost import cost
from lightsweep.nets.models import Net, build
from lightsweep.seeding import derive
from lightsweep.store.claims import LocalStore
from lightsweep.store.folder import FolderStore
from lightsweep.store.stagefile import StageResult
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.stages import Compression, PruneStage
from lightsweep.training.batches import Source, Split
from lightsweep.training.chain import TrialResult, run_trial
from lightsweep.training.loop import evaluate, train_stage
from lightsweep.training.stagenets import final_net
from lightsweep.trials.trial import Trial

CPU = torch.device("cpu")


def randomised(net: Net, seed: int = 0) -> Net:
    """Fill a net with random numbers: biases, scales of either sign and running statistics, too."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point() and name not in ("mean", "deviation"):
                tensor.copy_(torch.randn(tensor.shape, generator=stream))
                if name.endswith("running_var"):
                    tensor.abs_().add_(0.1)
    return net.eval()


def images(shape: tuple[int, int, int], number: int, seed: int = 0) -> Tensor:
    return torch.rand(number, *shape, generator=torch.Generator().manual_seed(seed))


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# pruning weights


def test_the_smallest_weights_of_all_layers_go_and_biases_stay() -> None:
    """Two of five: 0.5 of the second layer and −1 of the first."""
    net = nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[3.0, -1.0, 2.0]]))
        net[1].weight.copy_(torch.tensor([[0.5], [-4.0]]))
        net[0].bias.fill_(0.01)
    prune_weights(net, 0.4)
    assert net[0].weight.tolist() == [[3.0, 0.0, 2.0]]
    assert net[1].weight.tolist() == [[0.0], [-4.0]]
    assert net[0].bias.item() == pytest.approx(0.01)


def test_of_equal_weights_the_first_go() -> None:
    """Or what is pruned would depend on the machine's sort."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(20, 1))
    with torch.no_grad():
        net[0].weight.fill_(-0.5)
        net[1].weight.fill_(0.5)
    prune_weights(net, 20 / 38)
    assert not net[0].weight.any()
    assert net[1].weight.flatten().tolist() == [0.0, 0.0] + [0.5] * 18


@given(st.from_type(ModelSpec), st.floats(0.001, 0.999), st.integers(0, 9))
@settings(max_examples=25)
def test_exactly_the_share_goes_and_it_is_the_smallest(model: ModelSpec, amount: float, seed: int) -> None:
    """Against a sort of all weights by hand, of every kind of net; and the count is that of the cost."""
    net = randomised(build(model, (1, 31, 31), 3, "fused", 0), seed)
    before = weights(net)
    prune_weights(net, amount)
    matrices = [f"{name}.weight" for name in matrix_layers(net)]
    flat = np.abs(np.concatenate([before[name].numpy().ravel() for name in matrices]))
    gone = np.sort(np.argsort(flat, kind="stable")[: round(amount * len(flat))])
    after = np.concatenate([net.state_dict()[name].numpy().ravel() for name in matrices])
    assert np.flatnonzero(after == 0).tolist() == gone.tolist()
    np.testing.assert_array_equal(np.abs(after), np.where(np.isin(np.arange(len(flat)), gone), 0, flat))
    others = before.keys() - set(matrices)
    assert all(torch.equal(before[name], net.state_dict()[name]) for name in others)
    spec = ArmSpec.model_validate({"compression": {"prune": "weights", "amount": amount}})
    found = cost(model, (1, 31, 31), 3, spec.compression)
    assert found.parameters == sum(p.numel() for p in net.parameters()) - len(gone)


MODEL = ModelSpec(filters=(3, 4), hidden=6, batch_norm=True)


TRAINING, VALIDATION = some_split(40, 0), some_split(12, 1)
OPTIMIZERS = {"nadam": {}, "adam": {"weight_decay": 0.1}, "sgd": {"momentum": 0.9, "lr": 0.05}}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("patience", [None, 2])
def test_zeros_stay_zero_and_the_others_learn(optimizer: str, patience: int | None) -> None:
    """With moments and decay that would move them; biases and scales learn, too."""
    row = PruneStage.model_validate(
        {"name": "prune", "loss": "fused", "optimizer": optimizer, "lr": 0.01, "epochs": 3, "amount": 0.6,
         "prune": "weights", "patience": patience, **OPTIMIZERS[optimizer]}
    )  # fmt: skip
    net = build(MODEL, SHAPE, CLASSES, "fused", 0)
    prune_weights(net, 0.6)
    before = weights(net)
    state = begin(net, MODEL, row, SHAPE, CLASSES)
    trainable = trainable_blocks(row, MODEL, SHAPE, CLASSES)
    list(train_stage(state, row, trainable, TRAINING, VALIDATION, (), 8, 0, 0))
    moved = total = 0
    for name in matrix_layers(net):
        old, new = before[f"{name}.weight"], net.state_dict()[f"{name}.weight"]
        assert torch.equal(old == 0, new == 0)
        moved, total = moved + int((old != new).sum()), total + int((old != 0).sum())
    assert 0.9 * total < moved <= total
    assert all(not torch.equal(before[name], net.state_dict()[name]) for name in before if "bias" in name)


# pruning filters


def test_a_net_of_fewer_filters_keeps_at_least_one() -> None:
    def narrower(filters: tuple[int, ...], amount: float) -> list[int]:
        compression = Compression(prune="filters", amount=amount)
        found: Any = compressed(ModelSpec(filters=filters), compression, (1, 28, 28), 10)
        return list(found.filters)

    assert narrower((10, 20), 0.5) == [5, 10]
    assert narrower((10, 20), 0.33) == [7, 13]
    assert narrower((1, 2), 0.9) == [1, 1]


def strongest(magnitudes: list[float], scales: list[float] | None, amount: float) -> list[float]:
    """Prune a convolution of 1×1 filters with one weight each; return the weights that are left."""
    model = ModelSpec(
        inputs="single", fusion="none", filters=(len(magnitudes),), kernel=1, batch_norm=scales is not None
    )
    net = build(model, (1, 2, 2), 2, "heads", 0)
    state = net.state_dict()
    state["a.conv1.convolution.weight"].copy_(torch.tensor(magnitudes)[:, None, None, None])
    if scales is not None:
        state["a.conv1.norm.weight"].copy_(torch.tensor(scales))
    left: list[float] = (
        pruned(state, model, amount, (1, 2, 2), 2)["a.conv1.convolution.weight"].flatten().tolist()
    )
    return left


def test_the_strongest_filters_by_hand() -> None:
    """Two of four by magnitude, in their order; times the scale of batch normalisation, of either sign."""
    assert strongest([1.0, -5.0, 2.0, 0.5], None, 0.5) == [-5.0, 2.0]
    assert strongest([1.0, -5.0, 2.0, 0.5], [-10.0, 0.1, 1.0, 1.0], 0.5) == [1.0, 2.0]
    assert strongest([2.0, 1.0, -2.0, 2.0], None, 0.5) == [2.0, -2.0]  # as strong: the first
    assert strongest([0.25, 0.5], None, 0.9) == [0.5]  # one always stays


def test_a_filter_is_judged_by_what_is_left_of_its_inputs() -> None:
    """The first convolution loses its second filter, and with it the second one's great weight."""
    model = ModelSpec(inputs="single", fusion="none", filters=(2, 2), kernel=1)
    state = build(model, (1, 4, 4), 2, "heads", 0).state_dict()
    state["a.conv1.convolution.weight"].copy_(torch.tensor([[[[2.0]]], [[[1.0]]]]))
    state["a.conv2.convolution.weight"].copy_(torch.tensor([[[[1.0]], [[9.0]]], [[[2.0]], [[0.0]]]]))
    left = pruned(state, model, 0.5, (1, 4, 4), 2)
    assert left["a.conv2.convolution.weight"].tolist() == [[[[2.0]]]]


FUSIONS = [
    (inputs, fusion)
    for inputs in ("single", "dual")
    for fusion in ("conv1x1", "concatenate", "fresh", "average" if inputs == "dual" else "none")
]
KINDS = list(itertools.product([False, True], [False, True], [1, 2], ["flatten", "average"], [None, 5]))


def without_the_weakest(state: dict[str, Tensor], model: ModelSpec, amount: float) -> None:
    """Zero all that comes out of the weakest filters, in place, so that the narrow net must equal it."""
    for sub in model.submodels:
        gone: list[int] = []
        for block, count in enumerate(model.filters, 1):
            left = max(1, round(count * (1 - amount)))
            for place in range(model.convolutions):
                inner = f"before.{place}." if place < model.convolutions - 1 else ""
                name = f"{sub}.conv{block}.{inner}"
                state[f"{name}convolution.weight"][:, gone] = 0  # what reads a channel of zeros
                strengths = [float(x.abs().sum()) for x in state[f"{name}convolution.weight"]]
                if model.batch_norm:
                    scales = state[f"{name}norm.weight"].tolist()
                    strengths = [a * abs(b) for a, b in zip(strengths, scales, strict=True)]
                gone = sorted(range(count), key=lambda i: strengths[i])[: count - left]
                for part in ("convolution.weight", "convolution.bias", "norm.weight", "norm.bias"):
                    if name + part in state:
                        state[name + part][gone] = 0


@pytest.mark.parametrize(("inputs", "fusion"), FUSIONS)
@pytest.mark.parametrize("amount", [0.5, 0.3])
def test_the_narrow_net_computes_what_the_wide_one_does_without_its_weakest_filters(
    inputs: Any, fusion: Any, amount: float
) -> None:
    """Of every kind of block, head and trunk; and the shapes fit the narrow net's settings."""
    shape = (2, 14, 15)
    for separable, batch_norm, convolutions, head, hidden in KINDS:
        model = ModelSpec(
            inputs=inputs, fusion=fusion, filters=(4, 5), kernel=2, separable=separable, head=head,
            batch_norm=batch_norm, convolutions=convolutions, hidden=hidden,
        )  # fmt: skip
        wide = randomised(build(model, shape, 3, "fused", 0), seed=convolutions)
        narrow = build(slim(model, amount), shape, 3, "fused", 1).eval()
        given_state = weights(wide)
        narrow.load_state_dict(pruned(given_state, model, amount, shape, 3))
        assert are_equal(given_state, wide.state_dict())
        without_the_weakest(wide.state_dict(), model, amount)
        x, y = images(shape, 3), images(shape, 3, seed=1)
        with torch.no_grad():
            expected = wide(x, y)[0]
            torch.testing.assert_close(narrow(x, y)[0], expected, rtol=1e-4, atol=1e-4)
        assert expected.std() > 0.01


def test_submodels_that_were_never_fused_are_pruned_too() -> None:
    """Fusion average needs no fused stage: its dense heads have two dimensions, not four."""
    model = ModelSpec(fusion="average", filters=(4, 4), kernel=2)
    heads = randomised(build(model, SHAPE, 3, "heads", 0))
    left = pruned(heads.state_dict(), model, 0.5, SHAPE, 3)
    narrow = build(slim(model, 0.5), SHAPE, 3, "heads", 0)
    narrow.load_state_dict(left)
    without_the_weakest(heads.state_dict(), model, 0.5)
    x, y = images(SHAPE, 3), images(SHAPE, 3, seed=1)
    with torch.no_grad():
        for found, expected in zip(narrow.eval()(x, y), heads.eval()(x, y), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
            assert expected.std() > 0.01


# int8


def test_a_rounded_dense_layer_by_hand() -> None:
    """Inputs from −0.5 to 2.05 in steps of 0.01, zero being 50; 63.5 rounds to the even 64."""
    dense = nn.Linear(2, 2)
    with torch.no_grad():
        dense.weight.copy_(torch.tensor([[0.5, -1.0], [0.25, 0.0]]))
        dense.bias.copy_(torch.tensor([3.0, 4.0]))
    layer = Quantised(dense, -0.5, 2.05)
    assert layer.weight.dtype == torch.int8
    assert layer.weight.tolist() == [[64, -127], [127, 0]]
    assert layer.scale.flatten().tolist() == pytest.approx([1 / 127, 0.25 / 127])
    assert layer.input_scale.item() == pytest.approx(0.01)
    assert (layer.input_zero.item(), layer.input_zero.dtype) == (50, torch.int32)
    assert Quantised(dense, -0.506, 2.044).input_zero.item() == 51  # the nearest
    found = layer(torch.tensor([[0.123, 3.0], [-0.7, 0.0]]))  # 0.12 and 2.05; −0.5 and 0
    expected = [[64 / 127 * 0.12 - 2.05 + 3, 0.25 * 0.12 + 4], [64 / 127 * -0.5 + 3, 0.25 * -0.5 + 4]]
    assert found.flatten().tolist() == pytest.approx([*expected[0], *expected[1]], abs=1e-5)


def by_integers(
    layer: Quantised, x: npt.NDArray[np.float64], stride: int, padding: int, dilation: int, groups: int
) -> npt.NDArray[np.float64]:
    """Convolve with an int8 kernel as a microcontroller would: uint8 inputs, sums of integers."""
    zero, scale = int(layer.input_zero), float(layer.input_scale)
    codes = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8)
    sides = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    codes = np.pad(codes, sides, constant_values=zero).astype(np.int64) - zero
    kernel = layer.weight.numpy().astype(np.int64)
    outputs, inputs, side, _ = kernel.shape
    reach = dilation * (side - 1) + 1
    rows, columns = ((n - reach) // stride + 1 for n in codes.shape[2:])
    sums = np.zeros((len(x), outputs, rows, columns), np.int64)
    for out, row, column in np.ndindex(outputs, rows, columns):
        first = out // (outputs // groups) * inputs
        top, left = row * stride, column * stride
        window = codes[
            :, first : first + inputs, top : top + reach : dilation, left : left + reach : dilation
        ]
        sums[:, out, row, column] = (window * kernel[out]).sum((1, 2, 3))
    scales = layer.scale.numpy().astype(np.float64).reshape(1, -1, 1, 1)
    result: npt.NDArray[np.float64] = sums * scale * scales
    return result if layer.bias is None else result + layer.bias.numpy().reshape(1, -1, 1, 1)


@given(
    stride=st.integers(1, 2), padding=st.integers(0, 2), dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]), kernel=st.integers(1, 3), bias=st.booleans(), seed=st.integers(0, 99),
    low=st.floats(-3, 0), high=st.floats(0.5, 5),
)  # fmt: skip
@settings(max_examples=40)
def test_a_rounded_convolution_against_integer_arithmetic(
    stride: int, padding: int, dilation: int, groups: int, kernel: int, bias: bool, seed: int, low: float,
    high: float,
) -> None:  # fmt: skip
    """With inputs beyond the range, and padding by zeros."""
    torch.manual_seed(seed)
    plain = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias)
    layer = Quantised(plain, low, high)
    steps = np.random.default_rng(seed).integers(-300, 300, (2, 4, 6, 7))
    jitter = np.random.default_rng(seed + 1).uniform(
        -0.4, 0.4, steps.shape
    )  # never near the middle of a step
    x = (steps + jitter) * float(layer.input_scale)
    expected = by_integers(layer, x, stride, padding, dilation, groups)
    with torch.no_grad():
        found = layer(torch.from_numpy(x.astype(np.float32))).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_rounded_dense_layers_against_integer_arithmetic() -> None:
    torch.manual_seed(0)
    layer = Quantised(nn.Linear(30, 7), -1.0, 2.0)
    steps = np.random.default_rng(0).integers(-150, 300, (5, 30))
    x = (steps + 0.2) * float(layer.input_scale)
    assert layer.weight.shape == (7, 30)
    codes = np.clip(steps + int(layer.input_zero), 0, 255).astype(np.uint8).astype(np.int64)
    sums = (codes - int(layer.input_zero)) @ layer.weight.numpy().astype(np.int64).T
    expected = sums * float(layer.input_scale) * layer.scale.numpy().ravel() + layer.bias.numpy()  # type: ignore[union-attr]
    found = layer(torch.from_numpy(x.astype(np.float32)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


@given(st.integers(0, 999), st.floats(1e-20, 1e20), st.floats(-100, 100), st.floats(-100, 100))
@settings(max_examples=40)
def test_rounding_errs_by_half_a_step_at_most(seed: int, size: float, one: float, other: float) -> None:
    """Weights by channel, of any size, and inputs within the range; zero is exact."""
    torch.manual_seed(seed)
    dense = nn.Linear(6, 4, bias=False)
    with torch.no_grad():
        dense.weight.mul_(size * torch.tensor([[1.0], [1e-3], [7.0], [1e-6]]))
    low, high = sorted((one, other))
    layer = Quantised(dense, low, high)
    error = (layer.weight.double() * layer.scale.double() - dense.weight.detach().double()).abs()
    assert (error <= layer.scale.double() * (0.5 + 1e-4)).all()
    assert layer.weight.abs().amax(1).tolist() == [127] * 4
    low, high = min(low, 0.0), max(high, 0.0)
    x = torch.linspace(low, high, 50)
    seen = torch.fake_quantize_per_tensor_affine(x, layer.input_scale, layer.input_zero, 0, 255)
    assert ((seen - x).abs() <= layer.input_scale * (0.5 + 1e-3) + 1e-6).sum() >= 49
    assert ((seen - x).abs() <= layer.input_scale * (1 + 1e-3) + 1e-6).all()
    assert not layer(torch.zeros(1, 6)).any()


def test_channels_of_zeros_and_inputs_that_never_vary() -> None:
    """Give the bias, and no division by zero."""
    dense = nn.Linear(2, 2)
    with torch.no_grad():
        dense.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        dense.bias.copy_(torch.tensor([0.5, 0.25]))
    dead = Quantised(dense, 0.0, 0.0)
    assert dead(torch.zeros(1, 2)).tolist() == [[0.5, 0.25]]
    for constant in (3.0, -3.0):  # the end of its range, which is exact
        found = Quantised(dense, constant, constant)(torch.full((1, 2), constant))
        assert found.flatten().tolist() == pytest.approx([0.5, 0.25 + 2 * constant], abs=1e-5)


def test_weights_that_have_all_but_vanished_are_zero() -> None:
    """Smaller than float32 holds in full: their scale would be no number to divide by."""
    dense = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        dense.weight.copy_(torch.tensor([[2e-43, -1e-43], [1e-44, 0.0]]))
    layer = Quantised(dense, 0.0, 1.0)
    assert layer.weight.tolist() == [[0, 0], [0, 0]]
    assert layer(torch.ones(1, 2)).tolist() == [[0.0, 0.0]]
    vanished = Quantised(nn.Linear(2, 2, bias=False), -1e-43, 1e-43)  # a range of inputs likewise
    assert vanished(torch.full((1, 2), 1e-43)).tolist() == [[0.0, 0.0]]


def test_a_layers_input_range_is_of_all_batches_and_holds_zero() -> None:
    """From −2 to 3.1 over two batches; and from 0 where nothing is below it."""
    model = ModelSpec(inputs="single", fusion="none", filters=(1,), kernel=1, batch_norm=True)
    net = build(model, (1, 2, 2), 2, "heads", 0).eval()
    state = net.state_dict()
    state["mean"].fill_(0.5)
    state["deviation"].fill_(0.25)
    state["a.conv1.convolution.weight"].fill_(-1.0)
    state["a.conv1.norm.bias"].fill_(1.0)
    one, other = torch.full((1, 1, 2, 2), 0.5), torch.full((3, 1, 2, 2), 0.9)
    one[0, 0, 0, 0], other[0, 0, 1, 1] = 0.0, 1.275
    quantise(net, [one, other])
    first, head = net.get_submodule("a.conv1.convolution"), net.get_submodule("a.head")
    assert isinstance(first, Quantised)
    assert first.input_scale.item() == pytest.approx(5.1 / 255)
    assert first.input_zero.item() == 100
    assert isinstance(head, Quantised)
    largest = 2 / math.sqrt(1 + 1e-5) + 1  # of −(−2), normalised by variance 1 and moved by 1
    assert head.input_scale.item() == pytest.approx(largest / 255)
    assert head.input_zero.item() == 0


@given(st.from_type(ModelSpec), st.integers(0, 5))
@settings(max_examples=20)
def test_every_net_is_rounded_and_read_back_from_its_bytes(model: ModelSpec, seed: int) -> None:
    """Int8 as int8; the same logits bit for bit; nothing is left of the look at its inputs."""
    shape = (1, 31, 31)
    net = randomised(build(model, shape, 3, "fused", 0), seed)
    before, layers = weights(net), set(matrix_layers(net))
    quantise(net, images(shape, 6).split(4))
    assert not any(module._forward_pre_hooks for module in net.modules())
    rounded = {name for name, module in net.named_modules() if isinstance(module, Quantised)}
    assert rounded == layers
    assert not matrix_layers(net)
    state = StageResult.from_bytes(StageResult(weights=net.state_dict()).to_bytes("key"), "key").weights
    int8 = {name for name, tensor in state.items() if tensor.dtype == torch.int8}
    assert int8 == {f"{name}.weight" for name in layers}
    kept = [name for name in before if name.removesuffix(".weight") not in layers]
    assert all(torch.equal(state[name], before[name]) for name in kept)
    again = build(model, shape, 3, "fused", 1).eval()
    shape_as_quantised(again)
    again.load_state_dict(state)
    x, y = images(shape, 4, 7), images(shape, 4, 8)
    assert torch.equal(again(x, y)[0], net(x, y)[0])


# trials on digits

DIGITS = DatasetSpec(name="digits", validation=200, train_limit=1100)
STAGES = [{"name": "only", "epochs": 4, "lr": 0.005}]
NET = {"inputs": "single", "fusion": "none", "filters": [6, 8], "batch_norm": True}
TUNING = {"epochs": 2, "lr": 0.01}
ARMS: dict[str, dict[str, Any] | None] = {
    "base": None,
    "weights": {"prune": "weights", "amount": 0.7, **TUNING},
    "weights and int8": {"prune": "weights", "amount": 0.7, **TUNING, "quantise": "int8"},
    "filters": {"prune": "filters", "amount": 0.4, **TUNING},
    "filters and int8": {"prune": "filters", "amount": 0.4, **TUNING, "quantise": "int8"},
    "int8": {"quantise": "int8"},
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DIGITS, Path("nowhere"), download=False)


def trial(compression: Any, seed: int = 0, **settings: Any) -> Trial:
    spec = {"model": NET, "stages": STAGES, "augmentation": "none", "compression": compression, **settings}
    return Trial("arm", DIGITS, ArmSpec.model_validate(spec), Task((1, 28, 28), 10), seed)


def local(folder: Path) -> LocalStore:
    return LocalStore(FolderStore(folder))


@pytest.fixture(scope="module")
def results(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrialResult]:
    """Train each arm after the one before it, with one store."""
    store = local(tmp_path_factory.mktemp("store"))
    return {name: run_trial(trial(setting), digits, store, CPU) for name, setting in ARMS.items()}


Results = dict[str, TrialResult]


def origins(result: TrialResult) -> list[str]:
    return [str(entry.origin) for entry in result.entries]


def test_arms_share_what_came_before_they_differ(results: Results) -> None:
    """All the trained net; rounding after pruning the pruned net; the assessment is each one's own."""
    assert {name: origins(result) for name, result in results.items()} == {
        "base": ["trained"] * 2,
        "weights": ["stored", "trained", "trained"],
        "weights and int8": ["stored", "stored", "trained", "trained"],
        "filters": ["stored", "trained", "trained"],
        "filters and int8": ["stored", "stored", "trained", "trained"],
        "int8": ["stored", "trained", "trained"],
    }


@pytest.mark.parametrize("name", ARMS)
def test_the_final_net_is_the_last_stages(digits: Dataset, results: Results, name: str) -> None:
    """The accuracy of the assessment is that of the last stage's weights, rounded or pruned as they are."""
    result = results[name]
    net = final_net(trial(ARMS[name]), result.stages[-1])
    _, index = split(digits.train.labels, DIGITS, 0, None, None)
    validation = Split(*map(torch.from_numpy, (digits.train.pixels.copy(), digits.train.labels, index)))
    found = evaluate(net, Source(validation))
    assert result.assessment.metrics["val_accuracy"] == found.accuracies[0]
    assert result.assessment.metrics["val_loss"] == found.losses[0]
    assert result.stages[-1].metrics["val_accuracy"] == found.accuracies[0]


def test_int8_is_about_as_accurate(results: Results) -> None:
    """On 359 test images: what rounding costs is at most a few of them."""
    accuracy = {name: result.assessment.metrics["test_accuracy"] for name, result in results.items()}
    assert accuracy["base"] > 0.9
    for before, after in [("base", "int8"), ("weights", "weights and int8"), ("filters", "filters and int8")]:
        assert abs(accuracy[before] - accuracy[after]) <= 0.012
        losses = [results[name].assessment.metrics["val_loss"] for name in (before, after)]
        assert losses[0] != losses[1]
    assert min(accuracy.values()) > 0.8


def test_rounding_trains_nothing_and_says_so(results: Results) -> None:
    last = results["int8"].stages[-1]
    assert (last.epochs, last.metrics["kept_epoch"], last.metrics["network"]) == ([], 0, "heads")
    trained = results["base"].stages[-1].weights
    assert torch.equal(last.weights["a.head.bias"], trained["a.head.bias"])


def learnt(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the images' statistics and batch normalisation's."""
    return {
        name: tensor
        for name, tensor in state.items()
        if name not in ("mean", "deviation") and "running_" not in name and "num_batches" not in name
    }


MATRICES = ("a.conv1.convolution", "a.conv2.convolution", "a.head")


@pytest.mark.parametrize("name", ARMS)
def test_the_cost_is_that_of_the_states_tensors(results: Results, name: str) -> None:
    """Of numbers and bytes; a zero point takes one byte of the four that it is stored in."""
    found = cost(trial(None).spec.model, (1, 28, 28), 10, trial(ARMS[name]).spec.compression)
    state = results[name].stages[-1].weights
    float_state = results[name.removesuffix(" and int8")].stages[-1].weights if name != "int8" else None
    before = learnt(float_state or results["base"].stages[-1].weights)
    zeros = 0
    if "weights" in name:
        zeros = sum(int((before[f"{layer}.weight"] == 0).sum()) for layer in MATRICES)
        assert zeros == round(0.7 * (6 * 9 + 6 * 8 * 9 + 8 * 25 * 10))
    numbers = sum(tensor.numel() for tensor in before.values())
    assert found.parameters == numbers - zeros
    assert found.training_bytes == 12 * found.parameters
    # mean and deviation of one channel; running mean and variance of 6 and 8 channels, or of those left
    assert found.total_parameters == numbers + 2 + 2 * (4 + 5 if "filters" in name else 6 + 8)
    matrix = sum(before[f"{layer}.weight"].numel() for layer in MATRICES)
    bits = math.ceil(matrix / 8) if zeros else 0
    is_int8 = "int8" in name
    whole = sum(tensor.numel() * tensor.element_size() for tensor in learnt(state).values())
    each = 1 if is_int8 else 4
    assert found.weight_bytes == whole - 3 * len(MATRICES) * is_int8 - each * zeros + bits
    if is_int8:
        assert found.int8_bytes == found.weight_bytes


def test_zeros_stay_zero_through_a_trial_and_its_rounding(results: Results) -> None:
    pruned, rounded = (results[name].stages[-1].weights for name in ("weights", "weights and int8"))
    for name in (f"{layer}.weight" for layer in MATRICES):
        is_zero = (pruned[name] == 0).view_as(rounded[name])
        assert is_zero.any()
        assert not rounded[name][is_zero].any()


class Interrupted(Exception):
    pass


class Flaky(LocalStore):
    """A store whose worker is lost when it hands over the checkpoint of a stage's epoch."""

    def __init__(self, folder: Path, stage: str, epoch: int) -> None:
        super().__init__(FolderStore(folder), checkpoint_seconds=0)
        self.stage, self.epoch = stage, epoch

    def put_checkpoint(self, key: str, checkpoint: Any) -> None:
        super().put_checkpoint(key, checkpoint)
        if key == self.stage and len(checkpoint.epochs) == self.epoch:
            raise Interrupted


@pytest.mark.parametrize("kind", ["weights", "filters"])
@pytest.mark.parametrize("optimizer", ["sgd", "nadam"])
def test_a_pruning_stage_goes_on_from_its_checkpoint_to_the_same_bits(
    digits: Dataset, tmp_path: Path, kind: str, optimizer: str
) -> None:
    """It prunes again, takes over the checkpoint, and keeps the same weights at zero."""
    one = trial(
        {"prune": kind, "epochs": 3, "optimizer": optimizer, "lr": 0.01, "patience": 3},
        stages=[{"name": "only", "epochs": 1}], model={**NET, "filters": [3, 4]},
    )  # fmt: skip
    one = replace(one, dataset=DIGITS.model_copy(update={"train_limit": 100}))
    whole = run_trial(one, digits, local(tmp_path / "whole"), CPU)
    with pytest.raises(Interrupted):
        run_trial(one, digits, Flaky(tmp_path / "lost", whole.entries[1].key, 2), CPU)
    again = run_trial(one, digits, local(tmp_path / "lost"), CPU)
    assert origins(again) == ["stored", "continued", "trained"]
    assert are_equal(again.stages[1].weights, whole.stages[1].weights)
    assert again.assessment.metrics == whole.assessment.metrics


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("change", [{}, {"batch_size": 99, "model": {**NET, "filters": [4, 7]}}], ids=str)
def test_the_images_that_give_the_ranges_are_the_seeds(
    tmp_path: Path, seed: int, change: dict[str, Any]
) -> None:
    """1,024 of some 4,000 training images, chosen by the seed whatever the arm: arms stay paired."""
    draws = np.random.default_rng(0)
    some = Images(draws.integers(0, 256, (4000, 10, 10, 1), np.uint8), np.arange(4000) % 3)
    dataset = Dataset(DatasetInfo("npz", 10, 10, 1, ("a", "b", "c"), 4000, 4000), some, some, "f" * 64)
    spec = DatasetSpec(name="npz", path="x.npz", validation=50)
    settings = {"batch_size": 500, "stages": [{"name": "only", "epochs": 1}], **change}
    result = run_trial(
        replace(trial({"quantise": "int8"}, seed, **settings), dataset=spec, task=dataset.info.task),
        dataset,
        local(tmp_path),
        CPU,
    )
    index, _ = split(some.labels, spec, seed, None, None)
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(derive(seed, "calibration")))
    pixels = torch.from_numpy(some.pixels[index]).permute(0, 3, 1, 2) / 255
    net = final_net(replace(trial(None, seed, **settings), task=dataset.info.task), result.stages[0])

    def ranges(chosen: Tensor) -> list[float]:
        return [net.first_maps(pixels[chosen], "a", depth).max().item() / 255 for depth in (1, 2)]

    found = [result.stages[1].weights[f"a.{name}.input_scale"] for name in ("conv2.convolution", "head")]
    with torch.no_grad():
        assert [scale.item() for scale in found] == pytest.approx(ranges(order[:1024]), rel=1e-5)
        assert ranges(order[:1024]) != pytest.approx(ranges(order[1024:2048]), rel=1e-5)
