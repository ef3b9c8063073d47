"""The code that decides a stage's result: which files, what of them counts, and with which libraries.

That is `pipeline` and all of lightsweep that it imports, except what is named in `_DECIDES_NOTHING`. What
counts of the files is the set of their top-level statements as syntax trees: no comments, docstrings or error
messages, and neither the name of a file nor which file a definition is in. So moving a file, or a definition
from one of these files to another, changes nothing.
"""

import ast
import hashlib
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = "lightsweep.training.chain"
_DECIDES_NOTHING = {
    "lightsweep.sweepfile.dataset": "the data's fingerprint and the settings of the split are in the key",
    "lightsweep.errors": "says what is wrong",
    "lightsweep.trials.sources": "this file: another rule gives another hash",
    "lightsweep.training.stagecheck": "refuses what is stored, and makes nothing",
    "lightsweep.store.stagefile": "has a version of its own in each file",
    "lightsweep.store.claims": "keeps results as they are",
    "lightsweep.store.folder": "keeps results as they are",
    "lightsweep.data.torchvision_import": "brings torchvision here as it is",
}
PACKAGE = ROOT.partition(".")[0]
PACKAGE_FOLDER = Path(__file__).parents[2]
"""In which `import lightsweep` found this one."""
WORKER = "lightsweep.distributed.worker"


@cache
def training_sources() -> dict[str, str]:
    """Return the text of each file that decides results here, by its module's name."""
    return read_sources(Path(__file__).parents[1])


@cache
def source_fingerprint() -> str:
    """Return what `fingerprint_of` says of the files that decide results here."""
    return fingerprint_of(training_sources().values())


def read_sources(
    package: Path, root: str = ROOT, without: Collection[str] = _DECIDES_NOTHING
) -> dict[str, str]:
    """Return the text of each file of a package that decides results, by its module's name, in order.

    Args:
        package: The folder `lightsweep`, here or anywhere else.
        root: The module that counts, with all that it imports.
        without: Modules that do not count.

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
    """Return the SHA-256 of what counts of files, whatever they are called: 64 hexadecimal digits."""
    statements = {repr(_plain(part)) for text in texts for part in _statements(ast.parse(text))}
    digests = sorted(hashlib.sha256(statement.encode()).hexdigest() for statement in statements)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@cache
def training_code() -> dict[str, str]:
    """Return what decides results beside the settings: the source's fingerprint, and the libraries' versions.

    torchvision is not in it: `version_of` is for the nets that come from there.
    """
    packages = ("torch", "numpy", "scikit-learn")
    return {"source": source_fingerprint(), **{package: version_of(package) for package in packages}}


@cache
def worker_code() -> dict[str, str]:
    """Return what a worker runs: `training_code`, and fingerprint and place of what its module imports."""
    texts = read_sources(Path(__file__).parents[1], WORKER, without=())
    return {**training_code(), "worker": fingerprint_of(texts.values()), "folder": str(PACKAGE_FOLDER)}


@cache
def version_of(package: str) -> str:
    """Return an installed package's version, without what it was built for: a cluster's head has no CUDA."""
    return version(package).partition("+")[0]


def _file_of(module: str, package: Path) -> Path | None:
    """Return a module's file; None for what is no module of the package."""
    path = package.joinpath(*module.split(".")[1:])
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _imports(tree: ast.AST) -> Iterator[str]:
    """Name what a file imports of this package, wherever in it: modules, and what is in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if _is_ours(name) and name != PACKAGE)


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the top-level statements that count; an import once for each name that it binds."""
    for part in tree.body:
        if isinstance(part, ast.Import):
            yield from (ast.Import([alias]) for alias in part.names)
        elif isinstance(part, ast.ImportFrom):
            ours = _is_ours(part.module or "")
            kept = [alias for alias in part.names if alias.asname or not ours]
            yield from (ast.ImportFrom(part.module, [alias], part.level) for alias in kept)
        elif not _is_text(part) and not _is_for_types(part):
            yield part


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _is_ours(module: str) -> bool:
    return module == PACKAGE or module.startswith(f"{PACKAGE}.")


def _plain(node: Any) -> Any:
    """Return what counts of a syntax tree as nested lists, the same for each version of Python."""
    if isinstance(node, list):
        return [_plain(part) for part in node if not _is_text(part)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
        fields["module"] = PACKAGE
    elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        fields["exc"] = node.exc.func
    kept = [[name, _plain(value)] for name, value in fields.items() if value is not None and value != []]
    return [type(node).__name__, *kept]


def _is_text(node: Any) -> bool:
    """Whether a statement is a string alone: a docstring, be it of a module, class, function or field."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
