"""Run a plain sequence of torch's layers with the images last.

Activations are float32 [channels, height, width, images], after flattening [features, images]. Convolutions
are ours, fused with what follows; 1×1 convolutions and dense layers are matrix products; the rest is torch's.
Weights and modes are the layers' own: the layers stay what is trained, saved and exported.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsweep.kernels.convolution import convolve

_ELEMENTWISE = (
    nn.ReLU, nn.Tanh, nn.Sigmoid, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish,
    nn.Hardsigmoid, nn.Identity, nn.Dropout,
)  # fmt: skip


@dataclass
class Step:
    """A layer, or a convolution or pooling with what is done in one pass with it: pooling, ReLU."""

    layer: nn.Module
    pool: bool = False
    relu: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the layer to activations with the images last."""
        layer = self.layer
        match layer:
            case nn.Conv2d() if self._is_product:
                y = (layer.weight.flatten(1) @ x.flatten(1)).unflatten(1, x.shape[1:])
                y = y if layer.bias is None else y + layer.bias[:, None, None, None]
                return functional.relu(y) if self.relu else y
            case nn.Conv2d():
                padding = cast(int, layer.padding[0])
                return convolve(x, layer.weight, layer.bias, padding, layer.groups, self.pool, self.relu)
            case nn.BatchNorm2d():
                shape = x.shape
                return _batch_norm(layer, x.reshape(1, shape[0], -1)).reshape(shape)
            case nn.MaxPool2d():
                same = x.new_ones(len(x), 1, 1, 1)  # each map as it is, since ours pool after a convolution
                return convolve(x, same, None, 0, len(x), True, self.relu)
            case nn.AvgPool2d():
                return _average(x, cast(int, layer.kernel_size))
            case nn.AdaptiveAvgPool2d():
                return x.mean((1, 2), keepdim=True)
            case nn.Flatten():
                return x.flatten(0, -2)
            case nn.Linear():
                y = layer.weight @ x
                return y if layer.bias is None else y + layer.bias[:, None]
        found: Tensor = layer(x)
        return found

    @property
    def _is_product(self) -> bool:
        layer = cast(nn.Conv2d, self.layer)
        return layer.kernel_size == (1, 1) and layer.groups == 1 and not self.pool


@dataclass
class Steps:
    """A sequence of layers, applied to images as they usually lie."""

    steps: list[Step]

    def __call__(self, x: Tensor) -> Tensor:
        """Map [images, channels, height, width] or [images, features] to the layers' output, likewise."""
        x = (x.permute(1, 2, 3, 0) if x.dim() == 4 else x.t()).contiguous()  # as products round by layout
        for step in self.steps:
            x = step(x)
        return x.permute(3, 0, 1, 2) if x.dim() == 4 else x.t()


def images_last(modules: Iterable[nn.Module]) -> Steps | None:
    """Return modules, one after the other, as steps with the images last; None if a layer is not known."""
    leaves = _leaves_of(modules)
    if leaves is None:
        return None
    steps: list[Step] = []
    is_flat = False
    for layer in leaves:
        last = steps[-1] if steps else Step(nn.Identity())
        if isinstance(layer, nn.ReLU) and isinstance(last.layer, nn.Conv2d | nn.MaxPool2d):
            last.relu = True
            continue
        if isinstance(layer, nn.MaxPool2d):  # before or after ReLU, since both are monotone
            if isinstance(last.layer, nn.Conv2d) and not last.pool:
                last.pool = True
                continue
            if isinstance(last.layer, nn.ReLU):
                steps[-1] = Step(layer, relu=True)
                continue
        if isinstance(layer, nn.Linear) and not is_flat:
            return None
        is_flat = is_flat or isinstance(layer, nn.Flatten)
        steps.append(Step(layer))
    return Steps(steps)


def _leaves(module: nn.Module) -> list[nn.Module] | None:
    """Return a module's layers in the order of its forward pass; None if it is not known to be a sequence.

    A module that is no nn.Sequential may say its layers by a method `plain_layers`, which returns them.
    """
    if _is_known(module):
        return [module]
    layers = getattr(module, "plain_layers", None)
    is_plain = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    if _is_hooked(module):
        return None
    if is_plain:
        return _leaves_of(module.children())
    if callable(layers) and not isinstance(layers, nn.Module):
        return _leaves_of(cast(Callable[[], Iterable[nn.Module]], layers)())
    return None


def _leaves_of(modules: Iterable[nn.Module]) -> list[nn.Module] | None:
    """Return the layers of modules, one after the other; None if one is not known."""
    found: list[nn.Module] = []
    for module in modules:
        leaves = _leaves(module)
        if leaves is None:
            return None
        found += leaves
    return found


def _is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _is_known(layer: nn.Module) -> bool:
    if _is_hooked(layer) or not type(layer).__module__.startswith("torch.nn."):
        return False
    match layer:
        case nn.Conv2d():
            kernel, padding = layer.kernel_size, layer.padding
            return (
                len(set(kernel)) == 1
                and isinstance(padding, tuple)
                and len(set(padding)) == 1
                and padding[0] < kernel[0]
                and layer.stride == layer.dilation == (1, 1)
                and layer.padding_mode == "zeros"
                and layer.weight.dtype == torch.float32
            )
        case nn.BatchNorm2d():
            return True
        case nn.MaxPool2d():
            usual = (layer.padding, layer.dilation, layer.ceil_mode, layer.return_indices)
            return (layer.kernel_size, layer.stride) == (2, 2) and usual == (0, 1, False, False)
        case nn.AvgPool2d():
            side, is_whole = layer.kernel_size, layer.divisor_override is None and not layer.ceil_mode
            return isinstance(side, int) and layer.stride == side and layer.padding == 0 and is_whole
        case nn.AdaptiveAvgPool2d():
            return layer.output_size in (1, (1, 1))
        case nn.Flatten():
            return (layer.start_dim, layer.end_dim) == (1, -1)
    return isinstance(layer, (*_ELEMENTWISE, nn.Linear))


def _average(x: Tensor, side: int) -> Tensor:
    """Average [channels, height, width, images] over squares, as two passes over sums of slices."""
    channels, height, width, images = x.shape
    rows, columns = height // side, width // side
    x = x[:, : rows * side, : columns * side].reshape(channels * rows, side, columns * side * images)
    x = functools.reduce(torch.add, x.unbind(1))
    x = x.reshape(channels * rows * columns, side, images)
    x = functools.reduce(torch.add, x.unbind(1))
    return (x / (side * side)).reshape(channels, rows, columns, images)


def _batch_norm(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Normalise [1, channels, positions] by torch's layer: in training its statistics move, too."""
    if layer.training and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
    momentum = layer.momentum
    if momentum is None:
        momentum = 1 / float(layer.num_batches_tracked or 1)
    return functional.batch_norm(
        x, layer.running_mean, layer.running_var, layer.weight, layer.bias,
        layer.training or layer.running_mean is None, momentum, layer.eps,
    )  # fmt: skip
