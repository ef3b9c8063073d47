"""Convolutions as operators of torch, on activations float32 [channels, height, width, images]."""

import ctypes
import threading
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightsweep.kernels.library import Geometry, library

_ALIGNED = 64
_kept = threading.local()


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, groups: int, pool: bool, relu: bool
) -> Tensor:
    """Convolve with stride 1, then pool by 2×2 and cut by ReLU if asked for, in one pass.

    The function is that of torch.nn.functional's conv2d, max_pool2d and relu, up to rounding.

    Args:
        x: [channels, height, width, images].
        weight: [outputs, channels / groups, kernel, kernel].
        bias: [outputs], or None.
        padding: Zeros on each side, less than the kernel's side.
        groups: Number of groups of channels, each with outputs of its own.
        pool: Whether the maximum of each 2×2 positions is taken; an odd last row or column is dropped.
        relu: Whether negative values become 0.

    Returns:
        [outputs, height, width, images].

    """
    return cast(Tensor, _Convolution.apply(x, weight, bias, padding, groups, pool, relu))  # type: ignore[no-untyped-call]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: int,
        groups: int,
        pool: bool,
        relu: bool,
    ) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        geometry = Geometry(*x.shape, weight.shape[0], groups, weight.shape[2], padding, pool, relu)
        stored = x.new_empty(geometry.stored())
        places = torch.empty(stored.shape, dtype=torch.int8) if pool else None
        found = _library(x)
        size = found.workspace(geometry, 0, 0)
        found.forward(geometry, *map(_address, (x, weight, bias, stored, places)), _workspace(size, x.dtype))
        ctx.geometry = geometry
        ctx.save_for_backward(x, weight, stored if relu and not pool else None, places)
        return stored

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, stored, places = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_input = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        of_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        of_bias = weight.new_empty(len(weight)) if ctx.needs_input_grad[2] else None
        found = _library(x)
        size = found.workspace(ctx.geometry, 1, of_input is not None)
        given = (x, weight, stored, places, gradient, of_input, of_weight, of_bias)
        found.backward(ctx.geometry, *map(_address, given), _workspace(size, x.dtype))
        return of_input, of_weight, of_bias, None, None, None, None


def _library(x: Tensor) -> ctypes.CDLL:
    found = library()
    assert found is not None  # see `library.require_library`
    assert x.dtype == torch.float32
    return found


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _workspace(size: int, dtype: torch.dtype) -> int:
    """Return the address of a thread's own aligned workspace of this many elements."""
    kept: Tensor | None = getattr(_kept, "workspace", None)
    needed = size * dtype.itemsize + _ALIGNED
    if kept is None or len(kept) < needed:
        kept = _kept.workspace = torch.empty(needed, dtype=torch.uint8)
    return -(-kept.data_ptr() // _ALIGNED) * _ALIGNED
