"""From a search space to configurations: what a sampler is asked, and the changes that its answers are.

Optuna samples numbers and plain values, one name at a time. So a list (model.filters) is its length and an
element for each place, a choice that is a list or a mapping goes by its JSON text, and a key whose condition
does not hold is not asked at all.
"""

from collections.abc import Callable, Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from lightsweep.searchspec import Axis
from lightsweep.spec import InputError, canonical_json

Suggest = Callable[[str, BaseDistribution], Any]
"""Name of a parameter and its distribution -> its value."""


def choose(space: Mapping[str, Axis], base: Mapping[str, Any], suggest: Suggest) -> dict[str, Any]:
    """Return changes to base, a key and value for each axis whose condition holds.

    Args:
        space: The axes, each after those that its condition names.
        base: Base's settings as a tree of plain values, for conditions on what is no axis.
        suggest: Chooses a parameter's value.

    """
    chosen: dict[str, Any] = {}
    for key, axis in space.items():
        if not _applies(axis, chosen, base):
            continue
        if axis.length is None:
            chosen[key] = _decode(axis, suggest(key, _distribution(axis)))
        else:
            least, greatest = axis.length
            count = suggest(f"{key}.length", IntDistribution(least, greatest)) if least < greatest else least
            chosen[key] = [
                _decode(axis, suggest(f"{key}.{place}", _distribution(axis))) for place in range(count)
            ]
    return chosen


def parameters_of(
    space: Mapping[str, Axis], base: Mapping[str, Any], changes: Mapping[str, Any], place: str
) -> dict[str, Any]:
    """Return the parameters with which `choose` gives a known configuration: base with changes.

    Raises:
        InputError: The space does not hold it; the message begins with `place`.

    """
    found: dict[str, Any] = {}

    def suggest(name: str, distribution: BaseDistribution) -> Any:
        key = next(key for key in sorted(space, key=len, reverse=True) if f"{name}.".startswith(f"{key}."))
        value, _, part = changes.get(key, _lookup(base, key)), *name[len(key) :].partition(".")[1:]
        axis = space[key]
        if axis.length is not None:
            if not isinstance(value, list) or not axis.length[0] <= len(value) <= axis.length[1]:
                raise InputError(
                    f"{place}: {key} = {_text(value)}: the space has lists of {axis.length[0]} to "
                    f"{axis.length[1]} elements"
                )
            value = len(value) if part == "length" else value[int(part)]
        if axis.choices is not None and part != "length":
            value = _encode(value)
        if not _holds(distribution, value):
            raise InputError(f"{place}: {key} = {_text(value)}: the space has {_describe(axis)}")
        found[name] = value
        return value

    chosen = choose(space, base, suggest)
    for key in changes:
        if key not in chosen:
            raise InputError(f"{place}: {key}: its condition ({_text(space[key].when)}) does not hold here")
    return found


def _applies(axis: Axis, chosen: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
    for key, allowed in (axis.when or {}).items():
        value = chosen[key] if key in chosen else _lookup(base, key)
        if canonical_json(value) not in {canonical_json(one) for one in allowed}:
            return False
    return True


def _lookup(tree: Any, key: str) -> Any:
    """Return a dotted key's value in a tree of plain values, elements of lists by their name or place."""
    for part in key.split("."):
        if isinstance(tree, list):
            named = [item for item in tree if isinstance(item, dict) and item.get("name") == part]
            tree = (
                named[0] if named else tree[int(part)] if part.isdecimal() and int(part) < len(tree) else None
            )
        else:
            tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.choices is not None:
        return CategoricalDistribution([_encode(choice) for choice in axis.choices])
    assert axis.low is not None  # the axis was validated
    assert axis.high is not None
    if axis.is_whole:
        return IntDistribution(int(axis.low), int(axis.high), axis.log, int(axis.step or 1))
    return FloatDistribution(float(axis.low), float(axis.high), axis.log, axis.step)


def _encode(choice: Any) -> Any:
    return (
        choice if choice is None or isinstance(choice, bool | int | float | str) else canonical_json(choice)
    )


def _decode(axis: Axis, value: Any) -> Any:
    if axis.choices is None:
        return value
    return next(choice for choice in axis.choices if _is_same(_encode(choice), value))


def _is_same(one: Any, other: Any) -> bool:
    """Whether two encoded choices are one: true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(_is_same(choice, value) for choice in distribution.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(distribution, IntDistribution) and not float(value).is_integer():
        return False
    return bool(distribution._contains(float(value)))


def _describe(axis: Axis) -> str:
    if axis.choices is not None:
        return ", ".join(map(_text, axis.choices))
    step = f" in steps of {axis.step:g}" if axis.step else ""
    return f"{axis.low:g} to {axis.high:g}{step}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)
