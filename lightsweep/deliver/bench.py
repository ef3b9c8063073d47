"""Speed of the training loop compared with common alternatives, interleaved in one process."""

import itertools
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from lightsweep.data.datasets import load
from lightsweep.data.imagedata import Images, as_tensor
from lightsweep.kernels.library import best_level, library
from lightsweep.nets.blocks import trainable_blocks
from lightsweep.nets.models import Net, build
from lightsweep.sweepfile.augmentation import RecipeName, transforms
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.stages import StageSpec
from lightsweep.system.processor import cpu_name
from lightsweep.system.torchvision_import import import_torchvision
from lightsweep.training.batches import Source, Split, freeze
from lightsweep.training.loop import train_epoch
from lightsweep.training.state import StageState
from lightsweep.zoo.paper_cnn import Block

BATCH = 64


def bench_loop(rounds: int) -> Iterator[str]:
    """Time epochs of the paper's first stage on the digits (both streams, batch 64, one thread).

    The ways are our loop with each of its kernels; the same net fed by a DataLoader with torchvision's
    per-sample transforms (PIL, affine); and the latter with the net in the usual order and layout
    (convolution, ReLU, pooling; contiguous), which computes the same function.

    Args:
        rounds: Number of rounds, each of which times every way once; ratios are taken per round.

    Yields:
        Lines of text.
    """
    torch.set_num_threads(1)
    images = load(DatasetSpec(name="digits"), Path("data"), download=False).train
    ours = {"lightsweep": _ours(images, has_images_last=False)}
    if library() is not None:
        ours["lightsweep, images last"] = _ours(images, has_images_last=True)
    peers = {
        "DataLoader, same net": _peer(images, usual_net=False),
        "DataLoader, usual net": _peer(images, usual_net=True),
    }
    ways = {**ours, **peers}
    for epoch in ways.values():
        epoch()  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, epoch in ways.items():
            started = time.perf_counter()
            epoch()
            seconds[name].append(time.perf_counter() - started)
    steps = -(-len(images.labels) // BATCH)
    yield (
        f"{len(images.labels)} images of 28×28, two submodels, batch {BATCH}, one thread, "
        f"{rounds} interleaved rounds, {platform.node()}, {cpu_name()}, torch {torch.__version__}, kernels "
        f"{best_level() or 'of torch alone: no C compiler when this was installed'}"
    )
    for name, times in seconds.items():
        yield f"{name:23} {statistics.median(times) / steps * 1e3:6.2f} ms per step (median)"
    for mine, other in itertools.product(ours, peers):
        ratios = sorted(slow / fast for slow, fast in zip(seconds[other], seconds[mine], strict=True))
        yield (
            f"{mine} against {other}: {statistics.median(ratios):.2f}× faster "
            f"(median; {ratios[0]:.2f}–{ratios[-1]:.2f} over {rounds} rounds)"
        )


def bench_frozen(rounds: int) -> Iterator[str]:
    """Time epochs of the paper's second stage (all but the last two layers frozen) on the digits, two ways.

    The two are with the feature maps of frozen blocks cached, and with them computed each time; both with
    and without augmentation.

    Args:
        rounds: Number of rounds, each of which times every way once; ratios are taken per round.

    Yields:
        Lines of text.
    """
    torch.set_num_threads(1)
    images = load(DatasetSpec(name="digits"), Path("data"), download=False).train
    split = Split(as_tensor(images.pixels), as_tensor(images.labels), torch.arange(len(images.labels)))
    model, stage = ModelSpec(), StageSpec(name="fusion", loss="fused", train="last-2", epochs=1)
    recipes: tuple[RecipeName, ...] = ("affine", "none")
    for recipe in recipes:
        trainable = trainable_blocks(stage, model, (1, 28, 28), 10)
        state = StageState.begin(build(model, (1, 28, 28), 10, "fused", seed=0), stage, trainable)
        kept = freeze(state.net.train(), trainable, split, recipe != "none")

        def epoch(source: Source, state: StageState = state, recipe: RecipeName = recipe) -> float:
            started = time.perf_counter()
            train_epoch(
                state.net, stage, source, transforms(recipe), BATCH, state.optimizer, 0, order=1, draws=2
            )
            return time.perf_counter() - started

        epoch(kept)  # warm-up
        ratios = sorted(epoch(Source(split)) / epoch(kept) for _ in range(rounds))
        yield (
            f"frozen blocks' maps cached, augmentation {recipe}: {statistics.median(ratios):.2f}× faster "
            f"than recomputed (median; {ratios[0]:.2f}–{ratios[-1]:.2f} over {rounds} rounds)"
        )


def _net() -> Net:
    return build(ModelSpec(), (1, 28, 28), 10, "heads", seed=0).train()


def _ours(images: Images, has_images_last: bool) -> Callable[[], object]:
    count = len(images.labels)
    split = Split(as_tensor(images.pixels), as_tensor(images.labels), torch.arange(count))
    stage, recipe = StageSpec(name="dual", loss="heads", epochs=1), transforms("affine")
    net = _net()
    if has_images_last:
        net.put_images_last()
    state = StageState.begin(net, stage, trainable_blocks(stage, ModelSpec(), (1, 28, 28), 10))
    return lambda: train_epoch(
        state.net, stage, Source(split), recipe, BATCH, state.optimizer, 0, order=1, draws=2
    )


def _peer(images: Images, usual_net: bool) -> Callable[[], None]:
    """Return an epoch as in tutorials: a DataLoader with per-image transforms."""
    loader = DataLoader(_PerSample(images), batch_size=BATCH, shuffle=True)
    net = _net()
    if usual_net:
        _make_usual(net)
    optimizer = torch.optim.NAdam(net.parameters(), lr=0.001)

    def epoch() -> None:
        for original, augmented, labels in loader:
            loss = torch.stack([functional.cross_entropy(o, labels) for o in net(original, augmented)]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


class _PerSample(TorchDataset[tuple[Tensor, Tensor, int]]):
    """Yields each image unchanged and augmented by torchvision's transforms, as in recipe affine."""

    def __init__(self, images: Images) -> None:
        import_torchvision()
        from torchvision import transforms as tv

        self.pictures = [Image.fromarray(pixels[..., 0]) for pixels in np.asarray(images.pixels)]
        self.labels = images.labels.tolist()
        self.plain: Any = tv.ToTensor()
        mode = tv.InterpolationMode.BILINEAR
        affine = tv.RandomAffine(10, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5, interpolation=mode)
        self.augmented: Any = tv.Compose([affine, tv.ToTensor()])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        picture = self.pictures[index]
        return self.plain(picture), self.augmented(picture), self.labels[index]


def _make_usual(net: nn.Module) -> None:
    """Convert a net to the usual order and layout: ReLU before pooling, contiguous, whole images."""
    net.used = None  # type: ignore[assignment]
    net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in net.modules():
        if isinstance(module, Block):
            module.forward = _relu_first.__get__(module)  # type: ignore[method-assign]


def _relu_first(block: Block, x: Tensor) -> Tensor:
    return functional.max_pool2d(functional.relu(block.convolution(x)), 2)
