"""What a net costs, known before it is trained: parameters, multiply-accumulates, bytes."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from lightsweep.nets.blocks import compressed
from lightsweep.nets.compress import matrix_layers, pruned_count
from lightsweep.nets.models import Net, PointwiseHead, Submodel, build
from lightsweep.sweepfile.net import NetSpec, Network, ReferenceSpec
from lightsweep.sweepfile.stages import Compression

TIMED = 30


@dataclass(frozen=True)
class Cost:
    """Costs of a trial's final net."""

    parameters: int
    """Weights and biases that are trained: all, but those that pruning holds at zero."""
    total_parameters: int
    """All numbers that the net holds: weights and biases, zero or not, running statistics of batch
    normalisation, mean and deviation of the images."""
    macs: int
    """Multiply-accumulates of the convolutions and dense layers for one image; zeros are multiplied, too."""
    weight_bytes: int
    """Weights and biases as the net stores them: 4 bytes each in float32; for int8 see `int8_bytes`; where
    weights were pruned those left and a bit for each that says which, if that is less."""
    int8_bytes: int
    """The same after quantisation: 1 byte for a weight of a convolution or dense layer, 4 for each of its
    outputs' scales, 5 for its input's scale and zero point, 4 for all other numbers that are trained."""
    training_bytes: int
    """Parameters and Nadam's two moments as float32: what arXiv 2501.15547 gives as the model's size."""


@lru_cache(maxsize=4096)
def cost(
    model: NetSpec, shape: tuple[int, int, int], classes: int, compression: Compression | None = None
) -> Cost:
    """Count the final net for images of shape (channels, height, width), without training it.

    Raises:
        InputError: The filters are too many for the image.

    """
    model = compressed(model, compression)
    net = _untrained(model, shape, classes, "fused")
    layers = matrix_layers(net).values()
    numbers = sum(parameter.numel() for parameter in net.parameters())
    weights: int = sum(layer.weight.numel() for layer in layers)
    outputs = sum(len(layer.weight) for layer in layers)
    pruned = 0
    if compression and compression.prune == "weights":
        pruned = pruned_count(weights, compression.amount)

    def stored(bytes_each: int) -> int:
        sparse = bytes_each * (weights - pruned) + math.ceil(weights / 8)
        return min(bytes_each * weights, sparse) if pruned else bytes_each * weights

    others = 4 * (numbers - weights)
    int8_bytes = stored(1) + others + 4 * outputs + 5 * len(layers)
    is_int8 = compression is not None and compression.quantise is not None
    return Cost(
        parameters=numbers - pruned,
        total_parameters=numbers + sum(x.numel() for x in net.buffers() if x.is_floating_point()),
        macs=sum(macs_by_block(model, shape, classes, "fused").values()),
        weight_bytes=int8_bytes if is_int8 else stored(4) + others,
        int8_bytes=int8_bytes,
        training_bytes=12 * (numbers - pruned),
    )


@lru_cache(maxsize=4096)
def latency_ms(
    model: NetSpec,
    shape: tuple[int, int, int],
    classes: int,
    clock: Callable[[], float] = time.thread_time,
) -> float:
    """Measure the final net on one image on one thread of this machine's processor, in milliseconds.

    The least of `TIMED` times: others at work on the machine can only add to it. The clock tells seconds,
    those of the thread unless another is given.

    Raises:
        InputError: The filters are too many for the image.

    """
    net = build(model, shape, classes, "fused", seed=0).eval()
    image, threads, least = torch.zeros(1, *shape), torch.get_num_threads(), float("inf")
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(TIMED):
                began = clock()
                net(image, image)
                least = min(least, clock() - began)
    finally:
        torch.set_num_threads(threads)
    return 1000 * least


@lru_cache(maxsize=4)
def _untrained(model: NetSpec, shape: tuple[int, int, int], classes: int, network: Network) -> Net:
    """Return a net to count, without making its weights; its numbers are counted, then its MACs."""
    with torch.device("meta"):
        return build(model, shape, classes, network, seed=0)


@lru_cache(maxsize=4096)
def macs_by_block(
    model: NetSpec, shape: tuple[int, int, int], classes: int, network: Network
) -> dict[str, int]:
    """Count multiply-accumulates by block: a weight is used once for each position of its layer's output."""
    net = _untrained(model, shape, classes, network)
    if isinstance(model, ReferenceSpec):
        return _reference_macs(net, shape)
    return _submodel_macs(net, shape)


def _reference_macs(net: Net, shape: tuple[int, int, int]) -> dict[str, int]:
    """Count by running the net on one image without numbers."""
    counts = {f"a.{name}": 0 for name, _ in net.a.named_children()}

    def count(name: str, weight: Tensor, output: Tensor) -> None:
        counts[".".join(name.split(".")[:2])] += weight.numel() * output[0, 0].numel()

    hooks = [
        layer.register_forward_hook(lambda layer, _, output, name=name: count(name, layer.weight, output))
        for name, layer in matrix_layers(net).items()
    ]
    with torch.inference_mode():
        image = torch.zeros(1, *shape, device="meta")
        net.eval()(image, image)
    for hook in hooks:
        hook.remove()
    return counts


def _submodel_macs(net: Net, shape: tuple[int, int, int]) -> dict[str, int]:
    """Count by the maps' sides.

    torch's own counter would run the net, for which it imports its compiler, a second's work.
    """
    counts: dict[str, int] = {}
    for letter, submodel in (("a", net.a), ("b", net.b)):
        if not isinstance(submodel, Submodel):
            continue
        rows, columns = shape[1:]
        for name, block in zip(submodel.blocks, submodel.convolutions(), strict=True):
            counts[f"{letter}.{name}"] = 0
            for layer in block.layers():
                rows, columns = rows - layer.kernel + 1, columns - layer.kernel + 1
                parts = (part for part in (layer.depthwise, layer.convolution) if part is not None)
                counts[f"{letter}.{name}"] += rows * columns * sum(part.weight.numel() for part in parts)
            rows, columns = rows // 2, columns // 2
    for name, module in net.named_modules():
        if isinstance(module, (nn.Linear, PointwiseHead)):
            counts[name] = module.weight.numel()
    return counts
