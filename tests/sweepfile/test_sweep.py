from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from spec_strategies import LINES
from sweep_texts import load

from lightsweep.data.datasets import describe
from lightsweep.errors import InputError
from lightsweep.planning.plan import plan
from lightsweep.sweepfile.reading import dump_sweep, load_sweep
from lightsweep.sweepfile.sweep import Ablation, Sweep

HEAD = "name: t\ndataset: {name: digits}\n"
ABLATION = HEAD + "ablation:\n"
# line 4 is the design, 5 its table, 6 and 7 the components
ONE_KIND = "a sweep has at most one of grid, ablation and search, not grid and ablation"
OUT = (
    ABLATION + "  design: leave-one-out\n  components:\n    a: {model.kernel: 2}\n    b: {model.hidden: 8}\n"
)
TRIED = ABLATION + "  design: one-at-a-time\n  alternatives:\n    model.kernel: [2, 4]\n"
FREE = ABLATION + "  arms:\n    x: "


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(text: str, *overrides: str) -> str:
    """Return what loading a sweep file complains of, which must be one line."""
    with pytest.raises(InputError) as caught:
        load(text, *overrides)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def path(text: str) -> str:
    return OUT.replace("leave-one-out", "path") + text


DATASETS = (
    "digits, mnist, fashion-mnist, kmnist, cifar10, cifar100, svhn, stl10, tiny-imagenet, npz, imagefolder, "
    "or FILE.py:function"
)
PLAIN = "must be numbers, strings, true, false, null, lists or mappings; quote dates"
SOMETHING = "must change something: keys below base, such as model.hidden, with their values"
ORDER = "t.yaml, line 3: ablation: order must name each component once: a, b"
# the file's text -> the message
WRONG: dict[str, str] = {
    # designs and what they need
    OUT.replace("leave-one-out", "leave-one-outt"): (
        "t.yaml, line 4: ablation.design = 'leave-one-outt': must be one of leave-one-out, one-at-a-time, "
        "factorial, path; did you mean leave-one-out?"
    ),
    ABLATION + "  {}\n": "t.yaml, line 3: ablation: needs a design, or arms",
    ABLATION + "  arms: {}\n": "t.yaml, line 3: ablation: needs a design, or arms",
    ABLATION + "  design: leave-one-out\n": "t.yaml, line 3: ablation: design leave-one-out needs components",
    ABLATION + "  design: path\n": "t.yaml, line 3: ablation: design path needs components",
    ABLATION + "  design: one-at-a-time\n": (
        "t.yaml, line 3: ablation: design one-at-a-time needs alternatives"
    ),
    ABLATION + "  design: factorial\n": (
        "t.yaml, line 3: ablation: design factorial needs components or alternatives"
    ),
    ABLATION + "  design: path\n  arms: {x: {model.kernel: 2}}\n": (
        "t.yaml, line 3: ablation: design path needs components"
    ),
    OUT.replace("leave-one-out", "one-at-a-time"): (
        "t.yaml, line 3: ablation: design one-at-a-time takes alternatives, no components"
    ),
    TRIED.replace("one-at-a-time", "leave-one-out"): (
        "t.yaml, line 3: ablation: design leave-one-out takes components, no alternatives"
    ),
    TRIED.replace("one-at-a-time", "path"): (
        "t.yaml, line 3: ablation: design path takes components, no alternatives"
    ),
    OUT.replace("leave-one-out", "null"): "t.yaml, line 3: ablation: design null takes arms, no components",
    ABLATION + "  alternatives: {model.kernel: [2]}\n": (
        "t.yaml, line 3: ablation: design null takes arms, no alternatives"
    ),
    ABLATION + "  design: leave-one-out\n  components: {}\n": (
        "t.yaml, line 5: ablation.components: must have at least 1 item"
    ),
    OUT + "grid: {batch_size: [8, 16]}\n": (
        f"t.yaml, line 1: the file: {ONE_KIND}"
    ),
    OUT + "  desing: path\n": "t.yaml, line 8: ablation.desing: unknown key; did you mean design?",
    HEAD + "ablation: leave-one-out\n": (
        "t.yaml, line 3: ablation = 'leave-one-out': must be a mapping of keys"
    ),
    # a path's order
    path("  order: [a]\n"): ORDER,
    path("  order: [a, b, b]\n"): ORDER,
    path("  order: [a, c]\n"): ORDER,
    path("  order: []\n"): ORDER,
    path("  order: any\n"): "t.yaml, line 8: ablation.order = 'any': must be one of all",
    path("  order: al\n"): "t.yaml, line 8: ablation.order = 'al': must be one of all; did you mean all?",
    OUT + "  order: all\n": "t.yaml, line 3: ablation: order is for design: path",
    OUT + "  order: [a, b]\n": "t.yaml, line 3: ablation: order is for design: path",
    # changes
    FREE + "{}\n": f"t.yaml, line 5: ablation.arms.x: {SOMETHING}",
    FREE + "{match: macs}\n": f"t.yaml, line 5: ablation.arms.x: {SOMETHING}",
    FREE + "{match: macs, within: 0.1}\n": f"t.yaml, line 5: ablation.arms.x: {SOMETHING}",
    OUT.replace("{model.hidden: 8}", "{}"): f"t.yaml, line 7: ablation.components.b: {SOMETHING}",
    FREE + "[3]\n": "t.yaml, line 5: ablation.arms.x = [3]: must be a mapping of keys",
    FREE + "\n": "t.yaml, line 5: ablation.arms.x = null: must be a mapping of keys",
    FREE + "{3: 4}\n": "t.yaml, line 5: ablation.arms.x.3 = 4: must be a valid string",
    FREE + "{model.hidden: 2020-01-01}\n": f"t.yaml, line 5: ablation.arms.x: values of changes {PLAIN}",
    TRIED.replace("[2, 4]", "[2020-01-01]"): (
        f"t.yaml, line 5: ablation.alternatives: values of model.kernel {PLAIN}"
    ),
    TRIED.replace("[2, 4]", "[]"): (
        "t.yaml, line 6: ablation.alternatives.model.kernel = []: must have at least 1 item"
    ),
    TRIED.replace("[2, 4]", "4"): (
        "t.yaml, line 6: ablation.alternatives.model.kernel = 4: must be a valid list"
    ),
    # equal costs
    FREE + "{model.kernel: 2, match: paramters}\n": (
        "t.yaml, line 5: ablation.arms.x: match = paramters: did you mean parameters?"
    ),
    FREE + "{model.kernel: 2, match: seconds}\n": (
        "t.yaml, line 5: ablation.arms.x: match = seconds: there are compute, macs, parameters"
    ),
    FREE + "{model.kernel: 2, match: null}\n": (
        "t.yaml, line 5: ablation.arms.x: match = null: there are compute, macs, parameters"
    ),
    FREE + "{model.kernel: 2, match: [macs]}\n": (
        't.yaml, line 5: ablation.arms.x: match = ["macs"]: did you mean macs?'
    ),
    FREE + "{model.kernel: 2, within: 0.1}\n": (
        "t.yaml, line 5: ablation.arms.x: within is the tolerance of a match, and there is no match here"
    ),
    TRIED.replace("model.kernel", "match").replace("[2, 4]", "[macs]"): (
        "t.yaml, line 5: ablation.alternatives: match is not a key below base; it belongs to the changes of "
        "a component or an arm"
    ),
    TRIED.replace("model.kernel", "within"): (
        "t.yaml, line 5: ablation.alternatives: within is not a key below base; it belongs to the changes of "
        "a component or an arm"
    ),
    # data sets and numbers
    OUT + "  datasets: {mnits: {}}\n": (
        f"t.yaml, line 8: ablation.datasets.mnits: must be one of {DATASETS}; did you mean mnist?"
    ),
    OUT + "  datasets: [mnist]\n": "t.yaml, line 8: ablation.datasets = ['mnist']: must be a mapping of keys",
    OUT + "  datasets: {mnist: null}\n": (
        "t.yaml, line 8: ablation.datasets.mnist = null: must be a mapping of keys"
    ),
    OUT + "  datasets: {}\n": "t.yaml, line 8: ablation.datasets: must have at least 1 item",
    OUT + "  significance: 0\n": "t.yaml, line 8: ablation.significance = 0: must be greater than 0",
    OUT + "  equivalence: 1\n": "t.yaml, line 8: ablation.equivalence = 1: must be less than 1",
    OUT + "  equivalence: true\n": "t.yaml, line 8: ablation.equivalence = true: must be a valid number",
}  # fmt: skip
WITHIN = ["1", "-0.01", "true", "null", "1%", "[0.1]"]
WRONG |= {
    FREE + f"{{model.kernel: 2, match: macs, within: {within}}}\n": (
        f"t.yaml, line 5: ablation.arms.x: within = {within}: must be a fraction, such as 0.01 for one "
        "percent"
    )
    for within in WITHIN
}


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=WRONG.values())
def test_wrong_ablations_are_refused_with_place_value_rule_and_remedy(text: str, message: str) -> None:
    assert refusal(text) == message


def components(count: int) -> str:
    return "  components:\n" + "".join(f"    c{n}: {{batch_size: {n + 1}}}\n" for n in range(count))


def test_too_many_combinations_are_refused() -> None:
    """4,096 may be made, of components, of alternatives and of a path's orders."""
    assert load(ABLATION + "  design: factorial\n" + components(12)).ablation
    for design in ("  design: factorial\n", "  design: path\n  order: all\n"):
        assert refusal(ABLATION + design + components(13)) == (
            "t.yaml, line 3: ablation: makes 8,192 combinations; at most 4,096"
        )
    tried = "  alternatives: {batch_size: [8, 16]}\n"
    assert load(ABLATION + "  design: factorial\n" + components(10) + tried).ablation
    assert refusal(ABLATION + "  design: factorial\n" + components(11) + tried) == (
        "t.yaml, line 3: ablation: makes 6,144 combinations; at most 4,096"
    )


def test_designs_that_grow_with_the_number_of_components_take_many() -> None:
    for design in ("  design: leave-one-out\n", "  design: path\n"):
        ablation = load(ABLATION + design + components(50)).ablation
        assert ablation is not None
        assert len(ablation.components or {}) == 50


# good ones

GOOD: list[dict[str, Any]] = [
    {"design": "leave-one-out", "components": {"a": {"model.kernel": 2}}},
    {
        "design": "leave-one-out",
        "components": {"dual input": {"model.inputs": "single", "match": "parameters", "within": 0.02}},
        "arms": {"equal compute": {"model.inputs": "single", "match": "compute"}},
        "datasets": {"mnist": {}, "npz": {"dataset.path": "x.npz", "model.filters": [3, 4]}},
        "significance": 0.01,
        "equivalence": 0.002,
    },
    {
        "design": "one-at-a-time",
        "alternatives": {"model.hidden": [None, 8], "stages": [[{"name": "a", "epochs": 1}], "scratch"]},
    },
    {
        "design": "factorial",
        "components": {"a": {"model.kernel": 2}},
        "alternatives": {"batch_size": [8, 16]},
    },
    {"design": "factorial", "alternatives": {"batch_size": [8, 16]}},
    {"design": "path", "components": {"a": {"model.kernel": 2}, "b": {"batch_size": 8}}, "order": ["b", "a"]},
    {"design": "path", "components": {"a": {"model.kernel": 2}, "b": {"batch_size": 8}}, "order": "all"},
    {"arms": {"plain: CNN, #1": {"model.inputs": "single", "model.fusion": "none", "match": "macs"}}},
]
SCHEMA = Draft202012Validator(Sweep.model_json_schema())


def tree(ablation: dict[str, Any]) -> dict[str, Any]:
    return {"name": "t", "dataset": {"name": "digits"}, "ablation": ablation}


@pytest.mark.parametrize("ablation", GOOD, ids=lambda case: str(case)[:40])
def test_the_schema_accepts_and_a_dump_gives_back_what_the_spec_accepts(ablation: dict[str, Any]) -> None:
    sweep = Sweep.model_validate(tree(ablation))
    assert [error.message for error in SCHEMA.iter_errors(tree(ablation))] == []
    assert [error.message for error in SCHEMA.iter_errors(sweep.model_dump(mode="json"))] == []
    assert load(dump_sweep(sweep)) == sweep


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
)  # fmt: skip
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text("ab.:-", min_size=1), SCALARS)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
FRACTIONS = st.floats(0, 1, exclude_min=True, exclude_max=True)


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    found = draw(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
    if draw(st.booleans()):
        found["match"] = draw(st.sampled_from(["parameters", "macs", "compute"]))
        if draw(st.booleans()):
            found["within"] = draw(FRACTIONS)
    return found


@st.composite
def ablations(draw: st.DrawFn) -> Ablation:
    design = draw(st.sampled_from(["leave-one-out", "one-at-a-time", "factorial", "path", None]))
    tables: dict[str, Any] = {}
    if design in ("leave-one-out", "path", "factorial"):
        tables["components"] = draw(st.dictionaries(LINES, changes(), min_size=1, max_size=3))
    if design in ("one-at-a-time", "factorial"):
        values = st.lists(VALUES, min_size=1, max_size=3)
        tables["alternatives"] = draw(st.dictionaries(KEYS, values, min_size=1, max_size=2))
    if design == "path":
        tables["order"] = draw(st.none() | st.just("all") | st.permutations(list(tables["components"])))
    nests = st.dictionaries(st.sampled_from(["mnist", "svhn"]), st.dictionaries(KEYS, VALUES), min_size=1)
    return Ablation(
        design=design,
        arms=draw(st.dictionaries(LINES, changes(), min_size=0 if design else 1, max_size=2)),
        datasets=draw(st.none() | nests),
        significance=draw(FRACTIONS),
        equivalence=draw(FRACTIONS),
        **tables,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("written") / "sweep.yaml"


@given(ablation=ablations())
@settings(max_examples=40)
def test_a_dumped_ablation_is_loaded_as_equal(written: Path, ablation: Ablation) -> None:
    sweep = Sweep.model_validate(tree({}) | {"ablation": ablation})
    assert [error.message for error in SCHEMA.iter_errors(sweep.model_dump(mode="json"))] == []
    written.write_text(dump_sweep(sweep), encoding="utf-8")
    assert load_sweep(written) == sweep


WRONG_TREES = [
    tree({"design": "leave-one-outt", "components": {"a": {"model.kernel": 2}}}),
    tree({"design": "leave-one-out", "component": {"a": {"model.kernel": 2}}}),
    tree({"design": "leave-one-out", "components": {}}),
    tree({"design": "leave-one-out", "components": {"a": 2}}),
    tree({"design": "one-at-a-time", "alternatives": {"model.kernel": []}}),
    tree({"design": "path", "components": {"a": {"model.kernel": 2}}, "order": "any"}),
    tree({"arms": {"x": {"model.kernel": 2}}, "datasets": {"mnits": {}}}),
    tree({"arms": {"x": {"model.kernel": 2}}, "equivalence": [1]}),
]


@pytest.mark.parametrize("wrong", WRONG_TREES, ids=lambda wrong: str(wrong["ablation"])[:60])
def test_the_schema_refuses_what_the_spec_refuses(wrong: dict[str, Any]) -> None:
    assert list(SCHEMA.iter_errors(wrong))
    with pytest.raises(ValueError, match="validation error"):
        Sweep.model_validate(wrong)


def test_defaults() -> None:
    ablation = load(OUT).ablation
    assert ablation is not None
    assert (ablation.significance, ablation.equivalence) == (0.05, 0.005)
    assert (ablation.arms, ablation.datasets, ablation.order) == ({}, None, None)


# --set


def ablation_of(text: str, *overrides: str) -> Ablation:
    ablation = load(text, *overrides).ablation
    assert ablation is not None
    return ablation


def test_set_reaches_an_ablation() -> None:
    assert ablation_of(OUT, "ablation.equivalence=0.01").equivalence == 0.01
    assert ablation_of(OUT, "ablation.design=path", "ablation.order=all").order == "all"
    assert ablation_of(OUT, "ablation.design=path", "ablation.order=[b, a]").order == ("b", "a")
    assert list(ablation_of(OUT, "ablation.datasets={mnist: {}, svhn: {}}").datasets or {}) == [
        "mnist",
        "svhn",
    ]
    assert ablation_of(OUT, "ablation.components.a={batch_size: 8}").components == {
        "a": {"batch_size": 8},
        "b": {"model.hidden": 8},
    }


def test_set_takes_an_ablation_out_and_makes_one() -> None:
    assert load(OUT, "ablation=null").ablation is None
    assert ablation_of(HEAD, "ablation={arms: {x: {batch_size: 8}}}").arms == {"x": {"batch_size": 8}}


WRONG_OVERRIDES = {
    "ablation.equivalence=2": "ablation.equivalence = 2: must be less than 1",
    "ablation.equivalenc=0.1": "unknown key equivalenc in ablation; did you mean equivalence?",
    "ablation.order=all": "ablation: order is for design: path",
    "ablation.components.c={batch_size: 8}": "unknown key c in ablation.components; there are a, b",
    "ablation.components.a={}": f"ablation.components.a: {SOMETHING}",
    "ablation.components=null": "ablation: design leave-one-out needs components",
    "grid.batch_size=[8]": f"the file: {ONE_KIND}",
}


@pytest.mark.parametrize(("override", "message"), WRONG_OVERRIDES.items(), ids=WRONG_OVERRIDES)
def test_wrong_overrides_are_refused_and_named(override: str, message: str) -> None:
    assert refusal(OUT, override) == f"--set {override}: {message}"


def test_a_smaller_difference_that_matters_trains_nothing_anew() -> None:
    """What is asked of the comparison is no part of what is trained."""
    keys = [
        [trial.trial_id for trial in plan(load(OUT, *sets), lambda spec: describe(spec, Path("."))).trials]
        for sets in ([], ["ablation.equivalence=0.01", "ablation.significance=0.1"])
    ]
    assert keys[0] == keys[1]
