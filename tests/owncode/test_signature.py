"""Signatures are read from source without running it: kinds, defaults, ranges, and what fits them."""

from typing import Any

import pytest

from lightsweep.errors import InputError
from lightsweep.owncode.ranges import Range
from lightsweep.owncode.signature import KeywordError, read_signature

TEXT = """
raise SystemExit("this must never run")

def build(shape, classes, *, width: int = 4, rate: "float" = 0.5, deep: bool = False, name: str = "a",
          sizes: tuple[int, ...] = (1, 2), kind: Literal["a", "b"] = "a", maybe: int | None = None,
          near: Annotated[int, Range(4, 64, log=True)] = 8, pair: tuple[float, float] = (0, 1), free=3,
          odd: Some.Type = FACTOR, needed: list[str]):
    pass

class Net:
    def __init__(self, shape, classes, *, width: int = 4): pass

class Empty: pass
"""


def keyword(name: str) -> Any:
    return read_signature(TEXT, "build", "net.py").keywords[name]


def test_a_signature_is_read() -> None:
    found = read_signature(TEXT, "build", "net.py")
    assert found.positional == ("shape", "classes")
    assert found.line == 4
    defaults = {name: each.default for name, each in found.keywords.items() if each.has_plain_default}
    assert defaults == {
        "width": 4, "rate": 0.5, "deep": False, "name": "a", "sizes": [1, 2], "kind": "a", "maybe": None,
        "near": 8, "pair": [0, 1], "free": 3,
    }  # fmt: skip
    assert [name for name, each in found.keywords.items() if each.is_required] == ["needed"]
    assert keyword("near").range == Range(4, 64, log=True)
    kinds = {name: each.kind for name, each in found.keywords.items() if each.kind}
    assert kinds == {"width": "int", "near": "int", "sizes": "ints", "pair": "floats"}


def test_a_class_is_called_as_its_constructor_is() -> None:
    assert read_signature(TEXT, "Net", "net.py").positional == ("shape", "classes")
    assert list(read_signature(TEXT, "Net", "net.py").keywords) == ["width"]
    assert read_signature(TEXT, "Empty", "net.py").keywords == {}


FITS = [
    ("width", 3, 3), ("rate", 1, 1.0), ("deep", True, True), ("sizes", [3, 4, 5], [3, 4, 5]),
    ("kind", "b", "b"), ("maybe", None, None), ("maybe", 7, 7), ("near", 64, 64),
    ("pair", [1, 2], [1.0, 2.0]),
    ("free", "x", "x"), ("odd", [1], [1]), ("needed", ["a"], ["a"]),
]  # fmt: skip
FITS_NOT = [
    ("width", 3.5, "integer"), ("width", True, "integer"), ("width", "3", "integer"),
    ("rate", "x", "number"), ("deep", 1, "boolean"), ("name", 3, "string"),
    ("sizes", [1, "x"], "integer"),
    ("kind", "c", "'a' or 'b'"), ("near", 3, "from 4 to 64"), ("near", 65, "from 4 to 64"),
    ("pair", [1], "required"), ("maybe", "x", "integer"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "expected"), FITS)
def test_values_that_fit_become_plain_data(name: str, value: Any, expected: Any) -> None:
    found = keyword(name).check(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("name", "value", "rule"), FITS_NOT)
def test_values_that_do_not_fit_are_refused_with_the_rule(name: str, value: Any, rule: str) -> None:
    with pytest.raises(KeywordError, match=rule):
        keyword(name).check(value)


def test_the_element_that_does_not_fit_is_named() -> None:
    with pytest.raises(KeywordError) as caught:
        keyword("sizes").check([1, 2, "x"])
    assert caught.value.index == 2


def test_a_range_that_is_none_is_refused_with_file_and_line() -> None:
    text = "def f(a, *,\n      x: Annotated[int, Range(5, 4)] = 4): pass\n"
    with pytest.raises(InputError, match=r"net.py, line 2: x: .*needs low ≤ high"):
        read_signature(text, "f", "net.py")


def test_schemas_say_the_range() -> None:
    assert keyword("near").json_schema() == {"type": "integer", "minimum": 4, "maximum": 64, "default": 8}
