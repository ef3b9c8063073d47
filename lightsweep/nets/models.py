"""The nets of arXiv 2501.15547: submodels with heads, and their fusion into one net.

Images are float32 [batch, channels, height, width] in [0, 1]; normalisation is part of the net. Forward
passes are pure: the only state that changes is batch normalisation's running statistics in training mode.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsweep.errors import InputError
from lightsweep.nets.references import Reference
from lightsweep.seeding import derive
from lightsweep.sweepfile.net import ModelSpec, NetSpec, Network, ReferenceSpec


def feature_side(model: ModelSpec, side: int) -> int:
    """Return the side length of the last feature map for images of side length `side`, in pixels.

    Raises:
        InputError: The net has too many blocks for the image size.

    """
    left = side
    for index in range(len(model.filters)):
        left = (left - model.convolutions * (model.kernel - 1)) // 2
        if left < 1:
            several = f"{model.convolutions} convolutions of " if model.convolutions > 1 else ""
            raise InputError(
                f"model.filters = {list(model.filters)}: {len(model.filters)} blocks are too many for images "
                f"of {side} pixels with {several}kernel {model.kernel}: at most {index} fit"
            )
    return left


def used_side(model: ModelSpec, side: int) -> int:
    """Return the number of rows (or columns) of an image that reach the output.

    Pooling drops the last row of an odd map: the paper's net uses 26 of 28 pixels, and 30 of 32.
    """
    used = feature_side(model, side)
    for _ in model.filters:
        used = 2 * used + model.convolutions * (model.kernel - 1)
    return used


class Convolution(nn.Module):
    """A convolution without padding, optionally depthwise-separable and with batch normalisation."""

    def __init__(self, spec: ModelSpec, inputs: int, outputs: int) -> None:
        super().__init__()
        bias = not spec.batch_norm
        self.kernel = spec.kernel
        self.depthwise = (
            nn.Conv2d(inputs, inputs, spec.kernel, groups=inputs, bias=False) if spec.separable else None
        )
        self.convolution = nn.Conv2d(inputs, outputs, 1 if spec.separable else spec.kernel, bias=bias)
        self.norm = nn.BatchNorm2d(outputs) if spec.batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, inputs, h, w] to [batch, outputs, h − kernel + 1, w − kernel + 1]."""
        if self.depthwise is not None:
            x = self.depthwise(x)
        x = self.convolution(x)
        return x if self.norm is None else self.norm(x)


class Block(Convolution):
    """Convolutions, each followed by ReLU, with 2×2 max-pooling after the last.

    The last ReLU comes after pooling: the result is the same (both are monotone) for a quarter of the work.
    """

    def __init__(self, spec: ModelSpec, inputs: int, outputs: int) -> None:
        count = spec.convolutions
        super().__init__(spec, inputs if count == 1 else outputs, outputs)
        sizes = [inputs] + [outputs] * (count - 1)
        self.before = nn.ModuleList(Convolution(spec, size, outputs) for size in sizes[: count - 1])

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, inputs, h, w] to [batch, outputs, …]: a side loses c · (kernel − 1), then is halved."""
        for convolution in self.before:
            x = functional.relu(convolution(x))
        return functional.relu(_max_pool(super().forward(x)))

    def layers(self) -> list[Convolution]:
        """Return the block's convolutions, from input to output."""
        return [*self.before, self]


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


class PointwiseHead(nn.Conv2d):
    """A dense head as a 1×1 convolution over the flattened map, weight [classes, features, 1, 1].

    It is computed as a matrix product, so it gives bit for bit the output of the dense head; torch's
    convolution kernels sum in another order.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map features [batch, features] to logits [batch, classes]."""
        return functional.linear(x, self.weight.flatten(1), self.bias)


class Submodel(nn.Module):
    """Convolution blocks (conv1, conv2, …) and a head over their features; no head if concatenated."""

    def __init__(self, spec: ModelSpec, shape: tuple[int, int, int], classes: int, network: Network) -> None:
        super().__init__()
        channels, height, width = shape
        self.average = spec.head == "average"
        positions = feature_side(spec, height) * feature_side(spec, width)
        self.features = spec.filters[-1] * (1 if self.average else positions)
        sizes = [channels, *spec.filters]
        self.blocks = [f"conv{index}" for index in range(1, len(sizes))]
        for name, inputs, outputs in zip(self.blocks, sizes, sizes[1:], strict=False):
            self.add_module(name, Block(spec, inputs, outputs))
        if network == "heads":
            self.add_module("head", nn.Linear(self.features, classes))
        elif spec.fusion != "concatenate":
            self.add_module("head", PointwiseHead(self.features, classes))

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Map normalised images to logits [batch, classes], or features [batch, features] without a head.

        With `start`, x is the output of the first `start` blocks.
        """
        x = self.maps(x, start, len(self.blocks))
        x = x.mean((2, 3)) if self.average else x.flatten(1)
        return self.get_submodule("head")(x) if "head" in self._modules else x

    def maps(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Map the output of the first `start` blocks to that of the first `stop`, [batch, channels, h, w]."""
        for block in self.convolutions()[start:stop]:
            x = block(x)
        return x

    def convolutions(self) -> list[Block]:
        """Return the blocks, from input to output."""
        return [self.get_submodule(name) for name in self.blocks]  # type: ignore[misc]


class Net(nn.Module):
    """Normalisation, then submodels a and b, each on its own stream of images, or a reference net."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, spec: NetSpec, shape: tuple[int, int, int], classes: int, network: Network) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape[0], 1, 1))
        self.register_buffer("deviation", torch.ones(shape[0], 1, 1))
        self.used: tuple[int, int] | None = None
        self.b: Submodel | None = None
        if isinstance(spec, ReferenceSpec):
            self.a: Submodel | Reference = Reference(spec, shape, classes)
            return
        self.a = Submodel(spec, shape, classes, network)
        if spec.inputs == "dual":
            self.b = Submodel(spec, shape, classes, network)
        if not spec.batch_norm:
            self.used = used_side(spec, shape[1]), used_side(spec, shape[2])

    def streams(
        self, original: Tensor, augmented: Tensor, starts: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, ...]:
        """Return each submodel's output for its images, or for the output of its first `starts` blocks."""
        if self.b is None:
            return (self.a(self._prepare(augmented, starts[1]), starts[1]),)
        return (
            self.a(self._prepare(original, starts[0]), starts[0]),
            self.b(self._prepare(augmented, starts[1]), starts[1]),
        )

    def first_maps(self, images: Tensor, submodel: str, depth: int) -> Tensor:
        """Return the output of the first `depth` blocks of submodel "a" or "b" for images."""
        part: Submodel | Reference = self.get_submodule(submodel)  # type: ignore[assignment]
        return part.maps(self._prepare(images, 0), 0, depth)

    def _prepare(self, images: Tensor, start: int) -> Tensor:
        """Normalise images; in training, crop the last rows and columns if unused. Keep feature maps.

        With batch normalisation nothing is cropped, since its statistics include every pixel.
        """
        if start:
            return images
        if self.training and self.used is not None:
            images = images[:, :, : self.used[0], : self.used[1]]
        return (images - self.mean) / self.deviation


class HeadsNet(Net):
    """Submodels with their own dense heads (the paper's dual-input-output model), or a reference net."""

    def __init__(self, spec: NetSpec, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__(spec, shape, classes, "heads")

    def forward(
        self, original: Tensor, augmented: Tensor, starts: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, ...]:
        """Return the logits of each submodel's head (see `FusedNet.forward`)."""
        return self.streams(original, augmented, starts)


class FusedNet(Net):
    """The fused model: concatenated 1×1 convolution heads (or features), a hidden and an output layer."""

    def __init__(self, spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__(spec, shape, classes, "fused")
        self.hidden: nn.Linear | None = None
        self.output: nn.Linear | None = None
        if spec.has_trunk:
            assert isinstance(self.a, Submodel)
            width = self.a.features if spec.fusion == "concatenate" else classes
            width *= len(spec.submodels)
            if spec.hidden:
                self.hidden, width = nn.Linear(width, spec.hidden), spec.hidden
            self.output = nn.Linear(width, classes)
        self.dropout = spec.dropout

    def forward(self, original: Tensor, augmented: Tensor, starts: tuple[int, int] = (0, 0)) -> tuple[Tensor]:
        """Return the fused logits as a tuple of one.

        Args:
            original: Images for submodel a, float32 [batch, channels, height, width] in [0, 1].
            augmented: Images for submodel b, or for a if it is the only one; same format.
            starts: For each input, the number of blocks already applied to it; 0 for images.

        """
        parts = self.streams(original, augmented, starts)
        if self.output is None:
            return (torch.stack(parts).mean(0),)
        x = torch.cat(parts, 1)
        if self.hidden is not None:
            x = functional.dropout(functional.relu(self.hidden(x)), self.dropout, self.training)
        return (self.output(x),)


def build(spec: NetSpec, shape: tuple[int, int, int], classes: int, network: Network, seed: int) -> Net:
    """Return a freshly initialised net for images of shape (channels, height, width).

    Weights are Glorot-uniform, biases zero (Glorot & Bengio 2010, eq. 16). Each parameter has its
    own random stream, derived from (seed, its name), so nets with common parameters start equal there. A
    reference net is initialised as its authors do, from one stream derived from the seed.

    Raises:
        InputError: The net has too many blocks for the image size.

    """
    with torch.random.fork_rng(devices=[]):  # torch's layers initialise themselves from the global stream
        torch.manual_seed(derive(seed, "weights"))
        if network == "heads" or isinstance(spec, ReferenceSpec) or spec.fusion == "none":
            net: Net = HeadsNet(spec, shape, classes)
        else:
            net = FusedNet(spec, shape, classes)
    if isinstance(spec, ModelSpec):
        _initialise(net, seed)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def _initialise(net: Net, seed: int) -> None:
    for name, parameter in net.named_parameters():
        if parameter.dim() > 1 and not parameter.is_meta:
            stream = torch.Generator().manual_seed(derive(seed, "weights", name))
            nn.init.xavier_uniform_(parameter, generator=stream)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def fuse(weights: dict[str, Tensor], fused: nn.Module, transfer_heads: bool) -> None:
    """Copy the trained submodels' weights into a fused net, in place.

    A dense head's weight [classes, features] becomes the 1×1 convolution's [classes, features, 1, 1]
    (same numbers, reshaped), unless `transfer_heads` is false (fusion: fresh).
    """
    state = fused.state_dict()
    for name, old in weights.items():
        if name in state and (transfer_heads or ".head." not in name):
            state[name] = old.reshape(state[name].shape)
    fused.load_state_dict(state)
