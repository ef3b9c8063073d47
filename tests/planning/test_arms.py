import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightsweep.data.datasets import describe
from lightsweep.errors import InputError
from lightsweep.planning.arms import BASE, Arm, arms
from lightsweep.planning.design import design_tree
from lightsweep.planning.plan import Plan, plan
from lightsweep.sweepfile.sweep import Sweep

TABLE = [
    {"name": "dual", "loss": "heads", "epochs": 5},
    {"name": "fusion", "loss": "fused", "train": "last-2", "epochs": 3},
    {"name": "finetune", "loss": "fused", "epochs": 2},
]


def sweep(base: Any = None, dataset: Any = None, seeds: int = 1, **ablation: Any) -> Sweep:
    return Sweep.model_validate(
        {
            "name": "t",
            "dataset": dataset or {"name": "digits"},
            "base": {"stages": TABLE} if base is None else base,
            "seeds": seeds,
            "ablation": ablation,
        }
    )


def planned(**settings: Any) -> Plan:
    return plan(sweep(**settings), lambda dataset: describe(dataset, Path("nowhere")))


def refusal(**settings: Any) -> str:
    """Return what planning complains of, which must be one line."""
    with pytest.raises(InputError) as caught:
        planned(**settings)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def names(some: list[Arm]) -> list[str]:
    return [arm.name for arm in some]


# against brute force

# keys that are there in every base, with values that are not base's
POOL: dict[str, list[Any]] = {
    "model.inputs": ["single"],
    "model.filters": [[3], [5, 6], [7, 8]],
    "model.kernel": [1, 2, 4],
    "model.hidden": [None, 8, 16],
    "model.dropout": [0, 0.5],
    "model.batch_norm": [True],
    "augmentation": ["none", "flip"],
    "batch_size": [8, 16, 128],
    "stages.finetune.lr": [0.1, 0.25],
    "dataset.train_limit": [50, 100],
}


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(st.lists(st.sampled_from(list(POOL)), min_size=1, max_size=3, unique=True))
    return {key: draw(st.sampled_from(POOL[key])) for key in keys}


@st.composite
def ablations(draw: st.DrawFn) -> dict[str, Any]:
    """Ablations of every design, whose components may well set one key twice."""
    design = draw(st.sampled_from(["leave-one-out", "one-at-a-time", "factorial", "path", None]))
    of_one_size = st.dictionaries(st.sampled_from(["a", "b c", "d", "ë"]), changes(), min_size=1)
    found: dict[str, Any] = {"design": design}
    if design in ("leave-one-out", "path", "factorial"):
        found["components"] = draw(of_one_size)
    if design in ("one-at-a-time", "factorial"):
        keys = draw(st.lists(st.sampled_from(list(POOL)), min_size=1, max_size=3, unique=True))
        found["alternatives"] = {
            key: draw(st.lists(st.sampled_from(POOL[key]), min_size=1, unique_by=str)) for key in keys
        }
    if design == "path":
        found["order"] = draw(st.none() | st.just("all") | st.permutations(list(found["components"])))
    free = st.dictionaries(st.sampled_from(["free", "freer"]), changes(), min_size=0 if design else 1)
    found["arms"] = draw(free)
    data = st.sampled_from(["digits", "mnist", "cifar10"])
    found["datasets"] = draw(st.none() | st.dictionaries(data, changes() | st.just({}), min_size=1))
    return found


def enumerated(ablation: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, int]]]:
    """Yield (changes, levels) of base and a design's arms: of all that could be those that it asks for."""
    components, alternatives = ablation.get("components", {}), ablation.get("alternatives", {})
    options: list[list[tuple[str, int, dict[str, Any]]]] = [
        [(name, 0, {}), (name, 1, changed)] for name, changed in components.items()
    ]
    for key, values in alternatives.items():
        short = key.split(".")[-1]
        tried = [(short, level, {key: value}) for level, value in enumerate(values, start=1)]
        options.append([(short, 0, {}), *tried])
    order = list(components) if ablation.get("order") is None else ablation["order"]
    tails = [set(order[start:]) for start in range(len(order))]
    for cell in itertools.product(*options):
        changed = {name for name, level, _ in cell if level}
        if ablation["design"] in ("leave-one-out", "one-at-a-time"):
            is_wanted = len(changed) == 1
        elif ablation["design"] == "path" and order != "all":
            is_wanted = changed in tails
        else:
            is_wanted = True
        if is_wanted or not changed:
            union: dict[str, Any] = {}
            for _, _, part in cell:
                union |= part
            yield union, {name: level for name, level, _ in cell}


def flat(arm: Arm) -> dict[str, Any]:
    """Return an arm's settings, each with its dotted key; stages go by name."""
    tree = {**arm.spec.model_dump(mode="json"), "dataset": arm.dataset.model_dump(mode="json")}

    def leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            for part, child in node.items():
                yield from leaves(child, f"{key}.{part}")
        elif key == ".stages":
            for stage in node:
                yield from leaves(stage, f"{key}.{stage['name']}")
        else:
            yield key[1:], node

    return dict(leaves(tree, ""))


def hashable(content: Mapping[str, Any] | None) -> str:
    return json.dumps(content, sort_keys=True)


@given(ablations())
@settings(max_examples=150)
def test_a_designs_arms_are_those_of_brute_force(ablation: dict[str, Any]) -> None:
    """On each data set base and what the design asks for; each differs from base in its changes alone."""
    found = arms(sweep(**ablation))
    expected = list(enumerated(ablation))
    free = [(changed, None) for changed in ablation["arms"].values()]
    nests = ablation["datasets"] or {"digits": {}}
    assert len(found) == len(nests) * (len(expected) + len(free))
    plain = flat(arms(sweep(arms={"x": {"batch_size": 1}}))[0])
    for nest, (name, own) in enumerate(nests.items()):
        nested = found[nest * len(found) // len(nests) : (nest + 1) * len(found) // len(nests)]
        base = {**plain, "dataset.name": name, **own}
        assert nested[0].name == BASE
        assert len(set(names(nested))) == len(nested)
        assert sorted(hashable(arm.levels) for arm in nested) == sorted(
            hashable(levels) for _, levels in [*expected, *free]
        )
        by_levels = {hashable(levels): changed for changed, levels in expected}
        by_name = {name: changed for name, changed in ablation["arms"].items()}
        for arm in nested:
            changed = by_levels[hashable(arm.levels)] if arm.levels is not None else by_name[arm.name]
            assert arm.changes == changed
            assert flat(arm) == {**base, **changed}


@pytest.mark.parametrize("order", [None, ["c", "a", "b"], ["b", "c", "a"]])
def test_a_path_goes_from_all_out_to_base_in_its_order(order: Any) -> None:
    components = {"a": {"model.kernel": 2}, "b": {"model.hidden": 8}, "c": {"batch_size": 8}}
    found = arms(sweep(design="path", components=components, order=order))
    first, second, third = order or "abc"
    assert found[0].name == BASE
    assert [{name for name, level in (arm.levels or {}).items() if level} for arm in found[1:]] == [
        {first, second, third},
        {second, third},
        {third},
    ]


def test_a_path_of_every_order_has_the_arms_of_a_factorial() -> None:
    components = {"a": {"model.kernel": 2}, "b": {"model.hidden": 8}, "c": {"batch_size": 8}}
    by_path = arms(sweep(design="path", components=components, order="all"))
    assert by_path == arms(sweep(design="factorial", components=components))
    assert len(by_path) == 2**3


# names

KERNEL = {"model.kernel": 2}
HIDDEN = {"model.hidden": None}
NAMES: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"design": "leave-one-out", "components": {"dual input": KERNEL, "hidden layer": HIDDEN}},
        ["base", "without dual input", "without hidden layer"],
    ),
    (
        {"design": "path", "components": {"a": KERNEL, "b": HIDDEN, "c": {"batch_size": 8}}},
        ["base", "without a, b, c", "without b, c", "without c"],
    ),
    (
        {
            "design": "one-at-a-time",
            "alternatives": {
                "model.filters": [[4, 8]],
                "model.hidden": [None, 8],
                "model.batch_norm": [True],
                "augmentation": ["flip", [], [{"transform": "flip", "probability": 0.5}]],
                "stages": [{"preset": "scratch", "patience": None}],
            },
        },
        [
            "base",
            "filters 4-8",
            "hidden none",
            "hidden 8",
            "batch_norm yes",
            "augmentation flip",
            "augmentation []",
            "augmentation #3",
            "stages preset scratch patience none",
        ],
    ),
    (
        {"design": "one-at-a-time", "alternatives": {"stages.dual.lr": [0.1], "stages.fusion.lr": [0.1]}},
        ["base", "stages.dual.lr 0.1", "stages.fusion.lr 0.1"],
    ),
    (
        {
            "design": "factorial",
            "components": {"a": KERNEL, "b": HIDDEN},
            "alternatives": {"batch_size": [8, 16]},
            "arms": {"plain CNN, small": {"model.filters": [3]}},
        },
        [
            "base",
            "batch_size 8",
            "batch_size 16",
            "without b",
            "batch_size 8, without b",
            "batch_size 16, without b",
            "without a",
            "batch_size 8, without a",
            "batch_size 16, without a",
            "without a, b",
            "batch_size 8, without a, b",
            "batch_size 16, without a, b",
            "plain CNN, small",
        ],
    ),
    ({"arms": {"z": KERNEL, "a": HIDDEN}}, ["base", "z", "a"]),
]


@pytest.mark.parametrize(("ablation", "expected"), NAMES, ids=lambda case: str(case)[:40])
def test_names_of_arms(ablation: dict[str, Any], expected: list[str]) -> None:
    assert names(arms(sweep(**ablation))) == expected


# changes that meet

TWICE = {
    "a": {"model.hidden": 8, "batch_size": 8},
    "b": {"model": {"filters": [3], "hidden": 4}},
    "c": {"model.hidden": 16},
}


def test_the_later_of_two_components_that_set_one_key_holds() -> None:
    found = {arm.name: arm for arm in arms(sweep(design="factorial", components=TWICE))}
    assert found["without a"].spec.model.hidden == 8
    assert found["without a, b"].spec.model.hidden == 4
    assert found["without a, c"].spec.model.hidden == 16
    assert found["without a, b, c"].spec.model.hidden == 16  # a's key, too, but set after b's table
    assert found["without a, b, c"].spec.model.filters == [3]


def test_a_later_components_match_has_a_tolerance_of_its_own() -> None:
    components = {
        "a": {"model.inputs": "single", "match": "parameters", "within": 0.2},
        "b": {"model.kernel": 2, "match": "macs"},
        "c": {"batch_size": 8},
    }
    found = {arm.name: arm for arm in arms(sweep(design="factorial", components=components))}
    costs = {name: (arm.match, arm.within) for name, arm in found.items()}
    assert costs["base"] == costs["without c"] == (None, 0.01)
    assert costs["without a"] == costs["without a, c"] == ("parameters", 0.2)
    assert costs["without b"] == costs["without a, b"] == costs["without a, b, c"] == ("macs", 0.01)
    assert all("match" not in arm.changes and "within" not in arm.changes for arm in found.values())


# data sets


def test_arms_are_nested_below_data_sets_with_changes_of_their_own() -> None:
    found = arms(
        sweep(
            dataset={"name": "npz", "path": "x.npz", "validation": 300},
            design="leave-one-out",
            components={"kernel": KERNEL},
            datasets={
                "mnist": {},
                "cifar10": {"model.filters": [16, 32], "dataset.validation": 0.25},
                "npz": {"dataset.path": "y.npz"},
            },
        )
    )
    assert [(arm.dataset.name, arm.dataset.path, arm.dataset.validation, arm.name) for arm in found] == [
        ("mnist", None, 300, "base"),
        ("mnist", None, 300, "without kernel"),
        ("cifar10", None, 0.25, "base"),
        ("cifar10", None, 0.25, "without kernel"),
        ("npz", "y.npz", 300, "base"),
        ("npz", "y.npz", 300, "without kernel"),
    ]
    assert [arm.spec.model.filters for arm in found] == [[10, 20]] * 2 + [[16, 32]] * 2 + [[10, 20]] * 2
    assert [arm.spec.model.kernel for arm in found] == [3, 2] * 3
    assert [arm.changes for arm in found] == [{}, KERNEL] * 3


# refusals

ONE = {"design": "leave-one-out", "components": {"kernel": KERNEL}}


def alternatives(**values: Any) -> dict[str, Any]:
    return {
        "design": "one-at-a-time",
        "alternatives": {key.replace("__", "."): value for key, value in values.items()},
    }


WRONG: list[tuple[dict[str, Any], str]] = [
    # names
    (
        {**ONE, "arms": {"without kernel": HIDDEN}},
        "ablation.arms.without kernel: there is already an arm without kernel; rename this one",
    ),
    ({"arms": {"base": HIDDEN}}, "ablation.arms.base: there is already an arm base; rename this one"),
    (
        {
            "design": "factorial",
            "components": {"a": KERNEL, "b": HIDDEN, "a, b": {"batch_size": 8}},
        },
        "arm without a, b: there is already an arm without a, b; rename this one",
    ),
    (
        {"design": "factorial", "components": {"hidden": KERNEL}, "alternatives": {"model.hidden": [8]}},
        "ablation.components.hidden: the alternatives of model.hidden have this name too; "
        "rename the component",
    ),
    # the data set
    (
        {"arms": {"x": {"dataset.name": "mnist"}}},
        "ablation.arms.x.dataset.name: arms are compared on one data set; nest them in datasets",
    ),
    (
        {"arms": {"x": {"dataset.path": "x.npz"}}},
        "ablation.arms.x.dataset.path: arms are compared on one data set; nest them in datasets",
    ),
    (
        {"arms": {"x": {"dataset": {"name": "mnist"}}}},
        "ablation.arms.x.dataset: arms are compared on one data set; nest them in datasets",
    ),
    (
        alternatives(dataset__name=["mnist"]),
        "ablation.alternatives.dataset.name: arms are compared on one data set; nest them in datasets",
    ),
    (
        {**ONE, "datasets": {"mnist": {"dataset.name": "cifar10"}}},
        "ablation.datasets.mnist.dataset.name: the data set is mnist; drop this key",
    ),
    (
        {**ONE, "datasets": {"mnist": {"dataset": {"name": "cifar10"}}}},
        "ablation.datasets.mnist.dataset: the data set is mnist; drop this key",
    ),
    ({**ONE, "datasets": {"npz": {}}}, "ablation.datasets.npz: data set npz needs a path"),
    # keys
    (
        {"arms": {"x": {"modle.hidden": 8}}},
        "ablation.arms.x.modle.hidden: no such key below base (or dataset); did you mean model?",
    ),
    (
        {"arms": {"x": {"base.model.hidden": 8}}},
        "ablation.arms.x.base.model.hidden: no such key below base (or dataset); write model.hidden",
    ),
    (
        {"arms": {"x": {"model.hiden": 8}}},
        "ablation.arms.x.model.hiden = 8: unknown key hiden in model; did you mean hidden?",
    ),
    (
        {"arms": {"x": {"stages.finetun.lr": 0.1}}},
        "ablation.arms.x.stages.finetun.lr = 0.1: no element finetun in stages; did you mean finetune?",
    ),
    (
        {"design": "leave-one-out", "components": {"x": {"batch_siz": 8}}},
        "ablation.components.x.batch_siz: no such key below base (or dataset); did you mean batch_size?",
    ),
    (
        {"design": "path", "components": {"x": {"batch_siz": 8}, "y": HIDDEN}},
        "arm without x, y: batch_siz: no such key below base (or dataset); did you mean batch_size?",
    ),
    (
        alternatives(modle__hidden=[8]),
        "ablation.alternatives.modle.hidden: no such key below base (or dataset); did you mean model?",
    ),
    (
        {**ONE, "datasets": {"mnist": {"modle.hidden": 8}}},
        "ablation.datasets.mnist.modle.hidden: no such key below base (or dataset); did you mean model?",
    ),
    (
        {"arms": {"x": {"stages.dual.lr": 1}}, "datasets": {"mnist": {}, "svhn": {"stages": "paper"}}},
        "ablation.arms.x.stages.dual.lr on svhn = 1: unknown key dual in stages; there are epochs, "
        "finetune_lr, lr, patience, preset, schedule",
    ),
    # values
    (alternatives(batch_size=[8, 16, 8]), "ablation.alternatives.batch_size: 8 is listed twice; drop one"),
    (
        alternatives(model__kernel=["x"]),
        "ablation.alternatives.model.kernel (model.kernel = x): model.kernel = 'x': must be a valid integer",
    ),
    (
        {"arms": {"x": {"model.hidden": 8, "model.dropout": 1}}},
        "ablation.arms.x (model.hidden = 8, model.dropout = 1): model.dropout = 1: must be less than 1",
    ),
    (
        {**ONE, "datasets": {"mnist": {"model.hidden": 0}}},
        "ablation.datasets.mnist (model.hidden = 0): model.hidden = 0: must be greater than or equal to 1",
    ),
    (
        {
            "arms": {"x": {"model.fusion": "average"}},
            "datasets": {"mnist": {}, "svhn": {"model.inputs": "single"}},
        },
        "ablation.arms.x on svhn (model.fusion = average): model: fusion average needs inputs: dual; the "
        "mean over one submodel is fusion: none",
    ),
    # what does not fit the images
    (
        {**ONE, "datasets": {"cifar10": {}, "mnist": {"model.filters": [3, 3, 3, 3]}}},
        "base on mnist: model.filters = [3, 3, 3, 3]: 4 blocks are too many for images of 28 pixels with "
        "kernel 3: at most 3 fit",
    ),
    (
        {"design": "path", "components": {"x": {"model.kernel": 11}, "y": HIDDEN}},
        "arm without x, y: model.filters = [10, 20]: 2 blocks are too many for images of 28 pixels with "
        "kernel 11: at most 1 fit",
    ),
    (
        {"arms": {"x": {"dataset.train_limit": 5}}},
        "ablation.arms.x: dataset.train_limit = 5: must be at least one image of each of the 10 classes",
    ),
]


@pytest.mark.parametrize(("ablation", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_ablations_are_refused_with_place_value_rule_and_remedy(
    ablation: dict[str, Any], message: str
) -> None:
    assert refusal(**ablation) == message


# arms that change nothing

DROPOUT = {"model.dropout": 0}
FRESH = {"model.fusion": "fresh"}
SCRATCH = {"stages": {"preset": "scratch"}}
PAPER = {"stages": "paper"}
NO_HIDDEN = {"stages": TABLE, "model": {"hidden": None}}
# base, ablation, message
IDLE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        NO_HIDDEN,
        {"design": "leave-one-out", "components": {"kernel": KERNEL, "dropout": DROPOUT}},
        "ablation.components.dropout: arm without dropout changes nothing: its trials are those of base",
    ),
    (
        SCRATCH,
        {"design": "leave-one-out", "components": {"weight transfer": FRESH}},
        "ablation.components.weight transfer: arm without weight transfer changes nothing: its trials are "
        "those of base",
    ),
    (
        PAPER,
        {"design": "one-at-a-time", "alternatives": {"batch_size": [8, 64]}},
        "ablation.alternatives.batch_size: arm batch_size 64 changes nothing: its trials are those of base",
    ),
    (
        PAPER,
        {"design": "one-at-a-time", "alternatives": {"augmentation": ["none", []]}},
        "ablation.alternatives.augmentation: arm augmentation [] changes nothing: its trials are those of "
        "arm augmentation none",
    ),
    (
        PAPER,
        {"arms": {"dry": {"model.dropout": 0.2}}},
        "ablation.arms.dry: changes nothing: its trials are those of base",
    ),
    (
        PAPER,
        {"arms": {"x": {**KERNEL, **HIDDEN}, "y": {**HIDDEN, **KERNEL, **DROPOUT}}},
        "ablation.arms.y: changes nothing: its trials are those of arm x",
    ),
    (
        PAPER,
        {"design": "leave-one-out", "components": {"dropout": DROPOUT}, "arms": {"dry": DROPOUT}},
        "ablation.arms.dry: changes nothing: its trials are those of arm without dropout",
    ),
    (
        PAPER,
        {"design": "leave-one-out", "components": {"a": DROPOUT, "b": {"model.dropout": 0.0}}},
        "ablation.components.b: arm without b changes nothing: its trials are those of arm without a",
    ),
    # a match that finds what is there already
    (
        PAPER,
        {"arms": {"dry": {"model.dropout": 0.2, "match": "parameters"}}},
        "ablation.arms.dry: changes nothing: its trials are those of base",
    ),
    # steps of a path: the first, one between, the last
    (
        PAPER,
        {"design": "path", "components": {"dropout": DROPOUT, "hidden": HIDDEN}},
        "ablation.components.hidden: arm without hidden changes nothing: its trials are those of arm "
        "without dropout, hidden",
    ),
    (
        PAPER,
        {
            "design": "path",
            "components": {"kernel": KERNEL, "dropout": DROPOUT, "hidden": HIDDEN, "size": {"batch_size": 8}},
        },
        "arm without hidden, size: changes nothing: its trials are those of arm without dropout, hidden, "
        "size",
    ),
    (
        NO_HIDDEN,
        {"design": "path", "components": {"kernel": KERNEL, "dropout": DROPOUT}},
        "ablation.components.dropout: arm without dropout changes nothing: its trials are those of base",
    ),
    # one thing alone in a factorial, or over all orders
    (
        NO_HIDDEN,
        {"design": "factorial", "components": {"dropout": DROPOUT}, "alternatives": {"model.kernel": [2, 3]}},
        "ablation.alternatives.model.kernel: arm kernel 3 changes nothing: its trials are those of base",
    ),
    (
        NO_HIDDEN,
        {"design": "path", "order": "all", "components": {"kernel": KERNEL, "dropout": DROPOUT}},
        "ablation.components.dropout: arm without dropout changes nothing: its trials are those of base",
    ),
    # a free arm that is one of a design's combinations
    (
        PAPER,
        {
            "design": "factorial",
            "components": {"kernel": KERNEL, "hidden": HIDDEN},
            "arms": {"x": {**KERNEL, **HIDDEN}},
        },
        "ablation.arms.x: changes nothing: its trials are those of arm without kernel, hidden",
    ),
    # on one of two data sets
    (
        PAPER,
        {
            "design": "leave-one-out",
            "components": {"dropout": DROPOUT},
            "datasets": {"mnist": {}, "cifar10": HIDDEN},
        },
        "ablation.components.dropout on cifar10: arm without dropout changes nothing: its trials are those "
        "of base",
    ),
    (
        PAPER,
        {
            "design": "path",
            "components": {"a": DROPOUT, "b": KERNEL, "c": {"batch_size": 8}},
            "datasets": {"cifar10": HIDDEN, "mnist": {}},
        },
        "arm without b, c on cifar10: changes nothing: its trials are those of arm without a, b, c",
    ),
    (
        PAPER,
        {"arms": {"x": {"batch_size": 8}}, "datasets": {"mnist": {}, "svhn": {"batch_size": 8}}},
        "ablation.arms.x on svhn: changes nothing: its trials are those of base",
    ),
]


@pytest.mark.parametrize(("base", "ablation", "message"), IDLE, ids=[message for _, _, message in IDLE])
def test_an_arm_that_changes_nothing_is_refused_by_name(
    base: dict[str, Any], ablation: dict[str, Any], message: str
) -> None:
    """An ablation must change something: else base would stand in the report as an ablation of itself."""
    assert refusal(base=base, **ablation) == message


DEPENDENT = {"hidden": HIDDEN, "dropout": DROPOUT}  # without a hidden layer nothing is dropped
ONE_IN_TWO = {"both": {**KERNEL, "batch_size": 8}, "kernel": KERNEL, "size": {"batch_size": 8}}


@pytest.mark.parametrize("design", [{"design": "factorial"}, {"design": "path", "order": "all"}], ids=str)
@pytest.mark.parametrize("components", [DEPENDENT, ONE_IN_TWO], ids=lambda case: "-".join(case))
@pytest.mark.parametrize("backwards", [False, True])
def test_combinations_may_coincide_in_whatever_order_components_stand(
    design: dict[str, Any], components: dict[str, Any], backwards: bool
) -> None:
    stand = list(components.items())[::-1] if backwards else list(components.items())
    result = planned(base=PAPER, components=dict(stand), **design)
    assert len(result.arms) == len(result.trials) == 2 ** len(components)


def test_the_same_arm_on_two_data_sets_is_no_idle_arm() -> None:
    assert len(planned(**ONE, datasets={"mnist": {}, "kmnist": {}, "digits": {}}).trials) == 6


def test_an_arm_with_fewer_training_images_changes_something() -> None:
    assert len(planned(arms={"x": {"dataset.train_limit": 100}}).trials) == 2


# the design for the analysis


def test_the_design_by_hand() -> None:
    """Costs are those of test_cost: the paper's net has 14,862 parameters, its single one 6,930 + 682."""
    submodel = 26 * 26 * 10 * 9 + 11 * 11 * 20 * 90 + 10 * 500
    result = planned(
        base={"stages": "paper"},
        seeds=2,
        design="factorial",
        components={"dual input": {"model.inputs": "single"}},
        alternatives={"model.dropout": [0, 0.5]},
        arms={"fresh": FRESH},
        datasets={"mnist": {}},
        equivalence=0.01,
    )
    dual = {"dataset": "mnist", "match": None, "parameters": 14_862, "macs": 2 * submodel + 960}
    single = {"dataset": "mnist", "match": None, "parameters": 7_612, "macs": submodel + 640}
    out = {"model.inputs": "single"}
    tree = design_tree(result)
    assert json.loads(json.dumps(tree)) == {
        "design": "factorial",
        "base": "base",
        "significance": 0.05,
        "equivalence": 0.01,
        "order": None,
        "seeds": [0, 1],
        "folds": None,
        "factors": [
            {"name": "dual input", "is_component": True, "levels": ["base", "without dual input"]},
            {"name": "dropout", "is_component": False, "levels": ["base", "dropout 0", "dropout 0.5"]},
        ],
        "arms": [
            {**dual, "arm": "base", "changes": {}, "levels": {"dual input": 0, "dropout": 0}},
            {
                **dual,
                "arm": "dropout 0",
                "changes": {"model.dropout": 0},
                "levels": {"dual input": 0, "dropout": 1},
            },
            {
                **dual,
                "arm": "dropout 0.5",
                "changes": {"model.dropout": 0.5},
                "levels": {"dual input": 0, "dropout": 2},
            },
            {
                **single,
                "arm": "without dual input",
                "changes": out,
                "levels": {"dual input": 1, "dropout": 0},
            },
            {
                **single,
                "arm": "dropout 0, without dual input",
                "changes": {**out, "model.dropout": 0},
                "levels": {"dual input": 1, "dropout": 1},
            },
            {
                **single,
                "arm": "dropout 0.5, without dual input",
                "changes": {**out, "model.dropout": 0.5},
                "levels": {"dual input": 1, "dropout": 2},
            },
            {**dual, "arm": "fresh", "changes": FRESH, "levels": None},
        ],
        "search": None,
        "test_images": {"mnist": 10_000},
        "classes": {"mnist": list("0123456789")},
        "datasets": {},
        "placebo": None,
    }


def test_the_order_of_a_path_is_in_the_design() -> None:
    components = {"a": KERNEL, "b": HIDDEN}
    orders = [None, ["b", "a"], "all"]
    found = [design_tree(planned(design="path", components=components, order=order)) for order in orders]
    assert [json.loads(json.dumps(tree["order"])) for tree in found] == [["a", "b"], ["b", "a"], "all"]


def test_a_matched_arms_cost_in_the_design_is_the_matched_one() -> None:
    found = arms_of(planned(arms={"x": {"model.inputs": "single", "match": "parameters"}}))
    assert found["x"]["match"] == "parameters"
    assert found["x"]["parameters"] == pytest.approx(found["base"]["parameters"], rel=0.01)


def arms_of(result: Plan) -> dict[str, Any]:
    return {arm["arm"]: arm for arm in design_tree(result)["arms"]}


def test_a_sweep_without_an_ablation_has_no_design() -> None:
    some = Sweep.model_validate({"name": "t", "dataset": {"name": "digits"}, "seeds": 1})
    tree = design_tree(plan(some, lambda dataset: describe(dataset, Path("nowhere"))))
    assert [tree[key] for key in ("design", "base", "order", "factors")] == [None, None, None, []]
    assert [arm["levels"] for arm in tree["arms"]] == [None]
