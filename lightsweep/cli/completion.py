"""Completion of `--set` in the shell: the keys of the sweep file, each with its present value."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from lightsweep.errors import InputError

_NEED_QUOTES = " \t\n'\"`$\\&;|<>()"  # what a shell would take for its own


def complete_override(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return `KEY=VALUE` of each key of the sweep file, net keywords of the user's own included."""
    from lightsweep.owncode.reference import without_digests
    from lightsweep.sweepfile.reading import load_sweep

    words = [*context.args, context.params.get("sweep_file")]  # click leaves words before --set in args
    try:
        tree = load_sweep(Path(words[0] or "")).model_dump(mode="json")
    except InputError:
        return []
    settings = (f"{key}={without_digests(_shown(value))}" for key, value in _leaves(tree))
    return [
        CompletionItem(setting)
        for setting in settings
        if setting.startswith(incomplete) and not any(sign in setting for sign in _NEED_QUOTES)
    ]


def _leaves(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of whatever `--set` can change that is no mapping."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            if "." not in str(key):  # such as a grid's base keys, whose dots would be taken for levels
                yield from _leaves(value, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list) and any(isinstance(item, dict | list) for item in node):
        for index, item in enumerate(node):
            name = item.get("name", index) if isinstance(item, dict) else index
            yield from _leaves(item, f"{place}.{name}")
    else:
        yield place, node


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
