"""Compile `images_last.c` for this kind of processor; imports nothing, since the build hook runs it."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("images_last.c")
FLAGS = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC", "-std=gnu11")
LEVELS = {"AVX512": "x86-64-v4", "AVX2": "x86-64-v3"}
"""torch's name of a level of x86-64 (`torch.backends.cpu.get_cpu_capability`) -> the compiler's name."""
_X86 = ("x86_64", "AMD64")
_ARM = ("aarch64", "arm64")


def levels() -> dict[str, tuple[str, ...]]:
    """Return the compiler's options for each library that may be loaded here, by its level."""
    if platform.machine() in _X86:
        return {level: (f"-march={name}",) for level, name in LEVELS.items()}
    return {"DEFAULT": ()} if platform.machine() in _ARM else {}


def library_file(level: str, folder: Path = SOURCE.parent) -> Path:
    """Return where the library of a level lies."""
    return folder / f"_images_last_{level.lower()}.so"


def compilers() -> list[list[str]]:
    """Return the commands of the C compilers that are here, the best first: $CC, cc, clang, gcc."""
    named = os.environ.get("CC", "").split()
    found = [named] if named else []
    found += [[path] for path in map(shutil.which, ("cc", "clang", "gcc")) if path]
    return found


def compile_library(compiler: Sequence[str], to: Path, options: Sequence[str] = ()) -> None:
    """Compile the source to a shared library, whole or not at all.

    Raises:
        OSError, subprocess.CalledProcessError: The compiler cannot be run, or fails.

    """
    with tempfile.TemporaryDirectory(dir=to.parent) as folder:
        made = Path(folder) / to.name
        command = [*compiler, *FLAGS, *options, "-o", str(made), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        os.replace(made, to)


def compile_all(folder: Path) -> list[Path]:
    """Compile every library for this kind of processor; return those that are there, none without a compiler.

    What was compiled from this very source stays as it is.
    Where there is no compiler, one that comes as a package is fetched, if it can be, for this once.
    """
    files = [library_file(level, folder) for level in levels()]
    newest = max(file.stat().st_mtime for file in (SOURCE, Path(__file__)))
    if files and all(file.is_file() and file.stat().st_mtime > newest for file in files):
        return files
    with tempfile.TemporaryDirectory() as fetched:
        for compiler in [*compilers(), None]:
            command = compiler if compiler is not None else _fetch_zig(Path(fetched))
            if command is None:
                break
            made = []
            try:
                for level, options in levels().items():
                    if compiler is None:  # zig spells the levels with underscores
                        options = tuple(option.replace("x86-64-", "x86_64_") for option in options)
                    compile_library(command, library_file(level, folder), options)
                    made.append(library_file(level, folder))
            except (OSError, subprocess.SubprocessError):
                continue
            return made
    return []


def _fetch_zig(folder: Path) -> list[str] | None:
    """Install the package ziglang, which carries a C compiler, into a folder; return its command."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), "ziglang"]
    try:
        subprocess.run(pip, check=True, capture_output=True, timeout=600)
    except (OSError, subprocess.SubprocessError):
        return None
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); sys.argv[1:1] = ['cc']; import runpy; "
    return [sys.executable, "-c", code + "runpy.run_module('ziglang', run_name='__main__', alter_sys=True)"]
