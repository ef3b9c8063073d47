"""Load a function from its sources by value, and call it: errors name the user's file and line.

Nothing here looks at `sys.path` or at files: a worker on another node, or a process years later, runs the
very texts that the stage keys cover.
"""

import builtins
import importlib
import linecache
import posixpath
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import ModuleType, TracebackType
from typing import Any

from lightsweep.errors import InputError
from lightsweep.owncode.reference import parse_reference, without_digests
from lightsweep.owncode.sources import Sources, all_known, known, locate
from lightsweep.owncode.trust import is_trusted, trust


class OwnCodeError(InputError):
    """Code of the user's own raised an exception, or returned what it must not; names file and line."""


def load(text: str) -> Callable[..., Any]:
    """Return the function that a shipped net's name or a reference with a digest names.

    Raises:
        InputError: The sources are not known, came with a run folder from elsewhere, or cannot be executed.

    """
    reference = parse_reference(text)
    if reference is None:
        return getattr(importlib.import_module(f"lightsweep.zoo.{text.replace('-', '_')}"), "build")  # type: ignore[no-any-return] # noqa: B009
    sources = known(reference.digest) if reference.digest else None
    if sources is None:
        raise InputError(f"{without_digests(text)}: its sources are not here")
    if sources.origin is not None and not is_trusted(sources.text_hash):
        raise InputError(
            f"{sources.origin}: holds code that was never run here ({sources.entry}); read it, then add "
            "--trust-code to run it"
        )
    trust(sources.text_hash)
    return _load(sources.digest)


def own_sources(text: str) -> Sources | None:
    """Return the sources of a reference to the user's own code; None for the name of something shipped."""
    reference = parse_reference(text)
    return known(reference.digest) if reference and reference.digest else None


def as_keywords(keywords: dict[str, Any]) -> dict[str, Any]:
    """Return keyword arguments for plain data: tuples for lists, which a signature's defaults cannot be."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in keywords.items()}


@cache
def _load(digest: str) -> Callable[..., Any]:
    sources = known(digest)
    assert sources is not None
    modules = _Modules(sources)
    with named_errors(sources, "cannot be imported"):
        found = getattr(modules.module(sources.entry), sources.function, None)
    if not callable(found):
        raise InputError(f"{sources.entry}: {sources.function} is not a function")
    return found  # type: ignore[no-any-return]


@contextmanager
def named_errors(sources: Sources | None, what: str) -> Iterator[None]:
    """Turn an exception of the user's code into one line with the user's file and line.

    Args:
        sources: The sources; None for shipped code, whose exceptions pass.
        what: What failed, for the message.

    Raises:
        OwnCodeError: Instead of any exception but those of lightsweep, Ctrl-C and exhausted memory of a GPU.

    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        import torch

        if sources is None or isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
            raise
        place = line_in(error.__traceback__, sources)
        detail = str(error).strip().split("\n")[0]
        kind = type(error).__name__
        raise OwnCodeError(
            f"{place or sources.entry}: {sources.function} {what}: {kind}{f': {detail}' if detail else ''}"
        ) from error


def place_of(error: BaseException) -> str | None:
    """Return "FILE, line N" where an exception left code of the user's own; None if it never was there."""
    places = (line_in(error.__traceback__, sources) for sources in all_known())
    return next((place for place in places if place), None)


def line_in(trace: TracebackType | None, sources: Sources) -> str | None:
    """Return "FILE, line N" of the innermost frame of a traceback in the user's files, or None."""
    frames = [frame for frame in traceback.extract_tb(trace) if frame.filename in sources.files]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None


class _Modules:
    """Modules made from texts, which import one another by the same rules as files do."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.prefix = f"lightsweep_own_{sources.digest}"
        self.made: dict[str, ModuleType] = {}

    def module(self, path: str) -> ModuleType:
        """Return the module of a file, executed at the first call."""
        if path in self.made:
            return self.made[path]
        text = self.sources.files[path]
        name = f"{self.prefix}.{path.removesuffix('.py').replace('/', '.').replace('..', '_')}"
        module = ModuleType(name)
        module.__file__ = path
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._importer(path)}
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
        self.made[path] = sys.modules[name] = module  # dataclasses and torch.export look there
        try:
            exec(compile(text, path, "exec"), module.__dict__)
        except BaseException:
            del self.made[path], sys.modules[name]
            raise
        return module

    def _importer(self, importer: str) -> Callable[..., Any]:
        exists = self.sources.files.__contains__

        def import_module(
            name: str,
            globals: Mapping[str, Any] | None = None,
            locals: Mapping[str, Any] | None = None,
            fromlist: tuple[str, ...] | None = (),
            level: int = 0,
        ) -> Any:
            path = locate(name, importer, level, exists) if name or level else None
            parts = {
                each: locate(f"{name}.{each}".lstrip("."), importer, level, exists) for each in fromlist or ()
            }
            if path is None and not any(parts.values()):
                if name.partition(".")[0] == "torchvision" and not level:
                    from lightsweep.system.torchvision_import import import_torchvision

                    import_torchvision()
                return builtins.__import__(name, globals, locals, fromlist or (), level)
            found = self.module(path) if path else ModuleType(name)
            for each, part in parts.items():
                if part is not None and not hasattr(found, each):
                    setattr(found, each, self.module(part))
            return found if fromlist else self._top(name, found, importer)

        return import_module

    def _top(self, name: str, found: ModuleType, importer: str) -> ModuleType:
        """Return what `import a.b` binds: the package a, with b as its attribute."""
        for depth in range(name.count("."), 0, -1):
            parent, _, last = ".".join(name.split(".")[: depth + 1]).rpartition(".")
            path = locate(parent, importer, 0, self.sources.files.__contains__)
            package = self.module(path) if path else ModuleType(posixpath.basename(parent))
            setattr(package, last, found)
            found = package
        return found
