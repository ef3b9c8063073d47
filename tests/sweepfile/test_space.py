"""From a space to configurations and back, by hand and through Optuna itself."""

from collections.abc import Callable, Mapping
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from lightsweep.errors import InputError
from lightsweep.hashing import canonical_json
from lightsweep.planning.arms import apply_changes
from lightsweep.search.space import choose, parameters_of
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.search import Axis
from lightsweep.sweepfile.sweep import Sweep

TABLE = [{"name": "first", "epochs": 2, "lr": 0.01}, {"name": "train", "epochs": 3, "optimizer": "sgd"}]
BASE = ArmSpec.model_validate({"stages": TABLE}).model_dump(mode="json")


def space(**axes: Any) -> dict[str, Axis]:
    """Make a space; of a key's name two underscores are a dot."""
    return {key.replace("__", "."): Axis.model_validate(axis) for key, axis in axes.items()}


def chosen(axes: Mapping[str, Axis], base: Mapping[str, Any] = BASE, /, **answers: Any) -> dict[str, Any]:
    """Choose with given answers by name, each of which must be asked for, and in this order."""
    asked: list[str] = []

    def suggest(name: str, distribution: BaseDistribution) -> Any:
        asked.append(name)
        return answers[name.replace(".", "__")]

    changes = choose(axes, base, suggest)
    assert asked == [name.replace("__", ".") for name in answers]
    return changes


def distributions(axes: Mapping[str, Axis]) -> dict[str, BaseDistribution]:
    """Return what is asked for, with the lowest answers and first choices."""
    asked: dict[str, BaseDistribution] = {}

    def suggest(name: str, distribution: BaseDistribution) -> Any:
        asked[name] = distribution
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[0]
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        return distribution.low

    choose(axes, BASE, suggest)
    return asked


# what is asked


def test_what_a_sampler_is_asked_for_each_kind_of_axis() -> None:
    axes = space(
        kernel=[3, 5],
        hidden={"low": 8, "high": 64},
        width={"low": 8, "high": 64, "log": True},
        even={"low": 2, "high": 8, "step": 2.0},
        rate={"low": 1e-3, "high": 1, "log": True},
        share={"low": 0, "high": 0.5},
        tenth={"low": 0.1, "high": 0.4, "step": 0.1},
    )
    assert distributions(axes) == {
        "kernel": CategoricalDistribution([3, 5]),
        "hidden": IntDistribution(8, 64),
        "width": IntDistribution(8, 64, log=True),
        "even": IntDistribution(2, 8, step=2),
        "rate": FloatDistribution(1e-3, 1, log=True),
        "share": FloatDistribution(0, 0.5),
        "tenth": FloatDistribution(0.1, 0.4, step=0.1),
    }


def test_a_range_ends_on_its_last_step() -> None:
    """Optuna would say so in a warning at each draw, and warnings are errors here."""
    axes = space(
        whole={"low": 2, "high": 9, "step": 3},
        tenth={"low": 0.1, "high": 0.75, "step": 0.2},
        alone={"low": 2, "high": 4, "step": 5},
    )
    assert distributions(axes) == {
        "whole": IntDistribution(2, 8, step=3),
        "tenth": FloatDistribution(0.1, 0.7, step=0.2),
        "alone": IntDistribution(2, 2, step=5),
    }


def test_a_list_is_its_length_and_an_element_for_each_place() -> None:
    axes = space(filters={"low": 2, "high": 9, "length": [1, 3]})
    assert chosen(axes, filters__length=2, filters__0=9, filters__1=4) == {"filters": [9, 4]}
    assert chosen(axes, filters__length=1, filters__0=2) == {"filters": [2]}
    assert distributions(axes) == {
        "filters.length": IntDistribution(1, 3),
        "filters.0": IntDistribution(2, 9),
    }


def test_a_length_that_is_fixed_is_not_asked_for() -> None:
    axes = space(filters={"low": 2, "high": 9, "length": [2, 2]})
    assert chosen(axes, filters__0=3, filters__1=3) == {"filters": [3, 3]}


def test_a_list_of_choices() -> None:
    flip = {"transform": "flip"}
    axes = space(augmentation={"choices": [flip, "x"], "length": [1, 2]})
    asked = {"augmentation__length": 2, "augmentation__0": "x", "augmentation__1": canonical_json(flip)}
    assert chosen(axes, **asked) == {"augmentation": ["x", flip]}


# choices


def test_lists_and_mappings_come_back_as_they_were() -> None:
    choices = [[10, 20], {"preset": "paper", "epochs": {"dual": 8}}, [], "paper", None, 0.5]
    axes = space(stages=choices)
    (distribution,) = distributions(axes).values()
    assert isinstance(distribution, CategoricalDistribution)
    assert distribution.choices == (
        "[10,20]", '{"epochs":{"dual":8},"preset":"paper"}', "[]", "paper", None, 0.5,
    )  # fmt: skip
    for code, choice in zip(distribution.choices, choices, strict=True):
        assert chosen(axes, stages=code) == {"stages": choice}


ALIKE = [
    [True, 1, "1", "true"],
    [0, False, 0.5],
    [1.0, True],
    ["[1]", [1], "x"],
    [None, "null"],
    [[1], [1.0]],
]


@pytest.mark.parametrize("choices", ALIKE, ids=str)
def test_choices_that_are_alike_are_told_apart(choices: list[Any]) -> None:
    """Optuna takes true, 1 and 1.0 for one: no two that it is given may be equal."""
    axes = space(x=choices)
    (distribution,) = distributions(axes).values()
    assert isinstance(distribution, CategoricalDistribution)
    assert len(set(distribution.choices)) == len(choices)
    for code, choice in zip(distribution.choices, choices, strict=True):
        assert canonical_json(chosen(axes, x=code)["x"]) == canonical_json(choice)
        assert parameters_of(axes, {}, {"x": choice}, "here") == {"x": code}


# conditions

DUAL = {"model.inputs": "dual"}


def test_an_axis_whose_condition_does_not_hold_is_not_asked_for_and_keeps_bases_value() -> None:
    sweep = Sweep.model_validate({"name": "t", "dataset": {"name": "digits"}, "base": BASE})
    axes = space(
        model__inputs=["single", "dual"],
        model__fusion={"choices": ["fresh", "conv1x1"], "when": DUAL},
        model__kernel=[2, 4],
    )
    changes = chosen(axes, model__inputs="single", model__kernel=2)
    assert changes == {"model.inputs": "single", "model.kernel": 2}
    assert apply_changes(sweep, changes, "here")[1].model.fusion == sweep.base.model.fusion == "conv1x1"
    changes = chosen(axes, model__inputs="dual", model__fusion="fresh", model__kernel=2)
    assert apply_changes(sweep, changes, "here")[1].model.fusion == "fresh"


def test_all_of_several_conditions_must_hold_with_any_of_their_values() -> None:
    when = {"model.inputs": "dual", "model.kernel": [3, 5]}
    axes = space(
        model__inputs=["single", "dual"], model__kernel=[2, 3, 5], x={"low": 1, "high": 2, "when": when}
    )
    assert chosen(axes, model__inputs="dual", model__kernel=5, x=1)["x"] == 1
    assert "x" not in chosen(axes, model__inputs="dual", model__kernel=2)
    assert "x" not in chosen(axes, model__inputs="single", model__kernel=3)


@pytest.mark.parametrize(
    ("key", "value", "holds"),
    [
        ("batch_size", 64, True),
        ("batch_size", 32, False),
        ("model.inputs", "dual", True),
        ("model.dropout", [0, 0.2], True),
        ("model.batch_norm", False, True),
        ("model.batch_norm", 0, False),
        ("model.filters", [[10, 20]], True),
        ("model.filters", [10, 20], False),  # 10 or 20
        ("model.filters.1", 20, True),
        ("stages.train.optimizer", "sgd", True),
        ("stages.train.epochs", 2, False),
        ("stages.first.lr", 0.01, True),
        ("stages.1.optimizer", "sgd", True),
        ("stages.1.patience", None, True),
        ("stages.1.weight_decay", 0, True),  # 0.0 in base
    ],
)
def test_conditions_on_what_base_has(key: str, value: Any, holds: bool) -> None:
    axes = {"x": Axis.model_validate({"choices": [1], "when": {key: value}})}
    assert choose(axes, BASE, lambda *_: 1) == ({"x": 1} if holds else {})


def test_an_elements_place_comes_before_its_name() -> None:
    """As where changes are made: `sweepfile.assign`."""
    stages = [{"name": "1", "epochs": 2}, {"name": "x", "epochs": 3}]
    axes = space(x={"choices": [1], "when": {"stages.1.epochs": 3}})
    assert choose(axes, {"stages": stages}, lambda *_: 1) == {"x": 1}


def test_a_chain_of_conditions() -> None:
    """Where the middle one does not hold, base's value counts for the last."""
    base = {"a": 0, "b": "base", "c": 0, "d": 0}
    axes = space(
        a=[0, 1],
        b={"choices": ["x", "y"], "when": {"a": 1}},
        c={"choices": [7], "when": {"b": "y"}},
        d={"choices": [8], "when": {"b": "base"}},
    )
    assert chosen(axes, base, a=1, b="y", c=7) == {"a": 1, "b": "y", "c": 7}
    assert chosen(axes, base, a=1, b="x") == {"a": 1, "b": "x"}
    assert chosen(axes, base, a=0, d=8) == {"a": 0, "d": 8}


def test_a_condition_on_a_part_of_what_was_chosen() -> None:
    """The last one to set it counts; a part that the choice does not have is no value."""
    axes = space(
        stages=[{"preset": "paper", "lr": 0.1}, {"preset": "scratch", "lr": 0.1}, "paper"],
        stages__lr={"low": 1, "high": 5, "when": {"stages.preset": "scratch"}},
        x={"choices": [1], "when": {"stages.lr": [0.1, 5]}},
    )
    base = {"stages": {"preset": "scratch", "lr": 5}}
    paper, scratch = '{"lr":0.1,"preset":"paper"}', '{"lr":0.1,"preset":"scratch"}'
    assert "x" in chosen(axes, base, stages=paper, x=1)
    assert "x" in chosen(axes, base, stages=scratch, stages__lr=5, x=1)
    assert "x" not in chosen(axes, base, stages=scratch, stages__lr=4)
    assert "x" not in chosen(axes, base, stages="paper")


def test_keys_that_begin_alike_are_not_confused() -> None:
    axes = space(
        c={"low": 1, "high": 2, "length": [1, 2]}, c__l=[5, 6], c1=[7], x={"choices": [1], "when": {"c2": 3}}
    )
    base = {"c": [1], "c1": 7, "c2": 3}
    parameters = {"c.length": 1, "c.0": 2, "c.l": 6, "c1": 7, "x": 1}
    answers = {name.replace(".", "__"): value for name, value in parameters.items()}
    changes = chosen(axes, base, **answers)
    assert changes == {"c": [2], "c.l": 6, "c1": 7, "x": 1}
    assert parameters_of(axes, base, changes, "here") == parameters


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("model.kernle", "did you mean model.kernel?"),
        ("bach_size", "did you mean batch_size?"),
        ("stages.tarin.lr", "did you mean stages.train.lr?"),
    ],
)
def test_a_condition_on_a_key_that_is_not_there_is_refused(key: str, hint: str) -> None:
    """It would never hold, and the axis never be searched, in silence."""
    axes = {"x": Axis.model_validate({"choices": [1], "when": {key: 3}})}
    with pytest.raises(InputError) as caught:
        choose(axes, BASE, lambda *_: 1)
    assert str(caught.value) == f"search.space.x.when.{key}: no such key below base; {hint}"


# and back

KNOWN = {
    "model.inputs": {"choices": ["single", "dual"]},
    "model.fusion": {"choices": ["conv1x1", "fresh"], "when": DUAL},
    "model.filters": {"low": 2, "high": 24, "length": [1, 3]},
    "model.kernel": {"low": 2, "high": 8, "step": 3},
    "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
    "model.batch_norm": {"choices": [False, True]},
    "stages.first.lr": {"low": 1e-3, "high": 1e-1, "log": True},
    "stages.train.train": {"choices": ["all", ["conv1", "head"]]},
}
KNOWN_SPACE = {key: Axis.model_validate(axis) for key, axis in KNOWN.items()}
BASES = {"model": BASE["model"] | {"kernel": 5, "dropout": 0.2}, "stages": BASE["stages"]}
BASES_PARAMETERS = {
    "model.inputs": "dual", "model.fusion": "conv1x1", "model.filters.length": 2, "model.filters.0": 10,
    "model.filters.1": 20, "model.kernel": 5, "model.dropout": 0.2, "model.batch_norm": False,
    "stages.first.lr": 0.01, "stages.train.train": "all",
}  # fmt: skip


def test_base_itself_is_a_known_configuration() -> None:
    assert parameters_of(KNOWN_SPACE, BASES, {}, "here") == BASES_PARAMETERS


def test_changes_to_base_are_a_known_configuration() -> None:
    changes = {"model.filters": [3], "model.dropout": 0.5, "stages.train.train": ["conv1", "head"]}
    expected = BASES_PARAMETERS | {
        "model.filters.length": 1, "model.filters.0": 3, "model.dropout": 0.5,
        "stages.train.train": '["conv1","head"]',
    }  # fmt: skip
    del expected["model.filters.1"]
    assert parameters_of(KNOWN_SPACE, BASES, changes, "here") == expected


def test_what_a_condition_leaves_out_is_no_parameter() -> None:
    found = parameters_of(KNOWN_SPACE, BASES, {"model.inputs": "single"}, "here")
    assert "model.fusion" not in found


# changes -> the message
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model.inputs": "duel"}, "model.inputs = duel: the space has single, dual"),
    ({"model.inputs": True}, "model.inputs = true: the space has single, dual"),
    ({"model.batch_norm": 1}, "model.batch_norm = 1: the space has false, true"),
    (
        {"stages.train.train": ["conv1"]},
        'stages.train.train = ["conv1"]: the space has all, ["conv1","head"]',
    ),
    ({"model.filters": [3, 25]}, "model.filters = 25: the space has 2 to 24"),
    ({"model.filters": [1]}, "model.filters = 1: the space has 2 to 24"),
    ({"model.filters": [3.5]}, "model.filters = 3.5: the space has 2 to 24"),
    ({"model.filters": [3, 4, 5, 6]}, "model.filters = [3,4,5,6]: the space has lists of 1 to 3 elements"),
    ({"model.filters": []}, "model.filters = []: the space has lists of 1 to 3 elements"),
    ({"model.filters": 3}, "model.filters = 3: the space has lists of 1 to 3 elements"),
    ({"model.kernel": 3}, "model.kernel = 3: the space has 2 to 8 in steps of 3"),
    ({"model.kernel": True}, "model.kernel = true: the space has 2 to 8 in steps of 3"),
    ({"model.kernel": "5"}, "model.kernel = 5: the space has 2 to 8 in steps of 3"),
    ({"model.kernel": None}, "model.kernel = null: the space has 2 to 8 in steps of 3"),
    ({"model.dropout": 0.25}, "model.dropout = 0.25: the space has 0 to 0.5 in steps of 0.1"),
    ({"stages.first.lr": 0.2}, "stages.first.lr = 0.2: the space has 0.001 to 0.1"),
    ({"stages.first.lr": 0}, "stages.first.lr = 0: the space has 0.001 to 0.1"),
    (
        {"model.inputs": "single", "model.fusion": "fresh"},
        'model.fusion: its condition ({"model.inputs":["dual"]}) does not hold here',
    ),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=str)
def test_what_the_space_does_not_hold_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parameters_of(KNOWN_SPACE, BASES, changes, "search.start_from.1")
    assert str(caught.value) == f"search.start_from.1: {message}"


def test_too_great_a_number_and_a_key_that_base_lacks_are_refused() -> None:
    with pytest.raises(InputError, match=r"^here: model\.kernel = 10*: the space has 2 to 8 in steps of 3$"):
        parameters_of(KNOWN_SPACE, BASES, {"model.kernel": 10**400}, "here")
    with pytest.raises(InputError, match=r"^here: stages\.first\.lr = null: the space has 0\.001 to 0\.1$"):
        parameters_of(KNOWN_SPACE, {"model": BASES["model"], "stages": []}, {}, "here")


def test_numbers_are_alike_however_they_are_written() -> None:
    axes = space(x=[0, 0.5], n={"low": 1, "high": 5})
    assert parameters_of(axes, {"x": 0.0, "n": 2.0}, {}, "here") == {"x": 0, "n": 2}
    for wrong in ({"x": False}, {"n": True}):
        with pytest.raises(InputError, match=r"^here: [xn] = (true|false): the space has"):
            parameters_of(axes, {"x": 0, "n": 2}, wrong, "here")


# through random spaces, and through Optuna

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, "", "1", "true", "a b"])
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from("ab"), SCALARS)
STEPS = [0.1, 0.25, 1.5]
KEYS = ["a", "a.b", "b.c", "b.c.d", "c", "c1", "long.key"]
TREE = {"a": {"b": 1}, "b": {"c": {"d": True}}, "c": None, "c1": "x", "long": {"key": 2}}


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    content: dict[str, Any] = {}
    kind = draw(st.sampled_from(["choices", "whole", "real"]))
    if kind == "choices":
        content["choices"] = draw(st.lists(VALUES, min_size=1, max_size=4, unique_by=canonical_json))
    else:
        whole = kind == "whole"
        log = draw(st.booleans())
        low, high = sorted(draw(st.tuples(*[st.integers(1 if log else -9, 30)] * 2)))
        content |= {"low": low if whole else low / 2, "high": high if whole else high / 2, "log": log}
        if not log and draw(st.booleans()):
            content["step"] = draw(st.integers(1, 5) if whole else st.sampled_from(STEPS))
    if draw(st.booleans()):
        content["length"] = sorted(draw(st.tuples(st.integers(1, 3), st.integers(1, 3))))
    return Axis.model_validate(content)


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Axis]:
    """Spaces whose axes depend on one another and on base."""
    found: dict[str, Axis] = {}
    for key in draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=5, unique=True)):
        axis = draw(axes())
        if draw(st.booleans()):
            other = draw(st.sampled_from(KEYS))
            allowed = draw(st.lists(st.integers(-1, 2) | st.booleans(), min_size=1, max_size=3))
            if other in found and found[other].choices and draw(st.booleans()):
                allowed = list(found[other].choices or [])[:2]
            axis = axis.model_copy(update={"when": {other: allowed}})
        found[key] = axis
    return found


def answer(draw: Callable[[Any], Any], distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return draw(st.sampled_from(distribution.choices))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if step:
        return low + step * draw(st.integers(0, round((high - low) / step)))
    return draw(st.floats(low, high))


@given(axes=spaces(), data=st.data())
@settings(max_examples=150)
def test_the_parameters_of_what_was_chosen_are_those_it_was_chosen_with(
    axes: dict[str, Axis], data: st.DataObject
) -> None:
    parameters: dict[str, Any] = {}

    def suggest(name: str, distribution: BaseDistribution) -> Any:
        assert name not in parameters
        parameters[name] = answer(data.draw, distribution)
        return parameters[name]

    changes = choose(axes, TREE, suggest)
    assert list(changes) == [key for key in axes if key in changes]
    assert canonical_json(parameters_of(axes, TREE, changes, "here")) == canonical_json(parameters)


def ask(study: optuna.Study, axes: Mapping[str, Axis], base: Mapping[str, Any]) -> dict[str, Any]:
    """Choose by an Optuna trial, as a search does."""
    trial = study.ask()

    def suggest(name: str, distribution: BaseDistribution) -> Any:
        assert json_to_distribution(distribution_to_json(distribution)) == distribution  # as databases do
        if isinstance(distribution, CategoricalDistribution):
            return trial.suggest_categorical(name, distribution.choices)
        if isinstance(distribution, IntDistribution):
            d = distribution
            return trial.suggest_int(name, d.low, d.high, step=d.step, log=d.log)
        assert isinstance(distribution, FloatDistribution)
        return trial.suggest_float(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )

    changes = choose(axes, base, suggest)
    study.tell(trial, 1.0)
    return changes


def recalled(study: optuna.Study, axes: Mapping[str, Axis], base: Mapping[str, Any]) -> dict[str, Any]:
    """Choose what the study's last trial has, as a search that goes on does."""
    parameters = study.get_trials()[-1].params
    return choose(axes, base, lambda name, _: parameters[name])


def in_memory(seed: int = 0) -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))


@given(axes=spaces(), seed=st.integers(0, 99))
@settings(max_examples=50)
def test_optuna_takes_every_space_remembers_its_draws_and_asks_known_ones_again(
    axes: dict[str, Axis], seed: int
) -> None:
    study = in_memory(seed)
    changes = ask(study, axes, TREE)
    assert canonical_json(recalled(study, axes, TREE)) == canonical_json(changes)
    study.enqueue_trial(parameters_of(axes, TREE, changes, "here"))
    assert canonical_json(ask(study, axes, TREE)) == canonical_json(changes)


def test_optuna_draws_all_of_a_small_space() -> None:
    """Both conditions, all lengths and places, and choices that Optuna by itself takes for one."""
    axes = space(
        a={"low": 1, "high": 2, "length": [1, 2]},
        b=[True, 1, [1]],
        c={"choices": ["x", "y"], "when": {"b": True}},
    )
    study = in_memory()
    found = {canonical_json(ask(study, axes, {})) for _ in range(300)}
    lists = [[1], [2], [1, 1], [1, 2], [2, 1], [2, 2]]
    expected = [{"a": a, "b": True, "c": c} for a in lists for c in "xy"]
    expected += [{"a": a, "b": b} for a in lists for b in (1, [1])]
    assert found == {canonical_json(one) for one in expected}


def test_base_enqueued_is_base() -> None:
    study = in_memory()
    study.enqueue_trial(parameters_of(KNOWN_SPACE, BASES, {}, "here"))
    sweep = Sweep.model_validate({"name": "t", "dataset": {"name": "digits"}, "base": {**BASE, **BASES}})
    assert apply_changes(sweep, ask(study, KNOWN_SPACE, BASES), "here")[1] == sweep.base
