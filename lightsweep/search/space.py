"""From a search space to configurations: the parameters to sample, and the changes that they encode.

Optuna samples numbers and plain values, one name at a time. So a list (model.filters) becomes one parameter
for its length and one per element. A choice that is a list or a mapping is represented by its JSON text, as
are all choices of an axis that has both 1 and true, which Optuna considers equal. A key whose condition does
not hold is not sampled.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from lightsweep.errors import InputError, nearest
from lightsweep.hashing import canonical_json, plain_text
from lightsweep.nets.cost import Cost
from lightsweep.planning.plan import Plan
from lightsweep.search.draws import configure, search_of
from lightsweep.seeding import derive
from lightsweep.sweepfile.search import Axis, identity

Suggest = Callable[[str, BaseDistribution], Any]
"""Returns the value of a parameter, given its name and distribution."""


def choose(space: Mapping[str, Axis], base: Mapping[str, Any], suggest: Suggest) -> dict[str, Any]:
    """Return changes to base: a value for each axis whose condition holds.

    Args:
        space: The axes, each after those that its condition names.
        base: Base's settings as a tree of plain values, for conditions on keys that are not axes.
        suggest: Chooses a parameter's value.

    Raises:
        InputError: A condition names a key that is neither an axis nor in base.

    """
    chosen: dict[str, Any] = {}
    for key, axis in space.items():
        if not _applies(key, axis, chosen, base):
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
    """Return the parameters for which `choose` returns a known configuration: base with changes.

    Raises:
        InputError: The space does not contain it; the message starts with `place`.

    """
    found: dict[str, Any] = {}

    def suggest(name: str, distribution: BaseDistribution) -> Any:
        key = next(key for key in sorted(space, key=len, reverse=True) if f"{name}.".startswith(f"{key}."))
        value, part = changes.get(key, _lookup(base, key)), name[len(key) + 1 :]
        value = None if value is MISSING else value
        axis = space[key]
        if axis.length is not None:
            if not isinstance(value, list) or not axis.length[0] <= len(value) <= axis.length[1]:
                raise InputError(
                    f"{place}: {key} = {plain_text(value)}: the space has lists of {axis.length[0]} to "
                    f"{axis.length[1]} elements"
                )
            value = len(value) if part == "length" else value[int(part)]
        if axis.choices is not None and part != "length":
            codes = dict(zip(map(identity, axis.choices), _codes(axis), strict=True))
            fits = [codes[identity(value)]] if identity(value) in codes else []
        else:
            fits = [value] if _holds(distribution, value) else []
        if not fits:
            raise InputError(f"{place}: {key} = {plain_text(value)}: the space has {_describe(axis)}")
        found[name] = fits[0]
        return fits[0]

    chosen = choose(space, base, suggest)
    for key in changes:
        if key not in chosen:
            raise InputError(
                f"{place}: {key}: its condition ({plain_text(space[key].when)}) does not hold here"
            )
    return found


def _applies(key: str, axis: Axis, chosen: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
    for other, allowed in (axis.when or {}).items():
        wholes = [
            known for known in chosen if f"{other}.".startswith(f"{known}.")
        ]  # the axis itself, or one that contains it
        value = _lookup(chosen[wholes[-1]], other[len(wholes[-1]) + 1 :]) if wholes else _lookup(base, other)
        if value is MISSING and not wholes:
            hint = nearest(other, {*_keys(base), *chosen})
            raise InputError(f"search.space.{key}.when.{other}: no such key below base; {hint}")
        if value is MISSING or identity(value) not in map(identity, allowed):
            return False
    return True


def _keys(tree: Any) -> Iterator[str]:
    """Yield the dotted keys of a tree, including those of named elements of lists."""
    if isinstance(tree, list):
        tree = {item["name"]: item for item in tree if isinstance(item, Mapping) and "name" in item}
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        yield key
        yield from (f"{key}.{below}" for below in _keys(value))


MISSING = object()


def _lookup(tree: Any, key: str) -> Any:
    """Return a dotted key's value in a tree of plain values; list elements go by index or name."""
    for part in key.split(".") if key else ():
        if isinstance(tree, list):
            named = [item for item in tree if isinstance(item, dict) and item.get("name") == part]
            found = tree[int(part) :] if part.isdecimal() else []
            tree = (*found[:1], *named, MISSING)[0]
        else:
            tree = tree.get(part, MISSING) if isinstance(tree, Mapping) else MISSING
    return tree


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.choices is not None:
        return CategoricalDistribution(_codes(axis))
    assert axis.low is not None  # ensured by validation
    assert axis.high is not None
    high = axis.high
    if axis.step is not None:  # Optuna warns if high is not a whole number of steps above low
        low, step = Decimal(str(axis.low)), Decimal(str(axis.step))
        high = float((Decimal(str(axis.high)) - low) // step * step + low)
    if axis.is_whole:
        return IntDistribution(int(axis.low), int(high), axis.log, int(axis.step or 1))
    return FloatDistribution(float(axis.low), float(high), axis.log, axis.step)


def _codes(axis: Axis) -> list[Any]:
    """Return the sampler's codes for the choices, all different."""
    assert axis.choices is not None
    codes = [
        choice if choice is None or isinstance(choice, bool | int | float | str) else canonical_json(choice)
        for choice in axis.choices
    ]
    return codes if len(set(codes)) == len(codes) else [canonical_json(choice) for choice in axis.choices]


def _decode(axis: Axis, value: Any) -> Any:
    return value if axis.choices is None else axis.choices[_codes(axis).index(value)]


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return bool(distribution.low <= value <= distribution.high and distribution._contains(float(value)))


def _describe(axis: Axis) -> str:
    if axis.choices is not None:
        return ", ".join(map(plain_text, axis.choices))
    step = f" in steps of {axis.step:g}" if axis.step else ""
    return f"{axis.low:g} to {axis.high:g}{step}"


SURVEYED = 200


@dataclass(frozen=True)
class Survey:
    """A survey of a search space by random draws."""

    draws: int
    """Number of draws."""
    feasible: int
    """Number of draws that can be trained within the limits."""
    reasons: dict[str, int]
    """Number of infeasible draws by reason."""
    parameters: tuple[int, ...]
    """Parameter counts of the feasible draws, ascending."""
    start: tuple[tuple[dict[str, Any], Cost], ...]
    """Changes and cost of each configuration of `start_from`."""


def survey(planned: Plan) -> Survey:
    """Draw from a search's space at random, without training, to check and describe it.

    Raises:
        InputError: A key does not exist in base, a configuration of `start_from` is not in the space or
            cannot be trained, or no draw can be trained.

    """
    sweep, search = planned.sweep, search_of(planned.sweep)
    info = planned.infos[sweep.dataset]
    base = sweep.base.model_dump(mode="json")
    for key in search.space:
        if key.split(".")[0] == "dataset":
            raise InputError(f"search.space.{key}: a search is on one data set; drop this key")
    stream = random.Random(derive(search.seed, "survey"))
    reasons: dict[str, int] = {}
    sizes: list[int] = []
    for _ in range(SURVEYED):
        changes = choose(search.space, base, lambda _, distribution: _random_value(stream, distribution))
        try:
            its_cost = configure(sweep, info, changes)[1]
        except InputError as error:
            if "no such key below base" in str(error) or "unknown key" in str(error):
                raise
            text = re.sub(r" = (\[[^]]*\]|[^:]*)(?=:)", "", str(error))  # keep the rule, drop the value
            reasons[text] = reasons.get(text, 0) + 1
            continue
        over = [key for key, limit in search.limits.items() if getattr(its_cost, key, 0) > limit]
        if over:
            text = f"above the limit of {over[0]}"
            reasons[text] = reasons.get(text, 0) + 1
        else:
            sizes.append(its_cost.parameters)
    if not sizes:
        most = max(reasons, key=lambda reason: reasons[reason])
        raise InputError(f"search.space: none of {SURVEYED} random draws can be trained; most often: {most}")
    start = []
    for number, changes in enumerate(search.start_from):
        place = f"search.start_from.{number}"
        parameters_of(search.space, base, changes, place)
        try:
            start.append((changes, configure(sweep, info, changes)[1]))
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
    return Survey(SURVEYED, len(sizes), reasons, tuple(sorted(sizes)), tuple(start))


def _random_value(stream: random.Random, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return stream.choice(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = distribution.low, distribution.high
    if distribution.log:
        value = low * (high / low) ** stream.random()
        return round(value) if isinstance(distribution, IntDistribution) else value
    if distribution.step:
        return low + distribution.step * stream.randint(0, int((high - low) / distribution.step + 1e-9))
    return stream.uniform(low, high)
