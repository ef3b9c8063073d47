"""What a net costs, known before it is trained: parameters, multiply-accumulates, bytes."""

import time
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from lightsweep.models import Net, PointwiseHead, build
from lightsweep.schedule import block_names, network_of, stage_table, trainable_blocks
from lightsweep.spec import ArmSpec, ModelSpec, Network

TIMED = 30


@dataclass(frozen=True)
class Cost:
    """Costs of a trial's final net."""

    parameters: int
    """Trainable weights and biases."""
    macs: int
    """Multiply-accumulates of the convolutions and dense layers for one image."""
    weight_bytes: int
    """The parameters as float32."""
    training_bytes: int
    """Parameters and Nadam's two moments as float32: what arXiv 2501.15547 gives as the model's size."""


@lru_cache(maxsize=4096)
def cost(model: ModelSpec, shape: tuple[int, int, int], classes: int) -> Cost:
    """Count the final net for images of shape (channels, height, width), without making its weights.

    Raises:
        InputError: The filters are too many for the image.

    """
    with torch.device("meta"):
        net = build(model, shape, classes, "fused", seed=0)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    macs = sum(_block_macs(net, shape).values())
    return Cost(parameters, macs, 4 * parameters, 12 * parameters)


@lru_cache(maxsize=4096)
def latency_ms(model: ModelSpec, shape: tuple[int, int, int], classes: int) -> float:
    """Measure the final net on one image on one thread of this machine's processor, in milliseconds.

    The least of `TIMED` times, in seconds of the thread: others at work on the machine can only add to it.

    Raises:
        InputError: The filters are too many for the image.

    """
    net = build(model, shape, classes, "fused", seed=0).eval()
    image, threads, least = torch.zeros(1, *shape), torch.get_num_threads(), float("inf")
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(TIMED):
                began = time.thread_time()
                net(image, image)
                least = min(least, time.thread_time() - began)
    finally:
        torch.set_num_threads(threads)
    return 1000 * least


def training_macs(spec: ArmSpec, shape: tuple[int, int, int], classes: int) -> int:
    """Count multiply-accumulates of training on one image in all epochs of all stages, at the most.

    Forward each block once; backward once for the weights of a block that trains, and once for its
    input where a block before it trains. Evaluation is not counted, nor is it taken off that a frozen
    block's maps are kept or that a stage stops early.

    Raises:
        InputError: The filters are too many for the image, or a stage trains nothing.

    """
    total = 0
    for stage in stage_table(spec):
        network = network_of(stage)
        macs = _macs_by_block(spec.model, shape, classes, network)
        names, trainable = block_names(spec.model, network), trainable_blocks(stage, spec.model)
        backward = 0
        for place, name in enumerate(names):
            sub = name.partition(".")[0] + "."  # a., b., or the layers after fusion, which see both
            before = [other for other in names[:place] if other.startswith(sub) or "." not in name]
            backward += macs[name] * ((name in trainable) + any(other in trainable for other in before))
        total += stage.epochs * (sum(macs.values()) + backward)
    return total


@lru_cache(maxsize=4096)
def _macs_by_block(
    model: ModelSpec, shape: tuple[int, int, int], classes: int, network: Network
) -> dict[str, int]:
    with torch.device("meta"):
        net = build(model, shape, classes, network, seed=0)
    return _block_macs(net, shape)


def _block_macs(net: Net, shape: tuple[int, int, int]) -> dict[str, int]:
    """Count multiply-accumulates: every weight of a convolution is used once for each position of its output.

    torch's own counter would run the net, for which it imports its compiler, a second's work.
    """
    counts: dict[str, int] = {}
    for letter, submodel in (("a", net.a), ("b", net.b)):
        if submodel is None:
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
