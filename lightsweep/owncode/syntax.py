"""The part of a syntax tree that decides what code does: no comments, docstrings or error messages."""

import ast
from typing import Any


def plain(node: Any) -> Any:
    """Return the relevant part of a syntax tree as nested lists, equal for all Python versions."""
    if isinstance(node, list):
        return [plain(part) for part in node if not is_text(part)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        fields["exc"] = node.exc.func
    kept = [[name, plain(value)] for name, value in fields.items() if value is not None and value != []]
    return [type(node).__name__, *kept]


def is_text(node: Any) -> bool:
    """Return whether a statement is only a string: a docstring of a module, class, function or field."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def is_for_types(node: ast.stmt) -> bool:
    """Return whether a statement is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
