from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from sweep_texts import load

from lightsweep.data.datasets import describe
from lightsweep.errors import InputError
from lightsweep.owncode.reference import parse_reference
from lightsweep.planning.plan import plan
from lightsweep.search.space import survey
from lightsweep.sweepfile.reading import assign, dump_sweep, load_sweep
from lightsweep.sweepfile.stages import PresetEpochs, StagePreset
from lightsweep.sweepfile.sweep import Sweep

SHIPPED = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))
HEAD = "name: t\ndataset: {name: digits}\n"
TABLE = HEAD + (
    "base:\n"
    "  stages:\n"
    "    - {name: dual, epochs: 3}\n"
    "    - {name: fusion, epochs: 2, train: last-2}\n"
    "    - {name: finetune, epochs: 4, optimizer: sgd, momentum: 0.9}\n"
)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(text: str, *overrides: str) -> str:
    """Return what loading and planning a sweep file complain of, which must be one line."""
    with pytest.raises(InputError) as caught:
        plan(load(text, *overrides), lambda dataset: describe(dataset, Path("nowhere")))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("written") / "sweep.yaml"


@given(sweep=st.from_type(Sweep))
@settings(max_examples=50)
def test_a_dumped_sweep_is_loaded_as_equal(written: Path, sweep: Sweep) -> None:
    written.write_text(dump_sweep(sweep), encoding="utf-8")
    assert load_sweep(written) == sweep


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_sweeps_load_plan_and_round_trip(
    path: Path, written: Path, request: pytest.FixtureRequest
) -> None:
    sweep = load_sweep(path)
    assert sweep.name == path.stem
    is_own = parse_reference(sweep.dataset.name) is not None  # only its images say how many there are
    data_dir = request.getfixturevalue("real_data") if is_own else Path("nowhere")
    planned = plan(sweep, lambda dataset: describe(dataset, data_dir))
    assert survey(planned).feasible if sweep.search else planned.trials
    written.write_text(dump_sweep(sweep), encoding="utf-8")
    assert load_sweep(written) == sweep


def test_a_dump_writes_every_default_out() -> None:
    tree = YAML(typ="safe", pure=True).load(dump_sweep(load(HEAD + "base: {stages: paper}\n")))
    assert tree["seeds"] == 3
    assert tree["base"]["batch_size"] == 64
    assert tree["base"]["model"]["filters"] == [10, 20]
    assert tree["base"]["stages"]["epochs"] == {"dual": 50, "fusion": 20, "finetune": 50}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1E-3", 1e-3), ("2e-05", 2e-5), (".5", 0.5), ("1", 1.0), ("'1e-3'", 1e-3)],
)
def test_numbers_in_all_spellings(text: str, value: float) -> None:
    """PyYAML reads 1e-3 as text."""
    stage = f"{{name: a, epochs: 1, lr: {text}}}"
    by_file = load(HEAD + f"base: {{stages: [{stage}]}}\n")
    by_set = load(TABLE, f"base.stages.dual.lr={text}")
    assert by_file.base.stages[0].lr == by_set.base.stages[0].lr == value  # type: ignore[index]


def epochs(sweep: Sweep) -> list[int]:
    assert isinstance(sweep.base.stages, tuple)
    return [stage.epochs for stage in sweep.base.stages]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], [3, 2, 4]),
        (["base.stages.fusion.epochs=9"], [3, 9, 4]),
        (["base.stages.1.epochs=9"], [3, 9, 4]),
        (["base.stages.*.epochs=9"], [9, 9, 9]),
        (["base.stages.*.epochs=9", "base.stages.0.epochs=1"], [1, 9, 9]),
        (["base.stages.0.epochs=1", "base.stages.*.epochs=9"], [9, 9, 9]),
        ([" base.stages.0.epochs = 1 "], [1, 2, 4]),
    ],
    ids=str,
)
def test_set_by_name_by_index_and_for_all_in_order(overrides: list[str], expected: list[int]) -> None:
    assert epochs(load(TABLE, *overrides)) == expected


def test_set_leaves_the_rest_as_it_is() -> None:
    plain, changed = load(TABLE), load(TABLE, "base.model.filters=[3, 5]")
    assert changed.base.model.filters == [3, 5]
    assert changed == plain.model_copy(
        update={"base": plain.base.model_copy(update={"model": changed.base.model})}
    )


def test_set_takes_whole_subtrees() -> None:
    sweep = load(TABLE, "base.stages={preset: gradual, epochs: {dual: 7}}", "seeds=[4, 2]", "folds=null")
    assert sweep.base.stages == StagePreset(preset="gradual", epochs=PresetEpochs(dual=7))
    assert sweep.seed_list == (4, 2)


def test_set_reaches_a_grid_and_makes_one() -> None:
    grid = HEAD + "base: {stages: paper}\ngrid: {model.filters: [[4, 8], [6, 12]], batch_size: [32]}\n"
    assert load(grid, "grid.batch_size=[16, 64]").grid == {
        "model.filters": [[4, 8], [6, 12]],
        "batch_size": [16, 64],
    }
    assert load(grid, "grid.model.filters=[[3]]").grid == {"model.filters": [[3]], "batch_size": [32]}
    assert load(grid, "grid=null").grid is None
    assert load(TABLE, "grid.stages.dual.lr=[1e-3, 1e-2]").grid == {"stages.dual.lr": [0.001, 0.01]}


def test_assign_copies_the_value_into_each_element() -> None:
    tree: dict[str, Any] = {"a": [{"b": 0}, {"b": 0}]}
    value = [1]
    assign(tree, "a.*.b", value)
    value.append(2)
    tree["a"][0]["b"].append(3)
    assert tree == {"a": [{"b": [1, 3]}, {"b": [1]}]}


STAGES = "base:\n  stages:\n    - {name: a, epochs: 1}\n"
DATASETS = (
    "digits, mnist, fashion-mnist, kmnist, cifar10, cifar100, svhn, stl10, tiny-imagenet, npz, imagefolder, "
    "or FILE.py:function"
)
PRESETS = "paper, gradual, all-at-once, frozen, scratch"
# the file's text -> the message; lines count from the file's first
WRONG_FILES = {
    # the file itself
    "": "t.yaml: the file is empty; a sweep needs at least name and dataset",
    "# only a comment\n": "t.yaml: the file is empty; a sweep needs at least name and dataset",
    "[1, 2]": "t.yaml: a sweep file is a mapping of keys (name, dataset, …), not a list",
    "name: t\ndataset: [digits": (
        "t.yaml, line 2, column 17: not valid YAML: expected ',' or ']', but got '<stream end>'"
    ),
    "name: t\n  dataset: digits\n": (
        "t.yaml, line 2, column 10: not valid YAML: mapping values are not allowed here"
    ),
    HEAD + "\tseeds: 3\n": (
        "t.yaml, line 3, column 1: not valid YAML: found character '\\t' that cannot start any token"
    ),
    HEAD + "seeds: 1\nseeds: 2\n": (
        't.yaml, line 4, column 1: not valid YAML: found duplicate key "seeds" with value "2" '
        '(original value: "1")'
    ),
    HEAD + "x: *foo\n": "t.yaml, line 3, column 4: not valid YAML: found undefined alias 'foo'",
    HEAD + "x: !!python/object/apply:os.system [ls]\n": (
        "t.yaml, line 3, column 4: not valid YAML: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system'"
    ),
    # keys
    HEAD + "bass: {}\n": "t.yaml, line 3: bass: unknown key; did you mean base?",
    HEAD + "xyz: 3\n": (
        "t.yaml, line 3: xyz: unknown key; there are ablation, base, dataset, folds, grid, name, "
        "resources, search, seeds, tracking"
    ),
    HEAD + "base:\n  batch_siz: 3\n": "t.yaml, line 4: base.batch_siz: unknown key; did you mean batch_size?",
    HEAD + "\n# comment\nbase:\n  model:\n    inputs: dual\n    filtres: [3]\n": (
        "t.yaml, line 8: base.model.filtres: unknown key; did you mean filters?"
    ),
    HEAD + "base:\n  stages:\n    - name: a\n      epochs: 1\n      learning: 3\n": (
        "t.yaml, line 7: base.stages.0.learning: unknown key; there are epochs, loss, lr, momentum, name, "
        "optimizer, patience, run, schedule, train, warmup_epochs, weight_decay"
    ),
    HEAD + "base: {stages: {presett: paper}}\n": (
        "t.yaml, line 3: base.stages.presett: unknown key; did you mean preset?"
    ),
    "name: t\n": "t.yaml, line 1: dataset: this key is missing",
    HEAD + "base:\n  stages:\n    - {name: a}\n": "t.yaml, line 5: base.stages.0.epochs: this key is missing",
    # values
    HEAD + "base:\n  batch_size: many\n": "t.yaml, line 4: base.batch_size = 'many': must be a valid integer",
    HEAD + "base:\n  batch_size: 3.5\n": "t.yaml, line 4: base.batch_size = 3.5: must be a valid integer",
    HEAD + "base:\n  batch_size: 0\n": (
        "t.yaml, line 4: base.batch_size = 0: must be greater than or equal to 1"
    ),
    HEAD + "base:\n  stages:\n    - {name: a, epochs: 2}\n    - {name: b, epochs: -3}\n": (
        "t.yaml, line 6: base.stages.1.epochs = -3: must be greater than or equal to 1"
    ),
    HEAD + "base: {stages: papre}\n": (
        f"t.yaml, line 3: base.stages = 'papre': must be one of {PRESETS}; did you mean paper?"
    ),
    HEAD + "base: {model: {filters: [3, x]}}\n": (
        "t.yaml, line 3: base.model.filters.1 = 'x': must be a valid integer"
    ),
    HEAD + "base: {model: {dropout: 1}}\n": "t.yaml, line 3: base.model.dropout = 1: must be less than 1",
    HEAD + "base: {stages: [{name: a, epochs: 1, lr: .inf}]}\n": (
        "t.yaml, line 3: base.stages.0.lr = inf: must be a finite number"
    ),
    HEAD + "base: {stages: [{name: a, epochs: 1, optimizer: adamw}]}\n": (
        "t.yaml, line 3: base.stages.0.optimizer = 'adamw': must be one of nadam, adam, sgd, "
        "FILE.py:function; did you mean adam?"
    ),
    HEAD + "folds: 1\n": "t.yaml, line 3: folds = 1: must be greater than or equal to 2",
    HEAD + "seeds: [1, 1]\n": "t.yaml, line 3: seeds = [1, 1]: seeds must differ from one another",
    HEAD + "base: {augmentation: 3}\n": (
        "t.yaml, line 3: base.augmentation = 3: must be a recipe's name, a list of transforms or "
        "FILE.py:function"
    ),
    "name: t\ndataset: {name: mnits}\n": (
        f"t.yaml, line 2: dataset.name = 'mnits': must be one of {DATASETS}; did you mean mnist?"
    ),
    "dataset: {name: digits}\nname: runs/t\n": (
        "t.yaml, line 2: name = 'runs/t': a run's name has letters, digits, '.', '_' and '-' only; "
        "--out sets the folder of runs"
    ),
    # what only the plan can see
    HEAD + STAGES.replace("1}", "1, train: conv9}\n    - {name: b, epochs: 1}"): (
        "base.stages.0.train (stage a) = 'conv9': matches no block of the net; did you mean conv2?"
    ),
    HEAD + STAGES.replace("1}", "1, train: last-9}\n    - {name: b, epochs: 1}"): (
        "base.stages.0.train (stage a) = 'last-9': the net has 3 levels in this stage (conv1, conv2, head): "
        "last-1 … last-3"
    ),
    HEAD + STAGES.replace("1}", "1, loss: heads}"): (
        "base.stages: none trains loss fused, so the layers of fusion conv1x1 would stay untrained"
    ),
    HEAD + STAGES.replace("1}", "1, loss: fused}\n    - {name: b, epochs: 1, loss: heads}"): (
        "base.stages.1.loss (stage b) = 'heads': the submodels are already fused, so their heads are gone"
    ),
    HEAD + "base: {model: {filters: [4, 4, 4, 4]}, stages: paper}\n": (
        "base.model.filters = [4, 4, 4, 4]: 4 blocks are too many for images of 28 pixels with kernel 3: "
        "at most 3 fit"
    ),
    HEAD + "base: {stages: [{name: a, epochs: 1, train: last-²}]}\n": (
        "base.stages.0.train (stage a) = 'last-²': matches no block of the net; did you mean last-5?"
    ),
    HEAD.replace("digits}", "digits, validation: 100000}"): (
        "dataset.validation = 100000: digits has 1438 training images of 10 classes; "
        "hold out at least one image of each class and leave at least one: "
        "10 to 1428 images, or an equivalent fraction"
    ),
    HEAD.replace("digits}", "digits, train_limit: 5}"): (
        "dataset.train_limit = 5: must be at least one image of each of the 10 classes"
    ),
    HEAD + "seeds: [-1]\n": "t.yaml, line 3: seeds.0 = -1: must be greater than or equal to 0",
    HEAD + "seeds: [1.5]\n": "t.yaml, line 3: seeds.0 = 1.5: must be a valid integer",
    HEAD + "seeds: [0, 9223372036854775808]\n": (
        "t.yaml, line 3: seeds.1 = 9223372036854775808: must be less than or equal to 9007199253740991"
    ),
    HEAD + "base: {stages: [{name: a, epochs: 1, train: [1]}]}\n": (
        "t.yaml, line 3: base.stages.0.train.0 = 1: must be a valid string"
    ),
    HEAD + 'ablation: {arms: {"  ": {model.hidden: 8}}}\n': (
        "t.yaml, line 3: ablation.arms. : must contain a visible character"
    ),
    HEAD + 'ablation: {arms: {"\\u200b": {model.hidden: 8}}}\n': (
        "t.yaml, line 3: ablation.arms.\\u200b: must contain a visible character"
    ),
    HEAD + "search: {trials: 2, space: {model.hidden: [4]}, storage: 'mysql://me:hunter2@h/d'}\n": (
        "t.yaml, line 3: search: storage has a password, and reports show this file; put it into ~/.pgpass "
        "or $PGPASSWORD"
    ),
    HEAD + "search: {trials: 2, space: {model.hidden: [4]}, storge: 'postgresql://me:hunter2@h/d'}\n": (
        "t.yaml, line 3: search.storge: unknown key; did you mean storage?"
    ),
    HEAD + "base: {stages: 3}\n": (
        "t.yaml, line 3: base.stages = 3: must be a preset's name, a preset with its epochs, or a list "
        "of stages"
    ),
    HEAD + "base: {stages: [{name: a, epochs: 1, lr: true}]}\n": (
        "t.yaml, line 3: base.stages.0.lr = true: must be a valid number"
    ),
    HEAD + "base: {model: {hidden: 1000000000000000000}}\n": (
        "t.yaml, line 3: base.model.hidden = 1000000000000000000: must be less than or equal to 65536"
    ),
    # reference nets and compression
    HEAD + "base: {model: {net: mobilenet}}\n": (
        "t.yaml, line 3: base.model.net = 'mobilenet': must be a shipped net or FILE.py:function; did you "
        "mean mobilenet-v2?"
    ),
    HEAD + "base: {model: {net: lenet-5, width: 0}}\n": (
        "t.yaml, line 3: base.model.width = 0: must be from 0.01 to 8"
    ),
    HEAD + "base: {model: {net: lenet-5, width: -1}}\n": (
        "t.yaml, line 3: base.model.width = -1: must be from 0.01 to 8"
    ),
    HEAD + "base: {model: {net: lenet-5, width: 9}}\n": (
        "t.yaml, line 3: base.model.width = 9: must be from 0.01 to 8"
    ),
    HEAD + "base: {model: {net: lenet-5, width: true}}\n": (
        "t.yaml, line 3: base.model.width = true: must be a valid number"
    ),
    HEAD + "base: {model: {net: lenet-5, widht: 2}}\n": (
        "t.yaml, line 3: base.model.widht: unknown key; did you mean width?"
    ),
    HEAD + "base: {model: lenet-5}\n": ("t.yaml, line 3: base.model = 'lenet-5': must be a mapping of keys"),
    "name: t\ndataset: {name: digits, image_size: 11}\nbase: {model: {net: lenet-5}}\n": (
        "base.model.net = 'lenet-5': images of 11 pixels are too small; it needs at least 12"
    ),
    HEAD + "base: {compression: {prune: weights, amount: 0}}\n": (
        "t.yaml, line 3: base.compression.amount = 0: must be greater than 0"
    ),
    HEAD + "base: {compression: {prune: weights, amount: 1}}\n": (
        "t.yaml, line 3: base.compression.amount = 1: must be less than 1"
    ),
    HEAD + "base: {compression: {quantise: int4}}\n": (
        "t.yaml, line 3: base.compression.quantise = 'int4': must be one of int8; did you mean int8?"
    ),
    HEAD + "base: {stages: [{name: prune, epochs: 1}], compression: {prune: weights}}\n": (
        "base.stages: the name prune is reserved for compression; rename that stage"
    ),
    HEAD + "base: {stages: [{name: quantise, epochs: 1}], compression: {quantise: int8}}\n": (
        "base.stages: the name quantise is reserved for compression; rename that stage"
    ),
    HEAD + "base: {compression: {quantise: int8}}\nablation: {arms: {a: {compression.amount: 0.3}}}\n": (
        "ablation.arms.a: changes nothing: its trials are those of base"
    ),
    # grids
    HEAD + "grid: {model.kernel: [2020-01-01]}\n": (
        "t.yaml, line 3: grid: values of model.kernel must be numbers, strings, true, false, null, lists "
        "or mappings; quote dates"
    ),
    HEAD + "folds: 3\ngrid: {dataset.validation: [0.1, 0.2]}\n": (
        "grid.dataset.validation: changes nothing: all its values make the same trials"
    ),
    HEAD + "grid: {modle.filters: [[3]]}\n": (
        "grid.modle.filters: no such key below base (or dataset); did you mean model?"
    ),
    HEAD + "grid: {base.model.filters: [[3], [4]]}\n": (
        "grid.base.model.filters: no such key below base (or dataset); write model.filters"
    ),
    HEAD + "grid: {batch_size: [32, 32]}\n": "grid.batch_size: 32 is listed twice; drop one",
    HEAD + "grid: {batch_size: [32, -1]}\n": (
        "grid (batch_size = -1): batch_size = -1: must be greater than or equal to 1"
    ),
    HEAD + "base: {model: {hidden: null}}\ngrid: {model.dropout: [0.1, 0.2]}\n": (
        "grid.model.dropout: changes nothing: all its values make the same trials"
    ),
    HEAD + "grid: {model.kernel: [3, 11]}\n": (
        "arm kernel 11: model.filters = [10, 20]: 2 blocks are too many for images of 28 pixels with "
        "kernel 11: at most 1 fit"
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG_FILES.items(), ids=WRONG_FILES.values())
def test_wrong_files_are_refused_with_place_value_rule_and_remedy(text: str, message: str) -> None:
    assert refusal(text) == message


# what stands in the message after the place and the (abridged) value
RULES = {
    "base: {stages: [{name: a, epochs: 1, momentum: 0.9}]}": (
        "momentum is for optimizer: sgd; nadam has its own moments"
    ),
    "base: {stages: [{name: a, epochs: 2, warmup_epochs: 2}]}": "warmup_epochs (2) must be below epochs (2)",
    "base: {stages: [{name: a, epochs: 1}, {name: a, epochs: 1}]}": "no two stages may share a name",
    "base: {model: {fusion: none}}": "two submodels need a fusion: conv1x1, concatenate, average or fresh",
    "base: {model: {inputs: single, fusion: average}}": (
        "fusion average needs inputs: dual; the mean over one submodel is fusion: none"
    ),
    "base: {augmentation: [{transform: rotate}]}": (
        "rotate needs a range [low, high] of degrees from -180 to 180"
    ),
    "base: {augmentation: [{transform: flip, range: [1, 2]}]}": "flip takes no range, only a probability",
    "base: {model: {net: lenet-5, filters: [3], hidden: 3}}": ("filters: unknown key; lenet-5 takes width"),
    "base: {model: {net: logistic-regression, width: 2}}": (
        "width: unknown key; logistic-regression takes no keys of its own"
    ),
    "base: {compression: {}}": "must do something: prune: weights or filters, quantise: int8, or both",
    "base: {compression: {amount: 0.3}}": (
        "must do something: prune: weights or filters, quantise: int8, or both"
    ),
}


@pytest.mark.parametrize(("text", "rule"), RULES.items(), ids=RULES.values())
def test_combinations_that_cannot_be_are_refused_with_their_rule(text: str, rule: str) -> None:
    message = refusal(HEAD + text)
    assert message.startswith("t.yaml, line 3: base.")
    assert message.endswith(rule)


def test_filters_of_a_reference_net_are_not_pruned() -> None:
    assert refusal(HEAD + "base: {model: {net: lenet-5}, compression: {prune: filters}}").startswith(
        "base.compression.prune = 'filters': lenet-5 does not say how (methods narrower and pruned); "
    )


def test_pruning_that_removes_nothing_is_refused() -> None:
    assert refusal(HEAD + "base: {compression: {prune: filters, amount: 0.02}}") == (
        "base.compression.amount = 0.02: removes no filter of paper-cnn with filters = [10, 20]; each "
        "convolution keeps at least one; take a larger amount"
    )


WRONG_OVERRIDES = {
    "base.batch_size": "write KEY=VALUE, such as base.batch_size=128",
    "=3": "write KEY=VALUE, such as base.batch_size=128",
    "base.batch_siz=3": "unknown key batch_siz in base; did you mean batch_size?",
    "bass.batch_size=3": "unknown key bass in the top level; did you mean base?",
    "base.batch_size=x": "base.batch_size = 'x': must be a valid integer",
    "base.batch_size.x=3": "base.batch_size is 64, which has no key x",
    "base.stages.finetun.lr=1": "no element finetun in base.stages; did you mean finetune?",
    "base.stages.7.lr=1": "no element 7 in base.stages; there are dual, finetune, fusion",
    "base.stages.*.lrr=1": "unknown key lrr in base.stages.0; did you mean lr?",
    "base.stages.*.epochs=-1": "base.stages.0.epochs = -1: must be greater than or equal to 1",
    "base.model.filters.7=3": "no element 7 in base.model.filters; there are 0, 1",
    "grid.model.filters=3": "grid.model.filters = 3: must be a valid list",
    "name=a/b": (
        "name = 'a/b': a run's name has letters, digits, '.', '_' and '-' only; --out sets the folder of runs"
    ),
}


@pytest.mark.parametrize(("override", "message"), WRONG_OVERRIDES.items(), ids=WRONG_OVERRIDES)
def test_wrong_overrides_are_refused_and_named(override: str, message: str) -> None:
    assert refusal(TABLE, override) == f"--set {override}: {message}"


def test_of_several_overrides_the_wrong_one_is_named() -> None:
    assert refusal(TABLE, "seeds=2", "seed=3").startswith("--set seed=3: unknown key seed")


def test_a_missing_file_offers_the_nearest() -> None:
    Path("other.yaml").write_text("")
    Path("quickstart.yaml").write_text("")
    with pytest.raises(InputError) as caught:
        load_sweep(Path("quikstart.yaml"))
    assert str(caught.value) == ("quikstart.yaml: no such sweep file; did you mean quickstart.yaml?")


def test_a_missing_file_in_a_missing_folder_offers_the_shipped_sweeps() -> None:
    Path("sweeps").mkdir()
    Path("sweeps/quickstart.yaml").write_text("")
    with pytest.raises(InputError) as caught:
        load_sweep(Path("sweep/quickstart.yaml"))
    assert str(caught.value) == (
        "sweep/quickstart.yaml: no such sweep file; did you mean sweeps/quickstart.yaml?"
    )


def test_a_folder_is_no_sweep_file(tmp_path: Path) -> None:
    for hint in ("", f"; did you mean {tmp_path / 'sweep.yaml'}?"):
        with pytest.raises(InputError) as caught:
            load_sweep(tmp_path)
        assert str(caught.value) == f"{tmp_path}: is a folder, not a sweep file{hint}"
        (tmp_path / "sweep.yaml").touch()


def test_a_file_that_is_not_utf8_is_refused() -> None:
    Path("t.yaml").write_bytes(HEAD.encode("utf-16"))
    with pytest.raises(InputError) as caught:
        load_sweep(Path("t.yaml"))
    assert str(caught.value) == "t.yaml: not a text file in UTF-8"


@pytest.mark.parametrize("change", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_files_from_windows_editors_load_with_right_line_numbers(change: Any) -> None:
    """With a byte-order mark, or with carriage returns."""
    Path("t.yaml").write_bytes(change(TABLE).encode())
    assert load_sweep(Path("t.yaml")) == load(TABLE)
    Path("t.yaml").write_bytes(change(HEAD + "bass: 3\n").encode())
    with pytest.raises(InputError, match="line 3: bass: unknown key; did you mean base"):
        load_sweep(Path("t.yaml"))


def test_a_sweep_of_a_name_and_a_data_set_is_the_papers_method() -> None:
    sweep = load(HEAD)
    assert sweep.base.stages == StagePreset(preset="paper")
    trials = plan(sweep, lambda spec: describe(spec, Path("nowhere"))).trials
    assert [stage.name for stage in trials[0].stages] == ["dual", "fusion", "finetune"]


def test_yaml_that_is_nested_too_deeply_is_refused() -> None:
    assert refusal("x: " + "[" * 2000) == "t.yaml: not valid YAML: nested too deeply"


def test_line_breaks_of_the_input_do_not_reach_the_message() -> None:
    assert "\n" not in refusal(HEAD + 'grid: {"a\\nb": [1]}')
    assert "\n" not in refusal(HEAD + 'base: {stages: [{name: "a\\nb", epochs: 1}]}')
    assert "\n" not in str(InputError("a\nb"))
