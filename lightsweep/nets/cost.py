"""Costs of a net, known before training: parameters, multiply-accumulates, bytes, latency."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from lightsweep.nets.blocks import block_names, compressed, untrained
from lightsweep.nets.compress import matrix_layers, pruned_count
from lightsweep.nets.models import build
from lightsweep.owncode.loading import named_errors, own_sources
from lightsweep.owncode.reference import parse_reference
from lightsweep.sweepfile.net import ModelSpec, Network
from lightsweep.sweepfile.stages import Compression
from lightsweep.system.machine import one_thread

TIMED = 30
MOST_REAL_MACS = 10**9  # a net that may need more is counted without numbers


@dataclass(frozen=True)
class Cost:
    """Costs of a trial's final net."""

    parameters: int
    """Number of trained weights and biases: all except those that pruning holds at zero."""
    total_parameters: int
    """Number of all values in the net: weights and biases, zero or not, running statistics of batch
    normalisation, and the images' mean and standard deviation."""
    macs: int
    """Multiply-accumulates of the convolutions and dense layers for one image, including those with zeros."""
    weight_bytes: int
    """Bytes of weights and biases as stored: 4 each in float32; for int8 see `int8_bytes`. With pruned
    weights, the remaining ones plus a bitmap of all weights, if that is smaller."""
    int8_bytes: int
    """Bytes of weights and biases after quantisation to int8: 1 per weight of a convolution or dense layer,
    4 per output scale, 5 per layer for the input's scale and zero point, 4 per other parameter."""
    training_bytes: int
    """Bytes of parameters and Nadam's two moments as float32; arXiv 2501.15547 reports this as model size."""
    uncounted: str = ""
    """What `macs` leaves out, in words; empty if nothing."""


_COUNTED = (nn.Conv2d, nn.Linear)
_CHEAP = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.LayerNorm, nn.PReLU)
"""Layers with parameters whose operations are one per value, which nobody counts as MACs."""


@lru_cache(maxsize=4096)
def uncounted(model: ModelSpec, shape: tuple[int, int, int], classes: int) -> str:
    """Name what the MACs of a net of the user's own leave out, by torch's counter; empty if nothing.

    Raises:
        InputError: The net does not fit the images, or its code fails.

    """
    if parse_reference(model.net) is None:
        return ""
    from torch.utils.flop_counter import FlopCounterMode  # takes a second to import

    net = untrained(model, shape, classes, "fused")
    others = {
        type(module).__name__
        for module in net.modules()
        if any(True for _ in module.parameters(recurse=False))
        and not isinstance(module, (*_COUNTED, *_CHEAP))
    }
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), named_errors(own_sources(model.net), "failed on an image"):
        image = torch.zeros(1, *shape)
        net(image, image)
    more = counter.get_total_flops() // 2 - sum(macs_by_block(model, shape, classes, "fused").values())
    found = sorted(others) + (
        [f"{more:,} in operations outside convolutions and dense layers"] if more > 0 else []
    )
    return ", ".join(found)


@lru_cache(maxsize=4096)
def parameters(
    model: ModelSpec, shape: tuple[int, int, int], classes: int, compression: Compression | None = None
) -> int:
    """Return the number of parameters of the final net, without those that are pruned.

    Raises:
        InputError: The net does not fit the images, or its code fails.

    """
    net = untrained(compressed(model, compression, shape, classes), shape, classes, "fused")
    numbers = sum(parameter.numel() for parameter in net.parameters())
    if compression is None or compression.prune != "weights":
        return numbers
    weights: int = sum(layer.weight.numel() for layer in matrix_layers(net).values())
    return numbers - pruned_count(weights, compression.amount)


@lru_cache(maxsize=4096)
def cost(
    model: ModelSpec, shape: tuple[int, int, int], classes: int, compression: Compression | None = None
) -> Cost:
    """Return the costs of the final net for images of shape (channels, height, width), untrained.

    Raises:
        InputError: The net has too many blocks for the image size.

    """
    left = parameters(model, shape, classes, compression)
    model = compressed(model, compression, shape, classes)
    net = untrained(model, shape, classes, "fused")
    layers = matrix_layers(net).values()
    numbers = sum(parameter.numel() for parameter in net.parameters())
    weights: int = sum(layer.weight.numel() for layer in layers)
    outputs = sum(len(layer.weight) for layer in layers)
    pruned = numbers - left

    def stored(bytes_each: int) -> int:
        sparse = bytes_each * (weights - pruned) + math.ceil(weights / 8)
        return min(bytes_each * weights, sparse) if pruned else bytes_each * weights

    others = 4 * (numbers - weights)
    int8_bytes = stored(1) + others + 4 * outputs + 5 * len(layers)
    is_int8 = compression is not None and compression.quantise is not None
    return Cost(
        parameters=left,
        total_parameters=numbers + sum(x.numel() for x in net.buffers() if x.is_floating_point()),
        macs=sum(macs_by_block(model, shape, classes, "fused").values()),
        weight_bytes=int8_bytes if is_int8 else stored(4) + others,
        int8_bytes=int8_bytes,
        training_bytes=12 * left,
        uncounted=uncounted(model, shape, classes),
    )


@lru_cache(maxsize=4096)
def latency_ms(
    model: ModelSpec,
    shape: tuple[int, int, int],
    classes: int,
    clock: Callable[[], float] = time.thread_time,
) -> float:
    """Measure a net's latency for one image on one CPU thread of this machine, in milliseconds.

    The result is the minimum of `TIMED` measurements, since other load can only add time. The clock returns
    seconds; by default it is the thread's CPU time.

    Raises:
        InputError: The net has too many blocks for the image size.

    """
    net = build(model, shape, classes, "fused", seed=0).eval()
    image, least = torch.zeros(1, *shape), float("inf")
    with torch.inference_mode(), one_thread():
        for _ in range(TIMED):
            began = clock()
            net(image, image)
            least = min(least, clock() - began)
    return 1000 * least


@lru_cache(maxsize=4096)
def macs_by_block(
    model: ModelSpec, shape: tuple[int, int, int], classes: int, network: Network
) -> dict[str, int]:
    """Count multiply-accumulates per block: each weight is used once per position of its layer's output.

    Counted by running the net on one image, a small one with real numbers: to run on the meta device, torch
    first imports its compiler, for seconds. The heads of an unfused net count, too.

    Raises:
        InputError: The net does not fit the images, or its code fails.

    """
    net = untrained(model, shape, classes, network)
    counts = dict.fromkeys(block_names(model, shape, classes, network), 0)

    def count(name: str, weight: Tensor, output: Tensor) -> None:
        block = name if name in counts else ".".join(name.split(".")[:2])
        counts[block] += weight.numel() * (output[0].numel() // len(weight))

    if net.mean.is_meta and shape[1] * shape[2] * sum(x.numel() for x in net.parameters()) < MOST_REAL_MACS:
        net = copy.deepcopy(net).to_empty(device="cpu")
    hooks = [
        layer.register_forward_hook(lambda layer, _, output, name=name: count(name, layer.weight, output))
        for name, layer in matrix_layers(net).items()
    ]
    try:
        with (
            torch.inference_mode(),
            one_thread(),  # the work is too small to be shared
            named_errors(own_sources(model.net), "failed on an image"),
        ):
            image = torch.zeros(1, *shape, device=net.mean.device)
            net(image, image)
    finally:
        for hook in hooks:
            hook.remove()
    return counts
