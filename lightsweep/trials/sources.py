"""Fingerprint of the code that determines a stage's result, and versions of its libraries.

The code is `training.chain` and all lightsweep modules that it imports, except those in `_DECIDES_NOTHING`.
The fingerprint covers the set of their top-level statements as syntax trees, without comments, docstrings and
error messages, and regardless of file names. So moving a file, or moving a definition from one of these files
to another, does not change it.
"""

import ast
import hashlib
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from lightsweep.owncode.sources import sources_of
from lightsweep.owncode.syntax import is_for_types, is_text, plain

ROOT = "lightsweep.training.chain"
_DECIDES_NOTHING = {
    "lightsweep.sweepfile.dataset": "the data's fingerprint and the settings of the split are in the key",
    "lightsweep.errors": "only reports errors",
    "lightsweep.trials.sources": "this file; another rule gives another hash anyway",
    "lightsweep.training.stagecheck": "only validates what is stored",
    "lightsweep.store.stagefile": "each stage file has its own format version",
    "lightsweep.store.claims": "stores results unchanged",
    "lightsweep.store.folder": "stores results unchanged",
    "lightsweep.owncode.trust": "only refuses to run code",
    "lightsweep.system.torchvision_import": "only makes an import succeed",
}
PACKAGE = ROOT.partition(".")[0]
PACKAGE_FOLDER = Path(__file__).parents[2]
"""Folder from which this lightsweep package is imported."""
WORKER = "lightsweep.distributed.worker"


@cache
def training_sources() -> dict[str, str]:
    """Return the source of each module here that determines results, by module name."""
    return read_sources(Path(__file__).parents[1])


@cache
def source_fingerprint() -> str:
    """Return `fingerprint_of` the modules here that determine results."""
    return fingerprint_of(training_sources().values())


def read_sources(
    package: Path, root: str = ROOT, without: Collection[str] = _DECIDES_NOTHING
) -> dict[str, str]:
    """Return the source of each module of a package that determines results, sorted by module name.

    Args:
        package: Folder of a lightsweep package, not necessarily this one.
        root: Module to start from; all its imports are included.
        without: Modules to exclude, with what only they import.

    """
    found: dict[str, str] = {}
    left = [root]
    while left:
        name = left.pop()
        file = _file_of(name, package)
        if file is not None and name not in found and name not in without:
            found[name] = file.read_text(encoding="utf-8")
            left += _imports(ast.parse(found[name]))
    return dict(sorted(found.items()))


def fingerprint_of(texts: Iterable[str]) -> str:
    """Return the SHA-256 of the statements in source files, regardless of file names, as 64 hex digits."""
    statements = {repr(plain(part)) for text in texts for part in _statements(ast.parse(text))}
    digests = sorted(hashlib.sha256(statement.encode()).hexdigest() for statement in statements)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@cache
def training_code() -> dict[str, str]:
    """Return what determines results besides the settings: source fingerprint and library versions.

    A net and what it imports are not included; `keys.stage_keys` adds them by `own_code`.
    """
    packages = ("torch", "numpy", "scikit-learn")
    return {"source": source_fingerprint(), **{package: version_of(package) for package in packages}}


def own_code(text: str) -> dict[str, str]:
    """Return what code decides results, for a shipped net's name or a reference: its digest and packages.

    Raises:
        InputError: A package that the code imports is not installed.

    """
    sources = sources_of(text)
    assert sources is not None  # read with the sweep file
    return {"digest": sources.digest, **{name: version_of(name) for name in sources.packages}}


@cache
def worker_code() -> dict[str, str]:
    """Return what a worker runs: `training_code`, plus the worker code's fingerprint and folder."""
    texts = read_sources(Path(__file__).parents[1], WORKER, without=())
    return {**training_code(), "worker": fingerprint_of(texts.values()), "folder": str(PACKAGE_FOLDER)}


@cache
def version_of(package: str) -> str:
    """Return an installed package's version without its build tag, since a head node may lack CUDA."""
    try:
        found = version(package)
    except PackageNotFoundError:  # imported under another name than it is installed by
        named = packages_distributions().get(package)
        if not named:
            return "none"
        found = version(named[0])
    return found.partition("+")[0]


def _file_of(module: str, package: Path) -> Path | None:
    """Return a module's file, or None for a name that is not a module of the package."""
    path = package.joinpath(*module.split(".")[1:])
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a file imports from this package, at any depth: modules and their members."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if _is_ours(name) and name != PACKAGE)


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the top-level statements that count; an import is yielded once per name that it binds."""
    for part in tree.body:
        if isinstance(part, ast.Import):
            yield from (ast.Import([alias]) for alias in part.names)
        elif isinstance(part, ast.ImportFrom):
            ours = _is_ours(part.module or "")
            kept = [alias for alias in part.names if alias.asname or not ours]
            yield from (ast.ImportFrom(part.module, [alias], part.level) for alias in kept)
        elif not is_text(part) and not is_for_types(part):
            yield part


def _is_ours(module: str) -> bool:
    return module == PACKAGE or module.startswith(f"{PACKAGE}.")
