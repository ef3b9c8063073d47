"""Sources of a function: its file and the local modules that it imports, with a digest of what they do.

The digest covers syntax trees without comments, docstrings and error messages, and no names of files or of
the function itself. So editing a file, or a local module that it imports, is new work; renaming or moving the
file is not. Other packages enter a stage's key by their versions.
"""

import ast
import hashlib
import posixpath
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from lightsweep.errors import InputError, nearest
from lightsweep.owncode.reference import Reference, parse_reference, references_in
from lightsweep.owncode.signature import Signature, parse_source, read_signature
from lightsweep.owncode.syntax import is_for_types, is_text, plain

ZOO = Path(__file__).parents[1] / "zoo"
"""Folder of the shipped nets, each a file of the contract that a user's net fulfils."""
_ZOO = "lightsweep/zoo/"
_BRINGS = {"lightsweep.system.torchvision_import": "torchvision"}
MOST_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Sources:
    """A function's sources."""

    files: Mapping[str, str]
    """Text of each file by path: the function's file, and the local modules that it imports."""
    entry: str
    """Path of the function's file."""
    function: str
    """Name of the function."""
    digest: str
    """First 16 hexadecimal digits of the hash of what they do."""
    packages: tuple[str, ...]
    """Other packages that they import, by import name, sorted."""
    origin: str | None = None
    """File of a run's folder that they were read from; None if the user named the file itself."""

    @property
    def signature(self) -> Signature:
        """Signature of the function."""
        found = read_signature(self.files[self.entry], self.function, self.entry)
        shipped = self.entry.removeprefix(_ZOO).removesuffix(".py").replace("_", "-")
        called = shipped if self.entry.startswith(_ZOO) else f"{self.entry}:{self.function}"
        return replace(found, called=called)

    @property
    def text_hash(self) -> str:
        """SHA-256 of the exact texts, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for path, text in sorted(self.files.items()):
            digest.update(f"{path}\0{text}\0".encode())
        return digest.hexdigest()


_KNOWN: dict[str, Sources] = {}
"""Sources by digest: content, so a process may know those of any number of sweeps."""


def know(sources: Sources) -> Sources:
    """Keep sources for `sources_of`; those known already stay, since they do the same."""
    kept = _KNOWN.get(sources.digest)
    if kept is None or (kept.origin and not sources.origin):
        _KNOWN[sources.digest] = kept = sources
    return kept


def known(digest: str) -> Sources | None:
    """Return sources by their digest, or None if they were not read in this process."""
    return _KNOWN.get(digest)


def all_known() -> tuple[Sources, ...]:
    """Return all sources of the user's own code that were read in this process."""
    return tuple(_KNOWN.values())


def sources_in(content: Any) -> tuple[Sources, ...]:
    """Return the sources of all references in plain content that are known here, in a fixed order."""
    digests = sorted({each.digest for each in references_in(content) if each.digest})
    return tuple(_KNOWN[digest] for digest in digests if digest in _KNOWN)


def read_sources(folder: Path, reference: Reference) -> Sources:
    """Read and keep the sources of a reference of a sweep file.

    Args:
        folder: Folder of the sweep file.
        reference: The reference; its digest is not looked at.

    Raises:
        InputError: A file is missing or is not valid Python, or does not define the function.

    """
    path = posixpath.normpath(reference.file.replace("\\", "/"))
    if not (folder / path).is_file():
        beside = sorted(each.name for each in (folder / path).parent.glob("*.py"))
        hint = f"; {nearest(posixpath.basename(path), beside)}" if beside else ""
        raise InputError(f"{reference.file}: no such file in {folder.absolute()}{hint}")
    return know(sources_from(lambda name: _read(folder / name), path, reference.function))


@cache
def shipped_sources(name: str) -> Sources:
    """Return the sources of a shipped net, such as mobilenet-v2.

    Raises:
        InputError: No net of this name is shipped.

    """
    if name not in shipped_nets():
        raise InputError(f"must be a shipped net or FILE.py:function; {nearest(name, shipped_nets())}")
    return sources_from(lambda path: None, f"{_ZOO}{name.replace('-', '_')}.py", "build")


@cache
def shipped_nets() -> tuple[str, ...]:
    """Return the names of the shipped nets."""
    return tuple(sorted(file.stem.replace("_", "-") for file in ZOO.glob("[!_]*.py")))


def sources_of(text: str) -> Sources | None:
    """Return the sources of a net's name or of a reference; None for a reference that was never read.

    Raises:
        InputError: It is neither the name of a shipped net nor a reference.

    """
    reference = parse_reference(text)
    if reference is None:
        return shipped_sources(text)
    return known(reference.digest) if reference.digest else None


def sources_from(
    read: Callable[[str], str | None], entry: str, function: str, origin: str | None = None
) -> Sources:
    """Return the sources of a function.

    Args:
        read: Returns the text of a file by its path, or None if there is none.
        entry: Path of the function's file.
        function: Name of the function.
        origin: File that `read` reads from (`Sources.origin`).

    Raises:
        InputError: A file is not valid Python, or the function is not defined.

    """
    walk = _Walk(read, entry, function)
    found = walk.digest(entry, ())
    sources = Sources(walk.files, entry, function, found[:16], tuple(sorted(walk.packages)), origin)
    read_signature(sources.files[entry], function, entry)
    return sources


def locate(name: str, importer: str, level: int, exists: Callable[[str], bool]) -> str | None:
    """Return the path of the local module that an import names, or None if it is not local.

    Args:
        name: Dotted name of the module; may be empty in a relative import.
        importer: Path of the file with the import.
        level: Number of leading dots.
        exists: Returns whether there is a file of a path.

    """
    here = posixpath.dirname(importer)
    above = posixpath.normpath(posixpath.join(here, *[".."] * (level - 1)))
    folders = [above] if level else [here, ""]
    for folder in folders:
        base = posixpath.normpath(posixpath.join(folder, *name.split("."))) if name else folder
        for path in (f"{base}.py", posixpath.join(base, "__init__.py")):
            if exists(path) and path != importer:
                return path.removeprefix("./")
    return None


class _Walk:
    """Collects the files that a file imports, and digests them."""

    def __init__(self, read: Callable[[str], str | None], entry: str, function: str) -> None:
        self.read, self.entry, self.function = read, entry, function
        self.files: dict[str, str] = {}
        self.packages: set[str] = set()
        self._missing: set[str] = set()
        self._digests: dict[str, str] = {}

    def digest(self, path: str, importers: tuple[str, ...]) -> str:
        """Return the digest of a file and of the local modules that it imports."""
        if path in importers:  # a cycle
            return f"cycle {len(importers) - importers.index(path)}"
        if path not in self._digests:
            tree = parse_source(self._text(path), path)
            local = _Local(self, path, (*importers, path))
            body = [part for part in tree.body if not is_text(part) and not is_for_types(part)]
            statements = [repr(plain(local.visit(part))) for part in body]
            found = hashlib.sha256("\n".join(statements).encode()).hexdigest()
            if importers:
                return found  # not kept: within a cycle it depends on where the walk came in
            self._digests[path] = found
        return self._digests[path]

    def exists(self, path: str) -> bool:
        if path in self._missing:
            return False
        if path not in self.files:
            text = self.read(path)
            if text is None and path.startswith(_ZOO):
                text = _read(ZOO / path.removeprefix(_ZOO))
            if text is None:
                self._missing.add(path)
                return False
            self.files[path] = text
        return True

    def _text(self, path: str) -> str:
        if not self.exists(path):
            raise InputError(f"{path}: no such file")
        return self.files[path]


class _Local(ast.NodeTransformer):
    """Replaces local modules by their digests in imports, and the function's own name by a fixed one."""

    def __init__(self, walk: _Walk, path: str, importers: tuple[str, ...]) -> None:
        self.walk, self.path, self.importers = walk, path, importers

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        names = [*_targets(node.module or "", (alias.name for alias in node.names), self._locate, node.level)]
        if names:
            digests = " ".join(sorted({self.walk.digest(path, self.importers) for path in names}))
            return ast.ImportFrom(digests, node.names, 0)
        return ast.ImportFrom(self._outside(node.module or ""), node.names, 0)

    def visit_Import(self, node: ast.Import) -> ast.AST:
        aliases = []
        for alias in node.names:
            path = self._locate(alias.name, 0)
            extra = f" {self.walk.digest(path, self.importers)}" if path else ""
            aliases.append(
                ast.alias((alias.name if extra else self._outside(alias.name)) + extra, alias.asname)
            )
        return ast.Import(aliases)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = self._own(node.name)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self._own(node.name)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._own(node.id)
        return node

    def _own(self, name: str) -> str:
        return "the function" if self.path == self.walk.entry and name == self.walk.function else name

    def _locate(self, name: str, level: int) -> str | None:
        return locate(name, self.path, level, self.walk.exists)

    def _outside(self, module: str) -> str:
        """Note a package that is not local; what a version of lightsweep decides is in a key anyway."""
        top = module.partition(".")[0]
        if top == "lightsweep":
            if module in _BRINGS:
                self.walk.packages.add(_BRINGS[module])
            return top
        if top and top not in sys.stdlib_module_names:
            self.walk.packages.add(top)
        return module


def _targets(
    module: str, names: Iterator[str], find: Callable[[str, int], str | None], level: int
) -> Iterator[str]:
    """Yield the local files that `from module import names` reads."""
    whole = find(module, level) if module or level else None
    if whole is not None:
        yield whole
    for name in names:
        part = find(f"{module}.{name}".lstrip("."), level)
        if part is not None:
            yield part


def _read(path: Path) -> str | None:
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: is larger than {MOST_BYTES // 2**20} MiB, too large for a source")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
