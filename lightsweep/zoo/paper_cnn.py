"""The submodel of arXiv 2501.15547: blocks of convolution, 2×2 max-pooling and ReLU, and a dense head."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsweep.errors import InputError
from lightsweep.owncode.ranges import Range

_OF_OUTPUTS = ("convolution.weight", "convolution.bias", "norm.weight", "norm.bias",
               "norm.running_mean", "norm.running_var")  # fmt: skip


def build(
    shape: tuple[int, int, int],
    classes: int,
    *,
    filters: Annotated[tuple[int, ...], Range(1, 65_536, log=True)] = (10, 20),
    convolutions: Annotated[int, Range(1, 8)] = 1,
    kernel: Annotated[int, Range(1, 11)] = 3,
    batch_norm: bool = False,
    separable: bool = False,
    head: Literal["flatten", "average"] = "flatten",
) -> nn.Module:
    """Return convolution blocks (conv1, conv2, …) and a dense head.

    Args:
        shape: Channels, height and width of the images.
        classes: Number of classes.
        filters: Output channels of each block; a block is convolution, 2×2 max-pooling, ReLU.
        convolutions: Number of convolutions in each block before its pooling, with ReLU between them.
        kernel: Side length of the convolution kernels in pixels; no padding.
        batch_norm: Whether batch normalisation follows each convolution.
        separable: Whether convolutions are depthwise-separable.
        head: Input of the dense head: the whole last feature map, or its average over all positions.

    Raises:
        InputError: There are no blocks, or too many for the image size.

    """
    return PaperCNN(shape, classes, tuple(filters), convolutions, kernel, batch_norm, separable, head)


def feature_side(filters: Sequence[int], convolutions: int, kernel: int, side: int) -> int:
    """Return the side length of the last feature map for images of side length `side`, in pixels.

    Raises:
        InputError: The net has too many blocks for the image size.

    """
    left = side
    for index in range(len(filters)):
        left = (left - convolutions * (kernel - 1)) // 2
        if left < 1:
            several = f"{convolutions} convolutions of " if convolutions > 1 else ""
            raise InputError(
                f"model.filters = {list(filters)}: {len(filters)} blocks are too many for images "
                f"of {side} pixels with {several}kernel {kernel}: at most {index} fit"
            )
    return left


def used_side(filters: Sequence[int], convolutions: int, kernel: int, side: int) -> int:
    """Return the number of rows (or columns) of an image that reach the output.

    Pooling drops the last row of an odd map: the paper's net uses 26 of 28 pixels, and 30 of 32.
    """
    used = feature_side(filters, convolutions, kernel, side)
    for _ in filters:
        used = 2 * used + convolutions * (kernel - 1)
    return used


class PaperCNN(nn.Sequential):
    """Convolution blocks (conv1, conv2, …) and a head over their features."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        filters: tuple[int, ...],
        convolutions: int,
        kernel: int,
        batch_norm: bool,
        separable: bool,
        head: str,
    ) -> None:
        if not filters:
            raise InputError("model.filters = []: a net needs at least one block")
        channels, *sides = shape
        rows, columns = (feature_side(filters, convolutions, kernel, side) for side in sides)
        blocks: OrderedDict[str, Any] = OrderedDict()
        for index, (inputs, outputs) in enumerate(zip([channels, *filters], filters, strict=False), 1):
            blocks[f"conv{index}"] = Block(inputs, outputs, convolutions, kernel, batch_norm, separable)
        if not batch_norm:  # whose statistics include every pixel
            blocks["conv1"].used = tuple(used_side(filters, convolutions, kernel, side) for side in sides)
        positions = 1 if head == "average" else rows * columns
        blocks["flat"] = Mean() if head == "average" else nn.Flatten()
        blocks["head"] = nn.Linear(filters[-1] * positions, classes)
        super().__init__(blocks)
        self.filters, self.convolutions, self.positions = filters, convolutions, positions

    def initialise(self, stream: Callable[[str], torch.Generator]) -> None:
        """Set Glorot-uniform weights and zero biases (Glorot & Bengio 2010, eq. 16).

        Args:
            stream: Returns the random stream of a parameter by its name, so that nets with common parameters
                start equal there.

        """
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter, generator=stream(name))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def features(self, x: Tensor, start: int = 0) -> Tensor:
        """Map images, or the output of the first `start` blocks, to the head's input, [batch, features]."""
        for name, block in list(self.named_children())[start:]:
            if name != "head":
                x = block(x)
        return x

    def narrower(self, amount: float) -> dict[str, Any]:
        """Return the keywords that change when a fraction of each block's filters is removed, never all."""
        return {"filters": [max(1, round(count * (1 - amount))) for count in self.filters]}

    def pruned(self, weights: dict[str, Tensor], amount: float) -> tuple[dict[str, Tensor], Tensor]:
        """Return weights with the weakest filters of each convolution removed, and the kept features.

        A filter's strength is the sum of its weights' magnitudes (Li et al. 2017, arXiv 1608.08710, section
        3.1), times the scale of its batch normalisation, if any.

        Args:
            weights: A state dict of this net, with or without the head's weights.
            amount: Fraction of each convolution's filters to remove.

        Returns:
            A state dict for the net with the keywords of `narrower`, and the indices of the features that
            remain, int64.

        """
        result = dict(weights)
        kept: Tensor | None = None  # indices of the input channels
        for index, count in enumerate(self.narrower(amount)["filters"], 1):
            block = f"conv{index}."
            for name in (*(f"{block}before.{place}." for place in range(self.convolutions - 1)), block):
                kept = _narrow(result, name, kept, count)
        assert kept is not None
        positions = torch.arange(self.positions)
        features = (kept[:, None] * self.positions + positions).flatten()
        if "head.weight" in result:
            result["head.weight"] = result["head.weight"][:, features]
        return result, features


def _narrow(weights: dict[str, Tensor], name: str, inputs: Tensor | None, count: int) -> Tensor:
    """Keep a convolution's given inputs and its `count` strongest filters; return their sorted indices."""
    matrix, depthwise = f"{name}convolution.weight", f"{name}depthwise.weight"
    if inputs is not None:
        weights[matrix] = weights[matrix][:, inputs]
        if depthwise in weights:
            weights[depthwise] = weights[depthwise][inputs]
    strength = weights[matrix].abs().sum((1, 2, 3))
    if f"{name}norm.weight" in weights:
        strength = strength * weights[f"{name}norm.weight"].abs()
    kept = strength.argsort(descending=True, stable=True)[:count].sort().values
    for part in _OF_OUTPUTS:
        if name + part in weights:
            weights[name + part] = weights[name + part][kept]
    return kept


class Convolution(nn.Module):
    """A convolution without padding, optionally depthwise-separable and with batch normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, batch_norm: bool, separable: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, kernel, groups=inputs, bias=False) if separable else None
        self.convolution = nn.Conv2d(inputs, outputs, 1 if separable else kernel, bias=not batch_norm)
        self.norm = nn.BatchNorm2d(outputs) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, inputs, h, w] to [batch, outputs, h − kernel + 1, w − kernel + 1]."""
        if self.depthwise is not None:
            x = self.depthwise(x)
        x = self.convolution(x)
        return x if self.norm is None else self.norm(x)

    def plain_layers(self) -> list[nn.Module]:
        """Return the layers that the forward pass consists of (see `lightsweep.kernels.layers`)."""
        return [layer for layer in (self.depthwise, self.convolution, self.norm) if layer is not None]


class Block(Convolution):
    """Convolutions, each followed by ReLU, with 2×2 max-pooling after the last.

    The last ReLU comes after pooling: the result is the same (both are monotone) for a quarter of the work.
    """

    def __init__(
        self, inputs: int, outputs: int, count: int, kernel: int, batch_norm: bool, separable: bool
    ) -> None:
        super().__init__(inputs if count == 1 else outputs, outputs, kernel, batch_norm, separable)
        sizes = [inputs] + [outputs] * (count - 1)
        self.before = nn.ModuleList(
            Convolution(size, outputs, kernel, batch_norm, separable) for size in sizes[: count - 1]
        )
        self.used: tuple[int, ...] | None = None
        """Rows and columns of the images that reach the output; others are not computed in training."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, inputs, h, w] to [batch, outputs, …]: a side loses c · (kernel − 1), then is halved."""
        if self.used is not None and self.training:
            x = x[:, :, : self.used[0], : self.used[1]]
        for convolution in self.before:
            x = functional.relu(convolution(x))
        return functional.relu(_max_pool(super().forward(x)))

    def plain_layers(self) -> list[nn.Module]:
        """Return the layers that the forward pass consists of, without what spares unused pixels."""
        before: list[nn.Module] = []
        for convolution in self.before:
            assert isinstance(convolution, Convolution)
            before += [*convolution.plain_layers(), nn.ReLU()]
        return [*before, *super().plain_layers(), nn.MaxPool2d(2), nn.ReLU()]


def _max_pool(x: Tensor) -> Tensor:
    """Pool [batch, channels, h, w] by 2×2.

    Without gradients, on CPUs, three elementwise maxima give the same numbers in a third of the time of
    max_pool2d, which also records where each maximum came from.
    """
    if (x.requires_grad and torch.is_grad_enabled()) or x.device.type != "cpu":
        return functional.max_pool2d(x, 2)
    rows, columns = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    higher = torch.maximum(x[:, :, :rows:2, :columns], x[:, :, 1:rows:2, :columns])
    return torch.maximum(higher[:, :, :, ::2], higher[:, :, :, 1::2])


class Mean(nn.Module):
    """The average over all positions."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, channels, h, w] to [batch, channels]."""
        return x.mean((2, 3))

    def plain_layers(self) -> list[nn.Module]:
        """Return the layers that the forward pass consists of."""
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
