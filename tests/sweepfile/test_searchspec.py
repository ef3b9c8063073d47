"""`search:` of a sweep file: what is refused and how, its short forms, its way to YAML and back."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sweep_texts import load

from lightsweep.errors import InputError
from lightsweep.sweepfile.reading import dump_sweep, load_sweep
from lightsweep.sweepfile.search import Axis, Budget, Confirmation, EarlyStopping, Search
from lightsweep.sweepfile.sweep import Sweep

HEAD = "name: t\ndataset: {name: digits}\n"
BARE = HEAD + "search:\n"
TWO = "  space: {model.kernel: [3, 5], model.filters: {low: 2, high: 9}}\n"
GOOD = BARE + "  trials: 9\n" + TWO


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


def test_a_range_of_a_net_that_is_none_is_refused_as_the_net_is() -> None:
    assert refusal(axis("null") + "base: {model: {net: mobilenet}}\n") == (
        "t.yaml, line 7: base.model.net = 'mobilenet': must be a shipped net or FILE.py:function; did you "
        "mean mobilenet-v2?"
    )


def search_of(text: str, *overrides: str) -> Search:
    found = load(text, *overrides).search
    assert found is not None
    return found


def axis(text: str) -> str:
    """Return a sweep file whose line 6 is an axis, model.filters."""
    return BARE + "  trials: 9\n  space:\n    model.filters: " + text + "\n"


def axis_of(text: str) -> Axis:
    return search_of(axis(text)).space["model.filters"]


# what is refused

AXIS = "t.yaml, line 6: search.space.model.filters"
FORMS = "must be a list of choices, or a mapping with choices or with low and high"
PLAIN = "must be numbers, strings, true, false, null, lists or mappings; quote dates"
PAIR = "must be [least, greatest], such as [1, 3]"
WHOLE = "must be at most 2^53; databases store larger integers inexactly"
# an axis -> the message
WRONG_AXES: dict[str, str] = {
    # neither form, or both
    "5": f" = 5: {FORMS}",
    "null": (
        f" = null: {FORMS}; only for a keyword whose range the net's signature gives "
        "(Annotated[int, Range(4, 64)]) may it be left out, and paper-cnn gives none"
    ),
    "dual": f" = 'dual': {FORMS}",
    "[]": " = []: must have at least 1 item",
    "{}": ": needs choices, or low and high",
    "{low: 3}": ": needs choices, or low and high",
    "{high: 3}": ": needs choices, or low and high",
    "{choices: null, log: true}": ": needs choices, or low and high",
    "{choices: 3}": ".choices = 3: must be a valid list",
    "{choices: []}": ".choices = []: must have at least 1 item",
    "{choices: [3], low: 2}": ": has choices, so it takes no low",
    "{choices: [3], high: 2}": ": has choices, so it takes no high",
    "{choices: [3], step: 2}": ": has choices, so it takes no step",
    "{choices: [3], log: true}": ": has choices, so it takes no log",
    "{lwo: 3, high: 4}": ".lwo: unknown key; did you mean low?",
    # choices
    "[3, 5, 3]": " = [3, 5, 3]: a choice is listed twice; drop one",
    "[0.5, 0, 0.0]": " = [0.5, 0, 0.0]: a choice is listed twice; drop one",
    "[{a: 1, b: 2}, {b: 2, a: 1}]": (
        " = [{'a': 1, 'b': 2}, {'b': 2, 'a': 1}]: a choice is listed twice; drop one"
    ),
    "[2020-01-01]": f".0 = datetime.date(2020, 1, 1): {PLAIN}",
    "[3, .inf]": f".1 = inf: {PLAIN}",
    # ranges
    "{low: 9, high: 2}": ": low (9) is above high (2)",
    "{low: 2.5, high: 2}": ": low (2.5) is above high (2)",
    "{low: 0, high: 2, log: true}": ": log needs a low above 0, not 0",
    "{low: -1.5, high: 2, log: true}": ": log needs a low above 0, not -1.5",
    "{low: 1, high: 2, log: true, step: 1}": ": takes log or step, not both",
    "{low: 1, high: 2, log: 1}": ".log = 1: must be a valid boolean",
    "{low: 1, high: 2, step: 0}": ": step must be above 0",
    "{low: 1.0, high: 2, step: -0.5}": ": step must be above 0",
    "{low: 1, high: 2, step: 0.5}": (
        ": between whole bounds step must be whole; write low as 1.0 for others"
    ),
    "{low: true, high: 2}": ".low = true: must be a number",
    "{low: 1, high: false}": ".high = false: must be a number",
    "{low: 1, high: 2, step: true}": ".step = true: must be a number",
    "{low: one, high: 2}": ".low = 'one': must be a number",
    "{low: [1], high: 2}": ".low = [1]: must be a number",
    "{low: 2020-01-01, high: 2}": ".low = datetime.date(2020, 1, 1): must be a number",
    "{low: 1, high: .inf}": ".high = inf: must be finite",
    "{low: -.inf, high: 2}": ".low = -inf: must be finite",
    "{low: .nan, high: 2}": ".low = nan: must be finite",
    "{low: 1, high: '1e999'}": ".high = '1e999': must be finite",
    "{low: 0, high: 9007199254740993}": f".high = 9007199254740993: {WHOLE}",
    "{low: -9007199254740993, high: 0}": f".low = -9007199254740993: {WHOLE}",
    # lengths
    "{low: 1, high: 2, length: 3}": f".length = 3: {PAIR}",
    "{low: 1, high: 2, length: [3]}": f".length = [3]: {PAIR}",
    "{low: 1, high: 2, length: [1, 2, 3]}": f".length = [1, 2, 3]: {PAIR}",
    "{low: 1, high: 2, length: [3, 2]}": ": length [3, 2]: least is above greatest",
    "{low: 1, high: 2, length: [0, 2]}": ".length.0 = 0: must be greater than or equal to 1",
    "{low: 1, high: 2, length: [1, 65]}": ".length.1 = 65: must be less than or equal to 64",
    "{low: 1, high: 2, length: [1.5, 2]}": ".length.0 = 1.5: must be a valid integer",
    "{low: 1, high: 2, length: [true, 2]}": ".length.0 = true: must be a valid integer",
    # conditions
    "{low: 1, high: 2, when: {}}": ".when: must have at least 1 item",
    "{low: 1, high: 2, when: model.kernel}": ".when = 'model.kernel': must be a mapping of keys",
    "{low: 1, high: 2, when: {batch_size: []}}": ".when.batch_size = []: must have at least 1 item",
    "{low: 1, high: 2, when: {batch_size: 2020-01-01}}": (
        f".when.batch_size = datetime.date(2020, 1, 1): {PLAIN}"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG_AXES.items(), ids=WRONG_AXES)
def test_wrong_axes_are_refused_with_place_value_rule_and_remedy(text: str, message: str) -> None:
    assert refusal(axis(text)) == AXIS + message


def spaces(text: str) -> str:
    return BARE + "  trials: 9\n  space:\n" + text


def unbounded(text: str) -> str:
    return BARE + TWO + text


KEYS = "val_accuracy, parameters, macs, weight_bytes, latency_ms"
ACCURACY = "3: search: objectives must have val_accuracy: maximise; without it nothing need be trained"
URL = "must be a PostgreSQL URL, postgresql://user@host:5432/database"
FRESH = "is one of the seeds, which confirm the front and must be new to the search"
DURATION = "needs trials, or a budget of epochs or minutes"
# the file's text -> line and message
WRONG: dict[str, str] = {
    # keys
    BARE + "  {}\n": "3: search.space: this key is missing",
    HEAD + "search: tpe\n": "3: search = 'tpe': must be a mapping of keys",
    GOOD + "  sampelr: tpe\n": "6: search.sampelr: unknown key; did you mean sampler?",
    GOOD + "  sampler: tpee\n": (
        "6: search.sampler = 'tpee': must be one of tpe, nsga2, gp, qmc, random; did you mean tpe?"
    ),
    GOOD + "  repeats: again\n": "6: search.repeats = 'again': must be one of reuse, new-seed",
    # the space
    spaces("    {}\n"): "5: search.space: must have at least 1 item",
    BARE + "  trials: 9\n  space: [model.kernel]\n": (
        "5: search.space = ['model.kernel']: must be a mapping of keys"
    ),
    spaces("    model.kernel: {choices: [3, 5], when: {model.filters: 3}}\n    model.filters: [3]\n"): (
        "3: search: space.model.kernel depends on model.filters, which must come before it"
    ),
    spaces("    model.kernel: {choices: [3, 5], when: {model.kernel: 3}}\n"): (
        "3: search: space.model.kernel depends on model.kernel, which must come before it"
    ),
    spaces("    model.kernel: [3, 5]\n    model.hidden: {low: 2, high: 9, when: {model.kernel: [3, 4]}}\n"): (
        "3: search: space.model.hidden depends on model.kernel = 4, which is not one of 3, 5"
    ),
    spaces("    model.filters: {low: 2, high: 9, length: [1, 3]}\n    model.filters.0: [3]\n"): (
        "3: search: space.model.filters.0 is already part of the list model.filters; drop "
        "one of them"
    ),
    # how long
    unbounded(""): f"3: search: {DURATION}",
    GOOD + "  budget: {epochs: 3}\n": (
        f"3: search: {DURATION}, not both: one of them must be null"
    ),
    GOOD.replace("9\n", "0\n", 1): "4: search.trials = 0: must be greater than or equal to 1",
    GOOD.replace("9\n", "true\n", 1): "4: search.trials = true: must be a valid integer",
    unbounded("  budget: {}\n"): "5: search.budget: needs epochs or minutes",
    unbounded("  budget: {epochs: 3, minutes: 2}\n"): (
        "5: search.budget: needs epochs or minutes, not both"
    ),
    unbounded("  budget: 30\n"): "5: search.budget = 30: must be a mapping of keys",
    unbounded("  budget: {epohcs: 3}\n"): (
        "5: search.budget.epohcs: unknown key; did you mean epochs?"
    ),
    unbounded("  budget: {minutes: 0}\n"): "5: search.budget.minutes = 0: must be greater than 0",
    unbounded("  budget: {minutes: .inf}\n"): (
        "5: search.budget.minutes = inf: must be a finite number"
    ),
    # objectives and limits
    GOOD + "  objectives: {}\n": "6: search.objectives: must have at least 1 item",
    GOOD + "  objectives: {parameters: minimise}\n": ACCURACY,
    GOOD + "  objectives: {val_accuracy: minimise}\n": ACCURACY,
    GOOD + "  objectives: {val_accuracy: maximize}\n": (
        "6: search.objectives.val_accuracy = 'maximize': must be one of minimise, maximise; did "
        "you mean maximise?"
    ),
    GOOD + "  objectives: {test_accuracy: maximise}\n": (
        f"6: search.objectives.test_accuracy = 'maximise': must be one of {KEYS}; did you mean "
        "val_accuracy?"
    ),
    GOOD + "  limits: {params: 97}\n": (
        f"6: search.limits.params = 97: must be one of {KEYS}; did you mean parameters?"
    ),
    GOOD + "  limits: {val_accuracy: 1}\n": (
        "3: search: limits.val_accuracy = 1: must be a fraction below 1"
    ),
    GOOD + "  limits: {val_accuracy: 97}\n": (
        "3: search: limits.val_accuracy = 97: must be a fraction below 1"
    ),
    GOOD + "  limits: {parameters: 0}\n": "6: search.limits.parameters = 0: must be greater than 0",
    GOOD + "  limits: {parameters: true}\n": (
        "6: search.limits.parameters = true: must be a valid number"
    ),
    GOOD + "  limits: 20000\n": "6: search.limits = 20000: must be a mapping of keys",
    # where to start
    GOOD + "  start_from: {}\n": "6: search.start_from: must be a valid list",
    GOOD + "  start_from: [3]\n": "6: search.start_from.0 = 3: must be a mapping of keys",
    GOOD + "  start_from: [{model.kernle: 3}]\n": (
        "3: search: start_from.0: model.kernle is not a key of the space; did you mean model.kernel?"
    ),
    GOOD + "  start_from: [{}, {batch_size: 3}]\n": (
        "3: search: start_from.1: batch_size is not a key of the space; there are model.filters, "
        "model.kernel"
    ),
    GOOD + "  start_from: [{model.kernel: .nan}]\n": (
        f"6: search.start_from.0.model.kernel = nan: {PLAIN}"
    ),
    # the database
    GOOD + "  storage: sqlite:///a.db\n": f"6: search.storage = 'sqlite:///a.db': {URL}",
    GOOD + "  storage: postgresql://me@host/\n": (
        f"6: search.storage = 'postgresql://me@host/': {URL}"
    ),
    GOOD + "  storage: POSTGRESQL://me@host/x\n": (
        f"6: search.storage = 'POSTGRESQL://me@host/x': {URL}"
    ),
    GOOD + "  storage: postgresql:/x\n": f"6: search.storage = 'postgresql:/x': {URL}",
    GOOD + "  storage: postgresql://me@host:port/x\n": (
        f"6: search.storage = 'postgresql://me@host:port/x': {URL}"
    ),
    GOOD + "  storage: 'postgresql://[::1/x'\n": (
        f"6: search.storage = 'postgresql://[::1/x': {URL}"
    ),
    GOOD + "  storage: 3\n": "6: search.storage = 3: must be a valid string",
    # early stopping and confirmation
    GOOD + "  early_stopping: true\n": "6: search.early_stopping = true: must be a mapping of keys",
    GOOD + "  early_stopping: {fisrt: 3}\n": (
        "6: search.early_stopping.fisrt: unknown key; did you mean first?"
    ),
    GOOD + "  early_stopping: {first: 0}\n": (
        "6: search.early_stopping.first = 0: must be greater than or equal to 1"
    ),
    GOOD + "  early_stopping: {factor: 1}\n": (
        "6: search.early_stopping.factor = 1: must be greater than or equal to 1.1"
    ),
    GOOD + "  early_stopping: {compare: ranks}\n": (
        "6: search.early_stopping.compare = 'ranks': must be one of rank, accuracy; did you mean "
        "rank?"
    ),
    GOOD + "  early_stopping: {tell: part}\n": (
        "6: search.early_stopping.tell = 'part': must be one of infeasible, failed, partial; did "
        "you mean partial?"
    ),
    GOOD + "  confirmation: {margin: 1}\n": "6: search.confirmation.margin = 1: must be less than 1",
    GOOD + "  confirmation: {at_most: 0}\n": (
        "6: search.confirmation.at_most = 0: must be greater than or equal to 1"
    ),
    # with the rest of the file
    GOOD + "folds: 3\n": (
        "1: the file: a search trains on one split; folds are for a grid or an ablation"
    ),
    GOOD + "  seed: 2\n": f"1: the file: search.seed = 2: {FRESH}",
    GOOD + "seeds: [1000, 3]\n": f"1: the file: search.seed = 1000: {FRESH}",
    GOOD + "  seed: -1\n": "6: search.seed = -1: must be greater than or equal to 0",
    GOOD + "  seed: true\n": "6: search.seed = true: must be a valid integer",
    GOOD + "grid: {batch_size: [3]}\n": (
        "1: the file: a sweep has at most one of grid, ablation and search, not grid and search"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=WRONG.values())
def test_wrong_searches_are_refused_with_place_value_rule_and_remedy(text: str, message: str) -> None:
    assert refusal(text) == f"t.yaml, line {message}"


SECRET = [
    "postgresql://me:hunter2@host/x",
    "postgresql://me:hunter2@host",
    "postgresql://:hunter2@/x",
    "postgresql://me:hun/ter2@host:5432/x",
    "postgresql://me:hunter2@[::1/x",
    "mysql://me:hunter2@host/x",
    "postgresql://me@host/x?sslmode=require&password=hunter2",
]


@pytest.mark.parametrize("url", SECRET)
def test_a_password_is_refused_and_not_shown(url: str) -> None:
    """As a text and where a text is out of place."""
    for value in (f"'{url}'", f"['{url}']", f"{{url: '{url}'}}"):
        assert refusal(GOOD + f"  storage: {value}\n") == (
            "t.yaml, line 3: search: storage has a password, and reports show this file; put it into "
            "~/.pgpass or $PGPASSWORD"
        )


URLS = [
    "postgresql://me@host:5432/x",
    "postgresql+psycopg://host/x",
    "postgresql:///x",
    "postgresql://me@[::1]:5432/x?sslmode=require",
]


@pytest.mark.parametrize("url", URLS)
def test_postgresql_urls_are_taken(url: str) -> None:
    assert search_of(GOOD + f"  storage: '{url}'\n").storage == url


# what is taken


def test_defaults() -> None:
    found = search_of(GOOD)
    assert found.objectives == {"val_accuracy": "maximise", "parameters": "minimise"}
    assert (found.limits, found.sampler, found.seed, found.repeats) == ({}, "tpe", 1000, "reuse")
    assert (found.start_from, found.early_stopping, found.storage) == ([], None, None)
    assert found.confirmation == Confirmation(margin=0.002, at_most=16)
    assert search_of(GOOD + "  early_stopping: {}\n").early_stopping == EarlyStopping(
        first=2, factor=3, compare="rank", tell="infeasible"
    )


def test_short_forms_are_the_long_ones() -> None:
    """A list for an axis, and a value in a condition for the list of it."""
    assert axis_of("[3, 5]") == axis_of("{choices: [3, 5]}")
    assert axis_of("{low: 2, high: 4, when: {batch_size: 8}}") == axis_of(
        "{low: 2, high: 4, when: {batch_size: [8]}}"
    )
    assert axis_of("{low: 2, high: 4, when: {model.hidden: null}}").when == {"model.hidden": [None]}


@pytest.mark.parametrize(
    ("text", "low", "is_whole"),
    [
        ("{low: 1e-3, high: 1}", 0.001, False),
        ("{low: '1e-3', high: 1}", 0.001, False),
        ("{low: .5, high: 1}", 0.5, False),
        ("{low: 1, high: 9}", 1, True),
        ("{low: 1, high: 1}", 1, True),
        ("{low: -2, high: 9, step: 3}", -2, True),
        ("{low: 1.0, high: 9}", 1.0, False),
        ("{low: 1, high: 9.5}", 1, False),
        ("{low: 1.0, high: 2, step: 0.5}", 1.0, False),
    ],
)
def test_bounds_are_numbers_in_all_spellings_and_whole_if_both_are(
    text: str, low: float, is_whole: bool
) -> None:
    found = axis_of(text)
    assert (found.low, type(found.low), found.is_whole) == (low, type(low), is_whole)


def test_choices_that_are_alike_but_not_one_stand_beside_each_other() -> None:
    choices = axis_of("[true, 1, '1', null, 'null', [1], '[1]', [], {}]").choices
    assert choices == [True, 1, "1", None, "null", [1], "[1]", [], {}]
    assert choices[0] is True


def test_a_condition_may_be_on_what_is_a_number_or_kept_from_base() -> None:
    """A range may have any value, base's too where another condition does not hold; 0 is 0.0."""
    when = "{model.kernel: 3, model.inputs: dual, model.dropout: 0}"
    assert search_of(
        spaces(
            "    model.dropout: [0.0, 1.0e-1]\n"
            "    model.kernel: {low: 2, high: 5}\n"
            "    model.inputs: {choices: [single], when: {model.kernel: 5}}\n"
            f"    model.hidden: {{low: 2, high: 9, when: {when}}}\n"
        )
    )


def test_set_reaches_a_search() -> None:
    assert search_of(GOOD, "search.trials=50").trials == 50
    timed = unbounded("  budget: {epochs: 5}\n")
    assert search_of(timed, "search.budget={minutes: 5}").budget == Budget(minutes=5)
    assert search_of(GOOD, "search.space={batch_size: [8]}").space == {"batch_size": Axis(choices=[8])}
    assert refusal(GOOD, "search.trails=3") == (
        "--set search.trails=3: unknown key trails in search; did you mean trials?"
    )
    assert load(GOOD, "search=null").search is None


# to YAML and back, and the schema

SCHEMA = Draft202012Validator(Sweep.model_json_schema())
TREES: list[dict[str, Any]] = [
    {"space": {"model.kernel": [3, 5]}, "trials": 3},
    {"space": {"model.kernel": {"choices": [3, 5], "when": {"model.inputs": "dual"}}}, "trials": 3},
    {"space": {"model.kernel": {"choices": [3], "when": {"model.hidden": [None, 8]}}}, "trials": 3},
    {
        "space": {
            "model.filters": {"low": 2, "high": 24, "log": True, "length": [1, 3]},
            "stages": [[{"name": "a", "epochs": 1}], "paper"],
            "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
        },
        "objectives": {"val_accuracy": "maximise", "macs": "minimise", "latency_ms": "minimise"},
        "limits": {"parameters": 20000, "val_accuracy": 0.97},
        "budget": {"minutes": 1.5},
        "start_from": [{}, {"model.filters": [3, 4]}],
        "early_stopping": {"first": 1, "factor": 2.5, "compare": "accuracy", "tell": "partial"},
        "confirmation": None,
        "storage": "postgresql://me@host/x",
    },
]


def tree(search: Any) -> dict[str, Any]:
    return {"name": "t", "dataset": {"name": "digits"}, "search": search}


def problems(content: Any) -> list[str]:
    return [error.message for error in SCHEMA.iter_errors(content)]


@pytest.mark.parametrize("search", TREES, ids=lambda search: str(search["space"])[:60])
def test_the_schema_accepts_and_a_dump_gives_back_what_the_spec_accepts(search: dict[str, Any]) -> None:
    sweep = Sweep.model_validate(tree(search))
    assert problems(tree(search)) == []
    assert problems(sweep.model_dump(mode="json")) == []
    assert load(dump_sweep(sweep)) == sweep


SMALL = {"model.kernel": [3]}
WRONG_TREES = [
    {"space": {}, "trials": 3},
    {"space": {"model.kernel": []}, "trials": 3},
    {"space": {"model.kernel": 3}, "trials": 3},
    {"space": {"model.kernel": {"lwo": 3}}, "trials": 3},
    {"space": {"model.kernel": {"low": [3]}}, "trials": 3},
    {"space": {"model.kernel": {"choices": [3], "when": {}}}, "trials": 3},
    {"space": {"model.kernel": {"low": 1, "high": 2, "length": [1, 2, 3]}}, "trials": 3},
    {"space": SMALL, "trials": 0},
    {"space": SMALL, "trials": 3, "objectives": {"val_acc": "maximise"}},
    {"space": SMALL, "trials": 3, "limits": {"parameters": "many"}},
    {"space": SMALL, "trials": 3, "sampler": "tpee"},
    {"space": SMALL, "trials": 3, "early_stopping": {"first": 0}},
]


@pytest.mark.parametrize("wrong", WRONG_TREES, ids=str)
def test_the_schema_refuses_what_the_spec_refuses(wrong: dict[str, Any]) -> None:
    assert problems(tree(wrong))
    with pytest.raises(ValueError, match="validation error"):
        Sweep.model_validate(tree(wrong))


NUMBERS = st.integers(-1000, 1000) | st.floats(-1e6, 1e6)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text("ab.:-", min_size=1), SCALARS)
POSITIVE = st.integers(1, 10**6) | st.floats(1e-9, 1e9)
COSTS = st.sampled_from(["parameters", "macs", "weight_bytes", "latency_ms"])


def is_new(value: Any) -> str:
    """Return what tells choices apart, more coarsely than the spec does."""
    return str(float(value)) if isinstance(value, int | float) else repr(value)


@st.composite
def axes(draw: st.DrawFn) -> dict[str, Any]:
    """Axes as a file may have them, conditions on what is not in the space included."""
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        found["choices"] = draw(st.lists(VALUES, min_size=1, max_size=4, unique_by=is_new))
    else:
        kind = draw(st.sampled_from(["log", "step", "plain"]))
        bounds = st.tuples(POSITIVE, POSITIVE) if kind == "log" else st.tuples(NUMBERS, NUMBERS)
        found["low"], found["high"] = sorted(draw(bounds))
        found["log"] = kind == "log"
        found["step"] = draw(st.integers(1, 9)) if kind == "step" else None
    if draw(st.booleans()):
        found["length"] = sorted(draw(st.tuples(st.integers(1, 5), st.integers(1, 5))))
    if draw(st.booleans()):
        allowed = SCALARS | st.lists(VALUES, min_size=1, max_size=2)
        found["when"] = draw(
            st.dictionaries(st.sampled_from(["batch_size", "model.inputs"]), allowed, min_size=1)
        )
    return found


@st.composite
def searches(draw: st.DrawFn) -> dict[str, Any]:
    keys = st.text("abc.é :-", min_size=1, max_size=6)
    space = draw(st.dictionaries(keys, axes(), min_size=1, max_size=3))
    is_counted = draw(st.booleans())
    budgets = st.builds(Budget, epochs=st.integers(1, 9)) | st.builds(Budget, minutes=POSITIVE)
    return {
        "space": space,
        "objectives": {
            **draw(st.dictionaries(COSTS, st.sampled_from(["minimise", "maximise"]))),
            "val_accuracy": "maximise",
        },
        "limits": draw(st.dictionaries(COSTS, POSITIVE)),
        "sampler": draw(st.sampled_from(["tpe", "nsga2", "gp", "qmc", "random"])),
        "seed": draw(st.integers(3, 2**31 - 1)),
        "trials": draw(st.integers(1, 10**6)) if is_counted else None,
        "budget": None if is_counted else draw(budgets),
        "start_from": draw(st.lists(st.dictionaries(st.sampled_from(list(space)), VALUES), max_size=2)),
        "early_stopping": draw(
            st.none() | st.builds(EarlyStopping, first=st.integers(1, 99), factor=st.floats(1.1, 100))
        ),
        "confirmation": draw(st.none() | st.builds(Confirmation, at_most=st.integers(1, 99))),
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("written") / "sweep.yaml"


@given(content=searches())
@settings(max_examples=40)
def test_a_dumped_search_is_loaded_as_equal(written: Path, content: dict[str, Any]) -> None:
    """Order included: axes come after those that they depend on, objectives are columns."""
    sweep = Sweep.model_validate(tree(content))
    assert problems(sweep.model_dump(mode="json")) == []
    written.write_text(dump_sweep(sweep), encoding="utf-8")
    loaded = load_sweep(written)
    assert loaded == sweep
    assert loaded.search is not None
    assert sweep.search is not None
    assert list(loaded.search.space) == list(content["space"])
    assert list(loaded.search.objectives) == list(content["objectives"])
    for key, one in sweep.search.space.items():
        assert loaded.search.space[key].is_whole == one.is_whole
