"""The compiled library that this processor can run, and its functions."""

import ctypes
import hashlib
import platform
from functools import cache
from pathlib import Path

import torch

from lightsweep.errors import MachineError
from lightsweep.kernels.compiling import LEVELS, SOURCE, library_file

_POINTER = ctypes.c_void_p


class Geometry(ctypes.Structure):
    """Sizes of a convolution: `Convolution` in images_last.c."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "channels", "height", "width", "images", "outputs", "groups", "kernel", "padding", "pool", "relu",
        )
    ]  # fmt: skip
    channels: int
    height: int
    width: int
    images: int
    outputs: int
    groups: int
    kernel: int
    padding: int
    pool: int
    relu: int

    def stored(self) -> tuple[int, int, int, int]:
        """Return the shape of what the convolution stores, [outputs, height, width, images]."""
        sides = (side + 2 * self.padding - self.kernel + 1 for side in (self.height, self.width))
        height, width = (side // 2 if self.pool else side for side in sides)
        return self.outputs, height, width, self.images


@cache
def library() -> ctypes.CDLL | None:
    """Return the best library that was compiled and that this processor can run; None if there is none."""
    level = best_level()
    return open_library(library_file(level)) if level else None


def best_level() -> str | None:
    """Return the level of processors, as torch names it, of the library that is used; None for none."""
    capability = torch.backends.cpu.get_cpu_capability()
    names = list(LEVELS)
    levels = names[names.index(capability) :] if capability in names else ["DEFAULT"]
    return next((level for level in levels if library_file(level).is_file()), None)


@cache
def source_hash() -> str:
    """Return the hash of the kernels' source without its comments, 64 hexadecimal digits."""
    lines = (line.partition("//")[0].split() for line in SOURCE.read_text(encoding="utf-8").splitlines())
    return hashlib.sha256("\n".join(" ".join(words) for words in lines if words).encode()).hexdigest()


def require_library() -> None:
    """Check that there are kernels for this processor.

    Raises:
        MachineError: None were compiled, or none of them can run here.

    """
    if library() is None:
        raise MachineError(
            f"{platform.node()}: kernels = images-last: lightsweep was installed here without a C "
            "compiler, or for another processor; install it again with one, or set base.kernels=torch"
        )


def open_library(file: Path) -> ctypes.CDLL | None:
    """Load a library; None if it cannot be loaded, as when it was made for another system."""
    try:
        found = ctypes.CDLL(str(file))
    except OSError:
        return None
    found.lanes.restype = found.workspace.restype = ctypes.c_int64
    found.workspace.argtypes = [ctypes.POINTER(Geometry), ctypes.c_int64, ctypes.c_int64]
    found.forward.argtypes = [ctypes.POINTER(Geometry), *[_POINTER] * 6]
    found.backward.argtypes = [ctypes.POINTER(Geometry), *[_POINTER] * 9]
    found.forward.restype = found.backward.restype = None
    return found
