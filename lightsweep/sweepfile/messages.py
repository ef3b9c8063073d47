"""One-line messages for what is wrong in a sweep file: place, key, value, rule, nearest choice."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML

from lightsweep.echo import masked
from lightsweep.owncode.reference import without_digests
from lightsweep.sweepfile.net import PAPER_NET

_MAY_BE_OWN = ("augmentation", "loss", "optimizer", "schedule")
"""Keys whose value is one of some names, or a function of the user's own."""


class Places:
    """Line numbers of the keys in a YAML text, parsed only when there is an error to report."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.root = YAML(typ="rt").load(text)

    def line(self, key: Sequence[Any]) -> int:
        """Return the line of a key, given by the keys and indices that lead to it, from 1."""
        node: Any = self.root
        line = 1
        for part in key:
            is_mapping = isinstance(node, dict)
            try:
                line = (node.lc.key(part) if is_mapping else node.lc.item(part))[0] + 1
                node = node[part]
            except (AttributeError, KeyError, IndexError, TypeError):
                break  # a missing key gets its parent's line
        return line


def describe_validation(error: ValidationError, tree: Any, places: Places | None = None) -> str:
    """Return the most informative validation error as one line: key, value, rule, closest choice.

    Args:
        error: What pydantic found.
        tree: The content that was validated.
        places: Where the keys stand in a file; None to name no line.

    """
    first, *others = error.errors(include_url=False)
    key, value = _locate(first, tree)
    deeper = [other for other in others if len(_locate(other, tree)[0]) > len(key)]
    if first["type"].endswith("_type") and deeper and _locate(deeper[0], tree)[0][: len(key)] == key:
        first = deeper[0]  # the union branch that got further into a list or mapping tells more
        key, value = _locate(first, tree)
        others = [other for other in others if other is not first]
    if first["type"].endswith("_type"):  # likewise the branch whose type matches
        branches = (other for other in others if _locate(other, tree)[0] == key)
        first = next((other for other in branches if not other["type"].endswith("_type")), first)
    rule = _rule(first)
    is_whole = first["type"] in ("missing", "unknown_key") or isinstance(value, dict)
    shown = f" = {short(value)}" if key and not is_whole else ""
    message = f"{'.'.join(str(part) for part in key) or 'the file'}{shown}: {rule}"
    return f"{places.path}, line {places.line(key)}: {message}" if places else message


def _locate(error: ErrorDetails, tree: Any) -> tuple[list[Any], Any]:
    """Return an error's key in the tree (without union branch names) and the value there."""
    key: list[Any] = []
    node = tree
    for part in error["loc"]:
        if (isinstance(node, dict) and part in node) or (isinstance(node, list) and isinstance(part, int)):
            node = node[part]  # type: ignore[index]
            key.append(part)
    if error["type"] == "missing":
        key.append(error["loc"][-1])
    if error["type"] == "unknown_key":
        key.append(error["ctx"]["key"])
    if error["type"] == "keyword":
        key.append(error["ctx"]["key"])
        node = node.get(key[-1], PAPER_NET) if isinstance(node, dict) else node
        if error["ctx"]["index"] is not None:
            key.append(error["ctx"]["index"])
            node = node[key[-1]]
    return key, node


def _rule(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        match = difflib.get_close_matches(str(error["input"]), choices, n=1)
        hint = f"; did you mean {match[0]}?" if match else ""
        own = ", FILE.py:function" if error["loc"][-2:-1] and error["loc"][-2] in _MAY_BE_OWN else ""
        return f"must be one of {', '.join(choices)}{own}{hint}"
    if kind == "missing":
        return "this key is missing"
    if kind in ("unknown_key", "rule", "keyword"):
        return error["msg"].replace("unknown key: ", "unknown key; ")
    if kind in ("model_type", "dict_type"):
        return "must be a mapping of keys"
    if kind == "too_short":
        return f"must have at least {context['min_length']} item"
    rule = error["msg"].replace("Input should be a valid", "must be a valid")
    return rule.replace("Input should", "must").replace("tuple", "list").replace("Tuple", "the list")


def short(value: Any) -> str:
    """Return a value as it is shown in a message: as YAML writes it, cut at 60 characters."""
    if isinstance(value, bool | None):
        return {None: "null", True: "true", False: "false"}[value]
    text = without_digests(masked(repr(value)))
    return text if len(text) <= 60 else text[:57] + "…"
