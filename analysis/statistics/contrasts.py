"""Turn a design into contrasts: weighted sums of arms, each computed within a seed.

Differences from base, steps of a path, main effects, interactions and Shapley values are all of this form, so
one pairing, one interval and one test serve them all.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from analysis.design import Design, Factor

Kind = Literal["differences", "main effects", "interactions", "steps", "Shapley values"]


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of arms to be judged; positive values are in its favour."""

    name: str
    meaning: str
    """Which arms are compared, in words."""
    weights: Mapping[str, float]
    """Arm -> weight; the weights sum to zero."""
    factors: tuple[str, ...] = ()
    """Names of the design's factors that it concerns."""
    model: Mapping[str, tuple[float, ...]] | None = None
    """Arm -> its row of the model that estimates the contrast at a seed where some arms have no result; None
    if such a seed is left out."""


@dataclass(frozen=True)
class Family:
    """Contrasts that are judged together, with one correction for their number."""

    kind: Kind
    contrasts: tuple[Contrast, ...]


def families(design: Design, dataset: str) -> tuple[Family, ...]:
    """Return the families of contrasts that a design defines on one data set; empty ones are left out."""
    named: list[tuple[Kind, list[Contrast]]] = [("differences", _differences(design, dataset))]
    if design.kind == "factorial":
        named += [
            ("main effects", _main_effects(design, dataset)),
            ("interactions", _interactions(design, dataset)),
        ]
    elif design.kind == "path" and design.order == "all":
        named.append(("Shapley values", _shapley_values(design, dataset)))
    elif design.kind == "path":
        named.append(("steps", _steps(design, dataset)))
    return tuple(Family(kind, tuple(contrasts)) for kind, contrasts in named if contrasts)


def _differences(design: Design, dataset: str) -> list[Contrast]:
    """Compare arms with base; arms of a factorial or a path are compared by other contrasts."""
    base, found = design.base, []
    for arm, levels in design.arms[dataset].items():
        changed = [factor for factor in design.factors if (levels or {}).get(factor.name)]
        if arm == base or (levels is not None and design.kind in ("factorial", "path")):
            continue
        if changed and changed[0].is_component:
            found.append(Contrast(changed[0].name, f"{base} minus {arm}", {base: 1.0, arm: -1.0}))
        else:
            found.append(Contrast(arm, f"{arm} minus {base}", {arm: 1.0, base: -1.0}))
    return found


def _steps(design: Design, dataset: str) -> list[Contrast]:
    """Return the steps of a path: what each component adds to those before it."""
    assert isinstance(design.order, tuple)
    found = []
    for place, name in enumerate(design.order):
        after = design.arm_at(dataset, dict.fromkeys(design.order[place + 1 :], 1))
        before = design.arm_at(dataset, dict.fromkeys(design.order[place:], 1))
        found.append(Contrast(name, f"{after} minus {before}", {after: 1.0, before: -1.0}))
    return found


def _shapley_values(design: Design, dataset: str) -> list[Contrast]:
    """Average what a component adds over all orders in which components can be added.

    The weight for adding it to a set S of the n components is |S|! (n − |S| − 1)! / n! (Shapley 1953).
    """
    names = [factor.name for factor in design.factors]
    found, model = [], _model(design, dataset, with_pairs=True)
    for name in names:
        others = [other for other in names if other != name]
        weights: dict[str, float] = {}
        for size in range(len(others) + 1):
            share = math.factorial(size) * math.factorial(len(others) - size) / math.factorial(len(names))
            for present in itertools.combinations(others, size):
                out = dict.fromkeys((other for other in others if other not in present), 1)
                weights[design.arm_at(dataset, out)] = share
                weights[design.arm_at(dataset, {**out, name: 1})] = -share
        meaning = f"with minus without, averaged over {math.factorial(len(names))} orders"
        found.append(Contrast(name, meaning, weights, model=model))
    return found


def _effects(factor: Factor) -> list[tuple[str, int, int]]:
    """Return the names of a factor's effects, with the levels that count for and against each."""
    if factor.is_component:
        return [(factor.name, 0, 1)]
    return [(name, level, 0) for level, name in enumerate(factor.levels) if level]


def _main_effects(design: Design, dataset: str) -> list[Contrast]:
    """Average a factor's effect over all combinations of the other factors."""
    found, model = [], _model(design, dataset, with_pairs=False)
    for factor in design.factors:
        rest = _combinations(design, factor)
        for name, plus, minus in _effects(factor):
            weights = {}
            for levels in rest:
                weights[design.arm_at(dataset, {**levels, factor.name: plus})] = 1 / len(rest)
                weights[design.arm_at(dataset, {**levels, factor.name: minus})] = -1 / len(rest)
            compared = "with minus without" if factor.is_component else "minus base's"
            meaning = f"{compared}, averaged over {len(rest)} combinations of the others"
            found.append(Contrast(name, meaning, weights, model=model))
    return found


def _interactions(design: Design, dataset: str) -> list[Contrast]:
    """Compare a factor's effect with and without another factor: differences of differences."""
    found, model = [], _model(design, dataset, with_pairs=True)
    for one, other in itertools.combinations(design.factors, 2):
        rest = _combinations(design, one, other)
        for (name, plus, minus), (name_2, plus_2, minus_2) in itertools.product(
            _effects(one), _effects(other)
        ):
            weights = {}
            for levels in rest:
                for level, sign in ((plus, 1), (minus, -1)):
                    for level_2, sign_2 in ((plus_2, 1), (minus_2, -1)):
                        arm = design.arm_at(dataset, {**levels, one.name: level, other.name: level_2})
                        weights[arm] = sign * sign_2 / len(rest)
            meaning = f"effect of {name} with {name_2} minus its effect without"
            found.append(Contrast(f"{name} × {name_2}", meaning, weights, (one.name, other.name), model))
    return found


def _model(design: Design, dataset: str, with_pairs: bool) -> dict[str, tuple[float, ...]]:
    """Return each arm's row of the model: intercept, main effects and, with pairs, pairwise products."""
    rows = {}
    for arm, levels in design.arms[dataset].items():
        if levels is None:
            continue
        parts = [
            [float(levels[factor.name] == level) for level in range(1, len(factor.levels))]
            for factor in design.factors
        ]
        pairs = itertools.combinations(parts, 2) if with_pairs else ()
        products = [one * other for first, second in pairs for one in first for other in second]
        rows[arm] = (1.0, *itertools.chain(*parts), *products)
    return rows


def _combinations(design: Design, *without: Factor) -> list[dict[str, int]]:
    """Return all combinations of levels of the other factors."""
    rest = [factor for factor in design.factors if factor not in without]
    levels = itertools.product(*(range(len(factor.levels)) for factor in rest))
    return [dict(zip((factor.name for factor in rest), chosen, strict=True)) for chosen in levels]


def check_comparisons(design: Design | None) -> Design | None:
    """Return the design, after checking that all its comparisons can be made.

    Raises:
        KeyError: A comparison needs an arm that does not exist.

    """
    if design is not None:
        for dataset in design.arms:
            families(design, dataset)
    return design
