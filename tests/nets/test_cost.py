from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from lightsweep.errors import InputError
from lightsweep.nets.cost import TIMED, Cost, cost, latency_ms
from lightsweep.nets.models import Net, build
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.stages import Compression

PAPER = ModelSpec()
GREY = (1, 28, 28)
# per submodel: conv1 26·26·10 outputs of 9 products, conv2 11·11·20 of 90, head 10 of 500
SUBMODEL = 26 * 26 * 10 * 9 + 11 * 11 * 20 * 90 + 10 * 500


def test_the_papers_net_by_hand() -> None:
    parameters = 14_862
    assert cost(PAPER, GREY, 10) == Cost(
        parameters=parameters,
        total_parameters=parameters + 2,  # mean and deviation of the images' one channel
        macs=2 * SUBMODEL + 32 * 20 + 10 * 32,
        weight_bytes=59_448,
        # 2 · (90 + 1,800 + 5,000) + 640 + 320 weights; 2 · (10 + 20 + 10) + 32 + 10 outputs, with a bias each
        int8_bytes=14_740 + 4 * 122 + 4 * 122 + 5 * 8,
        training_bytes=178_344,
    )
    assert parameters == 14_740 + 122 == 178_344 // 12
    assert 2 * SUBMODEL + 32 * 20 + 10 * 32 == 568_240


def test_the_papers_megabytes() -> None:
    """Its "0.17 MB" is weights and two moments; the weights alone are 0.057 MiB."""
    found = cost(PAPER, GREY, 10)
    assert round(found.training_bytes / 2**20, 3) == 0.170
    assert round(found.weight_bytes / 2**20, 3) == 0.057


CIFAR = (3, 32, 32)
# conv1 30·30·10 of 27, conv2 13·13·20 of 90, features 6·6·20
BY_HAND: list[tuple[dict[str, Any], tuple[int, int, int], int, int]] = [
    ({}, CIFAR, 19_622, 2 * (30 * 30 * 10 * 27 + 13 * 13 * 20 * 90 + 7_200) + 960),
    ({"inputs": "single", "fusion": "none"}, GREY, 6_930, SUBMODEL),
    ({"inputs": "single"}, GREY, 6_930 + 352 + 330, SUBMODEL + 320 + 320),
    ({"fusion": "average"}, GREY, 13_860, 2 * SUBMODEL),
    ({"fusion": "fresh"}, GREY, 14_862, 2 * SUBMODEL + 960),
    ({"hidden": None}, GREY, 13_860 + 210, 2 * SUBMODEL + 200),
    (
        {"fusion": "concatenate"},
        GREY,
        2 * 1_920 + 32_032 + 330,
        2 * (SUBMODEL - 5_000) + 32_000 + 320,
    ),
    ({"head": "average"}, GREY, 2 * (1_920 + 210) + 1_002, 2 * (SUBMODEL - 5_000 + 200) + 960),
    ({"batch_norm": True}, GREY, 14_862 + 2 * 30, 568_240),
    (
        {"separable": True},  # depthwise 9 and 90 weights, pointwise 10 + 10 and 200 + 20
        GREY,
        2 * (9 + 20 + 90 + 220 + 5_010) + 1_002,
        2 * (26 * 26 * (9 + 10) + 11 * 11 * (90 + 200) + 5_000) + 960,
    ),
    (
        {"inputs": "single", "fusion": "none", "convolutions": 2},  # 28 → 26 → 24 → 12 → 10 → 8 → 4
        GREY,
        (90 + 10) + (900 + 10) + (1_800 + 20) + (3_600 + 20) + 20 * 4 * 4 * 10 + 10,
        26 * 26 * 90 + 24 * 24 * 900 + 10 * 10 * 1_800 + 8 * 8 * 3_600 + 3_200,
    ),
]


@pytest.mark.parametrize(("settings", "shape", "parameters", "macs"), BY_HAND, ids=str)
def test_variants_by_hand(settings: Any, shape: tuple[int, int, int], parameters: int, macs: int) -> None:
    found = cost(ModelSpec(**settings), shape, 10)
    assert (found.parameters, found.macs) == (parameters, macs)


@given(st.from_type(ModelSpec), st.integers(1, 3), st.integers(2, 5))
@settings(max_examples=30)
def test_a_real_net_costs_as_much_per_image(model: ModelSpec, channels: int, classes: int) -> None:
    """The count without weights equals the count of a real net on a batch of five."""
    shape = (channels, 47, 45)
    found = cost(model, shape, classes)
    net = build(model, shape, classes, "fused", seed=0).eval()
    assert found.parameters == sum(parameter.numel() for parameter in net.parameters())
    images = torch.zeros(5, *shape)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(images, images)
    assert counter.get_total_flops() == 5 * 2 * found.macs
    assert (found.weight_bytes, found.training_bytes) == (4 * found.parameters, 12 * found.parameters)


# batch normalisation: 30 filters in each submodel have scale and shift, running mean and variance, no bias
# single net: 90 + 1,800 + 5,000 weights of three layers, 40 outputs and as many biases
SINGLE = {"inputs": "single", "fusion": "none"}
COMPRESSED: list[tuple[dict[str, Any], dict[str, Any] | None, dict[str, int]]] = [
    ({"batch_norm": True}, None, {"parameters": 14_922, "total_parameters": 14_922 + 120 + 2}),
    (
        {**SINGLE, "batch_norm": True},
        None,
        {"weight_bytes": 4 * (6_890 + 70), "int8_bytes": 6_890 + 4 * 70 + 4 * 40 + 5 * 3},
    ),
    (
        SINGLE,
        {"quantise": "int8"},
        {"parameters": 6_930, "weight_bytes": 7_225, "int8_bytes": 6_890 + 160 + 160 + 15, "macs": SUBMODEL},
    ),
    (  # half of 6,890 weights; 862 bytes of bits
        SINGLE,
        {"prune": "weights"},
        {
            "parameters": 6_930 - 3_445,
            "total_parameters": 6_932,
            "macs": SUBMODEL,
            "weight_bytes": 4 * 3_445 + 862 + 160,
            "int8_bytes": 3_445 + 862 + 160 + 160 + 15,
            "training_bytes": 12 * (6_930 - 3_445),
        },
    ),
    (SINGLE, {"prune": "weights", "quantise": "int8"}, {"weight_bytes": 3_445 + 862 + 160 + 160 + 15}),
    (  # of so few, that bits to say which would cost more than they save: 689 bytes in int8, 138 in float32
        SINGLE,
        {"prune": "weights", "amount": 0.1},
        {"weight_bytes": 4 * (6_890 - 689) + 862 + 160, "int8_bytes": 6_890 + 160 + 160 + 15},
    ),
    (
        SINGLE,
        {"prune": "weights", "amount": 0.02},
        {"parameters": 6_930 - 138, "weight_bytes": 4 * 6_890 + 160},
    ),
    (  # filters 5 and 10
        SINGLE,
        {"prune": "filters"},
        {
            "parameters": 50 + 460 + 2_510,
            "total_parameters": 3_022,
            "macs": 26 * 26 * 5 * 9 + 11 * 11 * 10 * 45 + 2_500,
            "weight_bytes": 4 * 3_020,
            "int8_bytes": 2_995 + 100 + 100 + 15,
        },
    ),
    (SINGLE, {"prune": "filters", "quantise": "int8"}, {"weight_bytes": 3_210, "int8_bytes": 3_210}),
]


@pytest.mark.parametrize(("model", "compression", "expected"), COMPRESSED, ids=str)
def test_compressed_nets_by_hand(
    model: dict[str, Any], compression: dict[str, Any] | None, expected: dict[str, int]
) -> None:
    found = cost(
        ModelSpec(**model), GREY, 10, Compression.model_validate(compression) if compression else None
    )
    assert {name: getattr(found, name) for name in expected} == expected


def test_logistic_regression_in_all_forms_by_hand() -> None:
    """7,840 weights, 10 biases, one layer."""
    model = ModelSpec(net="logistic-regression")
    assert cost(model, GREY, 10) == Cost(
        parameters=7_850,
        total_parameters=7_852,
        macs=7_840,
        weight_bytes=31_400,
        int8_bytes=7_840 + 40 + 40 + 5,
        training_bytes=94_200,
    )
    pruned = cost(model, GREY, 10, Compression(prune="weights", amount=0.25, quantise="int8"))
    assert (pruned.parameters, pruned.weight_bytes) == (5_890, 5_880 + 980 + 85)


def test_dropout_costs_nothing() -> None:
    assert cost(ModelSpec(dropout=0.9), GREY, 10) == cost(ModelSpec(dropout=0.0), GREY, 10)


def test_too_many_filters_are_refused() -> None:
    with pytest.raises(InputError, match="4 blocks are too many for images of 28 pixels"):
        cost(ModelSpec(filters=(1, 1, 1, 1)), GREY, 10)


# latency


def test_latency_is_the_least_of_the_times_in_milliseconds() -> None:
    """Others at work on the machine can only add to it."""
    seconds = [0.003 if run == 7 else 0.005 + run for run in range(TIMED)]
    clock = iter([time for run in seconds for time in (100.0, 100.0 + run)])
    assert latency_ms(ModelSpec(), GREY, 10, lambda: next(clock)) == pytest.approx(3.0)
    assert list(clock) == []


def test_latency_is_of_one_thread_which_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of the net as it is used: on one image, dropping nothing."""
    seen: list[tuple[int, int, bool]] = []

    def forward(net: Net, a: torch.Tensor, b: torch.Tensor) -> None:
        seen.append((torch.get_num_threads(), len(a), net.training))
        if len(seen) > TIMED:
            raise MemoryError

    monkeypatch.setattr(Net, "forward", forward)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        latency_ms(ModelSpec(dropout=0.234), GREY, 10)
        assert seen == [(1, 1, False)] * TIMED
        assert torch.get_num_threads() == 2
        with pytest.raises(MemoryError):
            latency_ms(ModelSpec(dropout=0.345), GREY, 10)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_latency_is_measured_once_and_tells_nets_apart_that_differ_much() -> None:
    small = ModelSpec(inputs="single", fusion="none", filters=(2, 2))
    large = ModelSpec(filters=(96, 96))
    assert 0 < 3 * latency_ms(small, CIFAR, 10) < latency_ms(large, CIFAR, 10) < float("inf")
    assert latency_ms(large, CIFAR, 10) == latency_ms(large, CIFAR, 10)


def test_the_latency_of_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(InputError, match="4 blocks are too many for images of 28 pixels"):
        latency_ms(ModelSpec(filters=(1, 1, 1, 1)), GREY, 10)
