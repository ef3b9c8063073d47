"""Inputs of the net: a split's images in batches, or cached feature maps of its frozen first blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightsweep.nets.models import Net, is_sequence
from lightsweep.sweepfile.augmentation import TransformSpec
from lightsweep.training.augment import augment

EVALUATION_BATCH = 256
MAPS_BYTES = 256 * 2**20  # cache limit per split and submodel; larger maps are recomputed


_RANDOM = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU,
)  # fmt: skip


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


def freeze(net: Net, trainable: frozenset[str], split: Split, is_augmented: bool) -> Source:
    """Return a stage's batches of a split, with cached feature maps of the frozen first blocks.

    The maps equal what the net computes in its current mode. On a CPU they are equal bit for bit, since
    torch's convolutions give an image the same values in any batch of more than one; for depthwise
    convolutions and nets with other layers they are equal up to rounding. Of a net that is not a plain
    sequence of its blocks no maps are kept.

    Args:
        net: The net at the start of the stage.
        trainable: Full names of the blocks that the stage trains.
        split: The images.
        is_augmented: Whether the second input is augmented, so that its maps cannot be cached.

    """
    letters = "ab"[: len(net.parts())]
    depths = {letter: _frozen_depth(net, letter, trainable) for letter in letters}
    maps = {
        letter: _maps(net, letter, depth, split)
        if depth and not (is_augmented and letter == letters[-1])
        else None
        for letter, depth in depths.items()
    }
    # a single submodel reads the second input; the first one is then unused
    ends = (letters[0], letters[-1])
    first, second = (maps[letter] for letter in ends)
    starts = [depths[letter] if maps[letter] is not None else 0 for letter in ends]
    return Source(split, (starts[0], starts[1]), (first, second))


def _frozen_depth(net: Net, letter: str, trainable: frozenset[str]) -> int:
    """Return the number of a submodel's children before its first trainable one, at most all but the last.

    Children without parameters are passed only if they are torch's and do the same in every mode.
    """
    part = net.get_submodule(letter)
    if not is_sequence(part, net.concatenates):
        return 0
    children = list(part.named_children())
    depth = 0
    for place, (name, child) in enumerate(children if net.concatenates else children[:-1], 1):
        if next(child.parameters(), None) is not None:
            if f"{letter}.{name}" in trainable:
                break
            depth = place
        elif not all(_is_fixed(module) for module in child.modules()):
            break
    return depth


def _is_fixed(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.modules") and not isinstance(module, _RANDOM)


@torch.no_grad()
def _maps(net: Net, letter: str, depth: int, split: Split) -> Tensor | None:
    """Return the maps of all images, [m, height, width, channels]; None if they are too large to cache."""
    whole: Tensor | None = None
    for positions in torch.arange(len(split), device=split.pixels.device).split(EVALUATION_BATCH):
        maps = net.first_maps(split.images_of(positions), letter, depth).permute(0, 2, 3, 1)
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
