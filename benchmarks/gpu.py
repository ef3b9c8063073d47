"""What a GPU makes of such small nets: milliseconds and kernels a step, trials an hour by how many share it.

python benchmarks/gpu.py [--device cuda] [--images 10000] [--seconds 20] [--at-once 1 4 16]

Needs torch and no Ray. Trains the paper's first stage (two submodels of 10 and 20 filters, batch 64, affine
augmentation) on random images of 28 by 28 pixels, and a MobileNetV2 of width 0.25. A step is timed,
synchronised over a whole epoch; kernels are counted by torch's profiler over ten steps; trials an hour are
those of so many processes that train for so many seconds each. Prints one line each, with card and torch.
With --device cpu it times the processor, without kernels: so much to compare with, and to try the program.
"""

import argparse
import multiprocessing
import platform
import statistics
import time
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from lightsweep.nets.blocks import trainable_blocks
from lightsweep.nets.models import build
from lightsweep.sweepfile.augmentation import transforms
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.stages import StageSpec
from lightsweep.system.machine import make_repeatable
from lightsweep.training.batches import Source, Split
from lightsweep.training.loop import train_epoch
from lightsweep.training.state import StageState

BATCH = 64
EPOCHS = 20  # of one trial, for trials an hour
NETS: dict[str, tuple[ModelSpec, str, StageSpec]] = {
    "paper, dual": (ModelSpec(), "heads", StageSpec(name="dual", loss="heads", epochs=1)),
    "MobileNetV2 0.25": (
        ModelSpec(net="mobilenet-v2", width=0.25), "heads", StageSpec(name="only", epochs=1),
    ),
}  # fmt: skip


def prepare(name: str, device: torch.device, images: int) -> Any:
    """Return a function that trains an epoch, of its number."""
    model, network, stage = NETS[name]
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 28, 28, 1), dtype=torch.uint8, generator=draws)
    labels = torch.randint(0, 10, (images,), generator=draws)
    split = Split(*(tensor.to(device) for tensor in (pixels, labels, torch.arange(images))))
    net: Any = build(model, (1, 28, 28), 10, network, seed=0).to(device)  # type: ignore[arg-type]
    if device.type == "cuda":
        net = net.to(memory_format=torch.contiguous_format)
    state = StageState.begin(net.train(), stage, trainable_blocks(stage, model, (1, 28, 28), 10))
    recipe = transforms("affine")

    def epoch(number: int) -> None:
        train_epoch(net, stage, Source(split), recipe, BATCH, state.optimizer, 0, order=number, draws=number)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return epoch


def milliseconds_a_step(epoch: Any, images: int, rounds: int = 5) -> list[float]:
    """Time epochs after one to warm up."""
    epoch(0)
    times = []
    for number in range(1, rounds + 1):
        started = time.perf_counter()
        epoch(number)
        times.append(1000 * (time.perf_counter() - started) / -(-images // BATCH))
    return times


def kernels_a_step(name: str, device: torch.device) -> float:
    """Count what runs on the GPU in ten steps."""
    epoch = prepare(name, device, 10 * BATCH)
    epoch(0)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        epoch(1)
    return sum(event.count for event in profiled.key_averages()) / 10


def train_for(name: str, device: str, images: int, seconds: float, ready: Any, epochs: Any) -> None:
    """Train for so long, once all are ready, and say how many epochs that were."""
    make_repeatable()
    epoch = prepare(name, torch.device(device), images)
    epoch(0)
    ready.wait()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        count += 1
        epoch(count)
    epochs.put(count / (time.perf_counter() - started))


def trials_an_hour(name: str, device: str, images: int, seconds: float, at_once: int) -> float:
    """Return how many trials of `EPOCHS` epochs so many processes train in an hour."""
    context = multiprocessing.get_context("spawn")
    ready, epochs = context.Barrier(at_once), context.Queue()
    arguments = (name, device, images, seconds, ready, epochs)
    workers = [context.Process(target=train_for, args=arguments) for _ in range(at_once)]
    for worker in workers:
        worker.start()
    rates = [epochs.get() for _ in workers]
    for worker in workers:
        worker.join()
    return 3600 * sum(rates) / EPOCHS


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description="What a GPU makes of such small nets.")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 16])
    chosen = parser.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU that torch can use; --device cpu times the processor")
    device = torch.device(chosen.device)
    make_repeatable()
    card = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "processor"
    print(f"{card}, torch {torch.__version__}, {chosen.images:,} images of 28×28, batch {BATCH}", flush=True)
    for name in NETS:
        times = milliseconds_a_step(prepare(name, device, chosen.images), chosen.images)
        median, low, high = statistics.median(times), min(times), max(times)
        spread = f"{median:.2f} ms a step (median of {len(times)}; {low:.2f}–{high:.2f})"
        kernels = f", {kernels_a_step(name, device):.0f} kernels a step" if device.type == "cuda" else ""
        print(f"{name}: {spread}{kernels}", flush=True)
        for at_once in chosen.at_once:
            rate = trials_an_hour(name, chosen.device, chosen.images, chosen.seconds, at_once)
            print(f"{name}: {at_once} at a time: {rate:,.0f} trials of {EPOCHS} epochs an hour", flush=True)


if __name__ == "__main__":
    main()
