import itertools
import random
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imitation_ablation import Tree, design_tree
from imitation_run import NASTY

from analysis.design import Design, parse_design
from analysis.statistics.contrasts import Contrast, Family, families

NAMES = ("self", "dataset", "arm", "levels", "base", "name", "a, b", "a", "c", "minus", "×", NASTY, "None")
Values = Mapping[str, float]


def parsed(tree: Tree) -> Design:
    design = parse_design(tree)
    assert design is not None
    return design


def asked(tree: Tree, dataset: str = "digits") -> dict[str, dict[str, Contrast]]:
    """Return the contrasts of a design by their family and name; no two of a family may share a name."""
    found = families(parsed(tree), dataset)
    named: dict[str, dict[str, Contrast]] = {
        family.kind: {each.name: each for each in family.contrasts} for family in found
    }
    assert sum(map(len, named.values())) == sum(len(family.contrasts) for family in found)
    return named


def at(contrast: Contrast, values: Values) -> float:
    return sum(weight * values[arm] for arm, weight in contrast.weights.items())


def draw_values(design: Design, seed: int) -> dict[str, float]:
    stream = np.random.default_rng(seed)
    return {arm: float(stream.random()) for arm in design.arms["digits"]}


def mean_where(design: Design, values: Values, levels: Mapping[str, int]) -> float:
    """Average over the cells that have these levels, by going through all of them."""
    cells = [
        values[arm]
        for arm, found in design.arms["digits"].items()
        if found is not None and all(found[name] == level for name, level in levels.items())
    ]
    return float(np.mean(cells))


factorials = st.builds(
    lambda names, components, counts: (
        names[:components],
        {
            name: [f"v{place}" for place in range(count)]
            for name, count in zip(names[components:], counts, strict=False)
        },
    ),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    st.integers(0, 4),
    st.lists(st.integers(1, 3), min_size=4, max_size=4),
).filter(lambda drawn: bool(drawn[0] or drawn[1]))
orders = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True)
seeds = st.integers(0, 2**32 - 1)


def test_leave_one_out_is_base_minus_the_arm_without() -> None:
    named = asked(design_tree("leave-one-out", ["dual", "fusion"], free=["wide"]))
    assert named == {
        "differences": {
            "dual": Contrast("dual", "base minus without dual", {"base": 1, "without dual": -1}),
            "fusion": Contrast("fusion", "base minus without fusion", {"base": 1, "without fusion": -1}),
            "wide": Contrast("wide", "wide minus base", {"wide": 1, "base": -1}),
        }
    }


def test_alternatives_are_arm_minus_base() -> None:
    named = asked(design_tree("one-at-a-time", alternatives={"lr": ["0.1", "0.2"], "hidden": ["8"]}))
    assert [*named] == ["differences"]
    assert [(each.name, each.meaning, each.weights) for each in named["differences"].values()] == [
        (arm, f"{arm} minus base", {arm: 1, "base": -1}) for arm in ("lr 0.1", "lr 0.2", "hidden 8")
    ]


@pytest.mark.parametrize(
    ("tree", "kinds"),
    [
        (design_tree(None, free=["wide"]), ["differences"]),
        (design_tree("factorial", ["a"]), ["main effects"]),
        (design_tree("factorial", ["a", "b"]), ["main effects", "interactions"]),
        (design_tree("factorial", ["a"], free=["wide"]), ["differences", "main effects"]),
        (design_tree("path", ["a", "b"]), ["steps"]),
        (design_tree("path", ["a", "b"], order="all"), ["Shapley values"]),
        (design_tree("path", ["a"], order="all", free=["wide"]), ["differences", "Shapley values"]),
    ],
)
def test_each_design_asks_its_own(tree: Tree, kinds: Sequence[str]) -> None:
    named = asked(tree)
    assert [*named] == kinds
    if "differences" in named:
        assert [*named["differences"]] == ["wide"]


def test_a_free_arm_may_be_called_as_a_component() -> None:
    (family,) = families(parsed(design_tree("leave-one-out", ["dual"], free=["dual"])), "digits")
    assert [(each.name, each.weights) for each in family.contrasts] == [
        ("dual", {"base": 1, "without dual": -1}),
        ("dual", {"dual": 1, "base": -1}),
    ]


def test_a_path_follows_its_order() -> None:
    steps = asked(design_tree("path", ["a", "b", "c"], order=["c", "a", "b"]))["steps"]
    assert [(each.name, each.meaning) for each in steps.values()] == [
        ("c", "without a, b minus without a, b, c"),
        ("a", "without b minus without a, b"),
        ("b", "base minus without b"),
    ]


@given(orders, st.randoms(use_true_random=False), seeds)
@settings(max_examples=25, deadline=None)
def test_steps_sum_to_base_minus_plain(names: list[str], shuffler: random.Random, seed: int) -> None:
    order = names[:]
    shuffler.shuffle(order)
    design = parsed(design_tree("path", names, order=order))
    (family,) = families(design, "digits")
    values = draw_values(design, seed)
    plain = design.arm_at("digits", dict.fromkeys(names, 1))
    assert [each.name for each in family.contrasts] == order
    assert sum(at(each, values) for each in family.contrasts) == pytest.approx(values["base"] - values[plain])
    check_weights(family, design)


@given(orders, seeds)
@settings(max_examples=25, deadline=None)
def test_shapley_values_are_means_over_all_orders(names: list[str], seed: int) -> None:
    """Brute force: in each order, let the components come in one by one."""
    design = parsed(design_tree("path", names, order="all"))
    (family,) = families(design, "digits")
    values = draw_values(design, seed)
    gains: dict[str, list[float]] = {name: [] for name in names}
    for order in itertools.permutations(names):
        out = dict.fromkeys(names, 1)
        for name in order:
            before = values[design.arm_at("digits", out)]
            out[name] = 0
            gains[name].append(values[design.arm_at("digits", out)] - before)
    assert [each.name for each in family.contrasts] == names
    for each in family.contrasts:
        assert at(each, values) == pytest.approx(np.mean(gains[each.name]))
        assert each.meaning == f"with minus without, averaged over {len(gains[each.name])} orders"
    plain = values[design.arm_at("digits", dict.fromkeys(names, 1))]
    assert sum(at(each, values) for each in family.contrasts) == pytest.approx(values["base"] - plain)
    check_weights(family, design)


def test_a_component_that_adds_nothing_has_a_shapley_value_of_zero() -> None:
    design = parsed(design_tree("path", ["a", "idle", "b"], order="all"))
    values = {
        arm: (levels or {})["a"] * 0.3 + (levels or {})["a"] * (levels or {})["b"] * 0.2
        for arm, levels in design.arms["digits"].items()
    }
    worth = {each.name: at(each, values) for each in families(design, "digits")[0].contrasts}
    assert worth == pytest.approx({"a": -0.4, "idle": 0, "b": -0.1})


@given(factorials, seeds)
@settings(max_examples=40, deadline=None)
def test_main_effects_are_differences_of_means(
    drawn: tuple[list[str], dict[str, list[str]]], seed: int
) -> None:
    design = parsed(design_tree("factorial", *drawn))
    values = draw_values(design, seed)
    family = next(each for each in families(design, "digits") if each.kind == "main effects")
    expected = []
    for factor in design.factors:
        means = [mean_where(design, values, {factor.name: level}) for level in range(len(factor.levels))]
        if factor.is_component:
            expected.append((factor.name, means[0] - means[1]))
        else:
            expected += [(name, means[level] - means[0]) for level, name in enumerate(factor.levels) if level]
    assert [each.name for each in family.contrasts] == [name for name, _ in expected]
    assert [at(each, values) for each in family.contrasts] == pytest.approx([worth for _, worth in expected])
    check_weights(family, design)


@given(factorials, seeds)
@settings(max_examples=40, deadline=None)
def test_interactions_are_differences_of_differences(
    drawn: tuple[list[str], dict[str, list[str]]], seed: int
) -> None:
    design = parsed(design_tree("factorial", *drawn))
    values = draw_values(design, seed)
    expected = []
    for one, other in itertools.combinations(design.factors, 2):

        def mean(first: int, second: int, names: tuple[str, str] = (one.name, other.name)) -> float:
            return mean_where(design, values, {names[0]: first, names[1]: second})

        for first, second in itertools.product(range(1, len(one.levels)), range(1, len(other.levels))):
            # An alternative is judged against base's level, a component against its absence.
            sign = (-1 if one.is_component else 1) * (-1 if other.is_component else 1)
            effect = (mean(first, second) - mean(0, second)) - (mean(first, 0) - mean(0, 0))
            names = [
                factor.name if factor.is_component else factor.levels[level]
                for factor, level in ((one, first), (other, second))
            ]
            expected.append((" × ".join(names), (one.name, other.name), sign * effect))
    found = [each for each in families(design, "digits") if each.kind == "interactions"]
    assert len(found) == bool(expected)
    for family in found:
        assert [(each.name, each.factors) for each in family.contrasts] == [each[:2] for each in expected]
        worths = [at(each, values) for each in family.contrasts]
        assert worths == pytest.approx([worth for *_, worth in expected])
        check_weights(family, design)


def check_weights(family: Family, design: Design) -> None:
    """Every contrast is a difference of weighted means of arms that there are."""
    total = 2 if family.kind == "interactions" else 1
    for contrast in family.contrasts:
        assert contrast.weights.keys() <= design.arms["digits"].keys()
        assert 0 not in contrast.weights.values()
        assert sum(contrast.weights.values()) == pytest.approx(0, abs=1e-12)
        assert sum(weight for weight in contrast.weights.values() if weight > 0) == pytest.approx(total)


@pytest.mark.parametrize(
    "tree",
    [
        design_tree("leave-one-out", ["a", "b"], free=["c"], datasets=("one", "two")),
        design_tree("factorial", ["a"], {"b": ["1", "2"]}, datasets=("one", "two")),
        design_tree("path", ["a", "b"], datasets=("one", "two")),
        design_tree("path", ["a", "b"], order="all", datasets=("one", "two")),
    ],
)
def test_each_data_set_has_its_own_arms(tree: Tree) -> None:
    """Arms of another data set take no part, even if a data set's arms were called otherwise."""
    for arm in tree["arms"]:
        if arm["dataset"] == "two" and arm["arm"] != "base":
            arm["arm"] = f"{arm['arm']} (two)"
    ones, twos = ([each for family in families(parsed(tree), name) for each in family.contrasts]
                  for name in ("one", "two"))  # fmt: skip
    for one, two in zip(ones, twos, strict=True):
        renamed = {arm if arm == "base" else f"{arm} (two)": weight for arm, weight in one.weights.items()}
        assert two.weights == renamed
