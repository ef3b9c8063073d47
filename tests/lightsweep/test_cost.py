from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from lightsweep.cost import TIMED, Cost, cost, latency_ms
from lightsweep.models import FusedNet, build
from lightsweep.spec import InputError, ModelSpec

PAPER = ModelSpec()
GREY = (1, 28, 28)
# per submodel: conv1 26·26·10 outputs of 9 products, conv2 11·11·20 of 90, head 10 of 500
SUBMODEL = 26 * 26 * 10 * 9 + 11 * 11 * 20 * 90 + 10 * 500


def test_the_papers_net_by_hand() -> None:
    parameters = 14_862
    assert cost(PAPER, GREY, 10) == Cost(
        parameters=parameters,
        macs=2 * SUBMODEL + 32 * 20 + 10 * 32,
        weight_bytes=59_448,
        training_bytes=12 * parameters,
    )
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


def test_dropout_costs_nothing() -> None:
    assert cost(ModelSpec(dropout=0.9), GREY, 10) == cost(ModelSpec(dropout=0.0), GREY, 10)


def test_too_many_filters_are_refused() -> None:
    with pytest.raises(InputError, match="4 blocks are too many for images of 28 pixels"):
        cost(ModelSpec(filters=(1, 1, 1, 1)), GREY, 10)


# latency


def test_latency_is_the_least_of_the_times_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others at work on the machine can only add to it."""
    seconds = [0.003 if run == 7 else 0.005 + run for run in range(TIMED)]
    clock = iter([time for run in seconds for time in (100.0, 100.0 + run)])
    monkeypatch.setattr("lightsweep.cost.time.thread_time", lambda: next(clock))
    assert latency_ms(ModelSpec(dropout=0.123), GREY, 10) == pytest.approx(3.0)
    assert list(clock) == []


def test_latency_is_of_one_thread_which_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of the net as it is used: on one image, dropping nothing."""
    seen: list[tuple[int, int, bool]] = []

    def forward(net: FusedNet, a: torch.Tensor, b: torch.Tensor) -> None:
        seen.append((torch.get_num_threads(), len(a), net.training))
        if len(seen) > TIMED:
            raise MemoryError

    monkeypatch.setattr(FusedNet, "forward", forward)
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
