"""Our convolutions against torch's by channels, and LeNet-5 by either: `python benchmarks/kernels.py 7`.

One thread; the ways in turn in one process; medians, and of ratios the range, over the rounds. A block is a
3×3 convolution with 2×2 max-pooling and ReLU, batch 64, forward and backward with the input's gradient.
"""

import platform
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsweep.kernels.convolution import convolve
from lightsweep.kernels.layers import images_last
from lightsweep.kernels.library import best_level, require_library
from lightsweep.system.processor import cpu_name
from lightsweep.zoo import lenet_5

BATCH = 64
BLOCKS = [  # inputs, outputs, side
    (1, 4, 28), (1, 10, 28), (3, 10, 32), (4, 8, 13), (10, 20, 13), (8, 8, 26), (8, 16, 13), (16, 16, 26),
    (16, 32, 13), (24, 24, 26), (32, 32, 26), (32, 64, 13), (64, 64, 13),
]  # fmt: skip


def seconds(f: Callable[[], object], least: float = 0.02) -> float:
    """Return the seconds of a call, as the mean over as many as fill some time."""
    count, started = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - started < least:
        f()
        count += 1
    return (time.perf_counter() - started) / count


def compare(ways: dict[str, Callable[[], object]], rounds: int) -> tuple[list[float], str]:
    """Return the median seconds of each way, and the first's ratio to the second, in words."""
    times = {name: [] for name in ways}
    for f in ways.values():
        f()
    for _ in range(rounds):
        for name, f in ways.items():
            times[name].append(seconds(f))
    ours, theirs = times.values()
    ratios = sorted(slow / fast for fast, slow in zip(ours, theirs, strict=True))
    words = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
    return [statistics.median(each) for each in times.values()], words


def block(inputs: int, outputs: int, side: int) -> dict[str, Callable[[], object]]:
    """Return a block's forward and backward pass, by each kernel."""
    layer = nn.Conv2d(inputs, outputs, 3)
    first = torch.rand(inputs, side, side, BATCH, requires_grad=True)
    usual = torch.rand(BATCH, inputs, side, side).to(memory_format=torch.channels_last).requires_grad_()
    weight = layer.weight.detach().to(memory_format=torch.channels_last).requires_grad_()

    def ours() -> None:
        y = convolve(first, layer.weight, layer.bias, 0, 1, True, True)
        y.backward(torch.ones_like(y))

    def theirs() -> None:
        y = functional.relu(functional.max_pool2d(functional.conv2d(usual, weight, layer.bias), 2))
        y.backward(torch.ones_like(y))

    return {"ours": ours, "torch": theirs}


def lenet() -> dict[str, Callable[[], object]]:
    """Return a training step of LeNet-5 with stochastic gradient descent, by each kernel."""
    images, labels = torch.rand(BATCH, 1, 28, 28), torch.randint(10, (BATCH,))

    def step(net: nn.Module, forward: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.SGD(net.parameters(), 0.01)

        def run() -> None:
            optimizer.zero_grad()
            functional.cross_entropy(forward(images), labels).backward()
            optimizer.step()

        return run

    nets = [lenet_5.build((1, 28, 28), 10) for _ in range(2)]
    ours = images_last(nets[0].children())
    assert ours is not None
    return {"ours": step(nets[0], ours), "torch": step(nets[1], nets[1])}


def main(rounds: int) -> None:
    """Print the table."""
    require_library()
    torch.set_num_threads(1)
    print(
        f"{cpu_name()}, {platform.node()}, torch {torch.__version__}, kernels {best_level()}, {rounds} rounds"
    )
    print("inputs → outputs, side | ours, ms | torch, ms | times faster")
    for inputs, outputs, side in BLOCKS:
        (ours, theirs), words = compare(block(inputs, outputs, side), rounds)
        print(f"{inputs} → {outputs}, {side} | {ours * 1e3:.2f} | {theirs * 1e3:.2f} | {words}")
    (ours, theirs), words = compare(lenet(), rounds)
    each = f"{BATCH / ours:,.0f}, torch {BATCH / theirs:,.0f}"
    print(f"LeNet-5, batch {BATCH}, samples a second and core: {each}: {words}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 7)
