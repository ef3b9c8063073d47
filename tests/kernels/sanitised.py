"""Compile the kernels with AddressSanitizer and call them on arrays of exact size; a process of its own.

With a second argument "fault" the arrays are too small by one vector, which must be found.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from lightsweep.kernels.compiling import FLAGS, SOURCE, compilers

SHAPES = [
    # channels, height, width, images, outputs, groups, kernel, padding, pool, relu
    (1, 28, 28, 64, 10, 1, 3, 0, 1, 1), (10, 13, 13, 33, 20, 1, 3, 0, 1, 1), (3, 5, 7, 1, 2, 1, 5, 2, 0, 1),
    (4, 6, 6, 9, 8, 4, 3, 1, 1, 0), (2, 1, 1, 7, 3, 1, 1, 0, 0, 0), (2, 1, 9, 17, 5, 1, 7, 6, 0, 1),
    (5, 9, 3, 8, 7, 1, 2, 1, 1, 1), (3, 9, 9, 15, 3, 3, 9, 8, 0, 0), (1, 2, 2, 31, 1, 1, 2, 0, 0, 1),
]  # fmt: skip


def array(count: int, dtype: type = np.float32) -> tuple[np.ndarray, ctypes.c_void_p]:
    made = np.ones(max(count, 1), dtype)
    return made, ctypes.c_void_p(made.ctypes.data)


def call(found: ctypes.CDLL, shape: tuple[int, ...], short: int) -> None:
    geometry = (ctypes.c_int64 * 10)(*shape)
    channels, height, width, images, outputs, groups, kernel, padding, pool, _ = shape
    sides = [side + 2 * padding - kernel + 1 for side in (height, width)]
    sides = [side // 2 if pool else side for side in sides]
    stored, given = outputs * sides[0] * sides[1] * images, channels * height * width * images
    weights = outputs * channels // groups * kernel * kernel
    x, w, b, y, dy = (array(n) for n in (given, weights, outputs, stored - short, stored))
    places = array(stored, np.int8)
    dx, dw, db = (array(n) for n in (given, weights, outputs))
    for backward in (0, 1):
        size = found.workspace(geometry, backward, 1)
        work = np.empty(size + 16, np.float32)  # numpy aligns to 16 bytes, the workspace must be to 64
        at = -(-work.ctypes.data // 64) * 64
        if backward:
            pointers = (x, w, y, places, dy, dx, dw, db)
            found.backward(geometry, *(p for _, p in pointers), ctypes.c_void_p(at))
        else:
            pointers = (x, w, b, y, places)
            found.forward(geometry, *(p for _, p in pointers), ctypes.c_void_p(at))


def main(folder: Path, short: int) -> None:
    library = folder / "sanitised.so"
    if not library.exists():
        options = ["-march=native", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        subprocess.run([*compilers()[0], *FLAGS, *options, "-o", library, SOURCE], check=True)
    if "LD_PRELOAD" not in os.environ:
        runtime = subprocess.run(
            [*compilers()[0], "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
        )
        environment = {
            **os.environ, "LD_PRELOAD": runtime.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
        }  # fmt: skip
        os.execve(
            sys.executable, [sys.executable, *sys.argv], environment
        )  # with its allocator from the start
    found = ctypes.CDLL(str(library))
    found.workspace.restype = ctypes.c_int64
    for shape in SHAPES:
        call(found, shape, short)
    print(f"{len(SHAPES)} shapes without a fault")


if __name__ == "__main__":
    main(Path(sys.argv[1]), 8 if sys.argv[2:] == ["fault"] else 0)
