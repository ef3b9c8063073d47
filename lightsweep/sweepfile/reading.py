"""Read a sweep file: YAML, references to own code, and `--set` overrides."""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from lightsweep.errors import InputError, nearest
from lightsweep.owncode.archive import read_archive
from lightsweep.owncode.reference import parse_reference, without_digests
from lightsweep.owncode.sources import read_sources, sources_of
from lightsweep.sweepfile.messages import Places, describe_validation, short
from lightsweep.sweepfile.net import METHOD, PAPER_NET, ModelSpec
from lightsweep.sweepfile.sweep import Sweep

MOST_BYTES = 16 * 2**20
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep file and apply `KEY=VALUE` overrides to it, in order.

    Raises:
        InputError: The file cannot be read or parsed, or a key or value is invalid; the message is one
            line with file and line number (or the `--set`), key, value, rule and closest valid choice.

    """
    text = _read(path)
    tree = _parse(text, str(path))
    if tree is None:
        raise InputError(f"{path}: the file is empty; a sweep needs at least name and dataset")
    if not isinstance(tree, dict):
        raise InputError(f"{path}: a sweep file is a mapping of keys (name, dataset, …), not a {_kind(tree)}")
    try:
        tree = with_ranges(with_digests(tree, path.parent))
    except _AtKey as error:
        raise InputError(f"{path}, line {Places(path, text).line(error.key)}: {error}") from None
    try:
        sweep = Sweep.model_validate(tree)
    except ValidationError as error:
        raise InputError(describe_validation(error, tree, Places(path, text))) from None
    for override in overrides:
        sweep = _override(sweep, override, path.parent)
    return sweep


def dump_sweep(sweep: Sweep) -> str:
    """Return a sweep as YAML with all defaults written out; `load_sweep` reads back an equal sweep."""
    stream = StringIO()
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 100
    yaml.dump(_quoted(sweep.model_dump(mode="json")), stream)
    return stream.getvalue()


def flow_text(settings: dict[str, Any]) -> str:
    """Return settings as YAML on one line, such as {name: digits, validation: 0.2}."""
    stream = StringIO()
    yaml = YAML()
    yaml.default_flow_style = True
    yaml.width = 4096
    yaml.dump(_quoted(settings), stream)
    return stream.getvalue().strip()


def _quoted(node: Any) -> Any:
    """Return a tree with its strings quoted, except plain words, which YAML cannot misread."""
    if isinstance(node, dict):
        return {_quoted(key): _quoted(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_quoted(item) for item in node]
    if isinstance(node, str) and not _PLAIN.fullmatch(node):
        return DoubleQuotedScalarString(node)
    return node


def assign(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of a nested tree in place; address list elements by index, `name`, or `*` for all.

    Only existing keys can be set, so a misspelt key is an error and not a new setting.

    Raises:
        InputError: A part of the key does not exist; the message names the closest one that does.

    """
    *parents, last = key.split(".")
    nodes: list[tuple[str, Any]] = [("", tree)]
    for part in parents:
        nodes = [
            (f"{place}.{step}".lstrip("."), node[step])
            for place, node in nodes
            for step in _steps(place, node, part)
        ]
    for place, node in nodes:
        for step in _steps(place, node, last):
            node[step] = copy.deepcopy(value)


def with_net(model: dict[str, Any], net: Any) -> dict[str, Any]:
    """Return a model's settings with a net: the method stays; another net's keywords are its defaults.

    Raises:
        InputError: There is no such net, or its keywords need values.

    """
    if net == model["net"]:
        return model
    kept = {key: value for key, value in model.items() if key in METHOD}
    wanted = {**kept, "net": net}
    try:
        return ModelSpec.model_validate(wanted).model_dump(mode="json")
    except ValidationError as error:
        raise InputError(describe_validation(error, wanted)) from None


def _steps(place: str, node: Any, part: str) -> list[Any]:
    """Return the keys or indices of a node that one part of a dotted key addresses."""
    where = place or "the top level"
    if isinstance(node, dict):
        if part in node:
            return [part]
        raise InputError(f"unknown key {part} in {where}; {nearest(part, node)}")
    if isinstance(node, list):
        if part == "*":
            return list(range(len(node)))
        if part.isdecimal() and int(part) < len(node):
            return [int(part)]
        names = [str(item["name"]) for item in node if isinstance(item, dict) and "name" in item]
        if part in names:
            return [names.index(part)]
        choices = names or [str(index) for index in range(len(node))]
        raise InputError(f"no element {part} in {where}; {nearest(part, choices)}")
    raise InputError(f"{where} is {short(node)}, which has no key {part}")


class _AtKey(InputError):
    """An error at a key of a sweep file's content; its line is found when the message is made."""

    def __init__(self, key: tuple[Any, ...], message: str) -> None:
        super().__init__(message)
        self.key = key


def with_digests(node: Any, folder: Path, key: tuple[Any, ...] = ()) -> Any:
    """Return plain content with the digest of its sources appended to each reference to own code.

    Args:
        node: Content of a sweep file, or of a part of it.
        folder: Folder of the sweep file, or a run's folder, which keeps sources by digest.
        key: Keys and indices that lead to the node.

    Raises:
        InputError: A file that a reference names is missing, damaged, or not Python.

    """
    if isinstance(node, dict):
        return {
            with_digests(name, folder, (*key, name)): with_digests(value, folder, (*key, name))
            for name, value in node.items()
        }
    if isinstance(node, list):
        return [with_digests(value, folder, (*key, index)) for index, value in enumerate(node)]
    try:
        reference = parse_reference(node)
        if reference is None:
            return node
        if reference.digest is not None:
            read_archive(folder, reference)
            return node
        return str(replace(reference, digest=read_sources(folder, reference).digest))
    except InputError as error:
        raise _AtKey(key, str(error)) from None


def with_ranges(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a sweep's content with the range of the net's signature for each key of the space without one.

    Raises:
        InputError: The signature gives the key no range.

    """
    search, base = tree.get("search"), tree.get("base")
    if not isinstance(search, dict) or not isinstance(space := search.get("space"), dict):
        return tree
    if None not in space.values():
        return tree
    model = base.get("model") if isinstance(base, dict) else None
    net = model.get("net", PAPER_NET) if isinstance(model, dict) else PAPER_NET
    try:
        sources = sources_of(net) if isinstance(net, str) else None
    except InputError as error:
        raise _AtKey(("base", "model", "net"), f"base.model.net = {short(net)}: {error}") from None
    keywords = sources.signature.keywords if sources else {}
    found = dict(space)
    for key in (key for key, axis in space.items() if axis is None):
        parameter = keywords.get(str(key).removeprefix("model."))
        if parameter is None or parameter.range is None or parameter.kind not in ("int", "float"):
            raise _AtKey(
                ("search", "space", key),
                f"search.space.{key} = null: must be a list of choices, or a mapping with choices or with "
                "low and high; only for a keyword whose range the net's signature gives (Annotated[int, "
                f"Range(4, 64)]) may it be left out, and {without_digests(str(net))} gives none",
            )
        low, high, is_log = parameter.range.low, parameter.range.high, parameter.range.log
        numbers = (int(low), int(high)) if parameter.kind == "int" else (float(low), float(high))
        found[key] = {"low": numbers[0], "high": numbers[1], "log": is_log}
    return {**tree, "search": {**search, "space": found}}


def _override(sweep: Sweep, override: str, folder: Path) -> Sweep:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InputError(f"--set {override}: write KEY=VALUE, such as base.batch_size=128")
    if "://" in text:  # a database URL may contain a password
        override = f"{key}=…"
    try:
        value = with_digests(_parse(text, f"--set {override}"), folder)
    except InputError as error:
        raise InputError(f"--set {override}: {error}") from None
    tree = sweep.model_dump(mode="json")
    try:
        if key.startswith("grid."):
            tree["grid"] = {**(tree["grid"] or {}), key.removeprefix("grid."): value}
        else:
            if key == "base.model.net":
                tree["base"]["model"] = with_net(tree["base"]["model"], value)
            else:
                assign(tree, key, value)
        return Sweep.model_validate(tree)
    except InputError as error:
        raise InputError(f"--set {override}: {error}") from None
    except ValidationError as error:
        raise InputError(f"--set {override}: {describe_validation(error, tree)}") from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:  # may be a pipe: run <(generate)
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise InputError(f"{path}: is larger than {MOST_BYTES / 2**20:g} MiB, too large for a sweep file")
        return data.decode()
    except FileNotFoundError:
        choices = [str(p) for p in _sweep_files(path.parent)] or [
            str(p) for p in _sweep_files(Path("sweeps"))
        ]
        hint = f"; {nearest(path, choices)}" if choices else ""
        raise InputError(f"{path}: no such sweep file{hint}") from None
    except IsADirectoryError:
        held = [str(p) for p in _sweep_files(path)]
        hint = f"; did you mean {held[0]}?" if held else ""
        raise InputError(f"{path}: is a folder, not a sweep file{hint}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _sweep_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*.y*ml")) if path.is_file())


def _parse(text: str, place: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        raise InputError(f"{place}{at}: not valid YAML: {problem}") from None
    except RecursionError:
        raise InputError(f"{place}: not valid YAML: nested too deeply") from None
    except (YAMLError, ValueError) as error:
        raise InputError(f"{place}: not valid YAML: {' '.join(str(error).split())}") from None


def _kind(value: Any) -> str:
    return "list" if isinstance(value, list) else "text" if isinstance(value, str) else "single value"
