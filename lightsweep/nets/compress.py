"""Compress a trained net: prune weights or filters, and quantise to int8."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsweep.nets.models import Net

LARGEST = 127  # largest magnitude of an int8 weight: symmetric around an exact zero

Layer = nn.Conv2d | nn.Linear


def matrix_layers(net: nn.Module) -> dict[str, Layer]:
    """Return a net's convolutions and dense layers by name."""
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}


def pruned_count(weights: int, amount: float) -> int:
    """Return the number of weights in the given fraction."""
    return round(weights * amount)


@torch.no_grad()
def prune_weights(net: nn.Module, amount: float) -> None:
    """Set a fraction of the weights of all convolutions and dense layers to zero, smallest first, in place.

    Weights are ranked by magnitude over all layers together (Han et al. 2015, arXiv 1506.02626, but in one
    step); biases are kept.
    """
    weights = [layer.weight for layer in matrix_layers(net).values()]
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights])
    smallest = magnitudes.argsort(stable=True)[: pruned_count(len(magnitudes), amount)]
    kept = torch.ones_like(magnitudes).index_fill_(0, smallest, 0)
    for weight, part in zip(weights, kept.split([weight.numel() for weight in weights]), strict=True):
        weight.mul_(part.view(weight.shape))


def prune_filters(weights: dict[str, Tensor], net: Net, amount: float) -> dict[str, Tensor]:
    """Return a trained net's weights with filters of each submodel removed, as its method `pruned` does.

    Args:
        weights: The net's state dict.
        net: A net of the same settings, whose values are ignored.
        amount: Fraction of each convolution's filters to remove.

    """
    result = {name: value for name, value in weights.items() if not name.startswith(("a.", "b."))}
    kept: list[Tensor] = []
    for letter, part in zip("ab", net.parts(), strict=False):
        own = {name[2:]: value for name, value in weights.items() if name.startswith(f"{letter}.")}
        pruned, features = part.pruned(own, amount)  # type: ignore[operator]
        result |= {f"{letter}.{name}": value for name, value in pruned.items()}
        kept.append(features)
    if net.concatenates:
        name = "hidden.weight" if "hidden.weight" in weights else "output.weight"
        parts = weights[name].chunk(len(kept), 1)
        result[name] = torch.cat([part[:, features] for part, features in zip(parts, kept, strict=True)], 1)
    return {name: result[name] for name in weights}


class Quantised(nn.Module):
    """A convolution or dense layer with int8 weights and an input rounded to 8 bits.

    Weights are quantised symmetrically per output channel; the input is affine, with one scale and zero point
    (Krishnamoorthi 2018, arXiv 1806.08342, section 3.1.2). Products are summed in float32, which for integers
    of this size differs from an integer kernel by rounding only.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None
    input_scale: Tensor
    input_zero: Tensor

    def __init__(self, layer: Layer, low: float, high: float) -> None:
        super().__init__()
        is_dense = isinstance(layer, nn.Linear)
        self.geometry: Any = None if is_dense else (layer.stride, layer.padding, layer.dilation, layer.groups)
        weight = layer.weight.detach()
        scale = weight.flatten(1).abs().amax(1) / LARGEST
        tiny = torch.finfo(scale.dtype).tiny  # a scale below this would underflow
        scale = torch.where(scale >= tiny, scale, 1.0)
        scale = scale.view(-1, *[1] * (weight.dim() - 1))
        low, high = min(low, 0.0), max(high, 0.0)  # keeps zero, which padding adds, exact
        input_scale = (high - low) / 255
        input_scale = input_scale if input_scale >= tiny else 1.0
        self.register_buffer("weight", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())
        self.register_buffer("input_scale", torch.tensor(input_scale, device=weight.device))
        zero = round(-low / input_scale)
        self.register_buffer("input_zero", torch.tensor(zero, dtype=torch.int32, device=weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer with quantised weights and input."""
        x = torch.clamp(torch.round(x / self.input_scale) + self.input_zero, 0, 255)
        x = (x - self.input_zero) * self.input_scale
        weight = self.weight.float() * self.scale
        if self.geometry is None:
            return functional.linear(x, weight, self.bias)
        return functional.conv2d(x, weight, self.bias, *self.geometry)


@torch.no_grad()
def quantise(net: Net, batches: Iterable[Tensor]) -> None:
    """Round a trained net's convolutions and dense layers to int8, in place.

    Args:
        net: The net, in evaluation mode.
        batches: Images, float32 [batch, channels, height, width] in [0, 1]; each layer's input range is taken
            from the smallest and largest value on them.

    """
    layers = matrix_layers(net)
    ranges: dict[str, tuple[float, float]] = {}

    def note(name: str, x: Tensor) -> None:
        low, high = ranges.get(name, (0.0, 0.0))
        ranges[name] = min(low, float(x.min())), max(high, float(x.max()))

    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs[0]))
        for name, layer in layers.items()
    ]
    for images in batches:
        net(images, images)
    for hook in hooks:
        hook.remove()
    for name, layer in layers.items():
        net.set_submodule(name, Quantised(layer, *ranges[name]))


def shape_as_quantised(net: Net) -> None:
    """Replace a net's layers by empty quantised ones, in place, for `load_state_dict` to fill."""
    for name, layer in matrix_layers(net).items():
        net.set_submodule(name, Quantised(layer, 0.0, 1.0))
