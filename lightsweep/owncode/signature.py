"""Signature of a function, read from its source without running it: keyword-only parameters are the keys."""

import ast
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import Field, TypeAdapter, ValidationError

from lightsweep.errors import InputError
from lightsweep.owncode.ranges import Range

_SCALARS: dict[str, Any] = {
    "int": Annotated[int, Field(strict=True)],
    "float": Annotated[float, Field(allow_inf_nan=False)],
    "bool": Annotated[bool, Field(strict=True)],
    "str": Annotated[str, Field(strict=True)],
    "None": None,
    "Any": Any,
}
_GENERICS: dict[str, Any] = {
    "tuple": tuple, "list": list, "Sequence": list, "dict": dict, "Mapping": dict,
    "Optional": Optional, "Union": Union, "Literal": Literal,
}  # fmt: skip


class KeywordError(ValueError):
    """A value does not fit a parameter's annotation."""

    def __init__(self, rule: str, index: int | None = None) -> None:
        super().__init__(rule)
        self.index = index
        """Place in the list that the value is; None if it is no list."""


@dataclass(frozen=True)
class Parameter:
    """A keyword-only parameter of a function."""

    name: str
    adapter: TypeAdapter[Any]
    """Validates a value from a sweep file."""
    words: str
    """The annotation as written; empty without one."""
    range: Range | None
    """Its valid values, if the annotation says them."""
    is_required: bool
    """Whether the parameter has no default."""
    default: Any = None
    """The default, if it is plain data."""
    has_plain_default: bool = False
    """Whether `default` is known without running the code."""
    kind: str = ""
    """int, float, list of int or float (`ints`, `floats`), or empty for other annotations."""

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of its values."""
        found = self.adapter.json_schema()
        if self.range:
            limits = {"minimum": self.range.low, "maximum": self.range.high}
            if found.get("type") == "array":
                found["items"] = {**found.get("items", {}), **limits}
            else:
                found |= limits
        return {**found, "default": self.default} if self.has_plain_default else found

    def check(self, value: Any) -> Any:
        """Return a value as plain data, lists for tuples.

        Raises:
            KeywordError: The value does not fit the annotation; the message is the rule.

        """
        try:
            if isinstance(value, bool) and self.kind == "float":
                raise KeywordError("must be a valid number")
            found = self.adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            index = next((part for part in first["loc"] if isinstance(part, int)), None)
            rule = (first["msg"][0].lower() + first["msg"][1:]).replace("input should", "must")
            raise KeywordError(rule.partition(", unable to")[0], index) from None
        is_list = isinstance(found, list | tuple)
        for index, each in enumerate(found if is_list else [found]):
            if self.range and isinstance(each, int | float) and not self.range.low <= each <= self.range.high:
                rule = f"must be from {self.range.low:g} to {self.range.high:g}"
                raise KeywordError(rule, index if is_list else None)
        return TypeAdapter(Any).dump_python(found, mode="json")


@dataclass(frozen=True)
class Signature:
    """A function's parameters."""

    name: str
    positional: tuple[str, ...]
    """Names of the positional parameters."""
    keywords: dict[str, Parameter] = field(default_factory=dict)
    """Keyword-only parameters by name."""
    needed: int = 0
    """Number of the positional parameters without a default."""
    takes_any: bool = False
    """Whether it takes any number of positional arguments, by `*arguments`."""
    line: int = 0
    """Line of the definition, from 1."""
    called: str = ""
    """Name of the function in a message: FILE.py:function, or a shipped net's name."""


@lru_cache(maxsize=256)
def read_signature(text: str, function: str, file: str) -> Signature:
    """Return the signature of a function, or of a class's `__init__`, at the top level of a source.

    Raises:
        InputError: The source is not valid Python, does not define the function, or takes `**keywords`,
            whose names could not be checked.

    """
    tree = parse_source(text, file)
    defined = {node.name: node for node in tree.body if isinstance(node, _DEFINITIONS)}
    found = defined.get(function)
    if found is None:
        from lightsweep.errors import nearest

        hint = f"; {nearest(function, defined)}" if defined else ""
        raise InputError(f"{file}: defines no function {function} at its top level{hint}")
    line, is_method = found.lineno, isinstance(found, ast.ClassDef)
    if isinstance(found, ast.ClassDef):
        made = [n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if not made:
            return Signature(function, (), {}, takes_any=True, line=line)
        found = made[0]
    arguments = found.args
    if arguments.kwarg is not None:
        raise InputError(
            f"{file}, line {line}: {function} takes **{arguments.kwarg.arg}, whose keys cannot be checked; "
            "name each keyword"
        )
    positional = tuple(each.arg for each in (*arguments.posonlyargs, *arguments.args))[is_method:]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    keywords = {each.arg: _parameter(each, default, file) for each, default in pairs}
    needed = max(len(positional) - len(arguments.defaults), 0)
    return Signature(function, positional, keywords, needed, arguments.vararg is not None, line)


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def parse_source(text: str, file: str) -> ast.Module:
    """Return the syntax tree of a source.

    Raises:
        InputError: It is not valid Python; the message has file and line.

    """
    try:
        return ast.parse(text, file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        words = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise InputError(f"{file}{line}: not valid Python: {words}") from None


def _parameter(argument: ast.arg, default: ast.expr | None, file: str) -> Parameter:
    limits: list[Range] = []
    annotation, words = Any, ""
    if argument.annotation is not None:
        words = ast.unparse(argument.annotation)
        try:
            annotation = _type(argument.annotation, limits)
        except _UnknownTypeError:
            annotation = Any
        except (ValueError, TypeError) as error:
            raise InputError(f"{file}, line {argument.lineno}: {argument.arg}: {words}: {error}") from None
    value, has_plain = None, False
    if default is not None:
        with suppress(ValueError):
            value, has_plain = _as_lists(ast.literal_eval(default)), True
    return Parameter(
        argument.arg, TypeAdapter(annotation), words, limits[0] if limits else None, default is None,
        value, has_plain, _kind(argument.annotation),
    )  # fmt: skip


def _as_lists(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_lists(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _as_lists(each) for key, each in value.items()}
    return value


class _UnknownTypeError(Exception):
    """An annotation is not made of the types that a sweep file can express."""


def _type(node: ast.expr, limits: list[Range]) -> Any:
    """Return the type that an annotation means, and append the ranges in it."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(text)):
            return _type(ast.parse(text, mode="eval").body, limits)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            if name in _SCALARS:
                return _SCALARS[name]
            if name in ("tuple", "list", "dict", "Sequence", "Mapping"):
                return _GENERICS[name]
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return Union[_type(left, limits), _type(right, limits)]  # noqa: UP007
        case ast.Subscript(
            value=ast.Name(id="Annotated") | ast.Attribute(attr="Annotated"), slice=ast.Tuple(elts)
        ):
            for extra in elts[1:]:
                limits.extend(_range(extra))
            return _type(elts[0], limits)
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inside) if (
            name in _GENERICS
        ):
            parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            if name == "Literal":
                return Literal[tuple(ast.literal_eval(part) for part in parts)]
            types = [... if _is_dots(part) else _type(part, limits) for part in parts]
            return _GENERICS[name][tuple(types) if len(types) > 1 else types[0]]
    raise _UnknownTypeError


def _is_dots(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _range(node: ast.expr) -> Iterable[Range]:
    match node:
        case ast.Call(func=ast.Name(id="Range") | ast.Attribute(attr="Range"), args=args, keywords=keywords):
            found = Range(
                *(ast.literal_eval(arg) for arg in args),
                **{str(each.arg): ast.literal_eval(each.value) for each in keywords},
            )
            if not found.low <= found.high or (found.log and found.low <= 0):
                raise ValueError("a Range needs low ≤ high, and low > 0 if log")
            yield found


def _kind(node: ast.expr | None) -> str:
    """Return the kind of number that an annotation is of (`Parameter.kind`)."""
    match node:
        case ast.Name(id=("int" | "float") as name):
            return name
        case ast.Subscript(
            value=ast.Name(id="Annotated") | ast.Attribute(attr="Annotated"), slice=ast.Tuple(elts)
        ):
            return _kind(elts[0])
        case ast.Subscript(value=ast.Name(id="tuple" | "list" | "Sequence"), slice=inside):
            first = inside.elts[0] if isinstance(inside, ast.Tuple) else inside
            return {"int": "ints", "float": "floats"}.get(_kind(first), "")
    return ""
