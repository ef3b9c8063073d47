import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from ruamel.yaml import YAML

from lightsweep.errors import nearest
from lightsweep.hashing import canonical_json, content_hash
from lightsweep.nets.blocks import levels
from lightsweep.owncode.sources import shipped_nets
from lightsweep.sweepfile import arm, augmentation, dataset, net, stages, sweep
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.augmentation import TRANSFORM_RANGES, TransformSpec
from lightsweep.sweepfile.called import Called
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.reading import load_sweep
from lightsweep.sweepfile.settings import Spec
from lightsweep.sweepfile.stages import Compression, PresetEpochs, StagePreset, StageSpec
from lightsweep.sweepfile.sweep import Resources, Sweep

SHIPPED = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))
SPECS = [
    cls
    for module in (arm, augmentation, dataset, net, stages, sweep)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, Spec) and cls not in (Spec, Called)
]
MINIMAL: dict[str, Any] = {"name": "t", "dataset": {"name": "digits"}}
SCHEMA = Draft202012Validator(Sweep.model_json_schema())


def test_canonical_json_does_not_depend_on_order() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": {"d": True, "c": "é"}}) == (
        '{"a":{"c":"\\u00e9","d":true},"b":[1,2.5,null]}'
    )


def test_canonical_json_refuses_what_is_no_json() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        canonical_json([float("nan")])


def test_content_hash_is_sha256_of_the_canonical_text() -> None:
    assert content_hash({"b": 1, "a": 2}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5), st.randoms(use_true_random=False))
def test_content_hash_ignores_the_order_of_keys(content: dict[str, Any], randomness: Any) -> None:
    keys = list(content)
    randomness.shuffle(keys)
    assert content_hash({key: content[key] for key in keys}) == content_hash(content)


@pytest.mark.parametrize(
    ("name", "choices", "expected"),
    [
        ("filtres", ["kernel", "filters"], "did you mean filters?"),
        ("xyz", ["kernel", "filters"], "there are filters, kernel"),
        (3, ["kernel", "filters"], "there are filters, kernel"),
    ],
)
def test_nearest_names_the_one_meant_or_all(name: object, choices: list[str], expected: str) -> None:
    assert nearest(name, choices) == expected


@pytest.mark.parametrize("cls", SPECS, ids=lambda cls: cls.__name__)
def test_every_key_is_documented(cls: type[Spec]) -> None:
    for name, field in cls.model_fields.items():
        assert field.description, f"{cls.__name__}.{name}"


@pytest.mark.parametrize("cls", SPECS, ids=lambda cls: cls.__name__)
def test_unknown_keys_are_refused_by_every_spec(cls: type[Spec]) -> None:
    known = next(iter(cls.model_fields))
    with pytest.raises(ValidationError, match=re.escape(f"unknown key: did you mean {known}?")):
        cls.model_validate({f"{known}s": 1})


def test_specs_are_frozen_and_hashable() -> None:
    model = ModelSpec()
    with pytest.raises(ValidationError, match="frozen"):
        model.filters = (3,)  # type: ignore[misc]
    assert {model: 1}[ModelSpec()] == 1


@pytest.mark.parametrize("name", TRANSFORM_RANGES)
def test_transform_ranges_are_inclusive_and_no_wider(name: Any) -> None:
    _, lowest, highest = TRANSFORM_RANGES[name]
    assert TransformSpec(transform=name, range=(lowest, highest)).range == (lowest, highest)
    for low, high in [(lowest - 0.01, highest), (lowest, highest + 0.01), (highest, lowest)]:
        with pytest.raises(ValidationError, match=f"{name} needs a range"):
            TransformSpec(transform=name, range=(low, high))
    with pytest.raises(ValidationError, match=f"{name} needs a range"):
        TransformSpec(transform=name)


@pytest.mark.parametrize("preset", ["paper", "gradual", "all-at-once", "frozen", "scratch"])
def test_a_presets_name_is_the_preset_with_its_usual_epochs(preset: Any) -> None:
    expected = StagePreset(preset=preset, epochs=PresetEpochs(dual=50, fusion=20, finetune=50))
    assert ArmSpec(stages=preset).stages == expected


@pytest.mark.parametrize(("seeds", "expected"), [(3, (0, 1, 2)), (1, (0,)), ((7, 2, 9), (7, 2, 9))])
def test_seeds_are_a_number_or_the_seeds_themselves(seeds: Any, expected: tuple[int, ...]) -> None:
    assert Sweep(name="t", dataset=DatasetSpec(name="digits"), seeds=seeds).seed_list == expected


@pytest.mark.parametrize("name", ["a", "7", "a.b_c-D", "x" * 100])
def test_run_names_that_are_folders_are_accepted(name: str) -> None:
    assert Sweep.model_validate({**MINIMAL, "name": name}).name == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "/a", ".hidden", "-a", "a b", "a\n", "é", "x" * 101, "C:a"]
)
def test_run_names_that_are_no_plain_folders_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="only; --out sets the folder of runs"):
        Sweep.model_validate({**MINIMAL, "name": name})


NO_WIDTH = ("paper-cnn", "logistic-regression")
LEVELS = {
    ("conv1x1", "heads"): ("conv1", "conv2", "head"),
    ("conv1x1", "fused"): ("conv1", "conv2", "head", "hidden", "output"),
    ("fresh", "fused"): ("conv1", "conv2", "head", "hidden", "output"),
    ("concatenate", "heads"): ("conv1", "conv2", "head"),
    ("concatenate", "fused"): ("conv1", "conv2", "hidden", "output"),
    ("average", "fused"): ("conv1", "conv2", "head"),
}


@pytest.mark.parametrize(("fusion", "network"), LEVELS)
def test_levels_from_input_to_output(fusion: Any, network: Any) -> None:
    assert levels(ModelSpec(fusion=fusion), (1, 28, 28), 10, network) == LEVELS[fusion, network]


def test_levels_without_hidden_layer() -> None:
    assert levels(ModelSpec(filters=(3,), hidden=None), (1, 28, 28), 10, "fused") == (
        "conv1",
        "head",
        "output",
    )
    assert levels(ModelSpec(inputs="single", fusion="none"), (1, 28, 28), 10, "fused") == (
        "conv1",
        "conv2",
        "head",
    )


def test_levels_of_reference_nets() -> None:
    counts = {name: len(levels(ModelSpec(net=name), (1, 28, 28), 10, "fused")) for name in shipped_nets()}
    assert counts == {
        "paper-cnn": 5,
        "mobilenet-v2": 20, "shufflenet-v2": 19, "squeezenet": 10, "mnasnet": 20, "efficientnet-b0": 19,
        "lenet-5": 3, "plain-cnn": 4, "logistic-regression": 1,
    }  # fmt: skip
    assert levels(ModelSpec(net="lenet-5"), (1, 28, 28), 10, "heads") == ("conv1", "conv2", "head")
    assert levels(ModelSpec(net="logistic-regression"), (1, 28, 28), 10, "heads") == ("head",)


def test_a_net_is_of_submodels_or_a_reference_by_its_keys() -> None:
    assert ArmSpec.model_validate({"model": {}}).model == ModelSpec()
    found = ArmSpec.model_validate({"model": {"net": "plain-cnn", "width": 2}}).model
    assert found == ModelSpec(net="plain-cnn", width=2.0)


@given(
    st.builds(
        ModelSpec,
        net=st.sampled_from([name for name in shipped_nets() if name not in NO_WIDTH]),
        width=st.floats(0.01, 8),
    )
    | st.just(ModelSpec(net="logistic-regression")),
    st.none()
    | st.builds(
        Compression,
        prune=st.sampled_from([None, "weights", "filters"]),
        amount=st.floats(0.01, 0.99),
        optimizer=st.sampled_from(["nadam", "adam", "sgd"]),
        epochs=st.integers(1, 99),
        patience=st.none() | st.integers(1, 9),
        quantise=st.just("int8"),
    ),
)
@settings(max_examples=30)
def test_reference_and_compressed_arms_fit_the_schema_and_come_back_from_a_file(
    model: ModelSpec, compression: Compression | None
) -> None:
    sweep = Sweep(
        name="t",
        dataset=DatasetSpec(name="digits"),
        base=ArmSpec(model=model, stages="paper", compression=compression),
    )
    tree = sweep.model_dump(mode="json")
    assert [error.message for error in SCHEMA.iter_errors(tree)] == []
    assert Sweep.model_validate(tree) == sweep


def test_the_json_schema_is_one() -> None:
    schema = Sweep.model_json_schema()
    Draft202012Validator.check_schema(schema)
    assert {"name", "dataset", "seeds", "base", "grid", "ablation", "search"} <= schema["properties"].keys()
    wrong = {"name": "t", "dataset": {"name": "digits"}, "sedes": 3}
    assert ["sedes" in error.message for error in SCHEMA.iter_errors(wrong)] == [True]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_json_schema_accepts_shipped_sweeps(path: Path) -> None:
    tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    assert [error.message for error in SCHEMA.iter_errors(tree)] == []


@given(st.from_type(Sweep))
@settings(max_examples=50)
def test_the_json_schema_accepts_what_the_spec_accepts(sweep: Sweep) -> None:
    assert [error.message for error in SCHEMA.iter_errors(sweep.model_dump(mode="json"))] == []


@pytest.mark.parametrize(
    "base",
    [
        {"augmentation": "a.py:f"},
        {"augmentation": ["a.py:f", {"transform": "flip"}]},
        {
            "stages": [
                {"name": "a", "epochs": 1, "loss": "l.py:f", "optimizer": "o.py:f", "schedule": "s.py:f"}
            ]
        },
        {"stages": [{"name": "a", "epochs": 1, "loss": "cross-entropy", "optimizer": "AdamW"}]},
    ],
)
def test_the_json_schema_and_the_reader_accept_a_function_alone(base: dict[str, Any], tmp_path: Path) -> None:
    tree = {**MINIMAL, "base": base}
    assert [error.message for error in SCHEMA.iter_errors(tree)] == []
    for file in "alos":
        (tmp_path / f"{file}.py").write_text("def f(a, b=None, *, lr=0.1): ...\n")
    (tmp_path / "t.yaml").write_text(json.dumps(tree))
    load_sweep(tmp_path / "t.yaml")


WRONG_TREES = [
    {**MINIMAL, "bass": {}},
    {**MINIMAL, "dataset": {"name": "digits", "validaton": 3}},
    {**MINIMAL, "base": {"batch_siz": 3}},
    {**MINIMAL, "base": {"model": {"filtres": [3]}}},
    {**MINIMAL, "base": {"stages": {"preset": "paper", "epoch": {}}}},
    {**MINIMAL, "base": {"stages": [{"name": "a", "epochs": 1, "learning_rate": 0.1}]}},
    {**MINIMAL, "base": {"augmentation": [{"transform": "flip", "p": 0.5}]}},
    {**MINIMAL, "resources": {"cpu": 1}},
    {**MINIMAL, "base": {"stages": "papre"}},
    {**MINIMAL, "dataset": {"name": "mnits"}},
    {**MINIMAL, "base": {"stages": [{"name": "a", "epochs": -1}]}},
    {**MINIMAL, "base": {"model": {"net": "mobilenet"}}},
    {**MINIMAL, "base": {"model": {"net": "lenet-5", "filters": [3]}}},
    {**MINIMAL, "base": {"compression": {"prune": "channels"}}},
    {**MINIMAL, "base": {"compression": {"quantise": "int4"}}},
    {"name": "t"},
]


@pytest.mark.parametrize("tree", WRONG_TREES, ids=str)
def test_the_json_schema_refuses_what_the_spec_refuses(tree: dict[str, Any]) -> None:
    assert list(SCHEMA.iter_errors(tree))
    with pytest.raises(ValidationError):
        Sweep.model_validate(tree)


def test_there_are_the_specs_that_these_tests_know() -> None:
    assert {DatasetSpec, ModelSpec, StageSpec, StagePreset, ArmSpec, Resources, Sweep} < set(SPECS)
    assert len(SHIPPED) >= 5
