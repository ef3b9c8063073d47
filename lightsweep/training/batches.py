"""Inputs of the net: a split's images in batches, or cached feature maps of its frozen first blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightsweep.nets.models import Net
from lightsweep.sweepfile.augmentation import TransformSpec
from lightsweep.sweepfile.net import NetSpec
from lightsweep.training.augment import augment

EVALUATION_BATCH = 256
MAPS_BYTES = 256 * 2**20  # cache limit per split and submodel; larger maps are recomputed


@dataclass(frozen=True)
class Split:
    """A subset of a data set's images, on one device."""

    pixels: Tensor
    """All images of the data set, uint8 [n, height, width, channels]."""
    labels: Tensor
    """Labels of all images, int64 [n]."""
    index: Tensor
    """Indices of the images in this split, int64 [m]."""

    def images_of(self, positions: Tensor) -> Tensor:
        """Return the images at these positions, float32 [batch, channels, height, width] in [0, 1].

        On a CPU the memory format is channels last, which makes convolutions faster. On a GPU it is
        contiguous: channels last has not been measured to help there.
        """
        images = self.pixels.index_select(0, self.index[positions]).permute(0, 3, 1, 2)
        if images.device.type == "cuda":
            images = images.contiguous()
        return images.float().div_(255)

    def labels_of(self, positions: Tensor) -> Tensor:
        """Return the labels at these positions, int64 [batch]."""
        return self.labels[self.index[positions]]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.index)


@dataclass(frozen=True)
class Source:
    """Batches of a split for a net's two inputs (`nets.models.FusedNet.forward`)."""

    split: Split
    starts: tuple[int, int] = (0, 0)
    """Number of the submodel's blocks that each input has already passed."""
    maps: tuple[Tensor | None, Tensor | None] = (None, None)
    """Output of those blocks for the split's images, float32 [m, height, width, channels]; None: images."""

    def inputs(
        self,
        positions: Tensor,
        transforms: Sequence[TransformSpec] = (),
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return both inputs for the images at these positions of the split, the second one augmented."""
        first, second = (
            None if maps is None else maps.index_select(0, positions).permute(0, 3, 1, 2)
            for maps in self.maps
        )
        if first is not None and second is not None:
            return first, second
        images = self.split.images_of(positions)
        if second is None:
            second = augment(images, transforms, generator) if generator is not None else images
        return images if first is None else first, second


def freeze(net: Net, model: NetSpec, trainable: frozenset[str], split: Split, is_augmented: bool) -> Source:
    """Return a stage's batches of a split, with cached feature maps of the frozen first blocks.

    The maps equal what the net computes in its current mode. On a CPU they are equal bit for bit, since
    torch's convolutions give an image the same values in any batch of more than one; for depthwise
    convolutions and reference nets they are equal up to rounding.

    Args:
        net: The net at the start of the stage.
        model: The net's settings.
        trainable: Full names of the blocks that the stage trains.
        split: The images.
        is_augmented: Whether the second input is augmented, so that its maps cannot be cached.

    """
    depths = {name: _frozen_depth(name, model, trainable) for name in model.submodels}
    maps = {
        name: _maps(net, name, depth, split)
        if depth and not (is_augmented and name == model.submodels[-1])
        else None
        for name, depth in depths.items()
    }
    # a single submodel reads the second input; the first one is then unused
    ends = (model.submodels[0], model.submodels[-1])
    first, second = (maps[name] for name in ends)
    starts = [depths[name] if maps[name] is not None else 0 for name in ends]
    return Source(split, (starts[0], starts[1]), (first, second))


def _frozen_depth(submodel: str, model: NetSpec, trainable: frozenset[str]) -> int:
    """Return the number of a submodel's convolution blocks before its first trainable one."""
    depth = 0
    while depth < model.depth and f"{submodel}.conv{depth + 1}" not in trainable:
        depth += 1
    return depth


@torch.no_grad()
def _maps(net: Net, submodel: str, depth: int, split: Split) -> Tensor | None:
    """Return the maps of all images, [m, height, width, channels]; None if they are too large to cache."""
    whole: Tensor | None = None
    for positions in torch.arange(len(split), device=split.pixels.device).split(EVALUATION_BATCH):
        maps = net.first_maps(split.images_of(positions), submodel, depth).permute(0, 2, 3, 1)
        if whole is None:
            if 4 * len(split) * maps[0].numel() > MAPS_BYTES:
                return None
            whole = maps.new_empty(len(split), *maps.shape[1:])
        whole[positions] = maps
    return whole


def channel_statistics(training: Split, chunk: int = 2048) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the training images, float32 [channels, 1, 1], for white = 1.

    Computed on the CPU from integer sums: the same bits on every device and for every chunk size.
    """
    _, height, width, channels = training.pixels.shape
    sums = torch.zeros(2, channels, dtype=torch.int64, device=training.pixels.device)
    for index in training.index.split(chunk):
        pixels = training.pixels.index_select(0, index).flatten(0, 2).int()
        sums += torch.stack([pixels.sum(0), pixels.square().sum(0)])
    mean, squares = (sums.cpu().double() / (len(training) * height * width)).unbind()
    deviation = (squares - mean.square()).clamp(min=0).sqrt() / 255
    deviation = torch.where(deviation < 1e-6, 1.0, deviation)  # a constant channel
    return (mean / 255).float()[:, None, None], deviation.float()[:, None, None]
